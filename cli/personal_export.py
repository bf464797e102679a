"""`hansa jobs export --folder`: at an organisation, the final model and that organisation's own version of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.contract.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hansa.cli.instance import MemberFolder
    from hansa.clients.scoring.model_file import ModelFacts

HOW = (
    "score s: log-odds of what the federated model predicts (a number: scaled to [-1, 1]); this organisation's "
    "score: calibration[0] + calibration[1] * s + adjustment . x, x the columns as listed"
)


def export_personal(
    member: MemberFolder, job: str | None, out: Path, *, force: bool, as_json: bool, federated: bool = False
) -> str:
    """Write NAME-JOB.safetensors and .json into `out`; returns what to print: the second's content, or a sentence.

    With `federated` the organisation's own version is left out, so that the files may be handed to another member.

    Raises
    ------
    InputError : no such model in the folder, several that begin so, or a file is there already
    """
    from hansa.cli.outbox_source import note_file
    from hansa.clients.scoring.model_file import model_bytes
    from hansa.contract.typed import write_atomically

    model, tensors = kept_model(member, job, federated=federated)
    job, features = model.job, model.features
    facts: dict[str, Any] = {
        "job": job,
        "round": model.round,
        "member": model.member,
        "task": model.title,
        "model": model.model.model_dump(),
        "columns": list(features.encoded),
        "label": features.label.model_dump(),
        "personal": None,
    }
    if model.personal:
        private = "fitted without noise; keep it at home"
        facts["personal"] = {"chosen": model.personal, "how": HOW, "private": private}
    path, meaning = (out / f"{model.member}-{job[:8]}{suffix}" for suffix in (".safetensors", ".json"))
    for file in (path, meaning):
        if file.exists() and not force:
            raise InputError(f"{file}: is there already; --force replaces it")
    content = model_bytes(model, tensors)
    note_file(member, "model", path, content, job=job)
    try:
        # As private as the records where a personal part is in it.
        write_atomically(path, content, mode=0o600)
        write_atomically(meaning, json.dumps(facts, indent=2).encode() + b"\n")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    if as_json:
        return json.dumps(facts)
    words = (
        f"with its own version ({facts['personal']['chosen']})"
        if facts["personal"]
        else "without an own version"
    )
    return f"{path}: model of job {job[:8]} at {model.member}, {words}; see {meaning}"


def kept_model(
    member: MemberFolder, job: str | None, *, federated: bool = False
) -> tuple[ModelFacts, dict[str, NDArray[np.float64]]]:
    """A finished job's model as its agent keeps it: what it means, and its arrays.

    Parameters
    ----------
    job : its beginning; None: the newest
    federated : leave the organisation's own version out

    Raises
    ------
    InputError : no such model in the folder, several that begin so, a damaged file, or one of another contract
    """
    import zipfile

    import numpy as np

    from hansa.clients.personal import personal_path, read_personal
    from hansa.clients.scoring.model_file import model_facts
    from hansa.contract.charter import Charter
    from hansa.contract.typed import read_toml

    kept = _kept(member, job)
    job = kept.stem.removeprefix("model-")
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            found = {name: np.ascontiguousarray(arrays[name]) for name in arrays.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{kept}: no model can be read from it ({error}); the agent writes it when a job finishes, so train again"
        ) from None
    rounds, contract = found.pop("rounds", None), found.pop("contract", None)
    task = read_toml(member.charter, Charter).task
    if contract is not None and str(contract[0]) != task.features.digest:
        raise InputError(
            f"{kept}: was trained under another feature contract than {member.charter} has now; what its columns mean "
            "stands in the charter of then"
        )
    # A job without a contract check may keep an empty preparation.
    tensors = {name: array for name, array in found.items() if array.size}
    own, chosen = personal_path(member.folder, job), ""
    if own.exists() and not federated:
        fitted = read_personal(own)
        tensors |= {"calibration": fitted.arrays["calibration"], "adjustment": fitted.weights}
        chosen = "recalibrated" if fitted.ridge is None else f"adjusted, ridge {fitted.ridge:g}"
    facts = model_facts(
        task,
        job=job,
        member=member.config.name,
        round=None if rounds is None else int(rounds[0]),
        personal=chosen,
    )
    return facts, tensors


def _kept(member: MemberFolder, job: str | None) -> Path:
    """The model of that job in the member's folder, the newest without one."""
    files = sorted(member.folder.glob("model-*.npz"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise InputError(
            f"{member.folder}: no finished job left a model here yet; 'hansa jobs list' says whether one runs, "
            "and 'hansa up' trains one"
        )
    if job is None:
        return files[-1]
    found = [path for path in files if path.stem.startswith(f"model-{job}")]
    if len(found) != 1:
        jobs = ", ".join(path.stem.removeprefix("model-")[:8] for path in files)
        count = "none begins" if not found else f"{len(found)} begin"
        raise InputError(
            f"job {job}: of the models in {member.folder} {count} so; they are of the jobs {jobs}"
        )
    return found[0]
