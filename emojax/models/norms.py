"""Norms, and which statistics they use. Parameters and statistics are float32, and so is the arithmetic."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from emojax import paths
from emojax.models import platforms
from emojax.models.elementwise import batch_norm, layer_norm

_OWN: contextvars.ContextVar[bool] = contextvars.ContextVar("own", default=False)


@contextlib.contextmanager
def own_statistics() -> Iterator[None]:
    """While inside, the statistics of `BatchNorm` after a batch are those of this batch alone."""
    token = _OWN.set(True)
    try:
        yield
    finally:
        _OWN.reset(token)


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, arXiv:1502.03167), all of it in float32.

    `mean` and `var` move as torch's do: (1 - momentum) old + momentum batch, with the unbiased variance, while the
    batch itself is normalised with the biased one plus `epsilon`. Under a mesh the batch is the global batch.
    """

    dtype: Any = jnp.float32
    epsilon: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(self, x: Float[Array, "B *S C"], train: bool) -> Float[Array, "B *S C"]:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if not train:
            factor = scale * lax.rsqrt(var.value + self.epsilon)
            if platforms.is_plain():  # two constants, which runtimes fold into the convolution before
                return (x.astype(jnp.float32) * factor + (bias - mean.value * factor)).astype(self.dtype)
            return ((x.astype(jnp.float32) - mean.value) * factor + bias).astype(self.dtype)
        found: Any = batch_norm(x, scale, bias, mean.value, self.epsilon)
        y, center, spread = found
        count = x.size // x.shape[-1]
        momentum = 1.0 if _OWN.get() else self.momentum
        keep = 1 - momentum
        mean.value = keep * mean.value + momentum * center
        var.value = keep * var.value + momentum * spread * (count / max(count - 1, 1))
        return y.astype(self.dtype)


def stored_statistics(patterns: Sequence[str]) -> contextlib.AbstractContextManager[Any]:
    """While inside, `BatchNorm` layers of which `paths.is_stored` normalise with their statistics in training too, and
    keep them.

    What Keras' guide to transfer learning advises for pretrained weights, and a layer that is frozen there does.
    """

    def held(method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module = context.module
        if (
            isinstance(module, BatchNorm)
            and len(args) == 2
            and paths.is_stored("/".join((*module.path, "mean")), patterns)
        ):
            return method(args[0], False)
        return method(*args, **kwargs)

    return nn.intercept_methods(held) if any(patterns) else contextlib.nullcontext()


class LayerNorm(nn.Module):
    """Layer normalisation over the last axis (Ba et al. 2016, arXiv:1607.06450), all of it in float32."""

    dtype: Any = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*B C"]) -> Float[Array, "*B C"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        normal: Any = layer_norm(x, scale, bias, self.epsilon)
        return normal.astype(self.dtype)
