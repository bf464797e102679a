"""A search with the truth in hand: does anything that only members may know stand in a transcript?

Only this search is told what honest members computed and made. It knows how such values look as bytes:
raw, in hex, in base64, as the digits of a Python integer, as integers of the grid and as real numbers.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from evidence import Evidence
from numpy.typing import NDArray
from recorded import Transcript
from recorded_job import RecordedJob

from hansa.contract.messages import Order
from hansa.contract.segments import HE_PRIME, UPDATE, update_bound
from hansa.secagg.active_set import open_circles
from hansa.secagg.fixed_point import MODULUS, Grid
from hansa.secagg.masks import MaskSecret, pair_secret, self_secret
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import PrekeySecrets

# What stands here of a needle is looked at in three steps, two bytes each, before the rest.
_STEPS = (0, 2, 4)
_CHUNK = 2**23
_WINDOW = 4
# Numbers of CPython hold 30 bits in each four bytes.
_DIGIT_BITS = 30


def search(transcript: Transcript, needles: Mapping[str, bytes]) -> dict[str, set[str]]:
    """Which needles stand in the recorded bytes, each with the places."""
    found: dict[str, set[str]] = {}
    sieve = _Sieve(needles)
    for place, content in transcript.everything():
        for name in sieve.names_in(content):
            found.setdefault(name, set()).add(place)
    return found


class _Sieve:
    """Finds many byte strings at once, at any offset."""

    def __init__(self, needles: Mapping[str, bytes]) -> None:
        assert min(map(len, needles.values())) >= 2 * len(_STEPS)
        self._by_prefix: dict[bytes, list[str]] = {}
        self._needles = needles
        self._tables = np.zeros((len(_STEPS), 2**16), bool)
        for name, needle in needles.items():
            self._by_prefix.setdefault(needle[: 2 * len(_STEPS)], []).append(name)
            for row, step in enumerate(_STEPS):
                self._tables[row, int.from_bytes(needle[step : step + 2], "little")] = True

    def names_in(self, content: bytes) -> Iterator[str]:
        """Needles in these bytes, some perhaps several times."""
        for start in range(0, len(content), _CHUNK):
            # Whole pairs beyond the chunk's end, for needles that stand across it.
            part = np.frombuffer(content, np.uint8)[start : start + _CHUNK + 2 * len(_STEPS)]
            for offset in (0, 1):
                pairs = part[offset : offset + (len(part) - offset) // 2 * 2].view("<u2")
                hits = np.flatnonzero(self._tables[0][pairs[: len(pairs) - len(_STEPS) + 1]])
                for row in range(1, len(_STEPS)):
                    hits = hits[self._tables[row][pairs[hits + row]]]
                for hit in hits.tolist():
                    at = start + offset + 2 * hit
                    for name in self._by_prefix.get(content[at : at + 2 * len(_STEPS)], ()):
                        if content.startswith(self._needles[name], at):
                            yield name


def needles_of(job: RecordedJob, colluders: Collection[str]) -> dict[str, bytes]:
    """Everything that honest members keep from the server for good, as bytes, by a name."""
    made: dict[str, bytes] = {}
    honest = [name for name in job.federation.records if name not in colluders]
    for name in honest:
        made |= texts(f"sealing key of {name}", job.federation.sealing_keys[name].private_bytes_raw())
        identity = job.federation.identities[name]._private.private_bytes_raw()
        made |= texts(f"identity key of {name}", identity)
    made |= plain_needles(job, honest)
    made |= _kept_secrets(job, honest)
    return made


def plain_needles(job: RecordedJob, honest: Collection[str]) -> dict[str, bytes]:
    """Plain updates: windows of the grid's integers, of what these decode to, and of the update itself."""
    made: dict[str, bytes] = {}
    bound = update_bound(job.federation.charter, job.plan)
    for (name, attempt), segments in job.truth.plain.items():
        if name in honest and UPDATE in segments:
            made |= windows(f"update of {name} in attempt {attempt}", segments[UPDATE])
            # The grid's scale hangs on the number of members that are summed.
            for summands in range(1, len(job.federation.records) + 1):
                grid = Grid(bound, summands, modulus=job.truth.modulus(UPDATE), within=HE_PRIME)
                real = grid.decode(segments[UPDATE])
                made |= windows(f"update of {name} in attempt {attempt} over {summands}", real)
    for number, (name, real) in enumerate(job.truth.real):
        if name in honest:
            made |= windows(f"real update {number} of {name}", real)
    return made


