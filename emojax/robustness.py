"""How a classifier stands damaged and mirrored pictures: accuracy under corruptions, consistency under flips."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emojax import bootstrap, calibration, shares
from emojax.bootstrap import Interval
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
    """Accuracy in [0, 1] under corruption, and flips.

    Attributes:
      n: images judged.
      corruptions: corruption → accuracy at severities 1 to 5.
      intervals: corruption → the 95 % Wilson interval of each.
      means: accuracy of the images as they are, "clean"; over the severities of each corruption; and over all of them,
        "all". Intervals are over images: an image counts with the share of its versions that is classified correctly.
      flip: mirrored images.
    """

    n: int
    corruptions: Mapping[str, tuple[float, ...]]
    intervals: Mapping[str, tuple[tuple[float, float], ...]]
    means: Mapping[str, Interval]
    flip: Flip

    @property
    def clean(self) -> float:
        """Accuracy of the images as they are."""
        return self.means["clean"].value

    @property
    def mean_corruption_accuracy(self) -> float:
        """Mean over all corruptions and severities."""
        return self.means["all"].value

    def to_json(self) -> dict[str, Any]:
        """In JSON's own types."""
        return {
            "n": self.n,
            "clean": self.clean,
            "mean_corruption_accuracy": self.mean_corruption_accuracy,
            "corruptions": {name: list(values) for name, values in self.corruptions.items()},
            "intervals": {name: [list(bounds) for bounds in rows] for name, rows in self.intervals.items()},
            "means": {name: interval._asdict() for name, interval in self.means.items()},
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


def measure(classifier: Classifier, split: Split, *, say: Callable[[str], None] = lambda text: None) -> Robustness:
    """Judges the split as it is, mirrored, and under every corruption at every severity: 47 times in all.

    Flips are judged by the first of the classifier's views alone, since an average over mirrored views cannot differ.

    Args:
      classifier: from `predict.load`.
      split: its pictures are damaged as the model sees them, at its image size.
      say: is told each line of the table when it is known.

    Raises:
      DataError: no image of the split can be read.
    """
    config = classifier.config
    seen = {"crop": config.eval.crop, "fit": config.fit, "interpolation": config.eval.interpolation}
    view = {"size": classifier.image_size, **seen}
    # What the wrapped pictures give is the view itself, so it must not be cropped once more.
    uncropped = dataclasses.replace(config, eval=dataclasses.replace(config.eval, crop=1.0))
    seeing = dataclasses.replace(classifier, config=uncropped)

    def hits(images: Any) -> np.ndarray:
        found = seeing.predict_split(dataclasses.replace(split, images=images))
        return calibration.hits(calibration.kept(dataclasses.replace(found, weight=plain.weight)))

    plain = classifier.predict_split(split)
    kept = calibration.kept(plain)
    count = shares.effective_count(kept.weight.astype(np.float64))

    def share(hit: np.ndarray) -> Interval:
        value = float(np.average(hit, weights=kept.weight))
        return Interval(value, *shares.wilson(value, count))

    means = {"clean": share(calibration.hits(kept))}
    say(f"{'as they are':<12} {100 * means['clean'].value:.1f}")
    cells: dict[str, list[Interval]] = {}
    right = []
    for name in CORRUPTIONS:
        rows = [
            hits(corruptions.Changed(split.images, corruptions.damaged(name, severity), **view))
            for severity in SEVERITIES
        ]
        right.append(np.mean(rows, axis=0))
        cells[name], means[name] = [share(row) for row in rows], bootstrap.mean_interval(kept, right[-1])
        say(f"{name:<12} {'  '.join(f'{100 * cell.value:.1f}' for cell in cells[name])}")
    means["all"] = bootstrap.mean_interval(kept, np.mean(right, axis=0))
    alone = next(iter(seeing.per_view().values()))
    as_is, mirrored = (
        alone.predict_split(dataclasses.replace(split, images=corruptions.Changed(split.images, change, **view)))
        for change in (corruptions.as_it_is, corruptions.mirrored)
    )
    return Robustness(
        n=len(kept.weight),
        corruptions={name: tuple(cell.value for cell in row) for name, row in cells.items()},
        intervals={name: tuple((cell.low, cell.high) for cell in row) for name, row in cells.items()},
        means=means,
        flip=consistency(as_is, mirrored),
    )
