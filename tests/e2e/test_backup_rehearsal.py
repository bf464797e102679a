"""Backup and restore as docs/operations.md has them, over a real federation: a member, then the consortium's server."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from running import hansa

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MEMBER = "kontor-bank"


def done(folder: Path, *arguments: str) -> str:
    found = hansa(*arguments, cwd=folder)
    assert found.returncode == 0, (arguments, found.stdout, found.stderr)
    return str(found.stdout)


def epsilon(folder: Path) -> float:
    (grant,) = json.loads(done(folder, "budgets", "show", "--org", MEMBER, "--json"))["grants"]
    return float(grant["epsilon_spent"])


def test_a_restored_ledger_is_recognised_and_recovered_and_the_store_goes_on(tmp_path: Path) -> None:
    member = tmp_path / ".hansa" / "consortium" / "members" / MEMBER
    instance = member.parent.parent
    # Some rounds, and a backup of everything while it all runs.
    done(tmp_path, "up", "--rounds", "3", "--set", "steps=1", "--detach")
    done(tmp_path, "rounds", "watch")
    early = epsilon(tmp_path)
    done(tmp_path, "backup", str(member), "--out", "backups/member.tar.gz")
    # More is charged since then.
    done(tmp_path, "jobs", "submit", "--set", "rounds=3", "--set", "steps=1")
    done(tmp_path, "rounds", "watch")
    spent = epsilon(tmp_path)
    assert spent > early
    done(tmp_path, "backup", str(instance / "store"), "--out", "backups/store.tar.gz")
    before = done(tmp_path, "jobs", "list", "--json")
    done(tmp_path, "down")
    # The member's disk is lost, and so is the server's.
    shutil.rmtree(member)
    shutil.rmtree(instance / "store")
    done(tmp_path, "restore", "backups/member.tar.gz", "--to", str(member))
    done(tmp_path, "restore", "backups/store.tar.gz", "--to", str(instance / "store"))
    (member / "work").mkdir(exist_ok=True)
    done(tmp_path, "up", "--keep", "--rounds", "3", "--set", "steps=1", "--detach")
    try:
        after = {it["job"]: it for it in json.loads(done(tmp_path, "jobs", "list", "--json"))}
        assert all(after[it["job"]]["round"] == it["round"] for it in json.loads(before))
        # The others remember more of this ledger than it does itself.
        assert epsilon(tmp_path) == pytest.approx(early)
        status = _until_behind(tmp_path)
        assert "recover" in status
        done(tmp_path, "budgets", "recover", "--org", MEMBER, "--reason", "restored from a backup")
        assert epsilon(tmp_path) >= spent - 1e-9
        done(tmp_path, "budgets", "verify", "--org", MEMBER)
    finally:
        done(tmp_path, "down")


def _until_behind(folder: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        said = json.loads(done(folder, "client", "status", "--org", MEMBER, "--json"))
        missing = str((said["agent"] or {}).get("missing", ""))
        if missing:
            return missing
        time.sleep(0.5)
    raise AssertionError("the restored ledger was not recognised")
