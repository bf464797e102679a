"""An instance is there whole or not at all, and private parts are private."""

from __future__ import annotations

import json
import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_side import hansa, write_scenario
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from hansa.cli import provisioning
from hansa.cli.instance import Instance
from hansa.cli.provisioning import Addresses, provision
from hansa.contract.errors import InputError
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.scenario import read_scenario
from hansa.contract.signatures import read_pin, verify_charter

PRIVATE = {
    "identity.key",
    "sealing.key",
    "split.key",
    "node.key",
    "ca.key",
    "server.key",
    "operator.key",
    "read.token",
}
PRIVATE |= {"tokens.json", "superexec.secret", "pin.json"}


def make(folder: Path, out: Path | None = None, **options: object) -> Instance:
    origin = write_scenario(folder / "scenario")
    scenario, features = read_scenario(origin)
    return provision(scenario, features, origin=origin, out=out or folder / "made", **options)  # type: ignore[arg-type]


def test_every_private_part_is_its_owners_alone(tmp_path: Path) -> None:
    instance = make(tmp_path)
    seen = set()
    for path in instance.folder.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.name in PRIVATE:
            seen.add(path.name)
            assert mode == 0o600, path
        if path.is_dir():
            assert mode == 0o700, path
    assert seen == PRIVATE
    assert stat.S_IMODE(instance.folder.stat().st_mode) == 0o700


def test_private_parts_stand_under_their_owner(tmp_path: Path) -> None:
    instance = make(tmp_path)
    assert [path.parent for path in instance.folder.rglob("operator.key")] == [instance.control]
    assert [path.parent for path in instance.folder.rglob("ca.key")] == [instance.ca]
    assert [path.parent for path in instance.folder.rglob("server.key")] == [instance.server]
    assert {path.name for path in instance.operator.iterdir()} == {"tokens.json", "job.toml"}
    held = json.loads((instance.operator / "tokens.json").read_text())
    assert set(held) == {"read", "write"}
    assert held.items() < json.loads((instance.control / "tokens.json").read_text()).items()
    assert instance.tokens == held
    steers = json.loads(instance.sidecar_tokens_path.read_text())
    assert set(steers) == {"steer"}
    assert stat.S_IMODE(instance.sidecar_tokens_path.stat().st_mode) == 0o600
    assert steers.items() < json.loads((instance.control / "tokens.json").read_text()).items()
    node = {path.name for path in (instance.members_folder / "a" / "node").iterdir()}
    assert node == {"node.key", "node.pub", "ca.crt"}


def test_the_charter_is_signed_by_all_and_pinned_by_each(tmp_path: Path) -> None:
    instance = make(tmp_path)
    verified = verify_charter(instance.charter, instance.signatures)
    for name in ("a", "b", "c"):
        folder = instance.member(name)
        member = verified.charter.member(name)
        assert member is not None
        assert verify_charter(folder.charter, folder.signatures).hash == verified.hash
        assert to_text(SigningKey.load(folder.identity_key).public) == member.identity_key
        assert folder.node_public.read_text().strip() == member.node_key
        pinned = read_pin(folder.folder)
        assert pinned is not None
        assert pinned.hash == verified.hash


