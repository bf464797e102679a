"""What the best audit could find: likelihood ratios of one that knows gradients which nobody knows.

A member that is poisoned changes the sum of its group by a vector. Whoever knows that vector for every member and
round, the honest sums and the noise has for each member the logarithm of the likelihood's ratio "this one is poisoned"
against "nobody is"; these are normal with known means and covariances, so no job need be drawn. The member with the
largest is named where it is above one threshold. By the lemma of Neyman and Pearson, which holds for several
alternatives that are equally likely as well, nothing that sees the groups' sums of these rounds is right more often at
that many false names.

Two are asked. `all` knows every member's gradients: it is the bound. `direction` knows what the mean gradient of all
records is in every round and takes each member's for that times its size: what a server could know at best, as what a
member's records differ by from the others' is its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

# Of audits without poison in which somebody is named. All that is allowed in 60 rounds is spent on one audit of 25.
LEVEL = 0.02
_DRAWS = 4000


@dataclass
class Ratios:
    """Log-likelihood ratios of all members, as normal variables.

    Parameters
    ----------
    honest, poisoned : means without poison and with it, f64[m]
    covariance : f64[m, m]
    """

    honest: Array
    poisoned: Array
    covariance: Array

    @classmethod
    def of(cls, members: int) -> Ratios:
        """Of no round."""
        return cls(np.zeros(members), np.zeros(members), np.zeros((members, members)))

    def add(self, changes: Array, known: Array, honest: Array, sent: Array, noise: float) -> None:
        """One group of one round; all arrays f64[m, d], zeros where a member is not in the group.

        Parameters
        ----------
        changes : by what each would change the sum if it were poisoned, as it is believed
        known : what it would send else, as it is believed
        honest, sent : what it would send and what it sends
        noise : standard deviation of each coordinate of the group's sum
        """
        changes = changes / noise
        products = changes @ changes.T
        self.covariance += products
        for mean, sums in ((self.honest, honest), (self.poisoned, sent)):
            mean += changes @ ((sums - known).sum(axis=0) / noise) - 0.5 * np.diag(products)


@dataclass
class Oracle:
    """What is known of one poisoned job.

    Parameters
    ----------
    place : of the poisoned member
    sizes : records that each counts, f64[m]
    """

    place: int
    sizes: Array
    all: Ratios = field(init=False)
    direction: Ratios = field(init=False)

    def __post_init__(self) -> None:
        self.all, self.direction = (Ratios.of(len(self.sizes)) for _ in range(2))

    @property
    def signal(self) -> float:
        """By how many standard errors of its groups' noise the poison changes the sums, all coordinates together."""
        return math.sqrt(float(self.all.covariance[self.place, self.place]))

    def known(self, name: str) -> tuple[int, Ratios]:
        """The place of the poisoned member, and what one who knows `all` or the `direction` has."""
        return self.place, self.all if name == "all" else self.direction

    def add(
        self, groups: Sequence[Sequence[int]], noises: Sequence[float], honest: Array, poisoned: Array
    ) -> None:
        """One audited round.

        Parameters
        ----------
        honest, poisoned : what each member sends, and would send if it were the poisoned one, f64[m, d]
        """
        sent = honest.copy()
        sent[self.place] = poisoned[self.place]
        shares = (self.sizes / self.sizes.sum())[:, None]
        usual, changed = shares * honest.sum(axis=0), shares * (poisoned - honest).sum(axis=0)
        for group, noise in zip(groups, noises, strict=True):
            there = np.zeros((len(self.sizes), 1))
            there[list(group)] = 1.0
            self.all.add(there * (poisoned - honest), there * honest, there * honest, there * sent, noise)
            self.direction.add(there * changed, there * usual, there * honest, there * sent, noise)


def found_by(ratios: Sequence[tuple[int, Ratios]], seed: int = 0) -> tuple[float, float]:
    """How often the right member is named, and the standard error of that over these jobs.

    Parameters
    ----------
    ratios : place of the poisoned member and the ratios, of every job; one threshold for all of them
    """
    rng = np.random.default_rng(seed)
    highest, draws = [], []
    for _, it in ratios:
        scatter = rng.multivariate_normal(np.zeros(len(it.honest)), it.covariance, _DRAWS, method="eigh")
        highest.append((it.honest + scatter).max(axis=1))
        draws.append(it.poisoned + scatter)
    threshold = float(np.quantile(np.concatenate(highest), 1.0 - LEVEL))
    right = np.array(
        [
            float(((own.argmax(axis=1) == place) & (own.max(axis=1) > threshold)).mean())
            for (place, _), own in zip(ratios, draws, strict=True)
        ]
    )
    return float(right.mean()), float(right.std(ddof=1) / np.sqrt(len(right))) if len(right) > 1 else 0.0
