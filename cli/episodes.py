"""The ten episodes of `hansa adaptive`: what goes wrong in each, from which round on, and who ought to see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Trouble = Literal["none", "rate", "drift", "slow", "gone", "turned", "flipped"]


class Decided(Protocol):
    """A decision, as the store has it."""

    key: str
    by: str
    round: int
    sentence: str
    knobs: dict[str, float]
    inputs: dict[str, object]


@dataclass(frozen=True)
class Episode:
    """One training.

    Parameters
    ----------
    trouble : what is done; `rate` multiplies the server's rate by `size`, `drift` turns the meaning of so large a share
        of all members' labels, the others befall one member
    round : before which it begins; 0 from the start
    told : for people
    audited : whether the operator asks for an audit, from round 5 on
    expects : who ought to notice: any decision of these after it began
    about : and in which words, where it matters
    """

    name: str
    trouble: Trouble
    told: str
    round: int = 0
    size: float = 1.0
    audited: bool = False
    expects: tuple[str, ...] = ()
    about: tuple[str, ...] = ()

    def noticed(self, decisions: Sequence[Decided]) -> list[Decided]:
        """Decisions about it."""
        return [
            it
            for it in decisions
            if it.by in self.expects
            and it.round >= self.round
            and (not self.about or any(word in it.sentence for word in self.about))
        ]


def episodes(middle: int) -> tuple[Episode, ...]:
    """All ten; what begins later begins in that round."""
    return (
        Episode("calm", "none", "nothing is wrong"),
        Episode("slow start", "rate", "the rate is 100 times too small", size=0.01, expects=("probe",)),
        Episode("fast start", "rate", "the rate is 100 times too large", size=100.0, expects=("probe",)),
        Episode(
            "bad rate",
            "rate",
            "somebody makes the rate 100 times as large",
            round=middle,
            size=100.0,
            expects=("recovery",),
        ),
        Episode(
            "drift",
            "drift",
            "a third of all labels turn around",
            round=middle,
            size=0.33,
            expects=("watch", "recovery"),
            about=("loss", "auc"),
        ),
        Episode(
            "slow member",
            "slow",
            "one member takes a second longer",
            middle,
            expects=("watch",),
            about=("seconds",),
        ),
        Episode("lost member", "gone", "one member does not answer", middle, expects=("watch", "members")),
        Episode(
            "turned member",
            "turned",
            "one member sends its sums with the other sign; the operator asks for an audit",
            audited=True,
            expects=("audit",),
            about=("goes", "pulls"),
        ),
        Episode(
            "poisoned member",
            "flipped",
            "one member's labels are turned around; the operator asks for an audit",
            audited=True,
            expects=("audit",),
            about=("goes", "pulls"),
        ),
        Episode("calm again", "none", "nothing is wrong"),
    )
