"""Ctrl-C, SIGTERM and a closed terminal as something to ask for, not an exception at any line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """While entered, the first signal is remembered; a second one calls `at_once`.

    An exception raised in the middle of starting a process or of stopping one is how processes get
    left behind; so whoever waits asks here instead.
    """

    def __init__(self, at_once: Callable[[], None] = lambda: None) -> None:
        self.at_once = at_once
        self._number: int | None = None
        self._event = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def requested(self) -> bool:
        """Whether somebody wants this to end."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """As shells count: 128 and the signal; 130 for Ctrl-C."""
        return 0 if self._number is None else 128 + self._number

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep that long, or until a signal comes; whether one came."""
        return self._event.wait(seconds)

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if self._number is not None:
            self.at_once()
            return
        self._number = number
        self._event.set()
