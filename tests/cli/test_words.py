"""What the commands say where a person mistypes, has 80 columns, or asks for nothing."""

from __future__ import annotations

import io
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from budget_side import office
from cli_side import Commands, Said, commands, write_scenario
from rich.console import Console

import hansa
from hansa.cli import audit, simulate, status
from hansa.cli.budgets_answers import AgentBudgets
from hansa.cli.budgets_shown import budget_sentence, mirror_lines, own_lines, print_grants, print_jobs
from hansa.cli.listing import print_hanging, print_table
from hansa.cli.results import RoundLine, rounds_table
from hansa.cli.suite.scenarios import ScenariosPart
from hansa.clients.leaving import Leaving
from hansa.contract.jobs import MetricValue
from hansa.server.records import BudgetRecord, SpendingRecord


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Commands:
    monkeypatch.chdir(tmp_path)
    return commands(monkeypatch, capsys)


def test_the_command_alone_prints_its_help(run: Commands) -> None:
    said = run()
    assert said.code == 2
    assert "  simulate " in said.out


def test_a_mistyped_command_is_suggested_once(run: Commands) -> None:
    assert "Did you mean 'status'" in run("statsu").err
    assert run("scenario", "lst").err.count("Did you mean") == 1


@pytest.mark.parametrize("words", [("nosuch",), ("--set", "nosuch=1")])
def test_federated_takes_no_wrong_input_and_says_so_once(run: Commands, words: tuple[str, ...]) -> None:
    said = run("federated", *words)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "nosuch" in said.err


def test_a_kind_that_does_not_exist_is_no_empty_record(run: Commands, tmp_path: Path) -> None:
    with office(tmp_path) as it:
        said = run("outbox", "--folder", it.folder, "--kind", "uplod")
        assert said.code == 2
        assert "the kinds are hello, " in said.err
        assert " upload, " in said.err
        assert it.agent is not None
        assert it.agent.outbox is not None
        it.agent.outbox.enter(Leaving(kind="hello", bytes=10, digest="1" * 64, mode="masked", noise="local"))
        later = run("outbox", "--folder", it.folder, "--since", "2099-01-01").out
        assert later == "nothing since then; that is in the future; other entries are on record\n"
        other = run("outbox", "--folder", it.folder, "--kind", "upload", "--job", "ab").out
        assert other == "nothing of kind upload of job ab; other entries are on record\n"


def test_what_is_no_job_is_said_in_words(run: Commands, tmp_path: Path) -> None:
    with office(tmp_path) as it:
        for words in (("outbox", "--job", "zzz"), ("jobs", "approve", "JOB")):
            said = run(*words, "--folder", it.folder)
            assert said.code == 2
            assert "expected its id, 32 characters of 0-9 and a-f" in said.err


GRANT = {
    "grant": "spring",
    "data_set": "consortium-customers",
    "currency": "gdp",
    "epsilon": 8.0,
    "delta": 1e-5,
}
SUMS = {"training": 0.2, "holdout": 0.1, "amount": 1.0, "remaining": 0.8, "percent_left": 80.0}
READ = {"job": "ab" * 16, "attempt": 20, "sequence": 41}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def mirrored(member: str) -> BudgetRecord:
    return BudgetRecord.model_validate(
        {"id": 1, "member": member, **GRANT, **SUMS, **READ, "order": None, "epsilon_spent": 1.0, "at": NOW}
    )


def own() -> AgentBudgets:
    grant = {**GRANT, **SUMS, "epsilon_spent": 1.0, "expires": datetime(2027, 3, 1, tzinfo=UTC)}
    job = {"job": "ab" * 16, "name": "consortium", "grant": "spring", "most": 0.3, "training": 0.2}
    return AgentBudgets.model_validate(
        {
            "member": "kontor-bank",
            "noise": "local",
            "delta": 1e-5,
            "grants": [grant],
            "jobs": [{**job, "charges": 20, "round_cost": 0.01, "noise": {"update": 80.0}}],
        }
    )


