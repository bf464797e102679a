"""A member's ring: what it may take part in after a start, and that no prekey is used twice, ever."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from room import Room, identity, introduce, make_order, make_parties, make_ring, names

from hansa.contract.errors import RefusalError
from hansa.contract.keys import to_text
from hansa.contract.messages import Order
from hansa.contract.statements import witness_statement
from hansa.secagg import starts as starts_module
from hansa.secagg.prekeys import Prekey, decode_prekeys
from hansa.secagg.ring import KEPT_PREKEYS, RECENT_S, PrekeyRing
from hansa.secagg.starts import KEPT_NUMBERS, KEPT_STARTS

PARTIES = make_parties(4)
EVERYBODY = PARTIES.names


def code_of(ring: PrekeyRing, order: Order, prekeys: list[Prekey]) -> str:
    with pytest.raises(RefusalError) as caught:
        ring.accept(order, prekeys)
    return caught.value.code


def restart(room: Room, name: str, label: str = "again", *, witnesses: int | None = None) -> PrekeyRing:
    """A new process of that member; so many others (all by default) sign its start, and it signs theirs."""
    ring = make_ring(room.parties, name, f"restarted {label}")
    room.rings[name] = ring
    others = [other for other in room.parties.names if other != name]
    for other in others[:witnesses]:
        ring.take_witnesses(room.rings[other].sign_starts({name: ring.start}))
        room.rings[other].take_witnesses(ring.sign_starts({other: room.rings[other].start}))
    return ring


def test_a_prekey_is_used_once_whatever_it_is_asked_for() -> None:
    room = Room(PARTIES)
    attempt = room.begin(1)
    used = list(attempt.prekeys.values())
    for number, job in ((1, attempt.order.job), (2, attempt.order.job), (1, "cd" * 16)):
        for name in EVERYBODY:
            assert (
                code_of(room.rings[name], make_order(EVERYBODY, used, number, job=job), used) == "prekey-used"
            )


@pytest.mark.parametrize("whose", range(4))
def test_one_used_prekey_among_fresh_ones_is_refused_and_uses_nothing_up(whose: int) -> None:
    room = Room(PARTIES)
    old = list(room.begin(1).prekeys.values())
    fresh = room.fresh(EVERYBODY)
    mixed = [*fresh]
    mixed[whose] = old[whose]
    for name in EVERYBODY:
        assert code_of(room.rings[name], make_order(EVERYBODY, mixed, 2), mixed) == "prekey-used"
        room.rings[name].accept(make_order(EVERYBODY, fresh, 2), fresh)


def test_a_dropped_members_prekey_counts_as_used_with_everybody_who_took_part() -> None:
    room = Room(PARTIES)
    prekeys = room.fresh(EVERYBODY)
    for name in EVERYBODY[:3]:
        room.rings[name].accept(make_order(EVERYBODY, prekeys), prekeys)
    again = [*room.fresh(EVERYBODY[:3]), prekeys[3]]
    assert code_of(room.rings["a"], make_order(EVERYBODY, again, 2), again) == "prekey-used"


def test_nothing_is_taken_part_in_before_enough_others_signed_the_start() -> None:
    """n = 4, c = 1, t = 3: all three others must."""
    room = Room(PARTIES)
    ring = restart(room, "d", witnesses=2)
    assert not ring.witnessed
    prekeys = room.fresh(EVERYBODY)
    assert code_of(ring, make_order(EVERYBODY, prekeys), prekeys) == "prekey-unknown"
    ring.take_witnesses(room.rings["c"].sign_starts({"d": ring.start}))
    assert ring.witnessed
    fresh = room.fresh(EVERYBODY)
    ring.accept(make_order(EVERYBODY, fresh), fresh)


def test_after_a_restart_nothing_older_is_taken_part_in() -> None:
    """The agent does not know what it gave before: its own old prekeys and its peers' old ones are refused."""
    room = Room(PARTIES)
    old = room.fresh(EVERYBODY)
    ring = restart(room, "d")
    assert code_of(ring, make_order(EVERYBODY, old), old) == "prekey-unknown"
    for whose in range(4):
        mixed = [*room.fresh(EVERYBODY)]
        mixed[whose] = old[whose]
        assert code_of(ring, make_order(EVERYBODY, mixed), mixed) == "prekey-unknown"
    fresh = room.fresh(EVERYBODY)
    ring.accept(make_order(EVERYBODY, fresh), fresh)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_no_two_lives_of_a_member_take_part_with_one_prekey(data: st.DataObject) -> None:
    """Restarts, prekeys made and attempts in any order: all lives of a member take each prekey once at most."""
    room = Room(PARTIES, str(data.draw(st.integers())))
    stock: dict[str, list[Prekey]] = {name: [] for name in EVERYBODY}
    taken: dict[str, list[bytes]] = {name: [] for name in EVERYBODY}
    first = 1000
    for number in range(data.draw(st.integers(1, 12))):
        what = data.draw(st.sampled_from(["make", "restart", "attempt", "attempt"]))
        if what == "make" or not all(stock.values()):
            for name in EVERYBODY:
                stock[name] += decode_prekeys(room.rings[name].make(2), PARTIES, 2)
        elif what == "restart":
            first += 1000
            restart(room, data.draw(st.sampled_from(EVERYBODY)), str(first))
        else:
            prekeys = [data.draw(st.sampled_from(stock[name])) for name in EVERYBODY]
            for name in EVERYBODY:
                try:
                    room.rings[name].accept(make_order(EVERYBODY, prekeys, number + 1), prekeys)
                except RefusalError:
                    continue
                taken[name] += [prekey.id for prekey in prekeys]
    for uses in taken.values():
        assert len(uses) == len(set(uses))


