"""`hansa training`: federated, adaptive and scaling, one after the other, with one summary."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def training(
    whole: Annotated[
        bool, typer.Option("--whole", help="All ten adaptive episodes, of 40 rounds; takes minutes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run a whole federation, trainings in which something goes wrong, and a scaled day.

    A part that fails does not end the others; the exit code is not 0 then. Ctrl-C ends after the step under way, a
    second one at once.
    """
    from hansa.cli.suite.learning import AdaptivePart, FederatedPart
    from hansa.cli.suite.running import Part
    from hansa.cli.suite.serving import ScalingPart
    from hansa.cli.suite.summary import run_and_show

    parts: list[Part] = [FederatedPart(), AdaptivePart(quick=not whole), ScalingPart()]
    raise SystemExit(run_and_show(parts, as_json=as_json, verbose=verbose))
