"""One way to log for every process: lines for people, or one JSON object a line for programs (`docs/logs.md`).

What a line is about (job, round, attempt, member) is said once, around the work: `with about(job=...)`.
No record, update or key is ever given to a logger; a test looks for them.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

LOG_VARIABLE = "HANSA_LOG"
FORMS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
# What a line may be about, in the order in which a JSON line has them.
ABOUT = ("job", "round", "attempt", "member", "service")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MOST_LETTERS = 8000
_FRAMES = 12
_INFO = {"levelno": logging.INFO, "levelname": "INFO"}

Form = Literal["text", "json"]
Fact = str | int

_about: ContextVar[Mapping[str, Fact]] = ContextVar("about")
# Of the process as a whole: an agent's member, for one.
_always: dict[str, Fact] = {}


@contextmanager
def about(**facts: Fact | None) -> Iterator[None]:
    """Lines that are logged inside are about these: job, round, attempt, member, service."""
    token = _about.set({**_about.get({}), **{name: it for name, it in facts.items() if it is not None}})
    try:
        yield
    finally:
        _about.reset(token)


def now_about(**facts: Fact | None) -> None:
    """From here on, in this thread of work, lines are about these; what is None they are not about any more."""
    merged = {**_about.get({}), **facts}
    _about.set({name: it for name, it in merged.items() if it is not None})


def add_log_options(parser: argparse.ArgumentParser, *, level: str = "info") -> None:
    """`--log-level` and `--log-format`, alike for every process."""
    parser.add_argument("--log-level", default=level, choices=LEVELS)
    parser.add_argument(
        "--log-format",
        choices=FORMS,
        help=f"one JSON object a line, or text; default: {LOG_VARIABLE}, else text",
    )


def start_logging(process: str, level: str = "info", form: str | None = None, **always: Fact) -> None:
    """Log to stderr: this project's lines from `level` on, everybody else's from warnings on.

    Parameters
    ----------
    process : the role: agent, node, control ...
    form : text or json; None: as HANSA_LOG says, else text
    always : what every line of this process is about
    """
    _always.clear()
    _always.update({"process": process, **always})
    chosen = form or form_of_environment()
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if chosen == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("hansa").setLevel(level.upper())
    if chosen == "json":
        logging.captureWarnings(True)
        sys.excepthook = _log_exception
        _reroute("flwr")


def say_always(**facts: Fact) -> None:
    """Every line of this process is about these as well."""
    _always.update(facts)


def form_of_environment() -> Form:
    """What HANSA_LOG asks for; anything but json is text."""
    return "json" if os.environ.get(LOG_VARIABLE, "").strip().lower() == "json" else "text"


def places_of(error: BaseException) -> str:
    """Type of an error and the places it came through, without its message, which may quote a record or a key."""
    frames = [
        f"{Path(it.filename).name}:{it.lineno} {it.name}" for it in traceback.extract_tb(error.__traceback__)
    ]
    return f"{type(error).__name__} at {' < '.join(reversed(frames[-_FRAMES:]))}"


def say_failure(process: str, error: BaseException, code: int) -> None:
    """The last line of a process that ends because of an error, in the form of its log."""
    if _is_json():
        logging.getLogger(f"hansa.{process}").error("%s", error, extra={"exit_code": code})
        return
    print(f"hansa {process}: {error}", file=sys.stderr)


def _is_json() -> bool:
    return any(isinstance(it.formatter, JsonLines) for it in logging.getLogger().handlers)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Fields that are not known are left out; what is too long is cut."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MOST_LETTERS],
            **_always,
        }
        known = {**_about.get({}), **{name: getattr(record, name) for name in ABOUT if hasattr(record, name)}}
        line |= {name: known[name] for name in ABOUT if name in known}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)[-_MOST_LETTERS:]
        if hasattr(record, "exit_code"):
            line["exit_code"] = record.exit_code
        return json.dumps(line, ensure_ascii=False)


class _LoggedLines(io.TextIOBase):
    """A stream whose lines are logged."""

    def __init__(self, name: str) -> None:
        self._name, self._rest = name, ""

    def writable(self) -> bool:
        """It takes text."""
        return True

    def write(self, text: str) -> int:
        """Log each line once it is whole; what never ends is cut."""
        *lines, self._rest = (self._rest + text).split("\n")
        self._rest = self._rest[-_MOST_LETTERS:]
        for line in lines:
            if line.strip():
                logging.getLogger().handle(logging.makeLogRecord({**_INFO, "name": self._name, "msg": line}))
        return len(text)


def log_prints(name: str) -> None:
    """Where the log is JSON, what anybody prints becomes lines of it, as of the logger of that name."""
    if _is_json():
        sys.stdout = _LoggedLines(name)


class _Rerouted(logging.Filter):
    """Gives a logger's records to the root's handlers and to nobody else's."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never pass it on to the logger's own handlers."""
        logging.getLogger().handle(record)
        return False


def _reroute(name: str) -> None:
    """Flower hangs a handler of its own on its logger when it is imported, which may be later than now."""
    logger = logging.getLogger(name)
    if not any(isinstance(it, _Rerouted) for it in logger.filters):
        logger.addFilter(_Rerouted())


def _log_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("hansa").critical("the process ends", exc_info=(kind, error, trace))
