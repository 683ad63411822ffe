"""Vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): small and base with patches of 16 px, as in timm.

The position embedding is a 14 x 14 grid, that of 224 px, whatever the size of the images, and is resized to the grid
that there is: stages may change the image size, and the parameters must not change with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import ModelConfig
from emojax.models import attention, heads, layers, norms, platforms
from emojax.types import Tree

VARIANTS = {
    "vit_small_patch16": ((12,), (384,)),
    "vit_base_patch16": ((12,), (768,)),
}
"""name -> (blocks, channels), one stage each."""

PATCH = 16
"""Side of a patch, pixels; what is left over at the right and bottom of an image is not seen."""

GRID = 14
"""Side of the grid of positions that is learned, patches."""

HEAD_WIDTH = 64
"""Channels per attention head; the width of the network is a multiple of it."""


def resize_positions(position: Float[Array, "1 N D"], rows: int, columns: int) -> Float[Array, "1 M D"]:
    """The learned positions, class token first, for a grid of rows x columns.

    Bicubic, without averaging over what a smaller grid skips: unrelated values, which is what training starts from,
    would shrink to a fifth on the way to 3 x 3.
    """
    grid = position[:, 1:].reshape(1, GRID, GRID, -1)
    shape = (1, rows, columns, grid.shape[-1])
    if (
        platforms.is_plain()
    ):  # the same arithmetic as `resize`, which converters make an operation that knows no channels
        scale, zero = jnp.asarray((rows / GRID, columns / GRID), jnp.float32), jnp.zeros(2, jnp.float32)
        grid = jax.image.scale_and_translate(grid, shape, (1, 2), scale, zero, "cubic", antialias=False)
    else:
        grid = jax.image.resize(grid, shape, "cubic", antialias=False)
    return jnp.concatenate([position[:, :1], grid.reshape(1, rows * columns, -1)], 1)


class Embedding(nn.Module):
    """Image -> tokens: `cls`, then the patches row by row through one linear map `patch`; plus `position`."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B N D"]:
        x = layers.Conv(self.width, PATCH, PATCH, bias=True, dtype=self.dtype, name="patch")(x)
        batch, rows, columns, _ = x.shape
        cls = self.param("cls", nn.initializers.zeros, (1, 1, self.width))
        position = self.param("position", nn.initializers.zeros, (1, 1 + GRID**2, self.width))
        cls = jnp.broadcast_to(cls.astype(self.dtype), (batch, 1, self.width))
        tokens = jnp.concatenate([cls, x.reshape(batch, rows * columns, self.width)], 1)
        return tokens + resize_positions(position, rows, columns).astype(self.dtype)


class Mlp(nn.Module):
    """project(gelu(expand(x))), four times as wide in between."""

    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        y = layers.Dense(4 * x.shape[-1], self.dtype, name="expand")(x)
        return layers.Dense(x.shape[-1], self.dtype, name="project")(jax.nn.gelu(y, approximate=False))


