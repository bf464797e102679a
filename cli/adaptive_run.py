"""An episode: the strategy, real agents and a store in this process, control on a port, and the sidecar beside it.

Nothing is played: the sidecar reads control over HTTP and its decisions go through it, as anywhere. It looks after each
attempt, so that what it sees does not hang on how busy the machine is. In place of the keeper a run that has lost its
lease is followed by another.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.cli.episodes import Episode
from hansa.cli.members import audit_request
from hansa.cli.simulation import LocalOperator, SimulatedFederation
from hansa.clients.attempt import LocalWork
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import Split
from hansa.clients.work import Work
from hansa.contract.decisions import Decision
from hansa.contract.errors import HansaError
from hansa.contract.jobs import AttemptResult, JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import UPDATE
from hansa.contract.wire import Segments
from hansa.models.metrics import figures
from hansa.server.control.app import build_app
from hansa.server.control.desk import ControlDesk
from hansa.server.records import DecisionRecord
from hansa.server.store import open_store
from hansa.server.store.journal import JobJournal
from hansa.server.tokens import Tokens
from hansa.sidecar.looking import Sidecar
from hansa.sidecar.memory import Memories
from hansa.sidecar.server_api import ServerApi
from hansa.strategies.apply import ModelState
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid, NodeFunction
from hansa.strategies.ports import Arrays, LeaseLost

# The member that trouble befalls.
VICTIM = 2
SLOWER_S = 1.0
# Where an episode has one asked for: the first rounds say where the job sets out to.
AUDIT_FROM = 5
# Runs of one job: more than that, and something goes back for ever.
_MOST_RUNS = 50


@dataclass(frozen=True)
class EpisodeResult:
    """What became of an episode.

    Parameters
    ----------
    loss, auc : exact, of the model at the end on all members' held-out records as they were at the start
    """

    episode: Episode
    status: str
    reason: str
    decisions: list[DecisionRecord]
    loss: float
    auc: float
    held: dict[str, str]
    seconds: float

    @property
    def noticed(self) -> list[DecisionRecord]:
        """Decisions about the trouble; in a calm episode all alarms and interventions."""
        if self.episode.trouble == "none":
            return [it for it in self.decisions if it.by in ("recovery", "members", "audit")]
        return self.episode.noticed(self.decisions)  # type: ignore[arg-type,return-value]


class Changing:
    """A member's work that may become another's in the middle of a job."""

    def __init__(self, honest: LocalWork) -> None:
        self.now: Work = honest
        self.honest = honest

    @property
    def parameters(self) -> int:
        """Coordinates of the charter's model."""
        return self.now.parameters

    def check(self, order: Order, segments: Segments) -> None:
        """As the work that is done now does."""
        self.now.check(order, segments)

    def check_preparation(self, segments: Segments) -> None:
        """As the work that is done now does."""
        self.now.check_preparation(segments)

    def run(self, plan: JobPlan, order: Order, segments: Segments, noise: Mapping[str, float]) -> Segments:
        """As the work that is done now does."""
        return self.now.run(plan, order, segments, noise)

    def keep(self, plan: JobPlan, segments: Segments, rounds: int) -> None:
        """As the work that is done now does."""
        self.now.keep(plan, segments, rounds)


class Turned(LocalWork):
    """A member that sends its sums with the other sign, its noise as it should be."""

    def _values(
        self, name: str, plan: JobPlan, order: Order, segments: Segments, multiplier: float
    ) -> NDArray[np.float64]:
        values = super()._values(name, plan, order, segments, multiplier)
        return -values if name == UPDATE else values


class Trouble:
    """What an episode does to its job, once its round has come."""

    def __init__(
        self,
        episode: Episode,
        federation: SimulatedFederation,
        works: Mapping[str, Changing],
        desk: ControlDesk,
    ) -> None:
        self._episode = episode
        self._federation = federation
        self._works = works
        self._desk = desk
        self.began = False
        self.slow = self.gone = False

    def before(self, number: int, job: str) -> None:
        """Round `number` is about to be made."""
        if self.began or number < self._episode.round:
            return
        self.began = True
        victim = list(self._works)[VICTIM]
        match self._episode.trouble:
            case "rate":
                self._set_rate(job)
            case "drift":
                for name, work in self._works.items():
                    work.now = self._with(name, _drifted(work.honest.records, self._episode.size))
            case "flipped":
                self._works[victim].now = self._with(
                    victim, _drifted(self._works[victim].honest.records, 1.0)
                )
            case "turned":
                charter, model = self._federation.charter, self._federation.model
                self._works[victim].now = Turned(victim, charter, model, self._works[victim].honest.records)
            case "slow":
                self.slow = True
            case "gone":
                self.gone = True
            case "none":
                pass

    def _set_rate(self, job: str) -> None:
        bounds = self._desk.charter.knobs["server_rate"]
        value = min(max(bounds.default * self._episode.size, bounds.low), bounds.high)
        self._desk.store.knobs.set(job, {"server_rate": value}, by="operator", reason="by mistake")

    def _with(self, name: str, records: Split) -> LocalWork:
        return LocalWork(name, self._federation.charter, self._federation.model, records)

    def node(self, place: int, honest: NodeFunction) -> NodeFunction:
        """A member's node."""

        def answer(payload: bytes) -> bytes:
            if place == VICTIM and self.gone:
                raise ConnectionError("gone")
            if place == VICTIM and self.slow:
                time.sleep(SLOWER_S)
            return honest(payload)

        return answer


