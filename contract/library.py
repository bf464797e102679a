"""The scenarios that come with the package, by name; or any other scenario folder, by path."""

from __future__ import annotations

from pathlib import Path

from hansa.contract.errors import InputError


def scenario_folder(name_or_path: str) -> Path:
    """The folder of a scenario.

    Raises
    ------
    InputError : neither a scenario of the package nor a folder that holds a `scenario.toml`
    """
    shipped = _shipped()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if (path / "scenario.toml").is_file():
        return path
    known = ", ".join(sorted(shipped))
    if path.is_dir():
        raise InputError(
            f"{path}: a folder without a scenario.toml; 'hansa scenario from-csv' makes one out of CSVs"
        )
    raise InputError(
        f"scenario '{name_or_path}' is not known; known are {known}, or give the path of a folder"
    )


def scenario_names() -> tuple[str, ...]:
    """Names of the scenarios that come with the package."""
    return tuple(sorted(_shipped()))


def _shipped() -> dict[str, Path]:
    # `configs` lies beside `contract`, in the source tree as in the installed package.
    root = Path(__file__).resolve().parents[1] / "configs"
    return {path.name: path for path in sorted(root.iterdir()) if (path / "scenario.toml").is_file()}
