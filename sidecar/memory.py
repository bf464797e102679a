"""What the sidecar remembers of each job, one JSON file a job, replaced in one piece."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from .job_watch import JobMemory
from .saved import save_json

log = logging.getLogger("hansa.sidecar")

_NAME = re.compile(r"^[0-9a-f]{32}\.json$")


class Memories:
    """A folder of memories.

    Raises
    ------
    OSError : the folder cannot be made
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def load(self, job: str) -> JobMemory:
        """What was saved of a job; an empty memory where nothing was, or where it cannot be read any more.

        Forgetting costs little: curves are fitted anew, and control enters no decision twice.
        """
        path = self._path(job)
        try:
            return JobMemory.from_json(json.loads(path.read_text()))
        except FileNotFoundError:
            return JobMemory()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read and is begun anew: %s", path, error)
            return JobMemory()

    def save(self, job: str, memory: JobMemory) -> None:
        """On disk, whole, when this returns."""
        save_json(self._path(job), memory.as_json())

    def forget(self, keep: set[str]) -> None:
        """Remove the memories of all jobs but these."""
        for path in self._folder.iterdir():
            if _NAME.match(path.name) and path.stem not in keep:
                path.unlink(missing_ok=True)

    def _path(self, job: str) -> Path:
        return self._folder / f"{job}.json"
