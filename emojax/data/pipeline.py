"""The loader: splits -> batches on the host. Order and threads are Grain's, and nothing else in emojax knows Grain;
loader processes are those of `workers`.

A batch is a pure function of (split, settings, seed, step): the records come from a shuffle keyed by the seed and the
epoch, or are drawn by (seed, position in the endless stream); every random number of an image comes from (seed,
position), those of mixing from (seed, step).
So a run resumes by starting at its step, and neither the number of loader processes nor where it was cut matters.
The elements of the stream are whole batches, see `batches`; they are divided among loader processes as they are.
Grain brings Orbax, half a second in all, and is imported where batches are made: who opens a bundle needs neither.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emojax.config import AugmentConfig, DataConfig
from emojax.data import transforms
from emojax.data.batches import EvalBatch, Fields, Share, TrainBatch
from emojax.data.sampling import balanced, substitutes
from emojax.data.workers import SLOTS, Pool, Watch
from emojax.errors import ConfigError, DataError
from emojax.types import Batch, Dataset, Split

if TYPE_CHECKING:
    import grain


class Loader:
    """An iterator over host batches that owns threads or processes: use it in a `with`, or call `close`.

    Attributes:
      unreadable: records that should have been in the last batch and could not be read.
    """

    def __init__(self, make: TrainBatch | EvalBatch, steps: range, *, workers: int, watch: Watch) -> None:
        self._length = len(steps)
        self.unreadable: list[int] = []
        workers = _affordable(workers, make.layout.itemsize, watch.say)
        if workers:
            self._stream: Any = Pool(make, steps, count=workers, watch=watch)
        else:  # two threads overlap loading with the step
            import grain

            reading = grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)
            self._stream = iter(grain.MapDataset.range(steps.start, steps.stop).map(make).to_iter_dataset(reading))

    def __len__(self) -> int:
        """Batches in all, counted from the start."""
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._stream is None:
            raise StopIteration
        fields = Fields(*next(self._stream))
        self.unreadable = fields.planned[fields.planned != fields.index].tolist()
        return fields.batch()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends threads and processes; may be called twice."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def train_batches(
    split: Split,
    *,
    augment: AugmentConfig,
    size: int,
    strength: float,
    mixup: float,
    cutmix: float,
    batch_size: int,
    seed: int,
    start: int,
    stop: int,
    sampler: str = "shuffle",
    accumulate: int = 1,
    fit: str = "crop",
    workers: int = 0,
    watch: Watch | None = None,
    process: tuple[int, int] = (0, 1),
) -> Loader:
    """The training batches of steps `start` to `stop` - 1 of an endless stream of the records of `split`.

    Args:
      size, strength, mixup, cutmix: of the stage, see `StageConfig`.
      batch_size: images per step over all processes.
      seed: of data order and augmentation, >= 0.
      sampler: `DataConfig.sampler`; what the records of the stream are.
      accumulate: micro-batches in a batch, one after the other; each is mixed by a draw of its own.
      fit: `Config.fit`.
      workers: loader processes; 0 = two threads. Falls back to 0 where shared memory is too small.
      watch: over the loader processes; by default with the limits of `DataConfig`, told as a warning of `logging`.
      process: (index, count); this process gets one of count blocks of each micro-batch. MixUp and CutMix act within
        that block, with the same factor in all processes.

    Yields `Batch` of NumPy arrays, image uint8 [batch_size / count, size, size, 3]. A record that cannot be read any
    more is replaced by one of its class, a function of (seed, position), and named in `Loader.unreadable`; where no
    other can be read either, it is black with weight 0 and index -1. Raises `DataError` when a batch is larger than the
    split, `ConfigError` for an unknown sampler or a wrong `augment.order`; while loading, what `Pool` raises.
    """
    share = _share(batch_size, process, accumulate)
    check_batch_size(split, batch_size)
    make = TrainBatch(
        images=split.images, label=split.label, weight=split.weight, records=stream(split, sampler, seed),
        substitutes=substitutes(split, seed), share=share, augment=transforms.scaled(augment, strength), size=size,
        mixup=mixup, cutmix=cutmix, seed=seed, fit=fit, accumulate=accumulate,
    )  # fmt: skip
    return Loader(make, range(start, stop), workers=workers, watch=watch or _default_watch())


def stream(split: Split, sampler: str, seed: int) -> grain.MapDataset:
    """The endless stream of positions in `split`; arguments as in `train_batches`. Raises `ConfigError` for an unknown
    sampler."""
    import grain

    records = grain.MapDataset.range(len(split))
    if sampler == "shuffle":  # endlessly reshuffled passes
        order = int(np.random.SeedSequence(seed).generate_state(1)[0])  # seeds 0 and 1 must not share shifted epochs
        return records.shuffle(seed=order).repeat()
    if sampler == "balanced":
        return records.repeat().map_with_index(balanced(split, seed))
    raise ConfigError(f"config.data.sampler: expected one of shuffle, balanced, found {sampler!r}")


def check_batch_size(split: Split, batch_size: int) -> None:
    """Raises `DataError` when a batch is larger than the training split."""
    if batch_size > len(split):
        raise DataError(
            f"batch of {batch_size} images is larger than the training split ({len(split)} images): "
            "lower config.batch_size"
        )


def eval_batches(
    split: Split,
    *,
    size: int,
    crop: float,
    batch_size: int,
    fit: str = "crop",
    interpolation: str = "",
    workers: int = 0,
    watch: Watch | None = None,
    process: tuple[int, int] = (0, 1),
) -> Loader:
    """Every record of `split` once, in order; the last batch is filled up with weight 0 and index -1. An image that
    cannot be read any more is black with weight 0.

    Args:
      crop, interpolation: of `EvalConfig`. The others: as in `train_batches`.
    """
    share = _share(batch_size, process)
    make = EvalBatch(split.images, split.label, split.weight, share, size, crop, fit, interpolation)
    steps = range(-(-len(split) // batch_size))
    return Loader(make, steps, workers=workers, watch=watch or _default_watch())


def fingerprint(dataset: Dataset, *, batch_size: int, seed: int) -> str:
    """SHA-256 (hex) of what fixes the data of every step: records, labels, pictures, batch size and seed. Unless it is
    the same before and after a resume, a step no longer means the same images."""
    return hashlib.sha256(f"emojax data 3\n{batch_size}\n{seed}\n{dataset.digest}".encode()).hexdigest()


def _share(batch_size: int, process: tuple[int, int], parts: int = 1) -> Share:
    if batch_size % (process[1] * parts):
        among = f"{process[1]} processes" + (f" and {parts} micro-batches" if parts > 1 else "")
        raise DataError(f"batch of {batch_size} images cannot be divided among {among}")
    return Share(batch_size, *process, parts)


def _affordable(workers: int, batch_bytes: int, say: Callable[[str], None]) -> int:
    """`workers`, or 0 when their batches do not fit into shared memory: a loader process would die of SIGBUS."""
    shared = Path("/dev/shm")  # noqa: S108 (where multiprocessing keeps shared memory on Linux)
    if workers == 0 or not shared.is_dir():
        return workers
    needed = 2 * batch_bytes * SLOTS * workers  # training and evaluation have processes at the same time
    free = (status := os.statvfs(shared)).f_bavail * status.f_frsize
    if free >= needed:
        return workers
    say(
        f"warning: {workers} loader processes need {needed >> 20} MiB of /dev/shm, {free >> 20} MiB are free: loading "
        "with threads instead"
    )
    return 0


def warn(text: str) -> None:
    """Where there is no monitor."""
    logging.getLogger("emojax").warning("%s", text)


def _default_watch() -> Watch:
    return Watch.of(DataConfig(), warn)
