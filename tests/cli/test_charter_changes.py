"""The charter's next version: written, read by members, signed, installed with the keys that it names."""

from __future__ import annotations

import itertools
import json
import os
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w
from charter_side import entry, next_version, sign_by_all
from cli_side import Commands, commands, write_scenario

from hansa.cli.instance import Instance
from hansa.cli.member_keys import make_member_keys
from hansa.cli.provisioning import provision
from hansa.contract.charter import Charter
from hansa.contract.keys import SigningKey
from hansa.contract.scenario import read_scenario
from hansa.contract.signatures import read_charter, read_pin, sign_charter, verify_charter


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    origin = write_scenario(tmp_path / "scenario")
    return provision(*read_scenario(origin), origin=origin, out=tmp_path / "made")


@pytest.fixture
def hansa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


def stopping(real: Callable[..., None], steps: Iterator[int], dies: int) -> Callable[..., None]:
    """The function, which is stopped where the count of them comes to `dies`."""

    def call(*arguments: object, **options: object) -> None:
        if next(steps) == dies:
            raise KeyboardInterrupt
        real(*arguments, **options)

    return call


def charter_of(folder: Path) -> Charter:
    return verify_charter(folder / "charter.toml", folder / "charter.signatures.json").charter


def test_a_member_takes_new_keys_another_leaves_and_one_joins(
    hansa: Commands, instance: Instance, tmp_path: Path
) -> None:
    a, d = instance.member_path("a"), instance.member_path("d")
    before = {
        path: path.read_bytes() for path in (a / "identity.key", a / "node" / "node.key", a / "split.key")
    }
    turned = entry(hansa, instance, "rotate", str(a))
    # Said again it is the same entry: keys that wait are not made anew.
    assert entry(hansa, instance, "rotate", str(a)).read_text() == turned.read_text()
    csv = str(tmp_path / "scenario" / "a.csv")
    joins = entry(
        hansa, instance, "member", "--name", "d", "--out", str(d), "--server", "127.0.0.1:9443", "--csv", csv
    )
    path = next_version(hansa, instance, "--replace", str(turned), "--add", str(joins), "--remove", "c")
    sign_by_all(hansa, path, instance)
    # The version in force keeps its signatures.
    assert charter_of(path.parent).version == 1
    said = hansa("charter", "install", str(path), "--instance", str(instance.folder))
    assert said.code == 0, said.err
    assert "c: its member left" in said.out
    assert (instance.folder / "former" / "c" / "identity.key").exists()
    assert instance.members == ["a", "b", "d"]
    for folder in (instance.server, instance.control, a, instance.member_path("b"), d):
        assert charter_of(folder).version == 2
    new = charter_of(a).member("a")
    assert new is not None
    assert (a / "node" / "node.pub").read_text().strip() == new.node_key
    assert (a / "identity.key").read_bytes() != before[a / "identity.key"]
    assert (a / "split.key").read_bytes() == before[a / "split.key"]
    retired = [it.read_bytes() for it in (*(a / "retired").iterdir(), *(a / "node" / "retired").iterdir())]
    assert before[a / "identity.key"] in retired
    assert before[a / "node" / "node.key"] in retired
    assert {stat.S_IMODE(it.stat().st_mode) for it in (a / "retired").iterdir()} == {0o600}
    assert not list((a / "next").iterdir())
    assert (d / "node" / "ca.crt").read_bytes() == (instance.server / "ca.crt").read_bytes()
    pinned = read_pin(a)
    assert pinned is not None
    assert pinned.version == 2
    # The one before is refused for ever.
    old = path.with_name("charter.toml")
    said = hansa("charter", "install", str(old), "--folder", str(instance.member_path("b")))
    assert said.code != 0
    assert "was superseded: version 2 is pinned" in said.err


