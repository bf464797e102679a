"""The feature contract: which columns a record has, agreed in the charter.

Every member builds the same model columns from it without looking at anybody's data:
ranges, categories and the values that stand in for missing ones are public constants.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hansa.contract.typed import Frozen, canonical_json

Name = Annotated[str, Field(min_length=1, max_length=200)]


class NumericColumn(Frozen):
    """A number, clipped to its public range [low, high], scaled to a width of 4 with `missing` at 0.

    `missing` stands in for an absent value and ought to be a typical one (default: the middle
    of the range, which scales to [-2, 2]): training is fastest where most values are near 0.
    `indicator` adds a 0/1 model column "was missing". `log` scales log(1 + x - low).
    `optional`: a table without this column counts as one where every value is absent.
    """

    kind: Literal["numeric"] = "numeric"
    name: Name
    low: float
    high: float
    missing: float | None = None
    indicator: bool = False
    log: bool = False
    optional: bool = False
    derived: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> NumericColumn:
        if not self.low < self.high:
            raise ValueError(f"low must be below high in column '{self.name}'")
        if self.missing is not None and not self.low <= self.missing <= self.high:
            raise ValueError(f"missing must lie in [low, high] in column '{self.name}'")
        return self

    @property
    def encoded(self) -> tuple[str, ...]:
        """Names of the model columns this column becomes."""
        return (self.name, f"{self.name}=missing") if self.indicator else (self.name,)


class CategoricalColumn(Frozen):
    """One of a public list of categories, as 0/1 model columns; the first category is the reference.

    `missing` names the category that stands in for an absent value; without it an absent
    value is all zeros plus its own indicator column. `other`, where given, takes values
    outside the list; without it such a value is an error.
    """

    kind: Literal["categorical"] = "categorical"
    name: Name
    categories: Annotated[tuple[Name, ...], Field(min_length=2, max_length=1000)]
    missing: str | None = None
    other: str | None = None
    optional: bool = False
    derived: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> CategoricalColumn:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError(f"categories repeat in column '{self.name}'")
        for field, value in (("missing", self.missing), ("other", self.other)):
            if value is not None and value not in self.categories:
                raise ValueError(f"{field} '{value}' is not among the categories of column '{self.name}'")
        return self

    @property
    def encoded(self) -> tuple[str, ...]:
        """Names of the model columns this column becomes."""
        names = tuple(f"{self.name}={category}" for category in self.categories[1:])
        return names if self.missing is not None else (*names, f"{self.name}=missing")


Column = Annotated[NumericColumn | CategoricalColumn, Field(discriminator="kind")]


class BinaryLabel(Frozen):
    """Yes or no; `positive` is the value of the label column that means yes.

    `prevalence` is the public share of yes, to about one digit: training starts at its
    log-odds, and the bins of released score histograms are laid around it.
    """

    kind: Literal["binary"] = "binary"
    column: Name = "y"
    positive: str = "1"
    negative: str = "0"
    prevalence: Annotated[float, Field(gt=0, lt=1)] = 0.5


class MulticlassLabel(Frozen):
    """One of k public classes."""

    kind: Literal["multiclass"] = "multiclass"
    column: Name = "y"
    classes: Annotated[tuple[Name, ...], Field(min_length=3, max_length=1000)]


class RegressionLabel(Frozen):
    """A number in the public range [low, high]; values outside are clipped."""

    kind: Literal["regression"] = "regression"
    column: Name = "y"
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> RegressionLabel:
        if not self.low < self.high:
            raise ValueError("label: low must be below high")
        return self


Label = Annotated[BinaryLabel | MulticlassLabel | RegressionLabel, Field(discriminator="kind")]


class FeatureContract(Frozen):
    """All columns, the label, and who counts as one entity (default: the row)."""

    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=10_000)]
    label: Label
    entity: str | None = None
    # Public share of records kept aside for evaluation, chosen by a keyed hash of the entity.
    holdout: Annotated[float, Field(ge=0.05, le=0.5)] = 0.2

    @model_validator(mode="after")
    def _names_are_distinct(self) -> FeatureContract:
        names = [column.name for column in self.columns]
        taken = {self.label.column} | ({self.entity} if self.entity else set())
        seen: set[str] = set()
        for name in names:
            if name in seen:
                raise ValueError(f"column '{name}' appears twice")
            seen.add(name)
            if name in taken:
                raise ValueError(f"column '{name}' is the label or the entity and cannot be a feature too")
        return self

    @property
    def encoded(self) -> tuple[str, ...]:
        """Names of the model columns, in order, without the intercept."""
        return tuple(name for column in self.columns for name in column.encoded)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole contract, hex: under two that share it the same rows mean the same."""
        return hashlib.sha256(canonical_json(self)).hexdigest()

    @property
    def outputs(self) -> int:
        """Model outputs: k for multiclass(k), else 1."""
        return len(self.label.classes) if isinstance(self.label, MulticlassLabel) else 1
