"""The charter's next version over a real federation, as docs/operations.md has it: members, keys, CA, tokens change."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from running import hansa, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TURNS, LEAVES, JOINS = "kontor-bank", "stapelhaus", "neue-bank"


def done(folder: Path, *arguments: str) -> str:
    found = hansa(*arguments, cwd=folder)
    assert found.returncode == 0, (arguments, found.stdout, found.stderr)
    return str(found.stdout)


def epsilon(folder: Path) -> float:
    (grant,) = json.loads(done(folder, "budgets", "show", "--org", TURNS, "--json"))["grants"]
    return float(grant["epsilon_spent"])


def jobs_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {it["job"]: it for it in json.loads(done(folder, "jobs", "list", "--json"))}


def test_members_and_keys_change_and_what_was_spent_stays(tmp_path: Path) -> None:
    instance = tmp_path / ".hansa" / "consortium"
    turns = instance / "members" / TURNS
    done(tmp_path, "up", "--rounds", "3", "--set", "steps=1", "--detach")
    done(tmp_path, "rounds", "watch")
    (old,) = jobs_of(tmp_path)
    # One that is not over when the version changes.
    done(tmp_path, "jobs", "submit", "--set", "rounds=500", "--set", "steps=1")
    (unfinished,) = set(jobs_of(tmp_path)) - {old}
    until(lambda: jobs_of(tmp_path)[unfinished]["round"] >= 1, 60)
    done(tmp_path, "jobs", "pause")
    spent = epsilon(tmp_path)
    done(tmp_path, "down")

    (tmp_path / "turned.toml").write_text(done(tmp_path, "provision", "rotate", str(turns)))
    operator = done(tmp_path, "provision", "rotate", str(instance / "control")).strip()
    records = tmp_path / "records.csv"
    done(tmp_path, "data", "describe", "consortium", "--synthetic", "3000", "--out", str(records))
    server = tomllib.loads((turns / "member.toml").read_text())["server"]
    new = instance / "members" / JOINS
    words = (
        "--name",
        JOINS,
        "--sector",
        "banking",
        "--out",
        str(new),
        "--server",
        server,
        "--csv",
        str(records),
    )
    (tmp_path / "joins.toml").write_text(done(tmp_path, "provision", "member", *words))
    for it in ("charter.toml", "charter.signatures.json"):
        shutil.copy(instance / "server" / it, tmp_path / it)
    done(
        tmp_path,
        *("charter", "amend", "charter.toml", "--add", "joins.toml", "--replace", "turned.toml"),
        *("--remove", LEAVES, "--operator", operator),
    )
    names = {it.name for it in (instance / "members").iterdir()} - {LEAVES}
    for name in sorted(names):
        waiting = instance / "members" / name / "next" / "identity.key"
        key = waiting if waiting.exists() else instance / "members" / name / "identity.key"
        done(tmp_path, "charter", "sign", "charter.next.toml", "--name", name, "--identity", str(key))
    done(tmp_path, "charter", "install", "charter.next.toml", "--instance", str(instance))
    for step in (("authority",), ("certificate",), ("authority", "--only-newest"), ("tokens",)):
        done(tmp_path, "provision", *step, "--instance", str(instance))

    done(tmp_path, "up", "--keep", "--rounds", "3", "--set", "steps=1", "--detach")
    try:
        done(tmp_path, "rounds", "watch")
        jobs = jobs_of(tmp_path)
        (job,) = set(jobs) - {old, unfinished}
        assert jobs[job]["status"] == "finished"
        assert jobs[unfinished]["status"] == "stopped"
        refused = hansa("jobs", "resume", unfinished, cwd=tmp_path)
        assert refused.returncode != 0
        assert "submit a new job" in refused.stderr
        present = {
            it["name"]: it["present"] for it in json.loads(done(tmp_path, "members", "list", "--json"))
        }
        assert set(present) == names
        assert all(present.values())
        # What was spent under the old key is still spent.
        assert epsilon(tmp_path) > spent
        done(tmp_path, "budgets", "verify", "--org", TURNS)
        # Both jobs are proved: the first with the charter and the key of its time.
        for it in (old, job):
            file = f"{it}.evidence"
            done(tmp_path, "evidence", it, "--org", TURNS, "--out", file)
            said = done(tmp_path, "evidence", "verify", file)
            assert ("later charters: 1" in said) == (it == old)
        done(tmp_path, "evidence", "verify", f"{old}.evidence", "--charter", "charter.toml")
    finally:
        done(tmp_path, "down")
