"""Parts one after the other: one that fails does not end the others, Ctrl-C does, and what there is by then is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from hansa.cli.interrupts import Interruption
from hansa.cli.suite.found import Found, Outcome
from hansa.contract.errors import HansaError

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger("hansa.suite")


class Interrupted(Exception):
    """Somebody wants this to end; `found` is what a part has until then."""

    def __init__(self, found: Found | None = None) -> None:
        super().__init__("interrupted")
        self.found = found


@dataclass
class Stage:
    """What a part runs on.

    Parameters
    ----------
    console : where progress goes
    earlier : outcomes of the parts before it, by name
    """

    interruption: Interruption
    console: Console
    earlier: dict[str, Outcome] = field(default_factory=dict)

    def say(self, sentence: str) -> None:
        """One line of progress."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def check(self, found: Callable[[], Found] | None = None) -> None:
        """Between two steps: raises `Interrupted` where somebody asked for the end."""
        if self.interruption.requested:
            raise Interrupted(found() if found else None)

    def data_of(self, part: str) -> Mapping[str, Any]:
        """What an earlier part found, also where something in it does not hold.

        Raises
        ------
        HansaError : it did not come to its end
        """
        earlier = self.earlier.get(part)
        if earlier is None or not earlier.found.data or earlier.status not in ("done", "failed"):
            raise HansaError(f"needs part '{part}', which did not come to its end")
        return earlier.found.data


class Part(Protocol):
    """A part of the suite."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def command(self) -> str: ...

    def run(self, stage: Stage) -> Found:
        """Do it and say what was found; may raise `HansaError` or `Interrupted`."""
        ...


def run_parts(
    parts: Sequence[Part],
    stage: Stage,
    seen: Callable[[Sequence[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
    """Run each; what a part raises becomes its outcome.

    Parameters
    ----------
    seen : called before the first and after each part with how all of them stand
    """
    outcomes = [Outcome(it.name, it.title, it.command) for it in parts]
    seen(outcomes)
    for number, part in enumerate(parts):
        if stage.interruption.requested:
            break
        stage.say(f"[{number + 1}/{len(parts)}] {part.title}")
        outcomes[number] = _run(part, outcomes[number], stage)
        stage.earlier[part.name] = outcomes[number]
        done = outcomes[number]
        stage.say(f"[{number + 1}/{len(parts)}] {part.name} {done.status}, {done.seconds:.1f} s" + _why(done))
        seen(outcomes)
    return outcomes


def _run(part: Part, outcome: Outcome, stage: Stage) -> Outcome:
    began = time.monotonic()

    def at_once() -> None:
        raise Interrupted

    stage.interruption.at_once = at_once
    try:
        found = part.run(stage)
    except Interrupted as interrupted:
        return outcome.ended("interrupted", time.monotonic() - began, "interrupted", interrupted.found)
    except Exception as error:
        # One part's fault must not take the others' results with it.
        log.debug("part '%s'", part.name, exc_info=True)
        return outcome.ended("failed", time.monotonic() - began, sentence(error))
    finally:
        stage.interruption.at_once = lambda: None
    seconds = time.monotonic() - began
    return outcome.ended("failed" if found.problem else "done", seconds, found.problem, found)


def sentence(error: Exception) -> str:
    """What went wrong, in one line; of what nobody foresaw also its kind."""
    if isinstance(error, HansaError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]


def exit_code(outcomes: Sequence[Outcome], interruption: Interruption) -> int:
    """0 where every part is done; 128 and the signal where somebody interrupted; else 1."""
    if interruption.requested:
        return interruption.exit_code
    return 0 if all(it.status == "done" for it in outcomes) else 1


def _why(outcome: Outcome) -> str:
    return f": {outcome.reason}" if outcome.reason and outcome.status != "interrupted" else ""
