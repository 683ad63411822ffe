"""Step -> batch on the host: which records and which random numbers a batch has, and its arrays.

A whole batch is one element of the loader: what a loader framework costs per element is paid once, and the images are
written where they stay. The makers are picklable and hold no open file: they travel to loader processes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from emojax.config import AugmentConfig
from emojax.data import mixing, transforms
from emojax.data.sampling import MIXING, Substitutes, drawn, generator
from emojax.data.storage import Unreadable
from emojax.types import Batch


class Fields(NamedTuple):
    """A batch as its maker gives it: the arrays of `Batch`, and the records that the stream asked for.

    `planned`, int32 [B], differs from `index` where a record could not be read; it is -1 for padding.
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    index: np.ndarray
    planned: np.ndarray

    def batch(self) -> Batch:
        """What a step reads."""
        return Batch(self.image, self.label, self.weight, self.index)


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """Which positions of the stream a process gets.

    Attributes:
      batch_size: images of a step, over all processes; a multiple of `count * parts`.
      process, count: of every part this process gets the block number `process` of `count`. On the devices the blocks
        lie side by side in this order: a batch is the same, row by row, for any number of processes.
      parts: of a step, one after the other: its micro-batches.
    """

    batch_size: int
    process: int
    count: int
    parts: int = 1

    @property
    def local(self) -> int:
        """Images of a step in this process."""
        return self.batch_size // self.count

    def positions(self, step: int) -> list[int]:
        """The positions of this process in a step."""
        first, part, own = step * self.batch_size, self.batch_size // self.parts, self.local // self.parts
        starts = range(first + self.process * own, first + self.batch_size, part)
        return [position for start in starts for position in range(start, start + own)]

    def layout(self, size: int, label: np.ndarray) -> np.dtype:
        """The fields of a batch of images of `size` pixels as one structured type, for shared memory."""
        return np.dtype(
            [
                ("image", np.uint8, (self.local, size, size, 3)),
                ("label", np.float32, (self.local, label.shape[1])),
                *((name, kind, (self.local,)) for name, kind in _COLUMNS),
            ],
            align=True,
        )


_COLUMNS = (("weight", np.float32), ("index", np.int32), ("planned", np.int32))


@dataclasses.dataclass(frozen=True, slots=True)
class TrainBatch:
    """Step -> training batch.

    A record that cannot be read is replaced by another one of its class, with that one's label, weight and index: the
    batch stays full, and its statistics see pictures only.

    Attributes:
      images, label, weight: of the split.
      records: position -> record.
      substitutes: position -> records to take instead.
      augment: scaled by the stage's strength.
      size, mixup, cutmix: of the stage.
      seed, fit, accumulate: as in `pipeline.train_batches`.
    """

    images: Any
    label: np.ndarray
    weight: np.ndarray
    records: Any
    substitutes: Substitutes
    share: Share
    augment: AugmentConfig
    size: int
    mixup: float
    cutmix: float
    seed: int
    fit: str
    accumulate: int

    @property
    def layout(self) -> np.dtype:
        """See `Share.layout`."""
        return self.share.layout(self.size, self.label)

    def __call__(self, step: int) -> Fields:
        positions = self.share.positions(step)
        planned = np.array([int(self.records[position]) for position in positions], np.int32)
        image = np.empty((len(planned), self.size, self.size, 3), np.uint8)
        found = zip(image, positions, planned.tolist(), strict=True)
        index = np.array([self._fill(*one) for one in found], np.int32)
        live = (index >= 0) & (self.weight[planned] > 0)
        weight = np.where(live, self.weight[index], 0).astype(np.float32)
        label = self.label[np.where(index < 0, planned, index)]
        if self.augment.draw_labels:
            label = drawn(label, seed=self.seed, positions=positions)
        return self._mixed(step, Fields(image, label, weight, index, planned))

    def _fill(self, out: np.ndarray, position: int, record: int) -> int:
        """Writes the image at `position`: `record`, or the first of its substitutes that can be read. Returns which;
        -1 where none can: `out` is black then."""
        if self._filled(out, position, record):
            return record
        for other in self.substitutes(position, record):
            if self._filled(out, position, other):
                return other
        out[:] = 0
        return -1

    def _filled(self, out: np.ndarray, position: int, record: int) -> bool:
        """Whether `record` could be read: its file may have changed after the check. An exception would end the
        stream."""
        rng = generator(self.seed, position)
        try:
            transforms.fill_train(out, self.images[record], augment=self.augment, rng=rng, fit=self.fit)
        except Unreadable:
            return False
        return True

    def _mixed(self, step: int, fields: Fields) -> Fields:
        parts = zip(*(np.split(field, self.accumulate) for field in fields), strict=True)
        mixed = [self._part(step * self.accumulate + i, Fields(*part)) for i, part in enumerate(parts)]
        if self.accumulate == 1:
            return mixed[0]
        return Fields(*map(np.concatenate, zip(*mixed, strict=True)))

    def _part(self, number: int, fields: Fields) -> Fields:
        rng = generator(self.seed, MIXING + number)
        batch = mixing.mix(fields.batch(), augment=self.augment, mixup=self.mixup, cutmix=self.cutmix, rng=rng)
        return Fields(batch.image, batch.label, batch.weight, batch.index, fields.planned)


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
    interpolation: str = ""

    @property
    def layout(self) -> np.dtype:
        """See `Share.layout`."""
        return self.share.layout(self.size, self.label)

    def __call__(self, step: int) -> Fields:
        """An image that cannot be read any more, and padding, is black with weight 0; the label of padding is that of
        the last record, so that its rows sum to 1 too."""
        positions = self.share.positions(step)
        index = np.array([position if position < len(self.label) else -1 for position in positions], np.int32)
        image = np.empty((len(index), self.size, self.size, 3), np.uint8)
        readable = index >= 0
        for i in np.flatnonzero(readable):
            try:
                found = self.images[int(index[i])]
                transforms.fill_eval(image[i], found, crop=self.crop, fit=self.fit, interpolation=self.interpolation)
            except Unreadable:  # the file was changed after the check; an exception would end the whole stream
                readable[i] = False
        image[~readable] = 0
        weight = np.where(readable, self.weight[index], 0).astype(np.float32)
        return Fields(image, self.label[index], weight, index, index)
