"""`hansa adaptive`: ten trainings in which something goes wrong, and what tuner, watch and recovery make of it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.cli.adaptive_run import EpisodeResult
    from hansa.contract.jobs import JobPlan

app = typer.Typer(add_completion=False)

# So many members, so that an audit may hold one out; of generated scenarios there are as many as one likes.
MEMBERS, GROUP = 8, 3


@app.command()
def adaptive(
    scenario: Annotated[str, typer.Argument(help="A scenario's name or folder.")] = "consortium",
    rounds: Annotated[int, typer.Option(min=20, help="Rounds of each episode.")] = 40,
    only: Annotated[
        list[str] | None, typer.Option(help="Only the episode of that name; again for more.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the scenario, e.g. noise=none."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object as the last line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every round.")] = False,
) -> None:
    """Ten training episodes with drift, bad rates and bad members: what was seen, done, and not seen.

    Strategy, agents, store, control and sidecar are the real ones, in this process; every member spends its own
    privacy budget as the scenario says. Mode 'masked', because an audit needs sums that the server may open.
    """
    import tempfile
    from pathlib import Path

    from hansa.cli import simulation
    from hansa.cli.adaptive_run import run_episode
    from hansa.cli.episodes import episodes
    from hansa.cli.overrides import override
    from hansa.cli.simulate import many
    from hansa.contract.errors import InputError
    from hansa.contract.library import scenario_folder
    from hansa.contract.scenario import read_scenario

    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s %(message)s")
    logging.getLogger("hansa.sidecar").setLevel(logging.INFO if verbose else logging.CRITICAL)
    folder = scenario_folder(scenario)
    read, features = read_scenario(folder)
    ours = [f"rounds={rounds}", "steps=1", "share=0.5", "mode=masked", "tuning=probe"]
    if "server_rate" in read.knobs:
        # A charter's range would keep the worst of it from happening at all.
        rate = read.knobs["server_rate"].default
        ours += [f"knobs.server_rate.low={rate / 100}", f"knobs.server_rate.high={rate * 100}"]
    changed = many(override(read, [*ours, *(settings or [])]), MEMBERS)
    protection = changed.protection.model_copy(update={"audit_groups": GROUP})
    changed = changed.model_copy(update={"protection": protection})
    chosen = episodes(rounds // 2)
    if only:
        unknown = set(only) - {it.name for it in chosen}
        if unknown:
            names = ", ".join(it.name for it in chosen)
            raise InputError(f"--only {min(unknown)}: no such episode; they are {names}")
        chosen = tuple(it for it in chosen if it.name in only)
    federation = simulation.federation(changed, features, folder=folder)
    results = []
    for it in chosen:
        plan = _plan(changed.name, dict(changed.job))
        with tempfile.TemporaryDirectory() as place:
            results.append(run_episode(it, federation, plan, Path(place)))
        if not as_json:
            _say(results[-1])
    if as_json:
        print(json.dumps({"episodes": [_object(it) for it in results]}))
    else:
        _table(results)


def _plan(name: str, job: dict[str, object]) -> JobPlan:
    import secrets

    from hansa.contract.jobs import JobPlan

    return JobPlan.model_validate({"job": secrets.token_hex(16), "name": name, **job})


def _say(result: EpisodeResult) -> None:
    """What was decided, in order, but for probes of which there is nothing to say."""
    typer.echo(f"\n{result.episode.name}: {result.episode.told}")
    steps = [it for it in result.decisions if it.by == "probe" or it.key.startswith("step ")]
    lines = [it for it in result.decisions if it not in steps or it in result.noticed[:2]]
    for it in lines[:12]:
        typer.echo(f"  round {it.round:>3}  {it.by:<9} {it.sentence}")
    if result.status != "finished":
        typer.echo(f"  {result.status}: {result.reason}")
    if len(lines) > 12:
        typer.echo(f"  and {len(lines) - 12} more")


def _verdict(result: EpisodeResult) -> str:
    if result.episode.trouble == "none":
        return "left alone" if not result.noticed else "disturbed"
    return "seen" if result.noticed else "not seen"


def _done(result: EpisodeResult) -> str:
    found = []
    moves = [it for it in result.decisions if it.by in ("probe", "tuner") and it.knobs]
    if result.episode.expects == ("probe",) and moves:
        first, last = (it.knobs["server_rate"] for it in (moves[0], moves[-1]))
        found.append(f"rate to {first:.3g} by the probe, {last:.3g} in the end")
    backs = [it for it in result.decisions if "to_round" in it.inputs]
    cuts = [it for it in result.decisions if it.by == "recovery" and it not in backs and it.knobs]
    if backs:
        found.append(f"{len(backs)}x back, to round {backs[-1].inputs['to_round']}")
    if cuts:
        found.append(f"rate moved {len(cuts)}x")
    if result.held:
        found.append(f"{', '.join(result.held)} held out")
    if result.status != "finished":
        found.append(result.status)
    return "; ".join(found) or "nothing"


def _table(results: list[EpisodeResult]) -> None:
    from hansa.cli.listing import print_table

    typer.echo("")
    rows = (
        (
            it.episode.name,
            it.episode.told + (f" from round {it.episode.round} on" if it.episode.round else ""),
            _verdict(it),
            str(it.noticed[0].round) if it.noticed else "",
            _done(it),
            f"{it.loss:.4f}",
            f"{it.auc:.3f}",
        )
        for it in results
    )
    print_table(("episode", "what is wrong", "seen", "in", "done", "loss", "AUC"), rows, nothing="no episode")


def _object(result: EpisodeResult) -> dict[str, object]:
    return {
        "name": result.episode.name,
        "trouble": result.episode.trouble,
        "from_round": result.episode.round,
        "verdict": _verdict(result),
        "noticed": [it.model_dump(mode="json") for it in result.noticed],
        "done": _done(result),
        "status": result.status,
        "loss": result.loss,
        "auc": result.auc,
        "held": result.held,
        "seconds": result.seconds,
    }
