"""Errors as part of the product: what is wrong, where, what to do.

`HansaError` is anything a person can act on; the command line prints its one line and
exits with `exit_code`. `Refusal` is what an agent answers instead of obeying
(PROTOCOL section 8); it travels as a message and is never an exception on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

RefusalCode = Literal[
    "not-operator",
    "wrong-charter",
    "charter-superseded",
    "charter-expired",
    "protocol-number",
    "not-approved",
    "mode-downgrade",
    "cohort-too-small",
    "unknown-member",
    "prekey-used",
    "prekey-unknown",
    "attempt-not-rising",
    "attempt-lost",
    "different-request-same-attempt",
    "second-active-set",
    "active-set-too-small",
    "not-in-active-set",
    "active-set-not-agreed",
    "both-shares",
    "knob-out-of-range",
    "noise-below-floor",
    "wrong-currency",
    "budget-exhausted",
    "grant-expired",
    "grant-frozen",
    "data-not-granted",
    "ledger-behind-witness",
    "ledger-fork",
    "attempt-limit",
    "bad-size",
    "bad-share",
    "bad-sum",
    "keys-missing",
    "wrong-state",
    "replayed",
    "training-failed",
    "agent-unavailable",
]
REFUSAL_CODES: frozenset[str] = frozenset(get_args(RefusalCode))


class HansaError(Exception):
    """Something a person can act on. The message is one sentence; `exit_code` goes to the shell."""

    exit_code = 1


class InputError(HansaError):
    """What was given is wrong: a file, a field, an argument. Names it and the expected value."""

    exit_code = 2


class CharterError(InputError):
    """The charter is malformed, unsigned, expired, or not the one that was pinned."""


class DataError(InputError):
    """A table departs from the feature contract."""


class MessageError(HansaError):
    """Bytes from another party do not decode to a message of this protocol."""


class ConnectionFailed(HansaError):
    """A service does not answer; the message names its address and what to start."""


class RefusalError(HansaError):
    """Raised inside an agent to answer with a typed refusal.

    Parameters
    ----------
    code : one of `REFUSAL_CODES`
    sentence : what is wrong, for a person
    facts : small values that a program may act on, never anything about records
    """

    def __init__(
        self, code: RefusalCode, sentence: str, facts: Mapping[str, str | int] | None = None
    ) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code: RefusalCode = code
        self.sentence = sentence
        self.facts = dict(facts or {})
