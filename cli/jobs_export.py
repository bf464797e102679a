"""`hansa jobs export` at the consortium: the released model as two files."""

from __future__ import annotations

from pathlib import Path

from hansa.cli.control_client import Control
from hansa.contract.errors import InputError
from hansa.contract.typed import write_atomically
from hansa.server.records import JobRecord
from hansa.server.replies import Release


def export_released(desk: Control, job: JobRecord, out: Path, *, force: bool) -> tuple[Release, str]:
    """Write NAME.safetensors and NAME.json into `out`; returns what the second says, and a sentence.

    Raises
    ------
    InputError : a file is there already, or cannot be written
    """
    release, tensors = desk.release(job.job), desk.release_tensors(job.job)
    model, meaning = (out / f"{release.name}{suffix}" for suffix in (".safetensors", ".json"))
    for path in (model, meaning):
        if path.exists() and not force:
            raise InputError(f"{path}: is there already; --force replaces it")
    try:
        write_atomically(model, tensors)
        write_atomically(meaning, release.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from None
    said = f"{model}: model of round {release.round}, {release.parameters} parameters; see {meaning}"
    return release, said
