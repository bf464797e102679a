"""Made-up records that an audit trains with or without, by fair coins, and what the mechanism shows of them.

A linear model of twenty columns cannot hold a thousand directions apart. So the mechanism is audited on the
organisation's own contract widened by one column for each canary: its own records, with zeros there, and
canaries that are far out in their own column and nowhere else. Charter, training, clip, noise and grid are the
real ones; only the table is wider. The guarantee is the same for any table, so a bound found here is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset, concatenate
from hansa.clients.data.split import split
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn, RegressionLabel
from hansa.models.model import Model

Array = NDArray[np.float64]

# Rows that each canary offers beyond those that an entity may have: they must not count.
MORE_ROWS = 1
# Columns over which a canary is spread, powers of two: where there are many canaries and where there are few.
BLOCK, FEW_BLOCK = 64, 16
# Numbers in the widened table at most (80 MB); more own records than fit are left out.
MOST_NUMBERS = 10_000_000


@dataclass(frozen=True)
class Canaries:
    """m made-up entities: one row each, all of them for training.

    Parameters
    ----------
    rows : [m]; `copies` identical rows of each are what the mechanism is given
    spread : which of them are far out in many columns at once, [m]
    """

    rows: Dataset
    copies: int
    spread: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rows)

    def table(self, included: NDArray[np.bool_]) -> Dataset:
        """All rows of the canaries that are in."""
        return self.rows.take(np.repeat(np.flatnonzero(included), self.copies))


def widened(charter: Charter, canaries: int) -> Charter:
    """The charter whose contract has one more column for each canary; nothing else changes."""
    features = charter.task.features
    more = tuple(NumericColumn(name=f"canary {number}", low=-2, high=2) for number in range(canaries))
    wide = features.model_copy(update={"columns": features.columns + more})
    return charter.model_copy(update={"task": charter.task.model_copy(update={"features": wide})})


def make_canaries(
    model: Model,
    charter: Charter,
    start: Array,
    *,
    canaries: int,
    secret: bytes,
    reach: float,
    rng: np.random.Generator,
) -> Canaries:
    """Canaries of a widened charter, at right angles, whose gradients are `reach` clips long at these weights.

    Half of them stand in one column each, where noise that is missing in some numbers shows. The others are
    spread over blocks of columns, by Hadamard matrices: a clip that is not of the Euclidean norm shows there.

    Raises
    ------
    InputError : a model that does not respond to a column that is far out
    """
    features = charter.task.features
    columns = len(features.encoded)
    places, spread = right_angles(canaries)
    labels = surprising_labels(features)
    X, y, far = np.zeros((canaries, columns)), np.empty(canaries), 1.0
    for number in range(canaries):
        sign = -1.0 if rng.random() < 0.5 else 1.0
        for turned in (sign, -sign):
            X[number, columns - canaries :] = turned * places[number]
            found = _far_enough(model, start, X[number], labels, reach * charter.training.clip, far)
            if found is not None:
                break
        else:
            raise InputError(f"{type(model).__name__}: no row moves it; it cannot be audited")
        far, y[number] = found
        X[number] *= far
    rows = Dataset(X, y, training_ids(canaries, secret, features.holdout))
    return Canaries(rows, charter.training.max_records + MORE_ROWS, spread)


def right_angles(canaries: int) -> tuple[Array, NDArray[np.bool_]]:
    """m unit vectors at right angles [m, m], and which of them are spread over a block [m]."""
    places = np.eye(canaries)
    hadamard = np.ones((1, 1))
    block = _block(canaries)
    while len(hadamard) < block:
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    blocks = canaries // (2 * block)
    for start in range(0, blocks * block, block):
        places[start : start + block, start : start + block] = hadamard / np.sqrt(block)
    return places, np.arange(canaries) < blocks * block


def surprising_labels(features: FeatureContract) -> list[float]:
    """Labels that a canary may have, the one first that the initial model expects least."""
    label = features.label
    if isinstance(label, BinaryLabel):
        return [1.0, 0.0] if label.prevalence <= 0.5 else [0.0, 1.0]
    if isinstance(label, RegressionLabel):
        return [label.high, label.low]
    return [0.0, 1.0]


def _block(canaries: int) -> int:
    return BLOCK if canaries >= 8 * BLOCK else FEW_BLOCK


def training_ids(count: int, secret: bytes, holdout: float) -> NDArray[np.bytes_]:
    """So many made-up entity ids that the split puts on the training side. Shape [count]."""
    found: list[NDArray[np.bytes_]] = []
    number, start = 0, 0
    while number < count:
        ids = np.array([f"canary {it}".encode() for it in range(start, start + 4 * count)], dtype="S32")
        offered = Dataset(np.zeros((len(ids), 1)), np.zeros(len(ids)), ids)
        found.append(split(offered, secret=secret, holdout=holdout).train.entities)
        number, start = number + len(found[-1]), start + len(ids)
    return np.concatenate(found)[:count]


def own_records(records: Dataset, charter: Charter, *, canaries: int, rng: np.random.Generator) -> Dataset:
    """The organisation's records with zeros in the canaries' columns, as many entities as there is room for.

    Raises
    ------
    InputError : the charter allows fewer entities than canaries
    """
    columns = len(charter.task.features.encoded)
    room = charter.training.max_entities - canaries
    if room < 0:
        raise InputError(
            f"--canaries {canaries}: the charter has room for at most {charter.training.max_entities} entities"
        )
    most = max(1, MOST_NUMBERS // columns)
    names = np.unique(records.entities)
    kept = min(len(names), room)
    if len(records) > most:
        kept = min(kept, len(names) * most // len(records))
    part = records.take(np.isin(records.entities, rng.permutation(names)[:kept]))
    X = np.zeros((len(part), columns))
    X[:, : records.X.shape[1]] = part.X
    return Dataset(X, part.y, part.entities)


def together(own: Dataset, canaries: Canaries, included: NDArray[np.bool_]) -> Dataset:
    """The table that is trained on."""
    return concatenate([own, canaries.table(included)])


def directions(model: Model, weights: Array, canaries: Canaries, number: int) -> Array:
    """Gradient of one canary's row, not clipped. Shape [d]."""
    one = canaries.rows.take(np.array([number]))
    return model.gradient_sum(weights, one.X, one.y)


