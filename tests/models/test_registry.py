"""Which installed code a charter's model is: the distribution it names, every file of it."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from small_records import LABELS, contract

from hansa.contract.charter import ModelChoice
from hansa.contract.errors import InputError
from hansa.models.registry import distribution_hash, load_model
from hansa.models.source_tree import source_files

ROOT = Path(__file__).parents[2]
ENTRY = "[hansa.models]\nlinear = {module}:Model\n"
MODULE = "class Model:\n    def __init__(self, features, options):\n        self.origin = {origin!r}\n"
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution into a folder of its own at the front of the path, as pip would."""

    def run(name: str, files: dict[str, bytes], *, entry: str = "", source: Path | None = None) -> Path:
        site = tmp_path / f"site-{len(list(tmp_path.iterdir()))}" / "lib" / "site-packages"
        info = f"{name.replace('-', '_')}-1.0.dist-info"
        metadata = {
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
            f"{info}/entry_points.txt": entry.encode(),
            f"{info}/INSTALLER": b"uv" if source else b"pip",
        }
        if source:
            origin = {"url": source.as_uri(), "dir_info": {"editable": True}}
            metadata[f"{info}/direct_url.json"] = json.dumps(origin).encode()
        for path, content in (files | metadata).items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(content)
        with (site / info / "RECORD").open("w", newline="") as record:
            writer = csv.writer(record)
            for path, content in (files | metadata).items():
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                writer.writerow((path, f"sha256={digest}", len(content)))
            writer.writerow((f"{info}/RECORD", "", ""))
        monkeypatch.syspath_prepend(str(site))
        return site

    return run


def test_a_name_that_another_distribution_offers_too_is_not_taken_from_it(install: Install) -> None:
    for name in ("first_one", "last_one"):
        files = {f"{name}.py": MODULE.format(origin=name).encode()}
        install(name.replace("_", "-"), files, entry=ENTRY.format(module=name))
    features = contract(LABELS["binary"])
    for distribution, origin in {
        "first-one": "first_one",
        "First.One": "first_one",
        "last_one": "last_one",
    }.items():
        model = load_model(ModelChoice(name="linear", distribution=distribution), features)
        assert model.origin == origin  # type: ignore[attr-defined]
    assert load_model(ModelChoice(name="linear"), features).parameters


def test_a_name_that_only_another_distribution_offers_is_refused(install: Install) -> None:
    install("empty-one", {"empty_one.py": b""})
    with pytest.raises(
        InputError, match=r"'empty-one' has no entry point.*'hansa' has one, but the charter names"
    ):
        load_model(ModelChoice(name="linear", distribution="empty-one"), contract(LABELS["binary"]))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "prepare"])
def test_a_model_that_is_prepared_from_records_is_refused(install: Install, method: str) -> None:
    name = f"with_{method}"
    looking = MODULE.format(origin=name) + f"\n    def {method}(self, X, y=None): ...\n"
    install(name, {f"{name}.py": looking.encode()}, entry=ENTRY.format(module=name))
    with pytest.raises(InputError, match=f"'{method}' prepares it from private records.*the contract check"):
        load_model(ModelChoice(name="linear", distribution=name), contract(LABELS["binary"]))


CHANGES = ["core.so", "data/table.json", "__init__.py", "../../share/weights.bin", "entry_points"]


@pytest.mark.parametrize("changed", CHANGES)
def test_every_file_that_can_change_what_a_model_does_counts(install: Install, changed: str) -> None:
    def hash_with(content: bytes, entry: str) -> str:
        paths = ("core.so", "data/table.json", "__init__.py")
        files = {f"odd/{path}": b"same" for path in paths} | {"../../share/weights.bin": b"same"}
        if changed != "entry_points":
            files[changed if changed.startswith("..") else f"odd/{changed}"] = content
        install("odd-model", files, entry=entry)
        return distribution_hash("odd-model")

    other = "other" if changed == "entry_points" else "odd"
    before = hash_with(b"same", ENTRY.format(module="odd"))
    assert hash_with(b"same", ENTRY.format(module="odd")) == before
    assert hash_with(b"changed", ENTRY.format(module=other)) != before


def test_a_file_that_is_gone_is_named(install: Install) -> None:
    site = install("odd-model", {"odd/core.so": b"code"})
    (site / "odd" / "core.so").unlink()
    with pytest.raises(InputError, match=r"'odd-model': .*core\.so: No such file.*install it again"):
        distribution_hash("odd-model")


def test_editable_and_plain_installations_of_one_version_have_one_hash(
    install: Install, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    files = {
        "odd/__init__.py": b"",
        "odd/core.cpython-311-x86_64-linux-gnu.so": b"machine code",
        "odd/data/a/table.json": b"{}",
        "odd/inner/__init__.py": b"1",
    }
    for path, content in {
        **files,
        "odd/__pycache__/x.pyc": b"made",
        "odd/notes.txt": b"not packaged",
    }.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (tree / "pyproject.toml").write_text(
        '[tool.setuptools]\npackages = ["odd", "odd.inner"]\n[tool.setuptools.package-data]\nodd = ["data/*/*.json"]\n'
    )
    entry = ENTRY.format(module="odd") + "[console_scripts]\nodd = odd:main\n"
    finder = {"__editable__.odd_model-1.0.pth": b"import x", "__editable___odd_model_1_0_finder.py": b"x"}
    install("odd-model", {**finder, "../../bin/odd": b"#!/here"}, entry=entry, source=tree)
    editable = distribution_hash("odd-model")
    install("odd-model", {**files, "../../bin/odd": b"#!/there", "odd/__pycache__/y.pyc": b"y"}, entry=entry)
    assert distribution_hash("odd-model") == editable
    (tree / "odd" / "data" / "a" / "table.json").write_bytes(b"{ }")
    install("odd-model", finder, entry=entry, source=tree)
    assert distribution_hash("odd-model") != editable


def test_our_own_tree_has_the_files_of_its_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    tree = tmp_path / "tree"
    tree.mkdir()
    # Whole folders: what the wheel leaves out must be left out by us too.
    for top in {file.relative_to(ROOT).parts[0] for file in source_files(ROOT).values()}:
        shutil.copytree(ROOT / top, tree / top, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == set(source_files(ROOT))
