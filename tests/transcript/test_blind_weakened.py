"""What the attacker does not learn of mode `he` it learns of weakened builds: keys, sums, models, single updates."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from blind_attacker import BlindAttacker
from blind_needles import key_needles, model_needles
from blind_weakened import (
    bare_under_the_envelope,
    keys_for_the_server_too,
    short_draws,
    short_group_key,
    states_as_they_are,
)
from needles import search
from recorded_job import RecordedJob, Script, run_recorded, wide_federation
from weakened import no_self_masks, one_shared_key, seeds_from, short_seed

from hansa.contract.segments import EVALUATION, UPDATE

COLLUDER = "e"
LATE: Script = {1: ("c", "late")}


def run(folder: Path, build: AbstractContextManager[None], script: Script | None = None) -> RecordedJob:
    with build:
        return run_recorded(folder, wide_federation(5, "he"), rounds=1, script=script, deadline_s=2.0)


def attacker(job: RecordedJob, *colluders: str, bits: int = 16) -> BlindAttacker:
    told = [job.truth.colluder(job.federation, name) for name in colluders]
    return BlindAttacker(job.transcript, job.federation.charter, job.federation.hash, job.plan, told, bits)


def opened(attacking: BlindAttacker, job: RecordedJob, segment: str = UPDATE) -> set[str]:
    """Members whose sums the attacker knows from attempt 1, each checked against the truth."""
    found = attacking.findings().get((1, segment), {})
    for members, total in found.items():
        np.testing.assert_array_equal(total, job.truth.total(1, sorted(members), segment))
    return {"".join(sorted(members)) for members in found}


def test_without_masks_a_colluder_opens_every_update_and_the_server_alone_none(tmp_path: Path) -> None:
    """The envelope is one key, which every member has: masks may not be dropped under it."""
    job = run(tmp_path, bare_under_the_envelope())
    assert {it for it in opened(attacker(job, COLLUDER), job) if len(it) == 1} == set("abcd")
    # Short keys are tried in the other cases.
    alone = attacker(job, bits=1)
    assert alone.job_keys == alone.states() == {}
    assert opened(alone, job) == set()


@pytest.mark.slow
@pytest.mark.parametrize("build", [keys_for_the_server_too, short_draws])
def test_with_the_jobs_keys_the_server_has_sums_and_models(
    tmp_path: Path, build: Callable[[], AbstractContextManager[None]]
) -> None:
    """And no single update: the masks do not hang on these keys."""
    job = run(tmp_path, build())
    attacking = attacker(job)
    assert opened(attacking, job) == {"abcde"}
    active, total = attacking.sums()[1]
    assert active == set("abcde")
    np.testing.assert_array_equal(total, job.truth.total(1, "abcde", UPDATE))
    [state] = {it.weights.tobytes() for it in attacking.states()[1]}
    assert state == job.weights.tobytes()


@pytest.mark.slow
def test_keys_that_are_not_sealed_are_found_in_the_record(tmp_path: Path) -> None:
    job = run(tmp_path, keys_for_the_server_too())
    [keys] = job.truth.held.keys
    found = search(job.transcript, key_needles("keys", keys))
    assert {"keys: group key raw", "keys: envelope's key from byte 0"} <= set(found)
    assert not any("hex" in name or "base64" in name for name in found)


@pytest.mark.slow
def test_with_the_group_key_alone_the_server_has_the_models(tmp_path: Path) -> None:
    job = run(tmp_path, short_group_key())
    attacking = attacker(job)
    assert opened(attacking, job) == set()
    [state] = {it.weights.tobytes() for it in attacking.states()[1]}
    assert state == job.weights.tobytes()


@pytest.mark.slow
def test_states_that_are_not_sealed_are_found_in_messages_store_and_memory(tmp_path: Path) -> None:
    with states_as_they_are():
        job = run_recorded(tmp_path, wide_federation(5, "he"), rounds=2, own_process=True)
    found = search(job.transcript, model_needles(job.truth.held))
    places = {it.split()[0].split("/")[0] for seen in found.values() for it in seen}
    assert {"frame", "memory"} <= places
    assert {"store.sqlite", "store.sqlite-wal"} & places
    assert any(name.startswith("weights of state 1, round 2 from") for name in found)


@pytest.mark.slow
def test_with_one_shared_key_under_the_masks_a_colluder_opens_every_update(tmp_path: Path) -> None:
    job = run(tmp_path, one_shared_key())
    singles = {it for it in opened(attacker(job, COLLUDER), job) if len(it) == 1}
    assert singles == set("abcd")
    # The server alone has no key at all: of the sums that it may open it knows the one of everybody.
    assert opened(attacker(job), job) == set()
    assert opened(attacker(job), job, EVALUATION) == {"abcde"}


@pytest.mark.slow
@pytest.mark.parametrize("build", [no_self_masks, lambda: seeds_from(short_seed)], ids=["none", "short"])
def test_without_self_masks_a_late_update_is_open_to_a_colluder(
    tmp_path: Path, build: Callable[[], AbstractContextManager[None]]
) -> None:
    job = run(tmp_path, build(), LATE)
    assert {it for it in opened(attacker(job, COLLUDER), job) if len(it) == 1} == {"c"}
    assert opened(attacker(job), job) == set()
