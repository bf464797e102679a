"""What may be asked of the gate, as one closed list. What is not on it, to the letter, is refused.

Nothing of a request reaches the engine: it is read into a `Wish`, and the gate writes a request of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Action = Literal["ping", "list", "inspect", "stats", "create", "start", "drain", "stop", "remove"]

LONGEST_STOP_S = 60
_ID = r"/containers/(?P<id>[0-9a-f]{64})"
_SERVICE = r"(?P<service>[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62})"
# Matched against the whole target as it was sent: nothing is decoded, joined or tidied up first.
_RULES: tuple[tuple[str, str, Action], ...] = (
    ("GET", r"/_ping", "ping"),
    ("GET", r"/containers/json", "list"),
    ("GET", _ID + r"/json", "inspect"),
    ("GET", _ID + r"/stats", "stats"),
    ("POST", r"/containers/create\?service=" + _SERVICE, "create"),
    ("POST", _ID + r"/start", "start"),
    ("POST", _ID + r"/drain", "drain"),
    ("POST", _ID + r"/stop\?t=(?P<seconds>[0-9]{1,2})", "stop"),
    ("DELETE", _ID, "remove"),
)
_LINE = re.compile(r"(GET|POST|DELETE) ([!-~]{1,300}) HTTP/1\.[01]")
# A request that wants to be more than one request and one answer, or whose end is for the reader to guess.
_FORBIDDEN_HEADERS = ("transfer-encoding", "upgrade", "expect", "trailer", "te", "http2-settings")


class Forbidden(Exception):
    """Not on the list; the sentence says so."""


@dataclass(frozen=True)
class Wish:
    """What is asked for, once it is known to be on the list."""

    action: Action
    id: str = ""
    service: str = ""
    seconds: int = 0


def read_wish(head: str) -> Wish:
    """The wish of a request's head (request line and headers, without the empty line).

    Raises
    ------
    Forbidden : it is not on the list, or carries a body
    """
    line, *headers = head.split("\r\n")
    found = _LINE.fullmatch(line)
    if found is None:
        raise Forbidden("no request that the gate knows")
    _check_headers(headers)
    method, target = found.groups()
    for allowed, pattern, action in _RULES:
        match = re.fullmatch(pattern, target, re.ASCII) if method == allowed else None
        if match is not None:
            values = match.groupdict()
            seconds = int(values.get("seconds") or 0)
            if seconds > LONGEST_STOP_S:
                raise Forbidden(f"a stop may take {LONGEST_STOP_S} s")
            return Wish(action, values.get("id") or "", values.get("service") or "", seconds)
    raise Forbidden(f"{method} of that is not what the gate is for")


def _check_headers(headers: Sequence[str]) -> None:
    lengths = []
    for it in headers:
        name, colon, value = it.partition(":")
        if not colon or not re.fullmatch(r"[A-Za-z0-9-]+", name) or not re.fullmatch(r"[ -~]*", value):
            raise Forbidden("a header that is none")
        if name.lower() in _FORBIDDEN_HEADERS or (
            name.lower() == "connection" and value.strip().lower() not in ("close", "keep-alive", "")
        ):
            raise Forbidden(f"header {name} is not taken")
        if name.lower() == "content-length":
            lengths.append(value.strip())
    if any(it != "0" for it in lengths):
        raise Forbidden("no body is taken: how a container looks is not the asker's to say")
