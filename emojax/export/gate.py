"""The parity gate: what was exported is opened in its own runtime and must say what the classifier says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from emojax.data import geometry, pipeline
from emojax.errors import ExportError
from emojax.predict import Classifier
from emojax.types import Split

TOLERANCE = 1e-4
"""Largest difference of a probability, or of a logit, that passes."""
TIE = 1e-6
"""Two classes nearer than this have no order in float32."""
LEAST = 1e-30
"""Probabilities below are as good as 0: float32 runtimes round them to it sooner or later."""
BATCH = 50
SEED = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Pictures:
    """What is compared on.

    Attributes:
      images: uint8 [N, S, S, 3].
      from_val: how many of them are of the val split, no two the same.
      changed: how many of them are of val and were changed; the rest are noise.
    """

    images: np.ndarray
    from_val: int
    changed: int

    def counts(self) -> dict[str, int]:
        """How many there are, and of what kind; `distinct`: how many are different."""
        distinct = len({image.tobytes() for image in self.images})
        return {"images": len(self.images), "distinct": distinct, "from_val": self.from_val, "changed": self.changed}

    def text(self) -> str:
        """What they are, in words."""
        count = self.counts()
        changed = f"{self.changed} changed ones of these, " if self.changed else ""
        noise = count["images"] - self.from_val - self.changed
        of_val = f"{self.from_val} of val, {changed}"
        return f"{count['images']} pictures ({count['distinct']} different): {of_val}{noise} of noise"


@dataclasses.dataclass(frozen=True, slots=True)
class Agreement:
    """What a comparison found.

    Attributes:
      images: pictures compared.
      distinct: of these, different ones.
      from_val: of these, of the val split.
      changed: of these, of val and changed; the rest are noise.
      max_difference: of a probability or logit.
      decisions_differ: pictures with another first class, ties left out.
      quantity: what the runtime gives: probs or logits.
      runtime: what opened the file.
      tolerance: what passes, `TOLERANCE`; for logits beyond 10, float32 having no more digits, a share of the largest.
      also: what was computed from the runtime's answers and compared too -> its own max_difference and tolerance:
        log_probs, which are logits but for one number per picture, or the probs of logits, calibrated.
    """

    images: int
    distinct: int
    from_val: int
    changed: int
    max_difference: float
    decisions_differ: int
    quantity: str
    runtime: str
    tolerance: float
    also: dict[str, dict[str, float]]


def pictures(classifier: Classifier, val: Split | None, count: int) -> Pictures:
    """`count` different pictures as the model sees them: three quarters from val, where it has fewer filled up with
    changed ones of these, and a quarter of uniform noise; all noise without val."""
    size, rng = classifier.image_size, np.random.default_rng(SEED)
    wanted = 0 if val is None else count - count // 4
    found: dict[bytes, np.ndarray] = {}
    if val is not None and wanted:
        for image in _seen(classifier, val.take(np.arange(min(wanted, len(val))))):
            found.setdefault(image.tobytes(), image)
    own = list(found.values())
    for i in range(wanted - len(own) if own else 0):
        image = _changed(own[i % len(own)], rng)
        found.setdefault(image.tobytes(), image)
    changed = len(found) - len(own)
    noise = rng.integers(0, 256, (count - len(found), size, size, 3), np.uint8)
    return Pictures(
        np.concatenate([np.reshape([*found.values()], (-1, size, size, 3)), noise]).astype(np.uint8), len(own), changed
    )


def _seen(classifier: Classifier, split: Split) -> np.ndarray:
    """The pictures of a split as evaluation shows them to the model, without those that cannot be read."""
    with _batches(classifier, split) as batches:
        return np.concatenate([np.asarray(batch.image)[np.asarray(batch.weight) > 0] for batch in batches])


def _batches(classifier: Classifier, split: Split) -> pipeline.Loader:
    config = classifier.config
    return pipeline.eval_batches(
        split,
        size=classifier.image_size,
        crop=config.eval.crop,
        fit=config.fit,
        interpolation=config.eval.interpolation,
        batch_size=BATCH,
    )


def _changed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random half to all of the picture, perhaps mirrored, in another light, and with noise."""
    size = len(image)
    side = float(rng.uniform(0.5, 1)) * size
    left, top = rng.uniform(0, size - side, 2)
    part = geometry.resize(Image.fromarray(image), size, box=(left, top, left + side, top + side))
    whole = np.asarray(part, np.float32)[:, :: int(rng.choice((1, -1)))]
    light = rng.uniform(0.8, 1.25) * whole + rng.normal(0, 4, whole.shape)
    return light.round().clip(0, 255).astype(np.uint8)


