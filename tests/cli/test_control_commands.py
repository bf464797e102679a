"""`hansa jobs`, `rounds` and `members` against a control that really serves."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_side import hansa
from desks import SECRETS, open_test_desk
from federation import JOB, make_plan
from journals import signed
from rich.console import Console
from safetensors.numpy import load_file
from served import serve

from hansa.cli import agent_client, attention, control_client, instance
from hansa.cli.budgets_shown import GrantLine, JobLine, budget_sentence, mirror_lines
from hansa.cli.control_client import Control
from hansa.cli.follow import Followed, look, start_job
from hansa.cli.jobs_shown import idle_sentences
from hansa.cli.progress import PlainProgress
from hansa.cli.reach import reach
from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptResult, MetricValue, Participation
from hansa.server.control.desk import ControlDesk
from hansa.server.control.steering_routes import list_members
from hansa.strategies.apply import ModelState

Run = Callable[..., tuple[int, str, str]]
COHORT = ("a", "b", "c", "d")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


@pytest.fixture
def run(
    desk: ControlDesk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Runs a command with control's address and token in the environment; code, stdout, stderr."""
    with serve(desk) as url:
        monkeypatch.setenv("HANSA_CONTROL", url)
        monkeypatch.setenv("HANSA_TOKEN", SECRETS["write"])
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.chdir(tmp_path)

        def command(*arguments: str) -> tuple[int, str, str]:
            code = hansa(arguments, monkeypatch)
            printed = capsys.readouterr()
            return code, printed.out, printed.err

        yield command


def work(desk: ControlDesk, rounds: int, status: str = "finished") -> None:
    """What a ServerApp would leave behind."""
    defaults = {name: knob.default for name, knob in desk.charter.knobs.items()}
    desk.store.jobs.submit(make_plan(rounds=rounds), desk.charter_hash, defaults)
    for number in range(1, rounds + 1):
        apply_round(desk, number)
    desk.store.claim(JOB, "run 1").set_status(status)  # type: ignore[arg-type]


def apply_round(desk: ControlDesk, number: int) -> None:
    """One round of it."""
    journal = desk.store.claim(JOB, "run 1")
    attempt = journal.open_attempt(
        "train", base=number - 1, cohort=COHORT, left_out={}, knobs=journal.knobs()
    )
    result = AttemptResult(
        job=JOB,
        attempt=attempt,
        kind="train",
        status="applied",
        base=number - 1,
        round=number,
        cohort=COHORT,
        active=COHORT,
        participation=tuple(Participation(member=it, outcome="replied", seconds=0.25) for it in COHORT),
        knobs=journal.knobs(),
        metrics={"auc": MetricValue(value=0.7 + number / 100)},
        seconds=0.4,
    )
    journal.commit(result, ModelState.start(np.full(3, float(number))).arrays())


def test_a_job_is_submitted_listed_shown_and_stopped(run: Run, desk: ControlDesk) -> None:
    code, out, _ = run(
        "jobs",
        "submit",
        "--name",
        "fraud",
        "--rounds",
        "7",
        "--set",
        "rule=fedavg",
        "--pin",
        "server_rate=0.5",
        "--json",
    )
    job = json.loads(out)
    assert (code, job["name"], job["plan"]["rounds"], job["plan"]["rule"]["name"]) == (
        0,
        "fraud",
        7,
        "fedavg",
    )
    assert job["plan"]["pinned"] == {"server_rate": 0.5}
    listed = json.loads(run("jobs", "list", "--json")[1])
    assert [it["job"] for it in listed] == [job["job"]]
    assert "fraud" in run("jobs", "list")[1]
    assert json.loads(run("jobs", "show", job["job"][:5], "--json")[1])["status"] == "queued"
    assert "server_rate=0.5" in run("jobs", "show")[1]
    assert "it pauses after" in run("jobs", "pause")[1]
    assert "is queued" in run("jobs", "resume")[1]
    assert "it stops after" in run("jobs", "stop")[1]
    assert desk.store.jobs.get(job["job"]).wanted == "stop"


def test_a_job_in_a_file_may_be_submitted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "long-job.toml").write_text('rounds = 90\nrule = { name = "fedyogi" }\n')
    job = json.loads(run("jobs", "submit", "--file", "long-job.toml", "--json")[1])
    assert (job["name"], job["plan"]["rounds"], job["plan"]["rule"]["name"]) == ("long-job", 90, "fedyogi")


def test_rounds_are_listed_and_shown(run: Run, desk: ControlDesk) -> None:
    work(desk, 3)
    rounds = json.loads(run("rounds", "list", "--json")[1])
    assert [it["round"] for it in rounds] == [1, 2, 3]
    assert "0.7300" in run("rounds", "list", "--last", "2")[1]
    out = run("rounds", "show", "2")[1]
    assert "2 of 3, attempt 2" in out
    assert all(member in out for member in COHORT)
    assert json.loads(run("rounds", "show", "2", "--json")[1])["participation"][0]["outcome"] == "replied"


def test_watching_a_job_ends_with_it(run: Run, desk: ControlDesk) -> None:
    work(desk, 2)
    code, out, err = run("rounds", "watch", "--json")
    assert (code, [json.loads(line)["round"] for line in out.splitlines()]) == (0, [1, 2])
    assert "finished at round 2" in err
    code, out, _ = run("rounds", "watch", JOB[:6])
    assert code == 0
    assert "round 2: 4 members" in out


@pytest.mark.parametrize("page", [2, 5])
def test_a_job_of_many_rounds_is_read_to_its_end(
    run: Run, desk: ControlDesk, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    # Control answers with so many rows at most, the oldest first.
    monkeypatch.setattr(control_client, "_PAGE", page)
    work(desk, 5)
    code, out, _ = run("rounds", "watch", "--json")
    assert (code, [json.loads(line)["round"] for line in out.splitlines()]) == (0, [1, 2, 3, 4, 5])
    with Control(os.environ["HANSA_CONTROL"], SECRETS["read"]) as control:
        followed = Followed(control.job(JOB))
        look(control, followed)
        assert [it.attempt for it in control.attempts(JOB, after=1)] == [2, 3, 4, 5]
    assert sorted(followed.rounds) == [1, 2, 3, 4, 5]
    # The last attempt brought the figures of the model before it.
    assert followed.lines[-2].metrics["auc"].value == 0.75
    assert [it.id for it in followed.events] == [it.id for it in desk.store.history.events()]


def test_watching_a_job_that_was_paused_fails_with_its_reason(run: Run, desk: ControlDesk) -> None:
    work(desk, 1, status="paused")
    code, _, err = run("rounds", "watch")
    assert (code, "is paused" in err) == (1, True)


def test_a_paused_job_goes_back_and_says_what_is_not_refunded(run: Run, desk: ControlDesk) -> None:
    work(desk, 6, "paused")
    code, _, err = run("jobs", "rollback", "--to", "7", "--reason", "it diverged")
    assert (code, "round 7 is not kept" in err, "or 4 or 5" in err) == (2, True, True)
    code, out, _ = run("jobs", "rollback", JOB[:6], "--to", "5", "--reason", "it diverged")
    assert code == 0
    assert "went back from round 6 to round 5; what the undone rounds cost its members stays charged" in out
    assert f"go on with: hansa jobs resume {JOB[:8]}" in out
    assert "is queued, round 5 of 6" in run("jobs", "resume")[1]
    code, _, err = run("jobs", "rollback", "--reason", "it diverged")
    assert (code, "pause it first" in err) == (1, True)


def test_whoever_follows_a_job_sees_the_rounds_that_came_in_place_of_undone_ones(
    run: Run, desk: ControlDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    work(desk, 4, "paused")
    printer = PlainProgress(Console(width=200))
    with Control(os.environ["HANSA_CONTROL"], SECRETS["read"]) as control:
        followed = Followed(control.job(JOB))
        look(control, followed)
        printer.seen(followed)
        desk.store.jobs.roll_back(JOB, 3, by="operator", reason="it diverged")
        look(control, followed)
        printer.seen(followed)
        assert sorted(followed.rounds) == [1, 2, 3]
        apply_round(desk, 4)
        look(control, followed)
        printer.seen(followed)
    assert followed.rounds[4].attempt == 5
    out = capsys.readouterr().out
    assert out.count("round 4: 4 members") == 2
    assert out.count("it diverged") == 1


def test_a_job_goes_back_to_its_best_round_by_default(run: Run, desk: ControlDesk) -> None:
    work(desk, 6, "paused")
    code, out, _ = run("jobs", "rollback", "--reason", "it diverged", "--json")
    done = json.loads(out)
    assert (code, done["from_round"], done["job"]["round"]) == (0, 6, 5)
    assert "--reason" in run("jobs", "rollback")[2]


def test_a_finished_job_does_not_go_back(run: Run, desk: ControlDesk) -> None:
    work(desk, 2)
    code, _, err = run("jobs", "rollback", "--reason", "it diverged")
    assert (code, "is finished" in err) == (1, True)


def test_the_model_is_exported_with_what_its_columns_mean(
    run: Run, desk: ControlDesk, tmp_path: Path
) -> None:
    work(desk, 2)
    code, out, _ = run("jobs", "export", "--out", "models")
    assert (code, "model of round 2, 3 parameters" in out) == (0, True)
    assert load_file(tmp_path / "models" / "test.safetensors")["weights"].tolist() == [2.0, 2.0, 2.0]
    assert json.loads((tmp_path / "models" / "test.json").read_text())["columns"] == ["age", "dose"]
    assert run("jobs", "export", "--out", "models")[0] == 2
    assert run("jobs", "export", "--out", "models", "--force")[0] == 0


def test_members_are_listed_held_and_released(run: Run, desk: ControlDesk) -> None:
    members = json.loads(run("members", "list", "--json")[1])
    assert [it["name"] for it in members] == list(COHORT)
    assert "held out: drifts" in run("members", "hold", "b", "--reason", "drifts")[1]
    assert "drifts" in run("members", "list")[1]
    assert run("members", "release", "b")[0] == 0
    assert desk.store.members.all()[0].held is None
    with reach(os.environ["HANSA_CONTROL"], None) as control:
        before = control.events()
    assert run("members", "release", "b")[:2] == (0, "b was not held out\n")
    with reach(os.environ["HANSA_CONTROL"], None) as control:
        assert control.events() == before


def test_a_knob_that_a_job_does_not_have_is_wrong_input(run: Run, desk: ControlDesk) -> None:
    work(desk, 1, status="running")
    code, _, err = run("tuner", "pin", "serverrate")
    assert code == 2
    assert "its knobs are client_rate" in err


def test_holding_too_many_says_that_no_round_is_run(run: Run, desk: ControlDesk) -> None:
    code, _, err = run("members", "hold", "a", "--reason", " ")
    assert (code, desk.store.members.all()) == (2, [])
    assert "--reason" in err
    for name in COHORT[: len(COHORT) - desk.charter.minimum_cohort]:
        assert run("members", "hold", name, "--reason", "drifts")[2] == ""
    code, _, err = run("members", "quarantine", COHORT[-1], "--reason", "drifts")
    assert code == 0
    assert f"a round needs {desk.charter.minimum_cohort}" in err


def test_of_several_jobs_the_one_that_may_be_resumed_is_meant(run: Run, desk: ControlDesk) -> None:
    work(desk, 2, status="paused")
    run("jobs", "submit", "--name", "later")
    assert desk.store.jobs.all()[-1].name == "later"
    assert run("jobs", "rollback", "--to", "1", "--reason", "it diverged")[0] == 0
    assert run("jobs", "resume")[0] == 0
    assert desk.job(JOB).status == "queued"


def test_where_two_jobs_can_be_meant_they_are_named_and_neither_is_stopped(
    run: Run, desk: ControlDesk
) -> None:
    work(desk, 1, status="running")
    run("jobs", "submit", "--name", "later")
    for command in ("stop", "pause"):
        code, _, err = run("jobs", command)
        assert (code, f"{JOB[:8]} (test, running)" in err, "(later, queued)" in err) == (2, True, True)
    assert [it.wanted for it in desk.store.jobs.all()] == ["run", "run"]
    assert run("jobs", "stop", JOB[:8])[0] == 0


@pytest.mark.parametrize(("command", "state"), [("stop", "stopped"), ("pause", "paused")])
def test_said_again_a_job_is_so_already(run: Run, desk: ControlDesk, command: str, state: str) -> None:
    work(desk, 1, status=state)
    for more in ((), (JOB[:8],)):
        code, out, _ = run("jobs", command, *more)
        assert (code, f"is {state} already" in out) == (0, True)
    assert desk.job(JOB).wanted == "run"


def test_a_token_that_control_does_not_know_is_said_to_be_an_old_one(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_TOKEN", "of-another-instance")
    code, _, err = run("jobs", "list")
    assert (code, "refuses this token: tokens were renewed" in err) == (1, True)


def test_a_demo_beside_a_paused_job_says_that_it_is_another_one(run: Run, desk: ControlDesk) -> None:
    work(desk, 2, status="paused")
    with Control(os.environ["HANSA_CONTROL"], SECRETS["write"]) as control:
        begun, sentence = start_job(control, make_plan(job="b" * 32, rounds=4))
    assert begun.job == "b" * 32
    assert (
        f"job {JOB[:8]} stays paused at round 2 of 2, go on with it: hansa jobs resume {JOB[:8]}" in sentence
    )


def test_an_instance_without_a_new_job_says_which_are_there_and_whether_any_is_charged(
    run: Run, desk: ControlDesk
) -> None:
    work(desk, 2, status="paused")
    paused, nothing = idle_sentences(desk.store.jobs.all())
    assert f"stays paused; go on with it: hansa jobs resume {JOB[:8]}" in paused
    assert "nothing is trained or charged" in nothing
    run("jobs", "resume", JOB)
    [goes_on] = idle_sentences(desk.store.jobs.all())
    assert "goes on, and is charged" in goes_on


def test_knobs_of_a_stopped_job_may_be_pinned_and_of_a_finished_one_not(run: Run, desk: ControlDesk) -> None:
    work(desk, 1, status="stopped")
    assert "pinned: server_rate" in run("tuner", "pin", "server_rate")[1]
    assert run("tuner", "unpin")[0] == run("jobs", "knobs", "--set", "server_rate=0.4")[0] == 0
    run("jobs", "resume")
    desk.store.claim(JOB, "run 2").set_status("finished")
    code, _, err = run("tuner", "pin", "server_rate")
    assert (code, "is finished" in err) == (2, True)


def test_decisions_are_chosen_by_who_made_them_and_what_is_left_out_is_counted(
    run: Run, desk: ControlDesk
) -> None:
    work(desk, 1, status="running")
    code, _, err = run("tuner", "explain", "--by", "nonsense")
    assert (code, "expected one of probe, tuner" in err) == (2, True)
    for number in range(5):
        decision = Decision(key=f"k{number}", by="watch", round=1, sentence=f"said {number}")
        desk.store.decisions.keep(JOB, decision)
    assert "earlier" not in run("tuner", "explain")[1]
    out = run("tuner", "explain", "--by", "watch", "--last", "2")[1]
    assert "3 earlier ones are not shown" in out
    assert "said 4" in out
    assert "said 2" not in out


def test_knobs_are_shown_and_set(run: Run, desk: ControlDesk) -> None:
    work(desk, 1, status="running")
    assert "0.01 to 1" in run("jobs", "knobs")[1]
    knobs = json.loads(run("jobs", "knobs", "--set", "server_rate=0.4", "--reason", "slower", "--json")[1])
    assert {it["name"]: it["value"] for it in knobs} == {"server_rate": 0.4, "client_rate": 1.0}


BAD = {
    "a job that is not there": (("jobs", "show", "ffffff"), 2, "there is no job 'ffffff'"),
    "no job at all": (("jobs", "show"), 2, "there is no job yet"),
    "a value out of range": (("jobs", "submit", "--pin", "server_rate=7"), 2, "move from 0.01 to 1"),
    "not a number": (("jobs", "submit", "--pin", "server_rate=fast"), 2, "expected KNOB=NUMBER"),
    "no such file": (("jobs", "submit", "--file", "no.toml"), 2, "no.toml: no such file"),
    "an unknown rule": (("jobs", "submit", "--set", "rule=fedfoo"), 2, "fedfoo"),
    "a stranger": (("members", "hold", "zeta", "--reason", "x"), 2, "'zeta' is not a member"),
    "not a URL": (("jobs", "list", "--control", "localhost"), 2, "expected a URL"),
    "nobody there": (
        ("jobs", "list", "--control", "http://127.0.0.1:1"),
        1,
        "does not answer at http://127.0.0.1:1",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_a_code(run: Run, name: str) -> None:
    arguments, expected, sentence = BAD[name]
    code, out, err = run(*arguments)
    assert (code, out) == (expected, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_a_wrong_token_gets_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_TOKEN", SECRETS["read"])
    code, _, err = run("jobs", "submit", "--name", "x")
    assert (code, "does not allow this" in err, SECRETS["read"] in err) == (1, True, False)
    monkeypatch.delenv("HANSA_TOKEN")
    code, _, err = run("jobs", "list")
    assert (code, "HANSA_TOKEN" in err) == (2, True)


def test_members_list_names_every_column(run: Run) -> None:
    out = run("members", "list")[1]
    header = [it.strip() for it in out.splitlines()[1].strip("┃").split("┃")]
    assert header == ["member", "title", "sector", "here", "isolated", "seen", "held out because"]


def test_the_version_is_told_and_no_help_offers_completion(run: Run) -> None:
    assert run("--version")[1].startswith("hansa ")
    assert "--install-completion" not in run("jobs", "--help")[1]


def test_a_finished_job_is_told_to_be_finished(run: Run, desk: ControlDesk) -> None:
    work(desk, 1)
    for command in ("pause", "resume", "stop"):
        code, _, err = run("jobs", command)
        assert code == 1
        assert "is finished; a new one starts with: hansa jobs submit" in err


def test_a_job_may_be_approved_by_its_beginning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    member = SimpleNamespace(config=SimpleNamespace(name="a"))
    approved: list[object] = []

    def command_agent(_: object, command: str, **arguments: object) -> dict[str, object]:
        approved.extend([arguments["job"], arguments["by"]] if command == "approve" else [])
        return {"jobs": [{"job": "abc1"}, {"job": "abd2"}]}

    monkeypatch.setattr(instance, "choose_member", lambda *_: member)
    monkeypatch.setattr(agent_client, "command_agent", command_agent)
    assert hansa(["jobs", "approve", "abc", "--by", "DPO"], monkeypatch) == 0
    assert hansa(["jobs", "approve", "ff", "--by", "DPO"], monkeypatch) == 0
    assert hansa(["jobs", "approve", "ab", "--by", "DPO"], monkeypatch) == 2
    assert approved == ["abc1", "DPO", "ff", "DPO"]
    assert "2 jobs begin so" in capsys.readouterr().err


def test_a_client_status_is_for_people(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    member = SimpleNamespace(config=SimpleNamespace(name="a", server="s:1"))
    answer = {
        "charter": "fraud",
        "charter_version": 1,
        "charter_hash": "f" * 64,
        "expires": "2027-01-02T03:04:05.678901+00:00",
        "mode": "masked",
        "witnessed": True,
        "witnesses": 4,
        "witnesses_needed": 3,
        "isolated": True,
        "started": 1.5,
        "jobs": [{"job": "j" * 32, "state": "approved"}, {"job": "k" * 32, "state": "asked"}],
    }
    monkeypatch.setattr(instance, "choose_member", lambda *_: member)
    monkeypatch.setattr(agent_client, "ask_agent", lambda _: answer)
    monkeypatch.setattr(attention, "member_warnings", lambda _: [])
    monkeypatch.setattr(attention, "member_privacy", lambda _: "noise local")
    assert hansa(["client", "status"], monkeypatch) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["isolated", "yes"] in lines
    assert ["privacy", "noise local"] in lines
    assert ["witnessed", "yes: 4 members signed this start, 3 must"] in lines
    assert ["hash", "f" * 64] in lines
    assert ["expires", "2027-01-02 03:04 UTC"] in lines
    assert [value for name, value in lines if name == "job"] == [f"{'j' * 32} approved", f"{'k' * 32} asked"]


def charged(desk: ControlDesk) -> None:
    """A job of which two members sent receipts."""
    work(desk, 1, status="running")
    journal = desk.store.claim(JOB, "run 2")
    attempt = journal.open_attempt("train", base=1, cohort=COHORT, left_out={}, knobs={})
    journal.receipts(attempt, "d" * 64, {"a": signed(4, training=0.6), "b": signed(9, training=2.0)})


def test_the_mirror_shows_what_is_left_and_that_it_is_a_mirror(run: Run, desk: ControlDesk) -> None:
    charged(desk)
    code, out, _ = run("budgets", "show")
    assert code == 0
    assert "the server's mirror" in out
    assert "70.0 % ██████████████░░░░░░" in out
    assert "0.0 % ░░░░░░░░░░░░░░░░░░░░" in out
    facts = json.loads(run("budgets", "show", "--json")[1])
    assert facts["mirror"] is True
    assert [it["percent_left"] for it in facts["grants"]] == pytest.approx([70.0, 0.0])
    assert [it["round_cost"] for it in facts["jobs"]] == [0.1, 0.1]


def test_a_member_that_takes_no_part_is_seen_wherever_an_operator_looks(run: Run, desk: ControlDesk) -> None:
    charged(desk)
    assert json.loads(run("budgets", "show", "--json")[1])["apart"] == {}
    lines, _ = mirror(desk, set())
    assert lines[0].rounds_left is not None
    frozen = "grant 'spring' is frozen: complaint 17"
    desk.store.claim(JOB, "run 3").event("grant-frozen", frozen, member="a")
    for command in (("members", "list"), ("budgets", "show")):
        out = run(*command)[1]
        assert "a takes no part since " in out
        assert f": grant-frozen: {frozen}\n" in out
    assert frozen in run("budgets", "show", "--json")[1]
    [warning] = attention.absences(list_members(desk), 1)
    assert warning.startswith("a takes no part since ")
    assert warning.endswith(f": grant-frozen: {frozen}")
    # Its rounds are not counted on; what is left stays what it is.
    lines, _ = mirror(desk, {"a"})
    assert (lines[0].rounds_left, round(lines[0].percent_left)) == (None, 70)
    assert budget_sentence(lines[0]).endswith("; takes no part")


def mirror(desk: ControlDesk, apart: set[str]) -> tuple[list[GrantLine], list[JobLine]]:
    budgets, members = desk.store.budgets, {it.name for it in desk.charter.members}
    return mirror_lines(budgets.grants(), budgets.spendings(), {}, members, apart)


def test_members_of_another_version_of_the_charter_are_named(desk: ControlDesk) -> None:
    desk.store.jobs.submit(make_plan(rounds=1), desk.charter_hash, {})
    journal = desk.store.claim(JOB, "run 1")
    journal.event("other-charter", "says so", member="b", facts={"charter_version": 2})
    desk.store.members.hold("b", "not a version of ours", by="operator")
    found = attention.absences(list_members(desk), 1)
    assert found == ["b obeys version 2 of the charter, in force is 1"]


def test_the_mirror_s_history_is_the_receipts(run: Run, desk: ControlDesk) -> None:
    charged(desk)
    receipts = json.loads(run("budgets", "history", "--json")[1])
    assert [(it["member"], it["receipt"]["head"]["sequence"]) for it in receipts] == [("a", 4), ("b", 9)]
    out = run("budgets", "history")[1]
    assert "the server's mirror" in out
    assert "train: 10 x noise 10 from 'spring'" in out


def test_an_empty_mirror_says_so(run: Run) -> None:
    assert "no grant" in run("budgets", "show")[1]
    assert "no receipt yet" in run("budgets", "history")[1]