def test_stopped_at_any_file_that_it_writes_it_goes_on_when_said_again(
    hansa: Commands, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = instance.member_path("a")
    turned = entry(hansa, instance, "rotate", str(a))
    operator = hansa("provision", "rotate", str(instance.control)).out.strip()
    path = next_version(hansa, instance, "--replace", str(turned), "--operator", operator)
    sign_by_all(hansa, path, instance)
    named = read_charter(path)[0].member("a")
    assert named is not None
    for dies in itertools.count(1):
        with monkeypatch.context() as patched:
            steps = itertools.count(1)
            for name in ("replace", "link"):
                patched.setattr(os, name, stopping(getattr(os, name), steps, dies))
            try:
                from hansa.cli.charter_install import install_into_instance

                install_into_instance(instance, path, path.with_name("charter.next.signatures.json"))
            except KeyboardInterrupt:
                # Whatever was stopped, a key is in use, and it is the old one or the new one.
                SigningKey.load(a / "identity.key")
                continue
            break
    assert dies > 4
    assert charter_of(a).version == charter_of(instance.control).version == 2
    said = hansa("provision", "rotate", str(a), "--key", "identity")
    assert said.code == 0
    assert tomllib.loads(said.out)["members"][0]["sealing_key"] == named.sealing_key


def test_a_charter_for_keys_that_are_not_there_changes_nothing(
    hansa: Commands, instance: Instance, tmp_path: Path
) -> None:
    elsewhere = make_member_keys(tmp_path / "elsewhere")
    own = charter_of(instance.server).member("a")
    assert own is not None
    lost = tmp_path / "lost.toml"
    lost.write_text(tomli_w.dumps({"members": [own.model_copy(update=vars(elsewhere)).model_dump()]}))
    path = next_version(hansa, instance, "--replace", str(lost))
    signatures = path.with_name("charter.next.signatures.json")
    for name in ("b", "c"):
        sign_charter(path, signatures, name, SigningKey.load(instance.member(name).identity_key))
    sign_charter(path, signatures, "a", SigningKey.load(tmp_path / "elsewhere" / "identity.key"))
    said = hansa("charter", "install", str(path), "--instance", str(instance.folder))
    assert said.code != 0
    assert "the charter names another identity key" in said.err
    assert charter_of(instance.server).version == 1


def test_unsigned_or_of_another_history_it_is_refused(hansa: Commands, instance: Instance) -> None:
    path = next_version(hansa, instance, "--expires", "2030-01-31")
    said = hansa("charter", "install", str(path), "--instance", str(instance.folder))
    assert said.code != 0
    assert "no such file; each member signs with" in said.err
    assert charter_of(instance.server).version == 1
    other = path.with_name("other.toml")
    document = tomllib.loads(path.read_text())
    document["previous"] = "0" * 64
    other.write_text(tomli_w.dumps(document))
    sign_by_all(hansa, other, instance)
    for target in (("--instance", str(instance.folder)), ("--folder", str(instance.member_path("a")))):
        said = hansa("charter", "install", str(other), *target)
        assert said.code != 0
        assert "does not follow" in said.err
    said = hansa("charter", "diff", str(path.with_name("charter.toml")), str(other))
    assert said.code != 0
    assert "does not follow version 1" in said.err


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ((), "nothing would change"),
        (("--remove", "zebra"), "is no member; the members are a, b, c"),
        (("--set", "protection.cohort=4"), "field 'protection.cohort' is not known"),
        (("--set", "members=[]"), "not a field that can be set"),
        (("--set", "protection.t=9"), "threshold t = 9 is above the number of members"),
        (("--unset", "protection.t"), "--unset protection.t: is not set"),
        (("--unset", "members"), "--unset members: not a field that can be taken out"),
        (("--unset", "approval.x"), "--unset approval.x: 'approval' has no fields"),
        (("--operator", "abc"), "field 'operator_key'"),
        (("--set", "metrics.per_member=true"), "releases no figures of single members"),
    ],
)
def test_a_change_that_does_not_fit_writes_nothing(
    hansa: Commands, instance: Instance, changes: tuple[str, ...], sentence: str
) -> None:
    charter = instance.server / "charter.toml"
    said = hansa("charter", "amend", str(charter), *changes)
    assert said.code == 2
    assert sentence in said.err
    assert not (instance.server / "charter.next.toml").exists()


def test_what_protects_less_is_said(hansa: Commands, instance: Instance) -> None:
    path = next_version(
        hansa,
        instance,
        "--set",
        "privacy.delta=0.001",
        "--set",
        "privacy.charges_per_day=9999",
        "--set",
        "training.clip=0.25",
    )
    said = hansa("charter", "diff", str(path.with_name("charter.toml")), str(path), "--json")
    assert said.code == 0
    found = {it["field"]: it["weaker"] for it in json.loads(said.out)["differences"]}
    assert found == {
        "privacy.delta": "grants may have a larger delta",
        "privacy.charges_per_day": "more may be charged in a day",
        "training.clip": "",
    }
    assert [it["field"] for it in json.loads(said.out)["differences"] if not it["judged"]] == []
    said = hansa("charter", "amend", str(path.with_name("charter.toml")), "--remove", "a")
    assert said.code == 2
    assert "is there already" in said.err


