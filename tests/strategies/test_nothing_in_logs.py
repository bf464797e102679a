"""No record, update or key is ever in a log: rounds in all modes at DEBUG, and every line searched for each of them."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from blind_jobs import BlindJob
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from masked_jobs import MaskedJob

from hansa.contract.logs import JsonLines
from hansa.contract.wire import Segments

Needles = set[bytes]


def of_numbers(values: Iterable[float]) -> Iterator[bytes]:
    """A number as somebody might print it; short ones say nothing."""
    for value in values:
        for text in (repr(float(value)), f"{value:.8f}", f"{value:.6g}", str(np.float32(value))):
            if len(text.lstrip("-0.")) >= 6:
                yield text.encode()


def of_bytes(secret: bytes) -> Iterator[bytes]:
    for part in (secret, secret[:16], secret[-16:]):
        yield from (part, part.hex().encode(), part.hex().upper().encode())
        yield repr(part)[2:-1].encode()
        yield base64.b64encode(part).rstrip(b"=")[:-1]
        yield base64.urlsafe_b64encode(part).rstrip(b"=")[:-1]


def keys(job: MaskedJob) -> Needles:
    simulated = job.simulated
    private = [
        *simulated.sealing_keys.values(),
        *(it._private for it in (simulated.operator, *simulated.identities.values())),
    ]
    raw = [it.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()) for it in private]
    return {needle for secret in raw for needle in of_bytes(secret)}


def records(job: MaskedJob) -> Needles:
    found: Needles = set()
    for split in job.simulated.records.values():
        for part in (split.train, split.holdout):
            found |= set(of_numbers(part.X.ravel()))
    return found


class Watched:
    """A member's work; what it computes, before any mask is on it, is put among the needles."""

    def __init__(self, work: Any, found: Needles) -> None:
        self._work, self._found = work, found
        # A record that its next computation fails over, in the words of the error.
        self.stumbles_over: np.ndarray[Any, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)

    def run(self, *arguments: Any) -> Segments:
        """As the member does it."""
        if (row := self.stumbles_over) is not None:
            self.stumbles_over = None
            raise ValueError(f"row {row.tolist()} does not fit {row.tobytes()!r}")
        segments: Segments = self._work.run(*arguments)
        for array in segments.values():
            self._found.update(of_bytes(np.ascontiguousarray(array).tobytes()[:64]))
            if array.dtype.kind == "f":
                self._found.update(of_numbers(array.ravel()))
            else:
                self._found.update(str(int(it)).encode() for it in array.ravel() if abs(int(it)) >= 10**7)
        return segments


@pytest.mark.parametrize("mode", ["clear", "masked", "he"])
def test_a_round_leaves_no_secret_in_any_line(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("hansa", "hansa.agent", "hansa.strategy", "flwr"):
        caplog.set_level(logging.DEBUG, logger=name)
    job = BlindJob(4, 2) if mode == "he" else MaskedJob(4, 2, mode=mode)
    needles = keys(job) | records(job)
    before = len(needles)
    for agent in job.agents.values():
        agent._work = Watched(agent._work, needles)
    job.agents["d"]._work.stumbles_over = job.simulated.records["d"].train.X[0]
    job.run()
    assert len(needles) > before > 1000
    lines = [f"{JsonLines().format(it)}\n{it.getMessage()} {it.args}".encode() for it in caplog.records]
    assert any(b"an attempt failed: ValueError at" in line for line in lines)
    for line in lines:
        assert [needle for needle in needles if needle in line] == []


def test_the_search_finds_what_is_there() -> None:
    secret, value = bytes(range(100, 132)), 0.123456789
    for line in (
        secret.hex(),
        base64.b64encode(b"xx" + secret + b"x").decode(),
        f"it is {value}",
        repr(secret),
    ):
        found = [it for it in {*of_bytes(secret), *of_numbers([value])} if it in line.encode()]
        assert found or "xx" not in line, line
    assert any(it in f"loss {np.float32(value)}".encode() for it in of_numbers([value]))
