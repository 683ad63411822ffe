"""The only thing that happens to pixels on the device: uint8 to normalised floats."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's channel means and standard deviations, for values in [0, 1] and RGB order."""


def normalise(
    image: UInt8[Array, "B H W 3"], mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> Float[Array, "B H W 3"]:
    """(image / 255 - mean) / std, float32."""
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    return image.astype(jnp.float32) * scale - jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
