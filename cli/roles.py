"""What is started for each role: the processes of DESIGN section 2, as command lines."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hansa.cli.instance import MemberFolder
from hansa.cli.processes import ProcessSpec
from hansa.contract.errors import InputError
from hansa.contract.signatures import verify_charter
from hansa.server.config import ServerConfig, read_server_config

# One organisation's process shares its machine with others, in a demo with all of them.
_ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "POLARS_MAX_THREADS",
    ),
    "1",
)
# As hansa.server.app reads it; importing it here would load Flower for every command.
CONFIG_VARIABLE = "HANSA_SERVER_CONFIG"
# Both spellings: the lower one wins where it is set already.
_PROXY = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
_FLOWER = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
# Whatever lies in the current directory must not be imported in place of a package.
_PYTHON = (sys.executable, "-P", "-u", "-m")


def superlink(config_path: Path, run: Path) -> ProcessSpec:
    """Flower's application behind the lane, with the charter's nodes registered."""
    config = read_server_config(config_path)
    folder = config_path.parent
    argv = [*_PYTHON, "hansa.server.superlink", "--inner", config.superlink, "--fleet", config.fleet]
    for option, path in (
        ("--certificate", config.tls_certificate),
        ("--key", config.tls_key),
        ("--ca", config.root_certificates),
        # Read by the SuperLink itself at each start, so that a new version's members are the ones that join.
        ("--charter", config.charter),
        ("--signatures", config.signatures),
        ("--superexec-secret", config.superexec_secret),
        ("--database", config.flower_database),
        ("--ready-file", str(run.resolve() / "superlink.ready")),
    ):
        if path is not None:
            argv += [option, str(folder / path)]
    if config.tls_certificate is None:
        argv.append("--insecure")
    argv += ["--metrics", config.superlink_metrics or figures_file(run, "superlink")]
    return ProcessSpec("superlink", tuple(argv), _environment(run), run / "superlink.ready")


def control(config_path: Path, run: Path) -> ProcessSpec:
    """API and page over the store; holds the operator's key."""
    ready = run / "control.ready"
    argv = [*_PYTHON, "hansa.server.control", "--config", str(config_path), "--ready-file", str(ready)]
    argv += ["--parallel-jobs", str(read_server_config(config_path).executors)]
    return ProcessSpec("control", tuple(argv), _environment(run), ready)


def sidecar(config_path: Path, tokens: Path, state: Path, run: Path) -> ProcessSpec:
    """Tunes, watches and recovers over control's API; training goes on without it."""
    config = read_server_config(config_path)
    ready = run / "sidecar.ready"
    argv = [*_PYTHON, "hansa.sidecar", "--control", f"http://{config.control}", "--tokens", str(tokens)]
    argv += ["--state", str(state), "--ready-file", str(ready)]
    argv += ["--metrics", config.sidecar_metrics or figures_file(run, "sidecar")]
    for name, place in (("superlink", config.superlink_metrics), ("executor", config.executor_metrics)):
        argv += ["--watch", place or figures_file(run, name)]
    if (services := state / "scaler.toml").is_file():
        argv += ["--scaler", str(services)]
    return ProcessSpec(
        "sidecar", tuple(argv), {**_environment(run), **_ONE_THREAD}, ready, after=("control",)
    )


def executor(config_path: Path, run: Path) -> ProcessSpec:
    """Starts a ServerApp for each run that the SuperLink holds."""
    config = read_server_config(config_path)
    secret = config_path.parent / config.superexec_secret
    argv: tuple[str, ...] = (*_PYTHON, "hansa.server.executor", "--address", config.superlink)
    argv += ("--secret", str(secret))
    argv += ("--metrics", config.executor_metrics or figures_file(run, "executor"))
    preload: tuple[str, ...] = ("--preload", "hansa.server.app")
    if config.executors > 1:
        preload += ("--capacity", "1")
    # A ServerApp finds its settings here; what Flower hands it is only which job.
    environment = {**_environment(run), CONFIG_VARIABLE: str(config_path.resolve())}
    return ProcessSpec("executor", argv + preload, environment, after=("superlink",))


def agent(member: MemberFolder, run: Path) -> ProcessSpec:
    """One organisation's agent: data, keys, training; no network."""
    name = f"agent-{member.config.name}"
    ready = run / f"{name}.ready"
    argv = (*_PYTHON, "hansa.clients.agent", "--folder", str(member.folder), "--ready-file", str(ready))
    return ProcessSpec(name, argv, {**_environment(run), **_ONE_THREAD}, ready)


def node(member: MemberFolder, run: Path, after: tuple[str, ...] = ()) -> ProcessSpec:
    """One organisation's node: carries bytes between the SuperLink and the agent."""
    config = member.config
    argv = [*_PYTHON, "hansa.clients.node", "--server", config.server, "--key", str(member.node_key)]
    argv += ["--work-socket", str(member.folder / config.work_socket)]
    if config.root_certificates is not None:
        argv += ["--ca", str(member.folder / config.root_certificates)]
    argv += ["--metrics", config.node_metrics or figures_file(run, f"node-{config.name}")]
    argv += ["--member", config.name]
    environment = _environment(run)
    if config.proxy is not None:
        # It may hold a password, and every user of a machine sees every command line.
        environment |= dict.fromkeys(_PROXY, config.proxy)
    return ProcessSpec(f"node-{config.name}", tuple(argv), environment, after=after)


def figures_file(run: Path, name: str) -> str:
    """Where a process shows its figures when no address is named: no port that another instance may have."""
    return str(run.resolve() / "metrics" / f"{name}.prom")


def check_files(config_path: Path, config: ServerConfig) -> None:
    """Say which file of a server is missing, or who has not signed, before anything is started.

    Raises
    ------
    InputError : naming the file and the field of server.toml
    CharterError : a member's signature does not stand under the charter
    """
    for field in (
        "charter",
        "signatures",
        "tls_certificate",
        "tls_key",
        "root_certificates",
        "superexec_secret",
    ):
        name = getattr(config, field)
        if name is not None and not (config_path.parent / name).is_file():
            raise InputError(f"{config_path.parent / name}: no such file; {config_path} names it as {field}")
    verify_charter(config_path.parent / config.charter, config_path.parent / config.signatures)


def _environment(run: Path) -> dict[str, str]:
    return {**os.environ, **_FLOWER, "FLWR_HOME": str(run.resolve() / "flower")}
