"""Software bill of materials of what is installed, CycloneDX 1.6 as JSON: `python deploy/sbom.py > sbom.json`.

What this project needs and what that needs, at the versions installed here: run it in the image that is shipped.
An archive's own hash is not known of an installed package; the hash of its RECORD, which has one for every file, is
given as a property.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = "hansa"
_LONGEST_LICENCE = 80
_CLASSIFIER = "License :: "
# SPDX has a name for these.
_SPDX = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "MIT": "MIT",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def canonical(name: str) -> str:
    """A project's name as indexes write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(root: str, extras: Sequence[str] = ()) -> dict[str, tuple[Distribution, list[str]]]:
    """Every installed distribution that `root` needs, itself first, each with the names that it needs."""
    found: dict[str, tuple[Distribution, list[str]]] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(canonical(root), frozenset(extras))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        try:
            own = distribution(name)
        except PackageNotFoundError:
            # For another platform, or an extra that nobody installed.
            continue
        needs = found.setdefault(name, (own, []))[1]
        for line in own.requires or ():
            it = Requirement(line)
            if it.marker is None or any(it.marker.evaluate({"extra": extra}) for extra in (*wanted, "")):
                needs.append(canonical(it.name))
                waiting.append((canonical(it.name), frozenset(it.extras)))
    return {name: (it, sorted(set(needs) & found.keys())) for name, (it, needs) in found.items()}


def licences(own: Distribution) -> list[dict[str, Any]]:
    """As its metadata state them; nothing where they state none."""
    metadata = own.metadata
    if expression := metadata.get("License-Expression"):
        return [{"expression": expression}]
    named = [
        it.rpartition(" :: ")[2]
        for it in metadata.get_all("Classifier") or ()
        if it.startswith(_CLASSIFIER) and not it.endswith("OSI Approved")
    ]
    line = (metadata.get("License") or "").strip().partition("\n")[0]
    if not named and 0 < len(line) <= _LONGEST_LICENCE:
        named = [line]
    return [{"license": {"name": _SPDX.get(it, it)}} for it in named]


def component(own: Distribution) -> dict[str, Any]:
    """One distribution."""
    name, version = canonical(own.metadata["Name"]), own.version
    made: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "purl": purl(name, version),
        "licenses": licences(own),
    }
    if summary := own.metadata.get("Summary"):
        made["description"] = summary
    if record := own.read_text("RECORD"):
        digest = hashlib.sha256(record.encode()).hexdigest()
        made["properties"] = [{"name": "hansa:record-sha256", "value": digest}]
    return made


def purl(name: str, version: str) -> str:
    """A package's address."""
    return f"pkg:pypi/{name}@{version.replace('+', '%2B')}"


def bill(root: str = ROOT, extras: Sequence[str] = ()) -> dict[str, Any]:
    """The whole document."""
    found = closure(root, extras)
    components = {name: component(own) for name, (own, _) in sorted(found.items())}
    main = components.pop(canonical(root))
    main["type"] = "application"
    refs = {name: it["bom-ref"] for name, it in components.items()} | {canonical(root): main["bom-ref"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "tools": {"components": [{"type": "application", "name": "deploy/sbom.py"}]},
            "component": main,
            "properties": [{"name": "python", "value": sys.version.partition(" ")[0]}],
        },
        "components": list(components.values()),
        "dependencies": [
            {"ref": refs[name], "dependsOn": [refs[it] for it in needs]}
            for name, (_, needs) in sorted(found.items())
        ],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print it, or write it to --out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="default: standard output")
    parser.add_argument(
        "--extra", action="append", default=[], help="an extra that is shipped too, e.g. postgres"
    )
    options = parser.parse_args(argv)
    try:
        text = json.dumps(bill(extras=options.extra), indent=1) + "\n"
    except PackageNotFoundError:
        print(
            "sbom: hansa is not installed for this python; run it with the one that has it", file=sys.stderr
        )
        return 2
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