def test_the_certificate_holds_every_name_that_members_use(tmp_path: Path) -> None:
    addresses = Addresses(fleet="0.0.0.0:9443", server="fl.example.org:9443", names=("10.1.2.3", "superlink"))
    instance = make(tmp_path, addresses=addresses)
    certificate = x509.load_pem_x509_certificate((instance.server / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "superlink", "fl.example.org"]
    assert [str(it) for it in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "10.1.2.3"]
    authority = x509.load_pem_x509_certificate((instance.ca / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    assert instance.member("a").config.server == "fl.example.org:9443"


def test_relative_data_paths_start_at_the_scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scenario, features = read_scenario(write_scenario(Path("scenario")))
    instance = provision(scenario, features, origin=Path("scenario"), out=Path("made"))
    assert instance.member("a").config.data.path == str(tmp_path / "scenario" / "a.csv")  # type: ignore[union-attr]


def test_an_instance_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    instance = make(tmp_path)
    before = (instance.control / "operator.key").read_text()
    with pytest.raises(InputError, match=r"an instance is there already; --force replaces it"):
        make(tmp_path)
    assert (instance.control / "operator.key").read_text() == before
    make(tmp_path, force=True)
    assert (instance.control / "operator.key").read_text() != before
    assert [path.name for path in tmp_path.iterdir()].count("made") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "scenario"]


def test_a_folder_that_is_no_instance_is_left_alone_even_with_force(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is in the way and no instance"):
        make(tmp_path, force=True)
    assert (tmp_path / "made" / "thesis.txt").exists()


def test_nothing_is_left_when_it_fails_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(provisioning, "pin", fail)
    with pytest.raises(OSError, match="disk is full"):
        make(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenario"]


def test_if_missing_does_nothing_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = str(write_scenario(tmp_path / "scenario"))
    arguments = ["provision", scenario, "--out", str(tmp_path / "made"), "--if-missing"]
    assert hansa(arguments, monkeypatch) == 0
    key = (tmp_path / "made" / "control" / "operator.key").read_text()
    assert hansa(arguments, monkeypatch) == 0
    assert "there already" in capsys.readouterr().out
    assert (tmp_path / "made" / "control" / "operator.key").read_text() == key


def test_a_member_prints_only_its_public_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "own"
    arguments = ["provision", "member", "--name", "gdansk", "--out", str(folder), "--sector", "banking"]
    assert hansa(arguments, monkeypatch) == 0
    printed = capsys.readouterr().out
    entry = tomllib.loads(printed)["members"][0]
    assert entry["name"] == entry["controller"] == "gdansk"
    assert entry["identity_key"] == to_text(SigningKey.load(folder / "identity.key").public)
    for name in ("identity.key", "sealing.key", "split.key", "node/node.key"):
        assert (folder / name).read_text().strip() not in printed
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert hansa(arguments, monkeypatch) == 2
    assert "is not overwritten" in capsys.readouterr().err


def test_a_table_that_is_not_there_yet_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, folder = tmp_path / "records.csv", tmp_path / "own"
    arguments = ["provision", "member", "--name", "gdansk", "--server", "x:1", "--csv", str(table)]
    assert hansa([*arguments, "--out", str(folder)], monkeypatch) == 0
    assert f"warning: --csv {table}: no such file yet" in capsys.readouterr().err
    assert (folder / "member.toml").is_file()


def test_members_that_made_their_own_keys_sign_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = make(tmp_path)
    charter, signatures = instance.charter, instance.signatures
    signatures.unlink()
    for name in ("a", "b", "c"):
        assert hansa(["charter", "verify", str(charter)], monkeypatch) == 2
        key = str(instance.member(name).identity_key)
        assert hansa(["charter", "sign", str(charter), "--name", name, "--identity", key], monkeypatch) == 0
    assert "all members have signed" in capsys.readouterr().out
    assert hansa(["charter", "verify", str(charter), "--json"], monkeypatch) == 0
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "60")
    assert hansa(["charter", "show", str(charter)], monkeypatch) == 0
    agreed = verify_charter(charter, signatures)
    out = capsys.readouterr().out
    whole = [agreed.hash, *(it.identity_key for it in agreed.charter.members)]
    assert all(it in out for it in [*whole, *(it.name for it in agreed.charter.task.features.columns)])


def test_an_expired_charter_shows_in_its_warning(tmp_path: Path) -> None:
    from hansa.cli.attention import instance_warnings

    instance = make(tmp_path)
    charter = verify_charter(instance.charter, instance.signatures).charter
    assert not any("expires" in it for it in instance_warnings(instance, datetime.now(UTC)))
    soon = charter.expires - provisioning.CHARTER_LIFETIME / 20
    assert any("expires on" in it for it in instance_warnings(instance, soon))
    (instance.server / "server.crt").unlink()
    assert any("server.crt: no such file" in it for it in instance_warnings(instance))
