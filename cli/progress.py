"""Showing a job that runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, Self

from hansa.cli.follow import Followed
from hansa.cli.results import rounds_table, shown_metric

if TYPE_CHECKING:
    from rich.console import Console, Group

_SHOWN_ROUNDS = 10
_SHOWN_NOTES = 4
# Members come one after another; only what takes longer is worth a line.
_PATIENCE_S = 5.0
# Of a job that is under way so many of the newest rounds are shown.
_CAUGHT_UP = 10


class Progress(Protocol):
    """Where progress goes."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def note(self, sentence: str) -> None:
        """Something a person should know now; may come from another thread."""
        ...

    def seen(self, followed: Followed) -> None:
        """The job as it stands."""
        ...


def progress_on(console: Console, title: str, titles: Mapping[str, str]) -> Progress:
    """Live where the console is a terminal."""
    return LiveProgress(console, title, titles) if console.is_terminal else PlainProgress(console)


class PlainProgress:
    """One line for each thing that happened."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._round = 0
        self._status = self._reason = ""
        self._waiting = ""
        self._first_seen: float | None = None
        self._back = _GoneBack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def note(self, sentence: str) -> None:
        """One line."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def seen(self, followed: Followed) -> None:
        """Rounds that are new, and the status when it changes."""
        self._first_seen = self._first_seen or time.monotonic()
        waiting = _waiting_for(followed) if time.monotonic() - self._first_seen > _PATIENCE_S else ""
        if waiting and waiting != self._waiting:
            self.note(waiting)
        self._waiting = waiting
        if self._round == 0 and len(followed.lines) > 2 * _CAUGHT_UP:
            # Somebody looks at a job that is under way: what was before is in the list.
            self._round = followed.lines[-_CAUGHT_UP].round
            self.note(f"rounds 1 to {self._round} are over; see: hansa rounds list")
        self._round = min(self._round, followed.job.round)
        for sentence in self._back.new(followed):
            self.note(sentence)
        for line in followed.lines:
            # A round's figures come with the attempt after it.
            settled = line.metrics or line.round < followed.job.round or followed.over
            if line.round > self._round and settled:
                self._round = line.round
                figures = ", ".join(f"{name} {shown_metric(value)}" for name, value in line.metrics.items())
                said = f"round {line.round}: {len(line.cohort)} members, {line.seconds:.2f} s"
                self.note(f"{said}, {figures}" if figures else said)
        status, reason = followed.job.status, followed.job.reason
        changed = status != self._status or (reason and reason != self._reason)
        self._status, self._reason = status, reason
        if changed:
            self.note(f"job {followed.job.job[:8]} is {self._status}{_because(followed)}")


class LiveProgress:
    """A table that is redrawn in place and gone at the end; the result table says it all again."""

    def __init__(self, console: Console, title: str, titles: Mapping[str, str]) -> None:
        from rich.live import Live

        self._title, self._titles = title, titles
        self._notes: deque[str] = deque(maxlen=_SHOWN_NOTES)
        self._followed: Followed | None = None
        self._began = time.monotonic()
        self._back = _GoneBack()
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=5, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def note(self, sentence: str) -> None:
        """Shown below the table until newer ones push it out."""
        self._notes.append(sentence)

    def seen(self, followed: Followed) -> None:
        """Drawn with the next refresh."""
        self._followed = followed
        for sentence in self._back.new(followed):
            self.note(sentence)

    @property
    def _width(self) -> int:
        return self._live.console.width

    def _render(self) -> Group:
        from rich.console import Group
        from rich.markup import escape
        from rich.spinner import Spinner
        from rich.text import Text

        seconds = time.monotonic() - self._began
        head = f"[bold]{escape(self._title)}[/bold] · {seconds:.0f} s · {escape(self._state())}"
        parts: list[object] = [Spinner("dots", text=Text.from_markup(head))]
        if self._followed is not None and self._followed.rounds:
            parts.append(rounds_table(self._followed.lines, width=self._width, last=_SHOWN_ROUNDS))
        parts += [Text(note, style="dim") for note in self._notes]
        return Group(*parts)  # type: ignore[arg-type]

    def _state(self) -> str:
        followed = self._followed
        if followed is None:
            return "starting"
        if followed.problem:
            return followed.problem
        waiting = followed.job.reason or _waiting_for(followed)
        if waiting:
            return waiting
        done, planned = followed.job.round, followed.job.plan.rounds
        return f"round {done} of {planned}, {len(followed.present)} members, {followed.job.status}"


class _GoneBack:
    """Who took the job back and why, each said once; what was before the first look is in the event log."""

    def __init__(self) -> None:
        self._newest: int | None = None

    def new(self, followed: Followed) -> list[str]:
        """Sentences that were not there at the last look."""
        since, events = self._newest, followed.events
        self._newest = events[-1].id if events else since or 0
        if since is None:
            return []
        return [
            it.sentence
            for it in events
            if it.id > since and it.kind == "rolled-back" and it.job == followed.job.job
        ]


def _waiting_for(followed: Followed) -> str:
    # The job's own reason says it better.
    if followed.over or followed.rounds or followed.job.reason or not followed.absent:
        return ""
    return f"waiting for {', '.join(followed.absent)}"


def _because(followed: Followed) -> str:
    return f": {followed.job.reason}" if followed.job.reason else ""
