"""Folders of an instance as mount points: `python -m hansa.cli.mounts ROOT`, run while an image is built.

A container that is not root can write into a named volume only if the folder under it was its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hansa.contract.library import scenario_folder, scenario_names
from hansa.contract.scenario import read_scenario

# Of two containers that are not the same user; they share a group.
FOR_GROUP = ("gate",)
SHARED = ("ca", "server", "control", "operator", "store", "sidecar", "monitoring")


def mount_points(root: Path) -> list[Path]:
    """Every folder that a shipped scenario's instance keeps in a volume of its own."""
    members = {
        member.name for name in scenario_names() for member in read_scenario(scenario_folder(name))[0].members
    }
    points = [root / name for name in (*SHARED, *FOR_GROUP)]
    for name in sorted(members):
        folder = root / "members" / name
        points += [folder, folder / "node", folder / "work"]
    return points


if __name__ == "__main__":
    for point in mount_points(Path(sys.argv[1])):
        point.mkdir(parents=True, exist_ok=True)
        point.chmod(0o770 if point.name in FOR_GROUP else 0o700)
