"""Members of jobs in mode `he` that come late, start anew or come back from a backup, and servers that do."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from blind_jobs import BlindJob, claims, gone, says
from federation import JOB
from masked_jobs import Fault, Node, attempt_of
from slow import cases

from hansa.contract.blind_messages import MOST_EPOCHS, SEALED_KEYS, Held, KeysRequest
from hansa.contract.messages import KeysReply, Reply, Request
from hansa.contract.wire import Segments
from hansa.strategies import blind_keys, custody, roster
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_journal import MemoryJournal


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "PATIENCE_S", 0.2)
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)
    monkeypatch.setattr(roster, "HELLO_AGAIN_S", 0.0)


class Crash(Exception):
    """The server's run is gone."""


def crash(*_: object, **__: object) -> None:
    raise Crash


def at_attempts(acts: dict[int, Callable[[], None]]) -> Fault:
    """What happens to a member's process as it is asked to train in these attempts."""

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        act = acts.pop(attempt_of(body), None) if body.type == "attempt" else None
        if act is not None:
            act()
            raise ConnectionError("its process is another one")
        return honest(payload)

    return fault


# --- members -------------------------------------------------------------------------------------


def away(job: BlindJob, what: str) -> Fault:
    """Member b, away in one way or another."""
    copies = [job.copied("b")] if what == "restored to before the keys" else []
    return {
        "late": gone(lambda _: job.job.round < 2),
        "away for five rounds": gone(lambda _: 1 <= job.job.round < 6),
        "restarted": at_attempts({3: lambda: job.restart("b")}),
        "restored": at_attempts(
            {2: lambda: copies.append(job.copied("b")), 5: lambda: job.restore("b", copies[0])}
        ),
        "restored to before the keys": at_attempts({4: lambda: job.restore("b", copies[0])}),
    }[what]


AWAY = ("late", "away for five rounds", "restarted", "restored", "restored to before the keys")


@pytest.mark.parametrize("what", cases(AWAY, quick=lambda it: it in ("late", AWAY[-1])))
def test_whoever_was_away_ends_with_the_bits_of_the_others(what: str) -> None:
    # Of five a start needs the words of three: one may be missing from the beginning.
    job = BlindJob(5, rounds=7)
    job.faults["b"] = away(job, what)
    job.run()
    applied = [it for it in job.job.results if it.status == "applied"]
    assert any("b" not in it.active for it in applied)
    assert "b" in applied[-1].active
    job.assert_alike()
    assert {job.held(name).epoch for name in job.agents} == {1}


def test_a_member_that_is_behind_at_the_end_is_given_the_final_model(monkeypatch: pytest.MonkeyPatch) -> None:
    job = BlindJob(rounds=1)
    job.faults["d"] = gone(lambda body: body.type == "apply" or (body.type != "hello" and job.job.round == 1))
    with monkeypatch.context() as patched:
        patched.setattr(ConsortiumStrategy, "close", crash)
        with pytest.raises(Crash):
            job.run()
    assert job.held("d").round == 0
    job.faults.clear()
    job.run()
    assert {it.attempts.state(JOB) for it in job.agents.values()} == {"closed"}
    job.assert_alike()


