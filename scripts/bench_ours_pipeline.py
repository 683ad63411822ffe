"""emojax' training pipeline: pictures on disk to finished uint8 batches on the host."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from bench_protocol import Job, Span

from emojax import data
from emojax.config import AugmentConfig, DataConfig
from emojax.data import pipeline, timing
from emojax.types import Split


def variants(options: dict[str, Any]) -> list[str]:
    del options
    return ["uint8"]


def opened(options: dict[str, Any]) -> tuple[Split, AugmentConfig]:
    """The training split and the augmentation; options: `path`, and `augment`, the fields of an `AugmentConfig`."""
    path = Path(options["path"])
    # The check's cache, as in a run's work directory, lets the second opening of the same pictures skip their check.
    dataset = data.open_dataset(DataConfig(path=str(path)), cache=path.with_name(f"{path.name}-check.json"))
    knobs: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options["augment"].items()}
    return dataset.splits["train"], AugmentConfig(**knobs)


def prepare(options: dict[str, Any], variant: str) -> Job:
    """options: `size`, `batch`, `workers`, and those of `opened`."""
    del variant
    split, augment = opened(options)

    def seconds(n: int) -> float:
        span = Span(options["workers"], n)
        with pipeline.train_batches(
            split,
            augment=augment,
            size=options["size"],
            strength=1.0,
            mixup=0.0,
            cutmix=0.0,
            batch_size=options["batch"],
            seed=0,
            start=0,
            stop=span.stop,
            workers=options["workers"],
        ) as batches:
            return span.seconds(batches)

    return Job(seconds, options["batch"] * Span(options["workers"], 1).timed)


def stages(options: dict[str, Any], batches: int = 8) -> dict[str, float]:
    """Milliseconds per picture of each stage of `emojax.data.timing`, in one thread: medians over batches."""
    split, augment = opened(options)
    timed = timing.stages(split, augment=augment, size=options["size"], batch_size=options["batch"])
    timed(0)
    rows = [timed(step)[0] for step in range(1, batches + 1)]
    return {name: round(1000 * statistics.median(row[name] for row in rows), 4) for name in rows[0]}
