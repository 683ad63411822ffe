"""What is done to probabilities after the model: a temperature, then swaps inside pairs of easily confused classes.

The rule is that of seed 000: a decision whose probability lies below the threshold of its class goes to the second most
probable class when the two are a listed pair and closer to each other than the pair's margin. The seed set its numbers
by hand; `fit` takes them from the validation split, and nothing here ever sees another one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from emojax import scaling
from emojax.combine import log_probs, softmax
from emojax.errors import DataError
from emojax.files import parse_json
from emojax.types import Predictions

_THRESHOLDS = (0.0, *(round(0.2 + 0.05 * i, 2) for i in range(9)), 1.0)
_MARGINS = tuple(round(0.05 * i, 2) for i in range(9))
"""Values that `fit` tries, around those of the seed (.25 to .45, .3 and .4); 0 is off, a threshold of 1 always on."""
_PAIRS = 5
"""How many pairs `fit` takes when none are given: as many as the seed has."""


@dataclasses.dataclass(frozen=True, slots=True)
class PostProcess:
    """A fitted post-processing of K classes.

    Attributes:
      temperature: > 0; probabilities become softmax(log p / temperature).
      threshold: K numbers; a decision for class k is open to a swap while its probability is below threshold[k].
      pairs: (i, j, margin): class ids and the distance of their probabilities below which i and j are swapped.
    """

    temperature: float
    threshold: tuple[float, ...]
    pairs: tuple[tuple[int, int, float], ...] = ()

    def __post_init__(self) -> None:
        k = len(self.threshold)
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise DataError(f"post-processing: the temperature must be above 0, found {self.temperature}")
        _check_pairs([(i, j) for i, j, _ in self.pairs], k)

    def to_json(self, class_names: Sequence[str]) -> str:
        """JSON text, read back by `from_json`; the names tell what the class ids mean."""
        return json.dumps({"class_names": list(class_names), **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str, class_names: Sequence[str], *, where: str = "post-processing") -> PostProcess:
        """Rebuilds what `to_json` wrote; anything else, and other classes, raise `DataError` naming `where`."""
        try:
            value = parse_json(text)
            if value["class_names"] != list(class_names):
                raise DataError(
                    f"{where}: is for the classes {', '.join(value['class_names'])}, not {', '.join(class_names)}"
                )
            if len(value["threshold"]) != len(class_names):
                raise ValueError(f"{len(value['threshold'])} thresholds for {len(class_names)} classes")
            return cls(
                temperature=float(value["temperature"]),
                threshold=tuple(float(x) for x in value["threshold"]),
                pairs=tuple((int(i), int(j), float(margin)) for i, j, margin in value["pairs"]),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{where}: expected class_names, temperature, threshold and pairs as JSON ({error!r})"
            ) from error


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A post-processing by class name: temperature, {class: threshold}, {(class, class): margin}."""

    temperature: float
    threshold: Mapping[str, float]
    pairs: Mapping[tuple[str, str], float]

    def resolve(self, class_names: Sequence[str]) -> PostProcess:
        """The same for these classes; those without a threshold are never swapped away from.

        Raises `DataError` when a class that it names is missing.
        """
        ids = {name: i for i, name in enumerate(class_names)}
        if missing := sorted(set(self.threshold) - set(ids)):
            raise DataError(
                f"post-processing needs the classes {', '.join(missing)}, but there are {', '.join(class_names)}"
            )
        return PostProcess(
            temperature=self.temperature,
            threshold=tuple(self.threshold.get(name, 0.0) for name in class_names),
            pairs=tuple((ids[a], ids[b], margin) for (a, b), margin in self.pairs.items()),
        )


SEED_000 = Named(
    temperature=1.2,
    threshold={
        "angry": 0.35,
        "disgust": 0.45,
        "fear": 0.30,
        "happy": 0.25,
        "neutral": 0.35,
        "sad": 0.40,
        "surprise": 0.30,
    },
    pairs={
        ("angry", "disgust"): 0.4,
        ("angry", "neutral"): 0.3,
        ("angry", "sad"): 0.3,
        ("fear", "surprise"): 0.4,
        ("neutral", "sad"): 0.3,
    },
)
"""The numbers of seed 000, set by hand for its seven classes."""


