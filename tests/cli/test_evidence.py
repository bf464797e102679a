"""Evidence of a job: what is in the archive, what is not, and that no byte of it changes unseen."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from budget_side import JOB, Office, leave, office
from cli_side import Commands, commands
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.cli.evidence_checked import Pinned
from hansa.cli.evidence_verify import check_archive
from hansa.contract.archive import (
    MANIFEST,
    SIGNATURE,
    InvalidArchive,
    Manifest,
    pack,
    pack_signed,
    read_signed,
    unpack,
)
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.scenario import FirstGrant

KEY = SigningKey.generate()
SMALL = pack_signed(
    {"a.json": b"{}", "b.txt": b"some words"},
    Manifest(
        organisation="a",
        job=JOB,
        made="2026-01-02T03:04:05+00:00",
        charter="0" * 64,
        identity_key=to_text(KEY.public),
    ),
    KEY,
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


@pytest.fixture
def a(tmp_path: Path, run: Commands) -> Iterator[Office]:
    """An organisation that was charged for an attempt, whose upload left with a signed receipt."""
    with office(tmp_path, grant=FirstGrant(), people=True) as made:
        plan = made.propose()
        run("jobs", "approve", plan.job, "--folder", made.folder)
        leave(made, made.work(plan, 1))
        assert made.agent is not None
        made.agent.attempts.event(JOB, "not-operator", "somebody asked")
        yield made


def make(run: Commands, a: Office, path: Path) -> bytes:
    said = run("evidence", JOB[:6], "--folder", a.folder, "--out", str(path))
    assert (said.code, said.err) == (0, "")
    return path.read_bytes()


def test_an_archive_is_checked_with_nothing_but_itself(run: Commands, a: Office, tmp_path: Path) -> None:
    path = tmp_path / "evidence.zip"
    content = make(run, a, path)
    a.stop()
    charter = a.member.folder / "charter.toml"
    said = run("evidence", "verify", str(path), "--charter", str(charter))
    assert (said.code, said.err) == (0, "")
    for word in (
        "archive:",
        "manifest:",
        "charter:",
        "signer:",
        "pinned:",
        "ledger:",
        "receipts: 1",
        "outbox: 1",
    ):
        assert f"ok   {word}" in said.out
    assert "open whose key" in run("evidence", "verify", str(path)).out
    files = unpack(content)
    assert json.loads(files["approvals.json"])["approvals"][0]["body"]["job"] == JOB
    assert [it["kind"] for it in json.loads(files["refusals.json"])] == ["not-operator"]
    assert len(json.loads(files["versions.json"])["code"]) > 100
    # Without the agent the same is gathered, and that it was taken out is on record.
    again = run("evidence", JOB, "--folder", a.folder, "--out", str(tmp_path / "again.zip"))
    assert again.code == 0
    assert read_signed((tmp_path / "again.zip").read_bytes())[0].files.keys() == files.keys() - {
        MANIFEST,
        SIGNATURE,
    }
    told = json.loads(run("outbox", "--folder", a.folder, "--kind", "evidence", "--json").out)
    assert len(told["entries"]) == 2


def test_no_record_no_key_and_no_name_is_in_it(run: Commands, a: Office, tmp_path: Path) -> None:
    table = a.member.folder / a.member.config.data.path  # type: ignore[union-attr]
    name, rows = "p-very-special-person", table.read_text().splitlines()
    table.write_text("\n".join([*rows, f"0.51234,north,1,{name}"]) + "\n")
    a.stop()
    a.start()
    run("data", "forget", name, "--reason", "request 1", "--folder", a.folder)
    content = make(run, a, tmp_path / "evidence.zip")
    assert b'"entities": 1' in content
    assert name.encode() not in content
    for line in rows[1:]:
        assert line.rsplit(",", 1)[0].encode() not in content
    for key in a.member.folder.rglob("*.key"):
        assert key.read_bytes().strip() not in content
        secret = key.read_bytes()
        assert secret not in content


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SMALL) * 8 - 1))
def test_every_flipped_bit_is_found(bit: int) -> None:
    changed = bytearray(SMALL)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidArchive):
        read_signed(bytes(changed))


def test_flipped_bytes_of_a_whole_archive_are_found(run: Commands, a: Office, tmp_path: Path) -> None:
    content = make(run, a, tmp_path / "evidence.zip")
    check_archive(content, Pinned())
    randomness = random.Random(20261102)
    for _ in range(60):
        changed = bytearray(content)
        changed[randomness.randrange(len(content))] ^= randomness.randint(1, 255)
        with pytest.raises(InvalidArchive):
            check_archive(bytes(changed), Pinned())
    for cut in (0, 1, len(content) // 2, len(content) - 1):
        with pytest.raises(InvalidArchive):
            check_archive(content[:cut], Pinned())
    for more in (content + b"\0", b"\0" + content):
        with pytest.raises(InvalidArchive):
            check_archive(more, Pinned())


def test_dropped_added_and_swapped_files_are_found(run: Commands, a: Office, tmp_path: Path) -> None:
    files = unpack(make(run, a, tmp_path / "evidence.zip"))
    for name in files:
        with pytest.raises(InvalidArchive):
            check_archive(pack({key: it for key, it in files.items() if key != name}), Pinned())
    with pytest.raises(InvalidArchive, match=r"more\.txt: was added"):
        check_archive(pack({**files, "more.txt": b""}), Pinned())
    swapped = {**files, "events.json": files["refusals.json"], "refusals.json": files["events.json"]}
    with pytest.raises(InvalidArchive, match="is not the file that was signed"):
        check_archive(pack(swapped), Pinned())


def test_a_signature_of_somebody_else_is_found(run: Commands, a: Office, tmp_path: Path) -> None:
    manifest, files = read_signed(make(run, a, tmp_path / "evidence.zip"))
    with pytest.raises(InvalidArchive, match="does not fit"):
        check_archive(pack_signed(files, manifest, KEY), Pinned())
    other = manifest.model_copy(update={"identity_key": to_text(KEY.public)})
    with pytest.raises(InvalidArchive, match="does not name the manifest's key"):
        check_archive(pack_signed(files, other, KEY), Pinned())
    identity = SigningKey.load(a.member.identity_key)
    lies = {
        "ledger.json": lambda it: it["rows"].pop(),
        "receipts.json": lambda it: it["own"][0].update(attempt=2),
        "outbox.json": lambda it: it[0]["facts"].update(attempt=2),
    }
    for name, lie in lies.items():
        found = json.loads(files[name])
        lie(found)
        with pytest.raises(InvalidArchive, match=name):
            check_archive(
                pack_signed({**files, name: json.dumps(found).encode()}, manifest, identity), Pinned()
            )


def zipped(name: str, content: bytes, kind: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    "hostile",
    [
        zipped("../up.txt", b"x"),
        zipped("/etc/passwd", b"x"),
        zipped("a/b.txt", b"x"),
        zipped("bomb.txt", b"\0" * 10_000_000, zipfile.ZIP_DEFLATED),
        b"PK\x03\x04",
        b"",
        b"no archive",
    ],
)
def test_bombs_paths_and_what_is_no_archive_are_refused(
    run: Commands, hostile: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.zip"
    path.write_bytes(hostile)
    said = run("evidence", "verify", str(path))
    assert (said.code, said.out) == (1, "")
    assert "not valid" in said.err
    assert len(said.err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [path]


def test_wrong_input_is_a_sentence_and_code_2(run: Commands, a: Office, tmp_path: Path) -> None:
    assert run("evidence", "verify", str(tmp_path / "none.zip")).code == 2
    said = run("evidence", "ffff", "--folder", a.folder)
    assert (said.code, "0 jobs of a begin so" in said.err) == (2, True)
    path = tmp_path / "evidence.zip"
    make(run, a, path)
    said = run("evidence", JOB, "--folder", a.folder, "--out", str(path))
    assert (said.code, "--force replaces it" in said.err) == (2, True)
    said = run("evidence", "verify", str(path), "--identity", to_text(KEY.public))
    assert (said.code, "it is signed by the key" in said.err) == (1, True)


def forged(content: bytes, a: Office, name: str, lie: Callable[[Any], object]) -> bytes:
    """The archive with a file changed and signed again with the organisation's own key."""
    manifest, files = read_signed(content)
    found = json.loads(files[name])
    changed = lie(found)
    files[name] = changed if isinstance(changed, bytes) else json.dumps(found).encode()
    return pack_signed(files, manifest, SigningKey.load(a.member.identity_key))


