"""A server that lies about who took part: it gets one signature, one set and one share of each, or nothing."""

from __future__ import annotations

import pytest
from federation import JOB, make_federation
from masked_side import Attempt, MaskedServer, ready

from hansa.contract.charter import Protection
from hansa.contract.keys import to_text
from hansa.contract.messages import AgreeRequest, Charged, CloseRequest, Receipt, UnmaskRequest
from hansa.contract.statements import active_statement, receipt_statement

CHARGE = Charged(grant="one", purpose="train", noise_multiplier=9.5, count=1, amount=0.25)

OTHER_JOB = "cd" * 16
ALL, ACTIVE, OTHERS = list("abcde"), list("abcd"), list("abce")


@pytest.fixture
def server() -> MaskedServer:
    """Five members: four sign and four open a sum."""
    return ready(make_federation(5, mode="masked"))


@pytest.fixture
def attempt(server: MaskedServer) -> Attempt:
    return server.train(server.begin(1))


def assert_refused(server: MaskedServer, lie: UnmaskRequest | AgreeRequest, code: str) -> None:
    """Refused, and nothing given; what follows the lie goes on as if it had not been."""
    active, given = server.agents["a"].attempts.newest(lie.job), dict(server.given)
    assert server.ask("a", lie).said == code
    assert server.agents["a"].attempts.newest(lie.job) == active
    assert server.given == given


def assert_opens(server: MaskedServer, attempt: Attempt, active: list[str]) -> None:
    """An honest end is still open to the attempt."""
    server.opened(attempt, active)
    assert not server.twice_given


def test_the_same_question_gets_the_same_answer(server: MaskedServer, attempt: Attempt) -> None:
    honest = attempt.unmask(ALL)
    assert server.ask("a", honest).raw == server.ask("a", honest).raw
    assert server.sign(attempt, "a", ALL).raw == server.sign(attempt, "a", ALL).raw
    assert len(server.given) == 5


def test_one_set_is_signed_and_opened(server: MaskedServer, attempt: Attempt) -> None:
    signatures = server.agreed(attempt, ACTIVE)
    for other in (OTHERS, ALL):
        lie = AgreeRequest(job=JOB, attempt=1, active=tuple(other))
        assert_refused(server, lie, "second-active-set")
    assert_refused(server, attempt.unmask(ALL), "second-active-set")
    assert_opens(server, attempt, ACTIVE)
    assert set(signatures) == set(ACTIVE)


def test_after_unmasking_nothing_else_is_opened(server: MaskedServer, attempt: Attempt) -> None:
    """n = 5, t = 4: with forged peers every signature can be had; the member itself says no."""
    assert server.ask("a", attempt.unmask(ALL)).said == "unmask"
    statement = active_statement(JOB, 1, attempt.order.digest, tuple(ACTIVE))
    identities = server.federation.identities
    signatures = {name: to_text(identities[name].sign(statement)) for name in ACTIVE}
    assert_refused(server, attempt.unmask(ACTIVE, signatures), "second-active-set")
    assert_refused(server, AgreeRequest(job=JOB, attempt=1, active=tuple(ACTIVE)), "second-active-set")
    same_set_other_bytes = attempt.unmask(ALL, {"a": "x"})
    assert_refused(server, same_set_other_bytes, "second-active-set")
    reordered = attempt.unmask(ALL[::-1])
    assert_refused(server, reordered, "second-active-set")
    assert server.ask("a", attempt.unmask(ALL)).said == "unmask"
    assert not server.twice_given


@pytest.mark.parametrize(
    ("active", "code"),
    [
        (list("bcde"), "not-in-active-set"),
        (list("abc"), "active-set-too-small"),
        (list("ab"), "active-set-too-small"),
        ([*"abcd", "mallory"], "active-set-not-agreed"),
        (list("abcda"), "active-set-not-agreed"),
    ],
)
def test_a_set_that_cannot_be_is_neither_signed_nor_opened(
    server: MaskedServer, attempt: Attempt, active: list[str], code: str
) -> None:
    assert_refused(server, AgreeRequest(job=JOB, attempt=1, active=tuple(active)), code)
    receipts = {name: attempt.receipts.get(name, attempt.receipts["b"]) for name in active}
    statement = active_statement(JOB, 1, attempt.order.digest, tuple(active))
    lie = UnmaskRequest(
        job=JOB,
        attempt=1,
        active=tuple(active),
        dropped=tuple(name for name in ALL if name not in active),
        receipts=receipts,
        signatures={
            name: to_text(identity.sign(statement)) for name, identity in server.federation.identities.items()
        },
    )
    # A set that is no part of the cohort, each once, does not add up with the dropped ones already.
    assert_refused(server, lie, code)
    assert_opens(server, attempt, ACTIVE)


def test_members_of_one_controller_count_once() -> None:
    server = ready(make_federation(5, protection=Protection(mode="masked", c=2), controllers=list("xxyzw")))
    attempt = server.train(server.begin(1))
    assert_refused(server, AgreeRequest(job=JOB, attempt=1, active=tuple(ACTIVE)), "active-set-too-small")
    assert_opens(server, attempt, ALL)


@pytest.mark.parametrize(
    ("dropped", "code"),
    [
        (("e", "a"), "both-shares"),
        (("e", "b"), "both-shares"),
        ((), "active-set-not-agreed"),
        (("e", "e"), "active-set-not-agreed"),
        (("e", "mallory"), "active-set-not-agreed"),
        (("mallory",), "active-set-not-agreed"),
    ],
)
def test_everybody_is_active_or_dropped(
    server: MaskedServer, attempt: Attempt, dropped: tuple[str, ...], code: str
) -> None:
    honest = attempt.unmask(ACTIVE, server.agreed(attempt, ACTIVE))
    assert_refused(server, honest.model_copy(update={"dropped": dropped}), code)
    assert_opens(server, attempt, ACTIVE)


