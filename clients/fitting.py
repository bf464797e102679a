"""A member's own version, fitted in a process of its own at the lowest priority.

How long it takes tells how many records there are, and it comes after the last answer: nothing of the agent may
be slower for it. A process shares neither interpreter nor memory with the agent, and of the processor it
gets what the agent leaves.

    python -m hansa.clients.fitting --folder members/NAME --job JOB --parent PID < records
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from hansa.clients.data.dataset import Dataset
from hansa.clients.personal import keep_personal
from hansa.contract.features import Label

log = logging.getLogger("hansa.agent")

# Of two jobs that close at once the second is fitted after the first.
_one_at_a_time = threading.Lock()
_LOWEST_PRIORITY = 19
_PR_SET_PDEATHSIG = 1


def fit_beside(
    folder: Path, job: str, records: Dataset, federated: NDArray[np.float64], label: Label
) -> threading.Thread:
    """Begin `keep_personal` in another process; returns the thread that waits for it, which ends with this process."""
    content = BytesIO()
    np.savez(
        content,
        X=records.X,
        y=records.y,
        entities=records.entities,
        federated=federated,
        label=np.frombuffer(TypeAdapter(Label).dump_json(label), np.uint8),
    )
    waiting = threading.Thread(target=_run, args=(folder, job, content.getvalue()), name="fit", daemon=True)
    waiting.start()
    return waiting


def _run(folder: Path, job: str, content: bytes) -> None:
    command = [sys.executable, "-m", "hansa.clients.fitting", "--folder", str(folder), "--job", job]
    with _one_at_a_time:
        done = subprocess.run(
            [*command, "--parent", str(os.getpid())], input=content, capture_output=True, check=False
        )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        log.error("no version of the member's own was fitted: %s", lines[-1] if lines else done.returncode)


def main(argv: list[str] | None = None) -> int:
    """Fit on the records at standard input and write the file into the folder."""
    parser = argparse.ArgumentParser(prog="hansa.clients.fitting", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(argv)
    os.nice(_LOWEST_PRIORITY)
    # The records are in memory for as long as the agent is there, and no longer.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != options.parent:
        return 1
    with np.load(BytesIO(sys.stdin.buffer.read()), allow_pickle=False) as arrays:
        records = Dataset(arrays["X"], arrays["y"], arrays["entities"])
        federated, label = arrays["federated"], TypeAdapter(Label).validate_json(arrays["label"].tobytes())
    keep_personal(options.folder, options.job, records, federated, label)
    return 0


if __name__ == "__main__":
    sys.exit(main())