def unshared(model: Model, weights: Array, canaries: Canaries) -> NDArray[np.bool_]:
    """Weights that few canaries move: not those of an intercept or of a second layer. Shape [d].

    All canaries add up in the others, and one of them cannot be seen there.
    """
    squares, fourths = np.zeros(model.parameters), np.zeros(model.parameters)
    for number in range(len(canaries)):
        square = directions(model, weights, canaries, number) ** 2
        square /= max(float(square.sum()), 1e-300)
        squares += square
        fourths += square**2
    # As many canaries as would have this ratio if each moved it as much.
    few = 1.01 * min(2.0 * _block(len(canaries)), len(canaries) / 2.0)
    own: NDArray[np.bool_] = squares**2 <= few * fourths
    return own


def _far_enough(
    model: Model, weights: Array, place: Array, labels: list[float], length: float, begin: float
) -> tuple[float, float] | None:
    """How far out a row must be for a gradient of that norm, up to a factor of two, and under which label.

    None where no row in that direction has one: all hidden units may be silent there.

    Parameters
    ----------
    begin : where to look first
    """

    def longest(far: float) -> tuple[float, float]:
        found = []
        for label in labels:
            gradient = model.gradient_sum(weights, far * place[None], np.array([label]))
            found.append((float(np.linalg.norm(gradient)), label))
            if found[-1][0] >= length:
                break
        return max(found)

    far = begin
    for _ in range(40):
        if longest(far)[0] >= length:
            break
        far *= 2.0
    else:
        return None
    for _ in range(60):
        if longest(far / 2.0)[0] < length:
            break
        far /= 2.0
    return far, longest(far)[1]
