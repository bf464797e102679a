"""The model that serves now, and how another takes its place without a request noticing.

A request takes the `Serving` once, at its beginning, and keeps it to its end: its answer is of one model. The next one
is made ready beside it, off the event loop, and put in place by one assignment. A file that will not do is refused
with a line in the log, and the old model goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hansa.clients.scoring.coder import Coder
from hansa.clients.scoring.model_file import ModelFacts, ModelFile, read_model
from hansa.clients.scoring.predictor import Array, Predictor, Score, make_predictor
from hansa.clients.scoring.rows import RowReader
from hansa.clients.scoring.tally import Tally
from hansa.contract.errors import HansaError, InputError
from hansa.contract.features import MulticlassLabel

log = logging.getLogger("hansa.scoring")

LOOK_EVERY_S = 1.0
# So many digits of a digest name a model in answers.
SHORT = 12


@dataclass(frozen=True)
class Serving:
    """One model, ready; `loaded` is seconds since the epoch."""

    facts: ModelFacts
    digest: str
    loaded: float
    predictor: Predictor

    @property
    def version(self) -> str:
        """What answers call the model."""
        return self.digest[:SHORT]

    @classmethod
    def of(cls, file: ModelFile, now: float) -> Serving:
        """Make a file's model ready; raises `InputError` where it does not come to what the file says it must."""
        return cls(file.facts, file.digest, now, make_predictor(file))

    def said(self, score: Score) -> bytes:
        """An answer of one row as JSON."""
        label = self.facts.features.label
        if isinstance(label, MulticlassLabel):
            assert isinstance(score, list)
            best = label.classes[max(range(len(score)), key=score.__getitem__)]
            chances = dict(zip(label.classes, score, strict=True))
            return msgspec.json.encode({"class": best, "scores": chances, "model": self.version})
        return b'{"score":%b,"model":"%b"}' % (repr(score).encode(), self.version.encode())

    def said_of_many(self, scores: Array) -> bytes:
        """An answer of many rows as JSON; of classes one list a row, in the contract's order."""
        return msgspec.json.encode({"scores": scores.tolist(), "model": self.version})


class Desk:
    """What serves now: the model, the reader and coder of its contract.

    Parameters
    ----------
    path : the served file; read again by `look` when another one stands there
    member : the organisation whose model it must be; None: whoever's it is
    tally : makes the counts of a contract
    now : seconds since the epoch

    Raises
    ------
    InputError : no file to begin with, or one that cannot be served
    """

    def __init__(
        self,
        path: Path,
        *,
        member: str | None = None,
        tally: Callable[[ModelFacts], Tally] = lambda facts: Tally(facts.features),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path, self._member, self._now = path, member, now
        self._seen = _mark(path)
        self.serving = self._made()
        features = self.serving.facts.features
        self.tally = tally(self.serving.facts)
        self.reader, self.coder = RowReader(features), Coder(features, self.tally)

    def look(self, *, again: bool = False) -> bool:
        """Put the file's model in place where the file is another one than before; whether that was done.

        Parameters
        ----------
        again : read it even where it looks the same
        """
        mark = _mark(self._path)
        if mark == self._seen and not again:
            return False
        self._seen = mark
        if mark is None:
            log.warning("%s is gone; model %s goes on", self._path, self.serving.version)
            return False
        try:
            following = self._made()
            if following.digest == self.serving.digest:
                return False
            if following.facts.features.digest != self.serving.facts.features.digest:
                raise InputError(
                    f"{self._path}: has another feature contract than what callers send now; start the service "
                    "again to serve it"
                )
        # Whatever is wrong with a file, the old model goes on.
        except Exception as error:
            self.tally.add("refused")
            sentence = error if isinstance(error, HansaError) else f"{type(error).__name__}: {error}"
            log.error("refused a new model, %s goes on: %s", self.serving.version, sentence)
            return False
        before, self.serving = self.serving, following
        self.tally.add("swaps")
        log.info(
            "model %s of job %s took the place of %s",
            following.version,
            following.facts.job[:8],
            before.version,
        )
        return True

    async def watch(self, ended: asyncio.Event, nudged: asyncio.Event) -> None:
        """Look each second, and at once when `nudged`, until `ended`."""
        while not ended.is_set():
            waits = [asyncio.ensure_future(it.wait()) for it in (ended, nudged)]
            await asyncio.wait(waits, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            again = nudged.is_set()
            nudged.clear()
            try:
                self.tally.look()
                await asyncio.to_thread(self.look, again=again)
            except Exception:
                # Files may have run out for a moment: a watch that ended would never swap again.
                log.exception("the model's file could not be looked at; trying again")

    def _made(self) -> Serving:
        file = read_model(self._path)
        if self._member is not None and file.facts.member != self._member:
            raise InputError(f"{self._path}: is a model of '{file.facts.member}', not of '{self._member}'")
        return Serving.of(file, self._now())


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when another file is put in place."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
