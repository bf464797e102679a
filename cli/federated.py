"""`hansa federated`: the scenario's organisations as real processes, with a summary."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def federated(
    scenario: Annotated[str, typer.Argument(help="A scenario's name or folder.")] = "consortium",
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds, instead of the scenario's.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the scenario, e.g. model=mlp, steps=1."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run every organisation of a scenario as real processes, from keys to result, and stop them.

    As `hansa up`, in a folder of its own (.hansa/federated), which the next run replaces.
    """
    from hansa.cli.overrides import override
    from hansa.cli.suite.learning import FederatedPart
    from hansa.cli.suite.summary import run_and_show
    from hansa.contract.library import scenario_folder
    from hansa.contract.scenario import read_scenario

    changes = (*(settings or ()), *((f"rounds={rounds}",) if rounds else ()))
    # What is wrong with the input is one sentence, before anything is started.
    override(read_scenario(scenario_folder(scenario))[0], changes)
    raise SystemExit(
        run_and_show([FederatedPart(scenario, tuple(changes))], as_json=as_json, verbose=verbose)
    )
