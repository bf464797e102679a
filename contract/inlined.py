"""Objects inside a Flower message exchange instead of beside it: two requests where Flower needs nine.

Flower moves a message's objects by one request each. Here they ride in the same protobuf body, as
fields that Flower's schema does not know and protobuf therefore skips. So nothing is negotiated:

- a sender appends the objects' contents to its push; a stock server overlooks them, asks for them as
  usual, and gets them as usual;
- a receiver states in its pull how many bytes it takes inline; a stock server overlooks that;
- a run names in its pull the messages it waits for no more, so that no node begins on them.

Contents name themselves by their hash, as Flower's object ids do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Far above Flower's own field numbers; the meaning of a number never changes.
_OBJECT_FIELD = 50_101
_LIMIT_FIELD = 50_102
_FORGET_FIELD = 50_103
_VARINT, _BYTES = 0, 2


@dataclass(frozen=True)
class Inlined:
    """What a body carried beside Flower's own fields.

    objects : contents, in the order sent
    limit : bytes of contents that the sender of a pull takes inline; 0 for a stock peer
    forget : ids of messages that nobody waits for any more
    """

    objects: tuple[bytes, ...] = ()
    limit: int = 0
    forget: tuple[str, ...] = ()


def add_inlined(
    message: Any, objects: Iterable[bytes] = (), limit: int = 0, forget: Iterable[str] = ()
) -> None:
    """Append contents, or the wish for them, to a protobuf message."""
    parts: list[bytes] = []
    for content in objects:
        parts += (_varint(_OBJECT_FIELD << 3 | _BYTES), _varint(len(content)), content)
    if limit:
        parts += (_varint(_LIMIT_FIELD << 3 | _VARINT), _varint(limit))
    for message_id in forget:
        encoded = message_id.encode()
        parts += (_varint(_FORGET_FIELD << 3 | _BYTES), _varint(len(encoded)), encoded)
    if parts:
        message.MergeFromString(b"".join(parts))


def read_inlined(message: Any) -> Inlined:
    """The contents and the limit in a parsed message; unknown fields of others are passed over."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    objects: list[bytes] = []
    forget: list[str] = []
    limit = 0
    for field in UnknownFieldSet(message):
        if field.field_number == _OBJECT_FIELD and field.wire_type == _BYTES:
            objects.append(field.data)
        elif field.field_number == _LIMIT_FIELD and field.wire_type == _VARINT:
            limit = field.data
        elif field.field_number == _FORGET_FIELD and field.wire_type == _BYTES:
            forget.append(field.data.decode(errors="replace"))
    return Inlined(tuple(objects), limit, tuple(forget))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
