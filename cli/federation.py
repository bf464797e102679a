"""Processes of an instance under a supervisor: all of them, the server's, or one organisation's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hansa.cli import roles
from hansa.cli.instance import Instance, MemberFolder
from hansa.cli.interrupts import Interruption
from hansa.cli.processes import ProcessSpec, Supervisor
from hansa.cli.run_record import only_one, write_record
from hansa.contract.errors import HansaError, InputError

# Importing Flower takes seconds where processors are few and members many.
START_S = 120.0
_LOOK_EVERY_S = 0.25


def record_path(folder: Path, what: str) -> Path:
    """Where the supervisor of `up`, `server` or `client` leaves its record."""
    return folder / "run" / f"{what}.json"


def federation_specs(instance: Instance) -> list[ProcessSpec]:
    """Everything, as `hansa up` runs it."""
    run = instance.run.resolve()
    specs = server_specs(instance.server_config_path, instance.control_config_path, run)
    tokens, state = instance.sidecar_tokens_path.resolve(), instance.sidecar.resolve()
    specs.append(roles.sidecar(instance.control_config_path.resolve(), tokens, state, run))
    for name in instance.members:
        specs += member_specs(instance.member(name), run, after=("superlink",))
    return specs


def server_specs(
    config_path: Path, control_config_path: Path | None, run: Path, *, superlink: bool = True
) -> list[ProcessSpec]:
    """The consortium's side; without a control where its configuration is None."""
    config_path = config_path.resolve()
    specs = [roles.superlink(config_path, run)] if superlink else []
    if control_config_path is not None:
        specs.append(roles.control(control_config_path.resolve(), run))
    return [*specs, roles.executor(config_path, run)] if superlink else specs


def member_specs(member: MemberFolder, run: Path, after: tuple[str, ...] = ()) -> list[ProcessSpec]:
    """One organisation's agent and node, and nothing of anybody else's."""
    own = MemberFolder(member.folder.resolve())
    return [roles.agent(own, run), roles.node(own, run, after)]


@contextmanager
def supervised(
    record: Path,
    what: str,
    specs: Sequence[ProcessSpec],
    *,
    logs: Path | None,
    report: Callable[[str], None],
) -> Iterator[Supervisor]:
    """Start processes under a supervisor and keep its record for `status` and `down`; nothing is left at the end.

    Raises
    ------
    InputError : the same thing runs already
    """
    since = datetime.now(UTC)
    record.parent.mkdir(parents=True, exist_ok=True)

    def write(failure: HansaError | None = None) -> None:
        write_record(
            record,
            mark=supervisor.mark,
            since=since,
            processes=supervisor.processes,
            failure=str(failure or ""),
            code=failure.exit_code if failure else 0,
        )

    supervisor = Supervisor(logs=logs, report=report, changed=lambda: write())
    with only_one(record, what):
        try:
            with supervisor:
                supervisor.start(specs)
                yield supervisor
        except HansaError as error:
            write(error)
            raise
        finally:
            for spec in specs:
                if spec.ready is not None:
                    spec.ready.unlink(missing_ok=True)


def check_given_up(supervisor: Supervisor) -> None:
    """Raise with the sentence of a process that ended because its input is wrong."""
    supervisor.check()
    unsaid = "see above" if supervisor.logs is None else "it ended and said nothing"
    for it in supervisor.processes:
        if it.state == "given-up":
            raise InputError(f"{it.name}: {it.sentence or unsaid}")


def keep_running(
    record: Path, what: str, specs: Sequence[ProcessSpec], *, logs: Path | None, said: str
) -> int:
    """Run processes on this terminal until a signal comes; the exit code is 0, however long that took.

    Raises
    ------
    InputError : a process ended because its input is wrong; the others are stopped
    HansaError : a process did not start
    """
    with (
        Interruption() as interruption,
        supervised(record, what, specs, logs=logs, report=_on_stderr) as supervisor,
    ):
        interruption.at_once = supervisor.hurry
        if supervisor.wait_ready(START_S, lambda: interruption.requested):
            _on_stderr(said)
        while not interruption.wait(_LOOK_EVERY_S):
            check_given_up(supervisor)
    return 0


def _on_stderr(sentence: str) -> None:
    print(f"hansa: {sentence}", file=sys.stderr, flush=True)
