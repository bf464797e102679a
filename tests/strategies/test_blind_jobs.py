"""Jobs in mode `he`: members hold the model and apply sums that the server cannot read."""

from __future__ import annotations

import pytest
from masked_jobs import MaskedJob, clear_weights

from hansa.strategies.apply import ModelState


def model_of(job: MaskedJob, name: str) -> ModelState:
    """The newest state that a member holds."""
    blind = job.agents[name].blind
    assert blind is not None
    held = blind.holds(job.job.plan.job)
    return blind.model(job.job.plan.job, held.tag, held.round)


@pytest.mark.parametrize("members", [2, 3, 5])
def test_a_blind_job_ends_in_the_bits_of_a_clear_one(members: int) -> None:
    job = MaskedJob(members, 3, mode="he")
    job.run()
    assert job.job.status == "finished", job.job.reason
    for name in job.agents:
        assert model_of(job, name).weights.tobytes() == clear_weights(members, 3)
