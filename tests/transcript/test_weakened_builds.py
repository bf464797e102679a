"""The attacker that learns nothing of the real build opens single updates of weakened ones: it is no straw man."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from attacker import Attacker
from needles import plain_needles, search
from recorded_job import RecordedJob, Script, run_recorded, wide_federation
from weakened import no_self_masks, one_shared_key, seeds_from, short_seed

from hansa.contract.charter import Mode
from hansa.contract.segments import UPDATE
from hansa.secagg.prekeys import SEED_BYTES

pytestmark = pytest.mark.slow

COLLUDER = "e"
LATE: Script = {1: ("c", "late")}


def singles(job: RecordedJob) -> set[str]:
    """Honest members whose own update the attacker knows from attempt 1, each checked against the truth."""
    told = [job.truth.colluder(job.federation, COLLUDER)]
    attacker = Attacker(job.transcript, job.federation.charter, job.federation.hash, job.plan, told)
    known = set()
    for members, total in attacker.findings().get((1, UPDATE), {}).items():
        np.testing.assert_array_equal(total, job.truth.total(1, sorted(members), UPDATE))
        known |= set(members) if len(members) == 1 else set()
    return known


def run(
    folder: Path, build: AbstractContextManager[None], script: Script | None = None, mode: Mode = "masked"
) -> RecordedJob:
    with build:
        return run_recorded(folder, wide_federation(5, mode), rounds=1, script=script, deadline_s=2.0)


def constant_seed() -> Callable[[], bytes]:
    seed = os.urandom(SEED_BYTES)
    return lambda: seed


def test_without_self_masks_a_late_upload_is_open(tmp_path: Path) -> None:
    assert singles(run(tmp_path, no_self_masks(), LATE)) == {"c"}


@pytest.mark.parametrize("seeds", [constant_seed(), short_seed], ids=["shared", "short"])
def test_a_seed_that_is_shared_or_short_is_no_self_mask(tmp_path: Path, seeds: Callable[[], bytes]) -> None:
    assert singles(run(tmp_path, seeds_from(seeds), LATE)) == {"c"}


def test_with_one_shared_key_every_upload_is_open(tmp_path: Path) -> None:
    assert singles(run(tmp_path, one_shared_key())) == set("abcd")


def test_in_the_clear_every_upload_is_open_and_found_in_the_record(tmp_path: Path) -> None:
    job = run(tmp_path, nullcontext(), mode="clear")
    assert singles(job) == set("abcd")
    found = search(job.transcript, plain_needles(job, "abcd"))
    assert {name.split(" from ")[0] for name in found} >= {f"update of {it} in attempt 1" for it in "abcd"}


@pytest.mark.slow
def test_updates_in_the_clear_are_found_in_the_servers_memory(tmp_path: Path) -> None:
    """The search of a process's memory sees what the strategy holds for a moment."""
    job = run_recorded(tmp_path, wide_federation(5, "clear"), rounds=1, own_process=True)
    found = search(job.transcript, plain_needles(job, "abcd"))
    assert any(place.startswith("memory") for places in found.values() for place in places)
