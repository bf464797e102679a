"""The part in which people are forgotten: a federation of real processes, a job, `hansa data forget`, another job."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.cli.suite.found import Fact, Found, Rows
from hansa.cli.suite.running import Interrupted, Stage
from hansa.contract.errors import HansaError, InputError

if TYPE_CHECKING:
    import polars as pl

    from hansa.cli.control_client import Control
    from hansa.cli.demo import Demo
    from hansa.cli.instance import MemberFolder
    from hansa.cli.processes import Supervisor
    from hansa.contract.jobs import JobPlan

# Of the library the one scenario whose records say whose they are.
SCENARIO = "hospitals"
PLACE = Path(".hansa/forgetting")
ROUNDS, PEOPLE = 3, 25
REASON = "erasure requests of the suite"
# So long an agent may take to write its figures after a job's end.
_WRITTEN_S = 10.0


@dataclass(frozen=True)
class Counted:
    """How many there are: entities with their records, and held-out records."""

    entities: int
    held_out: int


@dataclass(frozen=True)
class Forgotten:
    """What was seen.

    Parameters
    ----------
    before, after : held-out records that the agent scored in the first and in the second job
    answer : the agent's, to `hansa data forget`
    there, expected : what the data holds with and without those people, counted apart from the agent
    refusal : what was said of a name that no record has
    listed : people on the list, read from the disk when the agent was gone
    rows : people in the ledger's rows
    spent : epsilon by the grant, recomputed after all
    """

    member: str
    before: int
    after: int
    answer: dict[str, Any]
    there: Counted
    expected: Counted
    refusal: str
    listed: int
    rows: int
    spent: dict[str, float]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs; nobody's name is in it."""
        return vars(self) | {
            "there": vars(self.there),
            "expected": vars(self.expected),
            "problems": list(self.problems),
        }

    @property
    def wrong(self) -> list[str]:
        """What does not hold, in sentences."""
        checks = (
            (self.before == self.there.held_out, "the first job did not score all held-out records"),
            (self.after == self.expected.held_out, "the second job scored records of people forgotten"),
            (
                self.answer["left"] == self.expected.entities,
                "the agent goes on with other people than it should",
            ),
            (self.answer["forgotten"] == PEOPLE, "not all who were named were forgotten"),
            (bool(self.refusal), "a name that no record has was not refused"),
            (self.listed == PEOPLE, "the list on the disk is another"),
            (self.rows == PEOPLE, "the ledger says another number"),
        )
        return [sentence for holds, sentence in checks if not holds] + list(self.problems)


@dataclass(frozen=True)
class ForgettingPart:
    """A job, people forgotten at one organisation while everything runs, another job.

    Parameters
    ----------
    scenario : name or folder; its contract must name an entity column
    place : where the instance is made; one of an earlier run is replaced
    """

    scenario: str = SCENARIO
    place: Path = PLACE
    name: str = "forgetting"
    title: str = "people forgotten at one organisation while its federation runs, as real processes"
    command: str = "hansa data forget ENTITY --reason WHY --org NAME --instance .hansa/forgetting"

    def run(self, stage: Stage) -> Found:
        """Provision, start, train, forget, train, stop; then the files are looked at."""
        from hansa.cli.demo import prepare
        from hansa.cli.demo_run import forget_scores
        from hansa.cli.federation import START_S, federation_specs, record_path, supervised

        demo = prepare(
            self.scenario, instance=None, settings=(f"rounds={ROUNDS}",), keep=False, place=self.place
        )
        instance = demo.instance
        member = instance.member(instance.members[0])
        forget_scores(demo)
        with supervised(
            record_path(instance.folder, "up"),
            str(instance.folder),
            federation_specs(instance),
            logs=instance.logs,
            report=stage.say,
        ) as supervisor:
            stage.interruption.at_once = supervisor.hurry
            if not supervisor.wait_ready(START_S, lambda: stage.interruption.requested):
                raise Interrupted
            seen = _while_running(stage, supervisor, demo, member)
        return _found(_looked_at(member, *seen))


def _while_running(
    stage: Stage, supervisor: Supervisor, demo: Demo, member: MemberFolder
) -> tuple[int, int, dict[str, Any], str]:
    """Train, forget, train: held-out records scored before and after, the agent's answer, and its refusal."""
    from hansa.cli.agent_client import command_agent
    from hansa.cli.budgets_decide import who_decides
    from hansa.cli.control_client import Control

    with Control.of(demo.instance, "write") as control:
        before = _trained(stage, supervisor, control, demo.plan, member)
        refusal = _refusal(member)
        answer = command_agent(member, "forget", entities=_named(member), reason=REASON, by=who_decides(None))
        stage.say(
            f"forgetting: {answer['forgotten']} at {member.config.name}, {answer['left']} people are left"
        )
        # A second job of the same plan: what is told apart is the people, nothing else.
        again = demo.plan.model_copy(update={"job": secrets.token_hex(16)})
        after = _trained(stage, supervisor, control, again, member)
    return before, after, answer, refusal


