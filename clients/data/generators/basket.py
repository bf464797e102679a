"""Customers of a retailer; label `next_category` (what they buy next), for a recommendation of one category.

People buy again what they bought, what belongs to it (garden after home), what the season asks for and what
their household needs. Each retailer sells some categories more than others.

Further options: `habit` (how much of the choice is habit; 1 is usual), `mix` (how far the retailer's assortment
departs from the common one). There is no `prevalence`: the label is one of seven classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hansa.clients.data.generators.draws import Columns, as_codes, choice, drifted, with_gaps, with_text_gaps

OPTIONS = {"shift": 0.0, "drift": 0.08, "noise": 0.6, "missing": 0.04, "habit": 1.0, "mix": 0.4}

CATEGORIES = ("food", "clothing", "home", "electronics", "sports", "toys", "garden")
SEASONS = ("winter", "spring", "summer", "autumn")
# What the seasons add to each category, and to what somebody who bought the row's category turns next.
_SEASON = np.array(
    [
        [0.2, 0.2, 0.0, 0.3, -0.1, 0.7, -0.9],
        [0.0, 0.2, 0.2, -0.1, 0.2, -0.2, 0.7],
        [0.1, 0.1, -0.2, -0.2, 0.6, -0.1, 0.5],
        [0.0, 0.3, 0.2, 0.2, -0.2, 0.1, -0.3],
    ]
)
_NEXT = np.array(
    [
        [0.5, 0.0, 0.1, -0.2, 0.0, 0.1, 0.0],
        [0.0, 0.6, 0.1, 0.0, 0.3, 0.1, -0.2],
        [0.1, 0.0, 0.4, 0.3, -0.1, 0.0, 0.5],
        [-0.2, 0.0, 0.3, 0.5, 0.1, 0.4, -0.2],
        [0.0, 0.5, -0.1, 0.1, 0.6, 0.0, 0.1],
        [0.1, 0.2, 0.1, 0.3, 0.1, 0.6, -0.1],
        [0.1, -0.1, 0.5, -0.1, 0.1, 0.0, 0.5],
    ]
)


def records(rows: int, seed: int, options: dict[str, float]) -> Columns:
    """One row a customer at the end of a month."""
    rng = np.random.default_rng([seed, 21])
    shift, gaps = options["shift"], options["missing"]
    assortment = options["mix"] * rng.normal(size=len(CATEGORIES)) + (0.8, 0.4, 0.2, 0.0, -0.2, -0.2, -0.4)
    taste = assortment + 0.9 * rng.normal(size=(rows, len(CATEGORIES)))
    bought = np.array([rng.multinomial(12, it) for it in _softmax(taste)])
    last = _drawn(rng, _softmax(taste))
    age = np.clip(43.0 + 5.0 * shift + 14.0 * rng.normal(size=rows), 16, 92)
    household = 1 + rng.poisson(1.3 - 0.1 * np.clip(shift, -2, 2), rows)
    children = rng.binomial(np.maximum(household - 1, 0), np.clip(0.45 - 0.012 * np.abs(age - 38), 0.02, 0.6))
    house = (rng.random(rows) < np.clip(0.35 + 0.008 * (age - 43) + 0.05 * household, 0.02, 0.95)).astype(
        np.float64
    )
    season = rng.integers(0, 4, rows)
    since = rng.gamma(1.3, 14.0, rows)
    basket = np.exp(3.6 + 0.2 * shift + 0.5 * rng.normal(size=rows))
    channel = choice(rng, ("shop", "online", "both"), (0.5, 0.35, 0.15), rows)

    share = bought / 12.0
    utility = assortment + options["habit"] * (
        3.0 * share + _NEXT[last] * drifted(rng, [1.0] * 7, options["drift"])
    )
    utility = utility + _SEASON[season]
    utility[:, 5] += 0.7 * np.minimum(children, 2) - 0.4
    utility[:, 6] += 0.8 * house - 0.3
    utility[:, 3] += -0.02 * (age - 43) + 0.3 * (channel == "online")
    utility[:, 4] += -0.025 * (age - 43)
    utility[:, 0] += 0.3 * (channel == "shop") - 0.15 * np.log1p(since / 14.0)
    following = _drawn(rng, _softmax(utility + options["noise"] * rng.normal(size=utility.shape)))
    names = np.array(CATEGORIES, dtype=object)
    return {
        "next_category": names[following],
        **{f"share_{name}": share[:, place].round(3) for place, name in enumerate(CATEGORIES)},
        "last_category": names[last],
        "season": np.array(SEASONS, dtype=object)[season],
        "days_since": since.round(),
        "basket": basket.round(2),
        "age": with_gaps(rng, age.round(), 3 * gaps),
        "household": with_gaps(rng, household.astype(np.float64), 4 * gaps),
        "children": with_gaps(rng, children.astype(np.float64), 4 * gaps),
        "house": with_text_gaps(rng, as_codes(house), 3 * gaps),
        "channel": with_text_gaps(rng, channel, gaps),
    }


def _softmax(utility: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(utility - utility.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _drawn(rng: np.random.Generator, shares: NDArray[np.float64]) -> NDArray[np.intp]:
    """One place of each row, drawn by its shares."""
    ends = np.cumsum(shares, axis=1)
    above = (rng.random((len(shares), 1)) > ends).sum(axis=1)
    places: NDArray[np.intp] = np.minimum(above, shares.shape[1] - 1)
    return places
