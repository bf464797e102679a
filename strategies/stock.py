"""What the server knows of each member's present start: whose prekeys it takes, and which of its own are left.

Prekeys are kept a few ahead, so that an undisturbed attempt is one upload and one small exchange
(PROTOCOL section 3). Nothing here outlives a run: the next one greets everybody anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import MessageError
from hansa.contract.messages import PREKEY_STOCK, Accepted
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import Prekey, check_prekey, decode_prekeys, prekey_bytes


class Restarted(Exception):
    """A member's prekeys are of another start than the one it said: its agent began anew since."""


@dataclass(frozen=True)
class Start:
    """A member's present start, as selection sees it.

    Parameters
    ----------
    signed : so many others have signed this start
    accepts : from which number on it takes the prekeys of each peer's present start, of those it knows
    numbers : its own prekeys that are left, rising
    withheld : whether it was asked for a word on another's start and left that out of its answer
    silent : whether it did not answer when it was last asked for such words
    rejects : whoever's valid word it was shown and does not take
    """

    nonce: str
    signed: int
    accepts: Mapping[str, int]
    numbers: tuple[int, ...]
    withheld: bool = False
    silent: bool = False
    rejects: tuple[str, ...] = ()


@dataclass
class _Kept:
    nonce: str
    accepts: dict[str, Accepted]
    prekeys: dict[int, Prekey] = field(default_factory=dict)
    # The highest number that was ever seen of this start.
    newest: int = -1
    withheld: bool = False


class Stock:
    """Verified prekeys by member; each is handed out once."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        self._kept: dict[str, _Kept] = {}
        # By member, over all of its starts: only taking what it is shown clears it.
        self._rejects: dict[str, tuple[str, ...]] = {}
        self._silent: set[str] = set()

    @property
    def starts(self) -> dict[str, Start]:
        """Every member whose start is known."""
        return {
            name: Start(
                kept.nonce,
                len(kept.accepts),
                self._present(kept),
                tuple(sorted(kept.prekeys)),
                kept.withheld,
                name in self._silent,
                self._rejects.get(name, ()),
            )
            for name, kept in self._kept.items()
        }

    def _present(self, kept: _Kept) -> dict[str, int]:
        """What a member takes of its peers' present starts; of an older one it is worth nothing."""
        return {
            name: taken.first
            for name, taken in kept.accepts.items()
            if name in self._kept and self._kept[name].nonce == taken.start
        }

    def greet(self, member: str, nonce: str, accepts: Mapping[str, Accepted]) -> None:
        """A member said hello: what was known of it before counts no more."""
        self._kept[member] = _Kept(nonce, {})
        self.accept(member, accepts)

    def forget(self, member: str) -> None:
        """The member may have restarted: its prekeys are worth nothing then."""
        self._kept.pop(member, None)

    def accept(self, member: str, accepts: Mapping[str, Accepted]) -> None:
        """Which prekeys a member takes of each peer now, by its own word."""
        if (kept := self._kept.get(member)) is not None:
            others = set(self._parties.names) - {member}
            kept.accepts = {name: taken for name, taken in accepts.items() if name in others}

    def withhold(self, member: str, withheld: bool) -> None:
        """Whether a member, asked for its word on others' starts, left one out."""
        if (kept := self._kept.get(member)) is not None:
            kept.withheld = withheld

    def fall_silent(self, member: str, silent: bool) -> None:
        """Whether a member did not answer when it was asked for words on others' starts."""
        (self._silent.add if silent else self._silent.discard)(member)

    def rejects(self, member: str) -> tuple[str, ...]:
        """Whose valid words a member was shown last and did not take."""
        return self._rejects.get(member, ())

    def reject(self, member: str, whose: Sequence[str]) -> bool:
        """Whose valid words a member was shown and does not take, none where it takes all; whether that is new."""
        before = self._rejects.pop(member, ())
        if whose:
            self._rejects[member] = tuple(whose)
        return bool(whose) and not before

    def add(self, member: str, content: NDArray[Any], expected: int) -> None:
        """Put a member's new prekeys into the stock, at most `PREKEY_STOCK` of them, the newest.

        Parameters
        ----------
        content : u8, as many encoded prekeys as were asked for

        Raises
        ------
        Restarted : they are of another start
        MessageError : another number of them, not made by that member, or not newer than the ones before
        """
        kept = self._kept.get(member)
        if kept is None:
            return
        size = expected * prekey_bytes(self._parties)
        # Before a byte is copied: the sender says how many there are.
        if content.dtype != np.uint8 or content.size != size:
            raise MessageError(
                f"{member} was asked for {expected} prekeys, {size} bytes, and sent {content.nbytes}"
            )
        prekeys = decode_prekeys(content.data, self._parties, expected)
        newest = kept.newest
        for prekey in prekeys:
            if prekey.start.hex() != kept.nonce:
                raise Restarted(f"{member} has started again since it said hello")
            if self._parties.names[prekey.maker] != member or not check_prekey(self._parties, prekey):
                raise MessageError(f"{member} sent a prekey that it did not sign")
            if prekey.number <= newest:
                raise MessageError(f"{member} sent prekey {prekey.number} after prekey {newest}")
            newest = prekey.number
        kept.newest = newest
        kept.prekeys |= {prekey.number: prekey for prekey in prekeys}
        self._trim(kept)

    def discard(self, member: str, first: int) -> None:
        """A peer was told that a member's prekeys are valid for it from `first` on: the older ones are not."""
        if (kept := self._kept.get(member)) is not None:
            kept.prekeys = {number: it for number, it in kept.prekeys.items() if number >= first}

    def take(self, chosen: Mapping[str, int]) -> dict[str, Prekey]:
        """The chosen prekey of each member; whatever becomes of the attempt, it is not used again."""
        return {name: self._kept[name].prekeys.pop(number) for name, number in chosen.items()}

    def empty(self, member: str) -> bool:
        """Whether no prekey of a member is left."""
        return not self._kept[member].prekeys

    def too_old(self, member: str) -> bool:
        """Whether some peer says that it takes newer prekeys of a member only than are left.

        That need not be true, so it may not be asked about without end.
        """
        kept = self._kept[member]
        others = [other for name, other in self._kept.items() if name != member]
        floors = [self._present(other).get(member, 0) for other in others]
        return max(kept.prekeys, default=-1) < max(floors, default=0)

    def _trim(self, kept: _Kept) -> None:
        for number in sorted(kept.prekeys)[:-PREKEY_STOCK]:
            del kept.prekeys[number]
