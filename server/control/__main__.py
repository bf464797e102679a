"""`python -m hansa.server.control`: the API, and the keeper that keeps jobs running."""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from hansa.contract.errors import HansaError, InputError
from hansa.contract.logs import add_log_options, say_failure, start_logging
from hansa.contract.typed import write_atomically
from hansa.server.config import read_server_config

log = logging.getLogger("hansa.control")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 2 with one line on stderr when the input is wrong."""
    options = _parse(argv)
    start_logging("control", options.log_level, options.log_format)
    try:
        serve(options)
    except HansaError as error:
        say_failure("control", error, error.exit_code)
        return error.exit_code
    return 0


def serve(options: argparse.Namespace) -> None:
    """Open what `server.toml` names and serve; raises `InputError` for a file or an address that will not do."""
    config = read_server_config(options.config)
    superlink = options.superlink or config.superlink
    # The port first: one that is in use is known before anything else is opened.
    with closing(_listen(options.control or config.control)) as listener:
        from hansa.server.control.app import build_app
        from hansa.server.control.desk import open_desk
        from hansa.server.control.serving import ControlServer

        job = options.config.parent / "job.toml"
        own_job = job if not options.keep and job.is_file() else None
        desk = open_desk(config, options.config.parent, superlink, own_job=own_job)
        stopped, strange = desk.stop_what_was_superseded()
        for it in stopped:
            log.warning("job %s was stopped: it is of the charter before", it.job)
        for it in strange:
            log.warning("job %s is of a charter that is not known here; no attempt of it is signed", it.job)
        end_keeper = None
        try:
            if options.keep:
                from hansa.server.control.flower_runs import FlowerRuns
                from hansa.server.keeper import Keeper, keep

                end_keeper = keep(Keeper(desk.store, FlowerRuns(superlink), parallel=options.parallel_jobs))
            ready = partial(_say_ready, listener, options.ready_file)
            ControlServer(build_app(desk), ready).run(sockets=[listener])
        finally:
            if end_keeper is not None:
                end_keeper()
            desk.store.close()


def _say_ready(listener: socket.socket, ready_file: Path | None) -> None:
    address = "{}:{}".format(*listener.getsockname()[:2])
    log.info("control ready: http://%s", address)
    if ready_file is not None:
        write_atomically(ready_file, json.dumps({"control": address, "pid": os.getpid()}).encode())


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InputError(f"control: expected HOST:PORT, got '{address}'")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=128)
    except OSError as error:
        raise InputError(f"{address}: cannot listen here: {os.strerror(error.errno or 0)}") from None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hansa control", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, required=True, help="server.toml, beside the operator's key and the tokens")
    add("--control", metavar="HOST:PORT", help="listen here instead of where server.toml says")
    add("--superlink", metavar="HOST:PORT", help="the SuperLink's inner listener, instead of server.toml's")
    add("--ready-file", type=Path, help="written, as JSON, once control serves")
    add("--parallel-jobs", type=int, default=1, metavar="N", help="jobs that may run at a time")
    add("--no-keeper", dest="keep", action="store_false", help="start no runs; they come from flwr run")
    add_log_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
