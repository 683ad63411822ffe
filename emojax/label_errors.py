"""Likely label errors, from predictions of models that have not trained on the images they judge.

Confident learning (Northcutt et al. 2021, arXiv:1911.00068): a class is confidently present in an image whose predicted
probability reaches the mean probability of that class over the images that are labelled so. Images in which another
class than the given one is confidently present are likely errors; the wider the margin, the likelier.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from emojax.errors import DataError
from emojax.types import Predictions


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """All examples, the likeliest label error first; N = those of positive weight.

    Attributes:
      position: int [N], in the predictions.
      given: int [N], the class of the label.
      suggested: int [N], the most probable other class.
      margin: float64 [N], probability of the suggested less that of the given class; the order is by it.
      likely: bool [N], whether confident learning counts the example as mislabelled.
      joint: int [K, K], confident counts: labelled i, confidently j.
    """

    position: Int[np.ndarray, " N"]
    given: Int[np.ndarray, " N"]
    suggested: Int[np.ndarray, " N"]
    margin: Float[np.ndarray, " N"]
    likely: Bool[np.ndarray, " N"]
    joint: Int[np.ndarray, "K K"]


def find(predictions: Predictions) -> Found:
    """Ranks all examples.

    Args:
      predictions: out of fold. The labels' heaviest classes count as given.

    Raises:
      DataError: no example has a positive weight.
    """
    kept = np.flatnonzero(predictions.weight > 0)
    if not kept.size:
        raise DataError("there are no predictions to find label errors in")
    probs = predictions.probs[kept].astype(np.float64)
    given, k = predictions.label[kept].argmax(axis=1), predictions.probs.shape[1]
    member = given[:, None] == np.arange(k)
    count = member.sum(axis=0)
    # A class without examples has no threshold to reach.
    threshold = np.where(count > 0, (probs * member).sum(axis=0) / np.maximum(count, 1), np.inf)
    confident = np.where(probs >= threshold, probs, -1.0)
    present = confident.max(axis=1) >= 0
    chosen = confident.argmax(axis=1)
    joint = np.bincount(given[present] * k + chosen[present], minlength=k * k).reshape(k, k)
    rows = np.arange(len(given))
    others = np.where(member, -1.0, probs)
    suggested = others.argmax(axis=1)
    likely = present & (chosen != given)
    suggested = np.where(likely, chosen, suggested)
    margin = probs[rows, suggested] - probs[rows, given]
    order = np.lexsort((rows, -margin, ~likely))
    return Found(kept[order], given[order], suggested[order], margin[order], likely[order], joint)
