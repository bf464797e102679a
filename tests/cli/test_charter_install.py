"""`hansa charter install`: keys that wait, folders of several users, what is checked before anything is written."""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tomli_w
from charter_side import entry, next_version, sign_by_all
from cli_side import Commands, commands, write_scenario

from hansa.cli.instance import Instance
from hansa.cli.provisioning import provision
from hansa.cli.rotation import key_files
from hansa.cli.run_record import only_one
from hansa.contract.scenario import read_scenario
from hansa.contract.signatures import read_charter, read_pin


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    origin = write_scenario(tmp_path / "scenario", ("a", "b", "c", "d"))
    return provision(*read_scenario(origin), origin=origin, out=tmp_path / "made")


@pytest.fixture
def hansa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


def signed(hansa: Commands, instance: Instance, *changes: str) -> Path:
    """The next version of what the server's folder has, signed by all."""
    for it in (instance.folder / "now").glob("charter.next.*"):
        it.unlink()
    path = next_version(hansa, instance, *changes)
    sign_by_all(hansa, path, instance)
    return path


def install(hansa: Commands, instance: Instance, path: Path, *more: str) -> str:
    said = hansa("charter", "install", str(path), "--instance", str(instance.folder), *more)
    assert said.code == 0, said.err
    return said.out


def files(folder: Path) -> dict[Path, bytes]:
    return {it: it.read_bytes() for it in folder.rglob("*") if it.is_file()}


def rewritten(hansa: Commands, instance: Instance, path: Path, **changes: object) -> None:
    """The version with fields that `amend` does not write, signed by all."""
    document = tomllib.loads(path.read_text())
    path.write_text(tomli_w.dumps({**document, **changes}))
    sign_by_all(hansa, path, instance)


def test_whoever_left_comes_back_with_its_folder(hansa: Commands, instance: Instance) -> None:
    d = instance.member_path("d")
    public = entry(hansa, instance, "rotate", str(d))
    # It comes back with the keys that it has.
    document = tomllib.loads(instance.charter.read_text())
    own = next(it for it in document["members"] if it["name"] == "d")
    public.write_text(tomli_w.dumps({"members": [own]}))
    said = install(hansa, instance, signed(hansa, instance, "--remove", "d"))
    former = instance.folder / "former" / "d"
    assert "'d' is no member of version 2, and no agent starts there any more" in said
    pinned = read_pin(former)
    assert pinned is not None
    assert pinned.version == 2
    former.rename(d)
    path = come_back(hansa, instance, public)
    said = install(hansa, instance, path)
    assert f"{d}: has version 3" in said
    assert {it.stem for it in (d / "charters").glob("*.toml")} >= {pinned.hash, *pinned.superseded}


def come_back(hansa: Commands, instance: Instance, public: Path) -> Path:
    for it in (instance.folder / "now").glob("charter.next.*"):
        it.unlink()
    path = next_version(hansa, instance, "--add", str(public))
    sign_by_all(hansa, path, instance)
    return path


def test_a_version_without_a_member_that_nobody_signed_whom_it_knows_is_not_pinned(
    hansa: Commands, instance: Instance, tmp_path: Path
) -> None:
    other = provision(
        *read_scenario(tmp_path / "scenario"), origin=tmp_path / "scenario", out=tmp_path / "other"
    )
    document = tomllib.loads(other.charter.read_text())
    document |= {"version": 2, "previous": read_charter(instance.charter)[1]}
    document["members"] = [it for it in document["members"] if it["name"] != "d"]
    path = tmp_path / "strange.toml"
    path.write_text(tomli_w.dumps(document))
    sign_by_all(hansa, path, other)
    d = instance.member_path("d")
    said = hansa("charter", "install", str(path), "--folder", str(d))
    assert said.code == 2
    assert "too few members signed" in said.err
    pinned = read_pin(d)
    assert pinned is not None
    assert pinned.version == 1


def test_keys_wait_until_a_version_names_them(hansa: Commands, instance: Instance) -> None:
    a = instance.member_path("a")
    turned = entry(hansa, instance, "rotate", str(a))
    waiting = {kind: key.waiting_public for kind, key in key_files(a).items()}
    said = install(hansa, instance, signed(hansa, instance, "--expires", "2030-01-31"))
    assert f"{a}: has version 2" in said
    assert "keys wait on for a version that names them: identity, sealing, node" in said
    # In force already: said again nothing happens, and it says so.
    said = install(hansa, instance, instance.folder / "now" / "charter.next.toml")
    assert f"{a}: had version 2 already" in said
    assert "refuses older ones from now on" not in said
    assert "goes on under the version before" not in said
    assert {kind: key.waiting_public for kind, key in key_files(a).items()} == waiting
    said = install(hansa, instance, signed(hansa, instance, "--replace", str(turned)))
    assert "has version 3, and new keys: identity, sealing, node" in said
    assert {kind: key.public for kind, key in key_files(a).items()} == waiting
    assert not list((a / "next").iterdir())


def test_a_nodes_public_part_follows_its_key_wherever_it_was_stopped(
    hansa: Commands, instance: Instance
) -> None:
    a = instance.member(name="a")
    before = a.node_public.read_bytes()
    path = signed(
        hansa, instance, "--replace", str(entry(hansa, instance, "rotate", str(a.folder), "--key", "node"))
    )
    install(hansa, instance, path)
    after = a.node_public.read_bytes()
    assert after != before
    a.node_public.write_bytes(before)
    install(hansa, instance, path)
    assert a.node_public.read_bytes() == after


