"""`hansa jobs export --folder`: at an organisation, the final model and that organisation's own version of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.contract.errors import InputError

if TYPE_CHECKING:
    from hansa.cli.instance import MemberFolder

HOW = (
    "score s: log-odds of what the federated model predicts (a number: scaled to [-1, 1]); this organisation's "
    "score: calibration[0] + calibration[1] * s + adjustment . x, x the columns as listed"
)


def export_personal(member: MemberFolder, job: str | None, out: Path, *, force: bool, as_json: bool) -> str:
    """Write NAME-JOB.safetensors and .json into `out`; returns what to print: the second's content, or a sentence.

    Raises
    ------
    InputError : no such model in the folder, several that begin so, or a file is there already
    """
    import numpy as np
    from safetensors.numpy import save

    from hansa.clients.personal import personal_path, read_personal
    from hansa.contract.charter import Charter
    from hansa.contract.typed import read_toml, write_atomically

    kept = _kept(member, job)
    job = kept.stem.removeprefix("model-")
    config, task = member.config, read_toml(member.charter, Charter).task
    with np.load(kept, allow_pickle=False) as arrays:
        tensors = {name: np.ascontiguousarray(arrays[name]) for name in arrays.files}
    facts: dict[str, Any] = {
        "job": job,
        "member": config.name,
        "task": task.title,
        "model": task.model.model_dump(),
        "columns": list(task.features.encoded),
        "label": task.features.label.model_dump(),
        "personal": None,
    }
    own = personal_path(member.folder, job)
    if own.exists():
        fitted = read_personal(own)
        tensors |= {"calibration": fitted.arrays["calibration"], "adjustment": fitted.weights}
        chosen = "recalibrated" if fitted.ridge is None else f"adjusted, ridge {fitted.ridge:g}"
        facts["personal"] = {"chosen": chosen, "how": HOW, "private": "fitted without noise; keep it at home"}
    path, meaning = (out / f"{config.name}-{job[:8]}{suffix}" for suffix in (".safetensors", ".json"))
    for file in (path, meaning):
        if file.exists() and not force:
            raise InputError(f"{file}: is there already; --force replaces it")
    try:
        # As private as the records where a personal part is in it.
        write_atomically(path, save(tensors, metadata={"job": job, "member": config.name}), mode=0o600)
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
    return f"{path}: model of job {job[:8]} at {config.name}, {words}; see {meaning}"


def _kept(member: MemberFolder, job: str | None) -> Path:
    """The model of that job in the member's folder, the newest without one."""
    files = sorted(member.folder.glob("model-*.npz"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise InputError(f"{member.folder}: no finished job left a model here yet")
    if job is None:
        return files[-1]
    found = [path for path in files if path.stem.startswith(f"model-{job}")]
    if len(found) != 1:
        jobs = ", ".join(path.stem.removeprefix("model-")[:8] for path in files)
        raise InputError(f"job {job}: {len(found)} models in {member.folder} begin so; it has {jobs}")
    return found[0]
