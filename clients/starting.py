"""What a job starts from at a member: the seed's weights, or a model that the member keeps of an earlier job.

In mode `he` a plan names the model by a digest and no weights travel: each member takes the one in its own folder, so
the server learns of it what it knew before. Elsewhere the server sends weights, and the member holds them against
the digest in the plan that it approved.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import RefusalError
from hansa.contract.jobs import JobPlan, WarmStart
from hansa.contract.messages import Order
from hansa.models.start import is_start

Array = NDArray[np.float64]
Kept = Callable[[WarmStart], Array | None]


def kept_in(folder: Path) -> Kept:
    """Looks for the named model among those that finished jobs left in a member's folder."""

    def find(start: WarmStart) -> Array | None:
        path = folder / f"model-{start.job}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                weights, contract = np.asarray(arrays["weights"]), str(arrays["contract"][0])
        except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
            return None
        return weights if contract == start.contract and is_start(weights, start) else None

    return find


def held_start(start: WarmStart, kept: Kept) -> Array:
    """The named model's weights. Shape [d].

    Raises
    ------
    RefusalError : `wrong-state`, this member does not keep that model
    """
    found = kept(start)
    if found is None:
        raise RefusalError(
            "wrong-state",
            f"the job starts from the model of job {start.job[:8]}, which this member does not keep: "
            "it took no part in it, or its file is gone or another one",
        )
    return found


def check_start(plan: JobPlan, contract: str, parameters: int) -> None:
    """Refuse a plan whose start is of another contract or model than the charter's."""
    start = plan.start
    if start is not None and (start.contract != contract or start.parameters != parameters):
        raise RefusalError(
            "bad-size",
            f"the job starts from a model of {start.parameters} parameters under contract {start.contract[:8]}; "
            f"the charter's has {parameters} under {contract[:8]}",
        )


def check_sent(plan: JobPlan, order: Order, weights: Array | None) -> None:
    """Refuse weights of round 0 that are not those that the plan names."""
    if plan.start is None or order.base != 0 or weights is None:
        return
    if not is_start(np.asarray(weights), plan.start):
        raise RefusalError(
            "wrong-state",
            "the weights that the job begins with are not those of the model that its plan names",
        )