def test_a_prekey_from_an_earlier_start_of_its_maker_is_never_taken_whatever_its_number() -> None:
    """Taker and maker both came back: the maker counts from 1 again, and the taker forgot what it gave."""
    room = Room(PARTIES)
    old = room.begin(1).prekeys["b"]
    later = decode_prekeys(room.rings["b"].make(3), PARTIES, 3)[2]
    for name in ("a", "b"):
        restart(room, name)
    for kept in (old, later):
        prekeys = room.fresh(EVERYBODY)
        prekeys[1] = kept
        assert kept.number >= room.rings["a"].accepts["b"].first
        assert code_of(room.rings["a"], make_order(EVERYBODY, prekeys, 2), prekeys) == "prekey-unknown"


def test_an_attempt_that_began_before_a_peers_start_is_refused_once_that_start_is_signed() -> None:
    room = Room(PARTIES)
    old = room.fresh(EVERYBODY)
    [word] = room.rings["b"].sign_starts({"a": room.rings["a"].start})
    restart(room, "b")
    # The old start's word again, and the old start signed again, change nothing.
    room.rings["a"].take_witnesses([word])
    room.rings["a"].sign_starts({"b": old[1].start.hex()})
    with pytest.raises(RefusalError, match="'b' started again") as refused:
        room.rings["a"].accept(make_order(EVERYBODY, old), old)
    assert refused.value.code == "prekey-unknown"
    # Without that peer it goes on, and so does the next one with it.
    others = [name for name in EVERYBODY if name != "b"]
    kept = [it for it in old if it.maker != 1]
    room.rings["a"].accept(make_order(others, kept), kept)
    fresh = room.fresh(EVERYBODY)
    room.rings["a"].accept(make_order(EVERYBODY, fresh, 2), fresh)


def test_an_older_start_that_is_shown_again_frees_no_used_prekey() -> None:
    room = Room(PARTIES)
    prekeys = room.fresh(EVERYBODY)
    room.rings["a"].accept(make_order(EVERYBODY, prekeys), prekeys)
    [old_word] = room.rings["b"].sign_starts({"a": room.rings["a"].start})
    restart(room, "b")
    room.rings["a"].take_witnesses([old_word])
    again = room.fresh(EVERYBODY)
    again[1] = prekeys[1]
    assert code_of(room.rings["a"], make_order(EVERYBODY, again, 2), again) == "prekey-used"


def test_a_floor_never_falls_and_a_start_signed_twice_has_one_floor() -> None:
    room = Room(PARTIES)
    ring = restart(room, "d")
    [early] = room.rings["a"].sign_starts({"d": ring.start})
    room.rings["a"].make(3)
    [again] = room.rings["a"].sign_starts({"d": ring.start})
    assert again == early
    [other] = room.rings["a"].sign_starts({"d": "0" * 32})
    [late] = room.rings["a"].sign_starts({"d": ring.start})
    assert late.first == other.first == early.first + 3
    ring.take_witnesses([late])
    ring.take_witnesses([early])
    assert ring.accepts["a"].first == late.first


