"""What a lying server can show to each honest member, what that makes them give, and what it opens with it.

An abstract model for enumeration: members are bits of an integer. The server and c members (the highest bits)
play together. Of each honest member the server chooses the order it accepts (orders differ in their cohort or
otherwise) and the one active set it is asked to bind itself to. The rules are those of PROTOCOL 4.3 and 4.4,
written down anew; `test_lying_server.py` plays the same views with real members to check the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product


@dataclass(frozen=True)
class Setting:
    """n members, c of them with the server, threshold t; a rule that is False is left out, to see what it is for."""

    n: int
    c: int
    t: int
    # A set smaller than the cohort needs t signatures.
    agreement: bool = True
    # Every active member's receipt for the same order must be shown.
    receipts: bool = True

    @property
    def lawful(self) -> bool:
        return 2 * self.t > self.n + self.c

    @property
    def least(self) -> int:
        """Fewest members of a cohort and of an active set."""
        return max(self.t, self.c + 2)

    @property
    def honest(self) -> int:
        return (1 << (self.n - self.c)) - 1

    @property
    def colluding(self) -> int:
        return ((1 << self.n) - 1) & ~self.honest


@dataclass(frozen=True)
class Told:
    """An order, who of the honest members accepted it, and which active set each of these is shown (0: none)."""

    cohort: int
    group: int
    shown: tuple[int, ...]


View = tuple[Told, ...]


def bits(members: int) -> list[int]:
    return [index for index in range(members.bit_length()) if members >> index & 1]


def subsets(members: int) -> Iterator[int]:
    """All subsets, the largest first, the empty one last."""
    part = members
    while part:
        yield part
        part = (part - 1) & members
    yield 0


def actives(setting: Setting, cohort: int, group: int, me: int) -> list[int]:
    """Active sets that a member signs: they hold it, are large enough, and every honest one in it has a receipt."""
    return [
        part
        for part in subsets(cohort)
        if part >> me & 1
        and part.bit_count() >= setting.least
        and not (setting.receipts and part & setting.honest & ~group)
    ]


@cache
def orders(setting: Setting, free: int) -> list[tuple[int, int]]:
    """Cohorts, each with a group of honest members that accept it, by which somebody can be made to give."""
    found = []
    for cohort in subsets((1 << setting.n) - 1):
        for group in subsets(cohort & free):
            # Whoever accepted an order that too few have receipts for gives nothing.
            shown = group | cohort & setting.colluding if setting.receipts else cohort
            if group and shown.bit_count() >= setting.least:
                found.append((cohort, group))
    return found


def views(setting: Setting, *, several: bool = True) -> Iterator[View]:
    """All views in which somebody can be made to give something. Members outside any group stay silent.

    Parameters
    ----------
    several : different orders for different members too, or one order for all
    """
    yield from _views(setting, setting.honest, several)


def _views(setting: Setting, free: int, several: bool) -> Iterator[View]:
    for cohort, group in orders(setting, free):
        choices = [[*actives(setting, cohort, group, me), 0] for me in bits(group)]
        for shown in product(*choices):
            told = Told(cohort, group, shown)
            yield (told,)
            if several:
                # Orders are a set: the next one's group lies above this one's lowest member.
                lowest = group & -group
                for rest in _views(setting, free & ~group & ~(lowest - 1), several):
                    yield (told, *rest)


def givers(setting: Setting, told: Told) -> dict[int, int]:
    """Members that give their shares, with the active set that they give them for."""
    return {
        me: active
        for me, active in zip(bits(told.group), told.shown, strict=True)
        if active
        and (
            active == told.cohort
            or not setting.agreement
            # Binding oneself to a set is signing it; colluding members sign anything.
            or told.shown.count(active) + (active & setting.colluding).bit_count() >= setting.t
        )
    }


@dataclass(frozen=True)
class Loot:
    """What the server and its c members open: seeds, one-time keys (as bits), sums of honest members (as bits)."""

    seeds: int
    keys: int
    sums: frozenset[int]
    agreed: frozenset[int]

    @property
    def won(self) -> bool:
        """Both secrets of one, two sums, or a sum of others than the honest part of a set somebody was shown."""
        return bool(self.seeds & self.keys) or len(self.sums) > 1 or not self.sums <= self.agreed


def loot(setting: Setting, view: View) -> Loot:
    """Count shares, then remove masks: uploads of S add up to a sum when every mask on it is known or cancels."""
    giving = [givers(setting, told) for told in view]
    if sum(map(len, giving)) + setting.c < setting.t:
        return Loot(0, 0, frozenset(), _agreed(setting, giving))
    seeds, keys = [setting.c] * setting.n, [setting.c] * setting.n
    for told, given in zip(view, giving, strict=True):
        for active in given.values():
            for name in bits(told.cohort):
                (seeds if active >> name & 1 else keys)[name] += 1
    honest = bits(setting.honest)
    open_seeds = sum(1 << name for name in honest if seeds[name] >= setting.t)
    open_keys = sum(1 << name for name in honest if keys[name] >= setting.t)
    sums = {1 << name for name in bits(open_seeds & open_keys)}
    for told in view:
        # Uploads under other cohorts have other pair masks; under the same one orders do not matter.
        uploaded = 0
        for other in view:
            uploaded |= other.group if other.cohort == told.cohort else 0
        # All honest members whose key is closed hide each other: only their sum, and all their seeds, open it.
        together = told.cohort & setting.honest & ~open_keys
        if together and not together & ~(open_seeds & uploaded):
            sums.add(together)
    return Loot(open_seeds, open_keys, frozenset(sums), _agreed(setting, giving))


def _agreed(setting: Setting, giving: list[dict[int, int]]) -> frozenset[int]:
    return frozenset(active & setting.honest for given in giving for active in given.values())