class Looked:
    """A journal after whose writes the sidecar looks, and before whose rounds trouble comes."""

    def __init__(self, journal: JobJournal, look: Callable[[], None], trouble: Trouble) -> None:
        self._journal = journal
        self._look = look
        self._trouble = trouble

    def __getattr__(self, name: str) -> object:
        return getattr(self._journal, name)

    def knobs(self) -> dict[str, float]:
        """Trouble comes first: it may move one."""
        self._trouble.before(self._journal.progress().round + 1, self._journal.plan.job)
        return self._journal.knobs()

    def commit(self, result: AttemptResult, state: Arrays | None) -> None:
        """Then the sidecar looks."""
        self._journal.commit(result, state)
        self._look()

    def adopt(
        self, train: AttemptResult, probe: AttemptResult | None, state: Arrays | None, decision: Decision
    ) -> None:
        """Then the sidecar looks."""
        self._journal.adopt(train, probe, state, decision)
        self._look()


def run_episode(
    episode: Episode, federation: SimulatedFederation, plan: JobPlan, folder: Path
) -> EpisodeResult:
    """Train once, with what befalls it.

    Parameters
    ----------
    folder : an empty one, for the store and what the sidecar remembers
    """
    began = time.monotonic()
    store = open_store(f"sqlite:///{folder.resolve()}/store.sqlite")
    tokens = {scope: secrets.token_urlsafe(32) for scope in ("read", "write", "sign")}
    desk = ControlDesk(
        store=store,
        charter=federation.charter,
        charter_hash=federation.hash,
        key=federation.operator,
        tokens=Tokens({scope: it.encode() for scope, it in tokens.items()}),  # type: ignore[misc]
        superlink="127.0.0.1:1",
    )
    desk.submit(plan)
    if episode.audited:
        asked = audit_request(AUDIT_FROM, AUDIT_FROM + 24, "the operator asks for an audit")
        store.decisions.keep(plan.job, asked)
    works = {name: Changing(federation.work(name)) for name in federation.records}
    agents = {name: federation.agent(name, work=works[name]) for name in federation.records}
    trouble = Trouble(episode, federation, works, desk)
    nodes = {
        number: trouble.node(number - 1, agent.handle)
        for number, agent in enumerate(agents.values(), start=1)
    }
    grid = InMemoryGrid(nodes)
    try:
        with _listening(desk) as port:
            api = ServerApi(f"http://127.0.0.1:{port}", tokens["write"])
            sidecar = Sidecar(api, Memories(folder / "sidecar"))
            for _ in range(_MOST_RUNS):
                _run(federation, Looked(store.claim(plan.job, "run"), sidecar.look, trouble), grid)
                if store.jobs.get(plan.job).status != "queued":
                    break
            sidecar.look()
            api.close()
        return _result(episode, federation, store.jobs.get(plan.job).job, desk, time.monotonic() - began)
    finally:
        grid.close()
        for agent in agents.values():
            agent.close()
        store.close()


def _run(federation: SimulatedFederation, journal: Looked, grid: InMemoryGrid) -> None:
    strategy = ConsortiumStrategy(
        charter=federation.charter,
        charter_hash=federation.hash,
        model=federation.model,
        journal=journal,  # type: ignore[arg-type]
        operator=LocalOperator(federation.operator),
        gather_s=0.0,
        sleep=lambda _: time.sleep(0.01),
    )
    try:
        strategy.start(grid)
    except LeaseLost:
        # The job went back; another run goes on from there.
        return


def _result(
    episode: Episode, federation: SimulatedFederation, job: str, desk: ControlDesk, seconds: float
) -> EpisodeResult:
    store = desk.store
    found = store.jobs.get(job)
    kept = store.history.checkpoint(job, found.round)
    if kept is None:
        raise HansaError(f"episode '{episode.name}': job {job} has no state")
    weights = ModelState.from_arrays(kept).released
    labels = [it.holdout.y for it in federation.records.values()]
    scores = [federation.model.predict(weights, it.holdout.X) for it in federation.records.values()]
    exact = figures(np.concatenate(scores), np.concatenate(labels), federation.charter.task.features.label)
    return EpisodeResult(
        episode=episode,
        status=found.status,
        reason=found.reason,
        decisions=store.decisions.of(job, limit=10_000),
        loss=exact["log_loss"],
        auc=exact["auc"],
        held={it.name: it.held for it in store.members.all() if it.held is not None},
        seconds=seconds,
    )


def _drifted(records: Split, share: float) -> Split:
    """The same records, so large a share of their labels turned around."""
    return Split(*(_turned(part, share) for part in (records.train, records.holdout)))


def _turned(part: Dataset, share: float) -> Dataset:
    chosen = np.random.default_rng(len(part.y)).random(len(part.y)) < share
    return replace(part, y=np.where(chosen, 1.0 - part.y, part.y))


@contextmanager
def _listening(desk: ControlDesk) -> Iterator[int]:
    """Control on a free port of this machine."""
    import uvicorn

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        settings = uvicorn.Config(build_app(desk), log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)
