"""How long each stage of the training pipeline takes: the functions that a `TrainBatch` calls, timed one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from emojax.config import AugmentConfig
from emojax.data import mixing, pipeline, transforms
from emojax.data.decode import Opened, fill_rgb
from emojax.data.sampling import MIXING, generator
from emojax.types import Batch, Split

STAGES: tuple[str, ...] = ("read", "decode", "geometry", "policy", "batch", "transfer")
"""read: which records, and their bytes from where they lie. decode: header and pixels, of no more than the crop needs;
with the evaluation view, which training starts from without a random crop, also its resizing. geometry: the steps
before `policy` in `augment.order`, in one resampling where they are neighbours. policy: the policy and what comes after
it, but erasing. batch: random numbers, erasing, grey to RGB, labels, mixing. transfer: the batch to the default
device."""


def stages(
    split: Split, *, augment: AugmentConfig, size: int, batch_size: int, seed: int = 0, fit: str = "crop"
) -> Callable[[int], tuple[dict[str, float], Batch]]:
    """A function: step -> seconds per image of each of `STAGES`, and the batch, that of `pipeline.train_batches`.

    Args:
      augment: of the run, unscaled; MixUp and CutMix act with a factor of 1.
      size, batch_size, fit: as in `pipeline.train_batches`.
    """
    scaled = transforms.scaled(augment, 1.0)
    steps = [name for name in scaled.order if name in transforms.STEPS]
    cut = steps.index("policy") if "policy" in steps else len(steps)

    stream: Any = pipeline.stream(split, "shuffle", seed)

    def timed(step: int) -> tuple[dict[str, float], Batch]:
        clock = Clock(batch_size)
        positions = range(step * batch_size, (step + 1) * batch_size)
        records = [int(stream[position]) for position in positions]
        data = [split.images[i] for i in records]
        clock.stop("read")
        rngs = [generator(seed, position) for position in positions]
        draws = [transforms.drawn(rng) for rng in rngs]
        clock.stop("batch")
        views = [
            transforms.opened_view(Opened(one), scaled, d, size=size, fit=fit)
            for one, d in zip(data, draws, strict=True)
        ]
        clock.stop("decode")

        def run(names: Sequence[str]) -> None:
            for i in range(batch_size):
                for name in names:
                    views[i] = transforms.STEPS[name](views[i], scaled, draws[i], rngs[i])
                views[i] = views[i].then(lambda pixels: pixels)

        run(steps[:cut])
        clock.stop("geometry")
        run(steps[cut:])
        clock.stop("policy")
        batch = _collected(split, records, [view.pixels for view in views], size)
        for pixels, d, rng in zip(batch.image, draws, rngs, strict=True):
            transforms.erased(pixels, scaled, d, rng)
        mixed = mixing.mix(batch, augment=augment, mixup=1.0, cutmix=1.0, rng=generator(seed, MIXING + step))
        clock.stop("batch")
        jax.block_until_ready(jax.device_put(mixed))
        clock.stop("transfer")
        return clock.seconds, mixed

    return timed


class Clock:
    """Seconds per image by stage, as `stop` is called at the end of each."""

    def __init__(self, images: int) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._images, self._last = images, time.perf_counter()

    def stop(self, stage: str) -> None:
        """Adds the time since the last call to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] += (now - self._last) / self._images
        self._last = now


def _collected(split: Split, records: list[int], images: list[Any], size: int) -> Batch:
    image = np.empty((len(records), size, size, 3), np.uint8)
    for out, pixels in zip(image, images, strict=True):
        fill_rgb(out, pixels)
    return Batch(image, split.label[records], split.weight[records], np.array(records, np.int32))
