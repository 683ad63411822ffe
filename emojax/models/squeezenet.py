"""SqueezeNet (Iandola et al. 2016, arXiv:1602.07360): 1.1 as in torchvision, and the one of seed system 002.

The latter is SqueezeNet 1.0 with padding 3 around the first convolution, so that the maps are 56, 28 and 14 px at
224 px, and with torch's default start (`inspired.initial`).
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
from emojax.models.pooling import max_pool
from emojax.types import Tree

VARIANTS = {
    "squeezenet_inspired": (
        (96, 7, 3),
        (((16, 64), (16, 64), (32, 128)), ((32, 128), (48, 192), (48, 192), (64, 256)), ((64, 256),)),
    ),
    "squeezenet1_1": (
        (64, 3, 0),
        (((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256))),
    ),
}
"""name -> (channels, side and padding of the first convolution; (squeezed, expanded) widths of every stage's blocks).

A stage starts with a max-pool; a block puts out twice its expanded width.
"""

STEMS = {"imagenet": 2, "small": 1}
"""name -> stride of the first convolution; `small` also leaves out the first max-pool."""


def depths(name: str) -> tuple[int, ...]:
    """Blocks per stage."""
    return tuple(len(stage) for stage in VARIANTS[name][1])


def min_size(config: ModelConfig) -> int:
    """Smallest side of an image that leaves no empty map: the first convolution's, less its padding."""
    _, size, padding = VARIANTS[config.name][0]
    return max(1, size - 2 * padding)


class Fire(nn.Module):
    """y = relu(1x1 convolution to `squeezed`); relu of a 1x1 and a 3x3 convolution of y to `expanded` channels each.

    All three have biases; there is no norm.
    """

    squeezed: int
    expanded: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W O"]:
        del train  # the signature of every part of a stage
        conv = functools.partial(layers.Conv, bias=True, dtype=self.dtype)
        y = jax.nn.relu(conv(self.squeezed, 1, name="squeeze")(x))
        both = conv(self.expanded, 1, name="expand1")(y), conv(self.expanded, 3, padding=1, name="expand3")(y)
        return jax.nn.relu(jnp.concatenate(both, -1))


class SqueezeNet(nn.Module):
    """Normalised images [B, H, W, 3] -> what the head makes of the last map, a 16th of the image at `imagenet`."""

    config: ModelConfig
    head: heads.Head

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> heads.Output:
        c, dtype = self.config, jnp.dtype(self.config.compute)
        make = layers.remat(Fire, c.remat)
        (features, size, padding), stages = VARIANTS[c.name]
        x = Stem(features, size, STEMS[c.stem], padding, dtype, name="stem")(x.astype(dtype))
        for i, stage in enumerate(stages):
            if i > 0 or c.stem == "imagenet":
                x = max_pool(x, padding=0, ceil=c.padding != "valid")
            parts = [(f"block{j + 1}", functools.partial(make, *widths, dtype)) for j, widths in enumerate(stage)]
            x = layers.Stage(tuple(parts), name=f"stage{i + 1}")(x, train)
        return self.head(name="head")(x, train)


class Stem(nn.Module):
    """relu of a convolution `conv` with bias."""

    features: int
    size: int
    stride: int
    padding: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B Y X O"]:
        conv = layers.Conv(self.features, self.size, self.stride, self.padding, True, self.dtype, name="conv")
        return jax.nn.relu(conv(x))


class Classifier(nn.Module):
    """Dropout, a 1x1 convolution `dense` to the classes, ReLU (`relu`), mean over the map.

    The features are the mean over the map before them.
    """

    classes: int
    dropout: float
    relu: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool, pooled: Any = None) -> heads.Output:
        dropped = nn.Dropout(self.dropout, deterministic=not train)(x.astype(jnp.float32))
        y = layers.Dense(self.classes, name="dense")(dropped)
        return (jax.nn.relu(y) if self.relu else y).mean((1, 2)), heads.pool(x, pooled), (x,)


def own_head(config: ModelConfig, classes: int) -> heads.Head:
    """The published head, with ReLU on the class maps unless `config.final_relu` is 0."""
    return functools.partial(Classifier, classes, config.dropout, bool(config.final_relu))


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """As torchvision: kernels U(-a, a), a = sqrt(6 / fan_in) (He et al. 2015, arXiv:1502.01852), the classifier's
    N(0, 0.01^2); biases 0. `squeezenet_inspired` has `inspired.initial` instead.
    """
    if not path.endswith("/kernel"):
        return "constant", 0.0
    if path.startswith("head/"):
        return "normal", 0.01
    return "uniform", (6 / math.prod(shapes[path][:-1])) ** 0.5


def torch_rules(name: str) -> list[tuple[str, str]]:
    """Of the network `name` for `layers.rename_torch`: torchvision's names, and Keras'."""
    rules = [(r"features\.0|conv1", "stem/conv"), (r"classifier\.1|conv10", "head/dense")]
    layer = 2  # torch counts the convolution, its ReLU and every max-pool
    fire = 1  # Keras counts the convolution
    for stage, blocks in enumerate(depths(name), 1):
        for block in range(1, blocks + 1):
            fire += 1
            path = f"stage{stage}/block{block}"
            for theirs, squeeze in ((rf"features\.{layer + block}\.", "squeeze"), (rf"fire{fire}\.", "squeeze1x1")):
                rules += [
                    (theirs + squeeze, f"{path}/squeeze"),
                    (theirs + "expand1x1", f"{path}/expand1"),
                    (theirs + "expand3x3", f"{path}/expand3"),
                ]
        layer += blocks + 1
    return rules


def from_torch(state: Mapping[str, np.ndarray], name: str) -> tuple[Tree, Tree]:
    """(params, {}) of the network `name` from the state dict of torchvision's squeezenet1_1 or, for
    `squeezenet_inspired`, squeezenet1_0; see `layers.rename_torch`. Also takes names and axes of keras-squeezenet,
    whose weights were Caffe's and see blue, green, red.
    """
    state = {
        _from_keras(key): value.transpose(3, 2, 0, 1) if "/kernel" in key else value for key, value in state.items()
    }
    if "conv1.weight" in state:
        state["conv1.weight"] = state["conv1.weight"][:, ::-1]
    return layers.rename_torch(state, torch_rules(name))


def _from_keras(key: str) -> str:
    """`fire2/squeeze1x1/kernel` -> `fire2.squeeze1x1.weight`."""
    return key.replace("/kernel", "/weight").replace("/", ".")