def _trained(
    stage: Stage, supervisor: Supervisor, control: Control, plan: JobPlan, member: MemberFolder
) -> int:
    """Run a job to its end; how many held-out records the agent scored with its model."""
    from hansa.cli.federation import check_given_up
    from hansa.cli.follow import follow
    from hansa.cli.results import read_held_out
    from hansa.clients.personal import personal_path

    member.held_out.unlink(missing_ok=True)
    followed = follow(
        control,
        control.submit(plan),
        wait=stage.interruption.wait,
        seen=lambda _: None,
        check=lambda: check_given_up(supervisor),
    )
    job = followed.job
    if not followed.over:
        raise Interrupted
    if job.status != "finished":
        raise HansaError(f"job {job.job[:8]} is {job.status}: {job.reason or 'see its events'}")
    stage.say(f"forgetting: job {job.job[:8]}, {job.round} rounds")
    # The agent writes this after the scores.
    deadline = time.monotonic() + _WRITTEN_S
    while not personal_path(member.folder, job.job).exists() and time.monotonic() < deadline:
        if stage.interruption.wait(0.05):
            raise Interrupted
    return len(read_held_out(member.held_out).labels)


def _refusal(member: MemberFolder) -> str:
    """What the agent says of a name that no record has; empty where it took it."""
    from hansa.cli.agent_client import command_agent
    from hansa.cli.budgets_decide import who_decides

    try:
        command_agent(member, "forget", entities=["nobody"], reason=REASON, by=who_decides(None))
    except InputError as error:
        return str(error)
    return ""


def _table(member: MemberFolder) -> tuple[pl.DataFrame, pl.Series]:
    """An organisation's records, and whose each is."""
    from hansa.clients.data.columns import as_texts
    from hansa.clients.data.sources import read_source
    from hansa.contract.charter import Charter
    from hansa.contract.typed import read_toml

    entity = read_toml(member.charter, Charter).task.features.entity
    if entity is None:
        raise HansaError(f"{member.charter}: its contract names no entity column")
    table = read_source(member.config.data, member.folder)
    return table, as_texts(table[entity])


def _named(member: MemberFolder) -> list[str]:
    """Names of the people who are forgotten: the first in the data."""
    _, names = _table(member)
    return [str(it) for it in names.drop_nulls().unique(maintain_order=True).to_list()[:PEOPLE]]


def counted(member: MemberFolder, without: Sequence[str] = ()) -> Counted:
    """People and held-out records in an organisation's data once these people's rows are taken out of the table.

    Nothing of the list of forgotten people is read: rows go by the name that stands in them.
    """
    from hansa.clients.data.encode import encode
    from hansa.clients.data.split import split
    from hansa.contract.charter import Charter
    from hansa.contract.keys import read_private
    from hansa.contract.typed import read_toml

    charter = read_toml(member.charter, Charter)
    features = charter.task.features
    table, names = _table(member)
    gone = names.is_in(list(without)).fill_null(value=False)
    parts = split(
        encode(table.filter(~gone), features, member.config.name),
        secret=read_private(member.split_key, length=32),
        holdout=features.holdout,
        max_records=charter.training.max_records,
    )
    return Counted(parts.train.entity_count + parts.holdout.entity_count, len(parts.holdout))


def _looked_at(
    member: MemberFolder, before: int, after: int, answer: dict[str, Any], refusal: str
) -> Forgotten:
    """What the files say when no process runs any more."""
    from hansa.cli.budgets_proof import prove
    from hansa.clients.forgotten import FORGOTTEN, read_decisions
    from hansa.clients.ledger import LEDGER, read_rows
    from hansa.privacy.records import ForgetRow

    proof = prove(member)
    bodies = [it.body for it in read_rows(member.folder / LEDGER)]
    decisions = read_decisions(member.folder / FORGOTTEN)
    return Forgotten(
        member=member.config.name,
        before=before,
        after=after,
        answer={name: it for name, it in answer.items() if name != "ok"},
        there=counted(member),
        expected=counted(member, _named(member)),
        refusal=refusal,
        listed=sum(int(str(it["entities"])) for it in decisions),
        rows=sum(it.entities for it in bodies if isinstance(it, ForgetRow)),
        spent=dict(proof.verified.epsilon),
        problems=tuple(proof.problems),
    )


def _found(seen: Forgotten) -> Found:
    spent = "; ".join(f"{value:.4g} of grant '{name}'" for name, value in seen.spent.items())
    rows = (
        ("people in the data", str(seen.there.entities)),
        ("people forgotten, by the agent's answer", str(seen.answer["forgotten"])),
        ("people the agent goes on with", f"{seen.answer['left']}, expected {seen.expected.entities}"),
        ("held-out records scored in the job before", f"{seen.before}, expected {seen.there.held_out}"),
        ("held-out records scored in the job after", f"{seen.after}, expected {seen.expected.held_out}"),
        ("a name that no record has", f"refused: {seen.refusal}" if seen.refusal else "NOT REFUSED"),
        ("people on the list on the disk, the agent gone", str(seen.listed)),
        ("people in the ledger's rows", str(seen.rows)),
        ("the ledger, recomputed", seen.problems[0] if seen.problems else "holds"),
        ("epsilon spent, which stays", spent),
    )
    wrong = seen.wrong
    return Found(
        sentences=(
            f"Two jobs of {ROUNDS} rounds, and between them `hansa data forget` at {seen.member}. What is expected is "
            "counted in the data itself, without the rows of those people.",
            f"The agent says: {seen.answer['says']}.",
        ),
        headline=(
            Fact("people forgotten", int(seen.answer["forgotten"])),
            Fact("held-out records before", seen.before),
            Fact("after", seen.after),
            Fact("what was expected", "no" if wrong else "yes"),
        ),
        tables=(Rows(f"People forgotten at {seen.member}", ("what", "found"), rows),),
        data=seen.as_json(),
        problem=wrong[0] if wrong else "",
    )
