"""New certificates, CAs and tokens: each share goes where the one before was, and nothing is left half trusted."""

from __future__ import annotations

import base64
import errno
import json
import os
import ssl
import stat
import struct
from pathlib import Path

import pytest
from cli_side import Commands, commands, write_scenario
from cryptography import x509

from hansa.cli.instance import Instance
from hansa.cli.provisioning import provision
from hansa.contract.scenario import read_scenario


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    origin = write_scenario(tmp_path / "scenario")
    return provision(*read_scenario(origin), origin=origin, out=tmp_path / "made")


@pytest.fixture
def hansa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


def names(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*held.get_values_for_type(x509.DNSName), *map(str, held.get_values_for_type(x509.IPAddress))]


def packed(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(it)) + it for it in parts)


def trusted(path: Path) -> int:
    """How many CAs a file holds, as OpenSSL reads it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return len(context.get_ca_certs())


def test_a_certificate_is_renewed_with_the_names_it_had(hansa: Commands, instance: Instance) -> None:
    path = instance.server / "server.crt"
    before, held = path.read_bytes(), names(path)
    said = hansa("provision", "certificate", "--instance", str(instance.folder), "--name", "fl.example.org")
    assert said.code == 0, said.err
    assert path.read_bytes() != before
    assert sorted(names(path)) == sorted([*held, "fl.example.org"])
    assert stat.S_IMODE((instance.server / "server.key").stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, instance.server / "server.key")


def test_a_new_ca_is_trusted_beside_the_old_one_until_its_certificate_is_served(
    hansa: Commands, instance: Instance
) -> None:
    where = ("--instance", str(instance.folder))
    files = [instance.server / "ca.crt", *(instance.member(it).node_ca for it in instance.members)]
    old = files[0].read_bytes()
    assert hansa("provision", "authority", *where).code == 0
    assert [trusted(it) for it in files] == [2] * 4
    assert all(old.strip() in it.read_bytes() for it in files)
    # Members would be cut off: what is served is the old CA's still.
    said = hansa("provision", "authority", "--only-newest", *where)
    assert said.code == 2
    assert "was issued by another CA; renew it first" in said.err
    assert hansa("provision", "certificate", *where).code == 0
    assert hansa("provision", "authority", "--only-newest", *where).code == 0
    assert [trusted(it) for it in files] == [1] * 4
    newest = x509.load_pem_x509_certificate(files[-1].read_bytes())
    x509.load_pem_x509_certificate((instance.server / "server.crt").read_bytes()).verify_directly_issued_by(
        newest
    )


def test_no_certificate_of_a_ca_that_nobody_trusts(hansa: Commands, instance: Instance) -> None:
    where = ("--instance", str(instance.folder))
    old = (instance.server / "ca.crt").read_bytes()
    assert hansa("provision", "authority", *where).code == 0
    (instance.server / "ca.crt").write_bytes(old)
    before = (instance.server / "server.crt").read_bytes()
    said = hansa("provision", "certificate", *where)
    assert said.code == 2
    assert "does not hold the CA" in said.err
    assert (instance.server / "server.crt").read_bytes() == before


def test_tokens_are_new_everywhere_and_nobody_gets_another_ones(hansa: Commands, instance: Instance) -> None:
    folders = (instance.control, instance.server, instance.operator, instance.sidecar)
    before = [json.loads((it / "tokens.json").read_text()) for it in folders]
    assert hansa("provision", "tokens", "--instance", str(instance.folder)).code == 0
    after = [json.loads((it / "tokens.json").read_text()) for it in folders]
    assert [set(it) for it in before] == [set(it) for it in after]
    assert not {*before[0].values()} & {*after[0].values()}
    assert all(it.items() <= after[0].items() for it in after)
    assert (instance.monitoring / "read.token").read_text() == after[0]["read"]


@pytest.mark.parametrize(
    "name", ["", "a b", "ümlaut.example", "x" * 3000, "-a.example", "10.0.0.300", "fe80::1%eth0"]
)
def test_a_name_that_no_certificate_can_hold_changes_nothing(
    hansa: Commands, instance: Instance, name: str
) -> None:
    before = (instance.server / "server.key").read_bytes()
    said = hansa("provision", "certificate", "--instance", str(instance.folder), "--name", name)
    assert (said.code, "expected an address or a DNS name" in said.err) == (2, True), said.err
    assert len(said.err) < 300
    assert (instance.server / "server.key").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"noise\n" * 40_000, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("path", ["server/server.crt", "server/ca.crt", "ca/ca.crt", "ca/ca.key"])
def test_a_damaged_file_is_named_and_nothing_of_it_is_handed_on(
    hansa: Commands, instance: Instance, path: str, content: bytes
) -> None:
    damaged = instance.folder / path
    damaged.write_bytes(content)
    files = {it: it.read_bytes() for it in instance.folder.rglob("*") if it.is_file()}
    steps = {
        "server/server.crt": (("certificate",), ("authority", "--only-newest")),
        "server/ca.crt": (("certificate",), ("authority",)),
    }
    for step in steps.get(path, (("certificate",), ("authority", "--only-newest"))):
        said = hansa("provision", *step, "--instance", str(instance.folder))
        assert (said.code, str(damaged) in said.err) == (2, True), said.err
        assert said.err.count("\n") == 1
    assert {it: it.read_bytes() for it in files} == files


def test_members_get_certificates_and_nothing_else_of_the_file(hansa: Commands, instance: Instance) -> None:
    path = instance.server / "ca.crt"
    path.write_bytes(b"noise\n" + path.read_bytes() + b"-----BEGIN SOMETHING-----\n")
    assert hansa("provision", "authority", "--instance", str(instance.folder)).code == 0
    held = instance.member("a").node_ca
    assert trusted(held) == 2
    assert held.read_bytes().count(b"-----BEGIN") == 2
    assert b"noise" not in held.read_bytes()


def test_what_the_disk_refuses_is_one_line(
    hansa: Commands, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    member = instance.member_path("a")
    before = (instance.control / "tokens.json").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    for words, path in (
        (("tokens", "--instance", str(instance.folder)), instance.control / "tokens.json"),
        (("rotate", str(member)), member / "next" / "identity.key"),
    ):
        said = hansa("provision", *words)
        assert (said.code, said.err) == (1, f"hansa: {path}: No space left on device\n")
        assert not list(path.parent.glob(".*"))
    assert (instance.control / "tokens.json").read_bytes() == before


def test_keys_that_cannot_be_turned_are_said_in_one_line(hansa: Commands, instance: Instance) -> None:
    a = instance.member("a")
    (a.folder / "next").write_text("in the way")
    said = hansa("provision", "rotate", str(a.folder))
    assert (said.code, "is in the way of a folder" in said.err) == (2, True), said.err
    (a.folder / "next").unlink()
    # As ssh-keygen writes one with a passphrase: another cipher than none is named.
    lines = a.node_key.read_text().splitlines()
    content = base64.b64decode("".join(lines[1:-1]))
    salted = packed(b"aes256-ctr", b"bcrypt", packed(b"salt" * 4) + struct.pack(">I", 16))
    content = content.replace(packed(b"none", b"none", b""), salted, 1)
    key = "\n".join([lines[0], base64.b64encode(content).decode(), lines[-1], ""])
    (a.folder / "node" / "next").mkdir()
    (a.folder / "node" / "next" / "node.key").write_text(key)
    said = hansa("provision", "rotate", str(a.folder))
    assert (said.code, "without a passphrase" in said.err) == (2, True), said.err


def test_what_a_stopped_process_left_of_a_key_goes_when_the_same_is_said_again(
    hansa: Commands, instance: Instance
) -> None:
    a = instance.member_path("a")
    left = [
        a / "next" / ".identity.key.abcdefgh",
        a / "node" / "next" / ".node.key.abcdefgh",
        instance.control / ".tokens.json.abcdefgh",
        instance.server / ".server.key.abcdefgh",
        instance.ca / ".ca.key.abcdefgh",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_text("a key")
        os.utime(path, (0, 0))
    assert hansa("provision", "rotate", str(a)).code == 0
    for step in ("tokens", "authority", "certificate"):
        assert hansa("provision", step, "--instance", str(instance.folder)).code == 0
    assert not [it for it in left if it.exists()]
