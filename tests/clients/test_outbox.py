"""Nothing leaves without an entry that was on the disk before it; all of it has words; the record stays bounded."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest
from federation import JOB, make_federation, request
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_side import answer_of

from hansa.clients.leaving import FILE, Leaving, Part
from hansa.clients.outbox import Outbox
from hansa.clients.outbox_reading import Entry, Query, read_entries, read_older
from hansa.clients.outbox_words import FIGURES, FILES, MESSAGES, PARTS, speakable, words
from hansa.contract import blind_messages, messages, segments
from hansa.contract.errors import HansaError
from hansa.contract.messages import CloseRequest, RefusalReply, Reply

HASH = "0" * 64
# Arrays that members only ever receive.
RECEIVED = {segments.PREPARATION, segments.STEP, blind_messages.ENCRYPTED_SUM}


def leaving(**fields: object) -> Leaving:
    return Leaving.model_validate({"kind": "hello", "bytes": 10, "digest": HASH, **fields})


def test_every_message_that_an_agent_can_answer_has_words() -> None:
    for kind in get_args(Reply):
        (name,) = get_args(kind.model_fields["type"].annotation)
        assert name in MESSAGES
        assert len(words(leaving(kind=name))) > 5


def test_every_array_that_a_message_can_carry_has_words() -> None:
    modules = (messages, blind_messages, segments)
    named = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and get_origin(value) is not Annotated
    }
    assert {"update", "prekeys", "sealed-state", "statistics"} <= named
    assert named - RECEIVED <= PARTS.keys() | FIGURES.keys()


@pytest.mark.parametrize("unknown", [leaving(kind="gossip"), leaving(parts=(Part(name="row", bytes=8),))])
def test_what_has_no_words_does_not_leave(unknown: Leaving, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite")
    assert not speakable(unknown)
    with pytest.raises(HansaError, match="no words"):
        outbox.enter(unknown)
    outbox.close()
    assert read_entries(tmp_path / "outbox.sqlite", Query()) == []


def test_the_record_can_only_grow(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox = Outbox(path)
    outbox.enter(leaving())
    outbox.sent()
    outbox.close()
    db = sqlite3.connect(path)
    for statement in (
        "DELETE FROM entries",
        "UPDATE entries SET bytes = 0",
        "UPDATE gone SET at = 0",
        "REPLACE INTO entries SELECT id, 0, job, kind, kinds, bytes, content FROM entries",
    ):
        with pytest.raises(sqlite3.IntegrityError, match=r"append-only|UNIQUE"):
            db.execute("PRAGMA recursive_triggers=ON").connection.execute(statement)
    db.close()
    assert len(read_entries(path, Query())) == 1


MESSAGE = st.tuples(
    st.sampled_from(["", "one", "two"]), st.integers(0, 1000), st.sampled_from([0.0, 1.0, 601.0])
)


@settings(max_examples=12, deadline=None)
@given(st.lists(MESSAGE, max_size=40), st.integers(1, 8), st.integers(1, 4))
def test_sums_stay_whole_while_old_entries_go_and_repeats_are_counted(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, int, float]], kept: int, gathered: int
) -> None:
    path = tmp_path_factory.mktemp("law") / "outbox.sqlite"
    clock = [0.0]
    outbox = Outbox(path, now=lambda: clock[0], monotonic=lambda: clock[0], kept=kept, gathered=gathered)
    for key, size, wait in said:
        clock[0] += wait
        outbox.enter(leaving(bytes=size), key)
        assert len(read_entries(path, Query())) < kept + gathered
    outbox.close()
    entries, older = read_entries(path, Query()), read_older(path)
    assert sum(1 + it.again for it in entries) + sum(it.messages for it in older) == len(said)
    sizes = sum(it.leaving.bytes + it.again_bytes for it in entries) + sum(it.bytes for it in older)
    assert sizes == sum(size for _, size, _ in said)


def test_made_up_jobs_drive_out_no_upload_and_their_sums_stay_few(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    outbox = Outbox(path, kept=4, gathered=2, most_older=3)
    outbox.enter(leaving(kind="upload", job=JOB))
    outbox.enter(leaving(kind=FILE, detail="model /a"))
    for number in range(60):
        outbox.enter(leaving(kind="job", job=f"{number:032x}"), str(number))
    outbox.close()
    outbox = Outbox(path, kept=4, gathered=2, most_older=3)
    for number in range(60, 100):
        outbox.enter(leaving(kind="job", job=f"{number:032x}"), str(number))
    outbox.close()
    entries, older = read_entries(path, Query()), read_older(path)
    assert [it.leaving.kind for it in entries[:2]] == ["upload", FILE]
    assert len(entries) <= 2 + 5
    assert len(older) == 3 + 1
    assert sum(it.messages for it in older) + len(entries) == 102
    # The database keeps to it: chatter's edge frees no upload.
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("DELETE FROM entries WHERE kind = 'upload'")
    db.close()


def test_refusals_about_jobs_that_nobody_knows_are_one_entry(tmp_path: Path) -> None:
    federation = make_federation(2)
    agent = federation.agent("a")
    agent.outbox = Outbox(tmp_path / "outbox.sqlite")
    for number in range(5):
        refused = answer_of(agent, request(federation, CloseRequest(job=f"{number:032x}", rounds=1)))
        assert isinstance(refused.body, RefusalReply)
    agent.close()
    [entry] = read_entries(tmp_path / "outbox.sqlite", Query())
    assert (entry.leaving.job, entry.again) == ("", 4)


def ids(found: list[Entry]) -> list[int]:
    return [it.id for it in found]


def test_entries_are_found_by_job_time_kind_and_part(tmp_path: Path) -> None:
    path, clock = tmp_path / "outbox.sqlite", [10.0]
    outbox = Outbox(path, now=lambda: clock[0])
    outbox.enter(leaving(), "hello")
    clock[0] = 20.0
    outbox.enter(leaving(kind="upload", job=JOB, parts=(Part(name="update", bytes=4),)))
    clock[0] = 30.0
    outbox.enter(leaving(), "hello")
    outbox.enter(leaving(kind=FILE, detail="model /a/b", job="ac" * 16))
    outbox.flush()
    assert ids(read_entries(path, Query(job="ab"))) == [2]
    assert ids(read_entries(path, Query(job="a"))) == [2, 3]
    assert ids(read_entries(path, Query(kind="update"))) == [2]
    assert ids(read_entries(path, Query(kind="model"))) == [3]
    # What was said again after that time is found by its first entry.
    assert ids(read_entries(path, Query(since=25.0))) == [1, 3]
    assert ids(read_entries(path, Query(after=1, most=1))) == [2]
    outbox.close()


def test_files_that_people_take_out_have_words() -> None:
    for kind in FILES:
        assert words(leaving(kind=FILE, detail=f"{kind} /a b/c")).endswith(": /a b/c")
