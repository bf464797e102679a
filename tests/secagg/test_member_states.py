"""One attempt at a member: accepted, uploaded, bound, given; every other order of calls is refused."""

from __future__ import annotations

import threading
from functools import cache
from itertools import product

import numpy as np
import pytest
from room import Attempt, Room, make_parties, receipt, sealing, sign_active

from hansa.contract.errors import RefusalError
from hansa.contract.messages import Charged
from hansa.secagg.member import MemberAttempt
from hansa.secagg.prekeys import PrekeySecrets, check_opening, make_prekey

CHARGE = Charged(grant="one", purpose="train", noise_multiplier=9.5, count=1, amount=0.25)

ALL = ("a", "b", "c", "d", "e")
ONE, TWO = ("a", "b", "c", "d"), ("a", "b", "c", "e")


@cache
def begun() -> tuple[Attempt, PrekeySecrets]:
    """An attempt of five that others take part in, and the secrets of a's prekey in it."""
    room = Room(make_parties(5))
    secrets: list[PrekeySecrets] = []

    def kept(*arguments: object) -> PrekeySecrets:
        secrets.append(make_prekey(*arguments))  # type: ignore[arg-type]
        return secrets[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hansa.secagg.ring.make_prekey", kept)
        attempt = room.begin()
    return attempt, secrets[0]


def fresh() -> MemberAttempt:
    """The attempt as it is at member a right after it was accepted."""
    attempt, mine = begun()
    return MemberAttempt.begin(attempt.room.parties, "a", attempt.order, attempt.prekeys, mine, sealing("a"))


@cache
def papers(active: tuple[str, ...]) -> dict[str, object]:
    order = begun()[0].order
    return {
        "receipts": {name: receipt(name, order) for name in active},
        "signatures": {name: sign_active(name, order, active) for name in active},
    }


def ask(member: MemberAttempt, active: tuple[str, ...], **changed: object) -> dict[str, bytes]:
    dropped = [name for name in ALL if name not in active]
    return member.give(active, dropped, **{**papers(active), **changed})  # type: ignore[arg-type]


def mask(member: MemberAttempt) -> None:
    member.mask({"update": np.zeros(3, np.uint32)})


CALLS = {
    "mask": mask,
    "bind one": lambda member: member.bind(ONE),
    "bind two": lambda member: member.bind(TWO),
    "give one": lambda member: ask(member, ONE),
    "give two": lambda member: ask(member, TWO),
}


def allowed(call: str, state: tuple[str, str]) -> tuple[str, str] | None:
    """The state after a call, None where it is refused: the rules, written down once more."""
    stage, active = state
    verb, _, which = call.partition(" ")
    if verb == "mask":
        return ("uploaded", "") if stage == "accepted" else None
    if stage == "accepted" or (active and active != which):
        return None
    if verb == "bind":
        return (stage if stage == "given" else "bound", which)
    return None if stage == "given" else ("given", which)


@pytest.mark.parametrize("first", CALLS)
def test_every_sequence_of_four_calls_does_what_the_rules_say(first: str) -> None:
    gave = 0
    for rest in product(CALLS, repeat=3):
        member, state, shares = fresh(), ("accepted", ""), 0
        for call in (first, *rest):
            following = allowed(call, state)
            if following is None:
                with pytest.raises(RefusalError):
                    CALLS[call](member)
            else:
                answer = CALLS[call](member)
                shares += 1 if answer else 0
                state = following
            assert member.state == state[0], (first, rest, call)
        assert shares <= 1
        gave += shares
    assert gave > 0


def test_a_second_mask_is_refused_and_leaves_the_values_alone() -> None:
    member = fresh()
    mask(member)
    values = np.arange(4, dtype=np.uint32)
    with pytest.raises(RefusalError, match="is uploaded at this member"):
        member.mask({"update": values})
    assert values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("second", "code"), [(ONE, "second-active-set"), (TWO, "second-active-set"), (ALL, "second-active-set")]
)
def test_a_second_give_is_refused(second: tuple[str, ...], code: str) -> None:
    member = fresh()
    mask(member)
    assert len(ask(member, ONE)) == len(ALL)
    with pytest.raises(RefusalError) as caught:
        ask(member, second)
    assert caught.value.code == code


