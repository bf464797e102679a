"""`hansa enterprise`: everything, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def enterprise(
    out: Annotated[
        Path, typer.Option(help="Folder of the report; what an earlier one left is replaced.")
    ] = Path("hansa-report"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Five of the ten adaptive episodes, shorter; one scenario.")
    ] = False,
    scenarios: Annotated[
        list[str] | None,
        typer.Option("--scenario", help="Simulate only that scenario; again for more. Default: all."),
    ] = None,
    price: Annotated[float, typer.Option(min=0.0, help="Of a replica an hour.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object as the last line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> None:
    """Run everything and write a report: training, scaling, scenarios, budgets, evidence, forgetting, memory, cost.

    The report is written anew after each part: OUT/report.html, report.md, results.json, drawings and evidence.
    A part that fails does not end the others; the exit code is not 0 then, and the report says what failed.
    """
    import shlex
    import sys
    from datetime import UTC, datetime

    from hansa.cli.suite.after import BudgetsPart, CostPart, MemoryPart
    from hansa.cli.suite.forgetting import ForgettingPart
    from hansa.cli.suite.learning import AdaptivePart, FederatedPart
    from hansa.cli.suite.proof import ProofPart
    from hansa.cli.suite.report import Report
    from hansa.cli.suite.running import Part
    from hansa.cli.suite.scenarios import ScenariosPart
    from hansa.cli.suite.serving import ScalingPart
    from hansa.cli.suite.summary import run_and_show
    from hansa.contract.errors import InputError
    from hansa.contract.library import scenario_folder

    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder")
    for name in scenarios or ():
        scenario_folder(name)
    chosen = tuple(scenarios or (("consortium",) if quick else ()))
    parts: list[Part] = [
        FederatedPart(),
        AdaptivePart(quick=quick),
        ScalingPart(price=price),
        ScenariosPart(chosen),
        BudgetsPart(),
        ProofPart(out / "evidence"),
        ForgettingPart(),
        MemoryPart(),
        CostPart(price),
    ]
    report = Report(out, shlex.join(["hansa", *sys.argv[1:]]), datetime.now(UTC))
    code = run_and_show(
        parts,
        as_json=as_json,
        verbose=verbose,
        seen=report.write,
        closing=(f"report: {out / 'report.html'} and {out / 'report.md'}",),
    )
    raise SystemExit(code)
