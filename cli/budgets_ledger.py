"""An organisation's ledger for reading: from its running agent, else from the files in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from hansa.cli.agent_client import command_agent
from hansa.cli.budgets_answers import ask_budgets
from hansa.cli.instance import MemberFolder
from hansa.clients.attempt_log import Upload
from hansa.clients.heads import HEADS
from hansa.clients.ledger import LEDGER, read_rows
from hansa.clients.uploads import AGENT_RECORDS, read_newest_receipt, read_shown_receipts, read_uploads
from hansa.contract.errors import ConnectionFailed
from hansa.contract.typed import explain
from hansa.privacy.book import Book
from hansa.privacy.records import Row

T = TypeVar("T")
# Rows of one answer of the agent.
_PAGE = 500
_ROWS: TypeAdapter[list[Row]] = TypeAdapter(list[Row])
_UPLOADS: TypeAdapter[list[Upload]] = TypeAdapter(list[Upload])


class LedgerSource(Protocol):
    """Where rows and the record of uploads come from."""

    @property
    def origin(self) -> str:
        """For people: who was asked, or which file was read."""
        ...

    def rows(self) -> Iterator[Row]:
        """All rows from the first on."""
        ...

    def uploads(self) -> Iterator[Upload]:
        """All uploads on record."""
        ...

    def behind(self, rows: list[Row]) -> bool:
        """Whether a receipt of the organisation's own shows rows that these do not have."""
        ...


@dataclass(frozen=True)
class RunningAgent:
    """An agent that answers on its admin socket."""

    member: MemberFolder

    @property
    def origin(self) -> str:
        return f"the running agent of {self.member.config.name}"

    def rows(self) -> Iterator[Row]:
        after = 0
        while page := self._page("rows", after, _ROWS):
            yield from page
            after = page[-1].sequence

    def uploads(self) -> Iterator[Upload]:
        after = 0
        while page := self._page("uploads", after, _UPLOADS):
            yield from page
            after = page[-1].id

    def behind(self, rows: list[Row]) -> bool:
        # It holds its ledger against every receipt that it has, at its start and when others show one.
        return bool(ask_budgets(self.member).missing)

    def _page(self, command: str, after: int, kind: TypeAdapter[list[T]]) -> list[T]:
        answer: dict[str, Any] = command_agent(self.member, command, after=after, most=_PAGE)
        try:
            return kind.validate_json(json.dumps(answer.get(command)))
        except ValidationError as error:
            raise ConnectionFailed(
                f"{self.member.folder}: the agent is of another version: {explain(error)}"
            ) from None


@dataclass(frozen=True)
class LedgerFiles:
    """The files of an agent that does not run."""

    member: MemberFolder

    @property
    def origin(self) -> str:
        return str(self.member.folder / LEDGER)

    def rows(self) -> Iterator[Row]:
        return read_rows(self.member.folder / LEDGER)

    def uploads(self) -> Iterator[Upload]:
        return iter(read_uploads(self.member.folder / AGENT_RECORDS))

    def behind(self, rows: list[Row]) -> bool:
        folder = self.member.folder
        newest, book = read_newest_receipt(folder / AGENT_RECORDS), Book(rows)
        own = [*read_shown_receipts(folder / HEADS), *([] if newest is None else [newest])]
        return any(book.behind(receipt) for receipt in own)


def open_ledger(member: MemberFolder) -> LedgerSource:
    """The running agent, or its files where it does not run."""
    try:
        command_agent(member, "status")
    except ConnectionFailed:
        return LedgerFiles(member)
    return RunningAgent(member)
