"""What a scoring process counts, in one flat array of float64, so that processes which serve together can share it.

A count costs an addition; text for Prometheus is made when somebody asks. Each process writes its own row, whoever is
asked adds all rows up. A row that is written while it is read is a request older or newer, never a torn number.
"""

from __future__ import annotations

import resource
from bisect import bisect_left
from collections.abc import Iterator, MutableSequence
from dataclasses import dataclass

from hansa.contract.exposition import exposition
from hansa.contract.features import FeatureContract
from hansa.contract.process_figures import process_figures

PATHS = ("/v1/score", "/v1/score/batch", "other")
CODES = (200, 400, 401, 404, 405, 408, 413, 415, 422, 500, 503)
# Upper bounds of the latency histogram, seconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_REQUESTS = len(PATHS) * len(CODES)
_HISTOGRAM = len(BUCKETS) + 2  # and above the last one, and the sum
_SINGLES = ("in_flight", "rows", "swaps", "refused", "cpu", "memory")
_PAGE = resource.getpagesize()
_ADDED_UP = ("process_cpu_seconds_total", "process_resident_memory_bytes")


@dataclass(frozen=True)
class Place:
    """Where in a row the counts of a contract's columns stand."""

    columns: int

    @property
    def clipped(self) -> int:
        return _REQUESTS + len(PATHS) * _HISTOGRAM + len(_SINGLES)

    @property
    def slots(self) -> int:
        """Numbers of one process."""
        return self.clipped + 2 * self.columns


class Tally:
    """The counts of one process.

    Parameters
    ----------
    shared : float64 of all processes, `Place.slots` each; None: this process serves alone
    own : which of the rows is this process's
    """

    def __init__(
        self, features: FeatureContract, shared: MutableSequence[float] | None = None, own: int = 0
    ) -> None:
        self._names = [column.name for column in features.columns]
        self._place = place = Place(len(self._names))
        self._all = [0.0] * place.slots if shared is None else shared
        self._start = own * place.slots
        self._clipped = self._start + place.clipped
        self._absent = self._clipped + place.columns
        # What a process that stood in this row before left open.
        self.add("in_flight", -self._all[self._single("in_flight")])

    def add(self, name: str, amount: float = 1.0) -> None:
        """Add to one of the single figures."""
        self._all[self._single(name)] += amount

    def clipped(self, column: int, count: int = 1) -> None:
        """Count numbers outside their column's declared range."""
        self._all[self._clipped + column] += count

    def absent(self, column: int, count: int = 1) -> None:
        """Count absent values of a column."""
        self._all[self._absent + column] += count

    def answered(self, path: int, code: int, seconds: float) -> None:
        """Count an answer to `PATHS[path]` and how long it took."""
        start = self._start
        self._all[start + path * len(CODES) + (CODES.index(code) if code in CODES else CODES.index(500))] += (
            1.0
        )
        histogram = start + _REQUESTS + path * _HISTOGRAM
        self._all[histogram + bisect_left(BUCKETS, seconds)] += 1.0
        self._all[histogram + _HISTOGRAM - 1] += seconds

    def look(self) -> None:
        """Note what this process used so far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._all[self._single("cpu")] = used.ru_utime + used.ru_stime
        with open("/proc/self/statm") as file:
            self._all[self._single("memory")] = float(file.read().split()[1]) * _PAGE

    def text(self, facts: dict[str, str], loaded: float, ready: bool) -> str:
        """All processes' counts as Prometheus reads them.

        Parameters
        ----------
        facts : labels that say which model this process serves
        loaded : when it was loaded, seconds since the epoch
        """
        self.look()
        slots = self._place.slots
        rows = [self._all[start : start + slots] for start in range(0, len(self._all), slots)]
        sums = [sum(numbers) for numbers in zip(*rows, strict=True)]
        # What is added up over all processes is left out: these are of the one that answers.
        own = [it for it in process_figures("scoring")() if it.family.name not in _ADDED_UP]
        return "\n".join([*self._lines(sums), *_model_lines(facts, loaded, ready)]) + "\n" + exposition(own)

    def _lines(self, sums: list[float]) -> Iterator[str]:
        yield "# HELP hansa_scoring_requests_total Answers by path and status."
        yield "# TYPE hansa_scoring_requests_total counter"
        for place, path in enumerate(PATHS):
            for offset, code in enumerate(CODES):
                if count := sums[place * len(CODES) + offset]:
                    yield f'hansa_scoring_requests_total{{path="{path}",code="{code}"}} {count:.0f}'
        yield "# HELP hansa_scoring_seconds From a request's start in the application to its answer."
        yield "# TYPE hansa_scoring_seconds histogram"
        for place, path in enumerate(PATHS[:2]):
            yield from _histogram(path, sums[_REQUESTS + place * _HISTOGRAM :][:_HISTOGRAM])
        singles = sums[_REQUESTS + len(PATHS) * _HISTOGRAM :]
        for (name, kind, help_), value in zip(_FIGURES, singles, strict=False):
            yield from (f"# HELP {name} {help_}", f"# TYPE {name} {kind}", f"{name} {value:.10g}")
        for name, start in (
            ("clipped", self._place.clipped),
            ("absent", self._place.clipped + self._place.columns),
        ):
            yield f"# HELP hansa_scoring_{name}_values_total Values of a column that were {name}."
            yield f"# TYPE hansa_scoring_{name}_values_total counter"
            for column, count in zip(self._names, sums[start:], strict=False):
                yield f'hansa_scoring_{name}_values_total{{column="{_escaped(column)}"}} {count:.0f}'

    def _single(self, name: str) -> int:
        return self._start + _REQUESTS + len(PATHS) * _HISTOGRAM + _SINGLES.index(name)


# In the order of _SINGLES.
_FIGURES = (
    ("hansa_scoring_in_flight", "gauge", "Requests that are being answered."),
    ("hansa_scoring_rows_total", "counter", "Rows that were scored."),
    ("hansa_scoring_swaps_total", "counter", "Models that took another's place."),
    (
        "hansa_scoring_refused_models_total",
        "counter",
        "Model files that were refused while another one served.",
    ),
    ("process_cpu_seconds_total", "counter", "Processor time used."),
    ("process_resident_memory_bytes", "gauge", "Memory held."),
)


def _histogram(path: str, counts: list[float]) -> Iterator[str]:
    below = 0.0
    for bound, count in zip((*(f"{it:g}" for it in BUCKETS), "+Inf"), counts, strict=False):
        below += count
        yield f'hansa_scoring_seconds_bucket{{path="{path}",le="{bound}"}} {below:.0f}'
    yield f'hansa_scoring_seconds_sum{{path="{path}"}} {counts[-1]:.10g}'
    yield f'hansa_scoring_seconds_count{{path="{path}"}} {below:.0f}'


def _model_lines(facts: dict[str, str], loaded: float, ready: bool) -> Iterator[str]:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in facts.items())
    yield "# HELP hansa_scoring_model_info Which model this process serves."
    yield "# TYPE hansa_scoring_model_info gauge"
    yield f"hansa_scoring_model_info{{{labels}}} 1"
    yield "# HELP hansa_scoring_model_loaded_timestamp_seconds When it was loaded, seconds since the epoch."
    yield "# TYPE hansa_scoring_model_loaded_timestamp_seconds gauge"
    yield f"hansa_scoring_model_loaded_timestamp_seconds {loaded:.3f}"
    yield "# HELP hansa_scoring_ready 1 while it takes requests, 0 while it drains."
    yield "# TYPE hansa_scoring_ready gauge"
    yield f"hansa_scoring_ready {int(ready)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
