"""Figures of a process as Prometheus' text format has them (version 0.0.4).

Own text, because a process that watches others has to stay small: prometheus-client brings servers and bridges of which
nothing is used here. What it does have, a parser, reads every page in the tests.

A family's labels are bounded: from `most` combinations on, what is new is counted as `other`. No label is ever a
record, a path or a sentence.
"""

from __future__ import annotations

import logging
import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]

log = logging.getLogger("hansa.metrics")


@dataclass(frozen=True)
class Family:
    """A metric: its name, what it means in one sentence, and by what it is divided.

    Parameters
    ----------
    labels : names of its labels
    most : combinations of their values at most
    buckets : of a histogram, upper bounds that rise; one above all others is understood

    Raises
    ------
    ValueError : the name is not one that Prometheus' conventions allow for its kind
    """

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    most: int = 200
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "counter") != self.name.endswith("_total"):
            raise ValueError(f"{self.name}: a counter's name ends in _total, and no other's does")
        if (self.kind == "histogram") != bool(self.buckets):
            raise ValueError(f"{self.name}: a histogram has buckets, and nothing else has")
        if not self.help.endswith("."):
            raise ValueError(f"{self.name}: its help is a sentence")


@dataclass(frozen=True)
class Figure:
    """Values of a family now, by the values of its labels."""

    family: Family
    values: Mapping[Labels, float]


@dataclass
class Distribution:
    """How many observations fell into each bucket, the one above the last bound included, and their sum."""

    counts: list[float]
    total: float = 0.0


@dataclass(frozen=True)
class Histogram:
    """Distributions of a family now, by the values of its labels."""

    family: Family
    values: Mapping[Labels, Distribution]


Shown = Figure | Histogram
Source = Callable[[], Iterable[Shown]]


def one(family: Family, value: float) -> Figure:
    """The value of a family without labels."""
    return Figure(family, {(): float(value)})


def exposition(shown: Iterable[Shown], common: Mapping[str, str] | None = None) -> str:
    """A page; what more a family has than `most` is added up under `other`.

    Parameters
    ----------
    common : labels of every series, names to values; a family's own label of that name stays as it is
    """
    return "".join(f"{line}\n" for it in shown for line in _lines(it, common or {}))


def _lines(shown: Shown, common: Mapping[str, str]) -> Iterator[str]:
    family = shown.family
    added = {name: value for name, value in common.items() if name not in family.labels}
    names, before = (*added, *family.labels), tuple(added.values())
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    if isinstance(shown, Figure):
        for labels, value in _bounded(family, shown.values).items():
            yield f"{family.name}{_braces(names, (*before, *labels))} {_number(value)}"
        return
    for labels, distribution in shown.values.items():
        below = 0.0
        for bound, count in zip((*family.buckets, math.inf), distribution.counts, strict=True):
            below += count
            values = (*before, *labels, _number(bound))
            yield f"{family.name}_bucket{_braces((*names, 'le'), values)} {below:.0f}"
        braces = _braces(names, (*before, *labels))
        yield f"{family.name}_sum{braces} {_number(distribution.total)}"
        yield f"{family.name}_count{braces} {below:.0f}"


def _bounded(family: Family, values: Mapping[Labels, float]) -> Mapping[Labels, float]:
    if len(values) <= family.most:
        return values
    kept, other = {}, 0.0
    for place, (labels, value) in enumerate(values.items()):
        if place < family.most:
            kept[labels] = value
        else:
            other += value
    rest = (OTHER,) * len(family.labels)
    kept[rest] = kept.get(rest, 0.0) + other
    return kept


def _braces(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else f"{value:.12g}"


@dataclass
class Meter:
    """What one process counts, and what is looked up when somebody asks. Safe to use from several threads.

    Parameters
    ----------
    owner : labels that tell its series from those of other processes where several pages are merged into one
    """

    sources: list[Source] = field(default_factory=list)
    owner: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._figures: dict[Family, dict[Labels, float]] = {}
        self._histograms: dict[Family, dict[Labels, Distribution]] = {}

    def declare(self, *families: Family) -> None:
        """Show these from the start: those without labels as 0, the others with no value yet."""
        with self._lock:
            for family in families:
                if family.kind == "histogram":
                    self._histograms.setdefault(family, {})
                else:
                    self._figures.setdefault(family, {} if family.labels else {(): 0.0})

    def add(self, family: Family, *labels: str, by: float = 1.0) -> None:
        """Count."""
        with self._lock:
            values = self._figures.setdefault(family, {})
            key = _place(family, values, labels)
            values[key] = values.get(key, 0.0) + by

    def set(self, family: Family, *labels: str, to: float) -> None:
        """Note what a gauge stands at."""
        with self._lock:
            values = self._figures.setdefault(family, {})
            values[_place(family, values, labels)] = float(to)

    def observe(self, family: Family, value: float, *labels: str) -> None:
        """Put one observation into its bucket."""
        with self._lock:
            values = self._histograms.setdefault(family, {})
            key = _place(family, values, labels)
            found = values.get(key)
            if found is None:
                found = values[key] = Distribution([0.0] * (len(family.buckets) + 1))
            found.counts[bisect_left(family.buckets, value)] += 1.0
            found.total += value

    def shown(self) -> list[Shown]:
        """Everything there is now. A source that fails is left out, and the log says so."""
        found: list[Shown] = []
        for source in self.sources:
            try:
                found.extend(source())
            except Exception:
                log.exception("some figures could not be read and are left out")
        with self._lock:
            found += [Figure(family, dict(values)) for family, values in self._figures.items()]
            for family, distributions in self._histograms.items():
                copied = {key: Distribution(list(it.counts), it.total) for key, it in distributions.items()}
                found.append(Histogram(family, copied))
        return found

    def text(self, *, owned: bool = False) -> str:
        """The page; `owned`: every series says whose it is."""
        return exposition(self.shown(), self.owner if owned else None)


def _place(family: Family, values: Mapping[Labels, object], labels: Labels) -> Labels:
    if labels in values or len(values) < family.most:
        return labels
    return (OTHER,) * len(family.labels)
