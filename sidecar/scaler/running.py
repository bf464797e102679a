"""The scaler as it runs: parts out of `scaler.toml`, one thread, a look at each service every minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from hansa.contract.errors import InputError
from hansa.sidecar.actuators.replicas import ActuatorError
from hansa.sidecar.server_api import ServerApi

from .build import make_parts
from .journal import Entry, Journal
from .services import read_services
from .shell import ScalerShell


class RunningScaler:
    """A scaler in a thread of its own, from now until `end`.

    Parameters
    ----------
    services : path of `scaler.toml`
    state : folder that nobody else scales over
    control : asked for jobs; None where there is none
    act : whether anything is started or stopped
    replicas : folder in which actuators note theirs; None: `state`. A dry run looks into that of the scaler that acts
    tell : whether control is told of decisions
    seen : called with each decision, from that thread

    Raises
    ------
    InputError : the file is wrong, or the folder is another scaler's
    ActuatorError : the file is right, and an actuator cannot be used here and now
    """

    def __init__(
        self,
        services: Path,
        state: Path,
        control: ServerApi | None,
        *,
        act: bool = True,
        replicas: Path | None = None,
        tell: bool = True,
        seen: Callable[[Entry], None] = lambda entry: None,
    ) -> None:
        self._wanted, self._seen = read_services(services), seen
        self._ended = threading.Event()
        self._journal = Journal(state, alone=True)
        try:
            parts = {
                it.name: make_parts(it, replicas or state, control, observe=not act)
                for it in self._wanted.services
            }
        except (ActuatorError, InputError):
            self._journal.close()
            raise
        told = control if tell else None
        self._shell = ScalerShell(parts, self._journal, act=act, told=told, every_s=self._wanted.every_s)
        self._thread = threading.Thread(target=self._run, name="scaler", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still looks; it ends by itself only where `seen` raised."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Wait for the look under way; the workers go on."""
        self._ended.set()
        self._thread.join(timeout=30)
        if not self._thread.is_alive():
            # A look that goes on holds the folder: nobody else may begin over it.
            self._journal.close()

    def _run(self) -> None:
        self._shell.finish()
        due = time.monotonic()
        while not self._ended.is_set():
            for entry in self._shell.look():
                self._seen(entry)
            # Looks stay on their beat; one that took longer than a period is followed by the next beat.
            due = max(due + self._wanted.every_s, time.monotonic())
            self._ended.wait(due - time.monotonic())
