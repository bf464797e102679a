"""Whoever is forgotten is computed on no more: at once, after a restart, and whatever data comes."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation import attempt_request, make_federation, make_order, make_plan, request
from hypothesis import given, settings
from hypothesis import strategies as st
from masked_side import Answer, answer_of

from hansa.clients.attempt import LocalWork
from hansa.clients.data.split import split
from hansa.clients.forgotten import FORGOTTEN, Forgotten, forgotten_file, kept_records
from hansa.clients.ledger import Ledger
from hansa.contract.errors import HansaError
from hansa.contract.messages import JobReply, JobRequest

KEY = b"k" * 32
FEDERATION = make_federation(2, rows=40)


def work() -> LocalWork:
    found = FEDERATION.work("a")
    assert isinstance(found, LocalWork)
    return found


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 39)))
def test_the_sum_is_that_of_the_others_on_the_same_grid(gone: set[int]) -> None:
    whole = work()
    names = np.unique(np.concatenate([whole.records.train.entities, whole.records.holdout.entities]))
    forgotten = {names[it] for it in gone}
    parts = (whole.records.train, whole.records.holdout)
    rest = [it.take(np.array([name not in forgotten for name in it.entities], dtype=bool)) for it in parts]
    other = replace(whole, records=type(whole.records)(*rest))
    order = make_order(FEDERATION, evaluate=True)
    arrays = {"weights": np.full(FEDERATION.model.parameters, 0.1)}
    one = whole.without(forgotten).run(make_plan(), order, arrays, {})
    two = other.run(make_plan(), order, arrays, {})
    assert {name: it.tolist() for name, it in one.items()} == {name: it.tolist() for name, it in two.items()}
    assert whole.without(forgotten).entities == whole.entities - len(forgotten)
    assert whole.without(forgotten).known(forgotten) == frozenset()


def test_the_others_keep_their_sides_and_the_list_holds_for_data_that_comes(tmp_path: Path) -> None:
    records = work().records.train
    first = records.entities[0]
    forgotten = Forgotten(tmp_path / FORGOTTEN, KEY)
    assert forgotten.add([first], by="b", reason="r") == 1
    assert forgotten.add([first], by="b", reason="r") == 0
    forgotten.close()
    again = Forgotten(tmp_path / FORGOTTEN, KEY)
    kept = again.keep(records)
    assert first not in kept.entities
    assert len(kept) == len(records) - 1
    before = split(records, secret=KEY, holdout=0.5)
    after = split(kept, secret=KEY, holdout=0.5)
    for one, two in ((before.train, after.train), (before.holdout, after.holdout)):
        assert set(one.entities) - {first} == set(two.entities)
    assert [(it.entities, it.by, it.reason) for it in again.decisions()] == [(1, "b", "r")]
    again.close()


def test_neither_a_name_nor_its_plain_hash_is_in_the_file(tmp_path: Path) -> None:
    records = work().records.train
    name = bytes(records.entities[0])
    forgotten = Forgotten(tmp_path / FORGOTTEN, KEY)
    forgotten.add([name], by="b", reason="r")
    forgotten.close()
    content = b"".join(it.read_bytes() for it in tmp_path.iterdir())
    assert name not in content
    assert KEY not in content
    with pytest.raises(sqlite3.IntegrityError, match="comes back"):
        sqlite3.connect(tmp_path / FORGOTTEN).execute("DELETE FROM forgotten")


def test_an_older_copy_of_the_list_is_found_by_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(":memory:")
    forgotten = Forgotten(tmp_path / FORGOTTEN, KEY, ledger)
    forgotten.add([b"1" * 32], by="b", reason="r")
    forgotten.close()
    old = (tmp_path / FORGOTTEN).read_bytes()
    forgotten = Forgotten(tmp_path / FORGOTTEN, KEY, ledger)
    forgotten.add([b"2" * 32, b"3" * 32], by="b", reason="r")
    forgotten.close()
    with ledger.held() as book:
        assert book.forgotten is not None
        assert book.forgotten.total == 3
    (tmp_path / FORGOTTEN).write_bytes(old)
    with pytest.raises(HansaError, match="holds 1 entities, and the ledger says that 3 were forgotten"):
        Forgotten(tmp_path / FORGOTTEN, KEY, ledger)


def test_a_crash_between_list_and_ledger_is_made_up_for(tmp_path: Path) -> None:
    ledger = Ledger(":memory:")
    forgotten = Forgotten(tmp_path / FORGOTTEN, KEY)
    forgotten.add([b"1" * 32], by="b", reason="r")
    forgotten.close()
    Forgotten(tmp_path / FORGOTTEN, KEY, ledger).close()
    with ledger.held() as book:
        assert book.forgotten is not None
        assert (book.forgotten.total, book.forgotten.reason) == (1, "r")
        assert book.head.sequence == 1
    Forgotten(tmp_path / FORGOTTEN, KEY, ledger).close()
    assert ledger.head.sequence == 1


def test_a_row_that_the_ledger_did_not_take_is_made_up_for_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(":memory:")
    forgotten = Forgotten(tmp_path / FORGOTTEN, KEY, ledger)

    def full(*_: object) -> None:
        raise HansaError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(ledger, "record", full)
        with pytest.raises(HansaError, match="disk full"):
            forgotten.add([b"1" * 32], by="b", reason="r")
    assert forgotten.add([b"2" * 32], by="b", reason="next") == 1
    with ledger.held() as book:
        assert book.forgotten is not None
        assert (book.forgotten.entities, book.forgotten.total) == (2, 2)
    forgotten.close()


def test_a_list_under_another_key_is_refused(tmp_path: Path) -> None:
    path, records = tmp_path / FORGOTTEN, work().records.train
    forgotten = Forgotten(path, KEY)
    forgotten.add([records.entities[0]], by="b", reason="r")
    forgotten.close()
    with pytest.raises(HansaError, match=r"made under another split\.key"):
        Forgotten(path, b"j" * 32)
    with pytest.raises(HansaError, match=r"made under another split\.key"):
        kept_records(path, b"j" * 32, records)
    assert len(kept_records(path, KEY, records)) == len(records) - 1


def test_a_list_in_use_is_read_beside_its_writer_and_not_called_damaged(tmp_path: Path) -> None:
    path, records = tmp_path / FORGOTTEN, work().records.train
    Forgotten(path, KEY).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert len(kept_records(path, KEY, records)) == len(records)
        other.execute("ROLLBACK")
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
        with pytest.raises(HansaError, match="in use by another process"):
            forgotten_file(path).failed(error)


class Long(LocalWork):
    """Work that takes a while to leave somebody out."""

    def without(self, entities: Collection[bytes]) -> LocalWork:
        found = super().without(entities)
        time.sleep(0.05)
        return found


def test_two_who_are_forgotten_at_once_are_both_gone() -> None:
    whole = work()
    agent = FEDERATION.agent("a", work=Long(whole.name, whole.charter, whole.model, whole.records))
    people = list(np.unique(whole.records.train.entities))[:2]
    threads = [threading.Thread(target=agent.forget, args=([it],)) for it in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert agent.known(people) == frozenset()
    agent.close()


def test_with_nobody_left_an_attempt_still_answers() -> None:
    whole = work()
    everybody = [*whole.records.train.entities, *whole.records.holdout.entities]
    empty = whole.without(everybody)
    assert empty.entities == 0
    arrays = {"weights": np.zeros(FEDERATION.model.parameters)}
    found = empty.run(make_plan(), make_order(FEDERATION, evaluate=True), arrays, {})
    assert all(not it.any() for it in found.values())


class Slow(LocalWork):
    """Work that waits in the middle of an attempt."""

    def run(self, *given: object) -> dict[str, np.ndarray]:  # type: ignore[override]
        INSIDE.set()
        assert GO_ON.wait(10)
        return super().run(*given)  # type: ignore[arg-type,return-value]


INSIDE, GO_ON = threading.Event(), threading.Event()


def test_an_attempt_under_way_is_named_and_the_next_one_is_without_them() -> None:
    whole = work()
    slow = Slow(whole.name, whole.charter, whole.model, whole.records)
    agent = FEDERATION.agent("a", work=slow)
    for number, expected in ((1, whole), (2, None)):
        if number == 1:
            assert isinstance(
                answer_of(agent, request(FEDERATION, JobRequest(plan=make_plan()))).body, JobReply
            )
        asked = attempt_request(FEDERATION, make_order(FEDERATION, number))
        arrived: list[Answer] = []
        thread = threading.Thread(target=lambda: arrived.append(answer_of(agent, asked)))  # noqa: B023
        thread.start()
        assert INSIDE.wait(10)
        first = whole.records.train.entities[0]
        if number == 1:
            assert agent.forget([first]) == [(make_plan().job, 1)]
        GO_ON.set()
        thread.join(10)
        order, arrays = make_order(FEDERATION, number), {"weights": np.zeros(FEDERATION.model.parameters)}
        told = (expected or whole.without([first])).run(make_plan(), order, arrays, {})
        assert arrived[0].segments["update"].tolist() == told["update"].tolist()
    assert agent.forget([]) == []
    agent.close()
