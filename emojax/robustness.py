"""How a classifier stands damaged and mirrored pictures: accuracy under corruptions, consistency under flips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emojax import calibration
from emojax.data import corruptions
from emojax.data.corruptions import CORRUPTIONS, SEVERITIES
from emojax.errors import DataError
from emojax.predict import Classifier
from emojax.types import Predictions, Split


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """How much predictions depend on left and right.

    Attributes:
      equal: share of the images that keep their class, and its 95 % Wilson interval `low` to `high`.
      mean_change: mean over images of |p - p'|, where p is the probability of the class that was predicted on the image
        as it is, and p' that of the same class on the mirrored image.
    """

    equal: float
    low: float
    high: float
    mean_change: float


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """Accuracy in [0, 1] of the images as they are, and per corruption at severities 1 to 5; flips; images judged."""

    n: int
    clean: float
    corruptions: Mapping[str, tuple[float, ...]]
    flip: Flip

    @property
    def mean_corruption_accuracy(self) -> float:
        """Mean over all corruptions and severities."""
        return float(np.mean(list(self.corruptions.values())))

    def to_json(self) -> dict[str, Any]:
        """In JSON's own types."""
        return {
            "n": self.n,
            "clean": self.clean,
            "mean_corruption_accuracy": self.mean_corruption_accuracy,
            "corruptions": {name: list(values) for name, values in self.corruptions.items()},
            "flip": dataclasses.asdict(self.flip),
        }


def consistency(predictions: Predictions, mirrored: Predictions) -> Flip:
    """Compares predictions of images with those of the same images mirrored; rows of weight 0 do not count.

    Raises `DataError` when the records differ, or none counts.
    """
    if predictions.probs.shape != mirrored.probs.shape or (predictions.id != mirrored.id).any():
        raise DataError("flips: the two predictions are not of the same records")
    good = (predictions.weight > 0) & (mirrored.weight > 0)
    if not good.any():
        raise DataError("flips: no example has a positive weight")
    one, two = predictions.probs[good].astype(np.float64), mirrored.probs[good].astype(np.float64)
    said, rows = one.argmax(axis=1), np.arange(len(one))
    equal = float((said == two.argmax(axis=1)).mean())
    low, high = calibration.wilson(equal, len(one))
    change = float(np.abs(one[rows, said] - two[rows, said]).mean())
    return Flip(equal=equal, low=low, high=high, mean_change=change)


def measure(
    classifier: Classifier, split: Split, *, batch_size: int, say: Callable[[str], None] = lambda text: None
) -> Robustness:
    """Judges the split as it is, mirrored, and under every corruption at every severity: 47 times in all.

    Flips are judged by the first of the classifier's views alone, since an average over mirrored views cannot differ.

    Args:
      classifier: from `predict.load`.
      split: its pictures are damaged as the model sees them, at its image size.
      batch_size: pictures at once.
      say: is told each line of the table when it is known.

    Raises:
      DataError: no image of the split can be read.
    """
    config = classifier.config
    view = {"size": classifier.image_size, "crop": config.eval.crop, "fit": config.fit}
    # What the wrapped pictures give is the view itself, so it must not be cropped once more.
    uncropped = dataclasses.replace(config, eval=dataclasses.replace(config.eval, crop=1.0))
    seeing = dataclasses.replace(classifier, config=uncropped)

    def accuracy(images: Any) -> float:
        found = calibration.kept(seeing.predict_split(dataclasses.replace(split, images=images), batch_size=batch_size))
        return float(np.average(calibration.hits(found), weights=found.weight))

    plain = classifier.predict_split(split, batch_size=batch_size)
    kept = calibration.kept(plain)
    clean = float(np.average(calibration.hits(kept), weights=kept.weight))
    say(f"{'as they are':<12} {100 * clean:.1f}")
    rows: dict[str, tuple[float, ...]] = {}
    for name in CORRUPTIONS:
        rows[name] = tuple(
            accuracy(corruptions.Changed(split.images, corruptions.damaged(name, severity), **view))
            for severity in SEVERITIES
        )
        say(f"{name:<12} {'  '.join(f'{100 * value:.1f}' for value in rows[name])}")
    alone = next(iter(seeing.per_view().values()))
    as_is, mirrored = (
        alone.predict_split(
            dataclasses.replace(split, images=corruptions.Changed(split.images, change, **view)), batch_size=batch_size
        )
        for change in (corruptions.as_it_is, corruptions.mirrored)
    )
    return Robustness(n=len(kept.weight), clean=clean, corruptions=rows, flip=consistency(as_is, mirrored))
