"""One job under the sidecar's eyes: what is remembered of it, what a look at it finds, and what is to be done.

A look is pure: memory and answers in, memory and acts out. Memory is saved before anything is done, and every act
carries a key that control enters once, so that a sidecar may be killed anywhere and does nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .anomaly import Alarm, Watch
from .answers import (
    RATE,
    attempt_facts,
    course_readings,
    evaluators,
    failed_attempts,
    figure_readings,
    initial_fact,
    round_facts,
    seen_now,
)
from .job_facts import RoundFact
from .members import MemberCounts, audit_due, counted, suggestions
from .recovery import Action, Pause, RecoveryState, RollBack, acted, decide
from .tuner import guard

# So many of the newest rounds and failed attempts are remembered: more than any policy looks at.
ROUNDS = 48
# Figures of a round come with the round after it: so many are asked for again.
OVERLAP = 3
# After a probe was asked for, none is for so many attempts.
PROBE_REST = 10
# Alarms and audits that are remembered.
MOST_ALARMS = 32
# Members that a sentence names.
MOST_NAMED = 4
# How long rounds take is told once in so many seconds about the same members.
COURSE_REST_S = 3600.0
VERSION = 1


@dataclass
class JobMemory:
    """Everything that is remembered of one job, in bounded size; goes through JSON.

    Parameters
    ----------
    rounds : records of the newest rounds that stand, the newest last
    attempt : newest attempt that was looked at once it was over
    outbox : acts that control has not confirmed
    read : newest attempt whose course was read
    asked : the attempt at which a probe was asked for last
    alarmed : rounds of the latest alarms about the model, for the worse
    course : when it was told last that rounds take another time, by the members that stood out
    audits : first and last rounds of the latest audits
    decided : newest decision that was looked at
    findings : of audits, whose members are still to be held out
    """

    watch: Watch = field(default_factory=lambda: Watch("rounds"))
    recovery: RecoveryState = field(default_factory=RecoveryState)
    counts: MemberCounts = field(default_factory=MemberCounts)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    initial: RoundFact | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)
    attempt: int = 0
    read: int = 0
    asked: int = 0
    alarmed: list[int] = field(default_factory=list)
    course: dict[str, float] = field(default_factory=dict)
    audits: list[list[int]] = field(default_factory=list)
    decided: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    outbox: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "version": VERSION,
            "watch": self.watch.state(),
            "recovery": self.recovery.as_json(),
            "counts": self.counts.as_json(),
            "rounds": self.rounds,
            "failures": self.failures,
            "attempt": self.attempt,
            "read": self.read,
            "asked": self.asked,
            "alarmed": self.alarmed,
            "course": self.course,
            "audits": self.audits,
            "decided": self.decided,
            "findings": self.findings,
            "outbox": self.outbox,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> JobMemory:
        """What `as_json` wrote.

        Errors
        ------
        ValueError : the state is of another version
        """
        if state.get("version") != VERSION:
            raise ValueError(f"the sidecar's memory is of version {state.get('version')}, not {VERSION}")
        return cls(
            watch=Watch.restore(state["watch"]),
            recovery=RecoveryState.from_json(state["recovery"]),
            counts=MemberCounts.from_json(state["counts"]),
            rounds=list(state["rounds"]),
            failures=list(state["failures"]),
            attempt=state["attempt"],
            read=state["read"],
            asked=state["asked"],
            alarmed=list(state["alarmed"]),
            course=dict(state.get("course", {})),
            audits=list(state["audits"]),
            decided=state["decided"],
            findings=list(state["findings"]),
            outbox=list(state["outbox"]),
        )

    @property
    def newest(self) -> int:
        """The newest round that is known to stand."""
        return self.rounds[-1]["round"] if self.rounds else 0


def fits(memory: JobMemory, records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these rounds follow those that are remembered; if not, the job went back and all are asked for again."""
    known = {it["round"]: it["attempt"] for it in memory.rounds}
    overlap = [it for it in records if it["round"] in known]
    return not memory.rounds or (bool(overlap) and all(known[it["round"]] == it["attempt"] for it in overlap))


def remembered(memory: JobMemory, records: Sequence[dict[str, Any]], *, anew: bool) -> None:
    """Take these rounds for those that stand.

    Parameters
    ----------
    anew : all that are remembered may be gone
    """
    newest = {} if anew else {it["round"]: it for it in memory.rounds}
    newest |= {it["round"]: _short(it, memory.read) for it in records}
    memory.rounds = [newest[number] for number in sorted(newest)][-ROUNDS:]


