"""Layers that the networks share. Parameters and statistics are float32; `dtype` is the type of the arithmetic.

Flax here only names the parameters; how they start is a rule over paths in each network's file, carried out by `draw`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from emojax.errors import CheckpointError
from emojax.models import norms, products
from emojax.models.conv import conv2d
from emojax.models.depthwise import depthwise
from emojax.types import Tree

Initial = tuple[str, float]
"""How a parameter starts: ("constant", value), ("normal", standard deviation) or ("uniform", largest size)."""


def draw(
    key: Key[Array, ""], shapes: Mapping[str, tuple[int, ...]], rule: Callable[[str], Initial]
) -> dict[str, Array]:
    """{path: float32 array} as `rule(path)` says.

    All random numbers come from one draw: a draw per parameter, which is what Flax does, compiles for 13 s on two cores
    for a ResNet-18, and this for less than one. The uniform ones are erf(z / sqrt(2)) of the normal ones.
    """
    rules = {path: rule(path) for path in shapes}
    sizes = {path: math.prod(shapes[path]) for path in shapes if rules[path][0] != "constant"}
    noise = lax.optimization_barrier(jax.random.normal(key, (sum(sizes.values()),)))  # or each slice compiles its own
    start = dict(zip(sizes, itertools.accumulate(sizes.values(), initial=0), strict=False))
    arrays = {}
    for path, shape in shapes.items():
        kind, scale = rules[path]
        if kind == "constant":
            arrays[path] = jnp.full(shape, scale, jnp.float32)
            continue
        part = lax.slice_in_dim(noise, start[path], start[path] + sizes[path])
        arrays[path] = (scale * (lax.erf(part / math.sqrt(2)) if kind == "uniform" else part)).reshape(shape)
    return arrays


REMAT: dict[str, Callable[..., Any] | None] = {
    "products": jax.checkpoint_policies.save_only_these_names(products.KEPT),
    "blocks": None,
}
"""What a block keeps for its backward pass besides its input, see `ModelConfig.remat`; None = nothing."""


def remat(block: type[nn.Module], kind: str) -> Any:
    """The block, called with (x, train), that computes again what `kind` says; "" = nothing."""
    return nn.remat(block, static_argnums=(2,), policy=REMAT[kind]) if kind else block


class Conv(nn.Module):
    """Dense convolution [B, H, W, C] -> [B, Y, X, features], parameters `kernel` [size, size, C, features] and `bias`.

    `padding` zeros on all four sides: at stride 2 torch pads so, and "SAME" does not.
    """

    features: int
    size: int
    stride: int = 1
    padding: int = 0
    bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B Y X O"]:
        kernel = self.param("kernel", nn.initializers.zeros, (self.size, self.size, x.shape[-1], self.features))
        y = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride, padding=self.padding)
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return y


class Dense(nn.Module):
    """[..., C] -> [..., features]: `kernel` [C, features] and `bias` [features]."""

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B O"]:
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[-1], self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        return products.dense(x.astype(self.dtype), kernel) + bias


class DepthwiseConv(nn.Module):
    """One filter per channel [B, H, W, C] -> [B, Y, X, C], parameters `kernel` [size, size, 1, C] and `bias` [C].

    `padding` zeros on all four sides, size // 2 unless given, which keeps the map for odd sizes at stride 1.
    """

    size: int
    dtype: Any = jnp.float32
    stride: int = 1
    padding: int | None = None
    bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B Y X C"]:
        padding = self.size // 2 if self.padding is None else self.padding
        kernel = self.param("kernel", nn.initializers.zeros, (self.size, self.size, 1, x.shape[-1]))
        y = depthwise(x.astype(self.dtype), kernel.astype(self.dtype), stride=self.stride, padding=padding)
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, (x.shape[-1],)).astype(self.dtype)
        return y


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): drops the residual branch of whole images.

    An image keeps its branch with probability 1 - rate, divided by that, so that the expectation stays.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "B ..."], train: bool) -> Float[Array, "B ..."]:
        if not train or self.rate == 0:
            return x
        if self.rate >= 1:
            return jnp.zeros_like(x)
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros((), x.dtype))


class Stage(nn.Module):
    """Modules called one after the other with (x, train); `parts` are (name, constructor less its name)."""

    parts: tuple[tuple[str, Callable[..., nn.Module]], ...]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B Y X O"]:
        for name, make in self.parts:
            x = make(name=name)(x, train)
        return x


class ConvNorm(nn.Module):
    """Convolution without bias that pads by size // 2, then batch norm: `conv` and `norm`.

    `features` None is one filter per channel. `same`: where the map is halved, pad as TensorFlow's "SAME" does.
    """

    features: int | None
    size: int
    stride: int = 1
    dtype: Any = jnp.float32
    epsilon: float = 1e-5
    momentum: float = 0.1
    same: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], train: bool) -> Float[Array, "B Y X O"]:
        padding = self.size // 2
        if self.same and self.stride > 1:
            x, padding = _padded(x, self.size, self.stride), 0
        if self.features is None:
            x = DepthwiseConv(self.size, self.dtype, self.stride, padding, bias=False, name="conv")(x)
        else:
            x = Conv(self.features, self.size, self.stride, padding, dtype=self.dtype, name="conv")(x)
        return norms.BatchNorm(self.dtype, self.epsilon, self.momentum, name="norm")(x, train)


def _padded(x: Float[Array, "B H W C"], size: int, stride: int) -> Float[Array, "B Y X C"]:
    """Zeros around a map as TensorFlow's "SAME" has them: just enough for ceil(side / stride) windows, the smaller half
    first."""
    missing = [max((-(-side // stride) - 1) * stride + size - side, 0) for side in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), *((free // 2, free - free // 2) for free in missing), (0, 0)))


class SqueezeExcite(nn.Module):
    """x * gate(excite(activation(squeeze(mean of x)))) (Hu et al. 2017, arXiv:1709.01507), the gate in float32.

    `squeeze`, to `width` channels, and `excite` are 1x1 convolutions with bias.
    """

    width: int
    activation: Callable[[Array], Array]
    gate: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        y = x.astype(jnp.float32).mean((1, 2), keepdims=True)
        y = self.activation(Conv(self.width, 1, bias=True, name="squeeze")(y))
        return x * self.gate(Conv(x.shape[-1], 1, bias=True, name="excite")(y)).astype(x.dtype)


def drop_path_rates(last: float, depths: Sequence[int]) -> list[float]:
    """One rate per block of the network, rising linearly from 0 to `last`; a single block gets `last`."""
    blocks = sum(depths)
    return [last * (i / (blocks - 1) if blocks > 1 else 1.0) for i in range(blocks)]


def rename_torch(state: Mapping[str, np.ndarray], rules: Sequence[tuple[str, str]]) -> tuple[Tree, Tree]:
    """(params, model_state) of float32 arrays from a torch state dict.

    `rules` are (regex, path) for a whole name less its last part; `{}` in the path are the regex's groups, numbers that
    torch counts from 0 and emojax from 1.
    Kernels OIHW -> HWIO, linear layers (out, in) -> (in, out); a 1x1 convolution whose module is called `expand`,
    `project`, `dense` or `dense1` is the dense layer it computes. Names that no rule knows raise `CheckpointError`.
    """
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    unknown: list[str] = []
    for key, value in state.items():
        module, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            continue
        found = next(((path, m) for regex, path in rules if (m := re.fullmatch(regex, module))), None)
        if found is None:
            unknown.append(key)
            continue
        name = found[0].format(*[int(number) + 1 for number in found[1].groups()])
        array = np.asarray(value, np.float32)
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
            array = array[0, 0] if name.endswith(("expand", "project", "dense", "dense1")) else array
        elif array.ndim == 2:
            array = array.T
        weight = "kernel" if array.ndim > 1 else "scale"
        leaf = {"weight": weight, "running_mean": "mean", "running_var": "var"}.get(leaf, leaf)
        node = stats if leaf in ("mean", "var") else params
        for part in name.split("/"):
            node = node.setdefault(part, {})
        node[leaf] = array
    if unknown:
        names = ", ".join(map(repr, unknown[:8])) + (f" and {len(unknown) - 8} more" if unknown[8:] else "")
        raise CheckpointError(f"the weights hold {names}, which no network of this family has")
    return params, stats