def run(function: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """`function` over all images, `BATCH` at a time; the last batch is smaller, which tests that any size works."""
    return np.concatenate([np.asarray(function(images[i : i + BATCH])) for i in range(0, len(images), BATCH)])


def compare(
    seen: Pictures,
    expected: np.ndarray,
    found: np.ndarray,
    *,
    quantity: str,
    runtime: str,
    also: Mapping[str, tuple[np.ndarray, np.ndarray]] | None = None,
) -> Agreement:
    """How far `found` [N, K] is from `expected`, and as far `also`: name -> (expected, found). Of probabilities, also
    their logarithms. NaN is infinitely far."""
    largest, tolerance = _distance(expected, found)
    same = found.shape == expected.shape
    two = np.sort(expected, axis=1)[:, -2:]
    clear = (two[:, -1] - two[:, 0] > TIE) if expected.shape[1] > 1 else np.zeros(len(expected), bool)
    differ = int((clear & (expected.argmax(1) != found.argmax(1))).sum()) if same else len(expected)
    pairs = dict(also or {})
    if quantity == "probs":
        pairs["log_probs"] = _logs(expected), _logs(found)
    more: dict[str, dict[str, float]] = {}
    for name, pair in pairs.items():
        difference, allowed = _distance(*pair)
        more[name] = {"max_difference": difference, "tolerance": allowed}
    return Agreement(
        **seen.counts(),
        max_difference=largest,
        decisions_differ=differ,
        quantity=quantity,
        runtime=runtime,
        tolerance=tolerance,
        also=more,
    )


def _distance(expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """(largest difference, what passes)."""
    difference = np.abs(np.asarray(found, np.float64) - expected) if found.shape == expected.shape else np.array(np.inf)
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()) / 10)
    return float(np.nan_to_num(difference, nan=np.inf).max()), tolerance


def _logs(probs: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probs, np.float64), LEAST))


def require(name: str, agreement: Agreement) -> None:
    """Raises `ExportError` for what does not agree."""
    own = {"max_difference": agreement.max_difference, "tolerance": agreement.tolerance}
    compared = {agreement.quantity: own, **agreement.also}
    if agreement.decisions_differ or not all(x["max_difference"] < x["tolerance"] for x in compared.values()):
        found = "; ".join(
            f"{quantity} differ by up to {x['max_difference']:.2g} (allowed: {x['tolerance']:.2g})"
            for quantity, x in compared.items()
        )
        raise ExportError(
            f"{name} does not say what the model says, so nothing was written: on {agreement.images} pictures {found}, "
            f"and {agreement.decisions_differ} decisions are others; opened by {agreement.runtime}"
        )


def accuracies(
    classifier: Classifier, val: Split, functions: dict[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[str, float]:
    """The accuracy of each function on all of val, weighted as there."""
    right, total = dict.fromkeys(functions, 0.0), 0.0
    with _batches(classifier, val) as batches:
        for batch in batches:
            weight, label = np.asarray(batch.weight), np.asarray(batch.label).argmax(1)
            total += float(weight.sum())
            for name, function in functions.items():
                hit = function(np.asarray(batch.image)).argmax(1) == label
                right[name] += float((weight * hit).sum())
    return {name: value / total for name, value in right.items()}
