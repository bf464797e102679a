"""A server that shows members different orders and active sets, by enumeration for n = 3, 4, 5 (PROTOCOL 4.3).

With 2t > n + c it never opens both secrets of an honest member, two sums, or a sum over other members than the
honest part of an active set that somebody was shown. Below that it does. The model is `views.py`; real members
play samples of the same views here, and a real attacker opens what the model says it can open.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache
from itertools import islice

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from room import JOB, Room, Words, dice, identity, make_order, make_parties, receipt, sealing, sign_active
from views import Loot, Setting, Told, View, bits, givers, loot, subsets, views

from hansa.contract.errors import RefusalError
from hansa.contract.messages import Order
from hansa.secagg.masks import add_masks, pair_secret, pair_sign, self_secret
from hansa.secagg.member import MemberAttempt
from hansa.secagg.prekeys import Kind, PrekeySecrets, key_of, make_prekey, open_parcel, seed_of, share_of
from hansa.secagg.shamir import combine, weights_at_zero

SETTINGS = [Setting(n, c, t) for n in (3, 4, 5) for c in (0, 1) for t in range(1, n + 1)]
LAWFUL = [setting for setting in SETTINGS if setting.lawful]
# At n = 3, c = 1, t = 2 no active set is below three members (c + 2): that rule alone holds there.
BELOW = [setting for setting in SETTINGS if not setting.lawful and setting != Setting(3, 1, 2)]


def label(setting: Setting) -> str:
    return f"n{setting.n}-c{setting.c}-t{setting.t}"


def test_the_settings_are_those_of_the_protocol() -> None:
    """The smallest lawful t: 3 members 2 or 3, 4 members 3, 5 members 3 or 4."""
    smallest = {
        (it.n, it.c): min(other.t for other in LAWFUL if (other.n, other.c) == (it.n, it.c)) for it in LAWFUL
    }
    assert smallest == {(3, 0): 2, (3, 1): 3, (4, 0): 3, (4, 1): 3, (5, 0): 3, (5, 1): 4}
    for (n, c), t in smallest.items():
        assert make_parties(n, c).threshold == t


@pytest.mark.parametrize("setting", LAWFUL, ids=label)
def test_with_2t_above_n_plus_c_no_view_lets_the_server_win(setting: Setting) -> None:
    opened = set()
    for view in views(setting):
        found = loot(setting, view)
        assert not found.won, (view, found)
        opened |= found.sums
    # The honest way is among the views: the sum of everybody.
    assert setting.honest in opened
    assert min(it.bit_count() for it in opened) >= setting.least - setting.c


@pytest.mark.parametrize("setting", BELOW, ids=label)
def test_below_the_law_some_view_lets_the_server_win(setting: Setting) -> None:
    assert any(it.seeds & it.keys for it in (loot(setting, view) for view in views(setting)))


def test_at_2t_equal_to_n_plus_c_the_server_opens_one_members_update() -> None:
    """n = 5, t = 3, c = 1: two are shown everybody, two everybody but a; a's key and a's seed are both opened."""
    view = (Told(0b11111, 0b01111, (0b11111, 0b11111, 0b11110, 0b11110)),)
    found = loot(Setting(5, 1, 3), view)
    assert found.seeds & found.keys == 0b00001
    assert 0b00001 in found.sums
    assert not loot(Setting(5, 1, 4), view).won


def test_without_agreement_sums_of_two_members_open_though_t_is_lawful() -> None:
    """n = 5, t = 3, nobody colluding, where no honest sum has fewer than three: what the signatures are for."""
    view = (Told(0b11111, 0b11111, (0b11101, 0b11010, 0b11100, 0b11010, 0b11001)),)
    assert loot(Setting(5, 0, 3, agreement=False), view).sums == {0b11000}
    assert loot(Setting(5, 0, 3), view).sums == frozenset()


def called(members: int) -> list[str]:
    return [chr(ord("a") + index) for index in bits(members)]


class Play:
    """One view, played to real members; the attacker's knowledge is what they answered and its own secrets."""

    def __init__(self, setting: Setting, view: View) -> None:
        self.setting, self.view = setting, view
        self.parties = make_parties(setting.n, setting.c, setting.t)
        self.room = Room(self.parties, "lying")
        self.colluding: dict[str, PrekeySecrets] = {
            name: make_prekey(
                self.parties,
                self.parties.index(name),
                bytes.fromhex(self.room.rings[name].start),
                500,
                identity(name),
                dice(f"bad {name}"),
            )
            for name in called(setting.colluding)
        }
        honest = called(setting.honest)
        self.prekeys = dict(zip(honest, self.room.fresh(honest), strict=True))
        self.prekeys |= {name: secrets.prekey for name, secrets in self.colluding.items()}
        self.updates: dict[str, Words] = {}
        self.uploads: dict[str, Words] = {}
        self.circles: dict[str, int] = {}
        self.gave: list[set[str]] = []
        self.shares: dict[tuple[str, Kind], dict[int, int]] = {}
        for name in called(setting.colluding):
            for victim in honest:
                held = open_parcel(
                    self.parties, self.prekeys[victim], self.parties.index(name), sealing(name)
                )
                self._note(victim, "key", name, held.key)
                self._note(victim, "seed", name, held.seed)
        for number, told in enumerate(view):
            self._tell(number, told)

    def _note(self, victim: str, kind: Kind, giver: str, opening: bytes) -> None:
        self.shares.setdefault((victim, kind), {})[self.parties.index(giver) + 1] = share_of(opening)

    def _tell(self, number: int, told: Told) -> None:
        """One order: accept, upload, agree and unmask with those that it was sent to."""
        cohort = called(told.cohort)
        prekeys = [self.prekeys[name] for name in cohort]
        order = make_order(cohort, prekeys).model_copy(update={"knobs": {"order": float(number)}})
        group = called(told.group)
        members = {name: self.room.rings[name].accept(order, prekeys) for name in group}
        for name in group:
            self.updates[name] = np.frombuffer(dice(f"update {name}")(32), dtype="<u4").copy()
            self.uploads[name] = self.updates[name].copy()
            self.circles[name] = told.cohort
            members[name].mask({"update": self.uploads[name]})
        shown = {name: called(active) for name, active in zip(group, told.shown, strict=True) if active}
        for name, active in shown.items():
            members[name].bind(active)
        self.gave.append({name for name in shown if self._ask(name, members[name], order, shown)})

    def _ask(self, name: str, member: MemberAttempt, order: Order, shown: dict[str, list[str]]) -> bool:
        active = shown[name]
        signers = [other for other, theirs in shown.items() if theirs == active] + list(self.colluding)
        try:
            given = member.give(
                active,
                [other for other in order.cohort if other not in active],
                receipts={other: receipt(other, order) for other in active},
                signatures={other: sign_active(other, order, active) for other in signers},
            )
        except RefusalError:
            return False
        for victim, opening in given.items():
            self._note(victim, "seed" if victim in active else "key", name, opening)
        return True

    def _opened(self, victim: str, kind: Kind) -> bytes | X25519PrivateKey | None:
        """A secret from the shares that there are. A real attacker tries with too few as well."""
        shares = self.shares.get((victim, kind), {})
        secret = combine(list(shares.values()), weights_at_zero(list(shares)))
        return (seed_of if kind == "seed" else key_of)(secret, self.prekeys[victim])

    def loot(self) -> Loot:
        """What opens, every opened sum compared with the real updates."""
        honest = called(self.setting.honest)
        seeds = {name: seed for name in honest if (seed := self._opened(name, "seed"))}
        keys = {name: key for name in honest if (key := self._opened(name, "key"))}
        known = {name: it.private for name, it in self.colluding.items()} | keys
        sums = [([name], self.circles.get(name)) for name in keys]
        for told in self.view:
            hidden = [name for name in called(told.cohort & self.setting.honest) if name not in keys]
            sums.append((hidden, told.cohort))
        opened = set()
        for summed, cohort in sums:
            if summed and all(name in seeds and self.circles.get(name) == cohort for name in summed):
                self._open(summed, seeds, known)
                opened.add(self._bits(summed))
        agreed = {
            active & self.setting.honest
            for told in self.view
            for active in givers(self.setting, told).values()
        }
        return Loot(self._bits(seeds), self._bits(keys), frozenset(opened), frozenset(agreed))

    def _bits(self, members: Iterable[str]) -> int:
        return sum(1 << self.parties.index(name) for name in members)

    def _open(self, summed: list[str], seeds: dict[str, object], known: dict[str, X25519PrivateKey]) -> None:
        """Take the self masks off, and the pair masks with everybody whose key is known."""
        total = np.zeros(8, dtype=np.uint32)
        for name in summed:
            total += self.uploads[name]
            masks = [(self_secret(seeds[name], self.prekeys[name]), -1)]  # type: ignore[arg-type]
            circle = called(self.circles[name])
            for other in circle:
                if other in summed:
                    continue
                # The pair's secret, from the one key of the two that is known.
                mine, theirs = (other, name) if other in known else (name, other)
                secret = pair_secret(
                    known[mine],
                    self.prekeys[mine],
                    self.prekeys[theirs],
                    job=JOB,
                    attempt=1,
                    circle=circle,
                    names=self.parties.names,
                )
                masks.append((secret, -pair_sign(name, other)))
            add_masks(total, masks, "update")
        expected = sum((self.updates[name] for name in summed), np.zeros(8, dtype=np.uint32))
        np.testing.assert_array_equal(total, expected)


