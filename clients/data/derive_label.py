"""What a label column is: yes or no, one of a few classes, or a number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from hansa.clients.data.columns import as_numbers, as_texts
from hansa.contract.errors import DataError
from hansa.contract.features import BinaryLabel, Label, MulticlassLabel, RegressionLabel

if TYPE_CHECKING:
    import polars as pl

YES = ("1", "yes", "true", "y", "t", "positive", "pos")
# Spellings that a numeric column may have beside digits.
TRUTH = {"true", "True", "TRUE", "false", "False", "FALSE"}
# Whole numbers or texts with at most this many values are classes.
MOST_NUMBERED_CLASSES = 10
MOST_CLASSES = 100


def derive_label(name: str, parts: list[pl.Series]) -> Label:
    """The label's kind, values and public prevalence or range.

    Raises
    ------
    DataError : no value, one value, or too many texts to be classes
    """
    counts: dict[str, int] = {}
    for part in parts:
        for text, count in as_texts(part).drop_nulls().value_counts().iter_rows():
            counts[text] = counts.get(text, 0) + count
    if len(counts) < 2:
        found = f"always '{next(iter(counts))}'" if counts else "empty everywhere"
        raise DataError(f"the label column '{name}' is {found}; there is nothing to learn")
    if len(counts) == 2:
        positive = _positive(counts)
        negative = next(text for text in counts if text != positive)
        prevalence = one_digit(counts[positive] / sum(counts.values()))
        return BinaryLabel(
            column=name, positive=positive, negative=negative, prevalence=min(max(prevalence, 1e-6), 0.99)
        )
    numbers = [as_numbers(part) for part in parts]
    numeric = not any(number.bad for number in numbers)
    values = np.concatenate([number.values for number in numbers])
    whole = numeric and bool((values[~np.isnan(values)] % 1.0 == 0).all())
    if len(counts) <= (MOST_NUMBERED_CLASSES if whole else 0 if numeric else MOST_CLASSES):
        classes = sorted(counts, key=float) if whole and TRUTH.isdisjoint(counts) else sorted(counts)
        return MulticlassLabel(column=name, classes=tuple(classes))
    if not numeric:
        raise DataError(
            f"the label column '{name}' has {len(counts)} different texts; at most {MOST_CLASSES} are classes"
        )
    low, high = np.nanquantile(values, [0.001, 0.999])
    unit = 10.0 ** (math.floor(math.log10(high - low)) - 1)
    return RegressionLabel(column=name, low=math.floor(low / unit) * unit, high=math.ceil(high / unit) * unit)


def one_digit(value: float) -> float:
    """A positive number to one significant digit."""
    return float(f"{value:.0e}")


def _positive(counts: dict[str, int]) -> str:
    """The value that says yes; where none does, the larger number, else the rarer text."""
    for text in counts:
        if text.lower() in YES:
            return text
    try:
        return max(counts, key=float)
    except ValueError:
        return min(counts, key=lambda text: (counts[text], text))
