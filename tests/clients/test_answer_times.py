"""What whoever asks without end can measure of a real agent: the same with 1,000 records and with 50,000."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from federation import make_plan

from hansa.cli.instance import Instance
from hansa.cli.overrides import override
from hansa.cli.provisioning import provision
from hansa.contract.charter import Charter, MetricsPolicy
from hansa.contract.frames import WorkSocket
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import SigningKey
from hansa.contract.library import scenario_folder
from hansa.contract.messages import (
    CloseRequest,
    HelloRequest,
    JobRequest,
    Order,
    RefusalReply,
    RequestHeader,
    TrainRequest,
)
from hansa.contract.scenario import MemberConfig, read_scenario
from hansa.contract.signatures import verify_charter
from hansa.contract.sources import SyntheticSource
from hansa.contract.typed import read_toml
from hansa.contract.wire import Segments, describe, reply_header, seal, unpack
from hansa.models.registry import load_model

# Both data sets are computed within it.
FLOOR_S = 3.0
STEPS = 40
BESIDE = 3
# Answers that were on their way when the agent took the order.
ON_THEIR_WAY_S = 0.1


@dataclass
class Answers:
    """When each request was sent and answered, seconds."""

    times: list[tuple[float, float]] = field(default_factory=list)

    def waits(self, begin: float, end: float) -> list[float]:
        """How long each of those took that were sent between two moments."""
        return [answered - sent for sent, answered in self.times if begin <= sent < end]


@dataclass
class Probed:
    """One agent, and what its server measures of it."""

    instance: Instance
    charter: Charter
    hash: str
    plan: JobPlan
    # What its program does before it begins.
    before: str = ""

    def __post_init__(self) -> None:
        self.operator = SigningKey.load(self.instance.control / "operator.key")
        self.folder = self.instance.member_path(next(iter(self.instance.members)))
        config = read_toml(self.folder / "member.toml", MemberConfig)
        ready = self.folder / "ready"
        program = (
            f"{self.before}\nimport sys\nfrom hansa.clients.agent import main\nsys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", program, "--folder", str(self.folder), "--ready-file", str(ready)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        self.socket = WorkSocket(self.folder / config.work_socket)

    def ask(self, body: object, segments: Segments | None = None) -> object:
        arrays = segments or {}
        header = RequestHeader(charter=self.hash, body=body, segments=describe(arrays))  # type: ignore[arg-type]
        answer = reply_header(unpack(self.socket.ask(seal(header, arrays, self.operator), 60))).body
        assert not isinstance(answer, RefusalReply), answer
        return answer

    def probe(self, answers: Answers, stop: threading.Event) -> None:
        """Ask for nothing but an answer, again and again."""
        header = RequestHeader(charter=self.hash, body=HelloRequest(nonce="n"), segments=())
        payload = seal(header, {}, self.operator)
        while not stop.is_set():
            sent = time.monotonic()
            self.socket.ask(payload, 60)
            answers.times.append((sent, time.monotonic()))
            stop.wait(0.02)

    def attempt(self, number: int, weights: np.ndarray) -> tuple[Answers, float, float]:
        """One attempt with others asking beside it: their answers, when it was ordered, when its upload came."""
        names = tuple(it.name for it in self.charter.members)
        segments = {"weights": weights}
        order = Order(
            job=self.plan.job,
            attempt=number,
            kind="train",
            base=0,
            cohort=names,
            knobs={name: knob.default for name, knob in self.charter.knobs.items()},
            arrays={it.name: it.sha256 for it in describe(segments)},
        )
        with Beside(self) as answers:
            began = time.monotonic()
            self.ask(TrainRequest(order=order), segments)
            ended = time.monotonic()
            time.sleep(0.2)
        return answers, began, ended

    def closed(self, weights: np.ndarray, seconds: float) -> list[float]:
        """What the answers take for so long after the job's end, while a version of the member's own is fitted."""
        self.ask(CloseRequest(job=self.plan.job, rounds=1), {"released": weights})
        with Beside(self) as answers:
            began = time.monotonic()
            time.sleep(seconds)
        return answers.waits(began, began + seconds)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Beside:
    """Others who ask meanwhile."""

    def __init__(self, probed: Probed) -> None:
        self._probed = probed
        self._stop = threading.Event()
        self._each = [Answers() for _ in range(BESIDE)]
        self._threads = [
            threading.Thread(target=probed.probe, args=(answers, self._stop)) for answers in self._each
        ]
        self.all = Answers()

    def __enter__(self) -> Answers:
        for thread in self._threads:
            thread.start()
        time.sleep(0.3)
        return self.all

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.all.times += [it for answers in self._each for it in answers.times]


def probed(root: Path, rows: int, floor: float = FLOOR_S, before: str = "") -> Probed:
    """An agent with so many records, which takes so many steps at home that this takes a while."""
    scenario, features = read_scenario(scenario_folder("hospitals"))
    scenario = override(scenario, ["privacy.noise=none", "check=false", "mode=clear", f"steps={STEPS}"])
    first = scenario.members[0]
    assert isinstance(first.data, SyntheticSource)
    data = first.data.model_copy(update={"rows": rows})
    metrics = MetricsPolicy(seconds_floor=floor)
    members = (first.model_copy(update={"data": data}), *scenario.members[1:3])
    made = scenario.model_copy(update={"members": members, "metrics": metrics})
    instance = provision(made, features, origin=root, out=root / f"with {rows}")
    verified = verify_charter(instance.charter, instance.signatures)
    plan = make_plan(10, steps=STEPS)
    return Probed(instance, verified.charter, verified.hash, plan, before)


def measured(made: Probed, attempts: int = 2, after: float = 4.0) -> dict[str, float]:
    """Seconds, in words of who measures."""
    weights = load_model(made.charter.task.model, made.charter.task.features).initial(0)
    try:
        made.ask(JobRequest(plan=made.plan))
        early, late, uploads, computing = [], [], [], []
        for number in range(1, attempts + 1):
            answers, began, ended = made.attempt(number, weights)
            floor = began + FLOOR_S
            early += [it for _, it in answers.times if began + ON_THEIR_WAY_S <= it < floor]
            late += [it - floor for sent, it in answers.times if sent < floor <= it]
            computing += answers.waits(began, began + 0.5)
            uploads.append(ended - began)
        waits = made.closed(weights, after)
    finally:
        made.close()
    return {
        "answers before the floor": len(early),
        "an upload": statistics.median(uploads),
        "an answer after the floor": max(late, default=-1.0),
        "wait of an answer asked meanwhile": statistics.median(computing),
        "wait of an answer after the close": statistics.median(waits),
        "its slowest tenth": float(np.quantile(waits, 0.9)),
    }


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
def test_answers_do_not_tell_fifty_thousand_records_from_a_thousand(tmp_path: Path) -> None:
    few, many = (measured(probed(tmp_path, rows)) for rows in (1_000, 50_000))
    for found in (few, many):
        # While an upload is computed nothing leaves, and all of it leaves with the upload.
        assert found["answers before the floor"] == 0
        assert found["an upload"] == pytest.approx(FLOOR_S, abs=0.1)
        assert 0 <= found["an answer after the floor"] < 0.1
    for what in few:
        # A fifth of the beat, which the moment of an upload above its floor tells anyhow.
        assert abs(few[what] - many[what]) < 0.05, (what, few, many)


if __name__ == "__main__":
    import tempfile

    # As it was before: answers to others wait for nothing.
    unpaced = (
        "import hansa.clients.turns as t\n"
        "t.Turns._wait = lambda s, m: m.began and s._pace(s._monotonic() - m.began)"
    )
    for before in ("", unpaced):
        for rows in (1_000, 50_000):
            with tempfile.TemporaryDirectory() as folder:
                found = measured(probed(Path(folder), rows, before=before))
                shown = ", ".join(f"{what} {value:.4f}" for what, value in found.items())
                print(f"{rows} records{', unpaced' if before else ''}: {shown}")
