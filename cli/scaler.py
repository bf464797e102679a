"""`hansa scaler`: replicas of the scaled services, what is wanted of them and why, and what that costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from hansa.cli.reach import ControlOption, InstanceOption, JsonOption
from hansa.contract.errors import HansaError, InputError
from hansa.contract.logs import FORMS, LEVELS, LOG_VARIABLE, say_failure, start_logging

if TYPE_CHECKING:
    from hansa.sidecar.scaler.journal import Entry, Journal
    from hansa.sidecar.scaler.services import Services
    from hansa.sidecar.server_api import ServerApi

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Replicas of services: what is wanted, why, and what it costs.",
)

ServicesOption = Annotated[
    Path | None, typer.Option("--services", help="scaler.toml; default: the instance's sidecar/scaler.toml.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", help="Folder of what the scaler remembers; default: the instance's."),
]
ServiceArgument = Annotated[
    str | None, typer.Argument(help="A service's name; default: all.", show_default=False)
]


@app.command()
def status(state: StateOption = None, instance: InstanceOption = None, as_json: JsonOption = False) -> None:
    """Each service: replicas, forecast, pattern, cost, regret, and whether it is paused."""
    from hansa.cli.scaler_shown import status_rows, status_titles
    from hansa.sidecar.scaler.journal import paused_because

    journal = _journal(state, instance)
    paused = journal.paused()
    found = [it for name in journal.services() if (it := journal.load(name).newest) is not None]
    if as_json:
        lines = [{**it.as_json(), "paused": paused_because(paused, it.decision.service)} for it in found]
        typer.echo(json.dumps(lines))
        return
    _table(status_titles, status_rows(found, paused), f"nothing was decided yet in {journal.folder}")


@app.command()
def history(
    service: ServiceArgument = None,
    last: Annotated[int, typer.Option(min=1, help="Only the newest so many.")] = 20,
    changes: Annotated[
        bool, typer.Option("--changes", help="Only those that wanted another number.")
    ] = False,
    control: ControlOption = None,
    state: StateOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What was decided, why, and what became of it; the newest last. With --control as control has it."""
    from hansa.cli.scaler_shown import history_rows, history_titles

    if control is not None and state is None:
        found = _of_control(control, instance, service)
    else:
        found = _journal(state, instance).history(service, last=100_000)
    if changes:
        found = [it for it in found if it.decision.wanted != it.decision.current]
    found = found[-last:]
    if as_json:
        typer.echo(json.dumps([it.as_json() for it in found]))
        return
    _table(history_titles, history_rows(found), "nothing was decided yet")


