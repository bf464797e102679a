"""What a scaler finds when it begins, and what it leaves when it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from scaled import Scaled

from hansa.sidecar.actuators import Replicas


def killed(folder: Path) -> Scaled:
    """One that was killed at 60 s, between its wish for four and the doing."""
    it = Scaled(folder)

    def die(to: int) -> Replicas:
        raise KeyboardInterrupt

    real, it.actuator.scale = it.actuator.scale, die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        it.look(32.0)
    it.actuator.scale = real  # type: ignore[method-assign]
    return it


@pytest.mark.parametrize(("at", "asked"), [(179.0, [4]), (180.0, []), (90_000.0, []), (0.0, [])])
def test_a_wish_is_done_after_a_restart_while_it_is_young(
    tmp_path: Path, at: float, asked: list[int]
) -> None:
    it = killed(tmp_path)
    it.at = at
    it.start().finish()
    assert it.actuator.asked == asked
    assert it.journal.load("web").pending is None
    # Demand decides anew; what is wanted then is done.
    it.look(22.0)
    assert it.actuator.replicas == (4 if asked else 3)


def test_what_nobody_foresaw_neither_ends_the_scaler_nor_is_kept_quiet(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = killed(tmp_path)
    real = it.actuator.scale

    def fail(to: int) -> Replicas:
        raise KeyError("resourceVersion")

    it.actuator.scale = fail  # type: ignore[method-assign]
    it.start().finish()
    assert "resourceVersion" in caplog.text
    it.actuator.scale = real  # type: ignore[method-assign]
    it.look()
    assert it.actuator.asked == [4]
