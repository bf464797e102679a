"""A member's own version of a released model, fitted at home after a job; nothing of it leaves.

Where organisations differ in kind one global model is worse than the own one, and this repairs it
(NOTES-training). On the member's training records these are fitted:

    recalibrated   a + b s                  s the federated score, b >= 0: its order stays
    adjusted       a + b s + w x            ridge regression of what is left, over the model's columns
    own            a + w x                  the same without the federated score

s is the log-odds of a yes-or-no label, or a number scaled to [-1, 1]. Cross-validation at home says how well each
predicts, and each counts by the likelihood that it gives there to rows it has not seen: a mean of such scores is
one again. The own model always counts for a share: few rows cannot tell two good models apart, and whoever joins
wants to lose nothing by it. With few rows of the rarer class there is nothing to weigh with: recalibrated only.
Labels of several classes have no personal model.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.dataset import Dataset
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, Label, MulticlassLabel, RegressionLabel
from hansa.contract.typed import write_atomically
from hansa.models.losses import losses, predictions, residuals, scaled_label

Array = NDArray[np.float64]

# Fewer rows of the rarer class, or of a number in all: recalibrate only.
FEWEST = 20
FOLDS = 5
# Ridge penalties on w that are tried, on the summed loss, beside the federated score and without it; columns are
# about 1 wide.
RIDGES, OWN_RIDGES = (300.0, 100.0, 30.0, 10.0, 3.0, 1.0), (3.0, 1.0)
# What the own model, at the smallest ridge, counts for whatever cross-validation says.
OWN_SHARE = 0.4
# Pulls a + b s towards s: as much as so many rows would.
_RECALIBRATION_RIDGE = 1.0
_STEPS = 30
SMALLEST_ODDS = 1e-9


@dataclass(frozen=True)
class PersonalModel:
    """What a member adds to the federated score s: a + b s + w x.

    Parameters
    ----------
    shift : a
    factor : b
    weights : w, f64[p], in the order of `FeatureContract.encoded`; zeros where only recalibrated
    ridge : the penalty of whichever predicts best; None where that is the recalibrated score
    """

    shift: float
    factor: float
    weights: Array
    ridge: float | None

    def predict(self, federated: Array, X: Array, label: Label) -> Array:
        """Predictions of this member. Shape [n].

        Parameters
        ----------
        federated : what the federated model predicts for the same records, [n]
        X : their columns as the contract encodes them, f64[n, p]
        """
        score = federated_score(federated, label)
        return predictions((self.shift + self.factor * score + X @ self.weights)[:, None], label)

    @property
    def arrays(self) -> dict[str, Array]:
        """As it is kept and exported: `calibration` f64[2] (a, b) and `weights` f64[p]."""
        return {"calibration": np.array([self.shift, self.factor]), "weights": self.weights}


def personal_path(folder: Path, job: str) -> Path:
    """The file beside the job's model."""
    return folder / f"personal-{job}.npz"


def keep_personal(folder: Path, job: str, records: Dataset, federated: Array, label: Label) -> bool:
    """Fit on a member's training records and write the file beside the model; False where there is none to fit.

    Parameters
    ----------
    federated : what the federated model predicts for these records
    """
    fitted = personalise(records, federated, label)
    if fitted is None:
        return False
    content = BytesIO()
    ridge = -1.0 if fitted.ridge is None else fitted.ridge
    np.savez(content, ridge=np.array([ridge]), **fitted.arrays)  # type: ignore[arg-type]
    # It was not noised: it is as private as the records.
    write_atomically(personal_path(folder, job), content.getvalue(), mode=0o600)
    return True


