"""Backups: databases at one moment, private modes kept, nothing written over, nothing changed unseen."""

from __future__ import annotations

import io
import shutil
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hansa.cli.archive import left_out, make_archive, put_back
from hansa.clients.forgotten import FORGOTTEN
from hansa.contract.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A member's folder whose ledger is open and has a row that only the log has."""
    made = tmp_path / "member"
    (made / "node").mkdir(parents=True)
    for part in ("logs", "metrics"):
        (made / part).mkdir()
        (made / part / "x").write_text("passing")
    (made / "identity.key").write_text("secret")
    (made / "identity.key").chmod(0o600)
    (made / "node" / "ca.crt").write_text("public")
    (made / "agent.lock").write_text("")
    with closing(sqlite3.connect(made / "ledger.sqlite")) as ledger:
        ledger.execute("PRAGMA journal_mode=WAL")
        ledger.execute("CREATE TABLE rows (n INTEGER)")
        ledger.executemany("INSERT INTO rows VALUES (?)", [(it,) for it in range(500)])
        ledger.commit()
        yield made


def test_what_is_put_back_is_what_was_there(folder: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "b.tar.gz", tmp_path / "back"
    assert make_archive(folder, out) == 3
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    count, _ = put_back(out, back)
    assert count == 3
    files = sorted(it.relative_to(back).as_posix() for it in back.rglob("*") if it.is_file())
    assert files == ["identity.key", "ledger.sqlite", "node/ca.crt"]
    assert stat.S_IMODE((back / "identity.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(back.stat().st_mode) == 0o700
    with closing(sqlite3.connect(back / "ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT count(*), sum(n) FROM rows").fetchone() == (500, 499 * 250)


def test_nothing_is_written_over(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.tar.gz"
    make_archive(folder, out)
    with pytest.raises(InputError, match="replaces none; name another file with --out"):
        make_archive(folder, out)
    with pytest.raises(InputError, match="move it away first"):
        put_back(out, folder)
    with pytest.raises(InputError, match="belongs elsewhere"):
        make_archive(folder, folder / "b.tar.gz")
    with pytest.raises(InputError, match="no such folder"):
        make_archive(tmp_path / "none", tmp_path / "c.tar.gz")


def test_a_changed_backup_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    out, changed, back = tmp_path / "b.tar.gz", tmp_path / "c.tar.gz", tmp_path / "back"
    make_archive(folder, out)
    with tarfile.open(out) as old, tarfile.open(changed, "w:gz") as new:
        for entry in old:
            file = old.extractfile(entry)
            assert file is not None
            content = file.read().replace(b"public", b"forged")
            entry.size = len(content)
            new.addfile(entry, io.BytesIO(content))
    with pytest.raises(InputError, match=r"ca\.crt was changed"):
        put_back(changed, back)
    out.write_bytes(out.read_bytes()[:200])
    with pytest.raises(InputError, match="not a backup"):
        put_back(out, back)
    assert not back.exists()
    assert [it.name for it in tmp_path.iterdir() if it.name.startswith(".")] == []


def test_a_byte_that_is_another_is_one_sentence_or_changes_no_file(folder: Path, tmp_path: Path) -> None:
    out, changed, back = tmp_path / "b.tar.gz", tmp_path / "c.tar.gz", tmp_path / "back"
    make_archive(folder, out)
    content, refused = out.read_bytes(), 0
    for place in range(0, len(content), len(content) // 40):
        changed.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        try:
            put_back(changed, back)
        except InputError:
            refused += 1
            assert not back.exists()
        else:
            # Times and what is behind the last file are nobody's.
            assert (back / "node/ca.crt").read_text() == "public"
            assert (back / "identity.key").read_text() == "secret"
            shutil.rmtree(back)
    assert refused > 30


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../evil"))
    with pytest.raises(InputError, match="leads out"):
        put_back(path, tmp_path / "back")
    assert not (tmp_path / "evil").exists()


def test_a_file_called_manifest_comes_back_and_the_list_of_forgotten_is_copied_last(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "manifest.json").write_text("mine")
    (folder / FORGOTTEN).write_text("list")
    make_archive(folder, tmp_path / "b.tar.gz")
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        names = archive.getnames()
    assert names.index("ledger.sqlite") < names.index(FORGOTTEN)
    put_back(tmp_path / "b.tar.gz", tmp_path / "back")
    assert (tmp_path / "back" / "manifest.json").read_text() == "mine"


def test_what_is_left_out_is_named(folder: Path) -> None:
    (folder / ".env").write_text("x")
    (folder / "data.csv").symlink_to("/etc/hostname")
    assert left_out(folder) == [".env", "data.csv (a symbolic link)", "logs/", "metrics/"]


def test_what_the_disk_has_no_room_for_is_refused_unread(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_archive(folder, tmp_path / "b.tar.gz")
    usage = shutil._ntuple_diskusage(9, 0, 9)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="are more than"):
        put_back(tmp_path / "b.tar.gz", tmp_path / "back")
    assert not (tmp_path / "back").exists()
