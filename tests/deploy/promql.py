"""A reader of PromQL as far as this project writes it: which metrics an expression names, or what is wrong with it.

promtool knows better and is not a Python package; this one refuses unknown functions, brackets that do not close, an
operator without a right side, and ranges where none can be.
"""

from __future__ import annotations

import re

FUNCTIONS = {
    "rate",
    "increase",
    "max_over_time",
    "vector",
    "time",
    "absent",
    "histogram_quantile",
    "max",
    "min",
    "sum",
    "topk",
    "avg",
    "count",
}
_GROUPING = {"by", "without", "on", "ignoring"}
_OPERATORS = {"+", "-", "*", "/", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless"}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)|(?P<text>\"(?:[^\"\\]|\\.)*\")"
    r"|(?P<range>\[\d+[smhd]\])|(?P<sign>==|!=|>=|<=|=~|!~|[-+*/<>(){},=]))"
)


class Wrong(ValueError):
    """Not an expression."""


def metrics_of(expression: str) -> dict[str, set[str]]:
    """Metrics that an expression names, with the labels by which each is selected."""
    reader = _Reader(expression)
    reader.expression()
    if reader.kind is not None:
        raise Wrong(f"{expression}: ends at {reader.word!r}")
    return reader.metrics


class _Reader:
    def __init__(self, expression: str) -> None:
        self._all, self._tokens, place = expression, [], 0
        while expression[place:].strip():
            found = _TOKEN.match(expression, place)
            if found is None or found.lastgroup is None:
                raise Wrong(f"{expression}: cannot be read at {expression[place:]!r}")
            self._tokens.append((found.lastgroup, found.group(found.lastgroup)))
            place = found.end()
        self._tokens.reverse()
        self.metrics: dict[str, set[str]] = {}

    @property
    def kind(self) -> str | None:
        return self._tokens[-1][0] if self._tokens else None

    @property
    def word(self) -> str:
        return self._tokens[-1][1] if self._tokens else ""

    def take(self, *words: str) -> str:
        if not self._tokens or (words and self.word not in words):
            raise Wrong(f"{self._all}: expected {' or '.join(words) or 'more'}, got {self.word!r}")
        return self._tokens.pop()[1]

    def expression(self) -> None:
        self.operand()
        while self.word in _OPERATORS:
            self.take()
            if self.word in ("on", "ignoring"):
                self.take()
                self.labels()
            self.operand()

    def operand(self) -> None:
        if self.kind == "number":
            self.take()
        elif self.word == "(":
            self.take("(")
            self.expression()
            self.take(")")
        elif self.kind == "name":
            self.named(self.take())
        else:
            raise Wrong(f"{self._all}: expected an operand, got {self.word!r}")

    def named(self, name: str) -> None:
        if self.word in ("by", "without"):
            self.take()
            self.labels()
        if self.word == "(":
            if name not in FUNCTIONS:
                raise Wrong(f"{self._all}: no function {name}")
            self.take("(")
            while self.word != ")":
                self.expression()
                if self.word != ")":
                    self.take(",")
            self.take(")")
            return
        if name in FUNCTIONS | _GROUPING | _OPERATORS:
            raise Wrong(f"{self._all}: {name} is no metric")
        selected = self.metrics.setdefault(name, set())
        if self.word == "{":
            self.take("{")
            while self.word != "}":
                selected.add(self.take())
                self.take("=", "!=", "=~", "!~")
                if self.kind != "text":
                    raise Wrong(f"{self._all}: a label is compared with text")
                self.take()
                if self.word != "}":
                    self.take(",")
            self.take("}")
        if self.kind == "range":
            self.take()

    def labels(self) -> None:
        self.take("(")
        while self.word != ")":
            self.take()
            if self.word != ")":
                self.take(",")
        self.take(")")
