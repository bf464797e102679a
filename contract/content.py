"""The one shape of content in a Flower message: a ConfigRecord "hansa" with one bytes value "payload".

It is the smallest tree Flower can carry (three objects), and the payload is a signed message of
PROTOCOL.md that Flower neither reads nor needs to. Imports Flower only when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.contract.errors import MessageError

if TYPE_CHECKING:
    from flwr.app import RecordDict

_RECORD = "hansa"
_VALUE = "payload"


def wrap(payload: bytes) -> RecordDict:
    """Content that carries `payload`."""
    from flwr.app import ConfigRecord, RecordDict

    return RecordDict({_RECORD: ConfigRecord({_VALUE: payload})})


def unwrap(content: RecordDict) -> bytes:
    """The payload; raises `MessageError` for any other shape."""
    from flwr.app import ConfigRecord

    record = content.get(_RECORD)
    if len(content) != 1 or not isinstance(record, ConfigRecord):
        raise MessageError(f"expected one ConfigRecord named {_RECORD!r}, got {sorted(content)}")
    payload = record.get(_VALUE)
    if len(record) != 1 or not isinstance(payload, bytes):
        raise MessageError(f"expected one bytes value {_VALUE!r} in {_RECORD!r}, got {sorted(record)}")
    return payload
