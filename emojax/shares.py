"""The interval of a share: how far the share of a kind of example may lie from the one that was seen."""

from __future__ import annotations

import numpy as np

Z = 1.959963984540054
"""Of a 95 % interval of the normal distribution."""


def wilson(share: float, n: float) -> tuple[float, float]:
    """Bounds of the 95 % interval of a share seen on n examples, n > 0 (Wilson 1927)."""
    low, high = bounds(np.array([share]), np.array([n]))
    return float(low[0]), float(high[0])


def bounds(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`wilson` of many shares, each on its own number of examples; 0 and 1 where there are none.

    It never shrinks to a point: of 20 right answers out of 20 it still says "83.9 to 100 %".
    """
    seen = np.maximum(np.asarray(n, np.float64), 1e-12)
    middle = share + Z**2 / (2 * seen)
    width = Z * np.sqrt(share * (1 - share) / seen + Z**2 / (4 * seen**2))
    low, high = ((middle + side * width) / (1 + Z**2 / seen) for side in (-1, 1))
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def effective_count(weight: np.ndarray) -> float:
    """How many equally weighted examples tell as much: (sum of weights)^2 / sum of their squares (Kish 1965)."""
    return float(weight.sum() ** 2 / (weight**2).sum())