def test_rounds_left_of_a_grant_are_the_same_at_the_organisation_and_in_the_mirror() -> None:
    spent = {"member": "kontor-bank", "job": "ab" * 16, "grant": "spring", "charges": 20, "round_cost": 0.01}
    spending = SpendingRecord.model_validate({"id": 1, **spent, "training": 0.2, "holdout": 0.1})
    [seen], [seen_job] = mirror_lines([mirrored("kontor-bank")], [spending], {}, ["kontor-bank"])
    [grant], [job] = own_lines(own(), NOW)
    assert grant.rounds_left == seen.rounds_left == 80
    assert (job.rounds_left, seen_job.rounds_left) == (10, None)


def test_who_has_left_the_consortium_comes_last_and_is_marked() -> None:
    lines, _ = mirror_lines([mirrored("a"), mirrored("b")], [], {}, ["b"])
    assert [it.member for it in lines] == ["b", "a"]
    assert budget_sentence(lines[1]).startswith("a, no longer a member: ")


def test_budgets_break_no_word_on_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    grants, jobs = own_lines(own(), NOW)
    print_grants(grants)
    print_jobs(jobs)
    out = capsys.readouterr().out
    for word in ("kontor-bank", "consortium-customers", "granted", "rounds left", "epsilon 8 at delta 1e-05"):
        assert word in out