def _short(record: dict[str, Any], read: int) -> dict[str, Any]:
    """A record without what nobody reads again."""
    dropped = {"left_out", *(("participation",) if record["attempt"] <= read else ())}
    return {name: it for name, it in record.items() if name not in dropped}


def look(
    memory: JobMemory,
    job: Mapping[str, Any],
    attempts: Sequence[dict[str, Any]],
    kept: Iterable[Mapping[str, Any]],
    knobs: Sequence[Mapping[str, Any]],
    charter: Mapping[str, Any],
    initial: Sequence[Mapping[str, Any]] = (),
) -> Action | None:
    """Judge what is new, put what is to be said into the outbox, and say what recovery wants done.

    Parameters
    ----------
    attempts : those above `memory.attempt`
    charter : what control says of it
    initial : figures of the initial model, where they are still of interest
    """
    over = [it for it in attempts if it["status"] not in ("open", "summed")]
    _count_members(memory, over)
    # An attempt whose step is being tried is over after its probe.
    under_way = min((it["attempt"] for it in attempts if it not in over), default=None)
    for it in over:
        if under_way is None or it["attempt"] < under_way:
            memory.attempt = max(memory.attempt, it["attempt"])
    failed = {it["attempt"]: it for it in (*memory.failures, *over) if it["status"] == "failed"}
    memory.failures = [failed[number] for number in sorted(failed)][-ROUNDS:]
    memory.initial = initial_fact(initial) or memory.initial
    whose = evaluators(memory.rounds)
    usual = Counter(whose).most_common(1)[0][0] if whose else frozenset[str]()
    for record, by in zip(memory.rounds, whose, strict=True):
        # On other members' records a model has other figures, and that is no anomaly.
        readings = figure_readings(record) if by == usual else []
        if record["attempt"] > memory.read:
            readings = [*course_readings(record), *readings]
        for reading in readings:
            alarm = memory.watch.see(reading)
            if alarm is not None:
                _tell(memory, job, record, alarm)
    memory.rounds = [_short(it, it["attempt"]) for it in memory.rounds]
    memory.read = max(memory.read, max((it["attempt"] for it in memory.rounds), default=0))
    facts = round_facts(memory.rounds)
    if memory.initial is not None and len(facts) < ROUNDS:
        facts.insert(0, memory.initial)
    _guard(memory, job)
    _ask_for_audit(memory, charter)
    if knobs and all(it["pinned"] for it in knobs):
        # Somebody switched the tuner off: what is seen is said, and nothing is done.
        if memory.recovery.pending is not None:
            memory.recovery = acted(memory.recovery, memory.recovery.pending.key)
        return None
    seen = seen_now(job, facts, failed_attempts(memory.failures), kept, knobs)
    memory.recovery, action = decide(memory.recovery, seen)
    return action


def find(memory: JobMemory, decisions: Sequence[dict[str, Any]]) -> None:
    """Remember whom audits want held out, unless somebody was held out on their account before.

    Parameters
    ----------
    decisions : those above `memory.decided`, which they raise
    """
    done = {it["key"] for it in decisions}
    memory.decided = max([memory.decided, *(it["id"] for it in decisions)])
    memory.findings += [
        it
        for it in decisions
        if it["by"] == "audit" and it["inputs"].get("quarantine") == 1 and quarantine_key(it) not in done
    ]


def quarantine_key(found: Mapping[str, Any]) -> str:
    """Names the decision that a finding was acted on."""
    return f"quarantine by {found['key']}"


def decision_of(action: Action, newest: int) -> dict[str, Any]:
    """What control is told of an action of recovery, with the rate that it sets."""
    rate = None if isinstance(action, Pause) else action.rate
    before = None if isinstance(action, Pause) else action.rate_before
    inputs: dict[str, Any] = dict(action.evidence)
    if isinstance(action, RollBack):
        inputs["to_round"] = action.to_round
    if before is not None:
        inputs["rate_before"] = before
    return {
        "key": f"recovery: {action.key}",
        "by": "recovery",
        "round": newest,
        "sentence": action.sentence,
        "knobs": {} if rate is None or rate == before else {"server_rate": rate},
        "inputs": inputs,
    }


def expected_of(action: Action) -> dict[str, float]:
    """What the rate must be for an action to be done."""
    if isinstance(action, Pause) or action.rate_before is None or action.rate in (None, action.rate_before):
        return {}
    return {"server_rate": action.rate_before}


