"""`hansa scaling`: what predictive scaling does with a day, or with a recorded demand, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.cli.scaling_shown import Served

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    help="Forecasts, decisions and cost of predictive scaling.",
)

# Of the made-up day, where nothing else is said.
BUDGET, STARTUP_S = 0.01, 120.0

BudgetOption = Annotated[
    float, typer.Option(min=0.0, max=0.5, help="Share of minutes in which demand may exceed capacity.")
]
StartupOption = Annotated[float, typer.Option(min=0.0, max=3600.0, help="Seconds until a replica serves.")]
PriceOption = Annotated[float, typer.Option(min=0.0, help="Of a replica an hour.")]
CooldownOption = Annotated[
    float, typer.Option(min=0.0, help="Seconds after a change in which nothing is taken away.")
]
OutOption = Annotated[
    Path | None, typer.Option(help="Draw: an SVG of demand and capacity; a folder gets the frontiers too.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One object, for programs.")]


@app.callback()
def scaling(
    context: typer.Context,
    seed: Annotated[int, typer.Option(min=0, help="Of the made-up demand.")] = 0,
    budget: BudgetOption = BUDGET,
    startup: StartupOption = STARTUP_S,
    price: PriceOption = 1.0,
    cooldown: CooldownOption = 0.0,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forecasts, decisions and cost of predictive scaling. Without a command: a made-up service's 24 hours.

    Eight days of made-up requests, half an hour of the last evening with a crowd that nothing announces; the scaler
    learns on the first seven and the last is shown.
    """
    if context.invoked_subcommand is not None:
        return
    from hansa.cli import scaling_shown as shown

    served = day(seed=seed, budget=budget, startup=startup, price=price, cooldown=cooldown)
    if out is not None:
        shown.draw(served, out)
    if as_json:
        typer.echo(shown.as_json(served))
        return
    from hansa.cli.listing import print_hanging

    print_hanging(
        "", "A made-up service on its eighth day: business hours, a crowd at 19:30 that nothing announces."
    )
    shown.hours(served)
    shown.changes(served)
    shown.policies(served)
    shown.verdict(served)


def day(*, seed: int, budget: float, startup: float, price: float, cooldown: float = 0.0) -> Served:
    """Eight made-up days, served by ours and the others; the last is counted."""
    from hansa.cli import scaling_shown as shown
    from hansa.sidecar.scaling import replay
    from hansa.sidecar.scaling.made import business_days

    trace = business_days(8, seed)
    setting = replay.Setting.of(trace, startup, warm_up=7.0 / 8.0)
    limits = replay.limits_for(setting, budget, cooldown, price)
    return shown.serve(trace.name, setting, limits, compare=True, cpu=0.8)


@app.command("replay")
def replayed(
    trace: Annotated[Path, typer.Argument(help="A CSV with the columns timestamp and value.")],
    compare: Annotated[
        bool, typer.Option("--compare", help="Beside it: static, Kubernetes' rule, hindsight.")
    ] = False,
    budget: BudgetOption = BUDGET,
    startup: StartupOption = STARTUP_S,
    price: PriceOption = 1.0,
    cooldown: CooldownOption = 0.0,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a recorded demand again: cost, violations, replica-hours and changes.

    Its peak needs 15 replicas; decisions come every minute; a sample is held until the next; the first 15 % of the
    recording are learned from and not counted.
    """
    from hansa.cli import scaling_shown as shown
    from hansa.sidecar.scaling import replay
    from hansa.sidecar.scaling.traces import read_trace

    recorded = read_trace(trace)
    setting = replay.Setting.of(recorded, startup)
    limits = replay.limits_for(setting, budget, cooldown, price)
    served = shown.serve(recorded.name, setting, limits, compare=compare)
    if out is not None:
        shown.draw(served, out)
    if as_json:
        typer.echo(shown.as_json(served))
        return
    shown.recording(served)
    shown.policies(served)
    shown.verdict(served)
