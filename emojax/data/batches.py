"""Step -> batch on the host: which records and which random numbers a batch has, and its arrays.

A whole batch is one element of the loader: what a loader framework costs per element is paid once, and the images are
written where they stay. The makers are picklable and hold no open file: they travel to loader processes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emojax.config import AugmentConfig
from emojax.data import mixing, transforms
from emojax.data.sampling import MIXING, drawn, generator
from emojax.data.storage import Unreadable
from emojax.types import Batch

Fields = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""image, label, weight and index of a `Batch`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """Which positions of the stream a process gets.

    Attributes:
      batch_size: images of a step, over all processes; a multiple of `count`.
      process, count: this process gets the positions process, process + count, ... of every step.
    """

    batch_size: int
    process: int
    count: int

    @property
    def local(self) -> int:
        """Images of a step in this process."""
        return self.batch_size // self.count

    def positions(self, step: int) -> range:
        """The positions of this process in a step."""
        first = step * self.batch_size
        return range(first + self.process, first + self.batch_size, self.count)


@dataclasses.dataclass(frozen=True, slots=True)
class TrainBatch:
    """Step -> training batch.

    Attributes:
      images, label, weight: of the split.
      records: position -> record.
      augment: scaled by the stage's strength.
      size, mixup, cutmix: of the stage.
      seed, fit, accumulate: as in `pipeline.train_batches`.
    """

    images: Any
    label: np.ndarray
    weight: np.ndarray
    records: Any
    share: Share
    augment: AugmentConfig
    size: int
    mixup: float
    cutmix: float
    seed: int
    fit: str
    accumulate: int

    def __call__(self, step: int) -> Fields:
        positions = self.share.positions(step)
        records = [int(self.records[position]) for position in positions]

        def fill(out: np.ndarray, i: int) -> None:
            rng, data = generator(self.seed, positions[i]), self.images[records[i]]
            transforms.fill_train(out, data, augment=self.augment, rng=rng, fit=self.fit)

        fields = filled(records, self.size, fill, label=self.label, weight=self.weight)
        if self.augment.draw_labels:
            image, label, weight, index = fields
            fields = (image, drawn(label, seed=self.seed, positions=positions), weight, index)
        return self._mixed(step, fields)

    def _mixed(self, step: int, fields: Fields) -> Fields:
        parts = zip(*(np.split(field, self.accumulate) for field in fields), strict=True)
        mixed = [self._part(step * self.accumulate + i, part) for i, part in enumerate(parts)]
        if self.accumulate == 1:
            return mixed[0]
        image, label, weight, index = map(np.concatenate, zip(*mixed, strict=True))
        return image, label, weight, index

    def _part(self, number: int, fields: Sequence[np.ndarray]) -> Fields:
        rng = generator(self.seed, MIXING + number)
        batch = mixing.mix(Batch(*fields), augment=self.augment, mixup=self.mixup, cutmix=self.cutmix, rng=rng)
        return batch.image, batch.label, batch.weight, batch.index


@dataclasses.dataclass(frozen=True, slots=True)
class EvalBatch:
    """Step -> evaluation batch: the records in order, then padding."""

    images: Any
    label: np.ndarray
    weight: np.ndarray
    share: Share
    size: int
    crop: float
    fit: str

    def __call__(self, step: int) -> Fields:
        records = [position if position < len(self.label) else -1 for position in self.share.positions(step)]

        def fill(out: np.ndarray, i: int) -> None:
            transforms.fill_eval(out, self.images[records[i]], crop=self.crop, fit=self.fit)

        return filled(records, self.size, fill, label=self.label, weight=self.weight)


def filled(
    records: Sequence[int],
    size: int,
    fill: Callable[[np.ndarray, int], None],
    *,
    label: np.ndarray,
    weight: np.ndarray,
) -> Fields:
    """The fields of a `Batch` of `records`, -1 for padding.

    Args:
      fill: writes image i of the batch into an array uint8 [size, size, 3]; not called for padding.
      label, weight: of the split.

    An image that cannot be read any more, and padding, is black with weight 0; the label of padding is that of the last
    record, so that its rows sum to 1 too.
    """
    image = np.empty((len(records), size, size, 3), np.uint8)
    index = np.array(records, np.int32)
    readable = index >= 0
    for i in range(len(records)):
        try:
            if readable[i]:
                fill(image[i], i)
        except Unreadable:  # the file was changed after the check; an exception would end the whole stream
            readable[i] = False
    image[~readable] = 0
    return image, label[index], np.where(readable, weight[index], 0).astype(np.float32), index
