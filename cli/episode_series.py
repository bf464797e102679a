"""The episodes of `hansa adaptive` one after the other: which, over what federation, of how many rounds."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hansa.cli import simulation
from hansa.cli.adaptive_run import EpisodeResult, run_episode
from hansa.cli.episodes import Episode, episodes
from hansa.cli.overrides import override
from hansa.cli.simulate import many
from hansa.cli.simulation import SimulatedFederation
from hansa.contract.errors import InputError
from hansa.contract.jobs import JobPlan
from hansa.contract.library import scenario_folder
from hansa.contract.scenario import read_scenario

# So many members, so that an audit may hold one out; of generated scenarios there are as many as one likes.
MEMBERS, GROUP = 8, 3
ROUNDS = 40
# What is sure to be seen in so few rounds; the others need a longer past, or take their time by what they are.
QUICK_ROUNDS = 20
QUICK = ("calm", "slow start", "fast start", "bad rate", "poisoned member")


@dataclass(frozen=True)
class EpisodeSeries:
    """Episodes that are going to be run.

    Parameters
    ----------
    left_out : names of those that are not
    """

    chosen: tuple[Episode, ...]
    left_out: tuple[str, ...]
    rounds: int
    federation: SimulatedFederation
    name: str
    job: dict[str, object]

    @classmethod
    def prepare(
        cls,
        scenario: str = "consortium",
        *,
        rounds: int = ROUNDS,
        only: Sequence[str] = (),
        settings: Sequence[str] = (),
    ) -> EpisodeSeries:
        """Read the scenario and make its federation.

        Raises
        ------
        InputError : an episode that there is not, a scenario or a setting that does not fit
        """
        folder = scenario_folder(scenario)
        read, features = read_scenario(folder)
        ours = [f"rounds={rounds}", "steps=1", "share=0.5", "mode=masked", "tuning=probe"]
        if "server_rate" in read.knobs:
            # A charter's range would keep the worst of it from happening at all.
            rate = read.knobs["server_rate"].default
            ours += [f"knobs.server_rate.low={rate / 100}", f"knobs.server_rate.high={rate * 100}"]
        changed = many(override(read, [*ours, *settings]), MEMBERS)
        protection = changed.protection.model_copy(update={"audit_groups": GROUP})
        changed = changed.model_copy(update={"protection": protection})
        every = episodes(rounds // 2)
        unknown = set(only) - {it.name for it in every}
        if unknown:
            names = ", ".join(it.name for it in every)
            raise InputError(f"--only {min(unknown)}: no such episode; they are {names}")
        chosen = tuple(it for it in every if not only or it.name in only)
        return cls(
            chosen=chosen,
            left_out=tuple(it.name for it in every if it not in chosen),
            rounds=rounds,
            federation=simulation.federation(changed, features, folder=folder),
            name=changed.name,
            job=dict(changed.job),
        )

    def run(self) -> Iterator[EpisodeResult]:
        """Each in a store of its own, in order."""
        for it in self.chosen:
            plan = JobPlan.model_validate({"job": secrets.token_hex(16), "name": self.name, **self.job})
            with tempfile.TemporaryDirectory() as place:
                yield run_episode(it, self.federation, plan, Path(place))