@pytest.mark.parametrize("place", ["charter.toml/next.toml", "/proc/next.toml", "/proc/no/next.toml"])
def test_where_nothing_can_be_written_is_said(hansa: Commands, instance: Instance, place: str) -> None:
    charter = instance.server / "charter.toml"
    out = str(charter.parent / place)
    said = hansa("charter", "amend", str(charter), "--set", "training.clip=0.25", "--out", out)
    assert said.code == 2
    assert f"--out {out}: cannot be written" in said.err


def test_a_file_that_is_no_charter_is_not_read_whole(
    hansa: Commands, instance: Instance, tmp_path: Path
) -> None:
    charter, large, deep = instance.server / "charter.toml", tmp_path / "large.toml", tmp_path / "deep.toml"
    with large.open("wb") as file:
        file.truncate(3 << 30)
    deep.write_text("a = " + "[" * 100_000)
    for other, sentence in ((large, "has more than 16 MiB"), (deep, "is nested too deeply")):
        for words in (("diff", str(charter), str(other)), ("verify", str(other)), ("show", str(other))):
            signed = other.with_suffix(".signatures.json")
            signed.write_bytes(instance.signatures.read_bytes())
            said = hansa("charter", *words)
            assert said.code in (1, 2)
            assert sentence in said.err


def test_a_diff_on_a_terminal_ends_with_how_much_protects_less(hansa: Commands, instance: Instance) -> None:
    path = next_version(hansa, instance, "--set", "protection.mode=clear", "--set", "task.title=more")
    said = hansa("charter", "diff", str(path.with_name("charter.toml")), str(path))
    assert said.code == 0
    lines = said.out.splitlines()
    assert "  protection.mode: 'masked' becomes 'clear'" in lines
    assert "    protects less, or gives more: the server sees more of the updates" in lines
    assert lines[lines.index("  task.title: 'say whether y' becomes 'more'") + 1] == "    not judged"
    assert lines[-1] == (
        "differences: 2; that protect less, or give more: 1; not judged here, so yours to judge: 1"
    )


def test_nothing_is_said_to_differ_only_where_nothing_does(hansa: Commands, instance: Instance) -> None:
    path = next_version(hansa, instance, "--set", "training.clip=0.25")
    before = path.with_name("charter.toml")
    assert hansa("charter", "diff", str(before), str(before)).out == "nothing differs\n"
    other, text = path.with_name("other.toml"), before.read_text()
    other.write_text(f"# the same\n{text}")
    said = hansa("charter", "diff", str(before), str(other))
    assert said.code == 2
    assert said.out == "the texts differ, no field does\n"
    document = tomllib.loads(path.read_text())
    document["training"]["clip"] = tomllib.loads(text)["training"]["clip"]
    other.write_text(tomli_w.dumps(document))
    said = hansa("charter", "diff", str(before), str(other))
    assert (said.code, said.out) == (0, "version 2 against version 1: no other field differs\n")


def test_a_charter_writes_nothing_on_a_terminal_but_letters(
    hansa: Commands, instance: Instance, tmp_path: Path
) -> None:
    document = tomllib.loads(instance.charter.read_text())
    document["task"]["features"]["columns"][0]["name"] = "age\x1b[23;24r\nnothing differs"
    document["task"]["features"]["columns"][1]["categories"] = ["\u202enorth", "s\x9bouth"]
    document["task"]["model"]["options"] = {"l2\x1b[8m": 1.0}
    odd = tmp_path / "odd.toml"
    odd.write_text(tomli_w.dumps(document))
    for words in (("diff", str(instance.charter), str(odd)), ("show", str(odd))):
        said = hansa("charter", *words)
        for letter in ("\x1b", "\u202e", "\x9b"):
            assert letter not in said.out + said.err
        assert "nothing differs" not in said.out.splitlines()
    document["members"][0]["title"] = "Kontor Bank\x1b[24;1H"
    odd.write_text(tomli_w.dumps(document))
    said = hansa("charter", "diff", str(instance.charter), str(odd))
    assert said.code == 2
    assert "\x1b" not in said.err
