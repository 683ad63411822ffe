"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545), and the smaller variants atto to nano as timm defines them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.models import heads, layers, norms
from emojax.models.elementwise import gelu
from emojax.types import Tree

VARIANTS = {
    "convnext_atto": ((2, 2, 6, 2), (40, 80, 160, 320)),
    "convnext_femto": ((2, 2, 6, 2), (48, 96, 192, 384)),
    "convnext_pico": ((2, 2, 6, 2), (64, 128, 256, 512)),
    "convnext_nano": ((2, 2, 8, 2), (80, 160, 320, 640)),
    "convnext_tiny": ((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xlarge": ((3, 3, 27, 3), (256, 512, 1024, 2048)),
}
"""name -> (blocks per stage, channels per stage)."""

STEMS = {"imagenet": 4, "small": 2}
"""name -> side of the patches that the first convolution cuts."""


def stride(config: ModelConfig, depths: tuple[int, ...]) -> int:
    """Pixels of the image per pixel of the last map, on one axis; a smaller image leaves an empty map."""
    return STEMS[config.stem] * 2 ** (len(depths) - 1)


class Block(nn.Module):
    """x + drop_path(gamma * project(gelu(expand(norm(dwconv(x)))))); expand is 4 times as wide."""

    layer_scale: float
    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B H W C"]:
        channels = x.shape[-1]
        dense = functools.partial(layers.Dense, dtype=self.dtype)
        y = layers.DepthwiseConv(7, self.dtype, name="dwconv")(x)
        y = norms.LayerNorm(self.dtype, name="norm")(y)
        y = gelu(dense(4 * channels, name="expand")(y))
        y = dense(channels, name="project")(y)
        if self.layer_scale:
            y = y * self.param("gamma", nn.initializers.constant(self.layer_scale), (channels,)).astype(self.dtype)
        return x + layers.DropPath(self.drop_path)(y, train)


class Patches(nn.Module):
    """Non-overlapping patches of `size` pixels through one linear map, with the norm before or after it."""

    features: int
    size: int
    norm_first: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B Y X O"]:
        del train  # the signature of every part of a stage
        norm = norms.LayerNorm(self.dtype, name="norm")
        conv = layers.Conv(self.features, self.size, self.size, bias=True, dtype=self.dtype, name="conv")
        return conv(norm(x)) if self.norm_first else norm(conv(x))


class ConvNeXt(nn.Module):
    """Normalised images [B, H, W, 3] -> what the head makes of the last map."""

    config: ModelConfig
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    head: heads.Head

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> heads.Output:
        c, dtype = self.config, jnp.dtype(self.config.compute)
        make = layers.remat(Block, c.remat)
        rates = iter(layers.drop_path_rates(c.drop_path, self.depths))
        x = Patches(self.widths[0], STEMS[c.stem], norm_first=False, dtype=dtype, name="stem")(x.astype(dtype), train)
        for i, (depth, width) in enumerate(zip(self.depths, self.widths, strict=True)):
            halve = functools.partial(Patches, width, 2, norm_first=True, dtype=dtype)
            parts: list[tuple[str, Any]] = [("downsample", halve)] if i else []
            parts += [
                (f"block{j + 1}", functools.partial(make, c.layer_scale, next(rates), dtype)) for j in range(depth)
            ]
            x = layers.Stage(tuple(parts), name=f"stage{i + 1}")(x, train)
        return self.head(name="head")(x, train)


def initial(path: str, shapes: Mapping[str, tuple[int, ...]], config: ModelConfig) -> layers.Initial:
    """Kernels N(0, 0.02^2), biases 0, norms 1 and 0, as published.

    The paper cuts the normal at +-2 in absolute terms, which is 100 standard deviations: never.
    """
    del shapes  # the signature of every network's rule
    leaf = path.rpartition("/")[2]
    if leaf == "kernel":
        return "normal", 0.02
    return "constant", {"gamma": config.layer_scale, "scale": 1.0}.get(leaf, 0.0)


_TORCH = (
    (r"stem\.0", "stem/conv"),
    (r"stem\.1", "stem/norm"),
    (r"stages\.(\d+)\.downsample\.0", "stage{}/downsample/norm"),
    (r"stages\.(\d+)\.downsample\.1", "stage{}/downsample/conv"),
    (r"stages\.(\d+)\.blocks\.(\d+)", "stage{}/block{}"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw", "stage{}/block{}/dwconv"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.norm", "stage{}/block{}/norm"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc1", "stage{}/block{}/expand"),
    (r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc2", "stage{}/block{}/project"),
    (r"head\.norm", "head/norm"),
    (r"head\.fc", "head/dense"),
)


_TO_TIMM = (
    # torchvision: stem, stages and what is between them are one list.
    (r"features\.0\.", lambda m: "stem."),
    (r"features\.(\d*[13579])\.(\d+)\.", lambda m: f"stages.{int(m[1]) // 2}.blocks.{m[2]}."),
    (r"features\.(\d+)\.", lambda m: f"stages.{int(m[1]) // 2}.downsample."),
    (r"(.*)\bblock\.0\.", lambda m: f"{m[1]}conv_dw."),
    (r"(.*)\bblock\.2\.", lambda m: f"{m[1]}norm."),
    (r"(.*)\bblock\.3\.", lambda m: f"{m[1]}mlp.fc1."),
    (r"(.*)\bblock\.5\.", lambda m: f"{m[1]}mlp.fc2."),
    (r"(.*)\blayer_scale$", lambda m: f"{m[1]}gamma"),
    (r"classifier\.0\.", lambda m: "head.norm."),
    (r"classifier\.2\.", lambda m: "head.fc."),
    # The authors.
    (r"downsample_layers\.0\.", lambda m: "stem."),
    (r"downsample_layers\.(\d+)\.", lambda m: f"stages.{m[1]}.downsample."),
    (r"stages\.(\d+)\.(\d+)\.", lambda m: f"stages.{m[1]}.blocks.{m[2]}."),
    (r"(.*)\bdwconv\.", lambda m: f"{m[1]}conv_dw."),
    (r"(.*)\bpwconv([12])\.", lambda m: f"{m[1]}mlp.fc{m[2]}."),
    (r"norm\.", lambda m: "head.norm."),
    (r"head\.(?=weight|bias)", lambda m: "head.fc."),
)
"""(regex for the beginning of a name, what it becomes), one after the other."""


def from_torch(state: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
    """(params, {}) from the state dict of a ConvNeXt of timm, torchvision or the authors, as NumPy arrays; see
    `layers.rename_torch`.
    """
    renamed = {}
    for key, value in state.items():
        for pattern, made in _TO_TIMM:
            key = re.sub("^" + pattern, made, key)  # noqa: PLW2901
        renamed[key] = value.reshape(-1) if key.endswith(".gamma") else value
    return layers.rename_torch(renamed, _TORCH)
