"""The server's side of secure aggregation: sums as uploads come, then masks off (PROTOCOL section 4).

The server never holds an update longer than it takes to add it, and of no member both secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from hansa.contract.messages import Order
from hansa.secagg.active_set import open_circles
from hansa.secagg.fixed_point import MODULUS, add_into
from hansa.secagg.masks import HE_PRIME, MaskSecret, add_masks, pair_secret, pair_sign, self_secret
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import Kind, Prekey, check_opening, key_of, seed_of, share_of
from hansa.secagg.shamir import combine, weights_at_zero

Circle = tuple[str, ...]
Sums = dict[str, NDArray[np.uint32]]


class BadShare(Exception):
    """A member's fault: it gave a share that does not match its hash, or made shares of another secret."""

    def __init__(self, member: str, sentence: str) -> None:
        super().__init__(sentence)
        self.member = member


class Enveloped(Protocol):
    """A sum that one can add words to without seeing it: `envelope.EnvelopeSum`."""

    @property
    def words(self) -> int:
        """How many."""
        ...

    def add_words(self, words: NDArray[np.uint32]) -> None:
        """Add words modulo HE_PRIME. Shape (words,)."""
        ...


class Summation:
    """Adds each upload to the sums of its circle and keeps nothing else of it.

    Parameters
    ----------
    circles : members whose uploads are summed together: the whole cohort, or its groups
    moduli : modulus of each segment that is not summed modulo 2^32
    """

    def __init__(self, circles: Sequence[Circle], moduli: Mapping[str, int] | None = None) -> None:
        self._circles = {name: circle for circle in circles for name in circle}
        self._moduli = dict(moduli or {})
        self._sums: dict[Circle, Sums] = {}
        self._added: set[str] = set()

    def add(self, member: str, segments: Mapping[str, NDArray[np.uint32]]) -> None:
        """Take one member's upload, or nothing of it.

        Raises
        ------
        ValueError : a stranger, a second upload of one member, or segments of other names or lengths than
            the circle's first; what a member may send is for the caller to check before
        """
        if member in self._added or member not in self._circles:
            raise ValueError(f"'{member}' is not of the cohort, or its upload is in the sum already")
        sums = self._sums.get(self._circles[member])
        if sums is None:
            sums = {name: np.zeros_like(part) for name, part in segments.items()}
        if _shapes(sums) != _shapes(segments):
            raise ValueError(f"the upload of '{member}' has other segments than those before it")
        for name, part in segments.items():
            add_into(sums[name], part, self.modulus(name))
        self._sums[self._circles[member]] = sums
        self._added.add(member)

    def modulus(self, segment: str) -> int:
        """What a segment is summed by."""
        return self._moduli.get(segment, MODULUS)

    def of(self, circle: Circle) -> Sums:
        """The sums of a circle, by segment; masked until `Unmasking.unmask`."""
        return self._sums.get(circle, {})


def _shapes(segments: Mapping[str, NDArray[np.uint32]]) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (part.shape, part.dtype.str) for name, part in segments.items()}


class Unmasking:
    """Collects shares until t members gave theirs, then takes the masks off the sums.

    Parameters
    ----------
    prekeys : the prekey of each member of the cohort in this attempt
    active : members whose upload is in the sum; agreed on, where it is not the cohort
    """

    def __init__(
        self, parties: Parties, order: Order, prekeys: Mapping[str, Prekey], active: Sequence[str]
    ) -> None:
        self._parties = parties
        self._order = order
        self._prekeys = prekeys
        self._active = frozenset(active)
        self._given: dict[str, dict[str, int]] = {}
        self._done = False
        self.circles = open_circles(order, self._active, parties.charter)

    @property
    def missing(self) -> int:
        """Members that must still give their shares."""
        return max(0, self._parties.threshold - len(self._given))

    def kind(self, name: str) -> Kind:
        """Which secret of a participant is opened: one of two, for good."""
        return "seed" if name in self._active else "key"

    def receive(self, giver: str, shares: Mapping[str, bytes]) -> None:
        """One member's shares, all of them checked before one is used.

        Raises
        ------
        BadShare : naming the giver
        """
        wanted = {name for circle in self.circles for name in circle}
        if giver not in self._active or set(shares) != wanted:
            raise BadShare(giver, f"'{giver}' did not give exactly one share of each participant")
        index = self._parties.index(giver)
        for name, opening in shares.items():
            if not check_opening(self._parties, self._prekeys[name], index, self.kind(name), opening):
                raise BadShare(giver, f"the share that '{giver}' gave of '{name}' does not match its hash")
        if self.missing:
            self._given[giver] = {name: share_of(opening) for name, opening in shares.items()}

    def unmask(
        self, summation: Summation, enveloped: Mapping[Circle, Mapping[str, Enveloped]] | None = None
    ) -> None:
        """Take the masks off the sums of every open circle, in place, once.

        Parameters
        ----------
        enveloped : sums modulo HE_PRIME that are not in the summation, by circle and segment (mode `he`)

        Raises
        ------
        ValueError : members must still give their shares, or the masks are off already
        BadShare : naming the member whose shares are right and give another secret than it promised, or whose
            one-time key is no public key
        """
        if self.missing or self._done:
            raise ValueError("masks come off once, when no member's shares are missing")
        weights = weights_at_zero([self._parties.index(giver) + 1 for giver in self._given])
        opened = {circle: self._masks(circle, weights) for circle in self.circles}
        self._done = True
        for circle, masks in opened.items():
            for segment, total in summation.of(circle).items():
                add_masks(total, masks, segment, summation.modulus(segment))
            for segment, hidden in (enveloped or {}).get(circle, {}).items():
                words = np.zeros(hidden.words, dtype=np.uint32)
                add_masks(words, masks, segment, HE_PRIME)
                hidden.add_words(words)

    def _masks(self, circle: Circle, weights: Sequence[int]) -> list[tuple[MaskSecret, int]]:
        """What stands on a circle's sum, with the signs that take it off."""
        masks = []
        for name in circle:
            secret = combine([shares[name] for shares in self._given.values()], weights)
            prekey = self._prekeys[name]
            if name in self._active:
                seed = seed_of(secret, prekey)
                if seed is None:
                    raise BadShare(name, f"the shares of the seed of '{name}' give another seed")
                masks.append((self_secret(seed, prekey), -1))
            else:
                key = key_of(secret, prekey)
                if key is None:
                    raise BadShare(name, f"the shares of the one-time key of '{name}' give another key")
                masks += self._left_over(name, key, circle)
        return masks

    def _left_over(self, dropped: str, key: X25519PrivateKey, circle: Circle) -> list[tuple[MaskSecret, int]]:
        """Masks that active members share with one that dropped: nothing else cancels them."""
        masks = []
        for name in circle:
            if name in self._active:
                try:
                    secret = pair_secret(
                        key,
                        self._prekeys[dropped],
                        self._prekeys[name],
                        job=self._order.job,
                        attempt=self._order.attempt,
                        circle=circle,
                        names=self._parties.names,
                    )
                except ValueError:
                    raise BadShare(name, f"the one-time key of '{name}' is no public key") from None
                masks.append((secret, -pair_sign(name, dropped)))
        return masks
