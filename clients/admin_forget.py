"""`admin.sock`, the part about people who are to be forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated

from pydantic import Field

from hansa.clients.admin_budgets import Answer
from hansa.clients.data.encode import entity_id
from hansa.clients.forgotten import Forgotten
from hansa.clients.protocol import Agent
from hansa.contract.errors import InputError
from hansa.contract.typed import Frozen, parse_document
from hansa.privacy.records import Said, Stated

STAYS = (
    "what was spent on them stays spent, and models and sums that were made before stay as they are: what such a "
    "model can say of one of them is bounded by the epsilon that was spent, not taken back; there is no undo"
)
STAYS_WITHOUT_NOISE = (
    "models and sums that were made before stay as they are, and the charter has no noise: nothing bounds what they "
    "say of one of them; there is no undo"
)


class ForgetOrder(Frozen):
    """What `hansa data forget` says."""

    entities: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...],
        Field(min_length=1, max_length=100_000),
    ]
    reason: Stated
    by: Said
    # Whether names that no record has are put on the list too, for data that may come.
    absent: bool = False


class ForgetCommands:
    """The commands by name; each takes the object it was sent and returns the answer, or raises a sentence."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.commands: dict[str, Callable[[Answer], Answer]] = {
            "forget": self._forget,
            "forgotten": self._list,
        }

    def _forget(self, asked: Answer) -> Answer:
        order, forgotten = parse_document(asked, ForgetOrder, "forget"), self._forgotten
        charter = self._agent.membership.charter
        entity = charter.task.features.entity
        if entity is None:
            raise InputError(
                "the contract names no entity column, so no record has a name to be forgotten by: take the person's "
                "rows out of the data and restart the agent"
            )
        ids = {entity_id(name): number for number, name in enumerate(order.entities, start=1)}
        if not all(name.strip() for name in order.entities):
            raise InputError(f"an empty name: column '{entity}' says who a record is about")
        before = {it for it in ids if forgotten.holds(it)}
        there = self._agent.known(ids.keys() - before)
        absent = ids.keys() - before - there
        if absent and not order.absent:
            which = ", ".join(str(ids[it]) for it in sorted(absent, key=lambda it: ids[it])[:10])
            raise InputError(
                f"{len(absent)} of {len(ids)} are in no record of column '{entity}' (number {which} of those named); "
                "nobody was forgotten; correct them, or say --absent-too, which holds for data that may come"
            )
        try:
            new = forgotten.add(ids.keys(), by=order.by, reason=order.reason)
        finally:
            # They are on the list, whatever became of the ledger's row.
            computing = self._agent.forget([it for it in ids if forgotten.holds(it)])
        # Neither a name nor its hash stands in the log.
        self._agent.attempts.event("", "forgotten", f"{new} entities, by {order.by}: {order.reason}"[:500])
        return {
            "ok": True,
            "forgotten": new,
            "absent": len(absent),
            "before": len(before),
            "total": len(forgotten),
            "left": self._agent.entities,
            # Attempts that were being computed at that moment may still hold them.
            "computing": [{"job": job, "attempt": attempt} for job, attempt in computing],
            "says": STAYS if charter.privacy.noise != "none" else STAYS_WITHOUT_NOISE,
        }

    def _list(self, _: Answer) -> Answer:
        forgotten = self._forgotten
        return {
            "ok": True,
            "total": len(forgotten),
            "decisions": [asdict(it) for it in forgotten.decisions()],
        }

    @property
    def _forgotten(self) -> Forgotten:
        if self._agent.forgotten is None:
            raise InputError("this process keeps no list of forgotten entities")
        return self._agent.forgotten
