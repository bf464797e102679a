"""Hansa in a notebook or a script: the commands' names as functions, results as frames.

    import hansa

    result = hansa.simulate("consortium", rounds=3)
    result.rounds            # a polars frame, one row a round
    result.plot("auc")       # drawn by the notebook, an SVG

Errors are `hansa.HansaError`s, with the sentences of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hansa.cli.overrides import override
from hansa.cli.results import Figure, HeldOut, exact_figures, result_object
from hansa.contract.errors import InputError
from hansa.contract.features import FeatureContract
from hansa.contract.library import scenario_folder, scenario_names
from hansa.contract.scenario import Scenario, read_scenario

if TYPE_CHECKING:
    from hansa.cli.comparison import Comparison
    from hansa.cli.results import RoundLine
    from hansa.cli.simulation import SimulatedFederation, SimulatedJob

Array = NDArray[np.float64]
# `{"model": "mlp", "steps": 1}` or the command line's `["model=mlp", "steps=1"]`.
Settings = Mapping[str, object] | Sequence[str]


@dataclass(frozen=True, repr=False)
class LoadedScenario:
    """A scenario as it is written down, with its feature contract.

    Parameters
    ----------
    settings : changes on top of it, as `--set` takes them
    """

    folder: Path
    scenario: Scenario
    features: FeatureContract
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its own name."""
        return self.scenario.name

    @cached_property
    def members(self) -> pl.DataFrame:
        """One row an organisation: name, title, sector, public number of records."""
        return pl.DataFrame(
            [
                {"name": it.name, "title": it.title, "sector": it.sector, "records": it.records}
                for it in self.scenario.members
            ]
        )

    @cached_property
    def columns(self) -> pl.DataFrame:
        """One row a column of the feature contract."""
        rows = [it.model_dump(mode="json", exclude={"derived"}) for it in self.features.columns]
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)

    def set(self, settings: Settings) -> LoadedScenario:
        """The scenario with these changes; raises `InputError` for a key or value that does not fit."""
        changes = spelled(settings)
        return replace(self, scenario=override(self.scenario, changes), settings=(*self.settings, *changes))

    def synthetic(self, rows: int, *, seed: int = 0) -> pl.DataFrame:
        """Made-up rows of the contract, to debug on; raises `InputError` for fewer than one."""
        from hansa.clients.data.synthetic import synthetic_rows

        return synthetic_rows(self.features, rows, seed)

    def simulate(self, **options: Any) -> Simulation:
        """As `hansa.simulate` with this scenario."""
        return simulate(self, **options)

    def __repr__(self) -> str:
        """What it is about, and its members."""
        return (
            f"{self.scenario.title}: {self.scenario.task}; model {self.scenario.model.name}, mode "
            f"{self.scenario.protection.mode}, noise {self.scenario.privacy.noise}\n{self.members}"
        )

    def _repr_html_(self) -> str:
        """For a notebook."""
        return (
            f"<b>{escape(self.scenario.title)}</b><br>{escape(self.scenario.task)}; model "
            f"{escape(self.scenario.model.name)}, mode {self.scenario.protection.mode}, noise "
            f"{self.scenario.privacy.noise}{self.members._repr_html_()}"
        )


@dataclass(frozen=True)
class Drawing:
    """An SVG that a notebook shows; `str` is its text."""

    svg: str

    def __str__(self) -> str:
        return self.svg

    def _repr_svg_(self) -> str:
        """For a notebook."""
        return self.svg

    def save(self, path: Path | str) -> None:
        """Write it in one step."""
        from hansa.contract.typed import write_atomically

        write_atomically(Path(path), self.svg.encode())