def test_a_table_of_long_words_becomes_blocks_and_a_small_one_stays(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(("member", "title", "seen"), [("a", "B" * 40, "C" * 40), ("b", "", "x")], nothing="")
    assert capsys.readouterr().out == f"a\n  title   {'B' * 40}\n  seen    {'C' * 40}\nb\n  seen    x\n"
    print_table(("member", "title"), [("a", "B")], nothing="")
    assert "│" in capsys.readouterr().out
    # Rich alone would cut the bar, to leave the sentence more.
    print_table(("hour", "bar", "what"), [("06:00", "=" * 40, "expects more " * 4)], nothing="")
    assert "=" * 40 in capsys.readouterr().out


def test_what_is_not_there_is_said_so(run: Commands) -> None:
    assert run("restore", "nope.tar.gz", "--to", "x") == Said(2, "", "hansa: nope.tar.gz: no such file\n")
    assert run("scaling", "replay", "nope.csv") == Said(2, "", "hansa: nope.csv: no such file\n")
    said = run("scaler", "plan", "--services", "nope.toml", "--state", ".")
    assert (said.code, "docs/scaler.md" in said.err) == (2, True)


def test_a_backup_names_keys_and_tokens_where_it_has_them_and_a_restore_a_time_to_be_read(
    run: Commands, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.sqlite").write_text("rows")
    assert run("backup", "store", "--out", "a.tar.gz").out == "a.tar.gz: 1 file of store\n"
    (tmp_path / "store" / "tokens.json").write_text("{}")
    assert "2 files of store, tokens among them; keep" in run("backup", "store", "--out", "b.tar.gz").out
    (tmp_path / "store" / "operator.key").write_text("k")
    assert "private keys and tokens among" in run("backup", "store", "--out", "c.tar.gz").out
    said = run("restore", "c.tar.gz", "--to", "back").out
    assert re.search(r"as they were at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [A-Z]+$", said.strip())


def test_made_up_rows_are_written_without_the_contract_on_the_screen(run: Commands) -> None:
    words = ("data", "describe", "consortium", "--synthetic", "5", "--out")
    assert run(*words, "rows.csv").out == ""
    assert run(*words, "rows.txt") == Said(
        2, "", "hansa: --out rows.txt: give a name that ends in .csv or .parquet\n"
    )


def test_a_scenario_that_is_there_names_what_replaces_it(run: Commands, tmp_path: Path) -> None:
    write_scenario(tmp_path / "tables")
    words = ("scenario", "from-csv", "tables", "--label", "y", "--out", "made")
    assert run(*words).code == 0
    assert "--force" in run(*words).err
    assert run(*words, "--force").code == 0


def line(number: int, **released: float) -> RoundLine:
    metrics = {name: MetricValue(value=value, error=0.0123) for name, value in released.items()}
    return RoundLine(number, 0.5, ("a", "b", "c"), metrics)


@pytest.mark.parametrize(("width", "shown"), [(200, 4), (80, 3)])
def test_a_round_is_one_line_and_figures_without_room_are_named(width: int, shown: int) -> None:
    stored = line(1, accuracy=0.8, auc=0.8, calibration=0.1, log_loss=0.5)
    fresh = line(1, auc=0.8, log_loss=0.5, accuracy=0.8, calibration=0.1)
    drawn = []
    for it in (stored, fresh):
        console = Console(width=width, file=io.StringIO(), record=True)
        console.print(rounds_table([it, it], width=width))
        drawn.append(console.export_text())
    assert drawn[0] == drawn[1]
    lines = drawn[0].splitlines()
    assert len(lines) == (6 if shown == 4 else 7)
    assert [name for name in ("auc", "log_loss", "accuracy", "calibration") if name in lines[1]] == [
        "auc", "log_loss", "accuracy", "calibration",
    ][:shown]  # fmt: skip
    assert "…" not in drawn[0]
    assert ("no room for calibration" in drawn[0]) == (shown == 3)


def test_the_changes_of_a_scaled_day_fit_the_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_hanging("  06:05  2 -> 3  forecast  ", "the forecast for the next minutes " * 5)
    lines = capsys.readouterr().out.splitlines()
    assert max(len(it) for it in lines) <= 80
    assert {it[:26].strip() for it in lines[1:]} == {""}


def test_an_interrupted_command_says_so(run: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate, "simulated", interrupted)
    said = run("simulate", "consortium")
    assert (said.code, said.err.strip()) == (130, "hansa: interrupted")


def test_a_part_of_the_suite_names_a_line_for_the_shell() -> None:
    assert ScenariosPart(("banks",)).command == "hansa simulate banks"
    assert ScenariosPart().command.startswith("for it in banks consortium ")


def test_the_python_api_refuses_what_the_command_refuses_and_prints_briefly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    origin = write_scenario(tmp_path / "tiny")
    for wrong in ({"rounds": 0}, {"members": 1}, {"split": -1}):
        with pytest.raises(hansa.InputError, match="expected at least"):
            hansa.simulate(origin, **wrong)  # type: ignore[arg-type]
    scenario = hansa.load_scenario(origin)
    with pytest.raises(hansa.InputError, match="rows: expected at least 1"):
        scenario.synthetic(-1)
    result = scenario.simulate(rounds=1, settings={"mode": "he"})
    # The command says nothing of a server either: there is none.
    assert "the server reads" not in caplog.text
    assert len(str(result)) < 3000
    assert "finished, 1 round\n" in str(result)
    assert len(str(scenario)) < 1500


def test_an_audit_shows_a_sign_of_life_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audit._under_way(1, "canaries")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    audit._under_way(1, "canaries")
    audit._under_way(0)
    assert capsys.readouterr().err == "\r\x1b[Kaudit 1 of 4: canaries ...\r\x1b[K"


def test_status_says_what_changes_before_what_never_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    job = {"job": "ab" * 16, "name": "fraud", "status": "running", "round": 3, "rounds": 9, "reason": ""}
    facts = {
        "instance": "here",
        "control": "",
        "control_problem": "",
        "running": True,
        "processes": [],
        "members": [],
        "jobs": [job],
    }
    more = {"protection": "mode masked", "privacy": "noise local", "budgets": [], "warnings": ["old"]}
    status._print({**facts, **more})
    out = capsys.readouterr().out
    assert out.index("3 of 9") < out.index("mode masked") < out.index("noise local") < out.index("old")
