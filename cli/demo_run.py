"""A demo's job from its first process to its last: started, followed, its results gathered, everything stopped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hansa.cli.budgets_shown import GrantLine, mirror_lines
from hansa.cli.control_client import Control
from hansa.cli.demo import Demo
from hansa.cli.federation import START_S, check_given_up, federation_specs, record_path, supervised
from hansa.cli.follow import Followed, follow, start_job
from hansa.cli.instance import MemberFolder
from hansa.cli.interrupts import Interruption
from hansa.cli.process_memory import PeakMemory
from hansa.cli.progress import Progress
from hansa.cli.results import Figure, exact_figures, read_held_out
from hansa.cli.status import page_sentence
from hansa.contract.charter import Charter
from hansa.contract.errors import HansaError, InputError
from hansa.contract.jobs import MetricValue
from hansa.contract.shown import privacy_sentence, protection_sentence
from hansa.contract.typed import write_atomically

# So long members' own versions may take after a job: their fits end with the agents.
_FITTED_S = 10.0


@dataclass(frozen=True)
class DemoRun:
    """What became of a demo's job.

    Parameters
    ----------
    followed : None where somebody interrupted before every process was ready
    model : the released model's file; None where the server has none to give
    local : exact figures on held-out records, read from the members' own folders
    peaks : most resident bytes seen of each process with what it started
    """

    followed: Followed | None
    model: Path | None = None
    budgets: Sequence[GrantLine] = ()
    local: Mapping[str, Figure] | None = None
    peaks: Mapping[str, int] | None = None
    ready_s: float = 0.0

    @property
    def over(self) -> bool:
        """Whether the job came to an end by itself."""
        return self.followed is not None and self.followed.over

    @property
    def finished(self) -> bool:
        """Whether all its rounds were made."""
        return self.followed is not None and self.followed.job.status == "finished"

    @property
    def released(self) -> Mapping[str, MetricValue]:
        """Released figures of the last round."""
        return self.followed.lines[-1].metrics if self.followed and self.followed.lines else {}


def run_demo(demo: Demo, charter: Charter, progress: Progress, interruption: Interruption) -> DemoRun:
    """Start every process, follow the job to its end or until somebody interrupts, stop everything.

    Raises
    ------
    HansaError : a process did not start, or ended because its input is wrong
    """
    instance, memory = demo.instance, PeakMemory()
    forget_scores(demo)
    began = time.monotonic()
    with supervised(
        record_path(instance.folder, "up"),
        str(instance.folder),
        federation_specs(instance),
        logs=instance.logs,
        report=progress.note,
    ) as supervisor:
        interruption.at_once = supervisor.hurry
        progress.note(f"{len(charter.members)} members, logs in {instance.logs}")
        progress.note(protection_sentence(charter))
        progress.note(privacy_sentence(charter))
        progress.note(page_sentence(instance))
        if not supervisor.wait_ready(START_S, lambda: interruption.requested):
            return DemoRun(None)
        ready_s = time.monotonic() - began

        def check() -> None:
            check_given_up(supervisor)
            memory.look({it.name: it.pid for it in supervisor.processes if it.pid is not None})

        with Control.of(instance, "write") as control:
            job, sentence = start_job(control, demo.plan, demo.start)
            if sentence:
                progress.note(sentence)
            followed = follow(control, job, wait=interruption.wait, seen=progress.seen, check=check)
            if not followed.over:
                return DemoRun(followed, ready_s=ready_s, peaks=memory.peaks)
            model = _export(control, followed, charter, instance.folder / "model")
            budgets = mirror_lines(control.budgets(), control.spendings(), {}, instance.members)[0]
        members = [instance.member(name) for name in instance.members]
        # A label of several classes has no personal model.
        personal = followed.job.status == "finished" and charter.task.features.label.kind != "multiclass"
        late = late_fits(members, job.job, interruption.wait) if personal else []
        if late:
            print(
                f"warning: stopped before these fitted a version of their own: {', '.join(late)}",
                file=sys.stderr,
            )
    local = _local(demo, charter) if followed.job.status == "finished" else {}
    return DemoRun(followed, model, budgets, local, memory.peaks, ready_s)


def late_fits(
    members: Sequence[MemberFolder], job: str, wait: Callable[[float], bool], *, patience: float = _FITTED_S
) -> list[str]:
    """Wait for the members' own versions of a job's model; names of those that have the model alone after that.

    Parameters
    ----------
    wait : sleeps so long; whether somebody wants this to end
    """
    from hansa.clients.personal import personal_path

    deadline = time.monotonic() + patience
    while True:
        late = [
            it.folder.name
            for it in members
            if (it.folder / f"model-{job}.npz").exists() and not personal_path(it.folder, job).exists()
        ]
        if not late or time.monotonic() > deadline or wait(0.05):
            return late


def forget_scores(demo: Demo) -> None:
    """What an earlier job left must not pass for the figures of this one."""
    for name in demo.instance.members:
        demo.instance.member(name).held_out.unlink(missing_ok=True)


def _export(control: Control, followed: Followed, charter: Charter, folder: Path) -> Path | None:
    """Write the released model while there is a control to ask; None where the server has none to give."""
    if followed.job.status != "finished" or charter.protection.mode == "he":
        return None
    try:
        release = control.release(followed.job.job)
        path = folder / f"{release.name}.safetensors"
        write_atomically(path, control.release_tensors(followed.job.job))
        write_atomically(path.with_suffix(".json"), release.model_dump_json(indent=2).encode() + b"\n")
    except (HansaError, OSError) as error:
        # The job is done and stays so; its model can be asked for again.
        print(f"warning: the released model was not written: {error}", file=sys.stderr)
        return None
    return path


def _local(demo: Demo, charter: Charter) -> dict[str, Figure]:
    """Exact figures, from the agents' own folders: this command owns them all."""
    held_out = {}
    for name in demo.instance.members:
        try:
            held_out[name] = read_held_out(demo.instance.member(name).held_out)
        except InputError as error:
            print(f"warning: no exact figures of '{name}': {error}", file=sys.stderr)
    return exact_figures(held_out, charter.task.features.label)
