"""`admin.sock`, the part about what left: reading the outbox, and noting a file that a person takes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hansa.clients.admin_budgets import Answer
from hansa.clients.leaving import Leaving
from hansa.clients.outbox import Outbox
from hansa.clients.outbox_reading import Query, read_entries, read_older
from hansa.clients.protocol import Agent
from hansa.contract.errors import InputError
from hansa.contract.typed import parse_document


class OutboxCommands:
    """The commands by name; each takes the object it was sent and returns the answer, or raises a sentence."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.commands: dict[str, Callable[[Answer], Answer]] = {"outbox": self._read, "file-out": self._file}

    def _read(self, asked: Answer) -> Answer:
        query = parse_document(asked, Query, "outbox")
        outbox = self._outbox
        outbox.flush()
        path = Path(outbox.path)
        return {
            "ok": True,
            "outbox": [it.model_dump(mode="json") for it in read_entries(path, query)],
            "older": [it.model_dump(mode="json") for it in read_older(path)],
        }

    def _file(self, asked: Answer) -> Answer:
        leaving = parse_document(asked, Leaving, "file-out")
        if leaving.kind != "file":
            raise InputError("only a file is noted here; what leaves by work.sock is noted where it leaves")
        self._outbox.enter(leaving)
        return {"ok": True}

    @property
    def _outbox(self) -> Outbox:
        if self._agent.outbox is None:
            raise InputError("nothing leaves this process, so no record of it is kept")
        return self._agent.outbox
