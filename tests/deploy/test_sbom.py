"""The bill of materials: everything that is needed, at the versions that are pinned, in CycloneDX's form."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
_SPEC = importlib.util.spec_from_file_location("sbom", ROOT / "deploy" / "sbom.py")
assert _SPEC is not None
assert _SPEC.loader is not None
sbom = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sbom)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = sbom.bill()
    return found


def test_it_has_the_form_that_the_standard_requires(document: dict[str, Any]) -> None:
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.6"
    assert document["version"] == 1
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", document["serialNumber"])
    everything = [document["metadata"]["component"], *document["components"]]
    refs = [it["bom-ref"] for it in everything]
    assert len(refs) == len(set(refs))
    for it in everything:
        assert it["type"] in ("application", "library")
        assert it["name"]
        assert it["version"]
        assert re.fullmatch(r"pkg:pypi/[a-z0-9.-]+@[^@ ]+", it["purl"])
        for licence in it["licenses"]:
            assert set(licence) in ({"expression"}, {"license"})
    assert sorted(it["ref"] for it in document["dependencies"]) == sorted(refs)
    for it in document["dependencies"]:
        assert set(it["dependsOn"]) <= set(refs)


def test_everything_that_the_project_names_is_in_it(document: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {sbom.canonical(re.split(r"[<>=~\[ ;]", it)[0]) for it in project["dependencies"]}
    found = {it["name"]: it["version"] for it in document["components"]}
    assert needed <= found.keys()
    pinned = dict(
        line.strip().split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    names = {sbom.canonical(name): version for name, version in pinned.items()}
    differing = {
        name: (version, names[name])
        for name, version in found.items()
        if name in names
        and version.partition("+")[0] != names[name].partition(";")[0].strip().partition("+")[0]
    }
    assert differing == {}
    # What is not pinned is not known before it is installed; these two are installers, which the platform brings.
    assert found.keys() - names.keys() <= {"setuptools", "uv"}


def test_nearly_all_state_a_licence(document: dict[str, Any]) -> None:
    without = [it["name"] for it in document["components"] if not it["licenses"]]
    assert len(without) <= len(document["components"]) // 20, without


def test_tools_of_developers_are_not_in_it(document: dict[str, Any]) -> None:
    assert {"pytest", "ruff", "mypy", "hypothesis"}.isdisjoint(it["name"] for it in document["components"])
