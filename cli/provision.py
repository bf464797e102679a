"""`hansa provision`: a demo's instance from a scenario, one member's own keys, and all of them anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import click
import typer
from typer.core import TyperGroup

from hansa.contract.errors import InputError


class ScenarioOrCommand(TyperGroup):
    """`hansa provision SCENARIO` is short for `hansa provision scenario SCENARIO`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A folder may be called like a command; it is one where nothing follows that the command could work on.
        named = (
            args[:1] == ["scenario"] and (len(args) == 1 or args[1].startswith("-")) and "--help" not in args
        )
        if args and args[0] not in ctx.help_option_names and (named or args[0] not in self.commands):
            args = ["scenario", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    add_completion=False,
    cls=ScenarioOrCommand,
    no_args_is_help=True,
    help="Make and renew keys, certificates and a signed charter.",
)


@app.command("scenario")
def scenario(
    name: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="A name of `hansa scenario list`, or a folder.")
    ],
    out: Annotated[Path | None, typer.Option(help="Instance folder; default .hansa/NAME.")] = None,
    server: Annotated[str | None, typer.Option(help="HOST:PORT that members dial.")] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="One more name or address for the server's certificate."),
    ] = None,
    fleet: Annotated[str, typer.Option(help="HOST:PORT of the members' listener.")] = "127.0.0.1:9443",
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the inner listener.")] = "127.0.0.1:9440",
    control: Annotated[str, typer.Option(help="HOST:PORT of control.")] = "127.0.0.1:9480",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, e.g. steps=1, model=mlp."),
    ] = None,
    keep_scores: Annotated[
        bool, typer.Option("--keep-scores", help="Members keep exact held-out scores; for demos.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an instance, with new keys.")] = False,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Do nothing where one stands.")] = False,
) -> None:
    """Write an instance folder for a demo: every key of every member, and a charter that all have signed."""
    from hansa.cli.instance import DEFAULT_ROOT, Instance
    from hansa.cli.overrides import override
    from hansa.cli.provisioning import Addresses, check_address, provision
    from hansa.contract.library import scenario_folder
    from hansa.contract.scenario import read_scenario

    if out is not None and if_missing and Instance(out).exists:
        typer.echo(f"{out}: an instance is there already")
        return
    folder = scenario_folder(name)
    described, features = read_scenario(folder)
    out = out or DEFAULT_ROOT / described.name
    if if_missing and Instance(out).exists:
        typer.echo(f"{out}: an instance is there already")
        return
    addresses = Addresses(
        superlink=check_address(superlink, "--superlink"),
        fleet=check_address(fleet, "--fleet"),
        control=check_address(control, "--control"),
        server=None if server is None else check_address(server, "--server"),
        names=tuple(names or ()),
    )
    provision(
        override(described, settings or []),
        features,
        origin=folder,
        out=out,
        addresses=addresses,
        keep_scores=keep_scores,
        force=force,
    )
    typer.echo(f"{out}: {len(described.members)} members, their keys and a charter signed by all of them")


@app.command("member")
def member(
    name: Annotated[str, typer.Option(help="The member's name: lower-case letters, digits, - and _.")],
    out: Annotated[Path, typer.Option(help="The member's own folder.")],
    title: Annotated[str, typer.Option(help="Name for people.")] = "",
    sector: Annotated[str, typer.Option(help="E.g. banking.")] = "",
    controller: Annotated[
        str, typer.Option(help="Who controls this member, if another one is controlled too.")
    ] = "",
    records: Annotated[int, typer.Option(min=1, help="Public size, to one digit.")] = 1000,
    server: Annotated[str | None, typer.Option(help="HOST:PORT of the consortium's server.")] = None,
    csv: Annotated[Path | None, typer.Option(help="CSV file with this member's records.")] = None,
) -> None:
    """Make one member's own keys. Private parts stay in the folder; what is printed goes into the charter."""
    import tomli_w

    from hansa.cli.member_keys import ENTRY, make_member_keys, public_entry, write_member_config
    from hansa.contract.typed import write_atomically

    if (server is None) != (csv is None):
        raise InputError("--server and --csv go together: member.toml needs both")
    if server is not None:
        from hansa.cli.provisioning import check_address

        check_address(server, "--server")
    entry = public_entry(name, title=title, sector=sector, controller=controller, records=records)
    public = make_member_keys(out)
    if server is not None and csv is not None:
        write_member_config(out, name=name, server=server, csv=csv)
        if not csv.is_file():
            typer.echo(f"warning: --csv {csv}: no such file yet; member.toml names it all the same", err=True)
    printed = tomli_w.dumps({"members": [{**entry, **vars(public)}]})
    write_atomically(out / ENTRY, printed.encode())
    typer.echo(printed, nl=False)


@app.command("rotate")
def rotate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A member's own folder, or control's.")],
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", help="identity, sealing or node; may be said again. Default: all of them."),
    ] = None,
) -> None:
    """Make new keys that wait for the charter that names them. What is printed goes into its next version."""
    import tomli_w

    from hansa.cli.rotation import MEMBER_KEYS, key_files, rotate_member

    files = key_files(folder)
    if "operator" in files:
        if keys:
            raise InputError("--key: control has the operator's key alone; leave it out")
        typer.echo(files["operator"].make_waiting())
        return
    entry = rotate_member(folder, keys or MEMBER_KEYS)
    typer.echo(tomli_w.dumps({"members": [entry.model_dump(mode="json", exclude_none=True)]}), nl=False)


@app.command("certificate")
def certificate(
    instance: Annotated[Path | None, typer.Option(help="Instance folder.")] = None,
    names: Annotated[
        list[str] | None, typer.Option("--name", help="One more name or address for the certificate.")
    ] = None,
) -> None:
    """Renew the server's key and certificate, for the names it had and those given."""
    from hansa.cli.instance import find_instance
    from hansa.cli.renewal import renew_certificate

    found = find_instance(instance)
    until = renew_certificate(found, names or ())
    typer.echo(f"{found.server / 'server.crt'}: good until {until:%Y-%m-%d}; restart the SuperLink")


@app.command("authority")
def authority(
    instance: Annotated[Path | None, typer.Option(help="Instance folder.")] = None,
    only_newest: Annotated[
        bool, typer.Option("--only-newest", help="Trust the newest CA alone, once its certificate is served.")
    ] = False,
) -> None:
    """Make a new CA, trusted beside the old one until --only-newest."""
    from hansa.cli.instance import find_instance
    from hansa.cli.renewal import forget_authorities, new_authority

    found = find_instance(instance)
    written = forget_authorities(found) if only_newest else new_authority(found)
    for path in written:
        typer.echo(f"{path}: trusts {'the newest CA alone' if only_newest else 'both CAs'}")
    if only_newest:
        typer.echo(f"members elsewhere get {found.server / 'ca.crt'}, and restart their nodes")
    else:
        typer.echo(
            f"members elsewhere get {found.server / 'ca.crt'} and restart their nodes; after that: "
            "hansa provision certificate, then hansa provision authority --only-newest"
        )


@app.command("tokens")
def tokens(instance: Annotated[Path | None, typer.Option(help="Instance folder.")] = None) -> None:
    """Make new tokens of control and a new SuperExec secret; the old ones end with the next restart."""
    from hansa.cli.instance import find_instance
    from hansa.cli.renewal import new_tokens

    for path in new_tokens(find_instance(instance)):
        typer.echo(f"{path}: is new")
    typer.echo("restart the SuperLink, control, the executor and the sidecar, in that order")
