"""Cases of a test that only the slow suite runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def cases(every: Iterable[Any], *, quick: Callable[[Any], bool]) -> list[Any]:
    """All cases of a parametrised test; those that are not quick are marked slow."""
    made = []
    for case in every:
        values = case if isinstance(case, tuple) else (case,)
        made.append(pytest.param(*values, marks=() if quick(case) else pytest.mark.slow))
    return made
