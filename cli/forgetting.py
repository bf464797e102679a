"""`hansa data forget`: somebody's records are computed on no more, from the next attempt on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.contract.errors import InputError

if TYPE_CHECKING:
    from hansa.cli.instance import MemberFolder


def forget(
    entity: Annotated[
        str | None,
        typer.Argument(
            metavar="ENTITY", help="As in the contract's entity column. Shells keep what is typed."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Many of them, one a line; - reads standard input.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why, e.g. 'erasure request 12/27'; no names.")] = None,
    absent_too: Annotated[
        bool, typer.Option("--absent-too", help="Also whom no record is about yet: for data that may come.")
    ] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="How many were forgotten, when, by whom, why.")
    ] = False,
    by: Annotated[str | None, typer.Option("--by", help="On whose word; default: this user.")] = None,
    org: Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml.")] = None,
    instance: Annotated[
        Path | None,
        typer.Option("--instance", help="Instance folder; default: what runs under .hansa, or the newest."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Leave somebody's records out of training and measuring, from the next attempt on, for good.

    Holds over restarts and for data that comes later. Exits 2, and forgets nobody, where a name is in no record.
    """
    from hansa.cli.instance import choose_member

    if listed:
        if entity is not None or file is not None:
            raise InputError("--list: names nobody; leave ENTITY and --file out")
        _list(choose_member(org, folder, instance), as_json)
        return
    if (entity is None) == (file is None):
        raise InputError("say whom: ENTITY, or --file with one a line")
    if reason is None or not reason.strip():
        raise InputError("--reason: say why, e.g. 'erasure request 12/27'; it is kept, so name nobody in it")
    names = [entity] if entity is not None else _read(file)
    if any(name in reason for name in names if len(name) > 3):
        raise InputError("--reason names whom it is about; it is kept in plain, so name nobody in it")
    _forget(choose_member(org, folder, instance), names, reason, absent_too, by, as_json)


def _read(file: Path | None) -> list[str]:
    from hansa.contract.typed import read_file

    content = sys.stdin.buffer.read() if file == Path("-") else read_file(file or Path())
    try:
        names = [line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"--file {file}: is not UTF-8 ({error.reason} at byte {error.start})") from None
    if not names:
        raise InputError(f"--file {file}: names nobody")
    # The agent takes a command of one megabyte.
    if len(content) > 900_000:
        raise InputError(f"--file {file}: {len(content)} bytes; give it in parts of at most 900,000")
    return names


def _forget(
    member: MemberFolder, names: list[str], reason: str, absent_too: bool, by: str | None, as_json: bool
) -> None:
    from hansa.cli.agent_client import command_agent
    from hansa.cli.budgets_decide import who_decides

    answer = command_agent(
        member, "forget", entities=names, reason=reason, by=who_decides(by), absent=absent_too or None
    )
    if as_json:
        typer.echo(json.dumps({name: it for name, it in answer.items() if name != "ok"}))
        return
    for line in _lines(member.config.name, answer):
        typer.echo(line)


def _lines(name: str, answer: dict[str, Any]) -> list[str]:
    found = [
        f"{name}: {answer['forgotten']} forgotten, {answer['total']} in all; {answer['left']} entities are left, in "
        "training and hold-out together"
    ]
    if answer["before"]:
        found.append(f"{answer['before']} of those named were forgotten before")
    if answer["absent"]:
        found.append(f"{answer['absent']} of them are in no record; they are left out of data that comes")
    found += [
        f"attempt {it['attempt']} of job {it['job'][:8]} was being computed and may still hold them; the next one "
        "does not"
        for it in answer["computing"]
    ]
    return [*found, answer["says"]]


def _list(member: MemberFolder, as_json: bool) -> None:
    from datetime import UTC, datetime

    from hansa.cli.agent_client import command_agent
    from hansa.cli.listing import print_table, whole_time

    answer = command_agent(member, "forgotten")
    if as_json:
        typer.echo(json.dumps({name: it for name, it in answer.items() if name != "ok"}))
        return
    rows = (
        (whole_time(datetime.fromtimestamp(it["at"], UTC)), str(it["entities"]), it["by"], it["reason"])
        for it in answer["decisions"]
    )
    print_table(
        ("when", "entities", "by", "reason"), rows, nothing=f"{member.config.name}: nobody was forgotten"
    )