DEEP = b"[" * 200_000


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("outbox.json", lambda it: it[0]["facts"].update(receipt=None)),
        ("outbox.json", lambda it: it[0]["facts"].update(attempt=0)),
        ("outbox.json", lambda it: it[0]["facts"]["receipt"].update(charges=[])),
        ("outbox.json", lambda it: DEEP),
        ("older.json", lambda it: DEEP),
        ("older.json", lambda it: it.append({})),
        ("receipts.json", lambda it: it.update(others=5)),
        ("receipts.json", lambda it: it.update(others=[5])),
        ("receipts.json", lambda it: it.update(others=[{"key": 5, "seen": it["own"][0]}])),
        ("approvals.json", lambda it: it["approvals"][0]["body"].update(by="somebody else")),
        ("approvals.json", lambda it: it["charges"].pop()),
        ("approvals.json", lambda it: it.update(grants=5)),
        ("approvals.json", lambda it: b"{}"),
    ],
)
def test_what_its_own_key_signs_is_held_against_the_ledger(
    run: Commands, a: Office, tmp_path: Path, name: str, lie: Callable[[Any], object]
) -> None:
    content = make(run, a, tmp_path / "evidence.zip")
    with pytest.raises(InvalidArchive, match=name):
        check_archive(forged(content, a, name, lie), Pinned())


