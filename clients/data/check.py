"""Where a table departs from the feature contract, column by column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.columns import as_numbers, as_texts, scaled
from hansa.clients.data.sources import origin, read_source
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    Column,
    FeatureContract,
    Label,
    MulticlassLabel,
    NumericColumn,
)
from hansa.contract.sources import Source
from hansa.contract.typed import Frozen

if TYPE_CHECKING:
    import polars as pl

# A range fits where it reaches two standard deviations to either side; columns are scaled so that these are 1.
# Under this share of it the declared range looks too wide, and a job's contract check would correct it.
LEAST_SPREAD = 0.5


class Finding(Frozen):
    """One departure; an `error` keeps the table from being used."""

    level: Literal["error", "warning"]
    sentence: str


class ColumnReport(Frozen):
    """One column of the contract against the table. Shares are of all rows; spread is the 1-99 % range."""

    name: str
    role: Literal["feature", "label", "entity"]
    kind: str
    missing: float = 0.0
    clipped: float = 0.0
    clipped_rows: int = 0
    unknown: tuple[str, ...] = ()
    spread: tuple[float, float] | None = None
    findings: tuple[Finding, ...] = ()


class DataReport(Frozen):
    """All columns of the contract; `extra` names columns of the table that it does not use."""

    origin: str
    rows: int
    columns: tuple[ColumnReport, ...]
    extra: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[str, ...]:
        """Sentences naming file, column and row, in the order of the contract."""
        return self._sentences("error")

    @property
    def warnings(self) -> tuple[str, ...]:
        """As `errors`: what is allowed but probably not meant."""
        return self._sentences("warning")

    def _sentences(self, level: str) -> tuple[str, ...]:
        return tuple(
            f"{self.origin}: column '{column.name}'{finding.sentence}"
            for column in self.columns
            for finding in column.findings
            if finding.level == level
        )


def check_data(source: Source, features: FeatureContract, folder: Path) -> DataReport:
    """Read a member's source and hold it against the contract; relative paths start at `folder`.

    Raises
    ------
    DataError : the source cannot be read at all
    """
    return check_table(read_source(source, folder), features, origin(source, folder))


def check_table(table: pl.DataFrame, features: FeatureContract, origin: str) -> DataReport:
    """Hold a table against the contract; nothing is raised. Rows in sentences count from 1 below the header."""
    reports = [_check_label(table, features.label)]
    if features.entity is not None:
        reports.append(_check_entity(table, features.entity))
    reports += [_check_feature(table, column) for column in features.columns]
    used = {report.name for report in reports}
    extra = tuple(name for name in table.columns if name not in used)
    return DataReport(origin=origin, rows=table.height, columns=tuple(reports), extra=extra)


def _check_label(table: pl.DataFrame, label: Label) -> ColumnReport:
    name, findings = label.column, []
    if name not in table.columns:
        found = ", ".join(table.columns[:8]) + (", ..." if table.width > 8 else "")
        return _absent(name, "label", label.kind, f" is missing: it is the label; the table has {found}")
    texts = as_texts(table[name])
    missing = texts.null_count() / max(table.height, 1)
    if missing == 1.0:
        findings.append(_error(": no row has a label"))
    if isinstance(label, BinaryLabel | MulticlassLabel):
        known = [label.negative, label.positive] if isinstance(label, BinaryLabel) else list(label.classes)
        outside = texts.is_not_null() & ~texts.is_in(known)
        row = outside.arg_max()
        if row is not None and outside[row]:
            expected = " or ".join(f"'{value}'" for value in known[:6])
            findings.append(_error(f", row {row + 1}: expected {expected}, found '{texts[row]}'"))
        elif missing < 1.0 and texts.drop_nulls().n_unique() < 2:
            findings.append(
                _warning(": all labels are the same; nothing can be learnt from this table alone")
            )
    else:
        numbers = as_numbers(table[name])
        if numbers.bad:
            findings.append(
                _error(f", row {numbers.bad[0] + 1}: expected a number, found '{numbers.bad[1]}'")
            )
    if 0.0 < missing < 1.0:
        findings.append(_warning(f": {missing:.1%} of the rows have no label and are left out"))
    return ColumnReport(name=name, role="label", kind=label.kind, missing=missing, findings=tuple(findings))


def _check_entity(table: pl.DataFrame, name: str) -> ColumnReport:
    if name not in table.columns:
        return _absent(name, "entity", "text", " is missing: it says whom a row belongs to")
    series = as_texts(table[name])
    findings = []
    row = series.is_null().arg_max()
    if row is not None and series[row] is None:
        findings.append(_error(f", row {row + 1}: empty; every row must say whom it belongs to"))
    return ColumnReport(name=name, role="entity", kind="text", findings=tuple(findings))


def _check_feature(table: pl.DataFrame, column: Column) -> ColumnReport:
    if column.name not in table.columns:
        if column.optional:
            note = _warning(" is missing; it is optional and counts as absent in every row")
            return ColumnReport(
                name=column.name, role="feature", kind=column.kind, missing=1.0, findings=(note,)
            )
        return _absent(
            column.name, "feature", column.kind, f" is missing: the contract has it as {column.kind}"
        )
    if isinstance(column, NumericColumn):
        return _check_numeric(table[column.name], column)
    return _check_categorical(table[column.name], column)


def _check_numeric(series: pl.Series, column: NumericColumn) -> ColumnReport:
    numbers = as_numbers(series)
    findings = []
    if numbers.bad:
        findings.append(_error(f", row {numbers.bad[0] + 1}: expected a number, found '{numbers.bad[1]}'"))
    present = numbers.values[~np.isnan(numbers.values)]
    rows = max(len(series), 1)
    outside = int(((present < column.low) | (present > column.high)).sum())
    spread = None
    if present.size:
        low, high = np.quantile(present, [0.01, 0.99])
        spread = (float(low), float(high))
        if present.min() == present.max():
            findings.append(_warning(f": constant, always {present[0]:g}"))
        elif (share := _spread(present, column)) < LEAST_SPREAD:
            findings.append(
                _warning(
                    f": the declared range {column.low:g} to {column.high:g} looks too wide: the data spread over "
                    f"{share:.0%} of what it allows for, 98 % of them in {low:g} to {high:g}; under noise this costs "
                    "accuracy, so declare a narrower one or let jobs begin with the contract check"
                )
            )
    if outside > 0.1 * rows:
        bounds = f"{column.low:g} to {column.high:g}"
        findings.append(_warning(f": {outside / rows:.0%} of the rows lie outside {bounds} and are clipped"))
    missing = 1.0 - present.size / rows
    return ColumnReport(
        name=column.name,
        role="feature",
        kind="numeric",
        missing=missing,
        clipped=outside / rows,
        clipped_rows=outside,
        spread=spread,
        findings=(*findings, *_mostly_missing(missing, column.indicator)),
    )


def _spread(present: NDArray[np.float64], column: NumericColumn) -> float:
    """Standard deviation of the column as it is encoded: 1 where the declared range fits the data."""
    return float(np.std(scaled(np.clip(present, column.low, column.high), column)))


def _check_categorical(series: pl.Series, column: CategoricalColumn) -> ColumnReport:
    texts = as_texts(series)
    outside = texts.is_not_null() & ~texts.is_in(list(column.categories))
    unknown = tuple(sorted(texts.filter(outside).unique().to_list())[:20])
    findings = []
    row = outside.arg_max()
    if unknown and row is not None:
        if column.other is None:
            known = ", ".join(column.categories[:6]) + (", ..." if len(column.categories) > 6 else "")
            findings.append(
                _error(f", row {row + 1}: category '{texts[row]}' is not in the contract ({known})")
            )
        else:
            share = float(outside.to_numpy().mean())
            findings.append(
                _warning(f": {share:.1%} of the rows have other categories, taken as '{column.other}'")
            )
    present = texts.drop_nulls()
    if present.n_unique() == 1:
        findings.append(_warning(f": constant, always '{present[0]}'"))
    missing = texts.null_count() / max(len(series), 1)
    return ColumnReport(
        name=column.name,
        role="feature",
        kind="categorical",
        missing=missing,
        unknown=unknown,
        findings=(*findings, *_mostly_missing(missing, True)),
    )


def _mostly_missing(share: float, indicator: bool) -> tuple[Finding, ...]:
    if share == 1.0:
        return (_warning(": every value is absent"),)
    if share > 0.2 and not indicator:
        return (
            _warning(f": {share:.0%} of the values are absent and the contract has no indicator for that"),
        )
    return ()


def _absent(name: str, role: Literal["feature", "label", "entity"], kind: str, sentence: str) -> ColumnReport:
    return ColumnReport(name=name, role=role, kind=kind, missing=1.0, findings=(_error(sentence),))


def _error(sentence: str) -> Finding:
    return Finding(level="error", sentence=sentence)


def _warning(sentence: str) -> Finding:
    return Finding(level="warning", sentence=sentence)
