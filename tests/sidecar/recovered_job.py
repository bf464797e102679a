"""A made-up job whose server does as recovery says, and whose recovery goes through JSON at every step."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hansa.sidecar.recovery import (
    Action,
    FailedAttempt,
    Figure,
    Pause,
    RecoveryState,
    RollBack,
    RoundFact,
    Seen,
    acted,
    decide,
    next_step,
)

ERROR = 0.03


def through_json(state: RecoveryState) -> RecoveryState:
    return RecoveryState.from_json(json.loads(json.dumps(state.as_json(), allow_nan=False)))


@dataclass
class Job:
    """A server that does as it is told: losses come from a function of the round and the rate."""

    rate: float = 1.0
    status: str = "running"
    attempt: int = 0
    rounds: list[RoundFact] = field(default_factory=lambda: [RoundFact(0, 0, Figure(0.7, ERROR), rate=1.0)])
    failures: list[FailedAttempt] = field(default_factory=list)
    state: RecoveryState = field(default_factory=RecoveryState)
    done: list[Action] = field(default_factory=list)

    def seen(self) -> Seen:
        kept = tuple(it.round for it in self.rounds[-8:])
        return Seen(tuple(self.rounds[-40:]), tuple(self.failures), kept, self.rate, 1e-4, self.status)

    def round(self, **facts: Any) -> None:
        """One more applied round."""
        self.attempt += 1
        self.rounds.append(RoundFact(self.rounds[-1].round + 1, self.attempt, rate=self.rate, **facts))

    def fails(self, kind: str = "not-finite") -> None:
        self.attempt += 1
        self.failures.append(FailedAttempt(self.attempt, kind, self.rate))  # type: ignore[arg-type]

    def decided(self) -> Action | None:
        """What recovery wants, once; its state goes through JSON in between."""
        state, action = decide(self.state, self.seen())
        self.state = through_json(state)
        return action

    def recover(self) -> Action | None:
        """Decide and act to the end."""
        action = self.decided()
        if action is not None:
            while (step := next_step(action, self.seen())) != "done":
                self.do(step, action)
            self.state = acted(self.state, action.key)
            self.done.append(action)
        return action

    def do(self, step: str, action: Action) -> None:
        if step == "pause":
            self.status = "paused"
        elif step == "resume":
            self.status = "running"
        elif step == "set rate":
            assert not isinstance(action, Pause)
            assert action.rate is not None
            self.rate = action.rate
        else:
            assert isinstance(action, RollBack)
            assert self.status == "paused"
            self.rounds = [it for it in self.rounds if it.round <= action.to_round]