def _kept_secrets(job: RecordedJob, honest: Sequence[str]) -> dict[str, bytes]:
    """One-time secrets that no attempt opens, and the mask keys that come from them."""
    charter, names, made = job.federation.charter, list(job.federation.records), dict[str, bytes]()
    own = {it.prekey.id: it for it in job.truth.prekeys if names[it.prekey.maker] in honest}
    uploads = Evidence(Parties.of(charter, job.federation.hash), job.transcript).uploads
    given: set[tuple[bytes, str]] = set()
    for attempt in job.attempts:
        upload = next(it for it in uploads if it.order.attempt == attempt.attempt)
        active = attempt.active or ()
        used = {name: own[upload.prekeys[name].id] for name in attempt.cohort if name in honest}
        for circle in open_circles(upload.order, active, charter):
            for name in set(circle) & set(used):
                given.add((used[name].prekey.id, "seed" if name in active else "key"))
        for name, secrets in used.items():
            if (secrets.prekey.id, "seed") not in given:
                made |= _mask_keys(f"self mask of {name}", self_secret(secrets.seed, secrets.prekey))
        for circle in upload.order.circles:
            mine = {name: used[name] for name in circle if name in used}
            made |= _pair_keys(upload.order, circle, mine, given, names)
    for secrets in own.values():
        made |= _one_time(names[secrets.prekey.maker], secrets, given)
    return made


def _pair_keys(
    order: Order,
    circle: Sequence[str],
    used: Mapping[str, PrekeySecrets],
    given: Collection[tuple[bytes, str]],
    names: Sequence[str],
) -> dict[str, bytes]:
    """Keys of pairs of which neither member's one-time key was opened."""
    made = {}
    for low, high in combinations(used, 2):
        mine, peer = used[low], used[high].prekey
        if {(mine.prekey.id, "key"), (peer.id, "key")} & set(given):
            continue
        what = f"pair {low} {high} in attempt {order.attempt}"
        secret = pair_secret(
            mine.private, mine.prekey, peer, job=order.job, attempt=order.attempt, circle=circle, names=names
        )
        made[f"{what}: shared"] = mine.private.exchange(X25519PublicKey.from_public_bytes(peer.public))
        made[f"{what}: key"] = secret.secret
        made |= _mask_keys(what, secret)
    return made


def _one_time(name: str, secrets: PrekeySecrets, given: Collection[tuple[bytes, str]]) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    for kind, raw in (("key", secrets.private.private_bytes_raw()), ("seed", secrets.seed)):
        if (secrets.prekey.id, kind) not in given:
            what = f"{kind} {secrets.prekey.number} of {name}"
            made |= texts(what, raw)
            made[f"{what} as a number"] = _digits(int.from_bytes(raw, "little"))
    return made


def _mask_keys(what: str, secret: MaskSecret) -> dict[str, bytes]:
    made = {f"{what}: {name}": secret.key(name, MODULUS, "main") for name in (UPDATE, "evaluation")}
    # In mode `he` updates are summed modulo p.
    made |= {f"{what}: {it} modulo p": secret.key(UPDATE, HE_PRIME, it) for it in ("main", "refill")}
    return made


def texts(what: str, raw: bytes) -> dict[str, bytes]:
    """A secret as it may be written."""
    return {
        f"{what} raw": raw,
        f"{what} in hex": raw.hex().encode(),
        f"{what} in base64": base64.b64encode(raw).rstrip(b"="),
    }


def _digits(number: int) -> bytes:
    """A Python integer as it lies in memory, without its last digits: they may be shared with others."""
    digits = [number >> shift & (2**_DIGIT_BITS - 1) for shift in range(0, 240, _DIGIT_BITS)]
    return np.array(digits, "<u4").tobytes()


def windows(what: str, vector: NDArray[Any]) -> dict[str, bytes]:
    """A few neighbouring coordinates from beginning, middle and end of a vector."""
    starts = np.linspace(0, vector.size - _WINDOW, 5).astype(int)
    return {f"{what} from {it}": vector[it : it + _WINDOW].tobytes() for it in starts.tolist()}
