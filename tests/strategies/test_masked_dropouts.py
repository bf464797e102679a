"""Members vanish and return at random: an attempt ends exactly whenever t answer, and fails cleanly otherwise."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from masked_jobs import Fault, MaskedJob, Node, attempt_of, clear_weights, vanish
from slow import cases

from hansa.contract.messages import Request

# What becomes of a member in the first attempt: until when it answers, and whether it starts anew then.
FATES = (
    "stays",
    "gone before the upload",
    "its upload is lost",
    "gone after the upload",
    "gone between agree and unmask",
    "its shares are lost",
    "restarts before the upload",
    "restarts after the upload",
)


@dataclass(frozen=True)
class Fate:
    """One member's part of the first attempt; `wait` spreads the order of arrival and provokes duplicates."""

    what: str
    wait: float

    @property
    def uploads(self) -> bool:
        return self.what not in (
            "gone before the upload",
            "its upload is lost",
            "restarts before the upload",
        )

    @property
    def signs(self) -> bool:
        return self.uploads and self.what not in ("gone after the upload", "restarts after the upload")

    @property
    def gives(self) -> bool:
        return self.signs and self.what not in ("gone between agree and unmask", "its shares are lost")

    def fault(self, job: MaskedJob, name: str) -> Fault:
        """The function before the member's node."""
        gone = {
            "gone before the upload": vanish("attempt", 1),
            "its upload is lost": vanish("attempt", 1, answered=True),
            "gone after the upload": vanish("agree", 1),
            "gone between agree and unmask": vanish("unmask", 1),
            "its shares are lost": vanish("unmask", 1, answered=True),
        }.get(self.what, lambda body, honest, payload: honest(payload))
        restarted: list[bool] = []

        def fault(body: Request, honest: Node, payload: bytes) -> bytes:
            if attempt_of(body) == 1:
                time.sleep(self.wait)
                first = "attempt" if self.what == "restarts before the upload" else ""
                last = ("agree", "unmask") if self.what == "restarts after the upload" else (first,)
                if body.type in last and not restarted:
                    restarted.append(True)
                    job.restart(name)
            return gone(body, honest, payload)

        return fault


fates = st.builds(Fate, st.sampled_from(FATES), st.sampled_from([0.0, 0.0, 0.002, 0.01]))


def run(fate_of: dict[str, Fate], reask_s: float = 1.0) -> MaskedJob:
    job = MaskedJob(len(fate_of), plan={"reask_s": reask_s})
    job.faults = {name: fate.fault(job, name) for name, fate in fate_of.items()}
    job.run()
    return job


def check(job: MaskedJob, fate_of: dict[str, Fate]) -> None:
    """The first attempt ends as the protocol says, the job ends either way, and its sum is exact."""
    charter = job.simulated.charter
    active = {name for name, fate in fate_of.items() if fate.uploads}
    signers = [name for name in active if fate_of[name].signs]
    givers = [name for name in active if fate_of[name].gives]
    agreed = len(active) == len(fate_of) or len(signers) >= charter.threshold
    completes = len(active) >= charter.least_active and agreed and len(givers) >= charter.threshold
    results = job.job.results
    assert job.job.status == "finished"
    assert [it.attempt for it in results] == list(range(1, len(results) + 1))
    assert set(results[0].active) == active
    assert results[0].status == ("applied" if completes else "failed")
    assert job.job.state is not None
    applied = next(it for it in results if it.status == "applied")
    missing = frozenset(fate_of) - set(applied.active)
    assert job.job.state["weights"].tobytes() == clear_weights(len(fate_of), 1, missing)
    if not completes:
        assert results[0].reason
        assert results[0].metrics == {}
        # Whoever restarted unseen is found out by the attempt after.
        assert len(results) <= 4


def vanishing(members: int, data: st.DataObject) -> None:
    names = [chr(ord("a") + number) for number in range(members)]
    # Few enough faults that both ends are met.
    most = members - (2 * members) // 3 + 1
    faulty = data.draw(st.lists(st.sampled_from(names), max_size=most, unique=True))
    fate_of = {name: data.draw(fates) if name in faulty else Fate("stays", 0.0) for name in names}
    check(run(fate_of), fate_of)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(members=st.sampled_from([3, 4, 5, 5]), data=st.data())
def test_an_attempt_ends_exactly_whenever_t_answer(members: int, data: st.DataObject) -> None:
    vanishing(members, data)


@pytest.mark.long
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(members=st.sampled_from([3, 4, 5, 5, 10]), data=st.data())
def test_an_attempt_of_up_to_ten_ends_exactly_whenever_t_answer(members: int, data: st.DataObject) -> None:
    vanishing(members, data)


@pytest.mark.parametrize(
    ("members", "most"), cases([(3, 0), (4, 1), (5, 1), (10, 4)], quick=lambda it: it[0] < 5)
)
@pytest.mark.parametrize("what", FATES[1:])
def test_so_many_members_may_vanish_and_one_more_is_too_many(members: int, most: int, what: str) -> None:
    names = [chr(ord("a") + number) for number in range(members)]
    for gone in (most, most + 1):
        fate_of = {name: Fate(what if number < gone else "stays", 0.0) for number, name in enumerate(names)}
        job = run(fate_of)
        assert (job.job.results[0].status == "applied") == (gone == most)
        check(job, fate_of)


def test_duplicate_replies_count_once() -> None:
    fate_of = {name: Fate("stays", 0.7) for name in ("a", "b", "c", "d")}
    job = run(fate_of, reask_s=0.05)
    # Each was asked for the same upload several times.
    uploads = [name for name, body in job.asked if body.type == "attempt" and attempt_of(body) == 1]
    assert len(uploads) > 4
    check(job, fate_of)
