"""Small pictures for the report page: what is behind the cells of the confusion matrix, and where evidence was seen."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from emojax import figures
from emojax.data import pipeline
from emojax.types import Predictions, Split

Explain = Callable[[UInt8[np.ndarray, "B S S 3"], Int[np.ndarray, " B"]], Float[np.ndarray, "B Y X"]]
"""(uint8 images, classes) → where the evidence for the class lies, in [0, 1]."""

SIDE, PER_CELL, RIGHT_PER_CELL, MISTAKES = 80, 24, 12, 24
"""Pixels of a small picture; pictures of a wrong and of a right cell; mistakes with a map."""

BUDGET = 1_500_000
"""Characters of all small pictures of one split: two splits and the figures then stay below 5 MB."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of one split, as data URIs, by position in its predictions.

    Attributes:
      small: what the model saw, `SIDE` pixels wide.
      maps: the same with the evidence for the predicted class over it.
      lost: predicted records that the data have no longer; they get no picture.
    """

    small: Mapping[int, str]
    maps: Mapping[int, str] = dataclasses.field(default_factory=dict)
    lost: int = 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where pictures come from: the splits, and how the model sees and explains them (`image_size` in pixels)."""

    splits: Mapping[str, Split]
    image_size: int
    crop: float
    fit: str
    interpolation: str
    explain: Explain

    def of(self, predictions: Predictions, split: str) -> Pictures:
        """Pictures for every cell of the confusion matrix, the surest first, as far as `BUDGET` goes.

        A record is found by its id: the data may have changed since they were judged.
        """
        records = self.splits[split]
        place = {name: i for i, name in enumerate(records.id.tolist())}
        at = {i: place[name] for i, name in enumerate(predictions.id.tolist()) if name in place}
        small, used = {}, 0
        chosen = [position for position in chosen_records(predictions) if position in at]
        for start in range(0, len(chosen), 64):
            if used >= BUDGET:
                break
            part = chosen[start : start + 64]
            seen = self._seen(records, [at[i] for i in part], SIDE)
            for position, image in zip(part, seen, strict=True):
                uri = data_uri(image)
                used += len(uri)
                if used < BUDGET:
                    small[position] = uri
        maps = {}
        sure = [position for position in mistakes(predictions)[:MISTAKES] if position in small]
        for start in range(0, len(sure), 8):
            part = sure[start : start + 8]
            seen = self._seen(records, [at[i] for i in part], self.image_size)
            classes = predictions.probs[part].argmax(1).astype(np.int32)
            for position, image, heat in zip(part, seen, self.explain(seen, classes), strict=True):
                maps[position] = data_uri(overlay(image, heat, 2 * SIDE))
        return Pictures(small, maps, lost=len(predictions.id) - len(at))

    def _seen(self, split: Split, positions: Sequence[int], size: int) -> UInt8[np.ndarray, "N S S 3"]:
        part = split.take(np.asarray(positions))
        view = {"crop": self.crop, "fit": self.fit, "interpolation": self.interpolation}
        with pipeline.eval_batches(part, size=size, **view, batch_size=len(part)) as batches:
            return np.asarray(next(batches).image)


def mistakes(predictions: Predictions) -> list[int]:
    """Positions of wrongly classified images, the surest mistake first."""
    true, predicted = predictions.label.argmax(axis=1), predictions.probs.argmax(axis=1)
    wrong = np.flatnonzero((true != predicted) & (predictions.weight > 0))
    return wrong[np.argsort(-predictions.probs.max(axis=1)[wrong], kind="stable")].tolist()


def cells(predictions: Predictions) -> dict[tuple[int, int], list[int]]:
    """(true class, predicted class) → positions, the surest first; images of weight 0 are in none."""
    true, predicted = predictions.label.argmax(axis=1), predictions.probs.argmax(axis=1)
    found: dict[tuple[int, int], list[int]] = {}
    for i in np.argsort(-predictions.probs.max(axis=1), kind="stable").tolist():
        if predictions.weight[i] > 0:
            found.setdefault((int(true[i]), int(predicted[i])), []).append(i)
    return found


def chosen_records(predictions: Predictions) -> list[int]:
    """The positions whose pictures are worth showing, the most wanted first: the surest mistakes, then one of every
    cell, then the second of every cell, and so on."""
    ranked = [
        (rank, i == j, position)
        for (i, j), positions in cells(predictions).items()
        for rank, position in enumerate(positions[: RIGHT_PER_CELL if i == j else PER_CELL])
    ]
    first = mistakes(predictions)[:MISTAKES]
    return list(dict.fromkeys([*first, *(position for _, _, position in sorted(ranked))]))


def overlay(image: UInt8[np.ndarray, "S S 3"], heat: Float[np.ndarray, "Y X"], side: int) -> UInt8[np.ndarray, "N N 3"]:
    """The image in grey with the evidence over it, `side` pixels wide."""
    grey = np.asarray(Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.BICUBIC), np.float32)
    wide = Image.fromarray(np.asarray(heat, np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(wide), 0, 1)[..., None]
    colour = figures.heat(strength[..., 0])
    share = 0.7 * strength**0.7
    return np.clip((1 - share) * grey[..., None] + share * colour, 0, 255).astype(np.uint8)


def data_uri(image: UInt8[np.ndarray, "H W 3"]) -> str:
    """The image as a JPEG inside a `data:` address."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
