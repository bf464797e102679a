"""Typed fields out of a TOML table, with errors that name the field; of the standard library alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hansa.contract.errors import InputError

_NAME = re.compile(r"^[a-z0-9][a-z0-9_-]{0,62}$")


class Fields:
    """A table whose fields are taken one by one; `end` complains of those that nobody took.

    Parameters
    ----------
    where : what an error names before the field
    """

    def __init__(self, table: Any, where: str) -> None:
        if not isinstance(table, Mapping):
            raise InputError(f"{where}: expected a table, not {table!r}")
        self._table = dict(table)
        self.where = where

    def number(
        self, name: str, default: float | None = None, *, least: float = 0.0, most: float = 1e12
    ) -> float:
        """A number between `least` and `most`."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._wrong(name, f"a number from {least:g} to {most:g}", value)
        return float(value)

    def whole(self, name: str, default: int | None = None, *, least: int = 0, most: int = 10_000) -> int:
        """A whole number between `least` and `most`."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(name, f"a whole number from {least} to {most}", value)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A string that is not empty, unless the default is."""
        value = self._take(name, default)
        if not isinstance(value, str) or (not value and value != default):
            raise self._wrong(name, "a text", value)
        return value

    def name(self, name: str) -> str:
        """A name that may become a file."""
        value = self._take(name, None)
        if not isinstance(value, str) or not _NAME.match(value):
            raise self._wrong(name, "lower-case letters, digits, - and _", value)
        return value

    def one_of(self, name: str, *choices: str, default: str | None = None) -> str:
        """One of these words."""
        value = self._take(name, default)
        if value not in choices:
            raise self._wrong(name, " or ".join(f"'{it}'" for it in choices), value)
        return str(value)

    def words(self, name: str) -> tuple[str, ...]:
        """A list of texts, at least one."""
        value = self._take(name, None)
        if not isinstance(value, list) or not value or not all(isinstance(it, str) for it in value):
            raise self._wrong(name, "a list of texts", value)
        return tuple(value)

    def texts(self, name: str) -> dict[str, str]:
        """A table of texts; empty where it is not there."""
        value = self._take(name, {})
        if not isinstance(value, Mapping) or not all(isinstance(it, str) for it in value.values()):
            raise self._wrong(name, "a table of texts", value)
        return dict(value)

    def table(self, name: str) -> Fields:
        """A table within."""
        return Fields(self._take(name, None), f"{self.where}.{name}")

    def tables(self, name: str) -> list[Any]:
        """A list of tables, at least one."""
        value = self._take(name, None)
        if not isinstance(value, list) or not value:
            raise self._wrong(name, "one table or more", value)
        return value

    def end(self) -> None:
        """Complain of what is left."""
        if self._table:
            raise InputError(
                f"{self.where}: field '{min(self._table)}' is not known here; remove it or correct its name"
            )

    def _take(self, name: str, default: Any) -> Any:
        if name in self._table:
            return self._table.pop(name)
        if default is None:
            raise InputError(f"{self.where}: field '{name}' is missing")
        return default

    def _wrong(self, name: str, expected: str, given: Any) -> InputError:
        return InputError(f"{self.where}: field '{name}' is to be {expected}, not {given!r}")
