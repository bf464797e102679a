"""`hansa status`: what runs here, and what needs attention."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.contract.errors import ConnectionFailed, HansaError

if TYPE_CHECKING:
    from hansa.cli.instance import Instance
    from hansa.contract.charter import Charter

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Supervised:
    """One process and whether it lives; `by` is the command that started it."""

    by: str
    name: str
    state: str
    pid: int | None
    restarts: int
    sentence: str


@app.command()
def status(
    instance: Annotated[
        Path | None, typer.Option(help="Instance folder; default: what runs under .hansa, or the newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Processes, members, jobs, and what runs out within 30 days."""
    from hansa.cli.attention import instance_warnings
    from hansa.cli.instance import find_instance
    from hansa.contract.shown import privacy_sentence, protection_sentence

    found = find_instance(instance)
    processes = supervised_processes(found)
    control = _ask_control(found)
    warnings = instance_warnings(found)
    problem = control.pop("problem", None)
    if problem:
        warnings.append(problem)
    for it in processes:
        if it.state in ("given-up", "restarting"):
            warnings.append(f"{it.name} is {it.state}: {it.sentence or 'it said nothing'}")
    isolated = _isolation(found, control.get("members", []))
    warnings += control.get("absences", [])
    warnings += [
        f"agent of '{name}' is not isolated: it can reach a network"
        for name, cut in isolated.items()
        if cut is False
    ]
    facts = {
        "instance": str(found.folder),
        "name": found.facts.name,
        "protection": _said(found, protection_sentence),
        "privacy": _said(found, privacy_sentence),
        "running": any(it.pid is not None for it in processes),
        "control": found.control_url if control else None,
        "control_problem": problem,
        "page": page_sentence(found),
        "processes": [vars(it) for it in processes],
        "members": control.get("members", []),
        "isolated": isolated,
        "jobs": control.get("jobs", []),
        "budgets": control.get("budgets", []),
        "warnings": warnings,
    }
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        _print(facts)


def page_sentence(instance: Instance) -> str:
    """Where the page is, and what lets a person in."""
    return f"page: {instance.control_url}/ with a token of {instance.tokens_path}, 'read' to look, 'write' to act"


def _said(instance: Instance, sentence: Callable[[Charter], str]) -> str:
    """A sentence on the charter; empty where it cannot be read."""
    from hansa.contract.charter import Charter
    from hansa.contract.typed import read_toml

    try:
        return sentence(read_toml(instance.charter, Charter))
    except HansaError:
        return ""


def supervised_processes(instance: Instance) -> list[Supervised]:
    """Processes of every supervisor whose record is in the instance; a dead supervisor's count as gone."""
    from hansa.cli.run_record import is_held, read_record

    found = []
    for path in instance.run_records:
        record = read_record(path)
        if record is None or not is_held(path):
            continue
        found += [
            Supervised(path.stem, it.name, it.state, it.pid, it.restarts, it.sentence)
            for it in record.processes
        ]
    return found


def _ask_control(instance: Instance) -> dict[str, Any]:
    """Members, jobs and the mirror of budgets as control knows them; nothing where it does not run."""
    from hansa.cli.attention import absences
    from hansa.cli.budgets_shown import mirror_lines
    from hansa.cli.control_client import Control

    try:
        with Control.of(instance) as control:
            jobs = [
                {"job": it.job, "name": it.name, "status": it.status, "reason": it.reason, "round": it.round}
                | {"rounds": it.plan.rounds}
                for it in control.jobs()
            ]
            members = control.members()
            named, apart = {it.name for it in members}, {it.name for it in members if it.apart}
            budgets = mirror_lines(control.budgets(), control.spendings(), {}, named, apart)[0]
            return {
                "members": [it.model_dump(mode="json") for it in members],
                "absences": absences(members, control.charter().version),
                "jobs": jobs,
                "budgets": [vars(it) for it in budgets],
            }
    except ConnectionFailed:
        return {}
    except HansaError as error:
        return {"problem": str(error)}


def _isolation(instance: Instance, members: list[dict[str, Any]]) -> dict[str, bool | None]:
    """Whether each agent is cut off the network: by its signed hello, or as an agent on this machine says."""
    from hansa.cli.agent_client import ask_agent

    known = {str(it["name"]): it["isolated"] if it["present"] else None for it in members}
    for name in instance.members:
        answer = ask_agent(instance.member(name)) if known.get(name) is None else None
        if answer is not None:
            known[name] = answer["isolated"]
    return known


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console

    from hansa.cli.budgets_shown import GrantLine, budget_sentence

    console = Console()
    if facts["control"]:
        running = f"runs, control at {facts['control']}"
    else:
        silent = "control refuses, see below" if facts["control_problem"] else "control does not answer"
        running = silent if facts["running"] or facts["control_problem"] else "stopped"
    console.print(f"{facts['instance']}: {running}", markup=False, highlight=False)
    if facts["control"]:
        console.print(facts["page"], markup=False, highlight=False, soft_wrap=True)
    rows = [
        (it["name"], it["state"], str(it["pid"] or "-"), str(it["restarts"]), it["by"])
        for it in facts["processes"]
    ]
    _table(("process", "state", "pid", "restarts", "started by"), rows)
    rows = [
        (
            it["title"] or it["name"],
            it["sector"],
            _yes(it["present"]),
            _yes(facts["isolated"].get(it["name"])),
            it["held"] or "",
        )
        for it in facts["members"]
    ]
    _table(("member", "sector", "connected", "isolated", "held"), rows)
    rows = [
        (it["job"][:8], it["name"], it["status"], f"{it['round']} of {it['rounds']}", it["reason"])
        for it in facts["jobs"][-5:]
    ]
    _table(("job", "name", "status", "rounds", "reason"), rows)
    for it in facts["budgets"]:
        console.print(budget_sentence(GrantLine(**it)), markup=False, highlight=False)
    # The same at every look: below what changes.
    for sentence in (facts["protection"], facts["privacy"]):
        if sentence:
            console.print(sentence, markup=False, highlight=False)
    for warning in facts["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from hansa.cli.listing import print_table

    if rows:
        print_table(columns, rows, nothing="")


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"
