"""ResNet (He et al. 2015, arXiv:1512.03385) in the form called v1.5, with the stride on the 3x3 convolution.

All norms start at scale 1, as in torchvision. Starting the last one of every block at 0 (Goyal et al. 2017,
arXiv:1706.02677) pays on long ImageNet runs; in short ones on faces it costs the first epoch: after 120 updates of
SGD on FER2013, training accuracy is 0.25 with it and 0.36 without.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.models import heads, layers
from emojax.models.pooling import max_pool
from emojax.types import Tree

_WIDTHS = (64, 128, 256, 512)
VARIANTS = {
    "resnet18": ("basic", (2, 2, 2, 2), _WIDTHS),
    "resnet34": ("basic", (3, 4, 6, 3), _WIDTHS),
    "resnet50": ("bottleneck", (3, 4, 6, 3), _WIDTHS),
    "resnet101": ("bottleneck", (3, 4, 23, 3), _WIDTHS),
    "resnet152": ("bottleneck", (3, 8, 36, 3), _WIDTHS),
    **{f"resnet{6 * n + 2}": ("cifar", (n, n, n), (16, 32, 64)) for n in (3, 5, 7, 9)},
}
"""name -> (kind of block, blocks per stage, channels per stage; a bottleneck puts out four times as many).

ResNet-20, -32, -44 and -56 are those for CIFAR-10 (section 4.2 of the paper), meant for `stem` small.
"""

STEMS = {"imagenet": (7, 2), "small": (3, 1), "small2": (3, 2)}
"""name -> (side, stride) of the first convolution; `imagenet` halves the map once more by max-pooling."""


class Block(nn.Module):
    """relu(shortcut(x) + drop_path(convolutions(x))): two 3x3 ("basic") or 1x1, 3x3, 1x1 to four times `width`.

    The shortcut is a 1x1 convolution with norm where the shape changes, and x itself elsewhere. "cifar" is "basic" with
    shortcuts without parameters: every second pixel, and zeros as new channels on both sides (the paper's option A).
    """

    kind: str
    width: int
    stride: int
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B Y X O"]:
        conv = functools.partial(layers.ConvNorm, dtype=self.dtype)
        if self.kind != "bottleneck":
            y = jax.nn.relu(conv(self.width, 3, self.stride, name="conv1")(x, train))
            y = conv(self.width, 3, 1, name="conv2")(y, train)
        else:
            y = jax.nn.relu(conv(self.width, 1, 1, name="conv1")(x, train))
            y = jax.nn.relu(conv(self.width, 3, self.stride, name="conv2")(y, train))
            y = conv(4 * self.width, 1, 1, name="conv3")(y, train)
        if x.shape != y.shape and self.kind == "cifar":
            new = y.shape[-1] - x.shape[-1]
            x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((new // 2, new - new // 2),))
        elif x.shape != y.shape:
            x = conv(y.shape[-1], 1, self.stride, name="shortcut")(x, train)
        return jax.nn.relu(x + layers.DropPath(self.drop_path)(y, train))


class ResNet(nn.Module):
    """Normalised images [B, H, W, 3] -> what the head makes of the last map."""

    config: ModelConfig
    kind: str
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    head: heads.Head

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> heads.Output:
        c, dtype = self.config, jnp.dtype(self.config.compute)
        make = layers.remat(Block, c.remat)
        rates = iter(layers.drop_path_rates(c.drop_path, self.depths))
        x = layers.ConvNorm(self.widths[0], *STEMS[c.stem], dtype=dtype, name="stem")(x.astype(dtype), train)
        x = jax.nn.relu(x)
        if c.stem == "imagenet":
            x = max_pool(x)
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            strides = [2 if i > 0 and j == 0 else 1 for j in range(depth)]
            block = functools.partial(make, self.kind, width, dtype=dtype)
            parts = [
                (f"block{j + 1}", functools.partial(block, stride=stride, drop_path=next(rates)))
                for j, stride in enumerate(strides)
            ]
            x = layers.Stage(tuple(parts), name=f"stage{i + 1}")(x, train)
        return self.head(name="head")(x, train)


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """Convolutions N(0, 2 / fan_out), not truncated (He et al. 2015, arXiv:1502.01852); the head as torch's Linear,
    U(-1 / sqrt(fan_in), 1 / sqrt(fan_in)); norms 1 and 0.
    """
    if path.startswith("head/"):
        return "uniform", shapes["head/dense/kernel"][0] ** -0.5
    if path.endswith("/kernel"):
        height, width, _, out = shapes[path]
        return "normal", (2 / (height * width * out)) ** 0.5
    return "constant", float(path.endswith("/scale"))


_TORCH = (
    (r"conv1", "stem/conv"),
    (r"bn1", "stem/norm"),
    *[
        rule
        for n in (1, 2, 3)
        for rule in (
            (rf"layer(\d+)\.(\d+)\.conv{n}", f"stage{{}}/block{{}}/conv{n}/conv"),
            (rf"layer(\d+)\.(\d+)\.bn{n}", f"stage{{}}/block{{}}/conv{n}/norm"),
        )
    ],
    (r"layer(\d+)\.(\d+)\.downsample\.0", "stage{}/block{}/shortcut/conv"),
    (r"layer(\d+)\.(\d+)\.downsample\.1", "stage{}/block{}/shortcut/norm"),
    (r"fc|linear", "head/dense"),
)


def from_torch(state: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
    """(params, model_state) from the state dict of a torchvision or timm ResNet, or of pytorch_resnet_cifar10; see
    `layers.rename_torch`.
    """
    from_zero = {re.sub(r"^layer(\d+)", lambda m: f"layer{int(m[1]) - 1}", key): state[key] for key in state}
    return layers.rename_torch(from_zero, _TORCH)
