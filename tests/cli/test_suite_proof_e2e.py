"""The suite's parts for a privacy officer over real processes: proof of a federation, people forgotten in another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from budget_side import name_people, write_noised
from cli_side import still_running

from hansa.cli.suite.after import BudgetsPart
from hansa.cli.suite.forgetting import ForgettingPart
from hansa.cli.suite.learning import FederatedPart
from hansa.cli.suite.proof import ProofPart
from hansa.cli.suite.summary import run_and_show

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(300)]

GRANT = """
[grant]
epsilon = 8.0
delta = 1e-5
purpose = "a test"
legal_basis = "made-up records"
"""


def test_what_left_is_proved_and_people_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    origin = write_noised(tmp_path / "scenario")
    name_people(origin)
    with (origin / "scenario.toml").open("a") as file:
        file.write(GRANT)
    parts = [FederatedPart(str(origin)), BudgetsPart(), ProofPart(tmp_path / "evidence")]
    code = run_and_show([*parts, ForgettingPart(str(origin))], as_json=True)
    printed = capsys.readouterr()
    found = {it["part"]: it for it in json.loads(printed.out.splitlines()[-1])["parts"]}
    assert code == 0, printed.err
    proof, forgotten = found["proof"]["result"], found["forgetting"]["result"]
    assert len(proof["evidence"]) == 3
    for it in proof["evidence"]:
        assert it["refused"] == it["tampered"] > 30
        assert any(line.startswith("outbox:") and "held against the ledger" in line for line in it["checked"])
    assert all(it["uploads"] == it["receipts"] >= 3 for it in proof["outbox"])
    assert forgotten["after"] == forgotten["expected"]["held_out"] < forgotten["before"]
    assert still_running(tmp_path) == []