@dataclass(frozen=True, repr=False)
class Simulation:
    """What `simulate` came to."""

    scenario: LoadedScenario
    federation: SimulatedFederation
    job: SimulatedJob
    compared: Comparison | None = None

    @cached_property
    def lines(self) -> list[RoundLine]:
        """Rounds as the commands have them."""
        from hansa.cli.simulate import round_lines

        return round_lines(self.job)

    @cached_property
    def rounds(self) -> pl.DataFrame:
        """One row a round: round, seconds, members, and each released figure with its standard error."""
        rows = []
        for line in self.lines:
            row: dict[str, float | int | None] = {
                "round": line.round,
                "seconds": line.seconds,
                "members": len(line.cohort),
            }
            for name, metric in line.metrics.items():
                row[name], row[f"{name}_error"] = metric.value, metric.error
            rows.append(row)
        frame = pl.DataFrame(rows, infer_schema_length=None)
        # Errors of a federation without noise, say: numbers that there are none of.
        return frame.with_columns(pl.col(pl.Null).cast(pl.Float64))

    @cached_property
    def local(self) -> pl.DataFrame:
        """Exact figures on held-out records: one row a member; no release, known because all of it is here."""
        figures = self._figures
        members = next(iter(figures.values())).per_member if figures else {}
        rows = [{"member": it, **{name: f.per_member[it] for name, f in figures.items()}} for it in members]
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def weights(self) -> Array:
        """The released model's weights. Shape [d]."""
        return self.job.released["released"]

    def predict(self, table: pl.DataFrame) -> Array:
        """The released model's predictions for rows of the contract, label column and all. Shape [n] or [n, k].

        Raises
        ------
        DataError : the table departs from the contract
        """
        from hansa.clients.data.encode import encode

        return self.federation.predict(self.job.released, encode(table, self.scenario.features, "table").X)

    def compare(self) -> pl.DataFrame:
        """Each member's first figure by the way a model was trained: own, federated, personalised, pooled."""
        from hansa.cli.comparison import WAYS, compare

        found = self.compared or compare(self.federation, self.job.released, self.job.job.plan.seed)
        name = next(iter(found.federated))
        members = found.own[name].per_member
        rows = [
            {"member": it, "figure": name, **{way: getattr(found, way)[name].per_member[it] for way in WAYS}}
            for it in members
        ]
        return pl.DataFrame(rows, infer_schema_length=None)

    def plot(self, figure: str | None = None) -> Drawing:
        """A released figure by round; by default the first there is."""
        from hansa.cli.suite.drawn import lines

        names = list(dict.fromkeys(name for line in self.lines for name in line.metrics))
        if figure is not None and figure not in names:
            raise InputError(f"figure '{figure}' was not released; there are {', '.join(names) or 'none'}")
        chosen = figure or (names[0] if names else "no figure")
        points = [(it.round, it.metrics[chosen].value) for it in self.lines if chosen in it.metrics]
        return Drawing(lines(f"{self.scenario.name}: {chosen}", "round", [(chosen, points)]))

    def as_object(self) -> dict[str, Any]:
        """What `hansa simulate --json` prints."""
        released = self.job.job.results[-1].metrics
        more = {"compare": self.compared.as_json()} if self.compared else {}
        return result_object(
            self.job.job.status, self.lines, released=released, local=self._figures, more=more
        )

    def __repr__(self) -> str:
        """Rounds, then members."""
        return f"{self.scenario.scenario.title}: {self._ended}\n{self.rounds}\n{self.local}"

    def _repr_html_(self) -> str:
        """For a notebook: rounds, then members."""
        return (
            f"<b>{escape(self.scenario.scenario.title)}</b>: {self._ended}"
            f"{self.rounds._repr_html_()}{self.local._repr_html_()}"
        )

    @property
    def _ended(self) -> str:
        count = len(self.lines)
        return f"{self.job.job.status}, {count} round{'s' if count != 1 else ''}"

    @cached_property
    def _figures(self) -> dict[str, Figure]:
        held_out = {
            name: HeldOut(part.holdout.y, self.federation.predict(self.job.released, part.holdout.X))
            for name, part in self.federation.records.items()
        }
        return exact_figures(held_out, self.scenario.features.label)


def load_scenario(scenario: str | Path = "consortium") -> LoadedScenario:
    """A scenario by its name or folder; raises `InputError` where there is none."""
    folder = scenario_folder(str(scenario))
    return LoadedScenario(folder, *read_scenario(folder))


def scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with Hansa."""
    return scenario_names()


def simulate(
    scenario: str | Path | LoadedScenario = "consortium",
    *,
    rounds: int | None = None,
    settings: Settings = (),
    members: int | None = None,
    masked: bool = False,
    split: int = 0,
    compare: bool = False,
) -> Simulation:
    """Run a scenario's job in this process, as `hansa simulate` does.

    Parameters
    ----------
    rounds : instead of the scenario's
    settings : changes of the scenario, as `--set` takes them: `{"noise": "none"}` or `["noise=none"]`
    members : so many, made by the scenario's generators
    masked : mask and unmask as the scenario says: the same bits, slower
    split : which hold-out split
    compare : also train every member alone and one model on all records

    Raises
    ------
    InputError : an unknown scenario, a setting or a job that does not fit
    """
    from hansa.cli.comparison import compare as compared
    from hansa.cli.simulate import simulated

    for name, value, least in (("rounds", rounds, 1), ("members", members, 2), ("split", split, 0)):
        if value is not None and value < least:
            raise InputError(f"{name}: expected at least {least} (got {value})")
    loaded = scenario if isinstance(scenario, LoadedScenario) else load_scenario(scenario)
    federation, done = simulated(
        str(loaded.folder),
        rounds=rounds,
        settings=(*loaded.settings, *spelled(settings)),
        members=members,
        masked=masked,
        split=split,
    )
    beside = compared(federation, done.released, done.job.plan.seed) if compare else None
    return Simulation(loaded, federation, done, beside)


def spelled(settings: Settings) -> tuple[str, ...]:
    """Settings as the command line has them."""
    if isinstance(settings, Mapping):
        return tuple(f"{name}={_toml(value)}" for name, value in settings.items())
    if isinstance(settings, str):
        raise InputError(f"settings: expected a list such as ['{settings}'], or a dictionary")
    return tuple(settings)


def _toml(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)
