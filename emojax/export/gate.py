"""The parity gate: what was exported is opened in its own runtime and must say what the classifier says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from emojax.data import pipeline
from emojax.errors import ExportError
from emojax.predict import Classifier
from emojax.types import Split

TOLERANCE = 1e-4
"""Largest difference of a probability, or of a logit, that passes."""
TIE = 1e-6
"""Two classes nearer than this have no order in float32."""
BATCH = 50
SEED = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Pictures:
    """What is compared on: uint8 [N, S, S, 3], and how many of them are of the val split; the rest are noise."""

    images: np.ndarray
    from_val: int


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison found.

    Attributes:
      images: pictures compared.
      from_val: of these, of the val split; the rest are noise.
      max_difference: of a probability or logit.
      decisions_differ: pictures with another first class, ties left out.
      quantity: probs or logits.
      runtime: what opened the file.
      tolerance: what passes, `TOLERANCE`; for logits beyond 10, float32 having no more digits, a share of the largest.
    """

    images: int
    from_val: int
    max_difference: float
    decisions_differ: int
    quantity: str
    runtime: str
    tolerance: float


def pictures(classifier: Classifier, val: Split | None, count: int) -> Pictures:
    """`count` pictures as the model sees them: three quarters from val, again from its start where it has fewer, the
    rest uniform noise; all noise without val."""
    size, config = classifier.image_size, classifier.config
    rng = np.random.default_rng(SEED)
    from_val = 0 if val is None else count - count // 4
    parts = []
    if val is not None and from_val:
        split = val.take(np.arange(from_val) % len(val))
        with pipeline.eval_batches(
            split,
            size=size,
            crop=config.eval.crop,
            fit=config.fit,
            interpolation=config.eval.interpolation,
            batch_size=BATCH,
        ) as batches:
            parts += [np.asarray(batch.image)[np.asarray(batch.index) >= 0] for batch in batches]
    parts.append(rng.integers(0, 256, (count - from_val, size, size, 3), np.uint8))
    return Pictures(np.concatenate(parts), from_val)


def run(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """`function` over all images, `BATCH` at a time; the last batch is smaller, which tests that any size works."""
    return np.concatenate([np.asarray(function(images[i : i + BATCH])) for i in range(0, len(images), BATCH)])


def compare(seen: Pictures, expected: np.ndarray, found: np.ndarray, *, quantity: str, runtime: str) -> Agreement:
    """How far `found` [N, K] is from `expected`. NaN is infinitely far."""
    difference = np.abs(np.asarray(found, np.float64) - expected) if found.shape == expected.shape else np.array(np.inf)
    two = np.sort(expected, axis=1)[:, -2:]
    clear = (two[:, -1] - two[:, 0] > TIE) if expected.shape[1] > 1 else np.zeros(len(expected), bool)
    differ = int((clear & (expected.argmax(1) != found.argmax(1))).sum()) if difference.ndim else len(expected)
    largest = float(np.nan_to_num(difference, nan=np.inf).max())
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10)
    return Agreement(len(seen.images), seen.from_val, largest, differ, quantity, runtime, tolerance)


def require(name: str, agreement: Agreement) -> None:
    """Raises `ExportError` for what does not agree."""
    if not agreement.max_difference < agreement.tolerance or agreement.decisions_differ:
        raise ExportError(
            f"{name} does not say what the model says, so nothing was written: on {agreement.images} pictures "
            f"{agreement.quantity} differ by up to {agreement.max_difference:.2g} (allowed: {agreement.tolerance:g}), "
            f"and {agreement.decisions_differ} decisions are others; opened by {agreement.runtime}"
        )


def accuracies(
    classifier: Classifier, val: Split, functions: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[str, float]:
    """The accuracy of each function on all of val, weighted as there."""
    right, total = dict.fromkeys(functions, 0.0), 0.0
    with pipeline.eval_batches(
        val,
        size=classifier.image_size,
        crop=classifier.config.eval.crop,
        fit=classifier.config.fit,
        interpolation=classifier.config.eval.interpolation,
        batch_size=BATCH,
    ) as batches:
        for batch in batches:
            weight, label = np.asarray(batch.weight), np.asarray(batch.label).argmax(1)
            total += float(weight.sum())
            for name, function in functions.items():
                hit = function(np.asarray(batch.image)).argmax(1) == label
                right[name] += float((weight * hit).sum())
    return {name: value / total for name, value in right.items()}
