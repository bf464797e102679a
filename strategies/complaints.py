"""Members that complain of another's prekeys: one word stands against the other's, until there are enough. Pure."""

from __future__ import annotations

from hansa.contract.charter import Charter


class Complaints:
    """Who complained of whom in this run.

    A maker can send a bad parcel to one member only, and a member can say so of a good one: of the
    two the server cannot tell who lies. More than c controllers that complain of one maker are
    more than may collude, so one of them is honest.
    """

    def __init__(self, charter: Charter) -> None:
        self._charter = charter
        self._against: dict[str, set[str]] = {}

    def hear(self, complainer: str, maker: str) -> bool:
        """Note a complaint; whether the maker is proved guilty by now."""
        against = self._against.setdefault(maker, set())
        against.add(complainer)
        return len(self._charter.controllers(against - {maker})) > self._charter.protection.c