def test_of_each_participant_exactly_one_share_is_given_the_one_that_belongs_to_the_set() -> None:
    attempt, _ = begun()
    member = fresh()
    mask(member)
    given = ask(member, ONE)
    for name, opening in given.items():
        right, wrong = ("seed", "key") if name in ONE else ("key", "seed")
        check = (attempt.room.parties, attempt.prekeys[name], 0)
        assert check_opening(*check, right, opening)  # type: ignore[arg-type]
        assert not check_opening(*check, wrong, opening)  # type: ignore[arg-type]


def refusal(active: tuple[str, ...], dropped: tuple[str, ...], **changed: object) -> str:
    """What a member that uploaded answers; it must still be able to give afterwards."""
    member = fresh()
    mask(member)
    with pytest.raises(RefusalError) as caught:
        member.give(active, dropped, **{**papers(ONE), **changed})  # type: ignore[arg-type]
    assert member.state == "uploaded"
    assert len(ask(member, ONE)) == len(ALL)
    return caught.value.code


@pytest.mark.parametrize(
    ("active", "dropped", "code"),
    [
        (ONE, ("d", "e"), "both-shares"),
        (ONE, ("a", "e"), "both-shares"),
        (ALL, ("e",), "both-shares"),
        (ONE, (), "active-set-not-agreed"),
        (ONE, ("e", "e"), "active-set-not-agreed"),
        (("a", "a", "b", "c", "d"), ("e",), "active-set-not-agreed"),
        (("a", "b", "c", "x"), ("d", "e"), "active-set-not-agreed"),
        (("b", "c", "d", "e"), ("a",), "not-in-active-set"),
        (("a", "b", "c"), ("d", "e"), "active-set-too-small"),
        (("a",), ("b", "c", "d", "e"), "active-set-too-small"),
        (TWO, ("d",), "active-set-not-agreed"),  # signatures are on another set
    ],
)
def test_a_set_that_is_none_is_refused_and_binds_nothing(
    active: tuple[str, ...], dropped: tuple[str, ...], code: str
) -> None:
    assert refusal(active, dropped) == code


def signed_by(*signers: str) -> dict[str, str]:
    order = begun()[0].order
    return {name: sign_active(name, order, ONE) for name in signers}


@pytest.mark.parametrize(
    "signatures",
    [
        {},
        signed_by("a", "b", "c"),
        signed_by("a", "b", "c", "e"),
        {**signed_by("a", "b", "c"), "d": signed_by("c")["c"]},
        {**signed_by("a", "b", "c"), "d": "not base64 é"},
        {**signed_by("a", "b", "c"), "stranger": signed_by("d")["d"]},
    ],
)
def test_fewer_than_t_signatures_of_members_of_the_set_are_refused(signatures: dict[str, str]) -> None:
    """t = 4; that of e, who is not in the set, does not count."""
    assert refusal(ONE, ("e",), signatures=signatures) == "active-set-not-agreed"


def test_a_receipt_that_is_missing_or_anothers_or_of_another_order_is_refused() -> None:
    order = begun()[0].order
    good = {name: receipt(name, order) for name in ONE}
    for changed in (
        {name: it for name, it in good.items() if name != "d"},
        {**good, "d": good["c"]},
        {**good, "d": receipt("d", order.model_copy(update={"knobs": {"server_rate": 0.5}}))},
        {**good, "d": receipt("d", order.model_copy(update={"attempt": 2}))},
        {**good, "d": receipt("d", order.model_copy(update={"job": "cd" * 16}))},
        {**good, "d": good["d"].model_copy(update={"charges": (CHARGE,)})},
    ):
        assert refusal(ONE, ("e",), receipts=changed) == "active-set-not-agreed"


def test_the_whole_cohort_needs_no_signature() -> None:
    member = fresh()
    mask(member)
    order = begun()[0].order
    receipts = {name: receipt(name, order) for name in ALL}
    assert len(member.give(ALL, (), receipts=receipts, signatures={})) == len(ALL)


def test_of_many_requests_at_once_one_is_answered() -> None:
    """Two active sets raced for by eight threads, again and again."""
    papers(ONE), papers(TWO)
    for _ in range(20):
        member = fresh()
        mask(member)
        gate, answers = threading.Barrier(8), []

        def race(
            active: tuple[str, ...],
            member: MemberAttempt = member,
            gate: threading.Barrier = gate,
            answers: list[object] = answers,
        ) -> None:
            gate.wait()
            try:
                answers.append(ask(member, active))
            except RefusalError:
                pass

        threads = [threading.Thread(target=race, args=(which,)) for which in (ONE, TWO) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 1
