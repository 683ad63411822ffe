"""Votes of several people about one image -> its label, by the rules of FER+ (Barsoum et al. 2016, arXiv:1608.01041).

All rules but `share` first take single votes for outliers and count what is left, votes for "unknown" and "not a face"
included:
  majority      one class, when it has more than half of the votes.
  cross_entropy the distribution over the strongest classes, at most three, until they cover 75 %.
  multi_target  the classes with at least 30 %; train with `loss.name` multi_target, which treats them alike.
  share         all votes for classes as they are; with columns for "no class", records with votes for those only go.
An image is left out when no class comes first or less than or exactly half of its votes are accounted for. Label
drawing, the fourth mode of the paper, is `cross_entropy` with `augment.draw_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Rule = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""(votes float64 [N, K + R], K) -> (label mass [N, K], kept [N] bool); the last R columns are "no class"."""


def _share(votes: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    mass = votes[:, :classes]
    return mass, mass.sum(1) > 0


def _majority(votes: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    top = votes.argmax(1)
    kept = (votes.max(1) > 0.5 * votes.sum(1)) & (top < classes)
    mass = np.zeros((len(votes), classes))
    mass[kept, top[kept]] = 1
    return mass, kept


def _cross_entropy(votes: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    left, total = votes.copy(), votes.sum(1)
    mass = np.zeros((len(votes), classes))
    covered, count = np.zeros(len(votes)), np.zeros(len(votes), np.int64)
    going, refused = total > 0, total <= 0
    for _ in range(3):
        going = going & (covered < 0.75 * total) & (count < 3)
        peak = left.max(1)
        tied = (left == peak[:, None]) & going[:, None]
        chosen, other = tied[:, :classes], tied[:, classes:].any(1)
        mass[chosen] = np.broadcast_to(peak[:, None], chosen.shape)[chosen]
        count += chosen.sum(1)
        covered += peak * (chosen.sum(1) + other)
        left[tied] = 0
        refused |= other & (mass.sum(1) == 0)  # "no class" comes first
        going &= ~other
    return mass, ~refused & (mass.sum(1) > 0.5 * total) & (count <= 3)


def _multi_target(votes: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    total = votes.sum(1)
    chosen = np.where(votes >= 0.3 * total[:, None], votes, 0)
    kept = (chosen.sum(1) > 0.5 * total) & (chosen.argmax(1) < classes)
    return chosen[:, :classes], kept


_RULES: Mapping[str, Rule] = {
    "share": _share,
    "majority": _majority,
    "cross_entropy": _cross_entropy,
    "multi_target": _multi_target,
}
NAMES = tuple(_RULES)


def apply(votes: np.ndarray, classes: int, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels by a rule.

    Args:
      votes: [N, K + R] counts >= 0: K classes, then R columns for "no class".
      classes: K.
      rule: one of `NAMES`.

    Returns (label float32 [M, K], rows sum to 1; int64 [M], the rows that are kept, ascending).
    """
    votes = np.asarray(votes, np.float64)
    if rule != "share":
        votes = np.where(votes <= 1, 0, votes)
    mass, kept = _RULES[rule](votes, classes)
    mass = mass[kept]
    return (mass / mass.sum(1, keepdims=True)).astype(np.float32), np.flatnonzero(kept)
