"""`hansa scaling`: the 24 hours, a recorded trace, and what is said of a file that is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hansa.cli import main
from hansa.cli.scaling import app
from hansa.sidecar.scaling.made import business_days

RUNNER = CliRunner()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "shop.csv"
    demand = business_days(2, seed=2, burst=False).demand
    rows = [f"{1_767_225_600 + 60 * minute},{demand[minute]}" for minute in range(0, len(demand), 5)]
    path.write_text("timestamp,value\n" + "\n".join(rows) + "\n")
    return path


def test_a_day_is_shown_with_patterns_decisions_and_costs(tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["--out", str(tmp_path / "day.svg")], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    for words in (
        "business hours",
        "peak",
        "off-hours",
        "forecast",
        "static peak",
        "HPA at 70 %",
        "clairvoyant",
    ):
        assert words in done.output
    assert "Violations are within the budget" in done.output
    assert (tmp_path / "day.svg").read_text().startswith("<svg")


def test_the_day_as_an_object_saves_what_it_says() -> None:
    done = RUNNER.invoke(app, ["--json", "--seed", "3", "--price", "2"])
    found = json.loads(done.stdout)
    assert found["minutes"] == 1440
    own, peak = found["policies"]["ours"], found["policies"]["static peak"]
    assert own["cost"] < 0.5 * peak["cost"]
    assert own["money"] == pytest.approx(own["cost"] / 30.0)
    assert own["violations"] <= 0.02
    assert all(it["reason"] and it["wanted"] != it["current"] for it in found["changes"])


def test_a_recorded_demand_is_served_again(recorded: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawings"
    done = RUNNER.invoke(
        app, ["replay", str(recorded), "--compare", "--out", str(out)], env={"COLUMNS": "120"}
    )
    assert done.exit_code == 0, done.output
    assert "in hindsight" in done.output
    assert {it.name for it in out.iterdir()} == {"capacity.svg", "frontiers.svg"}
    plain = RUNNER.invoke(app, ["replay", str(recorded), "--json"])
    policies = json.loads(plain.stdout)["policies"]
    assert "ours" in policies
    assert not any("HPA" in name for name in policies)


def test_what_is_no_trace_is_one_line_and_an_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text("timestamp,value\n0,1\n60,x\n")
    monkeypatch.setattr("sys.argv", ["hansa", "scaling", "replay", str(tmp_path / "bad.csv")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code
    told = capsys.readouterr().err.strip()
    assert "line 3: the value 'x' is not a number" in told
    assert "\n" not in told


def test_a_drawing_that_cannot_be_written_is_an_error(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = RUNNER.invoke(app, ["replay", str(recorded), "--out", str(tmp_path / "file" / "day.svg")])
    assert "cannot be written" in str(done.exception)
    done = RUNNER.invoke(app, ["replay", str(recorded), "--out", str(tmp_path / "day.png")])
    assert "ends in .svg" in str(done.exception)
