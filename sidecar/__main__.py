"""`python -m hansa.sidecar`: looks at running jobs over control's API, and steers what the charter lets it.

Training never waits for it. It can be killed at any time: what it remembers of a job is on the disk before anything
is done, and control enters each of its decisions once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.contract.errors import HansaError
from hansa.contract.exposing import expose
from hansa.contract.exposition import Meter
from hansa.contract.logs import add_log_options, say_failure, start_logging
from hansa.contract.process_figures import process_meter

from .alone import hold_alone
from .looking import Sidecar
from .memory import Memories
from .process_watch import ProcessWatch
from .server_api import ServerApi

if TYPE_CHECKING:
    from .scaler.running import RunningScaler

log = logging.getLogger("hansa.sidecar")

LOOK_EVERY_S = 0.5
TOKEN_VARIABLE = "HANSA_TOKEN"


def main(argv: Sequence[str] | None = None) -> int:
    """Look again and again until SIGTERM or SIGINT. Returns 0, or 2 with one line on stderr when the input is wrong."""
    options = _parse(argv)
    start_logging("sidecar", options.log_level, options.log_format)
    ended = threading.Event()
    try:
        token = _token(options.tokens)
        api = ServerApi(options.control, token)
        lock = hold_alone(options.state / "sidecar.lock", "sidecar")
        memories = Memories(options.state)
        meter = process_meter("sidecar")
        exposure = expose(meter, options.metrics)
        watch = ProcessWatch(ServerApi(options.control, token), options.watch)
        scaler = _scaler(options, token, meter)
    except (OSError, ValueError, HansaError) as error:
        say_failure("sidecar", error, 2)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    sidecar = Sidecar(api, memories, meter)
    if options.ready_file is not None:
        options.ready_file.write_text("ready\n")
    while not ended.wait(options.every):
        sidecar.look()
        watch.look()
    if exposure is not None:
        exposure.close()
    if scaler is not None:
        scaler.end()
    api.close()
    lock.close()
    return 0


def _scaler(options: argparse.Namespace, token: str, meter: Meter) -> RunningScaler | None:
    """The scaler beside it, where services are named; it is imported only then.

    What stands in its way here and now, a record that is damaged for one, ends no watch over jobs.
    """
    if options.scaler is None:
        return None
    from .actuators import ActuatorError
    from .figures import noted
    from .scaler.running import RunningScaler

    control = ServerApi(options.control, token)
    try:
        return RunningScaler(
            options.scaler, options.state / "scaler", control, seen=lambda it: noted(meter, it)
        )
    except ActuatorError as error:
        log.error("nothing is scaled until the next start: %s", error)
        return None


def _token(path: Path | None) -> str:
    """The token that may steer, or write."""
    if path is None:
        given = os.environ.get(TOKEN_VARIABLE, "")
        if not given:
            raise ValueError(f"name a --tokens file, or put the token that may steer into {TOKEN_VARIABLE}")
        return given
    document = json.loads(path.read_text())
    token = document.get("steer", document.get("write")) if isinstance(document, dict) else None
    if not isinstance(token, str) or not token:
        raise ValueError(f"{path}: field 'steer' is missing")
    return token


def _named_file(text: str) -> Path | None:
    """Compose hands over an empty word where nothing is set."""
    return Path(text) if text else None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hansa-sidecar", description=__doc__.partition("\n")[0])
    parser.add_argument("--control", required=True, help="control's address, http://HOST:PORT")
    parser.add_argument(
        "--tokens", type=Path, help=f"tokens.json; default: the token itself in {TOKEN_VARIABLE}"
    )
    parser.add_argument("--state", required=True, type=Path, help="folder for what is remembered of jobs")
    parser.add_argument(
        "--scaler", type=_named_file, help="scaler.toml: services that are scaled; default: none"
    )
    parser.add_argument("--every", type=float, default=LOOK_EVERY_S, help="seconds between looks")
    parser.add_argument("--ready-file", type=Path)
    parser.add_argument(
        "--metrics", metavar="WHERE", help="figures: HOST:PORT, or a file that ends in .prom; default: none"
    )
    parser.add_argument(
        "--watch",
        action="append",
        default=[],
        metavar="WHERE",
        help="where another process shows its figures, HOST:PORT or a file: its memory is watched",
    )
    add_log_options(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
