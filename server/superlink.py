"""Hansa's SuperLink: Flower's application behind the lane, on an inner listener and a members' one.

The inner listener (loopback, or a network of its own) serves everything: Control, Runtime, Fleet. The
members' listener serves the Fleet API and answers 404 to the rest. State is in memory unless a
database is named; the nodes that may join are registered at start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from starlette.types import ASGIApp

from hansa.contract.errors import HansaError, InputError
from hansa.contract.exposing import Exposure
from hansa.contract.exposition import Meter
from hansa.contract.logs import add_log_options, say_failure, start_logging
from hansa.contract.process_figures import process_meter
from hansa.contract.signatures import verify_charter
from hansa.server.lane import (
    FleetOnly,
    Lane,
    NodeKey,
    read_node_keys,
    reasons_to_step_aside,
    register_nodes,
)
from hansa.server.lane.app import MAX_BODY_BYTES
from hansa.server.lane.counted import CERTIFICATE, LANE, NODES, Counted
from hansa.server.lane.own_app import OwnAppOnly

log = logging.getLogger("hansa.superlink")

# Held pulls outlive uvicorn's 5 s; a node that trains for a minute should find its connection open.
_KEEP_ALIVE_S = 120
_SHUTDOWN_S = 3
_SHORTEST_SECRET = 16


@dataclass(frozen=True)
class Options:
    """Everything a SuperLink is started with; the options of `python -m hansa.server.superlink`."""

    inner: tuple[str, int]
    fleet: tuple[str, int]
    certificate: Path | None
    key: Path | None
    ca: Path | None
    insecure: bool
    inner_tls: bool
    node_auth: bool
    nodes: Path | None
    charter: Path | None
    signatures: Path | None
    superexec_secret: Path | None
    database: str | None
    lane: bool
    any_app: bool
    max_message_bytes: int
    ready_file: Path | None
    log_level: str
    log_format: str | None = None
    metrics: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. Returns 0, or 2 with one line on stderr when the input is wrong."""
    options = _parse(argv)
    start_logging("superlink", options.log_level, options.log_format)
    try:
        serve(options)
    except HansaError as error:
        say_failure("superlink", error, error.exit_code)
        return error.exit_code
    return 0


def serve(options: Options) -> None:
    """Serve both listeners; raises `InputError` for an address, a certificate or a file that will not do."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    if not options.insecure:
        _check_certificate(options.certificate, options.key, options.ca)
    nodes = _nodes(options)
    with contextlib.ExitStack() as stack:
        # Listening sockets first: a port in use is known before Flower is built.
        inner = stack.enter_context(_listening(options.inner))
        fleet = stack.enter_context(_listening(options.fleet))
        # Flower logs a line per reply at INFO.
        level = logging.getLevelName(options.log_level.upper())
        logging.getLogger("flwr").setLevel(max(logging.WARNING, level))
        app, lane = build_app(options)
        register_nodes(app.state.linkstate_factory.state(), nodes)
        outer: ASGIApp = lane or app
        if not options.any_app:
            outer = OwnAppOnly(outer)
        if options.metrics is not None:
            meter = _meter(options, lane is not None, len(nodes))
            stack.enter_context(Exposure(meter, options.metrics))
            outer = Counted(outer, meter)
        runner_options: dict[str, Any] = {}
        with contextlib.suppress(ImportError):
            import uvloop

            runner_options["loop_factory"] = uvloop.new_event_loop
        with asyncio.Runner(**runner_options) as runner:
            runner.run(_serve(options, outer, lane, inner, fleet))


def _meter(options: Options, lane: bool, nodes: int) -> Meter:
    meter = process_meter("superlink")
    meter.set(LANE, to=lane)
    meter.set(NODES, to=nodes)
    if options.certificate is not None:
        leaf = x509.load_pem_x509_certificate(options.certificate.read_bytes())
        meter.set(CERTIFICATE, "server", to=leaf.not_valid_after_utc.timestamp())
    return meter


def _nodes(options: Options) -> list[NodeKey]:
    """The nodes that may join: the charter's, once all its members have signed it, or those of a list."""
    if options.charter is None:
        return read_node_keys(options.nodes) if options.nodes else []
    signatures = options.signatures or options.charter.with_name("charter.signatures.json")
    charter = verify_charter(options.charter, signatures).charter
    return [NodeKey(name=member.name, public_key=member.node_key) for member in charter.members]


def build_app(options: Options) -> tuple[Any, Lane | None]:
    """Flower's application, and the lane around it unless that steps aside."""
    from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
    from flwr.supercore.auth import load_superexec_auth_secret
    from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin
    from flwr.superlink.main import create_app

    secret = None
    if options.superexec_secret is not None:
        try:
            secret = load_superexec_auth_secret(secret_file=str(options.superexec_secret))
        except ValueError as error:
            raise InputError(
                f"{options.superexec_secret}: not usable as SuperExec secret: {error}"
            ) from error
        if secret is not None and len(secret) < _SHORTEST_SECRET:
            raise InputError(
                f"{options.superexec_secret}: a SuperExec secret of {len(secret)} bytes can be guessed;"
                f" write {_SHORTEST_SECRET} random bytes or more"
            )
    tls = {} if options.insecure else {"cert": options.certificate, "key": options.key, "ca": options.ca}
    app = create_app(
        SuperLinkLifespanConfig(
            control_address="",
            health_server_address=None,
            host=options.inner[0],
            port=options.inner[1],
            insecure=options.insecure,
            certificates=None,
            superexec_auth_secret=secret,
            authn_plugin=load_control_authn_plugin(),
            event_log_plugin=None,
            fleet_event_log_plugin=None,
            enable_event_log=False,
            artifact_provider=None,
            enable_supernode_auth=options.node_auth,
            fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
            fleet_api_address=None,
            simulation=False,
            ssl_ca_certfile=_text(tls.get("ca")),
            ssl_certfile=_text(tls.get("cert")),
            ssl_keyfile=_text(tls.get("key")),
            database=options.database or FLWR_IN_MEMORY_DB_NAME,
            isolation=ISOLATION_MODE_PROCESS,
            runtime_dependency_install=False,
        ),
        SuperLinkLifespan,
    )
    if not options.lane:
        return app, None
    reasons = reasons_to_step_aside(app)
    for reason in reasons:
        log.warning("the direct lane steps aside, rounds will be slow: %s", reason)
    return app, None if reasons else Lane(app, max_body=options.max_message_bytes)


