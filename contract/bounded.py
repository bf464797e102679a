"""Collections of a process that lives long: whatever is put in, they stay as large as they were made."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, MutableMapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedDict(MutableMapping[K, V]):
    """A mapping that forgets what was used longest ago. Not for what must not be forgotten.

    Parameters
    ----------
    most : entries at most
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"a bounded mapping holds at least one entry, not {most}")
        self.most = most
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __getitem__(self, key: K) -> V:
        value = self._entries[key]
        self._entries.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        while len(self._entries) > self.most:
            self._entries.popitem(last=False)

    def __delitem__(self, key: K) -> None:
        del self._entries[key]

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._entries))

    def __contains__(self, key: object) -> bool:
        # Being looked for is not being used.
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)


def bounded_log(most: int) -> deque[V]:
    """The newest entries, at most so many."""
    if most < 1:
        raise ValueError(f"a bounded log holds at least one entry, not {most}")
    return deque(maxlen=most)
