"""Node registration at start: Flower's state lives in memory, so the charter's nodes are entered anew."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, uses_nist_ec_curve

from hansa.contract.errors import InputError


@dataclass(frozen=True)
class NodeKey:
    """A member's node: its name and its public key in OpenSSH format, as the charter holds it."""

    name: str
    public_key: str


def read_node_keys(path: Path) -> list[NodeKey]:
    """Nodes from a JSON list, or a TOML file with `[[nodes]]`, of `name` and `public_key`."""
    try:
        text = path.read_text()
        entries: Any = tomllib.loads(text)["nodes"] if path.suffix == ".toml" else json.loads(text)
        if isinstance(entries, Mapping):
            entries = entries["nodes"]
        return [NodeKey(name=str(entry["name"]), public_key=str(entry["public_key"])) for entry in entries]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it lists the nodes that may join") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a list of name and public_key: {error!r}") from error


def register_nodes(state: Any, nodes: Iterable[NodeKey]) -> dict[str, int]:
    """Enter nodes into a LinkState as `flwr supernode register` does; one already there keeps its id.

    Returns node ids by name. Raises `InputError` for a key that is not a NIST elliptic-curve key.
    """
    ids: dict[str, int] = {}
    for node in nodes:
        key = _flower_key(node)
        node_id = state.get_node_id_by_public_key(key)
        if node_id is None:
            node_id = state.create_node(
                owner_aid=NOOP_FLWR_AID,
                owner_name=NOOP_ACCOUNT_NAME,
                public_key=key,
                heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL,
                location=None,
                name=node.name,
            )
        ids[node.name] = node_id
    return ids


def _flower_key(node: NodeKey) -> bytes:
    try:
        key = serialization.load_ssh_public_key(node.public_key.encode())
    except Exception as error:
        raise InputError(f"node {node.name}: public_key is not in OpenSSH format: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not uses_nist_ec_curve(key):
        raise InputError(f"node {node.name}: expected an EC key (P-256 or P-384)")
    return public_key_to_bytes(key)
