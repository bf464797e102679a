"""A lying server with one member's secrets gets refusals, and no smaller sum than that of all honest members."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import lying_server as lies
import numpy as np
import pytest
from attacker import Attacker, Findings
from federation import make_plan
from lying_server import ALL, COLLUDER, RecordedServer
from masked_side import Attempt
from recorded_job import COLUMNS, Truth, noted, wide_federation
from weakened import no_agreement

from hansa.contract.charter import PrivacyPlan, Protection
from hansa.contract.scenario import FirstGrant
from hansa.contract.segments import UPDATE, segment_specs
from hansa.strategies.grids import noise_on

Lie = Callable[[RecordedServer, Attempt], list[str]]


@pytest.fixture
def truth() -> Iterator[Truth]:
    made = Truth()
    with noted(made):
        yield made


@pytest.fixture
def server(truth: Truth) -> RecordedServer:
    return RecordedServer(wide_federation(5), truth)


def attacker(server: RecordedServer, truth: Truth) -> Attacker:
    federation = server.federation
    told = [truth.colluder(federation, COLLUDER)]
    return Attacker(server.transcript, federation.charter, federation.hash, make_plan(), told)


def findings(server: RecordedServer, truth: Truth) -> Findings:
    """What the server and its colluder uncover; every sum is checked against the truth."""
    found = attacker(server, truth).findings()
    for (attempt, segment), sums in found.items():
        for members, total in sums.items():
            np.testing.assert_array_equal(total, truth.total(attempt, sorted(members), segment))
    return found


def in_update(found: Findings, attempt: int = 1) -> set[str]:
    """The sets whose sums came out, each as a word."""
    return {"".join(sorted(members)) for members in found.get((attempt, UPDATE), ())}


# A lie, the refusals that it gets, and the honest members whose sum is open to the server when it has lied.
LIES: dict[str, tuple[Lie, set[str], set[str]]] = {
    "different active sets": (
        lies.different_sets,
        {"second-active-set", "active-set-not-agreed", "not-in-active-set"},
        set(),
    ),
    "two halves": (lies.two_halves, {"active-set-too-small"}, set()),
    "active and dropped": (lies.active_and_dropped, {"both-shares"}, set()),
    "a second active set": (lies.second_set, {"second-active-set"}, {"abcd"}),
    "the seed of one that dropped": (lies.seed_of_one_that_dropped, {"second-active-set"}, {"abc"}),
    "swapped keys": (lies.swapped_keys, {"unknown-member"}, set()),
    "different orders": (lies.different_orders, {"active-set-not-agreed"}, set()),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_and_opens_nothing(server: RecordedServer, truth: Truth, name: str) -> None:
    lie, refusals, opened = LIES[name]
    said = lie(server, server.begin(1))
    assert len(said) > 0
    assert set(said) == refusals
    assert in_update(findings(server, truth)) == opened
    assert not server.twice_given


def test_after_all_lies_an_honest_attempt_opens_the_sum_of_all(server: RecordedServer, truth: Truth) -> None:
    for number, (lie, _, _) in enumerate(LIES.values(), start=1):
        lie(server, server.begin(number))
    last = len(LIES) + 1
    server.opened(server.train(server.begin(last)), ALL)
    found = findings(server, truth)
    assert [in_update(found, it) for it in range(1, last)] == [opened for _, _, opened in LIES.values()]
    assert in_update(found, last) == {"abcd"}


def test_with_a_threshold_below_the_rule_two_halves_open_every_update(truth: Truth) -> None:
    """2t > n + c: with t = 3 of five members and one colluder it does not hold. No valid charter has that."""
    federation = wide_federation(5)
    charter = federation.charter.model_copy(update={"protection": Protection(mode="masked", t=3)})
    server = RecordedServer(replace(federation, charter=charter), truth)
    assert set(lies.two_halves(server, server.begin(1))) == {"agree", "unmask"}
    assert set("abcd") <= in_update(findings(server, truth))


def test_without_noise_two_sums_from_one_state_give_one_update(server: RecordedServer, truth: Truth) -> None:
    """What the threat model calls 'Subtracting two sums'."""
    server.opened(server.train(server.begin(1)), ALL)
    server.opened(server.train(server.begin(2), "abce"), tuple("abce"))
    told = attacker(server, truth).differences()[1, UPDATE]
    assert set(told) == {frozenset("d")}
    np.testing.assert_array_equal(told[frozenset("d")], truth.total(1, "d", UPDATE))


def test_with_noise_two_sums_from_one_state_hide_an_update_in_all_the_noise_of_both(truth: Truth) -> None:
    """Every attempt draws anew: what is left of two sums has the noise of nine uploads, and d's own among them."""
    federation = replace(wide_federation(5, privacy=PrivacyPlan(noise="local")), grant=FirstGrant())
    server = RecordedServer(federation, truth)
    server.opened(server.train(server.begin(1)), ALL)
    server.opened(server.train(server.begin(2), "abce"), tuple("abce"))
    told = attacker(server, truth).differences()[1, UPDATE]
    assert set(told) == {frozenset("d")}
    [(spec, order)] = [
        (segment_specs(federation.charter, make_plan(), it.order, COLUMNS + 1)[0], it.order)
        for it in attacker(server, truth).evidence.uploads
        if (it.member, it.order.attempt) == ("d", 1)
    ]
    # All members have equal grants.
    own = noise_on(spec, federation.charter, len(order.cohort), server.noise[UPDATE], member=None)
    real = next(update for member, update in truth.real if member == "d")
    rest = told[frozenset("d")] - own.scale * real
    # The colluder has taken its own noise of both attempts off: seven uploads' is left, nine with its own.
    hers = [truth.total(attempt, COLLUDER, UPDATE) for attempt in (1, 2)]
    for known, uploads in ((np.zeros(1), 7), (hers[1] - hers[0], 9)):
        left = (rest - known) / (own.sd * math.sqrt(uploads))
        assert abs((left**2).mean() - 1) < 5 * math.sqrt(2 / left.size)
    # That is far more than there is to see.
    assert own.sd * math.sqrt(7) > 3 * own.scale * np.abs(real).mean()


@pytest.mark.parametrize("lie", [lies.second_set, lies.seed_of_one_that_dropped])
def test_without_agreement_the_lie_opens_one_members_update(lie: Lie, truth: Truth) -> None:
    with no_agreement():
        server = RecordedServer(wide_federation(5), truth)
        lie(server, server.begin(1))
    assert "d" in in_update(findings(server, truth))