def read(path: Path, class_names: Sequence[str]) -> PostProcess:
    """The post-processing in a file of `PostProcess.to_json`. Raises `DataError` when it cannot be read or is for other
    classes."""
    try:
        return PostProcess.from_json(path.read_text(encoding="utf-8"), class_names, where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def apply(post: PostProcess, predictions: Predictions) -> Predictions:
    """The predictions after the temperature and the swaps; a swap exchanges the two probabilities, so rows sum to 1.

    Every row is judged by itself. Raises `DataError` when the class count differs.
    """
    probs = _tempered(predictions.probs, post.temperature)
    if probs.shape[1] != len(post.threshold):
        raise DataError(
            f"the post-processing is for {len(post.threshold)} classes, the predictions have {probs.shape[1]}"
        )
    doubts = _Doubts.of(probs, [(i, j) for i, j, _ in post.pairs])
    margin = np.array([margin for *_, margin in post.pairs])
    rows = np.flatnonzero(doubts.swapped(threshold=np.array(post.threshold), margin=margin))
    first, second = doubts.first[rows], doubts.second[rows]
    probs[rows, first], probs[rows, second] = probs[rows, second], probs[rows, first]
    return dataclasses.replace(predictions, probs=probs)


def fit(predictions: Predictions, *, pairs: Sequence[tuple[int, int]] = ()) -> PostProcess:
    """Chooses temperature, thresholds and margins on the predictions of a validation split.

    The temperature minimises the cross-entropy (Guo et al. 2017, On Calibration of Modern Neural Networks,
    arXiv:1706.04599). Margins and thresholds are then tried value by value, each as small as the best accuracy allows,
    so neither cross-entropy before the swaps nor accuracy on this split gets worse.

    Args:
      predictions: of the validation split; rows of weight 0 do not count.
      pairs: class ids that may be swapped; by default the five pairs that are confused most often.

    Raises:
      DataError: no row has a positive weight, or a pair is not two classes.
    """
    kept = predictions.weight > 0
    if not kept.any():
        raise DataError("nothing to fit the post-processing on: no example has a positive weight")
    label, weight = predictions.label[kept], predictions.weight[kept].astype(np.float64)
    k = label.shape[1]
    _check_pairs(pairs, k)
    temperature = scaling.temperature(predictions.probs[kept], label, weight)
    probs = _tempered(predictions.probs[kept], temperature)
    true = label.argmax(axis=1)
    chosen = list(pairs) or _confused(true, probs.argmax(axis=1), weight, k=k)
    doubts = _Doubts.of(probs, chosen)
    gain = weight * ((doubts.second == true).astype(float) - (doubts.first == true))

    def gained(knobs: np.ndarray) -> float:
        return float(gain[doubts.swapped(threshold=knobs[:k], margin=knobs[k:])].sum())

    # Thresholds start open, so that every margin can show what it is good for; margins start closed: no gain, no loss.
    start = np.repeat((1.0, 0.0), (k, len(chosen)))
    knobs = _climb(gained, start, [_THRESHOLDS] * k + [_MARGINS] * len(chosen)).tolist()
    return PostProcess(
        temperature=temperature,
        threshold=tuple(knobs[:k]),
        pairs=tuple((i, j, margin) for (i, j), margin in zip(chosen, knobs[k:], strict=True)),
    )


def _climb(score: Callable[[np.ndarray], float], start: np.ndarray, grids: Sequence[Sequence[float]]) -> np.ndarray:
    """Sets one knob after the other, the last one first, to the smallest value of its grid with the best score, until
    none moves: each turn either scores more or does less, so it ends."""
    knobs, before = start.copy(), None
    while before is None or (knobs != before).any():
        before = knobs.copy()
        for i in reversed(range(len(knobs))):
            scores = []
            for value in grids[i]:
                knobs[i] = value
                scores.append(score(knobs))
            # Sums of fractional weights differ in their last digits where they should be equal.
            knobs[i] = grids[i][int(np.argmax(np.array(scores) > max(scores) - 1e-9))]
    return knobs


@dataclasses.dataclass(frozen=True, slots=True)
class _Doubts:
    """What a swap depends on, for N rows: the two most probable classes, the first's probability, how far the second is
    behind, and the position of their pair in the list, -1 where it is not listed."""

    first: np.ndarray
    second: np.ndarray
    top: np.ndarray
    gap: np.ndarray
    pair: np.ndarray

    @classmethod
    def of(cls, probs: np.ndarray, pairs: Sequence[tuple[int, int]]) -> _Doubts:
        order = np.argsort(-probs, axis=1, kind="stable")  # ties go to the class that comes first, as in the metrics
        first, second = order[:, 0], order[:, min(1, probs.shape[1] - 1)]
        rows = np.arange(len(probs))
        number = np.full((probs.shape[1],) * 2, -1)
        for position, (i, j) in enumerate(pairs):
            number[i, j] = number[j, i] = position
        top = probs[rows, first]
        return cls(first=first, second=second, top=top, gap=top - probs[rows, second], pair=number[first, second])

    def swapped(self, *, threshold: np.ndarray, margin: np.ndarray) -> np.ndarray:
        """Bool [N]: rows to swap. Exchanging equal probabilities would change nothing, so a gap of 0 is left alone."""
        width = np.append(margin, 0.0)[self.pair]  # position -1 is the 0 at the end
        return (self.top < threshold[self.first]) & (self.gap > 0) & (self.gap < width)


def _tempered(probs: np.ndarray, temperature: float) -> np.ndarray:
    """float32 [N, K]: softmax(log probs / temperature)."""
    return softmax(log_probs(probs) / temperature).astype(np.float32)


def _confused(true: np.ndarray, predicted: np.ndarray, weight: np.ndarray, *, k: int) -> list[tuple[int, int]]:
    """At most `_PAIRS` pairs i < j by the weight of i taken for j and j for i, heaviest first, without those of 0."""
    counts = np.bincount(true * k + predicted, weights=weight, minlength=k * k).reshape(k, k)
    heavy = [(float(counts[i, j] + counts[j, i]), (i, j)) for i in range(k) for j in range(i + 1, k)]
    return [pair for total, pair in sorted(heavy, key=lambda x: -x[0])[:_PAIRS] if total > 0]


def _check_pairs(pairs: Sequence[tuple[int, int]], k: int) -> None:
    seen = set()
    for i, j in pairs:
        if not (0 <= i < k and 0 <= j < k and i != j) or frozenset((i, j)) in seen:
            raise DataError(
                "post-processing: a pair must be two different class ids, "
                f"0 to {k - 1}, and listed once; found ({i}, {j})"
            )
        seen.add(frozenset((i, j)))
