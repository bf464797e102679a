"""A look at every job that is not over: ask control, judge, save, act."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from hansa.contract.exposition import Meter
from hansa.contract.logs import about

from .figures import CONTROL, DECISIONS, LOOKED, LOOKS, REFUSED, WATCHED
from .job_watch import (
    OVERLAP,
    ROUNDS,
    JobMemory,
    decision_of,
    expected_of,
    find,
    fits,
    look,
    quarantine_key,
    remembered,
)
from .memory import Memories
from .recovery import Action, Pause, RollBack, acted, refused
from .server_api import Away, Refused, ServerApi

log = logging.getLogger("hansa.sidecar")

_OVER = ("finished", "stopped", "failed")
# Of these a job is asked for no more than what it did not say last time.
_FIRST_FIGURES = 4


class Sidecar:
    """Looks at the jobs of one control."""

    def __init__(self, api: ServerApi, memories: Memories, meter: Meter | None = None) -> None:
        self._meter = Meter() if meter is None else meter
        self._meter.declare(LOOKS, LOOKED, CONTROL, WATCHED, DECISIONS, REFUSED)
        self._api = api
        self._memories = memories
        self._jobs: dict[str, JobMemory] = {}
        # What a job said of itself when it was looked at last: where that has not changed nothing else has.
        self._last: dict[str, tuple[Any, ...]] = {}
        self._away = False
        # It does not change while control runs; another control is another connection, and is asked anew.
        self._charter: dict[str, Any] | None = None

    def look(self) -> None:
        """Once over all jobs; never raises: what cannot be done now is done next time."""
        try:
            jobs = self._api.jobs()
            live = [it for it in jobs if it["status"] not in _OVER or it["job"] in self._jobs]
            for job in live:
                try:
                    with about(job=job["job"], round=job["round"]):
                        self._look_at(job)
                except Away:
                    raise
                except Exception:
                    # One job's answers in no form must not end the watch over all others.
                    log.exception("job %s could not be looked at; trying again", job["job"])
            self._forget({it["job"] for it in jobs if it["status"] not in _OVER})
            self._meter.add(LOOKS)
            self._meter.set(LOOKED, to=time.time())
            self._meter.set(WATCHED, to=len(self._jobs))
            self._meter.set(CONTROL, to=1)
        except Away as away:
            if not self._away:
                log.warning("%s; trying again", away)
            self._away, self._charter = True, None
            self._meter.set(CONTROL, to=0)
            return
        except Exception:
            log.exception("a look failed; trying again")
            return
        if self._away:
            log.warning("control answers again")
        self._away = False

    def _forget(self, live: set[str]) -> None:
        for job in set(self._jobs) - live:
            del self._jobs[job]
            self._last.pop(job, None)
        self._memories.forget(live)

    def _look_at(self, job: dict[str, Any]) -> None:
        name = job["job"]
        now = (job["attempt"], job["round"], job["status"], job["wanted"], job["updated"])
        memory = self._jobs.get(name)
        if memory is None:
            memory = self._jobs[name] = self._memories.load(name)
        elif self._last.get(name) == now and not memory.outbox and memory.recovery.pending is None:
            return
        try:
            self._judge(name, job, memory)
        except Refused as refusal:
            log.warning("job %s: %s", name, refusal)
        # Only once everything was said: a look that was cut short is made again.
        self._last[name] = now

    def _judge(self, name: str, job: dict[str, Any], memory: JobMemory) -> None:
        api = self._api
        newest = min(memory.newest, job["round"])
        rounds = api.rounds(name, max(0, newest - OVERLAP))
        anew = memory.newest > job["round"] or not fits(memory, rounds)
        if anew:
            rounds = api.rounds(name, max(0, job["round"] - ROUNDS))
        attempts = api.attempts(name, max(memory.attempt, job["attempt"] - 1000))
        initial = api.metrics(name, "log_loss", _FIRST_FIGURES) if job["round"] < ROUNDS else []
        kept, knobs = api.kept(name), api.knobs(name)
        if self._charter is None:
            self._charter = api.charter()
        if self._charter["audit_groups"] is not None:
            find(memory, api.decisions(name, memory.decided))
        remembered(memory, rounds, anew=anew)
        action = look(memory, job, attempts, kept, knobs, self._charter, initial)
        self._memories.save(name, memory)
        if action is not None:
            self._act(name, action, memory)
        while memory.findings:
            self._quarantine(name, memory.findings[0])
            del memory.findings[0]
        while memory.outbox:
            self._tell(name, memory.outbox[0])
            del memory.outbox[0]
        self._memories.save(name, memory)

    def _quarantine(self, name: str, found: Mapping[str, Any]) -> None:
        member, sentence = str(found["inputs"].get("member", "")), found["sentence"]
        try:
            self._api.hold(member, "audit", f"quarantined: {sentence}"[:1000])
        except Refused as refusal:
            log.warning("job %s: '%s' is not held out: %s", name, member, refusal)
            return
        decision = {
            "key": quarantine_key(found),
            "by": "members",
            "round": found["round"],
            "sentence": f"{member} is held out of selection until an operator releases it: {sentence}",
            "inputs": {"member": member},
        }
        self._tell(name, decision)

    def _tell(self, name: str, decision: dict[str, Any]) -> None:
        try:
            self._api.decide(name, decision, {})
        except Refused as refusal:
            log.warning("job %s: '%s' was not entered: %s", name, decision["key"], refusal)
            self._meter.add(REFUSED)
            return
        self._meter.add(DECISIONS, decision["by"])
        log.info("job %s: %s", name, decision["sentence"])

    def _act(self, name: str, action: Action, memory: JobMemory) -> None:
        """Do what recovery wants; the decision's key makes sure that it is done once."""
        decision, expected = decision_of(action, memory.newest), expected_of(action)
        try:
            if isinstance(action, RollBack):
                self._api.recover(name, decision, to=action.to_round, undoes=action.undoes, expected=expected)
            else:
                self._api.decide(name, decision, expected)
            if isinstance(action, Pause):
                self._api.pause(name, "recovery", action.sentence)
        except Refused as refusal:
            log.warning("job %s: recovery was refused: %s", name, refusal)
            self._meter.add(REFUSED)
            # What comes too late is decided anew; what cannot be done is for a person.
            late = refusal.status == 409
            state = memory.recovery
            memory.recovery = acted(state, action.key) if late else refused(state, action.key, str(refusal))
            return
        log.info("job %s: %s", name, action.sentence)
        self._meter.add(DECISIONS, decision["by"])
        memory.recovery = acted(memory.recovery, action.key)