def test_words_on_another_start_or_member_or_of_nobody_are_refused_and_none_of_them_counts() -> None:
    room = Room(PARTIES)
    ring = make_ring(PARTIES, "d", "new")
    [good] = room.rings["a"].sign_starts({"d": ring.start})
    [other_start] = room.rings["b"].sign_starts({"d": "0" * 32})
    [other_member] = room.rings["b"].sign_starts({"c": ring.start})
    own = good.model_copy(update={"witness": "d"})
    for wrong, code in (
        (other_start, "replayed"),
        (other_member, "replayed"),
        (own, "replayed"),
        (good.model_copy(update={"first": 0}), "unknown-member"),
        (good.model_copy(update={"witness": "b"}), "unknown-member"),
        (good.model_copy(update={"witness": "stranger"}), "unknown-member"),
        (good.model_copy(update={"signature": ""}), "unknown-member"),
    ):
        with pytest.raises(RefusalError) as caught:
            ring.take_witnesses([good, wrong])
        assert caught.value.code == code
        assert ring.accepts == {}


def test_a_word_under_another_charter_is_refused() -> None:
    ring = make_ring(PARTIES, "d")
    [good] = make_ring(PARTIES, "a").sign_starts({"d": ring.start})
    signature = to_text(identity("a").sign(witness_statement("d" * 64, good)))
    with pytest.raises(RefusalError, match="not signed by 'a'"):
        ring.take_witnesses([good.model_copy(update={"signature": signature})])


@pytest.mark.parametrize("name", ["d", "stranger", ""])
def test_only_other_members_starts_are_signed(name: str) -> None:
    with pytest.raises(RefusalError, match="unknown-member"):
        make_ring(PARTIES, "d").sign_starts({name: "0" * 32})


def test_two_starts_have_two_nonces() -> None:
    assert make_ring(PARTIES, "d", "one").start != make_ring(PARTIES, "d", "two").start


def test_forged_swapped_and_unnamed_prekeys_are_refused() -> None:
    room = Room(PARTIES)
    prekeys = room.fresh(EVERYBODY)
    order, ring = make_order(EVERYBODY, prekeys), room.rings["a"]
    forged = replace(prekeys[1], public=prekeys[2].public)
    cases = {
        "unknown-member": [
            [prekeys[0], forged, *prekeys[2:]],
            [prekeys[0], prekeys[2], prekeys[1], prekeys[3]],
            [prekeys[1], prekeys[1], *prekeys[2:]],
        ],
        "prekey-unknown": [
            prekeys[:3],
            [*prekeys, prekeys[0]],
            [],
            [prekeys[0], *room.fresh(("b",)), *prekeys[2:]],
            [replace(prekeys[0], public=prekeys[1].public), *prekeys[1:]],
        ],
    }
    for code, wrong in cases.items():
        for given_ in wrong:
            assert code_of(ring, order, given_) == code
    numbers = {name: number for name, number in order.prekeys.items() if name != "d"}
    for numbered in (numbers, {**order.prekeys, "x": 1}, {**order.prekeys, "a": 99}):
        assert code_of(ring, order.model_copy(update={"prekeys": numbered}), prekeys) == "prekey-unknown"
    ring.accept(order, prekeys)


def test_a_badly_made_parcel_names_its_maker_and_uses_nothing_up() -> None:
    room = Room(PARTIES)
    prekeys = room.fresh(EVERYBODY)
    bad = replace(prekeys[1], parcels=prekeys[1].parcels[::-1])
    domain = b"hansa/prekey/1\x00" + PARTIES.charter_hash
    bad = replace(bad, signature=identity("b").sign(domain + bad.content))
    low = replace(prekeys[1], public=bytes(32))
    low = replace(low, signature=identity("b").sign(domain + low.content))
    for wrong in (bad, low):
        given_ = [prekeys[0], wrong, *prekeys[2:]]
        with pytest.raises(RefusalError, match="bad-share") as caught:
            room.rings["a"].accept(make_order(EVERYBODY, given_), given_)
        assert caught.value.facts["maker"] == "b"
    room.rings["a"].accept(make_order(EVERYBODY, prekeys), prekeys)


@pytest.mark.parametrize(
    ("cohort", "groups", "audit_groups"),
    [
        ("bcd", [], None),
        ("abcc", [], None),
        ("abcdef", ["abc", "def"], None),  # the charter does not split
        ("abcdef", ["a", "b", "c", "d", "e", "f"], None),
        ("abcdef", ["abc", "de"], 3),
        ("abcdef", ["abcd", "cdef"], 3),
        ("abcdef", ["bcd", "ef"], 3),
        ("abcde", ["abc", "def"], 3),
    ],
)
def test_a_cohort_without_this_member_or_split_wrongly_is_refused(
    cohort: str, groups: list[str], audit_groups: int | None
) -> None:
    room = Room(make_parties(6, audit_groups=audit_groups))
    made = dict(zip(names(6), room.fresh(names(6)), strict=True))
    prekeys = [made[name] for name in cohort]
    order = make_order(tuple(cohort), prekeys, groups=groups)
    assert code_of(room.rings["a"], order, prekeys) in ("unknown-member", "cohort-too-small")


