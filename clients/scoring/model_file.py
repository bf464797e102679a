"""The file that is served: a model, what it means, and a digest of both. Holds numbers and JSON, no code.

    safetensors   weights f64[d], and where there are any: preparation f64[2p + 1], calibration f64[2],
                  adjustment f64[p] (the organisation's own version); check.rows f64[c, p], check.scores
    metadata      job, member, facts (`ModelFacts` as JSON), sha256 over facts and tensors

`check.scores` are what the evaluation code gave for `check.rows`, made-up records, when the file was written: whoever
serves the file must come to the same. The digest finds a damaged file; who may write the folder is the folder's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from hansa.clients.personal import PersonalModel
from hansa.contract.charter import ModelChoice, Task
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, FeatureContract, MulticlassLabel
from hansa.contract.segments import PREPARATION
from hansa.contract.typed import Frozen, explain, read_file, write_atomically
from hansa.models.preparation import predict

Array = NDArray[np.float64]
Tensors = dict[str, Array]

# Where an organisation's folder has what it serves, and the token of those who may ask.
SERVED, TOKEN = Path("scoring") / "model.safetensors", Path("scoring") / "token"
# A header beyond this is no model's.
_LARGEST_HEADER = 64 << 20
_CHECKED_ROWS = 16


class ModelFacts(Frozen):
    """What the tensors of a served file mean."""

    format: Literal[1] = 1
    job: str
    member: str
    # None in a file that an older agent kept.
    round: int | None = None
    title: str = ""
    model: ModelChoice
    features: FeatureContract
    # How the organisation's own version was chosen; empty where the federated model is served as it is.
    personal: str = ""


@dataclass(frozen=True)
class ModelFile:
    """A served file's content; `digest` is the hex SHA-256 over facts and tensors."""

    facts: ModelFacts
    tensors: Mapping[str, Array]
    digest: str

    @property
    def personal(self) -> PersonalModel | None:
        """The organisation's own version, where the file has one."""
        if "calibration" not in self.tensors:
            return None
        shift, factor = (float(it) for it in self.tensors["calibration"])
        return PersonalModel(shift, factor, self.tensors["adjustment"], None)

    def predict(self, X: Array) -> Array:
        """Predictions by the code that agents train and evaluate with; the measure for whatever is faster.

        Parameters
        ----------
        X : records as the contract encodes them, f64[n, p]
        """
        return _predict(self.facts, self.tensors, X)


def model_bytes(facts: ModelFacts, tensors: Mapping[str, Array], seed: int = 0) -> bytes:
    """A served file of `weights`, `preparation`, `calibration`, `adjustment`; its check's rows come from `seed`."""
    from safetensors.numpy import save

    kept = {name: np.ascontiguousarray(array, dtype=np.float64) for name, array in tensors.items()}
    rows = np.random.default_rng(seed).uniform(-2.0, 2.0, (_CHECKED_ROWS, len(facts.features.encoded)))
    kept["check.rows"] = rows
    kept["check.scores"] = np.ascontiguousarray(_predict(facts, kept, rows))
    text = facts.model_dump_json()
    metadata = {"job": facts.job, "member": facts.member, "facts": text, "sha256": _digest(text, kept)}
    return save(kept, metadata=metadata)


def calibrated(
    facts: ModelFacts, tensors: Mapping[str, Array], by: tuple[float, float]
) -> tuple[ModelFacts, Tensors]:
    """A federated model whose log-odds s become shift + slope * s, as the job's released figures say.

    Raises
    ------
    InputError : its label has no log-odds
    """
    if not isinstance(facts.features.label, BinaryLabel):
        raise InputError("a calibration is for yes/no labels; this model's label is another")
    adjustment = np.zeros(len(facts.features.encoded))
    own = {"calibration": np.array(by, dtype=np.float64), "adjustment": adjustment}
    text = f"calibrated by shift {by[0]:g} and slope {by[1]:g}"
    return facts.model_copy(update={"personal": text}), {**tensors, **own}


def write_model(path: Path, content: bytes) -> None:
    """Put a served file in its place in one step; as private as the records where an own version is in it."""
    try:
        write_atomically(path, content, mode=0o600)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def read_model(path: Path) -> ModelFile:
    """Read a served file.

    Raises
    ------
    InputError : no such file, a damaged one, or one of another kind
    """
    return parse_model(read_file(path), path)


def parse_model(content: bytes, origin: Path | str) -> ModelFile:
    """As `read_model`, from bytes; `origin` is what errors name."""
    try:
        metadata = _metadata(content)
        from safetensors.numpy import load

        tensors = load(content)
        text, digest = metadata["facts"], metadata["sha256"]
    # What safetensors raises has no class of its own.
    except Exception as error:
        detail = f"no field {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{origin}: no model to serve can be read from it ({detail})") from None
    if _digest(text, tensors) != digest:
        raise InputError(
            f"{origin}: damaged: its content does not have the SHA-256 that it names; write it anew"
        )
    try:
        facts = ModelFacts.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{origin}: {explain(error)}") from None
    _check_shapes(facts, tensors, origin)
    return ModelFile(facts, tensors, digest)


def model_facts(task: Task, *, job: str, member: str, round: int | None, personal: str) -> ModelFacts:
    """Facts of a model that was trained under a charter's task."""
    return ModelFacts(
        job=job,
        member=member,
        round=round,
        title=task.title,
        model=task.model,
        features=task.features,
        personal=personal,
    )


def _metadata(content: bytes) -> dict[str, str]:
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= min(_LARGEST_HEADER, len(content) - 8):
        raise ValueError("not a safetensors file")
    found = json.loads(content[8 : 8 + length])["__metadata__"]
    return {str(name): str(value) for name, value in found.items()}


def _digest(facts: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    total = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        array = tensors[name]
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _check_shapes(facts: ModelFacts, tensors: Mapping[str, NDArray[Any]], origin: Path | str) -> None:
    columns = len(facts.features.encoded)
    wanted: dict[str, tuple[int, ...] | None] = {
        "weights": None,
        PREPARATION: (2 * columns + 1,),
        "calibration": (2,),
        "adjustment": (columns,),
        "check.rows": (_CHECKED_ROWS, columns),
        "check.scores": None,
    }
    for name, array in tensors.items():
        shape = wanted.get(name, ())
        if array.dtype != np.float64 or (shape is not None and array.shape != shape):
            raise InputError(
                f"{origin}: tensor '{name}' of {array.dtype} {array.shape} does not fit the contract"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{origin}: tensor '{name}' holds values that are not finite")
    missing = {"weights", "check.rows", "check.scores"} - set(tensors)
    if ("calibration" in tensors) != ("adjustment" in tensors):
        missing |= {"calibration", "adjustment"} - set(tensors)
    if missing:
        raise InputError(f"{origin}: tensor '{min(missing)}' is missing")
    if "calibration" in tensors and isinstance(facts.features.label, MulticlassLabel):
        raise InputError(f"{origin}: a label of several classes has no own version")


def _predict(facts: ModelFacts, tensors: Mapping[str, Array], X: Array) -> Array:
    arrays = {"released": tensors["weights"]}
    if PREPARATION in tensors:
        arrays[PREPARATION] = tensors[PREPARATION]
    federated = predict(facts.model, facts.features, arrays, X)
    if "calibration" not in tensors:
        return federated
    shift, factor = (float(it) for it in tensors["calibration"])
    own = PersonalModel(shift, factor, tensors["adjustment"], None)
    return own.predict(federated, X, facts.features.label)
