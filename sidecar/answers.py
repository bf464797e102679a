"""What control answers, as the facts that the policies decide from. Pure; what is missing or malformed is left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .anomaly import Reading, standing_out
from .job_facts import LOSSES, SCORES, FailedAttempt, Figure, RoundFact, Seen, figures_of
from .members import AttemptFacts, fault_of

RATE = "server_rate"
# How a failed attempt says that its model had values that are no numbers (`contract.jobs.NOT_FINITE`).
NOT_FINITE = "not finite"


def round_fact(record: Mapping[str, Any]) -> RoundFact:
    """A round that stands."""
    loss, score = figures_of(_figures(record.get("metrics") or {}))
    rate, step, slope = record.get("knobs", {}).get(RATE), record.get("step"), record.get("slope")
    steep = None if slope is None else _figures({"slope": slope})["slope"]
    return RoundFact(record["round"], record["attempt"], loss, score, rate=rate, step=step, slope=steep)


def round_facts(records: Sequence[Mapping[str, Any]]) -> list[RoundFact]:
    """Rounds that stand, the newest last.

    Figures and slopes hang on whose records they were made of: those of other members than the newest ones' are not
    known, because no difference between them says that the model got worse.
    """
    newest = frozenset(records[-1]["active"]) if records else frozenset()
    whose = evaluators(records)
    measured = [it for it, record in zip(whose, records, strict=True) if record.get("metrics")]
    found = []
    for record, by in zip(records, whose, strict=True):
        fact = round_fact(record)
        if frozenset(record["active"]) != newest:
            fact = replace(fact, slope=None)
        if not measured or by != measured[-1]:
            fact = replace(fact, loss=None, score=None)
        found.append(fact)
    return found


def evaluators(records: Sequence[Mapping[str, Any]]) -> list[frozenset[str]]:
    """On whose records each round's model was evaluated: that rides with the next round."""
    found = []
    for place, record in enumerate(records):
        follows = records[place + 1 : place + 2]
        rides = bool(follows) and follows[0]["round"] == record["round"] + 1
        found.append(frozenset((follows[0] if rides else record)["active"]))
    return found


def initial_fact(metrics: Iterable[Mapping[str, Any]]) -> RoundFact | None:
    """Round 0, where the initial model was evaluated."""
    found = {it["name"]: it for it in metrics if it["round"] == 0}
    loss, score = figures_of(_figures(found))
    return None if loss is None and score is None else RoundFact(0, 0, loss, score)


def failed_attempts(records: Iterable[Mapping[str, Any]]) -> tuple[FailedAttempt, ...]:
    """Train attempts that became no round."""
    found = []
    for it in records:
        if it["kind"] == "train" and it["status"] == "failed":
            broken = NOT_FINITE in it.get("reason", "")
            kind = "not-finite" if broken else "other"
            found.append(FailedAttempt(it["attempt"], kind, it.get("knobs", {}).get(RATE)))  # type: ignore[arg-type]
    return tuple(found)


def seen_now(
    job: Mapping[str, Any],
    rounds: Sequence[RoundFact],
    failures: Sequence[FailedAttempt],
    kept: Iterable[Mapping[str, Any]],
    knobs: Iterable[Mapping[str, Any]],
) -> Seen:
    """What recovery decides from."""
    rate = next((it for it in knobs if it["name"] == RATE), None)
    movable = rate is not None and not rate["pinned"]
    # Somebody wants it to rest: it is as good as paused.
    status = "paused" if job["wanted"] != "run" and job["status"] in ("running", "queued") else job["status"]
    return Seen(
        rounds=tuple(rounds),
        failures=tuple(failures),
        kept=tuple(it["round"] for it in kept),
        rate=rate["value"] if rate is not None and movable else None,
        low=rate["low"] if rate is not None else 0.0,
        status=status,
    )


def attempt_facts(record: Mapping[str, Any]) -> AttemptFacts | None:
    """Who failed in an attempt that is over; None while it is under way, or was given up with the server's process."""
    if record["status"] in ("open", "summed", "abandoned"):
        return None
    faults = [
        (fault, it["member"])
        for it in record.get("participation", ())
        if (fault := fault_of(it["outcome"], it.get("code", ""))) is not None
    ]
    return AttemptFacts(record["attempt"], tuple(record["cohort"]), tuple(faults))


def course_readings(record: Mapping[str, Any]) -> list[Reading]:
    """How a round went: seconds, and who took part. `at` is the attempt, which rises also where a job goes back."""
    at, cohort, active = record["attempt"], record["cohort"], record["active"]
    seconds = {
        it["member"]: it["seconds"] for it in record.get("participation", ()) if it["outcome"] == "replied"
    }
    missing = tuple(sorted(set(cohort) - set(active)))
    share = len(active) / len(cohort) if cohort else None
    return [
        Reading("seconds", at, _number(record.get("seconds")), members=standing_out(seconds)),
        Reading("participation", at, share, members=missing),
    ]


def figure_readings(record: Mapping[str, Any]) -> list[Reading]:
    """How good the model after a round is; empty until it was evaluated."""
    at, figures = record["attempt"], _figures(record.get("metrics") or {})
    found = []
    for metric, names in (("loss", LOSSES), ("auc", SCORES)):
        name = next((it for it in names if it in figures), None)
        # A series of its own for each figure: noise hides an AUC in one round and not in the next.
        if name is not None:
            figure, series = figures[name], name if name == "accuracy" else metric
            found.append(Reading(series, at, figure.value, figure.error))
    return found


def _figures(metrics: Mapping[str, Any]) -> dict[str, Figure]:
    found = {}
    for name, it in metrics.items():
        value = it.get("value")
        # JSON has no other way to say that it is no number.
        found[name] = Figure(math.nan if value is None else float(value), _number(it.get("error")), name)
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
