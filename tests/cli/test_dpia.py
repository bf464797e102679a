"""The assessment claims no more than the charter's mode and noise give, and its figures are the files'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from budget_side import office
from cli_side import Commands, commands
from federation import FEATURES, make_federation

from hansa.cli import dpia
from hansa.cli.dpia_risks import RISKS, residual
from hansa.contract.charter import Charter, PrivacyPlan, Protection
from hansa.contract.scenario import FirstGrant
from hansa.privacy.book import Book

THREATS = Path(__file__).parents[2] / "docs" / "threat-model.md"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


def charter(mode: str, noise: str, **protection: object) -> Charter:
    plan = {"noise": noise} | ({"s": 1} if noise == "distributed" else {})
    protected = Protection.model_validate({"mode": mode, **protection})
    return make_federation(5, privacy=PrivacyPlan.model_validate(plan), protection=protected).charter


def measures(it: Charter) -> str:
    return "\n".join(dpia._measures(it, Book(), 0))


def test_every_residual_risk_is_the_threat_models() -> None:
    page = THREATS.read_text()
    for risk in RISKS:
        assert f"**{risk.title}" in page, risk.title


def test_what_is_claimed_differs_by_mode_and_by_noise() -> None:
    clear, masked, he = (measures(charter(mode, "none")) for mode in ("clear", "masked", "he"))
    assert "No masking and no encryption" in clear
    assert "Updates are masked" not in clear
    assert "Updates are masked" in masked
    assert "encrypted" not in masked
    assert "encrypted under a key of the members'" in he
    for said in (clear, masked, he):
        assert "No differential privacy is claimed" in said
        assert "Gaussian noise" not in said
    local, shared = measures(charter("masked", "local")), measures(charter("masked", "distributed"))
    assert "all of it at each organisation" in local
    assert "a share of it at each organisation" in shared
    risks = {title for title, _ in residual(charter("masked", "distributed"))}
    assert "Learning about one record from what leaves" in risks
    assert "Learning about one record from what leaves" not in {
        title for title, _ in residual(charter("masked", "local"))
    }
    assert {"Noise `none`", "Mode `clear`: the server reads every update"} <= {
        title for title, _ in residual(charter("clear", "none"))
    }


def test_figures_are_those_of_charter_and_ledger_and_the_rest_is_marked(
    run: Commands, tmp_path: Path
) -> None:
    with office(tmp_path, grant=FirstGrant(), people=True) as a:
        plan = a.propose()
        run("jobs", "approve", plan.job, "--folder", a.folder)
        a.work(plan, 1)
        out = tmp_path / "dpia.md"
        said = run("evidence", "dpia", "--folder", a.folder, "-o", str(out))
        assert (said.code, said.err) == (0, "")
        text = out.read_text()
        again = run("evidence", "dpia", "--folder", a.folder, "-o", str(out))
        assert (again.code, "--force replaces it" in again.err) == (2, True)
        [grant] = a.budget.grants.ledger._book.grants.values()
        spent = grant.data_set.row.currency.epsilon(grant.spent, grant.row.delta)
        charter_ = a.agent.membership.charter  # type: ignore[union-attr]
    assert spent > 0
    assert f"| first | {grant.row.epsilon:g}, {grant.row.delta:g} | {spent:.4g} |" in text
    assert all(f"`{it.name}`" in text for it in charter_.task.features.columns)
    assert "People are told apart by: person" in text
    for number in range(1, 6):
        assert f"\n## {number}. " in text
    assert len(dpia.marked(text)) == text.count("FILL IN") > 15
    assert f"{text.count('FILL IN')} fields" in said.out
    # Not one figure on how many people there are: no file of the charter's knows.
    assert not re.search(r"\b120\b", text)
    assert FEATURES  # the made-up contract of other tests is not this one's
