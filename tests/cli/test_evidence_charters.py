"""Evidence of a job that ran under an earlier charter, with a key that is not used any more."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from budget_side import JOB, Office, leave, office
from cli_side import Commands, commands

from hansa.cli.charter_install import install_into
from hansa.cli.evidence_checked import Pinned
from hansa.cli.evidence_verify import check_archive
from hansa.cli.rotation import MEMBER_KEYS, rotate_member
from hansa.clients.approval import propose
from hansa.contract.amendment import Amendment, amend
from hansa.contract.archive import InvalidArchive, pack_signed, read_signed
from hansa.contract.charter import Charter, charter_hash
from hansa.contract.errors import RefusalError
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.scenario import FirstGrant
from hansa.contract.signatures import sign_charter, signature_for
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


def test_whoever_has_no_member_s_key_makes_no_next_version(archive: tuple[Office, bytes, bytes]) -> None:
    """The same names, all keys its own, signed by all of them: as the reader's charter has it, it follows."""
    _, content, before = archive
    manifest, files = read_signed(content)
    document = tomllib.loads(before.decode())
    keys = {it["name"]: SigningKey.generate() for it in document["members"]}
    for it in document["members"]:
        it["identity_key"] = to_text(keys[it["name"]].public)
    forged = tomli_w.dumps({**document, "version": 2, "previous": charter_hash(before)})
    signed = {name: signature_for(charter_hash(forged.encode()), key) for name, key in keys.items()}
    files["later-charters.json"] = json.dumps([{"charter": forged, "signatures": signed}]).encode()
    key = keys[manifest.organisation]
    manifest = manifest.model_copy(update={"identity_key": to_text(key.public)})
    archive_of_nobody = pack_signed(files, manifest, key)
    for pinned in (Pinned(), Pinned(charter=before)):
        with pytest.raises(InvalidArchive, match="too few members signed"):
            check_archive(archive_of_nobody, pinned)


def test_the_newest_charter_proves_those_before(archive: tuple[Office, bytes, bytes]) -> None:
    a, content, _ = archive
    done = check_archive(content, Pinned(charter=a.member.charter.read_bytes()))
    assert any("pinned: a later version of its charter" in it for it in done.lines)


def test_of_an_agent_that_noted_no_charter_the_first_one_is_taken_while_it_is_in_force(
    tmp_path: Path, run: Commands
) -> None:
    def older(a: Office) -> None:
        with closing(sqlite3.connect(a.member.folder / "agent.sqlite")) as db:
            db.execute("ALTER TABLE jobs DROP COLUMN charter")
            db.commit()

    with office(tmp_path, grant=FirstGrant(), people=True) as a:
        plan = a.propose()
        run("jobs", "approve", plan.job, "--folder", a.folder)
        leave(a, a.work(plan, 1))
        a.stop()
        older(a)
        # Started once before the charter changes it knows; else it is said that nobody does.
        a.start()
        a.stop()
        before = turn(a, tmp_path)
        a.start()
        path = tmp_path / "evidence.zip"
        assert run("evidence", JOB, "--folder", a.folder, "--out", str(path)).code == 0
        assert read_signed(path.read_bytes())[1]["charter.toml"] == before
        a.stop()
        older(a)
        a.start()
        said = run("evidence", JOB, "--folder", a.folder, "--out", str(tmp_path / "other.zip"))
        assert said.code != 0
        assert "it is not on record under which charter the job ran" in said.err


def test_what_was_approved_under_the_charter_before_is_closed(tmp_path: Path, run: Commands) -> None:
    with office(tmp_path, grant=FirstGrant(), people=True) as a:
        plan = a.propose()
        run("jobs", "approve", plan.job, "--folder", a.folder)
        assert a.agent is not None
        assert a.agent.attempts.state(JOB) == "approved"
        a.stop()
        turn(a, tmp_path)
        a.start()
        assert a.agent.attempts.state(JOB) == "closed"
        with pytest.raises(RefusalError, match="the job is closed"):
            propose(plan, a.agent.attempts, a.agent.membership.charter, a.budget)


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
