"""The search of `needles` for what only mode `he` keeps from the server: keys, sums, and the model of every round."""

from __future__ import annotations

import base64

import numpy as np
from blind_truth import HeldTruth
from needles import needles_of, texts, windows
from numpy.typing import NDArray
from recorded_job import RecordedJob

from hansa.clients.blind import check_label
from hansa.contract.messages import Order
from hansa.contract.segments import CHECK_WORDS, HE_PRIME, UPDATE, divisor, update_bound
from hansa.secagg.check_words import _CheckKeys
from hansa.secagg.ciphertexts import _lengthened
from hansa.secagg.fixed_point import Grid
from hansa.secagg.group_key import _STATE_SEAL_DOMAIN, _STATE_TAG_DOMAIN
from hansa.secagg.key_setup import JobKeys

# Each coefficient of a key has 7 bytes as it travels and 8 as SEAL has it.
_PACKED, _APART = 4 * 7, 12 * 7


def blind_needles(job: RecordedJob, orders: list[Order]) -> dict[str, bytes]:
    """Everything that members keep from the server for good, as bytes, by a name.

    Parameters
    ----------
    orders : of the train attempts, whose check words have keys
    """
    made = needles_of(job, set()) | model_needles(job.truth.held) | sum_needles(job)
    for number, keys in enumerate(job.truth.held.keys, start=1):
        made |= key_needles(f"keys {number}", keys)
        for order in orders:
            made |= _check_keys(job, order, keys)
    for number, drawn in enumerate(job.truth.held.drawn):
        made |= texts(f"draw {number}", drawn)
    return made


def key_needles(what: str, keys: JobKeys) -> dict[str, bytes]:
    """Both keys of a job, and what comes from the group key once for all."""
    key = np.frombuffer(keys.envelope.key, np.uint8)
    made = texts(f"{what}: group key", keys.group.secret)
    made[f"{what}: tag of states"] = keys.group._derive(_STATE_TAG_DOMAIN)
    made[f"{what}: seal of states"] = keys.group._derive(_STATE_SEAL_DOMAIN)
    for start in range(0, key.size - _PACKED, key.size // 8 // _APART * _APART):
        part = key[start : start + _PACKED].tobytes()
        made[f"{what}: envelope's key from byte {start}"] = part
        made[f"{what}: envelope's key from byte {start} in hex"] = part.hex().encode()
        for offset in range(3):
            encoded = base64.b64encode(part[offset : offset + 24])
            made[f"{what}: envelope's key from byte {start + offset} in base64"] = encoded
    made |= windows(f"{what}: envelope's key as SEAL has it", _lengthened(key))
    return made


def model_needles(held: HeldTruth) -> dict[str, bytes]:
    """Weights, moments and mean of every state."""
    made = {}
    for number, state in enumerate(held.states):
        for name, array in state.arrays().items():
            if array.size > 1:
                made |= _telling(windows(f"{name} of state {number}, round {state.round}", array))
                narrow = array.astype(np.float32)
                made |= _telling(windows(f"{name} of state {number}, round {state.round} as f32", narrow))
    return made


def sum_needles(job: RecordedJob) -> dict[str, bytes]:
    """Sums of updates over each active set, as every number that a server of mode `masked` would have."""
    made: dict[str, bytes] = {}
    charter, plan = job.federation.charter, job.plan
    for attempt in job.attempts:
        active = attempt.active or ()
        if attempt.kind != "train" or not active:
            continue
        total = job.truth.total(attempt.attempt, active, UPDATE)
        grid = Grid(update_bound(charter, plan), len(attempt.cohort), modulus=HE_PRIME, within=HE_PRIME)
        words = (total % HE_PRIME).astype(np.uint32)
        real = grid.decode(words)
        forms: dict[str, NDArray[np.generic]] = {
            "modulo p": words,
            "signed": total.astype(np.int32),
            "wide": total,
            "wide modulo p": total % HE_PRIME,
            "real": real,
            "mean": real / divisor(charter, plan, active),
        }
        for form, array in forms.items():
            made |= windows(f"sum of attempt {attempt.attempt}, {form}", array)
    return made


def _check_keys(job: RecordedJob, order: Order, keys: JobKeys) -> dict[str, bytes]:
    made = {}
    for number in range(CHECK_WORDS):
        for member in (None, *job.federation.records):
            stream = _CheckKeys(keys.group, order.attempt, number, member)
            what = f"check word {number} of {member or 'all'} in attempt {order.attempt}"
            made[what] = stream.key(check_label(order), HE_PRIME, "main")
    return made


def _telling(found: dict[str, bytes]) -> dict[str, bytes]:
    """Without what stands everywhere: zeros."""
    return {name: it for name, it in found.items() if any(it)}
