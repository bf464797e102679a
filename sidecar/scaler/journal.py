"""What the scaler leaves on disk: what it remembers of each service, what it decided, and whether it is paused.

STATE/NAME.service.json   policy's state, newest decision, what is still to be done and to be told control
STATE/history.jsonl       one line a decision; the older half is in history.1.jsonl, what is older is gone
STATE/paused.json         services that a person holds still, by name; "*" is all of them
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hansa.contract.errors import InputError
from hansa.sidecar.alone import hold_alone
from hansa.sidecar.saved import save_json
from hansa.sidecar.scaling.signals import Band, ScalingDecision

log = logging.getLogger("hansa.scaler")

ALL = "*"
# Of one of the two files of the history; about ten thousand decisions.
MOST_BYTES = 6 * 1024 * 1024
# What control was not told yet, for each service: a day of minutes.
MOST_UNTOLD = 1440


@dataclass(frozen=True)
class Entry:
    """One decision, on what it was made, and what became of it.

    Attributes
    ----------
    decision : the policy's
    ready, starting, leaving : replicas when it was made
    demand, queue, cpu, memory : as `Signals`
    did : "nothing", "scaled", "paused", "dry run" or "failed"
    problem : what stood in the way, in one sentence; empty where nothing did
    """

    decision: ScalingDecision
    ready: int
    starting: int
    leaving: int
    demand: float | None
    queue: float | None
    cpu: float | None
    memory: float | None
    did: str
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data: the decision's fields beside its own."""
        mine = asdict(self)
        document = {**mine.pop("decision"), **mine}
        return document | {name: _sentence(document[name]) for name in ("reason", "pattern", "problem")}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Entry:
        """Raises `KeyError` or `TypeError` where that is no entry."""
        fields = dict(document)
        own = {name: fields.pop(name) for name in _OWN}
        band = fields.pop("band")
        decision = ScalingDecision(**fields, band=None if band is None else Band(**band))
        return cls(decision=decision, **own)


def _sentence(text: str) -> str:
    """As control takes one: no control characters, at most 500 characters."""
    return "".join(" " if letter < " " or letter == "\x7f" else letter for letter in text)[:500]


_OWN = ("ready", "starting", "leaving", "demand", "queue", "cpu", "memory", "did", "problem")


@dataclass
class ServiceMemory:
    """What is remembered of one service.

    Attributes
    ----------
    policy : its own state; None before the first decision
    newest : the newest decision
    pending : replicas that were decided on and perhaps not asked for yet
    untold : entries that control does not have yet, the oldest first
    """

    policy: dict[str, Any] | None = None
    newest: Entry | None = None
    pending: int | None = None
    untold: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        newest = None if self.newest is None else self.newest.as_json()
        return {"policy": self.policy, "newest": newest, "pending": self.pending, "untold": self.untold}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> ServiceMemory:
        """Raises `KeyError` or `TypeError` where that is no memory."""
        newest = document["newest"]
        return cls(
            policy=document["policy"],
            newest=None if newest is None else Entry.from_json(newest),
            pending=document["pending"],
            untold=list(document["untold"]),
        )


class Journal:
    """A folder of memories and decisions.

    Parameters
    ----------
    alone : hold the folder for the life of this object, as whoever scales must

    Raises
    ------
    InputError : the folder cannot be used, or another scaler holds it
    """

    def __init__(self, folder: Path, *, alone: bool = False) -> None:
        self.folder = folder
        self._lock = hold_alone(folder / "scaler.lock", "scaler") if alone else None

    def close(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()

    def load(self, service: str) -> ServiceMemory:
        """What was saved; an empty memory where nothing was, or where it cannot be read any more."""
        path = self._path(service)
        try:
            return ServiceMemory.from_json(json.loads(path.read_text()))
        except FileNotFoundError:
            return ServiceMemory()
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read and is begun anew: %s", path, error)
            return ServiceMemory()

    def save(self, service: str, memory: ServiceMemory) -> None:
        """On disk, whole, when this returns."""
        del memory.untold[:-MOST_UNTOLD]
        save_json(self._path(service), memory.as_json())

    def enter(self, entry: Entry) -> None:
        """Append to the history; what is oldest is dropped."""
        path = self.folder / "history.jsonl"
        if path.exists() and path.stat().st_size > MOST_BYTES:
            path.replace(self.folder / "history.1.jsonl")
        with path.open("ab") as file:
            # A line that a kill cut short must not take this one with it.
            whole = file.tell() == 0 or _last_byte(path) == b"\n"
            file.write((b"" if whole else b"\n") + json.dumps(entry.as_json()).encode() + b"\n")

    def history(self, service: str | None = None, *, last: int = 1000) -> list[Entry]:
        """The newest entries, the newest last; lines that were cut short are passed over."""
        found: list[Entry] = []
        for name in ("history.1.jsonl", "history.jsonl"):
            try:
                lines = (self.folder / name).read_text().splitlines()
            except FileNotFoundError:
                continue
            for line in lines:
                try:
                    entry = Entry.from_json(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue
                if service in (None, entry.decision.service):
                    found.append(entry)
        return found[-last:]

    def services(self) -> list[str]:
        """Names of services that something is remembered of."""
        return sorted(path.name.removesuffix(".service.json") for path in self.folder.glob("*.service.json"))

    def paused(self) -> dict[str, str]:
        """Reasons by service that is held still; `ALL` for every one.

        Raises
        ------
        InputError : the file cannot be read: it says that something is paused, and not what
        """
        path = self.folder / "paused.json"
        try:
            document = json.loads(path.read_text())
            return {str(name): str(reason) for name, reason in document.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); remove it, or pause anew") from None

    def pause(self, service: str, reason: str) -> None:
        """Hold a service still, or `ALL`, from its next decision on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save_json(self.folder / "paused.json", {**self.paused(), service: reason})

    def resume(self, service: str) -> bool:
        """Let it be scaled again, `ALL`: every one; whether anything was paused."""
        paused = self.paused()
        left = {} if service == ALL else {name: it for name, it in paused.items() if name != service}
        if left != paused:
            save_json(self.folder / "paused.json", left)
        return left != paused

    def _path(self, service: str) -> Path:
        return self.folder / f"{service}.service.json"


def paused_because(paused: dict[str, str], service: str) -> str | None:
    """Why a service is held still; None where it is not."""
    return paused.get(service, paused.get(ALL))


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
