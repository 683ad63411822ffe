"""The inference function as StableHLO, by `jax.export`: for CPU, CUDA and TPU in one file, with weights inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from emojax import parallel
from emojax.predict import Infer
from emojax.types import Tree

PLATFORMS = ("cpu", "cuda", "tpu")


def write(path: Path, infer: Infer, weights: dict[str, Tree], image_size: int) -> None:
    """Writes uint8 [B, S, S, 3] -> float32 [B, K] for any B; each platform gets its own formulation."""
    host = jax.tree.map(np.asarray, weights)

    def function(image: Any) -> Any:
        return infer(host["params"], host["model_state"], image)

    (batch,) = jax.export.symbolic_shape("B")
    shape = jax.ShapeDtypeStruct((batch, image_size, image_size, 3), jnp.uint8)
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(shape)
    path.write_bytes(exported.serialize())


def read(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The function of a file; the platform it runs on is JAX's own."""
    call = jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
    parallel.prepare()
    return lambda images: np.asarray(call(images))
