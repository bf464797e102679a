"""Who is held out and which rows of an entity count: decided by keyed hashes, for good.

A record's side depends on its entity and the member's secret alone: re-ordering the file,
appending to it or changing the contract's ranges moves nobody across.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset


@dataclass(frozen=True)
class Split:
    """Training and held-out records; no entity is in both."""

    train: Dataset
    holdout: Dataset

    def without(self, entities: Collection[bytes]) -> Split:
        """The records of all other entities, each on its side as before."""
        gone = np.array(sorted(entities), dtype="S32")
        parts = (it.take(~np.isin(it.entities, gone)) for it in (self.train, self.holdout))
        return Split(*parts)


def split(
    records: Dataset,
    *,
    secret: bytes,
    holdout: float,
    max_records: int = 1,
) -> Split:
    """Hold out about the share `holdout` of the entities.

    Parameters
    ----------
    secret : key of the hashes, the member's own
    max_records : most rows of one entity that are used, on either side
    """
    draws = keyed_hashes(records.entities, secret, b"split")
    kept = _at_most(records, draws, secret, max_records)
    held = draws < np.uint64(min(int(holdout * 2**64), 2**64 - 1))
    return Split(records.take(kept & ~held), records.take(kept & held))


def keyed_hashes(ids: NDArray[np.bytes_], secret: bytes, purpose: bytes) -> NDArray[np.uint64]:
    """First 64 bits of HMAC-SHA256(secret, purpose | id). Shape [n]."""
    key = hmac.new(secret, purpose, hashlib.sha256)
    words = bytearray()
    for name in ids.tolist():
        keyed = key.copy()
        keyed.update(name)
        words += keyed.digest()[:8]
    return np.frombuffer(bytes(words), dtype=">u8").astype(np.uint64)


def _at_most(records: Dataset, draws: NDArray[np.uint64], secret: bytes, most: int) -> NDArray[np.bool_]:
    """Rows kept when each entity has at most `most` of them, chosen by a keyed hash of their content."""
    rows = len(records)
    if len(np.unique(draws)) == rows:
        return np.ones(rows, dtype=np.bool_)
    row_bytes = (x.tobytes() + y.tobytes() for x, y in zip(records.X, records.y, strict=True))
    content = np.array([hashlib.sha256(row).hexdigest() for row in row_bytes], dtype="S64")
    order = np.lexsort((keyed_hashes(content, secret, b"row"), draws))
    first = np.ones(rows, dtype=np.bool_)
    first[1:] = draws[order][1:] != draws[order][:-1]
    starts = np.flatnonzero(first)
    rank = np.arange(rows) - np.repeat(starts, np.diff(np.append(starts, rows)))
    kept = np.zeros(rows, dtype=np.bool_)
    kept[order[rank < most]] = True
    return kept
