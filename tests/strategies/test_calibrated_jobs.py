"""A charter may ask for what would set the scores right; nothing more is sent or charged for it."""

from __future__ import annotations

import pytest
from federation import make_federation
from masked_jobs import MaskedJob

from hansa.contract.charter import MetricsPolicy, Mode, Protection


@pytest.mark.parametrize("mode", ["clear", "masked", "he"])
def test_a_job_s_figures_have_it_where_the_charter_asks(mode: Mode) -> None:
    def figures(calibration: bool) -> set[str]:
        metrics = MetricsPolicy(bins=20, calibration=calibration, seconds_floor=0)
        made = make_federation(4, metrics=metrics, protection=Protection(mode=mode), rows=3000)
        job = MaskedJob(simulated=made, rounds=3)
        job.run()
        assert job.job.status == "finished"
        return {name for it in job.job.results for name in it.metrics}

    asked = figures(True)
    assert {"platt_shift", "platt_slope"} <= asked
    assert not {"platt_shift", "platt_slope"} & figures(False)
