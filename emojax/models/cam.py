"""Class-activation maps: where in an image the evidence for a class lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from emojax.models import twins
from emojax.models.model import Model
from emojax.models.vit import PATCH, ViT
from emojax.types import Tree


def class_activation(
    model: Model, params: Tree, model_state: Tree, image: Float[Array, "B H W 3"], classes: Int[Array, " B"]
) -> Float[Array, "B Y X"]:
    """Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391) of one class per image, from the network's last map.

    The channels of the map that the head receives, weighted by the mean gradient of the class's logit and cut at 0: for
    a mean and a dense layer, the class-activation map of Zhou et al. 2016 (arXiv:1512.04150). In a ViT, whose head
    reads the class token alone, the map is the patch tokens that go into the last block.

    Args:
      image: normalised, as for `Model.apply`.
      classes: whose evidence is wanted, one per image.

    Returns:
      float32 [B, Y, X] of the last map's size, the largest value of each image 1; all 0 where nothing speaks for the
      class.
    """
    if model.twins:  # the evidence of the first of them
        model = dataclasses.replace(model, twins=False)
        params, model_state = twins.one(params, 0), twins.one(model_state, 0)
    tokens = isinstance(model.module, ViT)
    place = (f"stage{len(model.depths)}", f"block{model.depths[-1]}") if tokens else ("head",)

    def run(shift: Callable[[Array], Array]) -> Array:
        def change(method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            if context.module.path == place and context.method_name == "__call__":
                args = (shift(args[0]), *args[1:])
            return method(*args, **kwargs)

        with nn.intercept_methods(change):
            return model.apply(params, model_state, image, train=False)[0].logits

    def logits(delta: Array) -> tuple[Array, Array]:
        seen: list[Array] = []

        def shift(x: Array) -> Array:
            seen.append(x)
            return x + delta.astype(x.dtype)

        of_class = jnp.take_along_axis(run(shift), classes[:, None], axis=1)
        return of_class.sum(), seen[0]

    shape = _shape_of(run)
    gradient, x = jax.grad(logits, has_aux=True)(jnp.zeros(shape, jnp.float32))
    x = x.astype(jnp.float32)
    if tokens:
        rows, columns = image.shape[1] // PATCH, image.shape[2] // PATCH
        gradient, x = (a[:, 1:].reshape(-1, rows, columns, shape[-1]) for a in (gradient, x))
    found = jax.nn.relu((gradient.mean((1, 2), keepdims=True) * x).sum(-1))
    return found / jnp.maximum(found.max((1, 2), keepdims=True), 1e-12)


def _shape_of(run: Callable[[Callable[[Array], Array]], Array]) -> tuple[int, ...]:
    seen: list[tuple[int, ...]] = []

    def note(x: Array) -> Array:
        seen.append(x.shape)
        return x

    jax.eval_shape(lambda: run(note))
    return seen[0]
