"""JSON on disk, replaced in one piece."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def save_json(path: Path, document: Any) -> None:
    """On disk, whole, when this returns."""
    draft = path.with_suffix(".new")
    with draft.open("w") as file:
        json.dump(document, file, allow_nan=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
