"""EfficientNet (Tan & Le 2019, arXiv:1905.11946) B0 to B3 as in torchvision, and Lite0 as in timm: with ReLU6 for SiLU
and without squeeze-and-excitation.

Convolutions pad equally on all sides, as both libraries do; the authors' own code and weights (timm's `tf_`) pad the
smaller half first where a map is halved (`ModelConfig.padding` same), and add 1e-3 instead of 1e-5 to the variances
(`ModelConfig.norm_epsilon`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.models import heads, layers
from emojax.types import Tree

_B0 = ((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320))
VARIANTS = {
    "efficientnet_b0": ("full", 32, *_B0),
    "efficientnet_b1": ("full", 32, (2, 3, 3, 4, 4, 5, 2), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_b2": ("full", 32, (2, 3, 3, 4, 4, 5, 2), (16, 24, 48, 88, 120, 208, 352)),
    "efficientnet_b3": ("full", 40, (2, 3, 3, 5, 5, 6, 2), (24, 32, 48, 96, 136, 232, 384)),
    "efficientnet_lite0": ("lite", 32, *_B0),
}
"""name -> (kind of block, channels of the stem, blocks per stage, channels per stage)."""

STAGES = ((1, 3, 1), (6, 3, 2), (6, 5, 2), (6, 3, 2), (6, 5, 1), (6, 5, 2), (6, 3, 1))
"""Per stage: how much wider its blocks are inside, side of the depthwise filter, stride of the first block."""


_ACTIVATION = {"full": jax.nn.silu, "lite": jax.nn.relu6}


class Block(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018, arXiv:1801.04381): `expand` to `ratio` times the channels (not at ratio
    1), `dwconv`, `gate` in full networks, `project`; plus x where the shape stays.

    The gate squeezes to a quarter of the channels that enter the block, not of those that enter the gate.
    """

    kind: str
    width: int
    ratio: int
    size: int
    stride: int
    drop_path: float
    conv: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B Y X O"]:
        channels, activation, y, conv = x.shape[-1], _ACTIVATION[self.kind], x, self.conv
        if self.ratio > 1:
            y = activation(conv(self.ratio * channels, 1, name="expand")(y, train))
        y = activation(conv(None, self.size, self.stride, name="dwconv")(y, train))
        if self.kind == "full":
            y = layers.SqueezeExcite(max(channels // 4, 1), activation, jax.nn.sigmoid, name="gate")(y)
        y = conv(self.width, 1, name="project")(y, train)
        if self.stride > 1 or self.width != channels:
            return y
        return x + layers.DropPath(self.drop_path)(y, train)


class EfficientNet(nn.Module):
    """Normalised images [B, H, W, 3] -> what the head makes of the last map.

    The last 1x1 convolution, to four times the channels of the last stage, is a stage of its own with one block.
    """

    config: ModelConfig
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    head: heads.Head

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> heads.Output:
        c, dtype = self.config, jnp.dtype(self.config.compute)
        kind, stem, _, _ = VARIANTS[c.name]
        activation = _ACTIVATION[kind]
        make = layers.remat(Block, c.remat)
        rates = iter(layers.drop_path_rates(c.drop_path, self.depths))
        same = c.padding == "same"
        conv = functools.partial(layers.ConvNorm, dtype=dtype, epsilon=c.norm_epsilon or 1e-5, same=same)
        x = activation(conv(stem, 3, 2, name="stem")(x.astype(dtype), train))
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            ratio, size, stride = STAGES[i]
            block = functools.partial(make, kind, width, ratio, size, conv=conv)
            parts = [
                (f"block{j + 1}", functools.partial(block, stride=1 if j else stride, drop_path=next(rates)))
                for j in range(depth)
            ]
            x = layers.Stage(tuple(parts), name=f"stage{i + 1}")(x, train)
        last = functools.partial(conv, 4 * self.widths[-1], 1)
        x = layers.Stage((("block1", last),), name=f"stage{len(self.depths) + 1}")(x, train)
        return self.head(name="head")(activation(x), train)


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """Convolutions N(0, 2 / fan_out), the classifier U(-1 / sqrt(K), 1 / sqrt(K)), biases 0, norms 1 and 0.

    As in the authors' code and timm, a depthwise filter has one output; torchvision counts those of all channels and
    starts the filters up to 34 times as small, which the norm behind them undoes but for the size of the updates.
    """
    if path == "head/dense/kernel":
        return "uniform", shapes[path][1] ** -0.5
    if path.endswith("/kernel"):
        height, width, _, out = shapes[path]
        return "normal", (2 / (height * width * (1 if path.endswith("/dwconv/conv/kernel") else out))) ** 0.5
    return "constant", float(path.endswith("/scale"))


def _rules(block: str, names: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(rf"{block}\.{theirs}", "stage{}/block{}/" + ours) for theirs, ours in names.items()]


def _torchvision(first: int) -> dict[str, str]:
    """Names in a block in which the depthwise convolution is module number `first`."""
    return {
        rf"{first}\.0": "dwconv/conv",
        rf"{first}\.1": "dwconv/norm",
        rf"{first + 1}\.fc1": "gate/squeeze",
        rf"{first + 1}\.fc2": "gate/excite",
        rf"{first + 2}\.0": "project/conv",
        rf"{first + 2}\.1": "project/norm",
    }


_TIMM_FIRST = {"conv_dw": "dwconv/conv", "bn1": "dwconv/norm", "conv_pw": "project/conv", "bn2": "project/norm"}
_TIMM = {
    "conv_pw": "expand/conv",
    "bn1": "expand/norm",
    "conv_dw": "dwconv/conv",
    "bn2": "dwconv/norm",
    r"se\.conv_reduce": "gate/squeeze",
    r"se\.conv_expand": "gate/excite",
    "conv_pwl": "project/conv",
    "bn3": "project/norm",
}
_AUTHORS = {
    "_expand_conv": "expand/conv",
    "_bn0": "expand/norm",
    "_depthwise_conv": "dwconv/conv",
    "_bn1": "dwconv/norm",
    "_se_reduce": "gate/squeeze",
    "_se_expand": "gate/excite",
    "_project_conv": "project/conv",
    "_bn2": "project/norm",
}
# The authors' names come last, for `to_torch`.
# In torchvision and timm the first stage, which does not expand, numbers the parts of its blocks differently.
_TORCH = (
    (r"features\.0\.0|conv_stem|_conv_stem", "stem/conv"),
    (r"features\.0\.1|bn1|_bn0", "stem/norm"),
    (r"features\.7\.0|conv_head|_conv_head", "stage8/block1/conv"),
    (r"features\.7\.1|bn2|_bn1", "stage8/block1/norm"),
    *_rules(r"features\.(0)\.(\d+)\.block", _torchvision(0)),
    *_rules(r"features\.(\d+)\.(\d+)\.block", {r"0\.0": "expand/conv", r"0\.1": "expand/norm", **_torchvision(1)}),
    *_rules(r"blocks\.(0)\.(\d+)", _TIMM_FIRST),
    *_rules(r"blocks\.(\d+)\.(\d+)", _TIMM),
    *_rules(r"_blocks\.(\d+)\.(\d+)", _AUTHORS),
    (r"classifier(?:\.1)?|_fc", "head/dense"),
)


def from_torch(state: Mapping[str, np.ndarray], depths: tuple[int, ...]) -> tuple[Tree, Tree]:
    """(params, model_state) from the state dict of a torchvision or timm EfficientNet, or of efficientnet_pytorch and
    efficientnet_lite_pytorch, which follow the authors' names; see `layers.rename_torch`.
    """
    places = [f"_blocks.{stage}.{block}." for stage, depth in enumerate(depths) for block in range(depth)]

    def from_zero(key: str) -> str:
        key = re.sub(r"^features\.([1-9])", lambda m: f"features.{int(m[1]) - 1}", key)  # the stem is its stage 0
        block = re.match(r"_blocks\.(\d+)\.", key)  # numbered through all stages
        return places[int(block[1])] + key[block.end() :] if block and int(block[1]) < len(places) else key

    return layers.rename_torch({from_zero(key): state[key] for key in state}, _TORCH)
