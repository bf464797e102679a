"""A member's keys in mode `he`: which it takes when, what outlives other jobs, and how often a wrong sum counts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from federation import JOB, make_federation, make_plan, request
from masked_side import Answer, answer_of

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.held import KEPT_JOBS, HeldJobs, HeldKeys
from hansa.clients.protocol import Agent
from hansa.contract.blind_messages import SEALED_KEYS, KeysReply, KeysRequest
from hansa.contract.keys import to_text
from hansa.contract.messages import CloseRequest, JobRequest, RefusalReply
from hansa.secagg.envelope import envelope_bytes
from hansa.secagg.key_setup import JobKeys, KeyPlace, seal_bundle
from hansa.secagg.parties import Parties
from hansa.strategies.blind_state import largest_sealed_state


@cache
def federation() -> SimulatedFederation:
    return make_federation(4, mode="he")


@cache
def made(epoch: int, maker: str, variant: int = 0) -> tuple[JobKeys, bytes, dict[str, str]]:
    """Keys as their maker made them, and every member's signature on them."""
    parties = Parties.of(federation().charter, federation().hash)
    place = KeyPlace(JOB, epoch, maker, parties)
    keys = JobKeys.make(JOB, lambda count: bytes([variant]) * count)
    bundle = seal_bundle(keys, place, federation().identities[maker], np.random.default_rng(variant).bytes)
    statement = keys.statement(place)
    return keys, bundle, {name: to_text(it.sign(statement)) for name, it in federation().identities.items()}


@pytest.fixture
def agent() -> Agent:
    """Member d, which approved the job."""
    agent = federation().agent("d")
    assert answer_of(agent, request(federation(), JobRequest(plan=make_plan()))).said == "job"
    return agent


def shown(
    agent: Agent,
    epoch: int,
    maker: str,
    signers: str = "abc",
    variant: int = 0,
    changes: dict[str, object] | None = None,
) -> Answer:
    """A member is brought keys, with these members' signatures."""
    _, bundle, signatures = made(epoch, maker, variant)
    said = {name: signatures[name] for name in signers}
    document = {"job": JOB, "epoch": epoch, "maker": maker, "signatures": said}
    body = KeysRequest.model_validate({**document, **(changes or {})})
    return answer_of(agent, request(federation(), body, {SEALED_KEYS: np.frombuffer(bundle, np.uint8)}))


def held(agent: Agent) -> tuple[int, str, bool]:
    assert agent.blind is not None
    found = agent.blind.holds(JOB)
    return found.epoch, found.maker, found.ready


def test_keys_are_used_once_t_members_signed_them_the_maker_among_them(agent: Agent) -> None:
    for signers, ready in (("", False), ("b", False), ("bc", False), ("a", True)):
        body = shown(agent, 2, "a", signers).body
        assert isinstance(body, KeysReply)
        assert body.ready == ready
    assert held(agent) == (2, "a", True)


@pytest.mark.parametrize(("epoch", "maker"), [(1, "a"), (2, "b"), (1, "b")])
def test_ready_keys_give_way_to_no_older_ones_and_to_no_others_of_their_number(
    agent: Agent, epoch: int, maker: str
) -> None:
    shown(agent, 2, "a")
    assert shown(agent, epoch, maker).said == "replayed"
    assert held(agent) == (2, "a", True)


@pytest.mark.parametrize(("epoch", "maker"), [(1, "a"), (2, "b")])
def test_keys_that_came_to_nothing_give_way_to_such_as_t_members_signed_and_to_no_others(
    agent: Agent, epoch: int, maker: str
) -> None:
    shown(agent, 2, "a", "a")
    for too_few in ("", "a", "ab", "bc"):
        if maker not in too_few or len(too_few) < 3:
            assert shown(agent, epoch, maker, too_few).said == "replayed"
    _, _, foreign = made(3, maker)
    assert shown(agent, epoch, maker, changes={"signatures": foreign}).said == "replayed"
    assert held(agent) == (2, "a", False)
    assert shown(agent, epoch, maker).said == "keys"
    assert held(agent) == (epoch, maker, True)


