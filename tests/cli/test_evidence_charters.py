"""Evidence of a job that ran under an earlier charter, with a key that is not used any more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from budget_side import JOB, Office, leave, office
from cli_side import Commands, commands

from hansa.cli.charter_install import install_into
from hansa.cli.evidence_verify import Pinned, check_archive
from hansa.cli.rotation import MEMBER_KEYS, rotate_member
from hansa.contract.amendment import Amendment, amend
from hansa.contract.archive import InvalidArchive, pack_signed, read_signed
from hansa.contract.charter import Charter
from hansa.contract.keys import SigningKey
from hansa.contract.scenario import FirstGrant
from hansa.contract.signatures import sign_charter
from hansa.contract.typed import read_toml


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


def turn(a: Office, folder: Path) -> bytes:
    """All of a member's keys are others under the next version; the file of the version before."""
    before = a.member.charter.read_bytes()
    entry = rotate_member(a.member.folder, MEMBER_KEYS)
    charter = folder / "charter.next.toml"
    charter.write_bytes(amend(before, Amendment(replace=(entry,)), charter))
    signatures = folder / "charter.next.signatures.json"
    for it in read_toml(charter, Charter).members:
        own = a.member.folder.parent / it.name
        waiting = own / "next" / "identity.key"
        key = SigningKey.load(waiting if waiting.exists() else own / "identity.key")
        sign_charter(charter, signatures, it.name, key)
    install_into([a.member.folder], charter, signatures)
    return before


@pytest.fixture
def archive(tmp_path: Path, run: Commands) -> Iterator[tuple[Office, bytes, bytes]]:
    """An organisation with new keys, evidence of a job from before, and the charter of then."""
    with office(tmp_path, grant=FirstGrant(), people=True) as made:
        plan = made.propose()
        run("jobs", "approve", plan.job, "--folder", made.folder)
        leave(made, made.work(plan, 1))
        made.stop()
        before = turn(made, tmp_path)
        made.start()
        path = tmp_path / "evidence.zip"
        said = run("evidence", JOB, "--folder", made.folder, "--out", str(path))
        assert (said.code, said.err) == (0, "")
        yield made, path.read_bytes(), before


def test_it_has_the_charter_of_its_time_and_the_way_to_todays_key(
    archive: tuple[Office, bytes, bytes],
) -> None:
    a, content, before = archive
    _, files = read_signed(content)
    assert files["charter.toml"] == before
    done = check_archive(content, Pinned(charter=before))
    assert any("later charters: 1, up to version 2" in it for it in done.lines)
    assert any("receipts: 1 of its own" in it for it in done.lines)
    assert a.member.identity_key.read_bytes()


@pytest.mark.parametrize(
    ("lie", "sentence"),
    [
        (lambda it: it.clear(), "does not name the manifest's key"),
        (lambda it: it[0]["signatures"].popitem(), "no signature of"),
        (
            lambda it: it[0].update(charter=it[0]["charter"].replace("version = 2", "version = 3")),
            "does not follow",
        ),
        (
            lambda it: it[0].update(charter=it[0]["charter"].replace("delta = ", "delta = 0.0009 #")),
            "no signature of",
        ),
        (lambda it: it.append(it[0]), "does not follow"),
        (lambda it: it.append(5), "later-charters"),
    ],
)
def test_a_way_that_is_not_signed_by_all_or_has_a_gap_is_none(
    archive: tuple[Office, bytes, bytes], lie: Callable[[Any], object], sentence: str
) -> None:
    a, content, _ = archive
    manifest, files = read_signed(content)
    found = json.loads(files["later-charters.json"])
    lie(found)
    files["later-charters.json"] = json.dumps(found).encode()
    forged = pack_signed(files, manifest, SigningKey.load(a.member.identity_key))
    with pytest.raises(InvalidArchive, match=sentence):
        check_archive(forged, Pinned())


def test_without_the_charter_of_then_it_says_what_is_missing(
    archive: tuple[Office, bytes, bytes], run: Commands, tmp_path: Path
) -> None:
    a, _, _ = archive
    for it in (a.member.folder / "charters").iterdir():
        it.unlink()
    said = run("evidence", JOB, "--folder", a.folder, "--out", str(tmp_path / "other.zip"))
    assert said.code != 0
    assert "the charter that the job ran under is not kept" in said.err
    assert not (tmp_path / "other.zip").exists()