def test_only_signatures_of_the_set_on_the_set_count(server: MaskedServer, attempt: Attempt) -> None:
    server.propose(job=OTHER_JOB)
    elsewhere = server.train(server.begin(1, job=OTHER_JOB))
    good = server.agreed(attempt, ACTIVE)
    identities = server.federation.identities

    def signed(name: str, job: str = JOB, number: int = 1, order: str = "", active: str = "abcd") -> str:
        statement = active_statement(job, number, order or attempt.order.digest, tuple(active))
        return to_text(identities[name].sign(statement))

    three = {name: good[name] for name in "abc"}
    fourths = {
        "nobody's": {},
        "the dropped member's": {"e": signed("e")},
        "on another set": {"d": signed("d", active="abcde")},
        "on a smaller set": {"d": signed("d", active="abc")},
        "in another job": {"d": signed("d", job=OTHER_JOB)},
        "in another attempt": {"d": signed("d", number=2)},
        "on another order": {"d": signed("d", order=elsewhere.order.digest)},
        "from another job's exchange": {"d": server.agreed(elsewhere, ACTIVE, ["d"])["d"]},
        "another's under this name": {"d": good["c"]},
        "a stranger's": {"mallory": signed("e")},
        "not even base64": {"d": "%"},
    }
    for fourth in fourths.values():
        assert_refused(server, attempt.unmask(ACTIVE, three | fourth), "active-set-not-agreed")
    assert server.ask("a", attempt.unmask(ACTIVE, good)).said == "unmask"


def test_every_active_member_must_have_said_that_it_uploaded(server: MaskedServer, attempt: Attempt) -> None:
    server.propose(job=OTHER_JOB)
    elsewhere = server.train(server.begin(1, job=OTHER_JOB))
    good, identities = attempt.receipts, server.federation.identities
    rich = Receipt(charges=(CHARGE,))
    by_c = to_text(identities["c"].sign(receipt_statement(JOB, 1, attempt.order.digest, "b", rich)))
    lies: list[Receipt | None] = [
        None,
        Receipt(),
        good["c"],
        elsewhere.receipts["b"],
        good["b"].model_copy(update={"charges": (CHARGE,)}),
        rich.model_copy(update={"signature": by_c}),
        Receipt(signature="%"),
    ]
    for lie in lies:
        receipts = {name: receipt for name, receipt in good.items() if name != "b"}
        receipts |= {} if lie is None else {"b": lie}
        request = attempt.unmask(ALL).model_copy(update={"receipts": receipts})
        assert_refused(server, request, "active-set-not-agreed")
    assert_opens(server, attempt, ALL)


def test_a_member_that_sent_nothing_is_not_called_active(server: MaskedServer) -> None:
    """Its self mask would be opened while the server still holds its upload back."""
    attempt = server.train(server.begin(1), ACTIVE)
    forged = attempt.receipts["d"]
    attempt.receipts["e"] = forged
    assert_refused(server, attempt.unmask(ALL), "active-set-not-agreed")
    assert_opens(server, attempt, ACTIVE)


def test_no_share_leaves_without_an_upload(server: MaskedServer) -> None:
    attempt = server.train(server.begin(1), list("bcde"))
    identity = server.federation.identities["a"]
    statement = receipt_statement(JOB, 1, attempt.order.digest, "a", Receipt())
    attempt.receipts["a"] = Receipt(signature=to_text(identity.sign(statement)))
    # Never asked to train: the attempt is none of this member's.
    assert_refused(server, attempt.unmask(ALL), "replayed")

    def fails(*_: object) -> object:
        raise ValueError("the disk is full")

    run = server.agents["a"]._work
    object.__setattr__(run, "run", fails)
    assert server.send("a", attempt.request).said == "training-failed"
    for lie in (attempt.unmask(ALL), AgreeRequest(job=JOB, attempt=1, active=tuple(ALL))):
        assert_refused(server, lie, "attempt-lost")
    assert_opens(server, attempt, list("bcde"))


def test_what_belongs_to_another_attempt_or_job_is_replayed(server: MaskedServer, attempt: Attempt) -> None:
    server.propose(job=OTHER_JOB)
    honest = attempt.unmask(ALL)
    agree = AgreeRequest(job=JOB, attempt=1, active=tuple(ALL))
    for lie in (honest, agree):
        assert_refused(server, lie.model_copy(update={"attempt": 2}), "replayed")
        assert_refused(server, lie.model_copy(update={"job": OTHER_JOB}), "replayed")
        assert_refused(server, lie.model_copy(update={"job": "ef" * 16}), "not-approved")
    later = server.train(server.begin(2))
    elsewhere = server.train(server.begin(2, job=OTHER_JOB))
    for lie in (honest, agree):
        assert_refused(server, lie, "replayed")
        assert_refused(server, lie.model_copy(update={"job": OTHER_JOB}), "replayed")
    # The words of one job in the other's name: no receipt fits.
    swapped = elsewhere.unmask(ALL).model_copy(update={"job": JOB})
    assert_refused(server, swapped, "active-set-not-agreed")
    assert_opens(server, later, ALL)
    assert_opens(server, elsewhere, ALL)


def test_a_closed_job_opens_nothing(server: MaskedServer, attempt: Attempt) -> None:
    assert server.ask("a", CloseRequest(job=JOB, rounds=1)).said == "close"
    assert_refused(server, attempt.unmask(ALL), "attempt-lost")
    assert_refused(server, AgreeRequest(job=JOB, attempt=1, active=tuple(ALL)), "attempt-lost")