def read_personal(path: Path) -> PersonalModel:
    """What `keep_personal` wrote.

    Raises
    ------
    InputError : the file is missing or holds something else
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            shift, factor = (float(value) for value in arrays["calibration"])
            ridge = float(arrays["ridge"][0])
            weights = np.asarray(arrays["weights"], dtype=np.float64)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no personal model can be read from it ({error})") from None
    return PersonalModel(shift, factor, weights, None if ridge < 0 else ridge)


def federated_score(federated: Array, label: Label) -> Array:
    """s of predictions: log-odds, or the number scaled to [-1, 1]. Shape [n].

    Raises
    ------
    ValueError : a label of classes
    """
    if isinstance(label, BinaryLabel):
        return np.log(np.maximum(federated, SMALLEST_ODDS)) - np.log(
            np.maximum(1.0 - federated, SMALLEST_ODDS)
        )
    if isinstance(label, RegressionLabel):
        return scaled_label(federated, label)
    raise ValueError("a label of several classes has no personal model")


def personalise(records: Dataset, federated: Array, label: Label) -> PersonalModel | None:
    """Fit all and weigh them; None for a label of several classes, and without records.

    The same records give the same model: folds go by entity and label, not by chance.
    """
    if isinstance(label, MulticlassLabel) or len(records) == 0:
        return None
    score = federated_score(federated, label)
    recalibrated = _recalibrate(score, records.y, label)
    plain = PersonalModel(*recalibrated, np.zeros(records.X.shape[1]), None)
    if _rarer(records.y, label) < FEWEST:
        return plain
    likely = _weigh(records, score, label)
    best = (None, *RIDGES, *OWN_RIDGES)[int(np.argmax(likely))]
    shares = (1.0 - OWN_SHARE) * likely
    shares[-1] += OWN_SHARE
    fits = _fits(records.X, score, records.y, label)
    return PersonalModel(
        shift=float(sum(share * fit[0] for share, fit in zip(shares, fits, strict=True))),
        factor=float(sum(share * fit[1] for share, fit in zip(shares, fits, strict=True))),
        weights=np.asarray(shares @ np.stack([fit[2] for fit in fits]), dtype=np.float64),
        ridge=best,
    )


def _fits(X: Array, score: Array, y: Array, label: Label) -> list[tuple[float, float, Array]]:
    """(a, b, w) of the recalibrated score, then for each of RIDGES, then for each of OWN_RIDGES."""
    recalibrated = _recalibrate(score, y, label)
    level, _ = _recalibrate(np.zeros(len(score)), y, label)
    return [
        (*recalibrated, np.zeros(X.shape[1])),
        *_adjust(X, score, y, label, recalibrated, RIDGES),
        *_adjust(X, score, y, label, (level, 0.0), OWN_RIDGES),
    ]


def _weigh(records: Dataset, score: Array, label: Label) -> Array:
    """How much each of `_fits` counts: its likelihood on rows that it was not fitted on. Sums to 1."""
    folds = _folds(records, label)
    missed = np.zeros(1 + len(RIDGES) + len(OWN_RIDGES))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        fits = _fits(records.X[train], score[train], records.y[train], label)
        for place, (shift, factor, weights) in enumerate(fits):
            output = shift + factor * score[test] + records.X[test] @ weights
            missed[place] += losses(output[:, None], records.y[test], label).sum()
    # Of a number the loss counts in units of the variance that is left.
    unit = 2.0 * missed.min() / len(records) if isinstance(label, RegressionLabel) else 1.0
    likelihood = np.exp((missed.min() - missed) / max(unit, 1e-12))
    shares: Array = likelihood / likelihood.sum()
    return shares


def _folds(records: Dataset, label: Label) -> NDArray[np.intp]:
    """Fold of each row: an entity's rows stay together, either class is spread evenly. Shape [n]."""
    _, first, of = np.unique(records.entities, return_index=True, return_inverse=True)
    # Ids are hashes, so their order is as good as chance and the same every time.
    folds = np.arange(len(first)) % FOLDS
    if isinstance(label, BinaryLabel):
        for kind in (0.0, 1.0):
            own = np.flatnonzero(records.y[first] == kind)
            folds[own] = np.arange(len(own)) % FOLDS
    return np.asarray(folds[of], dtype=np.intp)


def _rarer(y: Array, label: Label) -> int:
    """Rows of the rarer class; of a number, rows in all."""
    if not isinstance(label, BinaryLabel):
        return len(y)
    positives = int((y == 1).sum())
    return min(positives, len(y) - positives)


def _recalibrate(score: Array, y: Array, label: Label) -> tuple[float, float]:
    """(a, b) of a + b s; b is never below 0, because the order of the scores is what is kept."""
    columns = np.column_stack([np.ones(len(score)), score])
    ridge = np.full(2, _RECALIBRATION_RIDGE * _unit(score, y, label))
    shift, change = _newton(columns, score, y, label, ridge, np.zeros(2))
    return float(shift), max(1.0 + float(change), 0.0)


def _adjust(
    X: Array,
    score: Array,
    y: Array,
    label: Label,
    recalibrated: tuple[float, float],
    ridges: tuple[float, ...],
) -> list[tuple[float, float, Array]]:
    """(a, b, w) for each ridge: the recalibrated score is the offset, a is free to move with w."""
    shift, factor = recalibrated
    offset = shift + factor * score
    columns = np.column_stack([np.ones(len(X)), X])
    unit = _unit(offset, y, label)
    found = np.zeros(columns.shape[1])
    fits = []
    for strength in ridges:
        ridge = np.full(columns.shape[1], strength * unit)
        ridge[0] = 1e-6
        found = _newton(columns, offset, y, label, ridge, found)
        fits.append((shift + float(found[0]), factor, found[1:].copy()))
    return fits


def _unit(offset: Array, y: Array, label: Label) -> float:
    """What a ridge is counted in: of a number the variance that is left, which is what its loss is made of."""
    if isinstance(label, RegressionLabel):
        return max(float(np.mean((offset - scaled_label(y, label)) ** 2)), 1e-12)
    return 1.0


def _newton(columns: Array, offset: Array, y: Array, label: Label, ridge: Array, start: Array) -> Array:
    """Coefficients that minimise the summed loss of offset + columns v plus ridge/2 v². Shape [columns]."""

    def value(v: Array) -> float:
        return float(losses((offset + columns @ v)[:, None], y, label).sum() + 0.5 * ridge @ v**2)

    found, loss = start, value(start)
    for _ in range(_STEPS):
        outputs = (offset + columns @ found)[:, None]
        slope = columns.T @ residuals(outputs, y, label)[:, 0] + ridge * found
        bend = _curvature(outputs, label)
        step = np.linalg.solve((columns * bend[:, None]).T @ columns + np.diag(ridge), slope)
        part = 1.0
        while (following := value(found - part * step)) > loss and part > 1e-6:
            part *= 0.5
        if part <= 1e-6:
            break
        found, gained, loss = found - part * step, loss - following, following
        if gained <= 1e-9 * (1.0 + abs(loss)):
            break
    return found


def _curvature(outputs: Array, label: Label) -> Array:
    """Second derivative of the loss by the output, kept above 0. Shape [n]."""
    if not isinstance(label, BinaryLabel):
        return np.ones(len(outputs))
    chance = predictions(outputs, label)
    return np.maximum(chance * (1.0 - chance), 1e-9)