def test_recent_prekeys_are_never_given_up_for_new_ones() -> None:
    clock = [0.0]
    room = Room(PARTIES)
    ring = room.rings["a"]
    ring._monotonic = lambda: clock[0]
    made = decode_prekeys(ring.make(KEPT_PREKEYS), PARTIES, KEPT_PREKEYS)
    for now in (0.0, RECENT_S):
        clock[0] = now
        with pytest.raises(RefusalError, match="not used") as refused:
            ring.make(1)
        assert refused.value.code == "agent-unavailable"
    # What an attempt uses makes room for one that replaces it.
    others = room.fresh(EVERYBODY[1:])
    ring.accept(make_order(EVERYBODY, [made[0], *others]), [made[0], *others])
    ring.make(1, replacing=True)
    with pytest.raises(RefusalError, match="not used"):
        ring.make(1)
    clock[0] = RECENT_S + 1
    ring.make(2)
    assert len(ring._own) == len(ring._made) == KEPT_PREKEYS
    for number, own in enumerate(made[1:4], start=2):
        others = room.fresh(EVERYBODY[1:])
        order = make_order(EVERYBODY, [own, *others], number)
        if number < 4:
            assert code_of(ring, order, [own, *others]) == "prekey-unknown"
        else:
            ring.accept(order, [own, *others])


def test_of_a_peer_so_many_starts_are_known_and_no_older_one_comes_back() -> None:
    room = Room(PARTIES)
    ring = room.rings["a"]
    attempt = room.begin(1)
    [first] = room.rings["b"].sign_starts({"a": ring.start})
    words = [first]
    for number in range(KEPT_STARTS + 5):
        restart(room, "b", str(number))
        words += room.rings["b"].sign_starts({"a": ring.start})
    for word in (first, *words):
        ring.take_witnesses([word])
        assert list(ring._peers["b"]) == [it.made for it in words[-KEPT_STARTS:]]
    used = [*room.fresh(EVERYBODY)]
    used[1] = attempt.prekeys["b"]
    assert code_of(ring, make_order(EVERYBODY, used, 2), used) == "prekey-unknown"
    fresh = room.fresh(EVERYBODY)
    ring.accept(make_order(EVERYBODY, fresh, 3), fresh)


def test_a_peer_that_began_anew_too_often_is_heard_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts_module, "GIVEN_UP_STARTS", 3)
    room = Room(PARTIES)
    for number in range(KEPT_STARTS + 10):
        restart(room, "b", str(number))
    assert len(room.rings["a"]._given_up["b"]) == 3
    assert len(room.rings["a"]._peers["b"]) == KEPT_STARTS
    assert room.rings["a"].accepts["b"].start != room.rings["b"].start


def test_what_is_forgotten_of_used_numbers_stays_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for 8 numbers instead of 4,096: after 20 attempts every one of the prekeys is still used."""
    monkeypatch.setattr(starts_module, "KEPT_NUMBERS", 8)
    assert KEPT_NUMBERS == 4096
    room = Room(PARTIES)
    used = [list(room.begin(number).prekeys.values()) for number in range(1, 21)]
    assert len(room.rings["a"]._peers["b"][room.rings["b"].start].used) <= 8
    for old in used:
        for whose in range(1, 4):
            mixed = [*room.fresh(EVERYBODY)]
            mixed[whose] = old[whose]
            refused = code_of(room.rings["a"], make_order(EVERYBODY, mixed, 99), mixed)
            assert refused in ("prekey-used", "prekey-unknown")
    room.begin(100)


def test_a_witness_that_restarted_is_signed_for_anew() -> None:
    """Floors are per start: what a peer makes after it came back is taken, whatever its numbers."""
    room = Room(PARTIES)
    restart(room, "b")
    introduce(room.rings)
    attempt = room.begin()
    assert attempt.prekeys["b"].start.hex() == room.rings["b"].start
    for name in EVERYBODY:
        attempt.upload(name, {"update": np.ones(2, np.uint32)})
