"""Which files of a source tree a wheel of it would hold: what an editable installation runs.

Read from `tool.setuptools` of pyproject.toml as setuptools reads it; where packages are not listed there, whatever
folder has an `__init__.py` is one. Of another build backend every file of a package counts, as in its wheels.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

_COMPILED = (".so", ".pyd", ".dylib", ".dll")


def source_files(folder: Path) -> dict[str, Path]:
    """Files by the path that they have in a wheel, in no order."""
    pyproject = folder / "pyproject.toml"
    document = tomllib.loads(pyproject.read_text()) if pyproject.is_file() else {}
    settings = document.get("tool", {}).get("setuptools", {})
    backend = document.get("build-system", {}).get("build-backend", "setuptools")
    files = {f"{name}.py": folder / f"{name}.py" for name in settings.get("py-modules", [])}
    for package, directory in _packages(folder, settings).items():
        below = package.replace(".", "/")
        patterns = _patterns(package, settings) if backend.startswith("setuptools") else ["**/*"]
        for file in _matching(directory, patterns):
            files[f"{below}/{file.relative_to(directory).as_posix()}"] = file
    return files


def is_bytecode(path: PurePath) -> bool:
    """Whether Python made the file from another one."""
    return path.suffix in (".pyc", ".pyo") or "__pycache__" in path.parts


def _matching(directory: Path, patterns: list[str]) -> Iterator[Path]:
    for pattern in patterns:
        for file in directory.glob(pattern):
            if file.is_file() and not is_bytecode(file):
                yield file


def _patterns(package: str, settings: dict[str, Any]) -> list[str]:
    """Globs of what setuptools takes from a package's folder."""
    data: dict[str, list[str]] = settings.get("package-data", {})
    declared = [pattern for key in ("*", "", package) for pattern in data.get(key, [])]
    return ["*.py", *(f"*{suffix}" for suffix in _COMPILED), *declared]


def _packages(folder: Path, settings: dict[str, Any]) -> dict[str, Path]:
    """Packages of a source tree and their folders."""
    names = settings.get("packages")
    if not isinstance(names, list):
        root = folder / "src" if (folder / "src").is_dir() else folder
        found = (path.parent for path in root.rglob("__init__.py") if not _ignored(path.relative_to(root)))
        return {".".join(path.relative_to(root).parts): path for path in found}
    mapping: dict[str, str] = settings.get("package-dir", {})
    return {name: folder / _directory(name, mapping) for name in names}


def _directory(package: str, mapping: dict[str, str]) -> str:
    """Where setuptools looks for a package: the longest mapped prefix, then the rest of its name."""
    parts = package.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in mapping:
            return "/".join([mapping[prefix], *parts[length:]])
    return "/".join([part for part in (mapping.get(""),) if part] + parts)


def _ignored(path: Path) -> bool:
    return any(part.startswith(".") or part in ("site-packages", "build", "tests") for part in path.parts)
