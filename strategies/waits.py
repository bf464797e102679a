"""How long the others wait for those who stay silent: in the end a small share of the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

# How long an exchange waits for the last of those it asks, as long as rounds cannot go on without it.
PATIENCE_S = 5.0
# Whoever stayed silent is asked again after this, and after twice as long each time where rounds go on.
AGAIN_S, LONGEST_AGAIN_S = 5.0, 60.0
# So long rounds that could go on wait for an answer: the first time, and for one that stayed silent for long.
_SHORT_S, _LONGER_S = 1.0, 3.0
# After a wait that was for nothing, rounds go on for so many times as long before the next.
_REST = 19.0


class Waits:
    """Who stayed silent, and when it is asked again.

    A member that answers when its node connects and hangs after that would otherwise hold up all others,
    for ever and at no cost to itself.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # When whoever stayed silent was waited for last, and how often it was in vain.
        self._silent: dict[Hashable, tuple[float, int]] = {}
        self._rest_until = 0.0

    def due(self, whom: Hashable, go_on: bool) -> bool:
        """Whether to ask now; whoever was never silent is always asked.

        Parameters
        ----------
        go_on : rounds can go on without any answer
        """
        if whom not in self._silent:
            return True
        since, times = self._silent[whom]
        now = self._monotonic()
        if not go_on:
            return now - since >= AGAIN_S
        return now >= self._rest_until and now - since >= _interval(times)

    def patience(self, asked: Iterable[Hashable], go_on: bool) -> float:
        """Seconds to wait for these before rounds go on without them."""
        if not go_on:
            return PATIENCE_S
        longest = max((_interval(self._silent[it][1]) for it in asked if it in self._silent), default=0.0)
        return min(max(_SHORT_S, longest / 20), _LONGER_S)

    def silent(self, whom: Iterable[Hashable], waited: float) -> None:
        """These did not answer within `waited` seconds."""
        now, noted = self._monotonic(), False
        for it in whom:
            self._silent[it] = (now, self._silent.get(it, (0.0, 0))[1] + 1)
            noted = True
        if noted:
            self._rest_until = now + _REST * waited

    def answered(self, whom: Hashable) -> None:
        """It is not silent any more."""
        self._silent.pop(whom, None)


def _interval(times: int) -> float:
    return min(AGAIN_S * 2.0 ** min(times - 1, 10), LONGEST_AGAIN_S)
