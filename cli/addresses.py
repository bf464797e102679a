"""Free ports of this machine, and moving an instance to them."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from pathlib import Path

from hansa.cli.instance import Instance
from hansa.cli.provisioning import Addresses, to_toml
from hansa.contract.errors import InputError
from hansa.contract.typed import Frozen, read_toml, write_atomically
from hansa.server.config import ServerConfig

_HOST = "127.0.0.1"
# Below the range from which the kernel takes ports for outgoing connections.
_RANGE = range(20_000, 32_000)


def free_addresses() -> Addresses:
    """Loopback addresses that nobody listens on now."""
    ports: list[int] = []
    while len(ports) < 3:
        port = random.choice(_RANGE)
        if port not in ports and is_free(f"{_HOST}:{port}"):
            ports.append(port)
    superlink, fleet, control = (f"{_HOST}:{port}" for port in ports)
    return Addresses(superlink=superlink, fleet=fleet, control=control)


def is_free(address: str) -> bool:
    """Whether this process could listen at HOST:PORT."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        # As servers do: a port whose last connections are still closing is free.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host.strip("[]"), int(port)))
        except OSError:
            return False
    return True


def check_free(config: ServerConfig, origin: Path, fields: Sequence[str]) -> None:
    """Say which address of `server.toml` is taken.

    Raises
    ------
    InputError : naming the file and the field
    """
    for field in fields:
        address = getattr(config, field)
        if not is_free(address):
            raise InputError(
                f"{origin}: {field} = {address}: something listens there already; name another port"
            )


def move(instance: Instance, addresses: Addresses) -> None:
    """Write other addresses into an instance's own files; keys and charter stay as they are."""
    own = {"superlink": addresses.superlink, "fleet": addresses.fleet, "control": addresses.control}
    for path in (instance.server_config_path, instance.control_config_path):
        _rewrite(path, read_toml(path, ServerConfig).model_copy(update=own))
    for name in instance.members:
        member = instance.member(name)
        dialled = {"server": addresses.server or addresses.fleet}
        _rewrite(member.config_path, member.config.model_copy(update=dialled))


def _rewrite(path: Path, fact: Frozen) -> None:
    write_atomically(path, to_toml(fact), mode=0o600)