@cache
def sample(setting: Setting) -> list[View]:
    """Views of a setting: some at random, some in which somebody gives, some in which the server wins."""
    shuffled = list(islice(views(setting), 6_000))
    random.Random(label(setting)).shuffle(shuffled)
    giving = [view for view in shuffled if any(givers(setting, told) for told in view)]
    opening = [view for view in giving if loot(setting, view).sums]
    several = [view for view in giving if len(view) > 1]
    winning = [view for view in opening if loot(setting, view).won]
    return [*shuffled[:3], *giving[:3], *opening[:3], *several[:2], *winning[:3]]


@pytest.mark.parametrize("setting", SETTINGS, ids=label)
def test_real_members_give_and_a_real_attacker_opens_what_the_model_says(setting: Setting) -> None:
    for view in sample(setting):
        play = Play(setting, view)
        assert play.gave == [{called(1 << me)[0] for me in givers(setting, told)} for told in view], view
        assert play.loot() == loot(setting, view), view


@pytest.mark.parametrize(
    "setting", [Setting(5, 1, 3), Setting(5, 0, 2), Setting(4, 1, 2), Setting(4, 0, 2)], ids=label
)
def test_below_the_law_the_real_attacker_reads_one_members_update(setting: Setting) -> None:
    """So the enumeration is about something: the same code, with t one too small, is broken."""
    view = next(view for view in views(setting) if (it := loot(setting, view)).seeds & it.keys)
    found = Play(setting, view).loot()
    assert found.won
    assert any(it.bit_count() == 1 for it in found.sums)


@pytest.mark.parametrize("setting", [Setting(4, 1, 3), Setting(5, 0, 3), Setting(3, 0, 2)], ids=label)
def test_a_real_member_binds_itself_to_just_the_sets_of_the_model(setting: Setting) -> None:
    parties = make_parties(setting.n, setting.c, setting.t)
    cohorts = [
        part for part in subsets((1 << setting.n) - 1) if part & 1 and part.bit_count() >= setting.least
    ]
    for cohort in cohorts:
        room = Room(parties)
        for active in subsets((1 << setting.n) - 1):
            prekeys = room.fresh(called(cohort))
            member = room.rings["a"].accept(make_order(called(cohort), prekeys), prekeys)
            member.mask({"update": np.zeros(1, np.uint32)})
            lawful = bool(active & 1) and not active & ~cohort and active.bit_count() >= setting.least
            try:
                member.bind(called(active))
            except RefusalError:
                assert not lawful
            else:
                assert lawful