class Block(nn.Module):
    """x + drop_path(attention(norm1(x))), then the same with the MLP and `norm2`."""

    drop_path: float
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], train: bool) -> Float[Array, "B N D"]:
        drop = layers.DropPath(self.drop_path)
        y = norms.LayerNorm(self.dtype, name="norm1")(x)
        x = x + drop(attention.SelfAttention(x.shape[-1] // HEAD_WIDTH, name="attention")(y), train)
        y = norms.LayerNorm(self.dtype, name="norm2")(x)
        return x + drop(Mlp(self.dtype, name="mlp")(y), train)


class Encoder(nn.Module):
    """The blocks, and `norm` after the last."""

    config: ModelConfig
    depth: int

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"], train: bool) -> Float[Array, "B N D"]:
        make = layers.remat(Block, self.config.remat)
        for i, rate in enumerate(layers.drop_path_rates(self.config.drop_path, (self.depth,))):
            x = make(rate, x.dtype, name=f"block{i + 1}")(x, train)
        return norms.LayerNorm(x.dtype, name="norm")(x)


class ViT(nn.Module):
    """Normalised images [B, H, W, 3] -> what the head makes of the patch tokens and the class token."""

    config: ModelConfig
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    head: heads.Head

    @nn.compact
    def __call__(self, x: Float[Array, "B H W 3"], train: bool) -> heads.Output:
        batch, rows, columns = x.shape[0], x.shape[1] // PATCH, x.shape[2] // PATCH
        x = Embedding(self.widths[0], jnp.dtype(self.config.compute), name="stem")(x)
        x = Encoder(self.config, self.depths[0], name="stage1")(x, train)
        return self.head(name="head")(x[:, 1:].reshape(batch, rows, columns, -1), train, x[:, 0])


def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> layers.Initial:
    """Kernels and positions N(0, 0.02^2), which timm cuts at 100 standard deviations: never; the class token and biases
    0; norms 1 and 0.
    """
    del shapes  # the signature of every network's rule
    if path.endswith(("/kernel", "/position")):
        return "normal", 0.02
    return "constant", float(path.endswith("/scale"))


_TORCH = (
    (r"stem", "stem"),
    (r"patch_embed\.proj", "stem/patch"),
    *[(rf"blocks\.(\d+)\.norm{n}", f"stage1/block{{}}/norm{n}") for n in (1, 2)],
    (r"blocks\.(\d+)\.attn\.qkv", "stage1/block{}/attention/qkv"),
    (r"blocks\.(\d+)\.attn\.proj", "stage1/block{}/attention/project"),
    (r"blocks\.(\d+)\.mlp\.fc1", "stage1/block{}/mlp/expand"),
    (r"blocks\.(\d+)\.mlp\.fc2", "stage1/block{}/mlp/project"),
    (r"norm", "stage1/norm"),
    (r"head", "head/dense"),
)


_TORCHVISION = (
    (r"class_token$", "cls_token"),
    (r"encoder\.pos_embedding$", "pos_embed"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"(blocks\.\d+)\.ln_([12])\.", r"\1.norm\2."),
    (r"(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
    (r"(blocks\.\d+)\.self_attention\.out_proj\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.mlp\.(?:0|linear_1)\.", r"\1.mlp.fc1."),
    (r"(blocks\.\d+)\.mlp\.(?:3|linear_2)\.", r"\1.mlp.fc2."),
    (r"encoder\.ln\.", "norm."),
    (r"heads\.head\.", "head."),
    (r"cls_token$", "stem.cls"),  # the two that belong to no module
    (r"pos_embed$", "stem.position"),
)
"""(regex for the beginning of a name, what it becomes), one after the other."""


def from_torch(state: Mapping[str, np.ndarray]) -> tuple[Tree, Tree]:
    """(params, {}) from the state dict of a ViT of timm or torchvision; see `layers.rename_torch`. Positions of another
    grid are resized to ours, as timm does it.
    """
    renamed = {}
    for key, value in state.items():
        for pattern, made in _TORCHVISION:
            key = re.sub("^" + pattern, made, key)  # noqa: PLW2901
        renamed[key] = _on_grid(value) if key == "stem.position" else value
    return layers.rename_torch(renamed, _TORCH)


def _on_grid(position: np.ndarray) -> np.ndarray:
    """Learned positions of any square grid, class token first, for ours: bicubic, with antialiasing, as timm's
    `resample_abs_pos_embed`; left as it is where it is no such grid."""
    side = math.isqrt(max(position.shape[1] - 1, 0)) if position.ndim == 3 else 0
    if side == 0 or side**2 + 1 != position.shape[1] or side == GRID:
        return position
    grid = position[:, 1:].reshape(1, side, side, -1)
    grid = jax.image.resize(jnp.asarray(grid), (1, GRID, GRID, grid.shape[-1]), "cubic", antialias=True)
    return np.concatenate([position[:, :1], np.asarray(grid).reshape(1, GRID**2, -1)], 1)