@app.command()
def plan(
    services: ServicesOption = None,
    control: ControlOption = None,
    state: StateOption = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What would be done now, and why; nothing is done and nothing is written."""
    from hansa.cli.scaler_shown import plan_lines
    from hansa.sidecar.actuators import ActuatorError
    from hansa.sidecar.scaler.build import make_parts
    from hansa.sidecar.scaler.shell import decide, make_policy

    wanted, journal = _services(services, instance), _journal(state, instance)
    api = _api(wanted, control, instance)
    found = []
    for it in wanted.services:
        try:
            parts = make_parts(it, journal.folder, api, observe=True)
            policy = make_policy(it.name, parts.policy, journal.load(it.name))
            found.append(decide(parts, policy, datetime.now(UTC).timestamp()))
        except ActuatorError as error:
            raise HansaError(f"service '{it.name}': {error}") from None
    if as_json:
        typer.echo(json.dumps([it.as_json() for it in found]))
        return
    for line in plan_lines(found, journal.paused()):
        typer.echo(line)


@app.command()
def run(
    services: ServicesOption = None,
    act: Annotated[
        bool, typer.Option("--act", help="Start and stop replicas; without it decisions are only shown.")
    ] = False,
    control: ControlOption = None,
    state: StateOption = None,
    instance: InstanceOption = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE", help="Figures: HOST:PORT, or a file that ends in .prom; default: none."
        ),
    ] = None,
    log_level: Annotated[
        str, typer.Option(click_type=click.Choice(LEVELS), help="What is said on stderr, from there on.")
    ] = "info",
    log_format: Annotated[
        str | None,
        typer.Option(
            click_type=click.Choice(FORMS),
            help=f"One JSON object a line, decisions among them, or text; default: {LOG_VARIABLE}, else text.",
        ),
    ] = None,
) -> None:
    """Look at each service every minute until Ctrl-C, and show what is decided. A dry run unless --act."""
    from hansa.cli.scaler_run import Scaled, look_until_told

    start_logging("scaler", log_level, log_format)
    try:
        path = _services_path(services, instance)
        wanted = _services(path, instance)
        scaled = Scaled(path, wanted, _folder(state, instance), _api(wanted, control, instance))
        look_until_told(scaled, act=act, metrics=metrics, log_format=log_format)
    except HansaError as error:
        say_failure("scaler", error, error.exit_code)
        raise SystemExit(error.exit_code) from None


@app.command()
def pause(
    service: ServiceArgument = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "paused by hand",
    state: StateOption = None,
    instance: InstanceOption = None,
) -> None:
    """Hold replicas where they are; the scaler goes on deciding, and says what it would have done."""
    from hansa.sidecar.scaler.journal import ALL

    journal = _journal(state, instance)
    _check_known(journal, service)
    journal.pause(service or ALL, reason)
    typer.echo(f"{service or 'all services'}: paused: {reason}")


@app.command()
def resume(
    service: ServiceArgument = None, state: StateOption = None, instance: InstanceOption = None
) -> None:
    """Let replicas be started and stopped again."""
    from hansa.sidecar.scaler.journal import ALL, paused_because

    journal = _journal(state, instance)
    _check_known(journal, service)
    if not journal.resume(service or ALL):
        if service is not None and (reason := paused_because(journal.paused(), service)) is not None:
            raise InputError(f"all services are paused ({reason}); resume them with: hansa scaler resume")
        raise InputError(f"{service or 'no service'} is not paused" if service else "nothing is paused")
    typer.echo(f"{service or 'all services'}: resumed")


def _check_known(journal: Journal, service: str | None) -> None:
    known = journal.services()
    if service is not None and service not in known:
        raise InputError(f"service '{service}' is not scaled here; known are: {', '.join(known) or 'none'}")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    from hansa.cli.listing import print_table

    print_table(titles, rows, nothing=nothing)


def _folder(state: Path | None, instance: Path | None) -> Path:
    from hansa.cli.instance import find_instance

    return state if state is not None else find_instance(instance).sidecar / "scaler"


def _journal(state: Path | None, instance: Path | None) -> Journal:
    from hansa.sidecar.scaler.journal import Journal

    folder = _folder(state, instance)
    if state is not None and not folder.is_dir():
        raise InputError(f"--state {folder}: no such folder; name the one that the scaler was given")
    return Journal(folder)


def _services_path(path: Path | None, instance: Path | None) -> Path:
    from hansa.cli.instance import find_instance

    return path if path is not None else find_instance(instance).scaler_services


def _services(path: Path | None, instance: Path | None) -> Services:
    from hansa.sidecar.scaler.services import read_services

    return read_services(_services_path(path, instance))


def _api(wanted: Services, control: str | None, instance: Path | None) -> ServerApi | None:
    """Control as the scaler uses it; None where no demand is jobs and no control is named."""
    from hansa.cli.reach import reach
    from hansa.sidecar.scaler.services import ControlSignals
    from hansa.sidecar.server_api import ServerApi

    if control is None and not any(isinstance(it.signals, ControlSignals) for it in wanted.services):
        return None
    with reach(control, instance, "write") as desk:
        try:
            return ServerApi(desk.url, desk.token)
        except ValueError as error:
            raise InputError(str(error)) from None


def _of_control(control: str, instance: Path | None, service: str | None) -> list[Entry]:
    from hansa.cli.reach import reach
    from hansa.sidecar.scaler.journal import Entry

    with reach(control, instance) as desk:
        return [Entry.from_json(it.model_dump(exclude={"id"})) for it in desk.scaling(service)]