def test_a_second_bundle_of_the_same_number_changes_nothing(agent: Agent) -> None:
    shown(agent, 2, "a")
    before = agent.blind._held.keys(JOB)  # type: ignore[union-attr]
    # The signatures on the other bundle, valid as they are, stand in the place of none.
    assert shown(agent, 2, "a", variant=1).said == "keys"
    assert agent.blind._held.keys(JOB) == before  # type: ignore[union-attr]


@pytest.mark.parametrize("changes", [{"epoch": 3}, {"maker": "b"}, {"maker": "z"}])
def test_a_bundle_of_another_place_is_kept_nowhere(agent: Agent, changes: dict[str, object]) -> None:
    assert shown(agent, 2, "a", changes=changes).said in ("bad-share", "unknown-member")
    assert held(agent) == (0, "", False)


def test_keys_of_a_job_that_was_never_proposed_are_not_made() -> None:
    fresh = federation().agent("d")
    assert shown(fresh, 1, "a").said == "not-approved"
    assert (
        answer_of(fresh, request(federation(), KeysRequest(job=JOB, epoch=1, maker="d"))).said
        == "not-approved"
    )


def test_room_for_other_jobs_does_not_make_a_member_forget_what_it_uploaded_under(agent: Agent) -> None:
    shown(agent, 2, "a")
    kept = agent.blind._held  # type: ignore[union-attr]
    kept.use(JOB)
    for number in range(KEPT_JOBS):
        kept.keep_keys(f"{number}", HeldKeys(1, "a", b"x", b"y", {}, ready=True, used=True))
    assert held(agent) == (2, "a", False)
    assert shown(agent, 3, "b").said == "replayed"
    assert shown(agent, 2, "b").said == "replayed"
    assert shown(agent, 2, "a").said == "keys"
    assert held(agent) == (2, "a", True)
    assert kept.keys(JOB).used  # type: ignore[union-attr]


def test_a_maker_makes_no_second_keys_of_one_number() -> None:
    maker = federation().agent("a")
    answer_of(maker, request(federation(), JobRequest(plan=make_plan())))
    ask = request(federation(), KeysRequest(job=JOB, epoch=1, maker="a"))
    first = answer_of(maker, ask).segments[SEALED_KEYS]
    np.testing.assert_array_equal(answer_of(maker, ask).segments[SEALED_KEYS], first)
    assert maker.blind is not None
    for number in range(KEPT_JOBS):
        maker.blind._held.keep_keys(f"{number}", HeldKeys(1, "a", b"x", b"y", {}, ready=True, used=True))
    assert answer_of(maker, ask).said == "keys-missing"


def test_the_same_wrong_sum_counts_once_and_outlives_the_keys() -> None:
    kept = HeldJobs(":memory:")
    assert [kept.count_wrong(JOB, asked) for asked in ("1", "1", "2", "1")] == [1, 1, 2, 2]
    for number in range(2 * KEPT_JOBS):
        kept.keep_keys(f"{number}", HeldKeys(1, "a", b"x", b"y", {}, ready=True, used=True))
    assert kept.count_wrong("another", "1") == 1
    assert kept.count_wrong(JOB, "3") == 3


def test_no_model_comes_with_the_end_of_a_job(agent: Agent) -> None:
    model = {"released": np.zeros(federation().model.parameters)}
    for rounds in (0, 1):
        body = answer_of(agent, request(federation(), CloseRequest(job=JOB, rounds=rounds), model)).body
        assert isinstance(body, RefusalReply)
        assert body.code == "mode-downgrade"
    assert agent.attempts.state(JOB) == "approved"


def test_the_largest_request_holds_a_sealed_state_and_a_sum() -> None:
    for parameters in (3, 100_000):
        agent = federation().agent("d")
        assert agent.blind is not None
        agent.blind._parameters = parameters
        agent._work = replace(agent._work)  # type: ignore[type-var]
        assert agent.largest_request > max(
            largest_sealed_state(parameters, 0), envelope_bytes(parameters + 2)
        )
