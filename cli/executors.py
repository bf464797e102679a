"""Several executors on this machine: the first under the supervisor, the others come and go with the jobs."""

from __future__ import annotations

import tomli_w

from hansa.cli import roles
from hansa.cli.instance import Instance
from hansa.cli.provisioning import to_toml
from hansa.contract.typed import write_atomically
from hansa.server.config import read_server_config

_MARK = b"# Written by hansa up --executors, which replaces it; without this line it is yours.\n"
# An executor that nobody watches any more ends by itself.
_GIVE_UP_S = 30
_STARTUP_S = 10
# A run may take so long to finish in an executor that leaves.
_DRAIN_S = 86_400


def set_executors(instance: Instance, count: int) -> None:
    """Have up to `count` jobs of an instance run side by side; its sidecar starts and stops all executors but one.

    A `scaler.toml` that somebody else wrote stays as it is.
    """
    for path in (instance.server_config_path, instance.control_config_path):
        config = read_server_config(path).model_copy(update={"executors": count})
        write_atomically(path, to_toml(config), mode=0o600)
    path = instance.scaler_services
    if path.exists() and not path.read_bytes().startswith(_MARK):
        return
    if count > 1:
        write_atomically(path, _MARK + services_toml(instance, count))
    else:
        path.unlink(missing_ok=True)


def services_toml(instance: Instance, count: int) -> bytes:
    """`scaler.toml` with executors as processes: as many as jobs that wait or run, between 1 and `count`."""
    spec = roles.executor(instance.server_config_path.resolve(), instance.run)
    command = [*spec.argv, "--ready-file", "{ready}", "--give-up", str(_GIVE_UP_S)]
    own = (roles.CONFIG_VARIABLE, "FLWR_HOME", "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK")
    service = {
        "name": "executor",
        "capacity": 1,
        "minimum": 1,
        "maximum": count,
        "startup_s": _STARTUP_S,
        "policy": "demand",
        "cooldown_s": 60,
        "signals": {"kind": "control"},
        "actuator": {
            "kind": "processes",
            "command": command,
            "env": {name: spec.env[name] for name in own},
            "drain": "USR1",
            "drain_s": _DRAIN_S,
            # The supervisor's own.
            "fixed": 1,
        },
    }
    # Jobs are few and wait for nobody's convenience: looked at often.
    return tomli_w.dumps({"every_s": 5, "service": [service]}).encode()
