"""Check words: by them a member sees that a sum it opened is the sum (PROTOCOL section 5).

    word k of member i:  <r_k, x_i> + a_ik  modulo p,  k = 1, 2

r comes from the group key and the attempt, a from these and the member's name, all uniform modulo p by rejection.
The two words stand behind a member's update and are masked, encrypted and summed with it. A sum X with words W is
taken when W_k = <r_k, X> + sum of a_ik over the members that it is said to be the sum of. A vector that somebody
without the group key adds, an error of decryption, other members than said: each passes with probability p^-2, 2^-64
(Carter and Wegman 1981; for sums Agrawal and Boneh 2009). Without a, the sum doubled, negated or replaced by zeros
would pass. Who knows the group key can make any sum pass: a member that sides with the server.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.contract.segments import CHECK_WORDS as CHECK_WORDS
from hansa.secagg.group_key import GroupKey
from hansa.secagg.masks import HE_PRIME, Words, new_room

# Coordinates multiplied at a time: sums of so many products of 16-bit halves stay below 2^53, exact in float64.
_CHUNK = 32_768
_HALF = 16


@dataclass(frozen=True)
class _CheckKeys:
    """Keys of the streams of one word: r of the attempt, or a of a member in it."""

    group: GroupKey
    attempt: int
    number: int
    member: str | None = None

    def key(self, segment: str, modulus: int, stream: str) -> bytes:
        """The AES key of one stream. 32 bytes."""
        # r and a differ in how much is said: no member's name makes an a into an r.
        whose = () if self.member is None else (self.member,)
        return self.group.check_key(self.attempt, segment, modulus, stream, self.number, *whose)


def add_check_words(
    values: NDArray[np.uint32], group: GroupKey, attempt: int, segment: str, member: str
) -> NDArray[np.uint32]:
    """A member's values modulo p and its check words behind them; still to be masked. Shape (d + CHECK_WORDS,)."""
    products = _products(values, group, attempt, segment)
    added = _constants(group, attempt, segment, member)
    words = [(product + constant) % HE_PRIME for product, constant in zip(products, added, strict=True)]
    return np.concatenate([values, np.array(words, dtype=np.uint32)])


def check_sum(
    opened: NDArray[np.uint32], group: GroupKey, attempt: int, segment: str, active: Collection[str]
) -> bool:
    """Whether an opened sum with its check words, all below p, is that of these members in this attempt."""
    if opened.size < CHECK_WORDS:
        return False
    values, words = opened[:-CHECK_WORDS], opened[-CHECK_WORDS:].tolist()
    expected = _products(values, group, attempt, segment)
    for member in set(active):
        for number, constant in enumerate(_constants(group, attempt, segment, member)):
            expected[number] = (expected[number] + constant) % HE_PRIME
    return bool(words == expected)


def _constants(group: GroupKey, attempt: int, segment: str, member: str) -> list[int]:
    """a: one uniform word modulo p for each check word of a member."""
    streams = [
        Words(_CheckKeys(group, attempt, number, member), segment, HE_PRIME) for number in range(CHECK_WORDS)
    ]
    return [int(words.next(1, new_room(1))[0]) for words in streams]


def _products(values: NDArray[np.uint32], group: GroupKey, attempt: int, segment: str) -> list[int]:
    """<r, values> modulo p for each check word."""
    streams = [Words(_CheckKeys(group, attempt, number), segment, HE_PRIME) for number in range(CHECK_WORDS)]
    totals = [0] * CHECK_WORDS
    rooms = [new_room() for _ in streams]
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        drawn = [words.next(part.size, room) for words, room in zip(streams, rooms, strict=True)]
        for number, product in enumerate(_dot(drawn, part)):
            totals[number] = (totals[number] + product) % HE_PRIME
    return totals


def _dot(vectors: Sequence[NDArray[np.uint32]], part: NDArray[np.uint32]) -> list[int]:
    """Exact scalar products of a chunk with several vectors, from those of their 16-bit halves."""
    left = np.concatenate([_halves(vector) for vector in vectors])
    products = left @ _halves(part).T
    weights = [1, 1 << _HALF]
    return [
        sum(int(products[2 * number + i, j]) * weights[i] * weights[j] for i in range(2) for j in range(2))
        for number in range(len(vectors))
    ]


def _halves(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Low and high 16 bits. Shape (2, d)."""
    halves = np.empty((2, words.size))
    halves[0] = words & np.uint32(0xFFFF)
    halves[1] = words >> np.uint32(_HALF)
    return halves
