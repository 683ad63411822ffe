"""MobileNetV3 (Howard et al. 2019, arXiv:1905.02244), as torchvision defines it.

timm's is the same network but for what batch norms add to the variance (`ModelConfig.norm_epsilon`), 1e-5 instead of
1e-3, and in its `tf_` weights for the padding (`ModelConfig.padding`).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.models import heads, layers
from emojax.types import Tree

_Row = tuple[int, int, int, bool, bool]

VARIANTS: dict[str, tuple[tuple[tuple[_Row, ...], ...], tuple[int, ...], int]] = {
    "mobilenetv3_small": (
        (
            ((3, 16, 16, True, False),),
            ((3, 72, 24, False, False), (3, 88, 24, False, False)),
            (
                (5, 96, 40, True, True),
                *[(5, 240, 40, True, True)] * 2,
                (5, 120, 48, True, True),
                (5, 144, 48, True, True),
            ),
            ((5, 288, 96, True, True), *[(5, 576, 96, True, True)] * 2),
        ),
        (2, 2, 2, 2),
        1024,
    ),
    "mobilenetv3_large": (
        (
            ((3, 16, 16, False, False),),
            ((3, 64, 24, False, False), (3, 72, 24, False, False)),
            ((5, 72, 40, True, False), *[(5, 120, 40, True, False)] * 2),
            (
                (3, 240, 80, False, True),
                (3, 200, 80, False, True),
                *[(3, 184, 80, False, True)] * 2,
                (3, 480, 112, True, True),
                (3, 672, 112, True, True),
            ),
            ((5, 672, 160, True, True), *[(5, 960, 160, True, True)] * 2),
        ),
        (1, 2, 2, 2, 2),
        1280,
    ),
}
"""name -> (blocks of every stage, stride of every stage, width of the head's hidden layer).

A block is (side of the depthwise kernel, expanded width, width, squeeze and excitation, hard swish instead of ReLU).
"""

STEMS = {"imagenet": 2, "small": 1}
"""name -> stride of the first convolution."""


def depths(name: str) -> tuple[int, ...]:
    """Blocks per stage; the 1x1 convolution before pooling is the last block of the last stage."""
    *rest, last = (len(stage) for stage in VARIANTS[name][0])
    return (*rest, last + 1)


class Block(nn.Module):
    """Inverted residual: 1x1 to `expanded` channels, depthwise, squeeze and excitation, 1x1 to `width` without
    activation, plus x where the shape is kept.

    The first convolution is left out where it would not widen; the gate is a hard sigmoid over a quarter of the
    expanded channels (a multiple of 8).
    """

    size: int
    expanded: int
    width: int
    excite: bool
    hard_swish: bool
    stride: int
    drop_path: float
    conv: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B Y X O"]:
        activation, y, conv = jax.nn.hard_swish if self.hard_swish else jax.nn.relu, x, self.conv
        if self.expanded != x.shape[-1]:
            y = activation(conv(self.expanded, 1, name="expand")(y, train))
        y = activation(conv(None, self.size, self.stride, name="dwconv")(y, train))
        if self.excite:
            squeezed = _multiple_of_8(self.expanded // 4)
            y = layers.SqueezeExcite(squeezed, jax.nn.relu, jax.nn.hard_sigmoid, name="gate")(y)
        y = conv(self.width, 1, name="project")(y, train)
        return x + layers.DropPath(self.drop_path)(y, train) if x.shape == y.shape else y


class Last(nn.Module):
    """hard_swish(norm(1x1 convolution)) to six times as many channels."""

    conv: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W O"]:
        return jax.nn.hard_swish(self.conv(6 * x.shape[-1], 1, name="last")(x, train))


class MobileNetV3(nn.Module):
    """Normalised images [B, H, W, 3] -> what the head makes of the last map, a 32nd of the image at `imagenet`."""

    config: ModelConfig
    head: heads.Head

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> heads.Output:
        c, dtype = self.config, jnp.dtype(self.config.compute)
        make = layers.remat(Block, c.remat)
        stages, strides, _ = VARIANTS[c.name]
        rates = iter(layers.drop_path_rates(c.drop_path, [len(stage) for stage in stages]))
        epsilon, same = c.norm_epsilon or 1e-3, c.padding == "same"
        conv = functools.partial(layers.ConvNorm, dtype=dtype, epsilon=epsilon, momentum=0.01, same=same)
        x = jax.nn.hard_swish(conv(16, 3, STEMS[c.stem], name="stem")(x.astype(dtype), train))
        for i, (stage, stride) in enumerate(zip(stages, strides, strict=True)):
            parts: list[tuple[str, Any]] = [
                (f"block{j + 1}", functools.partial(make, *row, 1 if j else stride, next(rates), conv))
                for j, row in enumerate(stage)
            ]
            if i == len(stages) - 1:
                parts.append((f"block{len(stage) + 1}", functools.partial(Last, conv)))
            x = layers.Stage(tuple(parts), name=f"stage{i + 1}")(x, train)
        return self.head(name="head")(x, train)


class Classifier(nn.Module):
    """Pool, hard_swish of a dense layer `dense1`, dropout, a dense layer `dense`; the features are what is pooled."""

    width: int
    classes: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B Y X D"], train: bool, pooled: Any = None) -> heads.Output:
        features = heads.pool(x, pooled)
        y = jax.nn.hard_swish(layers.Dense(self.width, name="dense1")(features))
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return layers.Dense(self.classes, name="dense")(y), features, (x,)


def own_head(config: ModelConfig, classes: int) -> heads.Head:
    """The published head."""
    return functools.partial(Classifier, VARIANTS[config.name][2], classes, config.dropout)


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """As torchvision: convolutions, the two of squeeze and excitation included, N(0, 2 / fan_out), where torch takes
    the fan_out of a depthwise one over all channels; the head N(0, 0.01^2); biases 0, norms 1 and 0.
    """
    if not path.endswith("/kernel"):
        return "constant", float(path.endswith("/scale"))
    if path.startswith("head/"):
        return "normal", 0.01
    *size, _, out = shapes[path]
    return "normal", (2 / (math.prod(size) * out)) ** 0.5


def torch_rules(name: str) -> list[tuple[str, str]]:
    """Of the network `name` for `layers.rename_torch`: torchvision's names, and timm's."""
    rules = [(r"classifier\.0|conv_head", "head/dense1"), (r"classifier\.3|classifier", "head/dense")]
    rules += [("conv_stem", "stem/conv"), ("bn1", "stem/norm"), *_conv_norm("features.0", "stem")]
    layer, channels, timm, last = 1, 16, (-1, 0), f"stage{len(depths(name))}/block{depths(name)[-1]}/last"
    for i, stage in enumerate(VARIANTS[name][0], 1):
        for j, (_, expanded, width, excite, _) in enumerate(stage, 1):
            parts = ["expand"] * (expanded != channels) + ["dwconv"] + ["gate"] * excite + ["project"]
            names = _TIMM if expanded != channels else _TIMM_FIRST
            timm = (timm[0], timm[1] + 1) if j > 1 and width == channels else (timm[0] + 1, 0)
            torch = rf"blocks\.{timm[0]}\.{timm[1]}\."  # its stages end wherever the width changes
            rules += [(torch + theirs, f"stage{i}/block{j}/{ours}") for theirs, ours in names.items()]
            for k, part in enumerate(parts):
                torch, path = f"features.{layer}.block.{k}", f"stage{i}/block{j}/{part}"
                if part == "gate":
                    rules += [
                        (re.escape(f"{torch}.fc1"), f"{path}/squeeze"),
                        (re.escape(f"{torch}.fc2"), f"{path}/excite"),
                    ]
                else:
                    rules += _conv_norm(torch, path)
            layer, channels = layer + 1, width
    torch = rf"blocks\.{timm[0] + 1}\.0\."
    rules += [(torch + "conv", f"{last}/conv"), (torch + "bn1", f"{last}/norm")]
    return rules + _conv_norm(f"features.{layer}", last)


def from_torch(state: Mapping[str, np.ndarray], name: str) -> tuple[Tree, Tree]:
    """(params, model_state) of the network `name` from the state dict of the torchvision or timm network; see
    `layers.rename_torch`.
    """
    return layers.rename_torch(state, torch_rules(name))


_GATE = {r"se\.conv_reduce": "gate/squeeze", r"se\.conv_expand": "gate/excite"}
_TIMM_FIRST = {
    "conv_dw": "dwconv/conv",
    "bn1": "dwconv/norm",
    "conv_pw": "project/conv",
    "bn2": "project/norm",
    **_GATE,
}
_TIMM = {
    "conv_pw": "expand/conv",
    "bn1": "expand/norm",
    "conv_dw": "dwconv/conv",
    "bn2": "dwconv/norm",
    "conv_pwl": "project/conv",
    "bn3": "project/norm",
    **_GATE,
}
"""timm's names in a block with, and (first) without, a convolution that expands."""


def _conv_norm(torch: str, path: str) -> list[tuple[str, str]]:
    return [(re.escape(f"{torch}.0"), f"{path}/conv"), (re.escape(f"{torch}.1"), f"{path}/norm")]


def _multiple_of_8(width: int) -> int:
    """The nearest multiple of 8, at least 8, and not less than nine tenths of `width`."""
    nearest = max(8, (width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest
