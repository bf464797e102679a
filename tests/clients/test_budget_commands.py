"""admin.sock: an organisation's own commands about its budgets, and what wrong input gets."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from federation import JOB, attempt_request, make_federation, make_plan, request
from funded import budget_of, funded, noised_order, propose
from masked_side import answer_of

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.admin import Administration
from hansa.clients.grants import Sides
from hansa.clients.ledger import Ledger
from hansa.clients.protocol import Agent
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.frames import Peer, WorkSocket, serve_frames
from hansa.contract.messages import JobRequest
from hansa.contract.scenario import FirstGrant
from hansa.privacy.records import Row

OWNER = Peer(pid=1, uid=os.getuid(), gid=os.getgid())
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Organisation:
    """An agent in memory, and its own people at its socket."""

    federation: SimulatedFederation = field(default_factory=funded)
    name: str = "a"
    clock: Clock = field(default_factory=Clock)
    agent: Agent = field(init=False)

    def __post_init__(self) -> None:
        self.agent = self.federation.agent(self.name, ledger=Ledger(":memory:", now=self.clock))
        self.admin = Administration(self.agent, owner=OWNER.uid)

    def send(self, command: str, peer: Peer = OWNER, **arguments: Any) -> dict[str, Any]:
        """One command as it comes over the socket."""
        payload = json.dumps({"command": command, **arguments}).encode()
        found: dict[str, Any] = json.loads(self.admin.answer(payload, peer))
        return found

    def done(self, command: str, **arguments: Any) -> dict[str, Any]:
        found = self.send(command, **arguments)
        assert found["ok"], found
        return found

    def refused(self, command: str, **arguments: Any) -> str:
        """The sentence; nothing may have been written."""
        before = budget_of(self.agent).ledger.head
        found = self.send(command, **arguments)
        assert found["ok"] is False, found
        assert budget_of(self.agent).ledger.head == before
        return str(found["error"])


def grant(**changed: object) -> dict[str, Any]:
    """What `hansa budgets grant` sends."""
    said: dict[str, Any] = {
        "grant": "spring",
        "epsilon": 3.0,
        "delta": 1e-5,
        "expires": "2027-01-31T00:00:00Z",
        "purpose": "readmission",
        "legal_basis": "consent",
        "by": "privacy officer",
        "reason": "first study",
    }
    return {name: value for name, value in {**said, **changed}.items() if value is not None}


def empty(**charter: object) -> Organisation:
    """An organisation that granted nothing yet."""
    federation = funded(**charter)  # type: ignore[arg-type]
    object.__setattr__(federation, "grant", None)
    return Organisation(federation)


def test_a_first_grant_sets_the_cap_and_the_next_must_fit_under_it() -> None:
    it = empty()
    it.done("grant", **grant(cap_epsilon=5.0))
    shown = it.done("budgets")
    [data_set], [first] = shown["data_sets"], shown["grants"]
    assert (data_set["name"], data_set["currency"], data_set["epsilon"]) == ("records", "gdp", 5.0)
    assert data_set["granted"] == first["amount"] == first["remaining"]
    assert (first["percent_left"], first["epsilon_spent"], first["frozen"]) == (100.0, 0.0, "")
    assert datetime.fromisoformat(first["expires"]) == datetime(2027, 1, 31, tzinfo=UTC)
    assert "does not fit under the lifetime cap" in it.refused("grant", **grant(grant="second", epsilon=4.9))
    it.done("grant", **grant(grant="second", epsilon=2.0))
    # The data set, its sides, two grants.
    assert it.done("budgets")["head"]["sequence"] == 4


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"epsilon": -1.0}, "epsilon"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("inf")}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon": "3"}, "epsilon"),
        ({"delta": 2e-5}, "above the charter's public bound"),
        ({"delta": 0.0}, "delta"),
        ({"cap_epsilon": 20.0, "cap_delta": 1e-4}, "above the charter's public bound"),
        ({"expires": "2026-02-28T00:00:00Z"}, "would have expired"),
        ({"expires": "2027-01-31T00:00:00"}, "expires"),
        ({"expires": "tomorrow"}, "expires"),
        ({"data_set": "patients"}, "data set 'patients' is not known"),
        ({"cap_epsilon": 2.0}, "does not fit under the lifetime cap"),
        ({"currency": "gdp", "order": 32}, "order"),
        ({"currency": "rdp", "order": 2}, "buys nothing at Rényi order 2"),
        ({"grant": "Spring!"}, "grant"),
        ({"by": ""}, "by"),
        ({"by": None}, "by"),
        ({"amount": 99.0}, "amount"),
    ],
)
def test_a_wrong_grant_gets_a_sentence_and_nothing_is_written(changed: dict[str, Any], sentence: str) -> None:
    assert sentence in empty().refused("grant", **grant(**changed))


def test_a_cap_and_its_currency_are_fixed_by_the_first_grant() -> None:
    it = empty()
    it.done("grant", **grant(cap_epsilon=8.0))
    for changed in ({"cap_epsilon": 9.0}, {"cap_delta": 1e-6}, {"currency": "rdp"}):
        assert "for good" in it.refused("grant", **grant(grant="second", **changed))
    it.done("grant", **grant(grant="second", epsilon=1.0, cap_epsilon=8.0, currency="gdp"))


def test_the_same_people_under_another_name_get_no_second_cap() -> None:
    it = empty()
    it.done("grant", **grant())
    renamed = it.federation.budget("a", budget_of(it.agent).ledger)
    renamed.grants.data_set = "patients"
    it.agent.budget = renamed
    assert "holds the same people as data set 'records'" in it.refused("grant", **grant(grant="second"))
    assert "this agent reads 'patients'" in it.refused("grant", **grant(grant="third", data_set="other"))


def test_a_new_version_of_a_data_set_is_entered_when_the_agent_starts_and_keeps_its_cap() -> None:
    it = empty()
    it.done("grant", **grant())
    ledger = budget_of(it.agent).ledger
    it.federation.budget("a", ledger)
    assert ledger.head.sequence == 3
    it.federation.records["a"] = it.federation.records["b"]
    it.federation.budget("a", ledger)
    with ledger.held() as book:
        assert len(book.data_sets["records"].people) == 2
    assert "does not fit" in it.refused("grant", **grant(grant="second"))


def test_another_hold_out_adds_up_what_both_sides_lost_for_good() -> None:
    it = empty()
    it.done("grant", **grant())
    plan = make_plan(rounds=4, share=1.0)
    noise = propose(it.federation, it.agent, plan)
    for number in (1, 2):
        order = noised_order(it.federation, number, noise, evaluate=True)
        assert answer_of(it.agent, attempt_request(it.federation, order)).said == "upload"
    before = it.done("budgets")["grants"][0]
    assert before["remaining"] == pytest.approx(before["amount"] - max(before["training"], before["holdout"]))
    ledger, features = budget_of(it.agent).ledger, it.federation.charter.task.features
    other = features.model_copy(update={"holdout": 0.4})
    for changed in (other, features):
        task = it.federation.charter.task.model_copy(update={"features": changed})
        charter = it.federation.charter.model_copy(update={"task": task})
        it.agent.budget = replace(it.federation, charter=charter).budget("a", ledger)
        after = it.done("budgets")["grants"][0]
        assert after["remaining"] == pytest.approx(after["amount"] - after["training"] - after["holdout"])
        assert after["training_and_holdout_added_up"] is True
    with ledger.held() as book:
        [data_set] = book.data_sets.values()
        assert [row.holdout for row in data_set.sides] == [features.holdout, 0.4]
    order = noised_order(it.federation, 3, noise, evaluate=True)
    # Of the larger sum half was left; of both together nothing is.
    with pytest.raises(RefusalError, match="budget-exhausted"):
        budget_of(it.agent).charge(plan, order)


def test_what_puts_people_on_sides_has_a_fingerprint() -> None:
    features, secret = funded().charter.task.features, b"s" * 32
    columns, names = features.columns, [column.name for column in features.columns]
    one = Sides.of(features, secret, names)
    assert Sides.of(features, secret, names) == one
    # Ranges move nobody; share, key, columns, those that hold a value and who counts as one do.
    wider = columns[0].model_copy(update={"high": 1e6})
    assert Sides.of(features.model_copy(update={"columns": (wider, *columns[1:])}), secret, names) == one
    others = [
        Sides.of(features.model_copy(update={"holdout": 0.3}), secret, names),
        Sides.of(features.model_copy(update={"columns": columns[:-1]}), secret, names),
        Sides.of(features.model_copy(update={"entity": "person"}), secret, names),
        Sides.of(features, b"t" * 32, names),
        Sides.of(features, secret, names[1:]),
    ]
    assert len({it.fingerprint for it in (one, *others)}) == 6
    by_person = features.model_copy(update={"entity": "person", "columns": columns[:-1]})
    assert Sides.of(by_person, secret, names[1:]) == others[2]


@pytest.mark.parametrize("blank", ["", " \t"])
def test_who_decides_says_what_for_on_what_ground_and_why(blank: str) -> None:
    it = Organisation()
    for name in ("purpose", "legal_basis", "by"):
        assert f"field '{name}'" in it.refused("grant", **grant(epsilon=0.1, **{name: blank}))
    said = {"grant": "first", "reason": "a question", "by": "officer"}
    for name in ("reason", "by"):
        assert f"field '{name}'" in it.refused("freeze-grant", **{**said, name: blank})
    assert "field 'by'" in it.refused("unfreeze-grant", **{**said, "by": blank})
    assert "field 'reason' is missing" in it.refused("freeze-grant", grant="first", by="officer")


def test_a_grant_over_records_without_an_entity_column_warns() -> None:
    it = empty()
    assert "no entity column" in it.done("grant", **grant())["warning"]


def test_a_clock_that_went_back_is_named_and_a_small_correction_is_none() -> None:
    it = empty()
    it.done("grant", **grant(epsilon=1.0, cap_epsilon=8.0))
    it.clock.now -= timedelta(milliseconds=500)
    it.done("grant", **grant(grant="second", epsilon=1.0))
    it.clock.now -= timedelta(hours=1)
    assert "the clock went back" in it.refused("grant", **grant(grant="third", epsilon=1.0))
    assert "the clock went back" in it.refused("freeze-grant", grant="spring", reason="why", by="officer")


def test_a_frozen_grant_pays_nothing_until_it_is_unfrozen() -> None:
    it = Organisation()
    noise = propose(it.federation, it.agent)
    payload = attempt_request(it.federation, noised_order(it.federation, 1, noise))
    it.done("freeze-grant", grant="first", reason="an incident", by="officer")
    assert "frozen already" in it.refused("freeze-grant", grant="first", reason="again", by="officer")
    refused = answer_of(it.agent, payload)
    assert refused.said == "grant-frozen"
    assert "an incident" in refused.body.sentence  # type: ignore[union-attr]
    assert it.done("budgets")["grants"][0]["frozen"] == "an incident"
    it.done("unfreeze-grant", grant="first", reason="clear", by="officer")
    assert "not frozen" in it.refused("unfreeze-grant", grant="first", reason="", by="officer")
    # The refused request used nothing up: the very same bytes are obeyed now.
    assert answer_of(it.agent, payload).said == "upload"
    assert "no grant 'second'" in it.refused("freeze-grant", grant="second", reason="why", by="officer")


def test_a_job_that_waits_for_its_member_is_approved_by_hand_with_a_grant_and_a_ceiling() -> None:
    it = Organisation(funded(approval="manual"))
    asked = request(it.federation, JobRequest(plan=make_plan(share=0.9)))
    assert answer_of(it.agent, asked).said == "not-approved"
    assert it.done("budgets")["jobs"] == []
    assert "no grant 'other'" in it.refused("approve", job=JOB, grant="other", by="head of data")
    for epsilon in (-1.0, 0.0, float("inf")):
        assert "max_epsilon" in it.refused("approve", job=JOB, max_epsilon=epsilon, by="head of data")
    answer = it.done("approve", job=JOB, max_epsilon=2.0, by="head of data")
    assert answer_of(it.agent, asked).said == "job"
    shown = it.done("budgets")
    [job], [first] = shown["jobs"], shown["grants"]
    with budget_of(it.agent).ledger.held() as book:
        currency = book.data_sets["records"].row.currency
    assert job["most"] == currency.budget(2.0, 1e-5) < 0.9 * first["amount"]
    assert job["state"] == "approved"
    assert job["round_cost"] == pytest.approx(job["most"] / 3)
    assert set(job["noise"]) == {"update", "evaluation"}
    assert (answer["grant"], answer["most"], answer["noise"]) == ("first", job["most"], job["noise"])
    assert answer["percent"] == pytest.approx(100 * job["most"] / first["amount"])
    assert answer["epsilon"] == pytest.approx(2.0, rel=1e-6)
    assert "never proposed" in it.refused("approve", job="0" * 32, by="head of data")


def test_rows_and_uploads_come_in_pages_and_name_each_other() -> None:
    it = Organisation()
    noise = propose(it.federation, it.agent)
    for number in (1, 2, 3):
        order = noised_order(it.federation, number, noise, evaluate=True)
        assert answer_of(it.agent, attempt_request(it.federation, order)).said == "upload"
    rows = it.done("rows")["rows"]
    assert [Row.model_validate_json(json.dumps(row)).sequence for row in rows] == list(range(1, 11))
    assert it.done("rows", after=7)["rows"] == rows[7:]
    assert it.done("rows", after=1, most=2)["rows"] == rows[1:3]
    uploads = it.done("uploads")["uploads"]
    left = [(each["attempt"], each["segment"], each["releases"]) for each in uploads]
    assert left == [(number, name, 1) for number in (1, 2, 3) for name in ("update", "evaluation")]
    assert it.done("uploads", after=uploads[3]["id"])["uploads"] == uploads[4:]
    for wrong in ({"most": 501}, {"most": 0}, {"after": -1}, {"after": "0"}, {"behind": 3}):
        it.refused("rows", **wrong)
        it.refused("uploads", **wrong)


@pytest.mark.parametrize("command", ["budgets", "grant", "freeze-grant", "unfreeze-grant", "rows", "approve"])
def test_another_user_gets_no_command_done(command: str) -> None:
    it = Organisation()
    stranger = Peer(pid=2, uid=OWNER.uid + 1, gid=OWNER.gid)
    before = budget_of(it.agent).ledger.head
    assert "own user alone" in it.send(command, stranger, **grant())["error"]
    assert budget_of(it.agent).ledger.head == before


def test_without_noise_there_is_nothing_to_grant() -> None:
    federation = make_federation(4)
    agent = federation.agent("a")
    assert agent.budget is None
    admin = Administration(agent, owner=OWNER.uid)

    def send(command: str, **arguments: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            admin.answer(json.dumps({"command": command, **arguments}).encode(), OWNER)
        )
        return found

    assert send("budgets")["noise"] == "none"
    for command, arguments in (("grant", grant()), ("rows", {})):
        assert "there is no ledger" in send(command, **arguments)["error"]
    assert answer_of(agent, request(federation, JobRequest(plan=make_plan()))).said == "job"
    assert "nothing is charged" in send("approve", job=JOB, max_epsilon=1.0)["error"]
    assert send("approve", job=JOB)["ok"]


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        (FirstGrant(delta=1e-4), "above the charter's public bound"),
        (FirstGrant(epsilon=4.0, cap_epsilon=2.0), "does not fit under the lifetime cap"),
    ],
)
def test_a_first_grant_that_cannot_be_is_named_at_the_start(first: FirstGrant, sentence: str) -> None:
    federation = funded(grant=first)
    with pytest.raises(InputError, match=sentence):
        federation.agent("a")


def test_a_first_grant_is_entered_once() -> None:
    federation, clock = funded(), Clock()
    ledger = Ledger(":memory:", now=clock)
    for _ in range(2):
        federation.agent("a", ledger=ledger)
        clock.now += timedelta(days=400)
    with ledger.held() as book:
        assert list(book.grants) == ["first"]
        assert book.head.sequence == 3


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_a_process_of_another_user_gets_nothing_whatever_the_sockets_mode_became(mode: int) -> None:
    it = empty()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "admin.sock"
        with serve_frames(path, it.admin.answer, mode=mode):
            payload = json.dumps({"command": "grant", **grant()}).encode()
            said = as_stranger(lambda: WorkSocket(path).ask(payload, 10))
            assert said == b"ConnectionFailed" if mode == 0o600 else b"own user alone" in said
            assert it.done("budgets")["grants"] == []
            assert json.loads(WorkSocket(path).ask(payload, 10))["ok"]


def as_stranger(work: Callable[[], bytes]) -> bytes:
    """What `work` returns, or the name of what it raises, in a process of user 65534."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, work())
        except BaseException as error:
            os.write(writing, type(error).__name__.encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said
