"""`--from FILE`: an exported model as what a job starts from."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hansa.cli.control_client import Control
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.jobs import JobPlan, WarmStart
from hansa.contract.plan import with_start
from hansa.contract.segments import PREPARATION
from hansa.contract.typed import clipped, explain, read_file
from hansa.models.start import weights_digest
from hansa.server.records import JobRecord

Array = NDArray[np.float64]

# What of an export is an organisation's own, fitted without noise; and what else there is beside the weights.
_PERSONAL = frozenset({"calibration", "adjustment"})
_BESIDE = frozenset({"weights", "check.rows", "check.scores"})
_ROUNDS = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True)
class StartFile:
    """An exported model: what a plan says of it, its weights f64[d], and whether an organisation's own is with it."""

    start: WarmStart
    weights: Array
    personal: bool = False


def submit_from(control: Control, plan: JobPlan, start: StartFile) -> tuple[JobRecord, str]:
    """Submit a job that starts from a model, and a sentence on who comes to know it.

    In mode `he` the plan names the model and no weights are sent: what the server knows of it stays what it was.
    """
    begun = with_start(plan, start.start)
    blind = control.charter().mode == "he"
    job = control.submit(begun) if blind else control.submit_started(begun, start.weights)
    known = (
        "no weights were sent: each member takes the model in its own folder, and one that does not keep it takes "
        "no part"
        if blind
        else "its weights are known to the server and go to every member"
    )
    return job, f"starts from the model of job {start.start.job[:8]}; {known}; what it cost stays charged"


def read_start(path: Path) -> StartFile:
    """A file that `hansa jobs export` wrote, at the server or at an organisation.

    Raises
    ------
    InputError : it is no such file, it is damaged, or its model needs columns that were prepared for its job
    """
    content = read_file(path)
    metadata, tensors = _safetensors(content, path)
    if PREPARATION in tensors:
        raise InputError(
            f"{path}: the model needs its columns as its job's contract check prepared them; no job starts from it"
        )
    if unknown := sorted(set(tensors) - _PERSONAL - _BESIDE):
        raise InputError(
            f"{path}: holds a tensor '{clipped(unknown[0], 60)}' that no export has; write it anew with: "
            "hansa jobs export"
        )
    weights = tensors.get("weights")
    if weights is None or weights.dtype != np.float64 or weights.ndim != 1 or not np.isfinite(weights).all():
        raise InputError(f"{path}: expected a tensor 'weights' of finite 64-bit numbers in one dimension")
    facts = _facts(metadata, content, path)
    document = {**facts, "weights": weights_digest(weights), "parameters": weights.size}
    try:
        return StartFile(WarmStart.model_validate(document), weights, personal=bool(_PERSONAL & set(tensors)))
    except ValidationError as error:
        raise InputError(f"{path}: {explain(error)}") from None


def check_size(path: Path, start: WarmStart, charter: Charter) -> None:
    """Refuse what is no model of a charter's: it has another number of weights.

    Raises
    ------
    InputError : naming both numbers, or the charter's model does not load here
    """
    from hansa.models.registry import load_model

    wanted = load_model(charter.task.model, charter.task.features).parameters
    if start.parameters != wanted:
        raise InputError(
            f"{path}: holds {start.parameters} weights, the charter's model '{charter.task.model.name}' has {wanted}"
        )


def _facts(metadata: dict[str, str], content: bytes, path: Path) -> dict[str, Any]:
    if "facts" in metadata:
        # An organisation's export has a digest of its own.
        from hansa.clients.scoring.model_file import parse_model

        facts = parse_model(content, path).facts
        return {
            "job": facts.job,
            "rounds": facts.round,
            "contract": facts.features.digest,
        }
    missing = sorted({"job", "contract"} - set(metadata))
    if missing:
        raise InputError(f"{path}: says nothing of its {missing[0]}; write it anew with: hansa jobs export")
    rounds = metadata.get("round", "")
    if rounds and not _ROUNDS.fullmatch(rounds):
        raise InputError(f"{path}: field 'round': expected a number of rounds (got '{clipped(rounds, 60)}')")
    return {
        "job": metadata["job"],
        "rounds": int(rounds) if rounds else None,
        "charter": metadata.get("charter", ""),
        "contract": metadata["contract"],
    }


def _safetensors(content: bytes, path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    from safetensors.numpy import load

    try:
        tensors = load(content)
        length = int.from_bytes(content[:8], "little")
        found = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    # What safetensors raises has no class of its own.
    except Exception as error:
        raise InputError(
            f"{path}: not a safetensors file ({error}); write one with: hansa jobs export"
        ) from None
    return {str(name): str(value) for name, value in found.items()}, tensors
