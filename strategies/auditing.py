"""An audit as a job runs it: groups' sums of every round, beside the direction so far; lives in the job's checkpoints.

The sidecar asks for an audit; the server's run, which alone has the sums, makes it (`audit_groups` is the policy). In
mode `he` the server has none, and there is no audit.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.decisions import Decision
from hansa.contract.jobs import JobPlan
from hansa.contract.segments import UPDATE, divisor
from hansa.strategies.apply import ModelState
from hansa.strategies.attempt import Attempt
from hansa.strategies.audit_direction import Direction, GroupSum
from hansa.strategies.audit_groups import Audit, Verdict, verdict
from hansa.strategies.ports import Journal
from hansa.strategies.states import State

log = logging.getLogger("hansa.strategy")

Array = NDArray[np.float64]

# In a checkpoint: arrays of the direction, the audit's state as JSON, and the round with which it began.
_DIRECTION, _AUDIT, _BEGAN = "audit-direction-", "audit-state", "audit-began"


@dataclass(frozen=True)
class Auditing:
    """Direction of a job so far, and the audit that is under way.

    Parameters
    ----------
    first : round with which that audit began; 0 where none is under way
    """

    direction: Direction
    audit: Audit | None = None
    first: int = 0

    @classmethod
    def of(cls, charter: Charter, weights: Array, kept: Mapping[str, NDArray[Any]] | None) -> Auditing | None:
        """What a checkpoint keeps of it; from the beginning where it keeps nothing, None where none is allowed."""
        allowed = charter.protection.audit_groups is not None and not charter.protection.blind
        if not allowed or charter.training.mechanism == "moments":
            return None
        if kept is None or _AUDIT not in kept:
            return cls(Direction.start(weights))
        named = {
            name.removeprefix(_DIRECTION): it for name, it in kept.items() if name.startswith(_DIRECTION)
        }
        state = kept[_AUDIT].tobytes()
        try:
            audit = Audit.from_json(json.loads(state)) if state else None
        except ValueError:
            # Of a version before this one: it begins again with the next round that was asked for.
            audit = None
        return cls(Direction.from_arrays(named), audit, int(kept[_BEGAN][0]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For the checkpoint, beside the model's."""
        state = json.dumps(self.audit.as_json()).encode() if self.audit is not None else b""
        return {
            **{_DIRECTION + name: it for name, it in self.direction.arrays().items()},
            _AUDIT: np.frombuffer(state, dtype=np.uint8),
            _BEGAN: np.array([self.first], dtype=np.int64),
        }

    def after(
        self, attempt: Attempt, plan: JobPlan, weights: Array, asked: tuple[int, int] | None
    ) -> tuple[Auditing, Verdict | None]:
        """With the sums of one more attempt, made at these weights; and whom the audit names.

        Parameters
        ----------
        asked : first and last round of the newest audit that was asked for
        """
        number, charter = attempt.order.base + 1, attempt.charter
        direction = self.direction.at(weights, plan.rule.curvature)
        audit, first, named = self.audit, self.first, None
        under_way = asked is not None and asked[0] <= number <= asked[1]
        groups = group_sums(attempt, plan) if under_way and len(attempt.open_circles) > 1 else []
        if asked is None or not under_way:
            audit, first = None, 0
        elif groups:
            if audit is None or first != asked[0]:
                # Of whoever is never there nothing can be told, and nothing of the others where it is asked about.
                names = tuple(sorted({name for it in groups for name in it.members}))
                audit, first = Audit.start(names, charter.training.clip, len(groups[0].total)), asked[0]
            if {name for it in groups for name in it.members} <= set(audit.members):
                audit = audit.plus(groups, direction)
                named = verdict(audit, last=number == min(asked[1], plan.rounds))
        direction = direction.after(attempt.mean_update(), attempt.mean_noise())
        return Auditing(direction, audit, first), named


def audited(auditing: Auditing | None, attempt: Attempt, state: State, journal: Journal) -> Auditing | None:
    """What an attempt's groups say; whom an audit names is written down with the evidence.

    Parameters
    ----------
    state : the one that the attempt was made at
    """
    if auditing is None or not isinstance(state, ModelState):
        return None
    asked = journal.audited()
    auditing, named = auditing.after(attempt, attempt.plan, state.weights, asked)
    if named is not None and asked is not None:
        found = audit_decision(named, asked[0], state.round + 1)
        if journal.decide(found):
            log.warning("%s", found.sentence)
    return auditing


def group_sums(attempt: Attempt, plan: JobPlan) -> list[GroupSum]:
    """The sum of each group of an attempt that was opened."""
    found, active = [], set(attempt.active)
    for circle in attempt.open_circles:
        members = tuple(name for name in circle if name in active)
        sizes = tuple(divisor(attempt.charter, plan, (name,)) for name in members)
        total, noise = attempt.decoded_circle(UPDATE, circle), attempt.circle_noise_sd(UPDATE, circle)
        found.append(GroupSum(members, sizes, total, noise))
    return found


def audit_decision(named: Verdict, first: int, number: int) -> Decision:
    """Whom an audit names, with the evidence; the sidecar holds that member out where it is to be quarantined."""
    return Decision(
        key=f"audit {first}: {named.member}",
        by="audit",
        round=number,
        sentence=named.sentence,
        inputs={
            "member": named.member,
            "kind": named.kind,
            "quarantine": int(named.quarantine),
            **named.evidence.as_numbers(),
        },
    )
