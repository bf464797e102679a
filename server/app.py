"""The ServerApp: one run of one job.

Flower starts it in a process of its own (SuperExec). Which job it runs stands in the run's
configuration; everything else in the server's `server.toml`, which the environment names.
A run is not the job: when this process dies, control starts another run, which goes on from
the journal.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from hansa.contract.errors import HansaError, InputError
from hansa.contract.logs import now_about, say_always

log = logging.getLogger("hansa.serverapp")

CONFIG_VARIABLE = "HANSA_SERVER_CONFIG"
CONTROL_VARIABLE = "HANSA_CONTROL"

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the job that the run's configuration names."""
    logging.getLogger("hansa").setLevel(logging.INFO)
    job = str(context.run_config.get("job", ""))
    say_always(process="serverapp")
    run_job(grid, job, holder=f"run {context.run_id}")


def run_job(grid: Grid, job: str, *, holder: str) -> None:
    """Claim a job's journal and run it to its end."""
    from hansa.contract.shown import protection_sentence
    from hansa.contract.signatures import verify_charter
    from hansa.models.registry import load_model
    from hansa.server.config import read_server_config
    from hansa.server.signing import ControlOperator, sign_token
    from hansa.server.store import open_store, renewed
    from hansa.strategies.consortium import ConsortiumStrategy
    from hansa.strategies.ports import LeaseLost

    path = Path(os.environ.get(CONFIG_VARIABLE, ""))
    if not path.is_file():
        raise InputError(f"{CONFIG_VARIABLE} must name the server's server.toml (got '{path}')")
    config = read_server_config(path)
    verified = verify_charter(path.parent / config.charter, path.parent / config.signatures)
    operator = ControlOperator(
        os.environ.get(CONTROL_VARIABLE) or f"http://{config.control}", sign_token(path, config)
    )
    store = open_store(config.store, path.parent)
    journal = store.claim(job or operator.default_job(), holder)
    now_about(job=journal.plan.job)
    if verified.charter.protection.mode == "clear":
        log.warning(protection_sentence(verified.charter))
    strategy = ConsortiumStrategy(
        charter=verified.charter,
        charter_hash=verified.hash,
        model=load_model(verified.charter.task.model, verified.charter.task.features),
        journal=journal,
        operator=operator,
    )
    try:
        with renewed(journal):
            strategy.start(grid)
    except LeaseLost:
        log.warning("another run has taken over job %s; this one ends", journal.plan.job)
    except HansaError as error:
        journal.event("run-failed", str(error))
        raise
