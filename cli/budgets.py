"""`hansa budgets`: what may be learnt from an organisation's records, what was, and the proof."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hansa.cli.budgets_decide import Folder, Org, freeze, grant, recover, unfreeze
from hansa.cli.reach import ControlOption, InstanceOption, JsonOption, reach
from hansa.contract.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Privacy budgets: at an organisation by --org or --folder, else the server's mirror.",
)


@app.command()
def show(
    org: Org = None,
    folder: Folder = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Granted, spent, remaining, by grant and by job. Without an organisation: the server's mirror."""
    from hansa.cli.attention import apart_sentence
    from hansa.cli.budgets_shown import MIRROR, mirror_lines, own_lines, print_grants, print_jobs

    apart: list[str] = []
    if org is None and folder is None:
        with reach(control, instance) as desk:
            grants, spendings = desk.budgets(), desk.spendings()
            names = {it.job: it.name for it in desk.jobs()}
            members = desk.members()
        if as_json:
            _print(
                {
                    "mirror": True,
                    "says": MIRROR,
                    "grants": [it.model_dump(mode="json") for it in grants],
                    "jobs": [it.model_dump(mode="json") for it in spendings],
                    "apart": {it.name: it.apart for it in members if it.apart},
                }
            )
            return
        typer.echo(MIRROR)
        lines, jobs = mirror_lines(
            grants, spendings, names, {it.name for it in members}, {it.name for it in members if it.apart}
        )
        apart = [f"{it.name} {apart_sentence(it)}" for it in members if it.apart]
    else:
        from hansa.cli.budgets_answers import ask_budgets
        from hansa.cli.instance import choose_member

        budgets = ask_budgets(choose_member(org, folder, instance))
        if as_json:
            _print({"mirror": False, **budgets.model_dump(mode="json")})
            return
        if budgets.noise == "none":
            typer.echo(
                f"{budgets.member}: the charter has no noise: nothing is charged, and nothing is bounded"
            )
            return
        row = "" if budgets.head is None else f"; ledger at row {budgets.head.sequence}"
        typer.echo(f"{budgets.member}: noise {budgets.noise}, no grant's delta above {budgets.delta:g}{row}")
        if budgets.missing:
            typer.secho(f"warning: {budgets.missing}", fg="yellow")
        lines, jobs = own_lines(budgets, datetime.now(UTC))
    print_grants(lines)
    for sentence in apart:
        typer.echo(sentence)
    if jobs:
        print_jobs(jobs)


for decision in (grant, freeze, unfreeze, recover):
    app.command()(decision)