def test_it_says_how_many_uploads_were_compared_and_what_was_not(
    run: Commands, a: Office, tmp_path: Path
) -> None:
    content = make(run, a, tmp_path / "evidence.zip")
    done = check_archive(content, Pinned())
    assert any("1 of them uploads; 1 held against the ledger" in it for it in done.lines)
    assert any("job.json" in it and "attempts.json" in it and "uploads.json" in it for it in done.open)
    said = forged(content, a, "approvals.json", lambda it: it["approvals"][0].update(says="all is well"))
    assert any(it.startswith("approvals.json") for it in check_archive(said, Pinned()).open)


def test_uploads_whose_rows_were_lost_are_said_to_be_open(run: Commands, a: Office, tmp_path: Path) -> None:
    a.stop()
    shutil.copy(a.member.folder / "ledger.sqlite", tmp_path / "older.sqlite")
    a.start()
    seen = a.work(a.propose(), 2)
    leave(a, seen)
    a.stop()
    a.restore(tmp_path / "older.sqlite")
    a.start()
    assert a.agent is not None
    assert a.agent.witnesses is not None
    a.agent.witnesses.shown(seen)
    assert run("budgets", "recover", "--reason", "disk failed", "--by", "DPO", "--folder", a.folder).code == 0
    content = make(run, a, tmp_path / "evidence.zip")
    done = check_archive(content, Pinned())
    assert any("2 of them uploads; 1 held against the ledger" in it for it in done.lines)
    assert any("1 uploads were charged in rows that were lost" in it for it in done.open)
    # A recovery is no cover for what stands in rows that were not lost.
    with pytest.raises(InvalidArchive, match=r"outbox\.json"):
        check_archive(
            forged(content, a, "outbox.json", lambda it: it[0]["facts"].update(receipt=None)), Pinned()
        )


def test_what_is_kept_as_sums_is_in_it(run: Commands, a: Office, tmp_path: Path) -> None:
    a.stop()
    with closing(sqlite3.connect(a.member.folder / "outbox.sqlite")) as db, db:
        for job in (JOB, "f" * 32):
            db.execute(
                "INSERT INTO older (job, kind, messages, bytes, first, last) VALUES (?, 'agree', 7, 70, 1, 2)",
                (job,),
            )
    content = make(run, a, tmp_path / "evidence.zip")
    assert [it["messages"] for it in json.loads(unpack(content)["older.json"])] == [7]
    assert any(it.startswith("older: 7 messages") for it in check_archive(content, Pinned()).open)


@pytest.mark.parametrize(
    "lie", [{"made": "now\nok   forged"}, {"made": "now"}, {"identity_key": "A" * 42 + "\nA="}]
)
def test_no_field_of_the_manifest_makes_a_line_of_its_own(lie: dict[str, str]) -> None:
    manifest, files = read_signed(SMALL)
    with pytest.raises(InvalidArchive, match=MANIFEST):
        read_signed(pack_signed(files, manifest.model_copy(update=lie), KEY))
