"""What a job starts from at a member: the seed's weights, or a model that the member keeps of an earlier job.

In mode `he` a plan names the model by a digest and no weights travel: each member takes the one in its own folder, so
the server learns of it what it knew before. Elsewhere the server sends weights, and the member holds them against
the digest in the plan that it approved.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import RefusalError
from hansa.contract.folders import inner_folder
from hansa.contract.jobs import JobPlan, WarmStart
from hansa.contract.messages import Order
from hansa.contract.typed import write_atomically
from hansa.models.start import is_start

Array = NDArray[np.float64]
Kept = Callable[[WarmStart], Array | None]
# Models of jobs in which a member took no part, handed over by one that did.
IMPORTED = "imported"


def kept_in(folder: Path) -> Kept:
    """Looks for the named model among those that finished jobs left in a member's folder, and those brought there."""

    def find(start: WarmStart) -> Array | None:
        for path in (folder / f"model-{start.job}.npz", imported_path(folder, start)):
            weights = _weights(path, start)
            if weights is not None:
                return weights
        return None

    return find


def imported_path(folder: Path, start: WarmStart) -> Path:
    """Where a member's folder has a model that was brought there: by its digest, so that none takes another's place."""
    return folder / IMPORTED / f"{start.job}-{start.weights[:16]}.npz"


def import_start(folder: Path, start: WarmStart, weights: Array) -> Path:
    """Keep a model of a job in which this member took no part, so that a job may start from it; its file.

    Raises
    ------
    InputError : something else is where such models are kept, or a link that leads elsewhere
    """
    path, content = imported_path(folder, start), io.BytesIO()
    np.savez(content, weights=weights, contract=np.array([start.contract]))
    inner_folder(path.parent)
    write_atomically(path, content.getvalue(), mode=0o600)
    return path


def _weights(path: Path, start: WarmStart) -> Array | None:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            weights, contract = np.asarray(arrays["weights"]), str(arrays["contract"][0])
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        return None
    return weights if contract == start.contract and is_start(weights, start) else None


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
            "it took no part in it, or its file is gone or another one; one that has it writes it with "
            "'hansa jobs export --federated', and it is brought here by 'hansa jobs import FILE'",
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
