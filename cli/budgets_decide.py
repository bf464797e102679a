"""What an organisation decides about its budgets, at its own agent: grant, freeze, unfreeze, recover."""

from __future__ import annotations

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from hansa.cli.reach import InstanceOption, JsonOption
from hansa.contract.errors import InputError

Org = Annotated[str | None, typer.Option("--org", help="The organisation's name in the charter.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Its folder, with member.toml.")]
By = Annotated[str | None, typer.Option("--by", help="On whose word; default: this user.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the ledger.")]
GrantName = Annotated[str, typer.Argument(metavar="GRANT", help="The grant's name.")]


def grant(
    name: GrantName,
    epsilon: Annotated[float, typer.Option(help="What the grant allows, with --delta.")],
    expires: Annotated[str, typer.Option(metavar="DATE", help="E.g. 2027-06-30, or with time and zone.")],
    purpose: Annotated[str, typer.Option(help="What the data may be used for.")],
    legal_basis: Annotated[
        str, typer.Option(help="On what ground, e.g. 'GDPR Art. 9(2)(j), approval 12/27'.")
    ],
    delta: Annotated[float, typer.Option(help="At most the charter's privacy.delta.")] = 1e-5,
    reason: Reason = "",
    data_set: Annotated[str | None, typer.Option(help="Default: the one that member.toml names.")] = None,
    cap_epsilon: Annotated[
        float | None, typer.Option(help="Lifetime cap of the data set, with its first grant; for good.")
    ] = None,
    cap_delta: Annotated[float | None, typer.Option(help="Delta of that cap.")] = None,
    currency: Annotated[
        str | None, typer.Option(metavar="gdp|rdp", help="How the data set is counted, for good.")
    ] = None,
    order: Annotated[int | None, typer.Option(help="The one Rényi order, of rdp.")] = None,
    by: By = None,
    org: Org = None,
    folder: Folder = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """At an organisation: allow jobs to spend so much on a data set, until a day, for a purpose."""
    answer = _command(
        "grant",
        org,
        folder,
        instance,
        grant=name,
        epsilon=epsilon,
        delta=delta,
        expires=_moment("--expires", expires),
        purpose=_stated("--purpose", purpose, "what the data may be used for"),
        legal_basis=_stated("--legal-basis", legal_basis, "on what ground"),
        by=who_decides(by),
        reason=reason,
        data_set=data_set,
        cap_epsilon=cap_epsilon,
        cap_delta=cap_delta,
        currency=currency,
        order=order,
    )
    _say(
        answer,
        f"granted '{name}': epsilon {epsilon:g} at delta {delta:g} for data set '{answer.get('data_set')}'",
        as_json,
    )
    if answer.get("warning") and not as_json:
        typer.echo(f"warning: {answer['warning']}", err=True)


def freeze(
    name: GrantName,
    reason: Annotated[
        str, typer.Option(help="Why; kept in the ledger, and said to whoever is refused.")
    ] = "",
    by: By = None,
    org: Org = None,
    folder: Folder = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """At an organisation: let nothing be charged to a grant, from now on."""
    answer = _command(
        "freeze-grant",
        org,
        folder,
        instance,
        grant=name,
        reason=_stated("--reason", reason, "why"),
        by=who_decides(by),
    )
    _say(answer, f"grant '{name}' is frozen: no job computes on it until 'hansa budgets unfreeze'", as_json)


def unfreeze(
    name: GrantName,
    reason: Reason = "",
    by: By = None,
    org: Org = None,
    folder: Folder = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """At an organisation: let a frozen grant be charged again."""
    answer = _command("unfreeze-grant", org, folder, instance, grant=name, reason=reason, by=who_decides(by))
    _say(answer, f"grant '{name}' may be charged again", as_json)


def recover(
    reason: Reason = "",
    by: By = None,
    org: Org = None,
    folder: Folder = None,
    instance: InstanceOption = None,
    as_json: JsonOption = False,
) -> None:
    """At an organisation: enter what its ledger lost, from the receipts that the others kept."""
    from hansa.cli.budgets_ledger import RunningAgent
    from hansa.cli.instance import choose_member
    from hansa.cli.listing import forget_again

    answer = _command("recover", org, folder, instance, reason=reason, by=who_decides(by))
    entered = len(answer.get("rows", []))
    # Nothing is charged between a restore and its recovery: the copy is no older than its newest charge.
    charges = (
        row.at
        for row in RunningAgent(choose_member(org, folder, instance)).rows()
        if row.body.row == "charge" and not row.body.recovered
    )
    since = max(charges, default=None)
    answer["forget_again_since"] = None if since is None else since.isoformat()
    _say(
        answer,
        f"{entered} rows entered: the ledger holds again all that was ever spent\n"
        "where the list of forgotten people was restored too, it knows of nobody after its copy was made: "
        + forget_again(answer["forget_again_since"]),
        as_json,
    )


def who_decides(by: str | None) -> str:
    """Who decides, as the ledger will name them."""
    if by is not None:
        return _stated("--by", by, "who decides")
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InputError("--by: name who decides; this user has no name") from None


def approved(answer: dict[str, Any]) -> str:
    """What an organisation's yes lets a job take, for people; from its agent's answer."""
    if "grant" not in answer:
        return "nothing is charged: the charter has no noise"
    noise = ", ".join(f"{name} {value:.4g}" for name, value in answer["noise"].items())
    return (
        f"at most {answer['percent']:.3g} % of grant '{answer['grant']}', epsilon {answer['epsilon']:.3g} at delta "
        f"{answer['delta']:g}; noise: {noise}"
    )


def _stated(option: str, text: str, what: str) -> str:
    if not text.strip():
        raise InputError(f"{option}: say {what}; the ledger keeps it")
    return text


def _command(
    command: str, org: str | None, folder: Path | None, instance: Path | None, **arguments: str | float | None
) -> dict[str, Any]:
    from hansa.cli.agent_client import command_agent
    from hansa.cli.instance import choose_member

    return command_agent(choose_member(org, folder, instance), command, **arguments)


def _moment(option: str, text: str) -> str:
    """A day, or a day with time and zone, as ISO; a day alone begins at midnight UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{option} {text}: expected a day, e.g. 2027-06-30, or 2027-06-30T12:00:00+02:00"
        ) from None
    if found.tzinfo is None:
        if len(text) > len("2027-06-30"):
            raise InputError(f"{option} {text}: a time needs its zone, e.g. 2027-06-30T12:00:00+02:00")
        found = found.replace(tzinfo=UTC)
    return found.isoformat()


def _say(answer: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({name: value for name, value in answer.items() if name != "ok"}))
    else:
        typer.echo(sentence)
