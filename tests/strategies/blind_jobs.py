"""Jobs in mode `he` over real agents in memory, whose files may be copied and put back."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from federation import JOB
from masked_jobs import Fault, MaskedJob, Node, attempt_of

from hansa.contract.blind_messages import Held
from hansa.contract.messages import JobReply, Reply, Request
from hansa.contract.wire import Segments, describe, reply_header, seal, segments_of, unpack
from hansa.strategies.apply import ModelState

Change = Callable[[Reply, Segments], tuple[Reply, Segments]]


class BlindJob(MaskedJob):
    """A job whose members hold the model."""

    def __init__(self, members: int = 4, rounds: int = 2, **fields: object) -> None:
        super().__init__(members, rounds, mode="he", **fields)  # type: ignore[arg-type]

    @property
    def maker(self) -> str:
        """Who makes the keys where everybody is there."""
        return min(self.simulated.charter.members, key=lambda it: it.identity_key).name

    def held(self, name: str) -> Held:
        """What a member holds of the job."""
        blind = self.agents[name].blind
        assert blind is not None
        return blind.holds(JOB)

    def model(self, name: str) -> ModelState:
        """The newest state that a member holds."""
        blind, held = self.agents[name].blind, self.held(name)
        assert blind is not None
        return blind.model(JOB, held.tag, held.round)

    def copied(self, name: str) -> Path:
        """Yesterday's copy of a member's files."""
        folder = Path(self._logs.name)
        copy = folder / "copies" / name
        copy.mkdir(parents=True)
        self.agents[name].close()
        for path in folder.glob(f"{name}.*"):
            shutil.copy(path, copy)
        self.restart(name)
        return copy

    def restore(self, name: str, copy: Path) -> None:
        """The copy is put back, and another process starts."""
        self.agents[name].close()
        for path in Path(self._logs.name).glob(f"{name}.*"):
            path.unlink()
        for path in copy.iterdir():
            shutil.copy(path, self._logs.name)
        self.restart(name)

    def assert_alike(self, names: Iterable[str] = ()) -> None:
        """The job is over, and these members, or all, hold its last state: that of the same rounds in the clear."""
        assert self.job.status == "finished", self.job.reason
        names = list(names or self.agents)
        assert {self.held(name).round for name in names} == {self.job.plan.rounds}
        assert len({self.held(name).tag for name in names}) == 1
        weights = self.model(names[0]).weights
        np.testing.assert_array_equal(weights, in_the_clear(self))


def in_the_clear(job: BlindJob) -> np.ndarray:
    """The weights that the same active sets reach where the server applies."""
    rounds = [it for it in job.job.results if it.status == "applied"]
    fields = {"seed": job.job.plan.seed, "rule": job.job.plan.rule}
    other = MaskedJob(len(job.agents), len(rounds), mode="clear", plan=fields)
    for name in job.agents:
        missed = {number for number, it in enumerate(rounds, start=1) if name not in it.active}
        other.faults[name] = gone(lambda body, missed=missed: attempt_of(body) in missed)
    strategy, grid = other.strategy(), other.grid()
    strategy.connect(grid)
    for it in rounds:
        # The grid's room hangs on the cohort.
        other.job.held = dict.fromkeys(it.left_out, "was left out")
        assert strategy.train_round().cohort == it.cohort
    grid.close()
    assert isinstance(strategy.state, ModelState)
    return strategy.state.weights


def gone(when: Callable[[Request], bool], *, answered: bool = False) -> Fault:
    """A member that does not answer these requests; with `answered` it does what it is asked all the same."""

    def fault(body: Request, honest: Node, payload: bytes) -> bytes:
        if when(body):
            if answered:
                honest(payload)
            raise ConnectionError("gone")
        return honest(payload)

    return fault


def says(job: BlindJob, name: str, kind: str, change: Change) -> Fault:
    """A member that changes its answers of a kind, and signs them."""

    def fault(_: Request, honest: Node, payload: bytes) -> bytes:
        reply = honest(payload)
        packed = unpack(reply)
        header = reply_header(packed)
        if header.body.type != kind:
            return reply
        body, segments = change(header.body, segments_of(packed, header.segments))
        changed = header.model_copy(update={"body": body, "segments": describe(segments)})
        return seal(changed, segments, job.simulated.identities[name])

    return fault


def claims(job: BlindJob, name: str, **held: object) -> Fault:
    """A member that says it holds other things than it does."""

    def change(body: Reply, segments: Segments) -> tuple[Reply, Segments]:
        assert isinstance(body, JobReply)
        return body.model_copy(update={"held": body.held.model_copy(update=held)}), segments

    return says(job, name, "job", change)
