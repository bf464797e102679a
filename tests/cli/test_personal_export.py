"""An organisation exports the final model with its own version, from its own folder."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from cli_side import hansa
from federation import make_federation
from safetensors.numpy import load_file

from hansa.cli.provisioning import to_toml
from hansa.cli.starting import read_start
from hansa.clients.personal import keep_personal, read_personal
from hansa.clients.starting import held_start, kept_in

JOB = "ab" * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A member's folder after a job, as its agent leaves it."""
    made, federation = tmp_path / "a", make_federation(3)
    made.mkdir()
    (made / "charter.toml").write_bytes(to_toml(federation.charter))
    (made / "member.toml").write_text('name = "a"\nserver = "x:1"\ndata = { kind = "csv", path = "a.csv" }\n')
    weights = federation.model.initial(0)
    np.savez(made / f"model-{JOB}.npz", weights=weights)
    train = federation.records["a"].train
    label = federation.charter.task.features.label
    assert keep_personal(made, JOB, train, federation.model.predict(weights, train.X), label)
    return made


def test_both_parts_are_written_for_the_owner_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["jobs", "export", JOB[:8], "--folder", str(folder), "--out", str(tmp_path / "out")]
    assert hansa(arguments, monkeypatch) == 0
    assert "with its own version" in capsys.readouterr().out
    path = tmp_path / "out" / f"a-{JOB[:8]}.safetensors"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    tensors, kept = load_file(path), read_personal(folder / f"personal-{JOB}.npz")
    np.testing.assert_array_equal(tensors["adjustment"], kept.weights)
    np.testing.assert_array_equal(tensors["calibration"], [kept.shift, kept.factor])
    facts = json.loads(path.with_suffix(".json").read_text())
    assert len(facts["columns"]) == kept.weights.size
    assert facts["job"] == JOB


def test_a_file_s_name_is_no_folder_to_write_into(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "own.safetensors"
    assert hansa(["jobs", "export", "--folder", str(folder), "--out", str(out)], monkeypatch) == 2
    assert "expected a folder" in capsys.readouterr().err
    assert not out.exists()


def test_a_job_that_left_no_model_here_is_a_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["jobs", "export", "cd", "--folder", str(folder), "--out", str(tmp_path / "out")]
    assert hansa(arguments, monkeypatch) == 2
    assert "none begins so; they are of the jobs" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_handed_to_another_organisation_it_leaves_its_own_version_at_home(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "b"
    other.mkdir()
    (other / "charter.toml").write_bytes((folder / "charter.toml").read_bytes())
    (other / "member.toml").write_text((folder / "member.toml").read_text().replace('"a"', '"b"'))
    exported = tmp_path / "out" / f"a-{JOB[:8]}.safetensors"
    arguments = ["jobs", "export", "--folder", str(folder), "--out", str(tmp_path / "out"), "--force"]
    bring = ["jobs", "import", str(exported), "--folder", str(other)]
    assert hansa(arguments, monkeypatch) == 0
    assert hansa(bring, monkeypatch) == 2
    assert "holds an organisation's own version, fitted without noise" in capsys.readouterr().err
    assert not (other / "imported").exists()
    assert hansa([*arguments, "--federated"], monkeypatch) == 0
    assert not {"adjustment", "calibration"} & set(load_file(exported))
    assert hansa(bring, monkeypatch) == 0
    start = read_start(exported).start
    with np.load(folder / f"model-{JOB}.npz") as kept:
        np.testing.assert_array_equal(held_start(start, kept_in(other)), kept["weights"])
