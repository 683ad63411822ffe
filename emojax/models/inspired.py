"""MobileNet- and ResNet-inspired networks of seed system 002; its SqueezeNet-inspired one is in `squeezenet.py`.

The first is MobileNet v1 (Howard et al. 2017, arXiv:1704.04861) with ReLU6; the second is `resnet.ResNet` in the sizes
of ResNet-18. All three start as torch's layers do by default, see `initial`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.models import heads, layers
from emojax.types import Tree

MOBILENETS = {"mobilenet_inspired": ((1, 2, 2, 6, 2), (64, 128, 256, 512, 1024))}
RESNETS = {"resnet_inspired": ((2, 2, 2, 2), (64, 128, 256, 512))}
"""name -> (blocks per stage, channels per stage)."""

STEMS = {"imagenet": 2, "small": 1}
"""name -> stride of MobileNet's first convolution, 3x3 to half the channels of the first stage."""


class Separable(nn.Module):
    """relu6(norm(.)) of a depthwise 3x3 convolution, and again of a 1x1 convolution to `width` channels."""

    width: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B Y X O"]:
        x = jax.nn.relu6(layers.ConvNorm(None, 3, self.stride, self.dtype, name="dwconv")(x, train))
        return jax.nn.relu6(layers.ConvNorm(self.width, 1, 1, self.dtype, name="pointwise")(x, train))


class MobileNet(nn.Module):
    """Normalised images [B, H, W, 3] -> what the head makes of the last map, a 32nd of the image at `imagenet`."""

    config: ModelConfig
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    head: heads.Head

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> heads.Output:
        c, dtype = self.config, jnp.dtype(self.config.compute)
        make = layers.remat(Separable, c.remat)
        stem = layers.ConvNorm(max(1, self.widths[0] // 2), 3, STEMS[c.stem], dtype, name="stem")
        x = jax.nn.relu6(stem(x.astype(dtype), train))
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            strides = [2 if i > 0 and j == 0 else 1 for j in range(depth)]
            parts = [(f"block{j + 1}", functools.partial(make, width, s, dtype)) for j, s in enumerate(strides)]
            x = layers.Stage(tuple(parts), name=f"stage{i + 1}")(x, train)
        return self.head(name="head")(x, train)


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """torch's default: kernels and biases U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)), norms 1 and 0."""
    module, _, leaf = path.rpartition("/")
    kernel = shapes.get(f"{module}/kernel")
    if kernel:
        return "uniform", math.prod(kernel[:-1]) ** -0.5
    return "constant", float(leaf == "scale")


_TORCH = (
    (r"conv_stem", "stem/conv"),
    (r"bn1", "stem/norm"),
    (r"blocks\.(\d+)\.(\d+)\.conv_dw", "stage{}/block{}/dwconv/conv"),
    (r"blocks\.(\d+)\.(\d+)\.bn1", "stage{}/block{}/dwconv/norm"),
    (r"blocks\.(\d+)\.(\d+)\.conv_pw", "stage{}/block{}/pointwise/conv"),
    (r"blocks\.(\d+)\.(\d+)\.bn2", "stage{}/block{}/pointwise/norm"),
    (r"classifier", "head/dense"),
)


def from_torch(state: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
    """(params, model_state) from the state dict of timm's mobilenetv1_100, the same network; see `layers.rename_torch`.

    The ResNet's weights are those of a torchvision ResNet-18: `resnet.from_torch`.
    """
    return layers.rename_torch(state, _TORCH)