@app.command()
def history(
    last: Annotated[int, typer.Option(min=1, help="So many rows or receipts at most, the newest.")] = 40,
    org: Org = None,
    folder: Folder = None,
    control: ControlOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every row of an organisation's ledger. Without an organisation: the receipts of the server's mirror."""
    from hansa.cli.budgets_shown import MIRROR, print_receipts, print_rows
    from hansa.cli.listing import print_json

    if org is None and folder is None:
        with reach(control, instance) as desk:
            receipts = desk.receipts()[-last:]
        if as_json:
            print_json(receipts)
            return
        typer.echo(MIRROR)
        print_receipts(receipts)
        return
    from hansa.cli.budgets_ledger import open_ledger
    from hansa.cli.instance import choose_member

    source = open_ledger(choose_member(org, folder, instance))
    rows = list(source.rows())[-last:]
    if as_json:
        print_json(rows)
        return
    typer.echo(f"read from {source.origin}")
    print_rows(rows)


@app.command()
def verify(
    org: Org = None,
    folder: Folder = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """At an organisation: recompute the whole ledger, by other software, and hold it against the uploads on record."""
    from hansa.cli.budgets_proof import prove
    from hansa.cli.instance import choose_member

    proof = prove(choose_member(org, folder, instance))
    if as_json:
        _print(proof.as_json())
    else:
        for line in proof.lines():
            typer.echo(line)
    proof.check()


@app.command()
def export(
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    org: Org = None,
    folder: Folder = None,
    instance: InstanceOption = None,
) -> None:
    """At an organisation: the whole ledger as JSON for a regulator, with what each charge means and how to check it."""
    from hansa.cli.budgets_export import export_document
    from hansa.cli.instance import choose_member
    from hansa.cli.outbox_source import note_file
    from hansa.contract.typed import write_atomically

    if out is not None and out.exists() and not force:
        raise InputError(f"{out}: is there already; --force replaces it")
    member = choose_member(org, folder, instance)
    document = json.dumps(export_document(member, datetime.now(UTC)), indent=2, ensure_ascii=False)
    content = document.encode() + b"\n"
    note_file(member, "ledger", out or Path("-"), content)
    if out is None:
        typer.echo(document)
        return
    try:
        write_atomically(out, content, mode=0o600)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    typer.echo(f"{out}: the ledger of {member.config.name}; it names people who decided, and no record")


@app.command()
def plan(
    scenario: Annotated[
        str | None, typer.Option(help="Take what is not said here from a scenario's name or folder.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds; default 60.")] = None,
    steps: Annotated[int | None, typer.Option(help="Noised steps of each round; default 1.")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Of the grant; default 8.")] = None,
    delta: Annotated[float | None, typer.Option(help="Of the grant; default 1e-5.")] = None,
    share: Annotated[float | None, typer.Option(help="Of the grant, for this job; default 0.3.")] = None,
    members: Annotated[int | None, typer.Option(help="Organisations in a cohort; default 5.")] = None,
    records: Annotated[float | None, typer.Option(help="Training records of all of them together.")] = None,
    prevalence: Annotated[float | None, typer.Option(help="Share of the positive class.")] = None,
    columns: Annotated[int | None, typer.Option(help="Model columns, without the intercept.")] = None,
    evaluate_every: Annotated[int | None, typer.Option(help="Rounds between evaluations; default 1.")] = None,
    check: Annotated[
        bool | None, typer.Option("--check/--no-check", help="Begin with the noised contract check.")
    ] = None,
    currency: Annotated[str | None, typer.Option(metavar="gdp|rdp", help="Default gdp.")] = None,
    sampling_rate: Annotated[float | None, typer.Option(help="Below 1: steps over Poisson samples.")] = None,
    noise: Annotated[str | None, typer.Option(metavar="local|distributed", help="Default local.")] = None,
    s: Annotated[
        int | None, typer.Option("--s", help="Of distributed noise: who may collude or drop.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Before anything is spent: what noise a budget brings, what a round costs, and whether it can teach anything.

    A job that no member would take is one sentence on why, with exit code 2.
    """
    from hansa.cli.budgets_plan import PlanInput, plan_budget, plan_lines, scenario_facts
    from hansa.cli.listing import print_facts, print_json
    from hansa.contract.errors import RefusalError
    from hansa.contract.typed import parse_document

    given: dict[str, Any] = {
        "rounds": rounds,
        "steps": steps,
        "evaluate_every": evaluate_every,
        "check": check,
        "epsilon": epsilon,
        "delta": delta,
        "currency": currency,
        "share": share,
        "sampling_rate": sampling_rate,
        "noise": noise,
        "s": s,
        "members": members,
        "records": records,
        "prevalence": prevalence,
        "parameters": None if columns is None else columns + 1,
    }
    facts = scenario_facts(scenario) if scenario is not None else {}
    facts |= {name: value for name, value in given.items() if value is not None}
    try:
        planned = plan_budget(parse_document(facts, PlanInput, "budgets plan"))
    except RefusalError as refusal:
        raise InputError(f"budgets plan: {refusal.sentence}") from None
    if as_json:
        print_json(planned)
        return
    print_facts(plan_lines(planned))


def _print(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value))
