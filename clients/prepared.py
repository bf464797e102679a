"""A member's records as a job's contract check prepared them, and the model that is trained on those."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from hansa.clients.data.split import Split
from hansa.contract.charter import Task
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.features import FeatureContract
from hansa.contract.segments import PREPARATION
from hansa.contract.wire import Segments
from hansa.models.model import Model
from hansa.models.preparation import Preparation, prepared_model


@dataclass(frozen=True)
class View:
    """Model and records that fit together, and the contract as the model was told it."""

    model: Model
    records: Split
    features: FeatureContract


class Views:
    """Makes views of a member's records; the newest preparation's is kept, as a job asks for it every round.

    Parameters
    ----------
    plain : without a preparation
    """

    def __init__(self, task: Task, model: Model, records: Split) -> None:
        self._task = task
        self.plain = View(model, records, task.features)
        self._newest: tuple[bytes, View] | None = None
        self._lock = threading.Lock()

    def check(self, segments: Segments) -> None:
        """Raise `bad-size` for a preparation that no check under this contract can lead to."""
        if PREPARATION not in segments:
            return
        try:
            Preparation.read(segments[PREPARATION], self._task.features)
        except InputError as error:
            raise RefusalError("bad-size", f"segment '{PREPARATION}': {error}") from None

    def of(self, segments: Segments) -> View:
        """The view that a request's segments ask for."""
        if PREPARATION not in segments:
            return self.plain
        array = segments[PREPARATION]
        key = array.tobytes()
        with self._lock:
            if self._newest is None or self._newest[0] != key:
                self._newest = (key, self._made(Preparation.read(array, self._task.features)))
            return self._newest[1]

    def _made(self, preparation: Preparation) -> View:
        features, records = self._task.features, self.plain.records
        return View(
            model=prepared_model(self._task.model, features, preparation),
            records=Split(
                *(replace(part, X=preparation.apply(part.X)) for part in (records.train, records.holdout))
            ),
            features=preparation.told(features),
        )
