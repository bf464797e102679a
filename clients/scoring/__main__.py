"""`python -m hansa.clients.scoring`: serves an organisation's copy of the trained model until SIGTERM.

It needs the served file alone, none of the organisation's keys or records.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from hansa.contract.errors import HansaError, InputError
from hansa.contract.logs import add_log_options, say_failure, start_logging

# A prediction is small; threads of a matrix library would cost more than they bring.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_variable, "1")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve. Returns 0, or 2 with one line on stderr when the input is wrong."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parse(arguments)
    start_logging("scoring", options.log_level, options.log_format)
    try:
        return _serve(options, arguments)
    except HansaError as error:
        say_failure("scoring", error, error.exit_code)
        return error.exit_code


def _serve(options: argparse.Namespace, arguments: list[str]) -> int:
    from hansa.clients.scoring.app import Limits, ScoringApp
    from hansa.clients.scoring.server import Manners, ScoringServer, listen
    from hansa.clients.scoring.serving import Desk
    from hansa.clients.scoring.tally import Tally

    # Until there is something to look at, a nudge is nothing, not the end.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    path, member = _what(options)
    token = read_token(_token_path(options))
    if token is None and not _is_loopback(options.host):
        raise InputError(
            f"--host {options.host}: others reach it, so name a --token-file that callers must know"
        )
    if options.worker is not None:
        from hansa.clients.scoring.workers import end_with_parent, opened_counts

        place, handle, counts, parent = (int(it) for it in options.worker.split(","))
        end_with_parent(parent)
        shared = opened_counts(counts)
        desk = Desk(path, member=member, tally=lambda facts: Tally(facts.features, shared, place))
        listener = socket.socket(fileno=handle)
    else:
        # The port first: one that is in use is known before anything else is opened.
        listener = listen(options.host, options.port)
        desk = Desk(path, member=member)
        if options.workers > 1:
            from hansa.clients.scoring.workers import keep_workers

            columns = len(desk.serving.facts.features.columns)
            return keep_workers(arguments, options.workers, listener, columns, options.ready_file)
    app = ScoringApp(desk, token, Limits(batch=options.max_body << 20))
    manners = Manners(options.ready_file, options.drain, options.connections)
    ScoringServer(app, manners).run(sockets=[listener])
    return 0


def _what(options: argparse.Namespace) -> tuple[Path, str | None]:
    """The file to serve, and the organisation whose it must be."""
    from hansa.clients.scoring.model_file import SERVED
    from hansa.contract.scenario import MemberConfig
    from hansa.contract.typed import read_toml

    if options.folder is None:
        return options.model, None
    member = read_toml(options.folder / "member.toml", MemberConfig).name
    path = options.model or options.folder / SERVED
    if not path.exists():
        raise InputError(
            f"{path}: '{member}' has published no model for scoring; run: hansa score publish --folder {options.folder}"
        )
    return path, member


def _token_path(options: argparse.Namespace) -> Path | None:
    """The file named, else the folder's where there is one."""
    from hansa.clients.scoring.model_file import TOKEN

    named: Path | None = options.token_file
    if named is not None or options.folder is None:
        return named
    return options.folder / TOKEN if (options.folder / TOKEN).exists() else None


def read_token(path: Path | None) -> bytes | None:
    """The token that callers must bear.

    Raises
    ------
    InputError : an empty file, or one that others may read
    """
    from hansa.contract.typed import read_file

    if path is None:
        return None
    token = read_file(path).strip()
    if os.stat(path).st_mode & 0o077:
        raise InputError(f"{path}: others can read this token; chmod 600 it")
    if len(token) < 16:
        raise InputError(f"{path}: expected a token of at least 16 characters on one line")
    return token


def _is_loopback(host: str) -> bool:
    from ipaddress import ip_address

    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="hansa-scoring", description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="the organisation's folder")
    parser.add_argument(
        "--model", type=Path, help="the file to serve; default: scoring/model.safetensors of the folder"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--port", type=int, default=9490, help="0: any that is free; the ready file says which"
    )
    parser.add_argument(
        "--token-file", type=Path, help="callers must bear its token; default: scoring/token of the folder"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that share the port")
    parser.add_argument(
        "--drain", type=float, default=5.0, help="seconds in which callers notice that it ends"
    )
    parser.add_argument("--connections", type=int, default=2000, help="connections at once, for each worker")
    parser.add_argument("--max-body", type=int, default=16, help="largest batch, MiB")
    parser.add_argument("--ready-file", type=Path)
    add_log_options(parser)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.folder is None and options.model is None:
        parser.error("name the organisation's --folder, or the --model file to serve")
    return options


if __name__ == "__main__":
    sys.exit(main())
