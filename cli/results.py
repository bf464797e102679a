"""What a finished job is worth: figures from held-out records, the JSON object and the tables of a result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import InputError
from hansa.contract.features import Label
from hansa.contract.jobs import MetricValue

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[np.float64]
# Released figures in this order, whatever order they arrive in; others after them.
_FIRST = ("auc", "log_loss", "accuracy", "rmse", "mae", "calibration")


@dataclass(frozen=True)
class HeldOut:
    """A member's held-out labels [n] and the final model's predictions for them, [n] or [n, k]."""

    labels: Array
    scores: Array


@dataclass(frozen=True)
class Figure:
    """One exact figure: over members, over all their records, and of each; None where it is undefined."""

    mean: float | None
    all_records: float | None
    per_member: dict[str, float | None]

    def as_json(self) -> dict[str, Any]:
        """As it stands in `local`."""
        return {"mean": self.mean, "all_records": self.all_records, "per_member": self.per_member}


@dataclass(frozen=True)
class RoundLine:
    """One applied round; `metrics` are the released figures of the model it led to."""

    round: int
    seconds: float
    cohort: tuple[str, ...]
    metrics: Mapping[str, MetricValue]

    def as_json(self) -> dict[str, Any]:
        """As it stands in `rounds`; `errors` only where noise was added."""
        errors = {name: metric.error for name, metric in self.metrics.items() if metric.error is not None}
        return {
            "round": self.round,
            "seconds": round(self.seconds, 4),
            "cohort": list(self.cohort),
            "metrics": {name: metric.value for name, metric in self.metrics.items()},
            **({"errors": errors} if errors else {}),
        }


def read_held_out(path: Path) -> HeldOut:
    """What an agent with `keep_scores` left in its folder when the job was closed.

    Raises
    ------
    InputError : the file is missing or holds something else
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return HeldOut(labels=np.asarray(arrays["labels"]), scores=np.asarray(arrays["scores"]))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; the agent writes it when a job is closed") from None
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: expected arrays 'labels' and 'scores': {error}") from None


def exact_figures(held_out: Mapping[str, HeldOut], label: Label) -> dict[str, Figure]:
    """Exact figures by name (auc, log_loss, accuracy, or rmse, mae) of predictions on held-out records."""
    from hansa.models.metrics import figures

    def defined(found: dict[str, float], name: str) -> float | None:
        value = found.get(name, math.nan)
        return value if math.isfinite(value) else None

    if not held_out:
        return {}
    parts = {name: figures(part.scores, part.labels, label) for name, part in held_out.items()}
    together = figures(
        np.concatenate([part.scores for part in held_out.values()]),
        np.concatenate([part.labels for part in held_out.values()]),
        label,
    )
    result = {}
    for name in together:
        per_member = {member: defined(part, name) for member, part in parts.items()}
        known = [value for value in per_member.values() if value is not None]
        mean = sum(known) / len(known) if known else None
        result[name] = Figure(mean, defined(together, name), per_member)
    return result


def result_object(
    status: str,
    rounds: Sequence[RoundLine],
    *,
    released: Mapping[str, MetricValue],
    local: Mapping[str, Figure],
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The object that `--json` prints as its last line."""
    return {
        "status": status,
        "rounds": [line.as_json() for line in rounds],
        "released": {name: metric.model_dump() for name, metric in released.items()},
        "local": {name: figure.as_json() for name, figure in local.items()},
        **(more or {}),
    }


def rounds_table(rounds: Sequence[RoundLine], *, width: int, last: int | None = None) -> Table:
    """One line a round.

    Parameters
    ----------
    width : of the screen; figures that have no room on it are named below
    last : only the newest so many
    """
    from rich.table import Table

    shown = rounds[-last:] if last else rounds
    released = {name for line in rounds for name in line.metrics}
    names = sorted(released, key=lambda it: (_FIRST.index(it) if it in _FIRST else len(_FIRST), it))
    columns = [
        ("round", [str(it.round) for it in shown]),
        ("members", [str(len(it.cohort)) for it in shown]),
        ("seconds", [f"{it.seconds:.2f}" for it in shown]),
        *((name, [shown_metric(it.metrics.get(name)) for it in shown]) for name in names),
    ]
    # A cell has a border and a blank on either side.
    ends = list(accumulate(max(map(len, (name, *cells))) + 3 for name, cells in columns))
    fitting = sum(end < width for end in ends)
    left_out = [name for name, _ in columns[fitting:]]
    table = Table(
        *(name for name, _ in columns[:fitting]),
        caption=f"no room for {', '.join(left_out)}: a wider screen or --json" if left_out else None,
        caption_justify="left",
    )
    for row in zip(*(cells for _, cells in columns[:fitting]), strict=True):
        table.add_row(*row)
    return table


def local_table(local: Mapping[str, Figure], titles: Mapping[str, str] | None = None) -> Table:
    """Exact figures: one line a member, then their mean and all records together."""
    from rich.table import Table

    table = Table("on held-out records", *local)
    for member in next(iter(local.values())).per_member if local else ():
        row = (shown_figure(figure.per_member[member]) for figure in local.values())
        table.add_row((titles or {}).get(member) or member, *row)
    table.add_section()
    table.add_row("mean of members", *(shown_figure(figure.mean) for figure in local.values()))
    table.add_row("all records", *(shown_figure(figure.all_records) for figure in local.values()))
    return table


def shown_figure(value: float | None) -> str:
    """Four significant digits, or a dash where a figure is undefined."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def shown_metric(metric: MetricValue | None) -> str:
    """A released figure; where noise was added with its standard error, and no more digits than that leaves."""
    if metric is None:
        return "-"
    if metric.error is None or not (math.isfinite(metric.value) and 0 < metric.error < math.inf):
        return shown_figure(metric.value)
    # Two digits of an error that begins with 1, else one.
    first = math.floor(math.log10(metric.error))
    decimals = max((1 if metric.error < 2 * 10.0**first else 0) - first, 0)
    return f"{metric.value:.{decimals}f} ± {metric.error:.{decimals}f}"
