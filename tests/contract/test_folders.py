"""Whose files are that root writes, what a stopped process left, and what is in the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hansa.contract.errors import InputError
from hansa.contract.folders import clear_leftovers, inner_folder
from hansa.contract.typed import read_file, write_atomically

AGENT, NODE = 40_001, 40_002
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for others")


def owner(path: Path) -> int:
    return path.lstat().st_uid


@root
def test_what_root_writes_belongs_to_whom_the_file_or_else_the_folder_belongs(tmp_path: Path) -> None:
    folder = tmp_path / "member"
    folder.mkdir()
    os.chown(folder, AGENT, AGENT)
    path = folder / "identity.key"
    write_atomically(path, b"one", mode=0o600)
    assert (owner(path), stat.S_IMODE(path.stat().st_mode)) == (AGENT, 0o600)
    os.chown(path, NODE, NODE)
    write_atomically(path, b"two", mode=0o600)
    assert (owner(path), path.stat().st_gid) == (NODE, NODE)
    inner_folder(folder / "next")
    assert (owner(folder / "next"), stat.S_IMODE((folder / "next").stat().st_mode)) == (AGENT, 0o700)


@root
def test_a_file_has_its_owner_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(tmp_path, AGENT, AGENT)
    seen = []
    replace = os.replace

    def watched(source: str, target: Path) -> None:
        seen.append(owner(Path(source)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_atomically(tmp_path / "key", b"one")
    assert seen == [AGENT]


@root
def test_a_folder_that_everybody_writes_into_gives_nothing_away(tmp_path: Path) -> None:
    os.chown(tmp_path, AGENT, AGENT)
    tmp_path.chmod(0o1777)
    write_atomically(tmp_path / "key", b"one", mode=0o600)
    assert owner(tmp_path / "key") == 0


def test_a_file_is_given_away_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[object] = []
    replace = os.replace
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, *owner: steps.append(owner))
    monkeypatch.setattr(os, "replace", lambda *paths: (steps.append("seen"), replace(*paths)))
    write_atomically(tmp_path / "key", b"one")
    found = tmp_path.stat()
    assert steps == [(found.st_uid, found.st_gid), "seen"]


def test_others_than_root_give_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "fchown", lambda *_: pytest.fail("gives a file away"))
    write_atomically(tmp_path / "key", b"one")
    inner_folder(tmp_path / "next")


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    old = [".identity.key.abcd_123", ".identity.key.zzzzzzz0"]
    kept = [".identity.key.backup", ".identity.key.abcd_1234", ".node.key.abcd_123", "identity.key.abcd_123"]
    for name in (*old, *kept):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    # Somebody may be writing it now.
    (tmp_path / ".identity.key.new_0000").write_text("x")
    (tmp_path / ".identity.key.folder00").mkdir()
    clear_leftovers(path)
    assert {it.name for it in tmp_path.iterdir()} == {
        *kept,
        ".identity.key.new_0000",
        ".identity.key.folder00",
    }


def test_a_folder_is_not_made_through_what_is_in_its_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path / "file", tmp_path / "link"):
        with pytest.raises(InputError, match="is in the way"):
            inner_folder(path)
    for path in (tmp_path / "file" / "next", tmp_path / "none" / "next"):
        with pytest.raises(InputError, match="no such folder"):
            inner_folder(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path / "file" / "key")
