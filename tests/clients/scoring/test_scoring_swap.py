"""Another model takes the place of the one that serves, or is refused and the old one goes on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from scoring_side import COLUMNS, LABELS, facts, publish

from hansa.clients.scoring.model_file import write_model
from hansa.clients.scoring.serving import Desk
from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract


@pytest.fixture
def path(tmp_path: Path) -> Path:
    publish(tmp_path / "served")
    return tmp_path / "served"


def test_another_file_is_served_and_the_same_one_is_not_read_again(path: Path) -> None:
    desk = Desk(path)
    first = desk.serving
    assert not desk.look()
    publish(path, seed=2)
    assert desk.look()
    assert desk.serving.digest != first.digest
    assert not desk.look()
    publish(path, seed=1)
    assert desk.look()
    assert desk.serving.digest == first.digest


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (lambda good: good[:-9], "no model to serve can be read"),
        (lambda good: good[:-9] + b"123456789", "damaged"),
        (lambda good: b"", "no model to serve can be read"),
    ],
)
def test_a_file_that_will_not_do_is_refused_and_the_old_goes_on(
    path: Path, content: object, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(path)
    first = desk.serving
    publish(path.with_name("other"), seed=2)
    write_model(path, content(path.with_name("other").read_bytes()))  # type: ignore[operator]
    assert not desk.look()
    assert desk.serving is first
    assert sentence in caplog.text
    publish(path, seed=2)
    assert desk.look()


def test_another_contract_another_member_and_no_file_are_refused(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk(path, member="a")
    first = desk.serving
    publish(path, facts(features=FeatureContract(columns=COLUMNS[:3], label=LABELS["binary"])))
    assert not desk.look()
    publish(path, facts(member="b"))
    assert not desk.look()
    path.unlink()
    assert not desk.look()
    assert desk.serving is first
    for sentence in ("another feature contract", "is a model of 'b', not of 'a'", "is gone"):
        assert sentence in caplog.text
    with pytest.raises(InputError, match="no such file"):
        Desk(path)


def test_a_nudge_has_the_file_read_at_once(path: Path) -> None:
    desk = Desk(path)
    before, mark = desk.serving.digest, os.stat(path)

    async def nudge() -> None:
        ended, nudged = asyncio.Event(), asyncio.Event()
        watching = asyncio.create_task(desk.watch(ended, nudged))
        publish(path, seed=2)
        os.utime(path, ns=(mark.st_atime_ns, mark.st_mtime_ns))
        nudged.set()
        async with asyncio.timeout(0.9):
            while desk.serving.digest == before:
                await asyncio.sleep(0.01)
        ended.set()
        await watching

    asyncio.run(nudge())


def test_a_watch_that_could_not_look_once_looks_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(path)
    first, looked = desk.serving, desk.tally.look
    monkeypatch.setattr("hansa.clients.scoring.serving.LOOK_EVERY_S", 0.02)

    def without_files() -> None:
        monkeypatch.setattr(desk.tally, "look", looked)
        raise OSError(24, "Too many open files")

    async def watched() -> None:
        ended = asyncio.Event()
        watch = asyncio.create_task(desk.watch(ended, asyncio.Event()))
        await asyncio.sleep(0.1)
        publish(path, seed=2)
        for _ in range(200):
            if desk.serving.digest != first.digest:
                break
            await asyncio.sleep(0.02)
        ended.set()
        await watch

    monkeypatch.setattr(desk.tally, "look", without_files)
    asyncio.run(watched())
    assert desk.serving.digest != first.digest
