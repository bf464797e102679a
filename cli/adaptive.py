"""`hansa adaptive`: ten trainings in which something goes wrong, and what tuner, watch and recovery make of it."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.cli.adaptive_run import EpisodeResult

app = typer.Typer(add_completion=False)


@app.command()
def adaptive(
    scenario: Annotated[str, typer.Argument(help="A scenario's name or folder.")] = "consortium",
    rounds: Annotated[
        int | None,
        typer.Option(min=20, help="Rounds of each episode; default 40, with --quick 20.", show_default=False),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Only the episode of that name; again for more.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Five of the ten, of 20 rounds each; says which are left out."),
    ] = False,
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
    from hansa.cli.episode_series import QUICK, QUICK_ROUNDS, ROUNDS, EpisodeSeries

    logging.basicConfig(level=logging.INFO if verbose else logging.ERROR, format="%(name)s %(message)s")
    logging.getLogger("hansa.sidecar").setLevel(logging.INFO if verbose else logging.CRITICAL)
    series = EpisodeSeries.prepare(
        scenario,
        rounds=rounds or (QUICK_ROUNDS if quick else ROUNDS),
        only=only or (QUICK if quick else ()),
        settings=settings or (),
    )
    results = []
    for number, result in enumerate(series.run(), start=1):
        results.append(result)
        if not as_json:
            typer.echo(f"\nepisode {number} of {len(series.chosen)}, {result.seconds:.0f} s")
            _say(result)
    if as_json:
        found = {"rounds": series.rounds, "left_out": list(series.left_out)}
        print(json.dumps({"episodes": [episode_object(it) for it in results], **found}))
        return
    _table(results)
    if series.left_out:
        typer.echo(f"left out: {', '.join(series.left_out)}")


def _say(result: EpisodeResult) -> None:
    """What was decided, in order, but for probes of which there is nothing to say."""
    typer.echo(f"{result.episode.name}: {result.episode.told}")
    steps = [it for it in result.decisions if it.by == "probe" or it.key.startswith("step ")]
    lines = [it for it in result.decisions if it not in steps or it in result.noticed[:2]]
    for it in lines[:12]:
        typer.echo(f"  round {it.round:>3}  {it.by:<9} {it.sentence}")
    if result.status != "finished":
        typer.echo(f"  {result.status}: {result.reason}")
    if len(lines) > 12:
        typer.echo(f"  and {len(lines) - 12} more")


def verdict(result: EpisodeResult) -> str:
    """Whether the trouble was seen, or a calm episode left alone."""
    if result.episode.trouble == "none":
        return "left alone" if not result.noticed else "disturbed"
    return "seen" if result.noticed else "not seen"


def done(result: EpisodeResult) -> str:
    """What was done about it, in a few words."""
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
            verdict(it),
            str(it.noticed[0].round) if it.noticed else "",
            done(it),
            f"{it.loss:.4f}",
            f"{it.auc:.3f}",
        )
        for it in results
    )
    print_table(("episode", "what is wrong", "seen", "in", "done", "loss", "AUC"), rows, nothing="no episode")


def episode_object(result: EpisodeResult) -> dict[str, object]:
    """An episode as it stands in `episodes`."""
    return {
        "name": result.episode.name,
        "trouble": result.episode.trouble,
        "from_round": result.episode.round,
        "verdict": verdict(result),
        "noticed": [it.model_dump(mode="json") for it in result.noticed],
        "done": done(result),
        "status": result.status,
        "loss": result.loss,
        "auc": result.auc,
        "held": result.held,
        "seconds": result.seconds,
    }
