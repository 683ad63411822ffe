"""What the benchmarks of the train step and of inference share: a real run's parts on pictures in memory."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

import numpy as np
from jax.sharding import Mesh

from emojax import parallel, wiring
from emojax.config import Config, ModelConfig, OptimConfig
from emojax.types import Batch, Dataset, Split

CLASSES = tuple("abcdefg")
PRODUCTS = "float32, bfloat16 products"
COMPUTE = ["float32", PRODUCTS, "bfloat16"]
"""What is tried: values of `model.compute`, and float32 with `model.products=bfloat16`."""

_OPEN = contextlib.ExitStack()


def build(options: dict[str, Any], compute: str) -> wiring.Parts:
    """The parts of a run on noise: AdamW, cross-entropy, no augmentation.

    options: `model`, `size`, `batch`, and optionally `remat` and `accumulate` (batches per update).
    """
    config = Config(
        image_size=options["size"],
        batch_size=options["batch"],
        model=ModelConfig(
            name=options["model"],
            compute="float32" if compute == PRODUCTS else compute,
            products="bfloat16" if compute == PRODUCTS else "",
            remat=options.get("remat", ""),
        ),
        optim=OptimConfig(accumulate=options.get("accumulate", 1)),
    )
    n = config.batch_size * config.optim.accumulate
    split = Split(
        name="train",
        images=np.random.default_rng(0).integers(0, 256, (n, options["size"], options["size"], 3), np.uint8),
        label=np.eye(len(CLASSES), dtype=np.float32)[np.arange(n) % len(CLASSES)],
        weight=np.ones(n, np.float32),
        id=np.arange(n).astype(str),
    )
    dataset = Dataset(name="noise", class_names=CLASSES, splits={"train": split, "val": split})
    return wiring.build(config, dataset, mesh())


@functools.cache
def mesh() -> Mesh:
    """The mesh over all devices, entered for the rest of the process."""
    return _OPEN.enter_context(parallel.mesh())


def host_batch(parts: wiring.Parts) -> Batch:
    """All pictures of the run as one host batch."""
    split = parts.dataset.splits["train"]
    return Batch(split.images, split.label, split.weight, np.arange(len(split), dtype=np.int32))
