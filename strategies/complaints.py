"""Members that complain of another: one word stands against the other's, until there are enough. Pure."""

from __future__ import annotations

from collections import Counter

from hansa.contract.charter import Charter

# So often one member complains of another before the two no longer take part together.
PATIENCE = 3


class Complaints:
    """Who complained of whom in this run.

    Parameters
    ----------
    about : what is said of a member, whose name stands for the braces

    A maker can send a bad parcel to one member only, and a member can say so of a good one: of the
    two the server cannot tell who lies. More than c controllers that complain of one maker are
    more than may collude, so one of them is honest; and of more than c makers that one member
    complains of, one is honest, too.
    """

    def __init__(self, charter: Charter, about: str = "prekeys of {} are badly made") -> None:
        self._charter = charter
        self._about = about
        self._heard: Counter[tuple[str, str]] = Counter()

    def hear(self, complainer: str, maker: str) -> str:
        """Note a complaint; which of the two is proved guilty by now, empty where neither is."""
        self._heard[complainer, maker] += 1
        against = {one for one, other in self._heard if other == maker and one != maker}
        if len(self._charter.controllers(against)) > self._charter.protection.c:
            return maker
        accused = {other for one, other in self._heard if one == complainer and other != complainer}
        return complainer if len(self._charter.controllers(accused)) > self._charter.protection.c else ""

    def aside(self, turn: int) -> dict[str, str]:
        """Who stays out of this attempt, with the reason: of two that go on disagreeing, one and then the other.

        Without this the member that cannot open a prekey would miss every attempt, which may be all
        that its maker wants.
        """
        out = {}
        for (complainer, maker), times in self._heard.items():
            if times >= PATIENCE and complainer != maker:
                reason = (
                    f"{complainer} has said {times} times that {self._about.format(maker)}: "
                    "the two take part in turn"
                )
                out[(maker, complainer)[turn % 2]] = reason
        return out
