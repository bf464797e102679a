"""`hansa budgets plan`: from public numbers to noise and a verdict, with nothing running."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from budget_side import write_noised
from cli_side import hansa

from hansa.cli.budgets_shown import bar, rounds
from hansa.contract.library import scenario_folder, scenario_names
from hansa.contract.scenario import read_scenario

Plan = Callable[..., dict[str, object]]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> dict[str, object]:
        assert hansa(["budgets", "plan", *arguments, "--json"], monkeypatch) == 0
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    return run


# NOTES-training.md: 60 rounds, a tenth for the contract check, the whole grant.
@pytest.mark.parametrize(("epsilon", "sigma"), [("8", 4.90), ("3", 11.35), ("1", 30.46)])
def test_the_recipe_s_noise(plan: Plan, epsilon: str, sigma: float) -> None:
    found = plan("--rounds", "60", "--epsilon", epsilon, "--share", "1", "--check")
    assert found["update"] == pytest.approx(sigma, abs=0.01)
    assert found["percent_left"] == pytest.approx(0.0, abs=1e-6)


def test_more_rounds_of_fewer_steps_plan_anew_within_the_same_share(plan: Plan) -> None:
    few = plan("--rounds", "3", "--steps", "10")
    many = plan("--rounds", "60", "--steps", "1")
    for found in (few, many):
        assert found["percent_left"] == pytest.approx(70.0, abs=1e-6)
    assert many["update"] == pytest.approx(2**0.5 * float(few["update"]))  # type: ignore[arg-type]
    assert few["round_percent"] == pytest.approx(10.0)


def test_kappa_by_hand_and_its_verdict(plan: Plan) -> None:
    # sqrt(3/1) * sqrt(29) / (602 * .131 * .869 * mu), all of epsilon 1.
    arguments = ("--epsilon", "1", "--share", "1", "--members", "3", "--records", "602", "--columns", "28")
    found = plan(*arguments, "--prevalence", "0.131")
    assert found["kappa"] == pytest.approx(3**0.5 * 29**0.5 / (602 * 0.131 * 0.869 * 0.268), rel=2e-3)
    assert found["verdict"] == "pointless"
    assert "more records" in str(found["advice"])
    assert plan(*arguments)["verdict"] is None


def test_distributed_noise_is_better_off_by_the_root_of_its_members(plan: Plan) -> None:
    numbers = ("--members", "10", "--records", "9000", "--prevalence", "0.2", "--columns", "30")
    local = plan(*numbers)["kappa"]
    shared = plan(*numbers, "--noise", "distributed", "--s", "1")["kappa"]
    assert local == pytest.approx(float(shared) * 3.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_can_be_planned(plan: Plan, name: str) -> None:
    found = plan("--scenario", name)
    # kappa, and a verdict with it, are of yes and no alone.
    binary = read_scenario(scenario_folder(name))[1].label.kind == "binary"
    assert found["verdict"] in (("fine", "doubtful", "pointless") if binary else (None,))


def test_a_scenario_gives_what_is_not_said(plan: Plan, tmp_path: Path) -> None:
    write_noised(tmp_path / "tiny")
    given = plan("--scenario", "tiny", "--rounds", "12")["given"]
    assert isinstance(given, dict)
    assert (given["members"], given["rounds"], given["noise"]) == (3, 12, "local")
    assert given["records"] == 3 * 1000 * 0.8


WRONG = {
    "no rounds": (("--rounds", "0"), "rounds"),
    "negative epsilon": (("--epsilon", "-3"), "epsilon"),
    "infinite epsilon": (("--epsilon", "inf"), "epsilon"),
    "a delta of a tenth": (("--delta", "0.1"), "delta"),
    "more than all of it": (("--share", "1.5"), "share"),
    "one member": (("--members", "1"), "members"),
    "everybody": (("--prevalence", "1"), "prevalence"),
    "Poisson in gdp": (("--sampling-rate", "0.1"), "must be in rdp"),
    "an unknown currency": (("--currency", "gold"), "currency"),
    "too little for rdp": (("--epsilon", "0.01", "--delta", "1e-9", "--currency", "rdp"), "use gdp"),
    "a rate that no event can have": (
        ("--sampling-rate", "1e-9", "--currency", "rdp"),
        "field 'sampling_rate'",
    ),
    "less than one record": (("--records", "1e-300", "--prevalence", ".1", "--columns", "9"), "records"),
    "hardly anybody": (("--records", "1e12", "--prevalence", "1e-300", "--columns", "9"), "prevalence"),
    "a delta of nothing": (("--delta", "1e-300"), "delta"),
    "an unknown scenario": (("--scenario", "nowhere"), "'nowhere' is not known"),
    "nobody named who may collude": (
        ("--noise", "distributed", "--records", "9", "--prevalence", "0.1", "--columns", "3"),
        "--s",
    ),
    "all collude": (
        ("--noise", "distributed", "--s", "9", "--records", "9", "--prevalence", "0.1", "--columns", "3"),
        "s = 9 of 5 members",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_numbers_that_cannot_be_get_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arguments, words = WRONG[name]
    assert hansa(["budgets", "plan", *arguments], monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1


REFUSED = {
    "fewer rounds than the charter has": (("--scenario", "tiny", "--rounds", "1"), "fewest_rounds = 3"),
    "steps under distributed noise": (
        ("--steps", "5", "--noise", "distributed", "--s", "1"),
        "'distributed'",
    ),
    "samples under distributed noise": (
        ("--sampling-rate", "0.1", "--currency", "rdp", "--noise", "distributed", "--s", "1"),
        "'poisson'",
    ),
    "more charges than a job may have": (("--rounds", "6000"), "charges_per_job = 10000"),
    "a delta above the charter's": (("--scenario", "tiny", "--delta", "1e-3"), "public bound, 1e-05"),
}


@pytest.mark.parametrize("form", [(), ("--json",)])
@pytest.mark.parametrize("name", REFUSED)
def test_a_job_that_no_member_would_take_is_one_sentence_on_why(
    name: str,
    form: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_noised(tmp_path / "tiny")
    arguments, words = REFUSED[name]
    numbers = ("--records", "9000", "--prevalence", "0.2", "--columns", "9")
    assert hansa(["budgets", "plan", *arguments, *numbers, *form], monkeypatch) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_a_bar_never_shows_a_little_as_nothing_nor_nearly_all_as_all() -> None:
    assert [bar(it).count("█") for it in (0.0, 0.01, 50.0, 99.99, 100.0)] == [0, 1, 10, 19, 20]
    assert [bar(it).count("█") for it in (-5.0, 1e300)] == [0, 20]
    assert {len(bar(it)) for it in (0.0, 3.0, 100.0)} == {20}


def test_rounds_that_an_amount_pays_for() -> None:
    assert rounds(0.7, 0.1) == 7
    assert rounds(0.69, 0.1) == 6
    assert rounds(0.0, 0.1) == 0
    assert rounds(1.0, 0.0) is None
    assert rounds(1e300, 1e-300) is None
