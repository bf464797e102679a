"""Which part of the day and of the week a time is, said in words, from what the last seven days were like."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .packed import Floats
from .season import DAY_S, Season

# Below this share of the demand's variance that the time of day explains, nobody would speak of a pattern.
_TRUST = 0.3
_PEAK, _BUSY, _WEEKEND = 0.9, 0.5, 0.75


@dataclass(frozen=True)
class Pattern:
    """What demand usually does at this time.

    Attributes
    ----------
    name : business hours, peak, off-hours, weekend, or unknown
    start, end : hours of the day (UTC) in which that name holds around now
    low, high : demand in these hours on the days known, 10 % and 90 % quantile, in replicas
    trust : share of the demand's variance that time of day and weekend explain, 0 to 1
    """

    name: str
    start: float = 0.0
    end: float = 24.0
    low: float = 0.0
    high: float = 0.0
    trust: float = 0.0

    @property
    def words(self) -> str:
        """The name, and what it stands on."""
        if self.name == "unknown":
            return "unknown"
        return (
            f"{self.name} ({_clock(self.start)}-{_clock(self.end)} UTC, usually {self.low:.1f} to {self.high:.1f} "
            f"replicas' demand, time of day explains {100 * self.trust:.0f} %)"
        )

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Pattern:
        """What `state` gave."""
        return cls(**state)


UNKNOWN = Pattern("unknown")


def pattern(season: Season, at: float) -> Pattern:
    """The pattern at a time in seconds, by the season's table."""
    # The epoch was a Thursday; from here on a week begins on Monday.
    week = np.roll(season.table.reshape(7, season.day), 3, axis=0)
    if np.isnan(week).mean() > 6.0 / 7.0:
        return UNKNOWN
    weekday = int(at // DAY_S + 3) % 7
    part = int(at % DAY_S * season.day // DAY_S)
    quiet = _quiet_weekend(week)
    like = week[5:] if quiet and weekday >= 5 else week[:5] if quiet else week
    profile = _smooth(_mean(like))
    trust = _explained(week, quiet)
    if trust < _TRUST or np.isnan(profile).any():
        return UNKNOWN
    names = _names(profile, quiet and weekday >= 5)
    first, last = part, part
    while first > 0 and names[first - 1] == names[part]:
        first -= 1
    while last < season.day - 1 and names[last + 1] == names[part]:
        last += 1
    there = like[:, first : last + 1]
    low, high = np.nanquantile(there, [0.1, 0.9])
    hours = 24.0 / season.day
    return Pattern(names[part], first * hours, (last + 1) * hours, float(low), float(high), trust)


def _names(profile: Floats, weekend: bool) -> list[str]:
    low, high = float(profile.min()), float(profile.max())
    height = (profile - low) / max(high - low, 1e-9)
    if weekend:
        return ["weekend"] * len(profile)
    return ["peak" if it >= _PEAK else "business hours" if it >= _BUSY else "off-hours" for it in height]


def _quiet_weekend(week: Floats) -> bool:
    known = [bool((it == it).mean() > 0.5) for it in week]
    if not (any(known[:5]) and all(known[5:])):
        return False
    return bool(np.nanmean(week[5:]) < _WEEKEND * np.nanmean(week[:5]))


def _explained(week: Floats, quiet: bool) -> float:
    # One day cannot say what days have in common.
    if (week == week).any(axis=1).sum() < 2:
        return 0.0
    rest = week - _mean(week)
    if quiet:
        rest = np.concatenate([week[:5] - _mean(week[:5]), week[5:] - _mean(week[5:])])
    total = float(np.nanvar(week))
    return max(0.0, 1.0 - float(np.nanvar(rest)) / total) if total > 1e-12 else 0.0


def _mean(days: Floats) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a part that no day knows stays NaN
        found: Floats = np.nanmean(days, axis=0)
    return found


def _smooth(profile: Floats) -> Floats:
    """The mean over an hour around each part, across midnight, over what is known there."""
    wide = max(1, len(profile) // 24)
    around = np.stack([np.roll(profile, shift) for shift in range(-(wide // 2), wide // 2 + 1)])
    return _mean(around)


def _clock(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
