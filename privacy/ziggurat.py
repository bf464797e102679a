"""The layers that cover half a normal density: tables of the ziggurat (Marsaglia and Tsang 2000).

1024 layers of one area lie on each other under exp(-x²/2). Layer i >= 1 is a box as wide as x_i, from height f(x_i)
up to f(x_(i+1)): what is nearer to the middle than x_(i+1) lies under the curve for certain. Layer 0 is the box from
height 0 to f(EDGE), with the tail beyond EDGE, as if it were area / f(EDGE) wide.
"""

from __future__ import annotations

import math

import numpy as np

BITS = 10
LAYERS = 1 << BITS
# A point in a layer is a whole number of so many bits, and a sign.
_POINT = 64 - BITS - 1
# Where the tail begins: found by bisection, so that the topmost layer ends at the curve's top.
EDGE = 4.038849846109504


def density(x: float) -> float:
    """Of the normal law, with 1 at the top."""
    return math.exp(-0.5 * x * x)


def widths(edge: float) -> tuple[list[float], float]:
    """Widths of the layers from the lowest up, and by how much the topmost one is higher than the curve's top."""
    area = edge * density(edge) + math.sqrt(math.pi / 2) * math.erfc(edge / math.sqrt(2))
    found, height = [area / density(edge), edge], 0.0
    while len(found) < LAYERS and height < 1.0:
        height = density(found[-1]) + area / found[-1]
        found.append(math.sqrt(-2.0 * math.log(min(height, 1.0))))
    return found, density(found[-1]) + area / found[-1] - 1.0 if height < 1.0 else math.inf


_up = [*widths(EDGE)[0], 0.0]
# Of layer i: what a point's whole number is multiplied by, and below which value it is taken as it is.
STEP = np.array(_up[:-1]) * 2.0**-_POINT
INNER = np.array(_up[1:])
# The height at which layer i begins, and what a whole number of 53 bits is multiplied by to rise to the next.
HEIGHT = np.array([0.0, *map(density, _up[1:])])
RISE = np.diff(HEIGHT) * 2.0**-53