def _guard(memory: JobMemory, job: Mapping[str, Any]) -> None:
    """A loss that rises, if too slowly for an alarm, has the next step probed."""
    if job["plan"].get("tuning") != "probe":
        return
    losses = [it for record in memory.rounds for it in figure_readings(record) if it.metric == "loss"]
    found = guard(job["job"], losses, RATE, asked=[memory.asked] if memory.asked else [])
    if found is not None:
        # Attempts are counted here: rounds come again where a job goes back.
        memory.asked = found.round
        _say(memory, f"tuner: probe {found.round}", "tuner", found.sentence, dict(found.inputs), probe=True)


def _ask_for_audit(memory: JobMemory, charter: Mapping[str, Any]) -> None:
    plan = audit_due(
        memory.alarmed,
        memory.newest,
        groups=charter["audit_groups"],
        mode=charter["mode"],
        controllers=charter["controllers"],
        audited=[(first, last) for first, last in memory.audits],
    )
    if plan is not None:
        memory.audits = [*memory.audits, [plan.first, plan.last]][-MOST_ALARMS:]
        inputs = {"first": plan.first, "last": plan.last}
        _say(memory, f"audit {plan.first}", "audit", plan.sentence, inputs)


def _count_members(memory: JobMemory, over: Iterable[Mapping[str, Any]]) -> None:
    facts = [it for it in map(attempt_facts, over) if it is not None]
    memory.counts, found = suggestions(counted(memory.counts, facts))
    for it in found:
        inputs: dict[str, Any] = {"member": it.member, "fault": it.fault, **it.evidence}
        _say(memory, f"members: {it.key}", "members", it.sentence, inputs)


def _tell(memory: JobMemory, job: Mapping[str, Any], record: Mapping[str, Any], alarm: Alarm) -> None:
    """An alarm is a decision that sets nothing; where the model got worse, a probe of the next step is asked for."""
    number, attempt = record["round"], record["attempt"]
    if alarm.metric == "seconds" and not _due(memory, record, alarm):
        return
    sentence = alarm.sentence.replace(f"(round {attempt:g})", f"(round {number})")
    evidence = {name: it for name, it in alarm.as_json()["evidence"].items() if it is not None}
    inputs: dict[str, Any] = {
        "metric": alarm.metric,
        "kind": alarm.kind,
        "severity": alarm.severity,
        **evidence,
    }
    if alarm.members:
        inputs["members"] = list(alarm.members)
        what = "Without" if alarm.metric == "participation" else "Standing out"
        names, rest = alarm.members[:MOST_NAMED], len(alarm.members) - MOST_NAMED
        sentence = f"{sentence} {what}: {', '.join(names)}{f' and {rest} more' if rest > 0 else ''}."
    _say(memory, f"watch: {alarm.metric} {alarm.kind} {attempt}", "watch", sentence, inputs)
    worse = alarm.metric in ("loss", "auc") and alarm.severity != "notice"
    if worse:
        memory.alarmed = [*memory.alarmed, number][-MOST_ALARMS:]
    if worse and job["plan"].get("tuning") == "probe" and attempt >= memory.asked + PROBE_REST:
        memory.asked = attempt
        asks = f"the next step that may be is probed, because {sentence[:1].lower()}{sentence[1:]}"
        _say(memory, f"tuner: probe {attempt}", "tuner", asks, {"metric": alarm.metric}, probe=True)


def _due(memory: JobMemory, record: Mapping[str, Any], alarm: Alarm) -> bool:
    """Whether nothing of the kind was told within the hour, or not of members that stand out; it is told now."""
    at = datetime.fromisoformat(record["applied"]).timestamp()
    # Only who slows rounds down is worth a line of its own.
    about = " ".join(alarm.members) if alarm.direction == "up" else ""
    if at - memory.course.get(about, float("-inf")) < COURSE_REST_S:
        return False
    told = {**memory.course, about: at}
    memory.course = dict(sorted(told.items(), key=lambda it: it[1])[-MOST_ALARMS:])
    return True


def _say(
    memory: JobMemory, key: str, by: str, sentence: str, inputs: dict[str, Any], *, probe: bool = False
) -> None:
    decision = {"key": key, "by": by, "round": memory.newest, "sentence": sentence, "inputs": inputs}
    memory.outbox.append({**decision, "probe": probe} if probe else decision)
