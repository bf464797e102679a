"""`hansa simulate`: the same strategy and agents in one process, for tests, experiments and many members."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.cli.comparison import Comparison
    from hansa.cli.results import RoundLine
    from hansa.cli.simulation import SimulatedFederation, SimulatedJob
    from hansa.contract.scenario import Scenario

app = typer.Typer(add_completion=False)


@app.command()
def simulate(
    scenario: Annotated[str, typer.Argument(help="A scenario's name or folder.")] = "consortium",
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, instead of the scenario's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the scenario, e.g. model=mlp."),
    ] = None,
    members: Annotated[
        int | None, typer.Option(min=2, help="So many members, made by the scenario's generators.")
    ] = None,
    masked: Annotated[
        bool,
        typer.Option(
            "--masked", help="Mask and unmask as the scenario says: the same bits, slower with many members."
        ),
    ] = False,
    split: Annotated[int, typer.Option(min=0, help="Which hold-out split.")] = 0,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Also train every member alone, each a personal version, and one model on all records.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object as the last line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every round.")] = False,
) -> None:
    """Run a scenario's job in this process and print what it reached."""
    from hansa.cli import comparison

    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s %(message)s")
    federation, done = simulated(
        scenario, rounds=rounds, settings=settings or (), members=members, masked=masked, split=split
    )
    compared = comparison.compare(federation, done.released, done.job.plan.seed) if compare else None
    _show(federation, done, compared, as_json=as_json)


def simulated(
    scenario: str,
    *,
    rounds: int | None = None,
    settings: Sequence[str] = (),
    members: int | None = None,
    masked: bool = False,
    split: int = 0,
) -> tuple[SimulatedFederation, SimulatedJob]:
    """A scenario's job in this process, as the command runs it.

    Raises
    ------
    InputError : an unknown scenario, a setting or a job that does not fit
    """
    import secrets
    from datetime import UTC, datetime

    from hansa.cli import simulation
    from hansa.cli.overrides import override
    from hansa.contract.jobs import JobPlan
    from hansa.contract.library import scenario_folder
    from hansa.contract.scenario import read_scenario
    from hansa.server.control.submission import check_plan

    folder = scenario_folder(scenario)
    read, features = read_scenario(folder)
    changed = override(read, [*settings, *([f"rounds={rounds}"] if rounds else [])])
    changed = many(changed, members) if members else changed
    changed = changed if masked else in_the_clear(changed)
    federation = simulation.federation(changed, features, folder=folder, split_seed=split)
    plan = JobPlan(job=secrets.token_hex(16), name=changed.name, **dict(changed.job))
    # What control would not take is not simulated either.
    check_plan(plan, federation.charter, datetime.now(UTC))
    return federation, simulation.run(federation, plan)


def in_the_clear(scenario: Scenario) -> Scenario:
    """The scenario without masks: in one process they hide nothing, and the sums are the same without.

    Noise that members share has no meaning without masks; it keeps them.
    """
    if scenario.privacy.noise == "distributed":
        return scenario
    protection = scenario.protection.model_copy(update={"mode": "clear", "audit_groups": None})
    return scenario.model_copy(update={"protection": protection})


def many(scenario: Scenario, members: int) -> Scenario:
    """The scenario with so many members: its generated ones again and again, each with a seed of its own.

    Raises
    ------
    InputError : a member's records come from a file, so there is nothing to make more of
    """
    from hansa.contract.errors import InputError
    from hansa.contract.sources import SyntheticSource

    made = []
    for number in range(members):
        original = scenario.members[number % len(scenario.members)]
        if not isinstance(original.data, SyntheticSource):
            raise InputError(
                f"--members: the records of '{original.name}' are not generated; there are no more of them"
            )
        again = number // len(scenario.members)
        if again == 0:
            made.append(original)
            continue
        data = original.data.model_copy(update={"seed": original.data.seed + 1_000_003 * again})
        name = f"{original.name[:56]}-{again + 1}"
        title = f"{original.title} {again + 1}" if original.title else ""
        update = {"name": name, "title": title, "controller": name, "data": data}
        made.append(original.model_copy(update=update))
    return scenario.model_copy(update={"members": tuple(made)})


def _show(
    federation: SimulatedFederation, done: SimulatedJob, compared: Comparison | None, *, as_json: bool
) -> None:
    from hansa.cli.results import HeldOut, exact_figures, local_table, result_object, rounds_table

    lines = round_lines(done)
    released = done.job.results[-1].metrics
    held_out = {
        name: HeldOut(part.holdout.y, federation.predict(done.released, part.holdout.X))
        for name, part in federation.records.items()
    }
    local = exact_figures(held_out, federation.charter.task.features.label)
    if as_json:
        more = {"compare": compared.as_json()} if compared else {}
        print(json.dumps(result_object(done.job.status, lines, released=released, local=local, more=more)))
        return
    from rich.console import Console

    console = Console()
    if len(federation.charter.members) == 2:
        console.print(
            "two members: each can subtract its own update from the sum; nothing is hidden from the other"
        )
    if lines:
        console.print(rounds_table(lines, width=console.width, last=10))
    else:
        console.print("no round was applied")
    titles = {member.name: member.title for member in federation.charter.members}
    noise = federation.charter.privacy.noise
    if compared and noise != "none":
        console.print(
            f"federated with noise {noise}, personalised from it at home; own and pooled without noise"
        )
    console.print(comparison_table(compared, titles) if compared else local_table(local, titles))


def round_lines(done: SimulatedJob) -> list[RoundLine]:
    """Applied rounds, each with the released figures of the model it led to."""
    from hansa.cli.results import RoundLine

    figures = {result.base: result.metrics for result in done.job.results if result.metrics}
    return [
        RoundLine(
            round=result.round,
            seconds=result.seconds,
            cohort=result.active,
            metrics=figures.get(result.round, {}),
        )
        for result in done.rounds
        if result.round is not None
    ]


def comparison_table(compared: Comparison, titles: dict[str, str]) -> object:
    """Own, federated, personalised and pooled side by side, by the label's first figure."""
    from rich.table import Table

    from hansa.cli.comparison import WAYS
    from hansa.cli.results import shown_figure

    name = next(iter(compared.federated))
    ways = [getattr(compared, way) for way in WAYS]
    table = Table(f"{name} on held-out records", *WAYS)
    for member in compared.own[name].per_member:
        row = (way[name].per_member[member] for way in ways)
        table.add_row(titles.get(member) or member, *(shown_figure(value) for value in row))
    table.add_section()
    means = (way[name].mean for way in ways)
    table.add_row("mean of members", *(shown_figure(value) for value in means))
    return table