def test_a_retired_key_is_called_by_what_it_is(hansa: Commands, instance: Instance) -> None:
    a = instance.member_path("a")
    kept = {}
    for year in ("2030", "2031"):
        identity = a / "identity.key"
        # As a restored backup leaves it: times say nothing of which key it is.
        os.utime(identity, (0, 0))
        kept[year] = identity.read_bytes()
        turned = entry(hansa, instance, "rotate", str(a), "--key", "identity")
        install(
            hansa,
            instance,
            signed(hansa, instance, "--replace", str(turned), "--expires", f"{year}-01-31"),
        )
    assert sorted(it.read_bytes() for it in (a / "retired").iterdir()) == sorted(kept.values())


def test_nothing_is_written_where_anything_of_it_would_fail(hansa: Commands, instance: Instance) -> None:
    path = signed(hansa, instance, "--remove", "d")
    a = instance.member_path("a")
    former = instance.folder / "former"
    former.write_text("in the way")
    before = files(instance.folder)
    words = ("charter", "install", str(path), "--instance", str(instance.folder))
    said = hansa(*words)
    assert (said.code, "is in the way of a folder" in said.err) == (2, True)
    assert files(instance.folder) == before
    former.unlink()
    own = (instance.server / "ca.crt").read_bytes()
    for content, sentence in ((None, "ca.crt: no such file"), (b"noise", "holds no certificate")):
        (a / "ca.crt").unlink(missing_ok=True)
        (instance.server / "ca.crt").unlink(missing_ok=True)
        if content is not None:
            (instance.server / "ca.crt").write_bytes(content)
        before = files(instance.folder)
        said = hansa(*words)
        assert (said.code, sentence in said.err) == (2, True), said.err
        assert files(instance.folder) == before
    (instance.server / "ca.crt").write_bytes(own)
    # One of that name left before.
    (former / "d").mkdir(parents=True)
    assert f"moved to {former / 'd-2'}" in install(hansa, instance, path)
    assert (a / "ca.crt").read_bytes() == own
    assert (former / "d-2" / "identity.key").is_file()


@pytest.mark.parametrize(
    "where", ["run/up", "server/run/server", "control/run/control", "members/d/run/client"]
)
def test_whatever_of_an_instance_runs_is_stopped_first(
    hansa: Commands, instance: Instance, where: str
) -> None:
    path = signed(hansa, instance, "--remove", "d")
    with only_one(instance.folder / f"{where}.json", "it"):
        before = files(instance.folder)
        said = hansa("charter", "install", str(path), "--instance", str(instance.folder))
        assert (said.code, "runs; stop it first" in said.err) == (2, True), said.err
        assert files(instance.folder) == before
    install(hansa, instance, path)


def test_a_version_that_nothing_can_run_under_is_passed_through_only_on_demand(
    hansa: Commands, instance: Instance
) -> None:
    a = instance.member_path("a")
    path = signed(hansa, instance, "--expires", "2030-01-31")
    gone = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    for change, sentence in (
        ({"expires": gone}, "version 2: ran out on"),
        (
            {"expires": gone + timedelta(days=9), "metrics": {"per_member": True}},
            "releases no figures of single members",
        ),
    ):
        rewritten(hansa, instance, path, **change)
        for target in (("--folder", str(a)), ("--instance", str(instance.folder))):
            said = hansa("charter", "install", str(path), *target)
            assert (said.code, sentence in said.err) == (2, True), said.err
            assert read_charter(a / "charter.toml")[0].version == 1
    pinned = read_pin(a)
    assert pinned is not None
    assert pinned.version == 1
    rewritten(hansa, instance, path, expires=gone, metrics={})
    install(hansa, instance, path, "--superseded")
    # It is there, and said again it changes nothing; and the next one follows it.
    install(hansa, instance, path)
    assert "has version 3" in install(hansa, instance, signed(hansa, instance, "--expires", "2030-01-31"))


def test_another_models_hash_is_a_warning(hansa: Commands, instance: Instance) -> None:
    path = signed(hansa, instance, "--set", f"task.model.distribution_hash={'0' * 64}")
    said = hansa("charter", "install", str(path), "--instance", str(instance.folder))
    assert said.code == 0
    assert "warning: model 'linear'" in said.err
    assert "agents do not start under this charter until it is there" in said.err


def test_every_command_finds_the_files_that_settings_name(hansa: Commands, instance: Instance) -> None:
    path = signed(hansa, instance, "--expires", "2030-01-31")
    a = instance.member_path("a")
    for folder, settings in ((a, "member.toml"), (instance.control, "server.toml")):
        (folder / "agreed").mkdir()
        names = {"charter": "agreed/it.toml", "signatures": "agreed/it.json"}
        (folder / "charter.toml").rename(folder / names["charter"])
        (folder / "charter.signatures.json").rename(folder / names["signatures"])
        if folder == instance.control:
            names["operator_key"] = "agreed/op.key"
            (folder / "operator.key").rename(folder / "agreed" / "op.key")
        document = tomllib.loads((folder / settings).read_text())
        (folder / settings).write_text(tomli_w.dumps({**document, **names}))
    install(hansa, instance, path)
    assert read_charter(a / "agreed" / "it.toml")[0].version == 2
    assert not (a / "charter.toml").exists()
    key = hansa("provision", "rotate", str(instance.control)).out.strip()
    assert (instance.control / "agreed" / "next" / "op.key").is_file()
    turned = entry(hansa, instance, "rotate", str(a))
    said = install(hansa, instance, signed(hansa, instance, "--replace", str(turned), "--operator", key))
    assert f"{instance.control}: has version 3, and new keys: operator" in said
    assert not (instance.control / "operator.key").exists()
