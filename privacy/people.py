"""Whether two data sets are about the same people, from the smallest keyed hashes of their entities.

A sketch holds the KEPT smallest hashes (bottom-k, Cohen and Kaplan 2007), under a key that never leaves
the organisation. Below the smaller of two sketches' largest hashes both are complete, so that the
share of one set that is in the other can be counted there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

KEPT = 512
# From this share of the smaller set on, two data sets are the same people.
SAME = 0.1


def sketch(hashes: Iterable[str]) -> tuple[str, ...]:
    """The smallest of the entities' keyed hashes (hex, all of one length), in order."""
    return tuple(sorted(set(hashes))[:KEPT])


def overlap(one: Sequence[str], other: Sequence[str]) -> float:
    """Share of the smaller set that is in the larger one, estimated; exact for sets of at most KEPT entities."""
    edge = min((entry[-1] for entry in (one, other) if len(entry) >= KEPT), default=None)
    first = {entry for entry in one if edge is None or entry <= edge}
    second = {entry for entry in other if edge is None or entry <= edge}
    smaller = min(len(first), len(second))
    return len(first & second) / smaller if smaller else 0.0
