"""The part that goes through the scenarios of the library, each in this process, with its own privacy."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hansa.cli.suite.drawn import bars
from hansa.cli.suite.found import Drawing, Fact, Found, Rows
from hansa.cli.suite.running import Interrupted, Stage, sentence


@dataclass(frozen=True)
class ScenariosPart:
    """Every scenario's own job, simulated.

    Parameters
    ----------
    only : names; empty: all of the library
    """

    only: tuple[str, ...] = ()
    name: str = "scenarios"
    title: str = "the scenarios, each simulated with its own privacy"

    @property
    def command(self) -> str:
        """One after the other, as a line for a shell."""
        from hansa.contract.library import scenario_names

        names = self.only or scenario_names()
        if len(names) == 1:
            return f"hansa simulate {shlex.quote(names[0])}"
        return f"for it in {shlex.join(names)}; do hansa simulate $it; done"

    def run(self, stage: Stage) -> Found:
        """One after the other; one that fails is told, the others go on."""
        from hansa.contract.library import scenario_names

        results: list[dict[str, Any]] = []
        names = self.only or scenario_names()
        for number, name in enumerate(names, start=1):
            began = time.monotonic()
            try:
                results.append(_simulated(name))
            except Interrupted:
                raise Interrupted(_found(results, names)) from None
            except Exception as error:
                results.append({"scenario": name, "problem": sentence(error)})
            stage.say(f"scenario {number} of {len(names)}: {name}, {time.monotonic() - began:.1f} s")
            stage.check(lambda: _found(results, names))
        return _found(results, names)


def _simulated(name: str) -> dict[str, Any]:
    from hansa.cli import simulation
    from hansa.cli.results import HeldOut, exact_figures
    from hansa.cli.simulate import in_the_clear
    from hansa.contract.jobs import JobPlan
    from hansa.contract.library import scenario_folder
    from hansa.contract.scenario import read_scenario

    began = time.monotonic()
    folder = scenario_folder(name)
    scenario, features = read_scenario(folder)
    federation = simulation.federation(in_the_clear(scenario), features, folder=folder)
    plan = JobPlan(job=secrets.token_hex(16), name=scenario.name, **dict(scenario.job))
    done = simulation.run(federation, plan)
    held_out = {
        member: HeldOut(part.holdout.y, federation.predict(done.released, part.holdout.X))
        for member, part in federation.records.items()
    }
    local = exact_figures(held_out, features.label)
    return {
        "scenario": name,
        "title": scenario.title,
        "members": len(scenario.members),
        "model": scenario.model.name,
        "rounds": len(done.rounds),
        "noise": scenario.privacy.noise,
        "mode": scenario.protection.mode,
        "label": features.label.kind,
        "local": {figure: it.as_json() for figure, it in local.items()},
        "seconds": round(time.monotonic() - began, 3),
    }


def _found(results: list[dict[str, Any]], names: tuple[str, ...]) -> Found:
    problems = [f"{it['scenario']}: {it['problem']}" for it in results if "problem" in it]
    good = [it for it in results if "problem" not in it]
    rows = tuple(
        (
            it["scenario"],
            it["title"],
            str(it["members"]),
            it["model"],
            str(it["rounds"]),
            it["noise"],
            _shown(it["local"]),
            f"{it['seconds']:.1f}",
        )
        for it in good
    )
    aucs = [(it["scenario"], it["local"]["auc"]["mean"]) for it in good if "auc" in it["local"]]
    known = [(name, value) for name, value in aucs if value is not None]
    missing = [name for name in names if name not in {it["scenario"] for it in results}]
    return Found(
        sentences=(
            "Figures are exact, on held-out records, the mean of a scenario's members. In one process masks hide "
            "nothing and are left out; sums and noise are the same without.",
            *((f"Not reached: {', '.join(missing)}.",) if missing else ()),
        ),
        headline=(Fact("scenarios", f"{len(good)} of {len(names)}"),),
        tables=(
            Rows(
                "Scenarios",
                ("scenario", "what it is", "members", "model", "rounds", "noise", "figures", "seconds"),
                rows,
            ),
        ),
        drawings=(
            (Drawing("scenarios", "mean AUC", bars("mean AUC on held-out records", known, most=1.0)),)
            if known
            else ()
        ),
        data={"scenarios": results},
        problem=problems[0] if problems else "",
    )


def _shown(local: Mapping[str, Any]) -> str:
    from hansa.cli.results import shown_figure

    return ", ".join(f"{name} {shown_figure(it['mean'])}" for name, it in local.items())
