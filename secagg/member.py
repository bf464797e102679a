"""One attempt at a member, as a state machine (PROTOCOL section 4): exactly one share of each participant, once."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from hansa.contract.errors import RefusalError
from hansa.contract.messages import Order, Receipt
from hansa.secagg.active_set import (
    check_active_set,
    check_dropped,
    check_noised,
    check_receipts,
    check_signatures,
    open_circles,
)
from hansa.secagg.fixed_point import MODULUS
from hansa.secagg.masks import Masked, MaskSecret, add_masks, pair_secret, pair_sign, self_secret
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import BadParcel, HeldShares, Prekey, PrekeySecrets, open_parcel

State = Literal["accepted", "uploaded", "bound", "given"]


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
    ) -> dict[str, Masked]:
        """Mask every segment of the upload in place, once; then the masks' secrets are forgotten.

        Parameters
        ----------
        moduli : modulus of each segment that is not summed modulo 2^32

        Returns
        -------
        masked : the same arrays, as what takes nothing but masked words wants them (`Envelope.encrypt`)
        """
        with self._lock:
            self._step("accepted", "uploaded")
            masks, self._masks = self._masks, []
        masked = {}
        for name, values in segments.items():
            modulus = (moduli or {}).get(name, MODULUS)
            add_masks(values, masks, name, modulus)
            masked[name] = Masked(values, modulus)
        return masked

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
        check_noised(active, self.order, self._parties.charter)
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
