"""A member's side of secure aggregation: its prekeys, and one attempt as a state machine (PROTOCOL sections 3 and 4).

An honest agent gives at most one share of any prekey, ever. Everything that this rests on lives in
memory and begins anew with the process: an agent that was restarted, or came back from a backup,
knows no prekey of its own and takes of its peers only those that were made after its start.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from hansa.contract.errors import RefusalError
from hansa.contract.keys import Signer, to_text
from hansa.contract.messages import Order, Receipt, Witness, witness_statement
from hansa.secagg.active_set import (
    check_active_set,
    check_circles,
    check_dropped,
    check_receipts,
    check_signatures,
    open_circles,
)
from hansa.secagg.fixed_point import MODULUS
from hansa.secagg.masks import MaskSecret, add_masks, pair_secret, pair_sign, self_secret
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import (
    BadParcel,
    HeldShares,
    Prekey,
    PrekeySecrets,
    check_prekey,
    make_prekey,
    open_parcel,
)
from hansa.secagg.shamir import Randomness

# Unused prekeys that a member remembers; of what was never used the oldest go first.
KEPT_PREKEYS = 64
# Numbers of used prekeys that are remembered of each peer; below the older ones everything counts as used.
KEPT_NUMBERS = 4096
NONCE_BYTES = 16

State = Literal["accepted", "uploaded", "bound", "given"]


class PrekeyRing:
    """A member's own prekeys since its start, and which ones of its peers it may still use.

    Parameters
    ----------
    first : number of its first prekey: above every one that it made before this start
    """

    def __init__(
        self,
        parties: Parties,
        me: str,
        *,
        signer: Signer,
        sealing_key: X25519PrivateKey,
        randomness: Randomness,
        first: int,
    ) -> None:
        self.start = randomness(NONCE_BYTES).hex()
        self._parties = parties
        self._me = parties.index(me)
        self._signer = signer
        self._sealing_key = sealing_key
        self._randomness = randomness
        self._next = first
        self._own: dict[int, PrekeySecrets] = {}
        # From which number on each peer's prekeys are valid here; nothing is known of a peer that is missing.
        self._floors: dict[str, int] = {}
        self._used: dict[str, set[int]] = {name: set() for name in parties.names}
        # The start of each peer that was signed last, and what was said of it.
        self._signed: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()

    @property
    def accepts(self) -> dict[str, int]:
        """From which number on this member takes each peer's prekeys."""
        with self._lock:
            return dict(self._floors)

    @property
    def witnessed(self) -> bool:
        """Whether so many others have signed this start that attempts may be taken part in."""
        return len(self._floors) >= self._parties.charter.witnesses_needed

    def make(self, count: int) -> bytes:
        """New prekeys, encoded one behind the other."""
        with self._lock:
            made = []
            for _ in range(count):
                secrets = make_prekey(self._parties, self._me, self._next, self._signer, self._randomness)
                self._own[self._next] = secrets
                self._next += 1
                made.append(secrets.prekey.encoded)
            while len(self._own) > KEPT_PREKEYS:
                del self._own[min(self._own)]
        return b"".join(made)

    def sign_starts(self, starts: Mapping[str, str]) -> tuple[Witness, ...]:
        """This member's word on peers that started: its prekeys from now on are valid for them."""
        me = self._parties.names[self._me]
        witnesses = []
        with self._lock:
            for name, start in starts.items():
                if name not in self._parties.names or name == me:
                    raise RefusalError(
                        "unknown-member", f"'{name}' is not another member of the charter", {"member": name}
                    )
                known, first = self._signed.get(name, ("", 0))
                if known != start:
                    first = self._next
                    self._signed[name] = (start, first)
                witness = Witness(witness=me, member=name, start=start, first=first)
                statement = witness_statement(self._parties.charter_hash.hex(), witness)
                signature = to_text(self._signer.sign(statement))
                witnesses.append(witness.model_copy(update={"signature": signature}))
        return tuple(witnesses)

    def take_witnesses(self, witnesses: Sequence[Witness]) -> None:
        """Peers' words on this member's own start; all are checked before one counts.

        Raises
        ------
        RefusalError : of another start or member (`replayed`), or not signed by the peer it names
        """
        me = self._parties.names[self._me]
        for witness in witnesses:
            if (witness.member, witness.start) != (me, self.start) or witness.witness == me:
                raise RefusalError(
                    "replayed", f"what '{witness.witness}' signed is not on this start of this member"
                )
            statement = witness_statement(self._parties.charter_hash.hex(), witness)
            if not self._parties.signed(witness.witness, witness.signature, statement):
                raise RefusalError(
                    "unknown-member",
                    f"a word on this member's start is not signed by '{witness.witness}'",
                    {"member": witness.witness},
                )
        with self._lock:
            for witness in witnesses:
                known = self._floors.get(witness.witness, 0)
                self._floors[witness.witness] = max(known, witness.first)

    def accept(self, order: Order, prekeys: Sequence[Prekey]) -> MemberAttempt:
        """Take part in an attempt: its prekeys, this member's own among them, are used from here on.

        Parameters
        ----------
        prekeys : one of each member of the cohort, in the cohort's order

        Raises
        ------
        RefusalError : a prekey that is unknown, used, forged or badly made, or a cohort that is split wrongly;
            nothing is used up then
        """
        parties = self._parties
        with self._lock:
            if not self.witnessed:
                raise RefusalError(
                    "prekey-unknown",
                    f"{len(self._floors)} other members have signed this agent's start, "
                    f"{parties.charter.witnesses_needed} must",
                    {"signed": len(self._floors), "needed": parties.charter.witnesses_needed},
                )
            check_circles(order, parties.charter, parties.names[self._me])
            if len(prekeys) != len(order.cohort) or set(order.prekeys) != set(order.cohort):
                raise RefusalError(
                    "prekey-unknown", "the order does not name one prekey of each of its cohort"
                )
            for name, prekey in zip(order.cohort, prekeys, strict=True):
                self._check(name, prekey, order)
            participants = dict(zip(order.cohort, prekeys, strict=True))
            mine = self._own[participants[parties.names[self._me]].number]
            attempt = MemberAttempt.begin(
                parties, parties.names[self._me], order, participants, mine, self._sealing_key
            )
            for name, prekey in participants.items():
                self._use(name, prekey.number)
            del self._own[mine.prekey.number]
        return attempt

    def _check(self, name: str, prekey: Prekey, order: Order) -> None:
        facts: dict[str, str | int] = {"member": name, "number": prekey.number}
        if name not in self._parties.names or self._parties.names[prekey.maker] != name:
            raise RefusalError("unknown-member", f"the order brings no prekey of '{name}'", facts)
        if prekey.number != order.prekeys[name]:
            raise RefusalError("prekey-unknown", f"the order names another prekey of '{name}'", facts)
        if prekey.number in self._used[name]:
            raise RefusalError("prekey-used", f"prekey {prekey.number} of '{name}' was used before", facts)
        if prekey.maker == self._me:
            mine = self._own.get(prekey.number)
            if mine is None or mine.prekey != prekey:
                raise RefusalError(
                    "prekey-unknown", "this agent did not make that prekey since it started", facts
                )
            return
        floor = self._floors.get(name)
        if floor is None or prekey.number < floor:
            raise RefusalError(
                "prekey-unknown",
                f"prekey {prekey.number} of '{name}' may be older than this agent's start",
                facts,
            )
        if not check_prekey(self._parties, prekey):
            raise RefusalError("unknown-member", f"a prekey is not signed by '{name}'", facts)

    def _use(self, name: str, number: int) -> None:
        used = self._used[name]
        used.add(number)
        if len(used) > KEPT_NUMBERS:
            older = sorted(used)[: KEPT_NUMBERS // 2]
            used.difference_update(older)
            if name in self._floors:
                self._floors[name] = max(self._floors[name], older[-1] + 1)


class MemberAttempt:
    """One attempt at a member: accepted, uploaded, bound to an active set, shares given; never back."""

    def __init__(
        self,
        parties: Parties,
        me: str,
        order: Order,
        masks: list[tuple[MaskSecret, int]],
        shares: dict[str, HeldShares],
    ) -> None:
        self.state: State = "accepted"
        self.order = order
        self._parties = parties
        self._me = me
        self._masks = masks
        self._shares = shares
        self._active: frozenset[str] = frozenset()
        # Two requests at once must not both find a state that only one of them may leave.
        self._lock = threading.RLock()

    @classmethod
    def begin(
        cls,
        parties: Parties,
        me: str,
        order: Order,
        prekeys: Mapping[str, Prekey],
        mine: PrekeySecrets,
        sealing_key: X25519PrivateKey,
    ) -> MemberAttempt:
        """Open this member's shares and derive its masks; the one-time secrets are not needed after that.

        Raises
        ------
        RefusalError : `bad-share`, naming the member that made a prekey badly
        """
        index = parties.index(me)
        circle = next(circle for circle in order.circles if me in circle)
        masks = [(self_secret(mine.seed, mine.prekey), 1)]
        shares = {}
        for name, prekey in prekeys.items():
            try:
                shares[name] = open_parcel(parties, prekey, index, sealing_key)
                if name != me and name in circle:
                    secret = pair_secret(
                        mine.private,
                        mine.prekey,
                        prekey,
                        job=order.job,
                        attempt=order.attempt,
                        circle=circle,
                        names=parties.names,
                    )
                    masks.append((secret, pair_sign(me, name)))
            except (BadParcel, ValueError) as error:
                raise RefusalError(
                    "bad-share",
                    f"prekey {prekey.number} of '{name}' is badly made: {error}",
                    {"maker": name, "number": prekey.number},
                ) from None
        return cls(parties, me, order, masks, shares)

    def mask(
        self, segments: Mapping[str, NDArray[np.uint32]], moduli: Mapping[str, int] | None = None
    ) -> None:
        """Mask every segment of the upload in place, once; then the masks' secrets are forgotten.

        Parameters
        ----------
        moduli : modulus of each segment that is not summed modulo 2^32
        """
        with self._lock:
            self._step("accepted", "uploaded")
            masks, self._masks = self._masks, []
        for name, values in segments.items():
            add_masks(values, masks, name, (moduli or {}).get(name, MODULUS))

    def bind(self, active: Sequence[str]) -> None:
        """Take one active set for good; to be called before it is signed.

        Raises
        ------
        RefusalError : not one this member may sign, or another one than before
        """
        with self._lock:
            self._check_active(active)
            if self.state in ("accepted", "uploaded"):
                self._step("uploaded", "bound")
                self._active = frozenset(active)

    def give(
        self,
        active: Sequence[str],
        dropped: Sequence[str],
        *,
        receipts: Mapping[str, Receipt],
        signatures: Mapping[str, str],
    ) -> dict[str, bytes]:
        """Exactly one share of each participant: of its seed where it is active, of its one-time key where it dropped.

        Of a group that stays closed nothing is given. The second time is a refusal: whoever may have to
        answer again keeps the answer.

        Returns
        -------
        openings : `prekeys.OPENING_BYTES` each, by participant
        """
        check_dropped(active, dropped, self.order.cohort)
        self._check_active(active)
        check_signatures(active, self.order, signatures, self._parties)
        check_receipts(active, self.order, receipts, self._parties)
        with self._lock:
            self.bind(active)
            self._step("bound", "given")
            shares, self._shares = self._shares, {}
        return {
            name: shares[name].opening("seed" if name in self._active else "key")
            for circle in open_circles(self.order, self._active, self._parties.charter)
            for name in circle
        }

    def _check_active(self, active: Sequence[str]) -> None:
        check_active_set(active, self.order.cohort, self._parties.charter, self._me)
        if self.state in ("bound", "given") and frozenset(active) != self._active:
            raise RefusalError(
                "second-active-set",
                f"attempt {self.order.attempt} has another active set already",
                {"attempt": self.order.attempt},
            )

    def _step(self, expected: State, following: State) -> None:
        if self.state != expected:
            raise RefusalError(
                "second-active-set" if self.state == "given" else "replayed",
                f"attempt {self.order.attempt} is {self.state} at this member, not {expected}",
                {"attempt": self.order.attempt},
            )
        self.state = following
