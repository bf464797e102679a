"""New certificates, CAs and tokens: each share goes where the one before was, and nothing is left half trusted."""

from __future__ import annotations

import json
import ssl
import stat
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