def test_who_refuses_the_end_is_not_counted_among_those_that_keep_the_model() -> None:
    job = BlindJob(rounds=1)

    def frozen(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "close":
            job.agents["d"].attempts.set_state(JOB, "frozen")
        return honest(payload)

    job.faults["d"] = frozen
    job.run()
    assert job.events("closed") == [("", "3 of 4 members keep the final model")]
    assert ("d", "this member froze the job") in job.events("grant-frozen")


def test_a_member_that_hangs_when_it_is_to_take_the_state_holds_up_few_rounds() -> None:
    job, asked = BlindJob(rounds=6), []

    def hangs(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "apply" and body.order.base == 0:
            raise ConnectionError("gone")
        if body.type == "reload":
            asked.append(time.monotonic())
            time.sleep(1.5)
        return honest(payload)

    job.faults["d"] = hangs
    job.run()
    assert 1 <= len(asked) <= 2
    assert job.job.status == "finished"
    job.assert_alike("abc")


# --- the server ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", cases([1, 2], quick=lambda it: it == 2))
def test_a_run_that_dies_between_apply_and_commit_is_followed_by_one_that_goes_back(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = BlindJob(rounds=3)
    real = MemoryJournal.commit

    def commit(journal: MemoryJournal, result: object, state: object) -> None:
        if getattr(result, "round", None) == number and not job.events("attempt-abandoned"):
            raise Crash
        real(journal, result, state)  # type: ignore[arg-type]

    monkeypatch.setattr(MemoryJournal, "commit", commit)
    with pytest.raises(Crash):
        job.run()
    assert {job.held(name).round for name in job.agents} == {number}
    assert job.job.round == number - 1
    job.run()
    assert [it.attempt for it in job.job.results if it.status == "applied"][-1] == 4
    job.assert_alike()


def test_a_run_that_dies_after_the_keys_were_made_is_followed_by_one_that_uses_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = BlindJob(rounds=1)
    # Only one member was shown t signatures.
    for name in "bcd":
        job.faults[name] = gone(lambda body: isinstance(body, KeysRequest) and len(body.signatures) > 1)
    with monkeypatch.context() as patched:
        patched.setattr(custody.Custody, "_reload", crash)
        with pytest.raises(Crash):
            job.run()
    assert [job.held(name).ready for name in "abcd"] == [True, False, False, False]
    job.faults.clear()
    job.run()
    job.assert_alike()
    assert {job.held(name).epoch for name in job.agents} == {1}


# --- who makes the keys --------------------------------------------------------------------------


def test_the_maker_gone_before_it_made_keys_is_followed_by_the_next() -> None:
    job = BlindJob(5, rounds=2)
    maker = job.maker
    job.faults[maker] = gone(lambda _: job.job.round < 1)
    job.run()
    assert {job.held(name).maker for name in job.agents} == {job.held(maker).maker} != {maker}
    job.assert_alike()


def test_a_maker_gone_after_it_made_keys_takes_those_of_the_next_one() -> None:
    job = BlindJob(5, rounds=2)
    maker, made = job.maker, []

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        if body.type == "keys" and not made:
            made.append(honest(payload))
        if made and job.job.round < 1:
            raise ConnectionError("gone")
        return honest(payload)

    job.faults[maker] = fault
    job.run()
    assert {job.held(name).epoch for name in job.agents} == {2}
    assert job.held(maker).maker != maker
    job.assert_alike()


def test_a_maker_whose_own_keys_have_the_number_of_the_others_takes_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run that asked it for them is gone, too, so nobody knows that the number was taken."""
    job = BlindJob(5, rounds=2)
    maker = job.maker
    job.faults[maker] = gone(lambda body: body.type == "keys", answered=True)
    with monkeypatch.context() as patched:
        patched.setattr(custody.Custody, "_reload", crash)
        with pytest.raises(Crash):
            job.run()
    assert (job.held(maker).epoch, job.held(maker).ready) == (1, False)
    job.faults[maker] = gone(lambda _: job.job.round < 1)
    job.run()
    assert {(job.held(name).epoch, job.held(name).ready) for name in job.agents} == {(1, True)}
    assert job.held(maker).maker != maker
    job.assert_alike()


def test_a_maker_gone_after_the_keys_were_agreed_on_is_missed_by_nobody() -> None:
    job = BlindJob(rounds=2)
    maker = job.maker
    job.faults[maker] = gone(lambda _: job.job.round > 0)
    job.run()
    assert {job.held(name).maker for name in job.agents} == {maker}
    job.assert_alike(name for name in job.agents if name != maker)


def test_a_member_that_never_makes_its_keys_is_passed_over() -> None:
    job = BlindJob(rounds=1)
    job.faults[job.maker] = gone(lambda body: body.type == "keys")
    job.run()
    job.assert_alike(name for name in job.agents if name != job.maker)


def test_a_maker_whose_keys_do_not_open_is_passed_over() -> None:
    def spoilt(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        return body, {name: array[::-1].copy() for name, array in segments.items()}

    job = BlindJob(rounds=1)
    job.faults[job.maker] = says(job, job.maker, "keys", spoilt)
    job.run()
    assert job.maker not in {job.held(name).maker for name in job.agents}
    job.assert_alike()


@pytest.mark.parametrize("epoch", cases([MOST_EPOCHS, 7], quick=lambda it: it == MOST_EPOCHS))
def test_a_member_that_says_it_has_keys_which_nobody_made_stops_nothing(epoch: int) -> None:
    job = BlindJob(rounds=1)
    job.faults["a"] = claims(job, "a", epoch=epoch, maker="a", ready=True, round=9, tag="0" * 64)
    job.run()
    job.assert_alike("bcd")
    assert job.held("b").epoch == 1


def test_an_owner_that_hands_on_rubbish_is_one_of_several() -> None:
    def rubbish(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        assert isinstance(body, KeysReply)
        return body.model_copy(update={"signatures": {}}), dict.fromkeys(segments, segments[SEALED_KEYS][:9])

    job = BlindJob(5, rounds=3)
    job.faults["d"] = gone(lambda _: job.job.round < 1)
    lying = says(job, "a", "keys", rubbish)
    job.faults["a"] = lambda body, honest, payload: (
        lying(body, honest, payload) if job.job.round else honest(payload)
    )
    job.run()
    assert "d" in [it for it in job.job.results if it.status == "applied"][-1].active
    job.assert_alike()


def stranger_signs(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
    assert isinstance(body, KeysReply)
    return body.model_copy(update={"signatures": {**body.signatures, "z": "x"}}), segments


def stranger_made_them(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
    return body.model_copy(update={"maker": "z"}), segments


@pytest.mark.parametrize("change", [stranger_signs, stranger_made_them])
def test_a_strangers_name_in_an_answer_goes_into_no_request(
    change: Callable[[Reply, Segments], tuple[Reply, Segments]],
) -> None:
    """Control signs no request with one: the run would be over, and the next one, too."""
    job = BlindJob(5, rounds=3)
    job.faults["d"] = gone(lambda _: job.job.round < 1)
    # Whoever is asked first to hand the keys on.
    liars: list[str] = []

    def liar(name: str) -> Fault:
        lying = says(job, name, "keys", change)

        def fault(body: Request, honest: Node, payload: bytes) -> bytes:
            if body.type == "keys" and job.job.round and not liars:
                liars.append(name)
            return lying(body, honest, payload) if liars == [name] else honest(payload)

        return fault

    job.faults |= {name: liar(name) for name in "abce"}
    job.run()
    asked = [body for _, body in job.asked if isinstance(body, KeysRequest)]
    assert "z" not in {name for body in asked for name in (body.maker, *body.signatures)}
    assert (liars[0], "answers 'keys' with another 'keys' than it was asked for") in job.events("bad-reply")
    job.assert_alike(name for name in job.agents if name != liars[0])


@pytest.mark.parametrize("maker", ["", "z"])
def test_keys_of_a_stranger_that_a_member_says_it_has_are_none(maker: str) -> None:
    job = BlindJob(rounds=1)
    strategy, grid = job.strategy(), job.grid()
    strategy.connect(grid)
    kept = strategy.roster.custody
    assert kept is not None
    for name in "abc":
        kept.hear(name, Held(epoch=1, maker=maker if name == "a" else "b", ready=True))
    assert kept._keys._owners({"a": 1, "b": 2}) == ["b"]
    grid.close()
