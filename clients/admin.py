"""`admin.sock`: the organisation's own commands to its agent. Mode 0600, never mounted elsewhere.

One JSON object in, one out: {"command": NAME, ...} -> {"ok": true, ...} or {"ok": false, "error": SENTENCE}.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from hansa.clients.admin_budgets import Answer, BudgetCommands, obey
from hansa.clients.admin_forget import ForgetCommands
from hansa.clients.admin_outbox import OutboxCommands
from hansa.clients.protocol import Agent
from hansa.contract.frames import Peer

MAX_COMMAND_BYTES = 1 << 20


class Administration:
    """Obeys the agent's own user alone, whatever the socket file's mode became."""

    def __init__(self, agent: Agent, *, owner: int) -> None:
        self._agent = agent
        self._owner = owner
        self._commands: dict[str, Callable[[Answer], Answer]] = {
            "status": self._status,
            "jobs": self._jobs,
            "freeze": self._freeze,
            "events": self._events,
            **BudgetCommands(agent).commands,
            **OutboxCommands(agent).commands,
            **ForgetCommands(agent).commands,
        }

    def answer(self, payload: bytes, peer: Peer) -> bytes:
        """Answer one command."""
        return json.dumps(self._answer(payload, peer)).encode()

    def _answer(self, payload: bytes, peer: Peer) -> Answer:
        if peer.uid not in (self._owner, 0):
            return _error("this socket obeys the agent's own user alone")
        if len(payload) > MAX_COMMAND_BYTES:
            return _error(f"a command of {len(payload)} bytes is above {MAX_COMMAND_BYTES}")
        try:
            asked = json.loads(payload)
        except ValueError:
            return _error("a command is one JSON object")
        command = self._commands.get(asked.get("command", "")) if isinstance(asked, dict) else None
        if command is None:
            return _error(f"commands are: {', '.join(self._commands)}")
        return obey(command, asked)

    def _status(self, _: Answer) -> Answer:
        membership, starts = self._agent.membership, self._agent.starts
        return {
            "ok": True,
            "member": membership.name,
            "charter": membership.charter.name,
            "charter_version": membership.charter.version,
            "charter_hash": membership.charter_hash,
            "expires": membership.charter.expires.isoformat(),
            "mode": membership.charter.protection.mode,
            # Attempts are taken part in once enough other members signed this start; None where nobody has to.
            "witnessed": None if starts is None else starts.witnessed,
            "witnesses": 0 if starts is None else len(starts.accepts),
            "witnesses_needed": 0 if starts is None else membership.charter.witnesses_needed,
            # Why nothing is charged until `hansa budgets recover`; empty where the ledger has all it was shown.
            "missing": "" if self._agent.witnesses is None else self._agent.witnesses.missing,
            "isolated": self._agent.isolated,
            "started": self._agent.started,
            "jobs": [{"job": job, "state": state} for job, state, _ in self._agent.attempts.jobs()],
        }

    def _jobs(self, _: Answer) -> Answer:
        jobs = []
        for job, state, reason in self._agent.attempts.jobs():
            newest = self._agent.attempts.newest(job)
            jobs.append(
                {"job": job, "state": state, "reason": reason, "attempt": newest.attempt if newest else 0}
            )
        return {"ok": True, "jobs": jobs}

    def _freeze(self, asked: Answer) -> Answer:
        job, reason = asked.get("job"), "frozen by the organisation"
        if not isinstance(job, str):
            return _error("name the job: {'command': ..., 'job': ID}")
        if self._agent.attempts.state(job) == "closed":
            return _error(f"job {job} is closed")
        if not self._agent.attempts.set_state(job, "frozen", reason):
            return _error(f"job {job} was never proposed to this member")
        self._agent.attempts.event(job, "frozen", reason)
        return {"ok": True, "job": job, "state": "frozen"}

    def _events(self, asked: Answer) -> Answer:
        newest = asked.get("newest", 100)
        if not isinstance(newest, int) or not 1 <= newest <= 10_000:
            return _error("newest is a number from 1 to 10000")
        return {
            "ok": True,
            "events": [
                {"at": at, "job": job, "kind": kind, "sentence": sentence}
                for at, job, kind, sentence in self._agent.attempts.events(newest)
            ],
        }


def _error(sentence: str) -> Answer:
    return {"ok": False, "error": sentence}
