"""The agent's process of `outbox.py`: an agent as it is, which writes one attempt of each two into its outbox.

Of the other one nothing is read for the outbox and nothing written, as if there were none. Which of the two it is
changes from pair to pair, alike at all members. It is this program's alone: no agent of the project can be told so.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import Any

from hansa.clients import protocol
from hansa.clients.outbox import Outbox


def recorded(attempt: int) -> bool:
    """Whether what leaves in this attempt is written into the outbox."""
    pair, place = divmod(attempt, 2)
    return bool((sha256(b"%d" % pair).digest()[0] ^ place) & 1)


class HalfRecordedAgent(protocol.Agent):
    """Its outbox is there while the newest attempt is one of those that are recorded, and before the first one."""

    _newest: int | None = None
    _kept: Outbox | None = None

    @property
    def outbox(self) -> Outbox | None:
        """The outbox, or None."""
        return self._kept if self._newest is None or recorded(self._newest) else None

    @outbox.setter
    def outbox(self, outbox: Outbox | None) -> None:
        self._kept = outbox

    def _answer(self, request: bytes, asked: str, turn: Any) -> bytes:
        answer = super()._answer(request, asked, turn)
        if turn.attempt:
            self._newest = max(self._newest or 0, turn.attempt)
        return answer

    def close(self) -> None:
        """Close what lies on the disk, the outbox among it."""
        self._newest = None
        super().close()


if __name__ == "__main__":
    protocol.Agent = HalfRecordedAgent  # type: ignore[misc]
    from hansa.clients.agent import main

    sys.exit(main())
