"""The two parts that train: a federation of real processes, and episodes in which something goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.cli.suite.drawn import bars, lines
from hansa.cli.suite.found import Drawing, Fact, Found, Rows
from hansa.cli.suite.running import Interrupted, Stage, sentence
from hansa.contract.errors import HansaError

if TYPE_CHECKING:
    from hansa.cli.adaptive_run import EpisodeResult
    from hansa.cli.demo_run import DemoRun
    from hansa.cli.episode_series import EpisodeSeries
    from hansa.cli.results import RoundLine
    from hansa.contract.charter import Charter

# Its own folder: an instance that somebody runs or provisioned is not touched.
PLACE = Path(".hansa/federated")

# Roll-backs that may be for nothing, to a round (`benchmarks/recovery.py` measures how many are).
FALSE_BACKS = 0.01
# Of what a job releases, the first of these that it has is drawn.
_JUDGED_BY = ("auc", "accuracy", "rmse", "log_loss", "mae")


@dataclass(frozen=True)
class FederatedPart:
    """The scenario's organisations as real processes, as `hansa up` runs them.

    Parameters
    ----------
    place : where the instance is made; one of an earlier run is replaced
    """

    scenario: str = "consortium"
    settings: tuple[str, ...] = ()
    place: Path = PLACE
    name: str = "federated"
    title: str = "a whole federation as real processes, with TLS, node keys and privacy"

    @property
    def command(self) -> str:
        """Alone."""
        more = "".join(f" --set {it}" for it in self.settings)
        scenario = "" if self.scenario == "consortium" else f" {self.scenario}"
        return f"hansa federated{scenario}{more}"

    def run(self, stage: Stage) -> Found:
        """Provision, start, train, stop."""
        from hansa.cli.demo import prepare, warnings_of
        from hansa.cli.demo_run import run_demo
        from hansa.cli.progress import progress_on
        from hansa.contract.signatures import verify_charter

        demo = prepare(self.scenario, instance=None, settings=self.settings, keep=False, place=self.place)
        charter = verify_charter(demo.instance.charter, demo.instance.signatures).charter
        for warning in warnings_of(charter):
            stage.say(f"warning: {warning}")
        facts = demo.instance.facts
        titles = {member.name: member.title for member in charter.members}
        with progress_on(stage.console, facts.title or facts.name, titles) as progress:
            done = run_demo(demo, charter, progress, stage.interruption)
        found = _federated(demo.instance.folder, charter, done)
        if done.followed is None or not done.over:
            raise Interrupted(found)
        if not done.finished:
            job = done.followed.job
            raise HansaError(f"job {job.job[:8]} is {job.status}: {job.reason or 'see its events'}")
        return found


def _federated(folder: Path, charter: Charter, done: DemoRun) -> Found:
    from hansa.cli.results import result_object, shown_figure, shown_metric
    from hansa.contract.shown import privacy_sentence, protection_sentence

    if done.followed is None:
        return Found()
    job, shown, local = done.followed.job, done.followed.lines, done.local or {}
    titles = {member.name: member.title or member.name for member in charter.members}
    headline = [Fact("organisations", len(charter.members)), Fact("rounds", job.round)]
    if shown:
        seconds = sum(it.seconds for it in shown) / len(shown)
        headline.append(Fact("a round", seconds, "s"))
    headline += [
        Fact(f"mean {name}", figure.mean) for name, figure in local.items() if figure.mean is not None
    ]
    names = list(dict.fromkeys(name for line in shown for name in line.metrics))
    tables = [
        Rows(
            "Rounds, as released",
            ("round", "members", "seconds", *names),
            tuple(
                (
                    str(it.round),
                    str(len(it.cohort)),
                    f"{it.seconds:.2f}",
                    *(shown_metric(it.metrics.get(name)) for name in names),
                )
                for it in shown
            ),
            "Released figures have noise; ± is its standard error.",
        )
    ][: bool(shown)]
    drawings = _curves(shown)
    if local:
        rows = [
            (titles[member], *(shown_figure(figure.per_member[member]) for figure in local.values()))
            for member in next(iter(local.values())).per_member
        ]
        mean = ("mean of members", *(shown_figure(it.mean) for it in local.values()))
        tables.append(
            Rows(
                "On held-out records, exact",
                ("organisation", *local),
                (*rows, mean),
                "Read from the members' own folders on this machine; the server does not see these.",
            )
        )
        first, figure = next(iter(local.items()))
        values = [(titles[it], value) for it, value in figure.per_member.items() if value is not None]
        drawings.append(Drawing("federated", first, bars(f"{first} on held-out records", values)))
    more = {
        "job": job.job,
        "instance": str(folder),
        "ready_seconds": round(done.ready_s, 3),
        "budgets": [vars(it) for it in done.budgets],
        "peak_bytes": dict(done.peaks or {}),
    }
    return Found(
        sentences=(protection_sentence(charter), privacy_sentence(charter)),
        headline=tuple(headline),
        tables=tuple(tables),
        drawings=tuple(drawings),
        data=result_object(job.status, shown, released=done.released, local=local, more=more),
    )


def _curves(rounds: Sequence[RoundLine]) -> list[Drawing]:
    """The released figure that the rounds are judged by, with its standard errors, where there are several rounds."""
    known = dict.fromkeys(name for it in rounds for name in it.metrics)
    name = next((it for it in _JUDGED_BY if it in known), "")
    released = [(float(it.round), it.metrics[name]) for it in rounds if name in it.metrics]
    if len(released) < 2:
        return []
    points = [(number, metric.value) for number, metric in released]
    errors = {(number, metric.value): metric.error for number, metric in released if metric.error is not None}
    title = f"{name} as released{', one standard error on either side' if errors else ''}"
    return [Drawing("rounds", title, lines(title, "round", [(name, points)], errors=errors))]


@dataclass(frozen=True)
class AdaptivePart:
    """Episodes of `hansa adaptive`.

    Parameters
    ----------
    quick : five of them, of 20 rounds; else all ten, of 40
    """

    quick: bool = True
    name: str = "adaptive"
    title: str = "trainings in which something goes wrong, in this process"

    @property
    def command(self) -> str:
        """Alone."""
        return "hansa adaptive --quick" if self.quick else "hansa adaptive"

    def run(self, stage: Stage) -> Found:
        """One episode after the other."""
        from hansa.cli.adaptive import verdict
        from hansa.cli.episode_series import QUICK, QUICK_ROUNDS, ROUNDS, EpisodeSeries

        series = EpisodeSeries.prepare(
            rounds=QUICK_ROUNDS if self.quick else ROUNDS, only=QUICK if self.quick else ()
        )
        results: list[EpisodeResult] = []
        try:
            for it in series.run():
                results.append(it)
                number = f"episode {len(results)} of {len(series.chosen)}"
                stage.say(f"{number}: {it.episode.name}, {it.seconds:.1f} s, {verdict(it)}")
                stage.check()
        except Interrupted:
            raise Interrupted(_adaptive(results, series)) from None
        except Exception as error:
            # What was seen before is kept.
            number = f"episode {len(results) + 1} of {len(series.chosen)}"
            return replace(_adaptive(results, series), problem=f"{number}: {sentence(error)}")
        return _adaptive(results, series)


def _went_back(result: EpisodeResult) -> int:
    return sum("to_round" in it.inputs for it in result.decisions)


def _adaptive(results: Sequence[EpisodeResult], series: EpisodeSeries) -> Found:
    from hansa.cli.adaptive import done, episode_object, verdict

    troubles = [it for it in results if it.episode.trouble != "none"]
    calm = [it for it in results if it.episode.trouble == "none"]
    missing = [*series.left_out, *(it.name for it in series.chosen[len(results) :])]
    said = [f"{len(results)} of {len(results) + len(missing)} episodes, {series.rounds} rounds each."]
    if missing:
        said.append(f"Left out: {', '.join(missing)}.")
    rows = tuple(
        (
            it.episode.name,
            it.episode.told,
            verdict(it),
            str(it.noticed[0].round) if it.noticed else "",
            done(it),
            f"{it.loss:.4f}",
            f"{it.auc:.3f}",
        )
        for it in results
    )
    # A pause may be what trouble calls for; nothing calls for it in a calm one.
    ends = {it.episode.name: ("finished",) if it in calm else ("finished", "paused") for it in results}
    wrong = [f"{it.episode.name} is {it.status}" for it in results if it.status not in ends[it.episode.name]]
    wrong += [f"{it.episode.name} has {', '.join(it.held)} held out" for it in calm if it.held]
    backs, over = sum(_went_back(it) for it in calm), len(calm) * series.rounds
    if backs > max(1.0, FALSE_BACKS * over):
        wrong.append(f"{backs} roll-backs in {over} calm rounds, promised at most 1 in {1 / FALSE_BACKS:g}")
    columns = ("episode", "what is wrong", "seen", "in round", "done", "log loss", "AUC")
    data: Mapping[str, Any] = {
        "episodes": [episode_object(it) for it in results],
        "rounds": series.rounds,
        "left_out": missing,
    }
    return Found(
        sentences=tuple(said),
        headline=(
            Fact("episodes", len(results)),
            Fact("troubles seen", f"{sum(verdict(it) == 'seen' for it in troubles)} of {len(troubles)}"),
            Fact("calm left alone", f"{sum(verdict(it) == 'left alone' for it in calm)} of {len(calm)}"),
            Fact("false roll-backs", f"{backs} in {over} calm rounds"),
        ),
        tables=(Rows("Episodes", columns, rows, "Log loss and AUC are exact, on all held-out records."),),
        drawings=(
            Drawing(
                "adaptive",
                "log loss at the end of each episode",
                bars("log loss at the end of each episode", [(it.episode.name, it.loss) for it in results]),
            ),
        ),
        data=data,
        problem="; ".join(wrong),
    )
