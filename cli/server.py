"""`hansa server`: the consortium's side under one supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.contract.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The consortium's server.")


@app.callback()
def server() -> None:
    """The consortium's server."""


@app.command()
def start(
    config: Annotated[Path | None, typer.Option(help="server.toml; default: the instance's.")] = None,
    control_config: Annotated[
        Path | None,
        typer.Option(help="server.toml of control; default: control/server.toml beside --config's folder."),
    ] = None,
    instance: Annotated[
        Path | None, typer.Option(help="Instance folder; default: what runs under .hansa, or the newest.")
    ] = None,
    control: Annotated[bool, typer.Option("--control/--no-control", help="Start control as well.")] = True,
    superlink: Annotated[
        bool, typer.Option("--superlink/--no-superlink", help="Start the SuperLink and the executor.")
    ] = True,
    logs: Annotated[
        Path | None, typer.Option(help="Folder for logs; default: here, on this terminal.")
    ] = None,
) -> None:
    """Run SuperLink, executor and control until Ctrl-C, and start again what dies."""
    from hansa.cli.addresses import check_free
    from hansa.cli.federation import keep_running, record_path, server_specs
    from hansa.cli.roles import check_files
    from hansa.server.config import read_server_config

    if not superlink and not control:
        raise InputError("--no-superlink and --no-control leave nothing to start")
    config, control_config = _configs(config, control_config, instance)
    # Where control runs alone, the SuperLink's folder need not be there.
    own = config if superlink else control_config
    read = read_server_config(own)
    if superlink:
        check_files(config, read)
    fields = [*(["superlink", "fleet"] if superlink else []), *(["control"] if control else [])]
    check_free(read, own, fields)
    run = own.parent.resolve() / "run"
    specs = server_specs(config, control_config if control else None, run, superlink=superlink)
    what = "server" if superlink and control else "superlink" if superlink else "control"
    reached = ", ".join(f"{field} {getattr(read, field)}" for field in fields)
    said = f"{what} runs: {reached}; Ctrl-C stops"
    raise SystemExit(keep_running(record_path(own.parent, what), f"the {what}", specs, logs=logs, said=said))


def _configs(config: Path | None, control_config: Path | None, instance: Path | None) -> tuple[Path, Path]:
    from hansa.cli.instance import find_instance

    if config is None:
        found = find_instance(instance)
        return found.server_config_path, control_config or found.control_config_path
    beside = config.resolve().parent.parent / "control" / "server.toml"
    return config, control_config or (beside if beside.is_file() else config)
