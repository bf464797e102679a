"""What is wrong with a SuperLink's input is said in one line before anything is served."""

from __future__ import annotations

import datetime
import json
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_side import write_scenario
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import NameOID
from lane_side import Side, ssh_public

from hansa.cli.provisioning import provision
from hansa.contract.errors import InputError
from hansa.contract.scenario import read_scenario
from hansa.contract.signatures import Signatures, read_charter, read_signatures, write_signatures
from hansa.server import superlink
from hansa.server.lane import NodeKey, read_node_keys, register_nodes
from hansa.server.superlink import main


def _certificate(folder: Path, days: tuple[int, int] = (-1, 1)) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return paths


def _refused(capsys: Any, *options: str) -> str:
    assert main(["--inner", "127.0.0.1:0", "--fleet", "127.0.0.1:0", *options]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_port_in_use_is_named(capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = _refused(capsys, "--insecure", "--inner", f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}" in said
    assert "in use" in said


def test_tls_needs_a_certificate_that_exists(capsys: Any, tmp_path: Path) -> None:
    assert "--certificate" in _refused(capsys)
    said = _refused(capsys, "--certificate", str(tmp_path / "no.crt"), "--key", str(tmp_path / "no.key"))
    assert "no such file" in said


def test_an_expired_certificate_is_said_to_be_expired(capsys: Any, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, (-10, -1))
    assert "expired on" in _refused(capsys, "--certificate", str(certificate), "--key", str(key))


def test_a_certificate_of_tomorrow_is_not_served_today(capsys: Any, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, (1, 2))
    assert "valid only from" in _refused(capsys, "--certificate", str(certificate), "--key", str(key))


def test_a_key_of_another_certificate_is_found_out(capsys: Any, tmp_path: Path) -> None:
    certificate, _ = _certificate(tmp_path)
    (other := tmp_path / "other").mkdir()
    _, key = _certificate(other)
    assert "not the private key" in _refused(capsys, "--certificate", str(certificate), "--key", str(key))


def test_a_list_of_nodes_is_checked(capsys: Any, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.json"
    assert "no such file" in _refused(capsys, "--insecure", "--nodes", str(nodes))
    nodes.write_text("[{}]")
    assert "public_key" in _refused(capsys, "--insecure", "--nodes", str(nodes))


def test_a_short_secret_is_refused(capsys: Any, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    assert "SuperExec secret" in _refused(capsys, "--insecure", "--superexec-secret", str(secret))


def test_nodes_are_read_from_json_and_toml(tmp_path: Path) -> None:
    key = ssh_public(ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "n.json").write_text(json.dumps([{"name": "a", "public_key": key}]))
    (tmp_path / "n.toml").write_text(f'[[nodes]]\nname = "a"\npublic_key = "{key}"\n')
    for name in ("n.json", "n.toml"):
        assert read_node_keys(tmp_path / name) == [NodeKey("a", key)]


def test_registering_twice_keeps_the_node_id(tmp_path: Path) -> None:
    side = Side(tmp_path, lane=False)
    nodes = [NodeKey("alpha", ssh_public(side.keys[0])), NodeKey("beta", ssh_public(side.keys[1]))]
    assert list(register_nodes(side.state, nodes).values()) == side.node_ids


@pytest.mark.parametrize("key", ["nonsense", "ed25519"])
def test_only_elliptic_curve_keys_are_registered(tmp_path: Path, key: str) -> None:
    if key == "ed25519":
        public = ed25519.Ed25519PrivateKey.generate().public_key()
        key = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    with pytest.raises(InputError, match="node gamma"):
        register_nodes(Side(tmp_path, lane=False).state, [NodeKey("gamma", key)])


def test_a_charter_that_somebody_has_not_signed_admits_nobody(capsys: Any, tmp_path: Path) -> None:
    charter = _signed(tmp_path, names=("a", "b"))
    assert "the signature of member 'c' is missing" in _refused(
        capsys, "--insecure", "--charter", str(charter)
    )


def test_the_charters_nodes_are_registered_whatever_list_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    charter = _signed(tmp_path)
    stale = [{"name": "gone", "public_key": ssh_public(ec.generate_private_key(ec.SECP256R1()))}]
    (tmp_path / "nodes.json").write_text(json.dumps(stale))
    found: list[NodeKey] = []

    def register(state: Any, nodes: list[NodeKey]) -> None:
        found.extend(nodes)
        raise InputError("enough")

    monkeypatch.setattr(superlink, "register_nodes", register)
    listen = ["--insecure", "--inner", "127.0.0.1:0", "--fleet", "127.0.0.1:0"]
    assert main([*listen, "--charter", str(charter)]) == 2
    members = read_charter(charter)[0].members
    assert found == [NodeKey(it.name, it.node_key) for it in members]
    assert len(found) == 3


def _signed(folder: Path, names: Sequence[str] = ("a", "b", "c")) -> Path:
    """A charter of the members a, b and c, signed by `names`."""
    origin = write_scenario(folder / "tiny")
    scenario, features = read_scenario(origin)
    made = provision(scenario, features, origin=origin, out=folder / "made")
    signed = read_signatures(made.signatures)
    kept = {name: signed.signatures[name] for name in names}
    write_signatures(made.signatures, Signatures(charter=signed.charter, signatures=kept))
    return made.charter
