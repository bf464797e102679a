"""`hansa jobs import`: a model of the charter's comes in, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_side import Commands, commands
from federation import make_federation
from safetensors.numpy import save

from hansa.cli.provisioning import to_toml

JOB = "ab" * 16
FEDERATION = make_federation(3)
CONTRACT = FEDERATION.charter.task.features.digest
WEIGHTS = np.arange(FEDERATION.model.parameters, dtype=np.float64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a"
    made.mkdir()
    (made / "agreed.toml").write_bytes(to_toml(FEDERATION.charter))
    (made / "member.toml").write_text(
        'name = "a"\nserver = "x:1"\ncharter = "agreed.toml"\ndata = { kind = "csv", path = "a.csv" }\n'
    )
    return made


@pytest.fixture
def hansa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return commands(monkeypatch, capsys)


def exported(folder: Path, more: dict[str, np.ndarray] | None = None, **metadata: str) -> str:
    path = folder.parent / "m.safetensors"
    tensors = {"weights": WEIGHTS, **(more or {})}
    path.write_bytes(save(tensors, {"job": JOB, "contract": CONTRACT, "round": "3", **metadata}))
    return str(path)


def test_a_model_of_the_charters_is_kept_for_jobs_to_start_from(hansa: Commands, folder: Path) -> None:
    said = hansa("jobs", "import", exported(folder), "--folder", str(folder))
    assert said.code == 0, said.err
    (kept,) = (folder / "imported").iterdir()
    with np.load(kept) as arrays:
        np.testing.assert_array_equal(arrays["weights"], WEIGHTS)


@pytest.mark.parametrize(
    ("tensors", "metadata", "sentence"),
    [
        (
            {"weights": np.ones(WEIGHTS.size + 1)},
            {},
            f"weights, the charter's model 'linear' has {WEIGHTS.size}",
        ),
        ({"personal": WEIGHTS}, {}, "holds a tensor 'personal' that no export has"),
        ({"Adjustment": WEIGHTS}, {}, "holds a tensor 'Adjustment' that no export has"),
        ({"calibration": np.ones(2)}, {}, "an organisation's own version"),
        ({}, {"round": "²"}, "field 'round'"),
        ({}, {"round": "9" * 5000}, "field 'round'"),
        ({}, {"contract": "0" * 64}, "another feature contract"),
    ],
)
def test_what_is_no_model_of_the_charters_is_refused(
    hansa: Commands,
    folder: Path,
    tensors: dict[str, np.ndarray],
    metadata: dict[str, str],
    sentence: str,
) -> None:
    said = hansa("jobs", "import", exported(folder, tensors, **metadata), "--folder", str(folder))
    assert (said.code, sentence in said.err) == (2, True), said.err
    assert len(said.err) < 700
    assert not (folder / "imported").exists()


def test_what_is_in_the_way_is_said(hansa: Commands, folder: Path, tmp_path: Path) -> None:
    model = exported(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "imported").symlink_to(elsewhere)
    said = hansa("jobs", "import", model, "--folder", str(folder))
    assert (said.code, "is in the way" in said.err) == (2, True), said.err
    assert not list(elsewhere.iterdir())
    (folder / "imported").unlink()
    (folder / "imported").write_text("x")
    said = hansa("jobs", "import", model, "--folder", str(folder))
    assert (said.code, "is in the way" in said.err) == (2, True), said.err
    said = hansa("jobs", "import", model, "--folder", model)
    assert (said.code, "cannot be read" in said.err) == (2, True), said.err