class _Server(uvicorn.Server):
    """A uvicorn server whose signals are handled once, for both listeners."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(
    options: Options, app: ASGIApp, lane: Lane | None, inner: socket.socket, fleet: socket.socket
) -> None:
    def server(app: ASGIApp, *, tls: bool, lifespan: Any) -> _Server:
        return _Server(
            uvicorn.Config(
                app,
                lifespan=lifespan,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws="none",
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_SHUTDOWN_S,
                ssl_certfile=options.certificate if tls else None,
                ssl_keyfile=options.key if tls else None,
            )
        )

    servers = [
        server(app, tls=options.inner_tls, lifespan="on"),
        server(
            FleetOnly(app, options.max_message_bytes, node_auth=options.node_auth),
            tls=not options.insecure,
            lifespan="off",
        ),
    ]

    def stop() -> None:
        if lane is not None:
            lane.bells.close()
        for it in servers:
            it.should_exit = True

    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop)

    async def announce() -> None:
        while not all(it.started for it in servers):
            if any(it.should_exit for it in servers):
                return
            await asyncio.sleep(0.01)
        _announce(options, inner, fleet, lane is not None)

    async def until_stopped(it: _Server, sock: socket.socket) -> None:
        try:
            await it.serve(sockets=[sock])
        finally:
            stop()

    await asyncio.gather(
        until_stopped(servers[0], inner),
        until_stopped(servers[1], fleet),
        announce(),
        return_exceptions=False,
    )


def _announce(options: Options, inner: socket.socket, fleet: socket.socket, lane: bool) -> None:
    facts = {
        "inner": "{}:{}".format(*inner.getsockname()[:2]),
        "fleet": "{}:{}".format(*fleet.getsockname()[:2]),
        "lane": lane,
        "pid": os.getpid(),
    }
    log.info("superlink ready: inner %(inner)s, members %(fleet)s, lane %(lane)s", facts)
    if options.ready_file is not None:
        hidden = options.ready_file.with_name(f".{options.ready_file.name}.{os.getpid()}")
        hidden.write_text(json.dumps(facts))
        os.replace(hidden, options.ready_file)


@contextlib.contextmanager
def _listening(address: tuple[str, int]) -> Iterator[socket.socket]:
    host, port = address
    try:
        sock = socket.create_server(
            address, family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as error:
        raise InputError(f"{host}:{port}: cannot listen here: {error.strerror or error}") from error
    with contextlib.closing(sock):
        yield sock


def _check_certificate(certificate: Path | None, key: Path | None, ca: Path | None) -> None:
    """One clear sentence now instead of members that fail to connect later."""
    if certificate is None or key is None:
        raise InputError(
            "the members' listener needs --certificate and --key (or --insecure to try things out)"
        )
    for path in filter(None, (certificate, key, ca)):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError as error:
        raise InputError(f"{certificate}: not a PEM certificate: {error}") from error
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc <= now:
        raise InputError(f"{certificate}: expired on {leaf.not_valid_after_utc:%Y-%m-%d}; issue a new one")
    if leaf.not_valid_before_utc > now:
        raise InputError(f"{certificate}: valid only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise InputError(f"{key}: not the private key of {certificate}: {error}") from error


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, got {text!r}")
    return host.strip("[]"), int(port)


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="hansa superlink", description=__doc__)
    add = parser.add_argument
    add("--inner", type=_address, default=("127.0.0.1", 8000), metavar="HOST:PORT", help="all APIs")
    add("--fleet", type=_address, required=True, metavar="HOST:PORT", help="what members reach")
    add("--certificate", type=Path, help="PEM certificate of the members' listener")
    add("--key", type=Path, help="its private key")
    add("--ca", type=Path, help="the CA that members trust")
    add("--insecure", action="store_true", help="no TLS for members; to try things out only")
    add("--inner-tls", action="store_true", help="TLS on the inner listener as well")
    add(
        "--no-node-auth",
        dest="node_auth",
        action="store_false",
        help="let any node join; to try things out only",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--charter", type=Path, help="charter.toml, signed by all: its members' nodes may join")
    who.add_argument("--nodes", type=Path, help="instead: JSON or TOML list of name and public_key (OpenSSH)")
    add("--signatures", type=Path, help="default: charter.signatures.json beside the charter")
    add("--superexec-secret", type=Path, help="file with the secret that executors must know")
    add("--database", help="SQLite file for Flower's state; in memory without")
    add("--no-lane", dest="lane", action="store_false", help="serve the stock application")
    add(
        "--any-app", action="store_true", help="start whatever ServerApp is submitted; to try things out only"
    )
    add("--max-message-bytes", type=int, default=MAX_BODY_BYTES)
    add("--ready-file", type=Path, help="written, as JSON, once both listeners serve")
    add("--metrics", metavar="WHERE", help="figures: HOST:PORT, or a file that ends in .prom; default: none")
    add_log_options(parser)
    return Options(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
