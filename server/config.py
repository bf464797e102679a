"""`server.toml`: the consortium's server, as one typed file; relative paths start at its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from hansa.contract.typed import Frozen, read_toml


class ServerConfig(Frozen):
    """Addresses, files and the store of one consortium's server."""

    charter: str = "charter.toml"
    signatures: str = "charter.signatures.json"
    # SQLAlchemy URL; `sqlite:///store.sqlite` is relative to this file's folder.
    store: str = "sqlite:///store.sqlite"
    # Flower's own application, for the consortium's processes alone.
    superlink: str = "127.0.0.1:9440"
    # The listener that members reach; TLS, `/v1/fleet/` only.
    fleet: str = "127.0.0.1:9443"
    # Control: API and page.
    control: str = "127.0.0.1:9480"
    tls_certificate: str | None = "server.crt"
    tls_key: str | None = "server.key"
    root_certificates: str | None = "ca.crt"
    # Jobs that run side by side at most, each in an executor of its own; with one, the executor takes what comes.
    executors: Annotated[int, Field(ge=1, le=1000)] = 1
    # Secret between SuperLink and its executors.
    superexec_secret: str = "superexec.secret"
    # Held by control alone.
    operator_key: str = "operator.key"
    # JSON: bearer tokens {"read": ..., "write": ..., "sign": ...}, mode 0600.
    tokens: str = "tokens.json"
    # Where the processes show their figures: HOST:PORT; by default each in a file of its own, run/metrics/NAME.prom.
    # Control's are a route of its API.
    superlink_metrics: str | None = None
    executor_metrics: str | None = None
    sidecar_metrics: str | None = None
    # Flower's database; its default, memory, is right: what must last is in the store.
    flower_database: str | None = None


def read_server_config(path: Path) -> ServerConfig:
    """Read `server.toml`."""
    return read_toml(path, ServerConfig)
