"""A network as plain functions on trees of arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

from emojax import paths, preprocess
from emojax.errors import ConfigError
from emojax.models import layers, norms, platforms, products, twins
from emojax.models.layers import Initial, draw
from emojax.types import ModelOutput, Tree

HEAD = r"^head/dense/"
"""The parameters whose shape depends on the number of classes."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A network as functions; parameters and statistics live outside.

    Attributes:
      name: as in the config.
      depths: blocks per stage.
      min_size: smallest side of the image that the network can take, pixels.
      head: regex over parameter paths: the classifier itself.
      group: how many blocks of a stage count as one in `depth`.
      products: `ModelConfig.products`.
      rounds: whether some products may have factors of bfloat16.
      twins: whether it is two networks, see `models/twins.py`.
      importance: whether `head/importance`, a dense layer on the features and a sigmoid, says how important an image is
        (Wang et al. 2020, arXiv:2002.10392).
      module: the Flax module; nothing outside `models` touches it.
      initial: (path, shapes of all parameters) -> how the parameter starts, see `layers.Initial`.
      from_torch: (params, model_state) from a state dict of torchvision or timm as NumPy arrays.
      mean, std: of the colours R, G, B in [0, 1], which `normalised` takes away and divides by.
    """

    name: str
    depths: tuple[int, ...]
    min_size: int
    module: nn.Module = dataclasses.field(repr=False)
    initial: Callable[..., Initial] = dataclasses.field(repr=False)
    from_torch: Callable[[Mapping[str, np.ndarray]], tuple[Tree, Tree]] = dataclasses.field(repr=False)
    head: str = HEAD
    group: int = 1
    products: str = ""
    rounds: bool = True
    twins: bool = False
    importance: bool = False
    mean: tuple[float, ...] = preprocess.MEAN
    std: tuple[float, ...] = preprocess.STD

    def normalised(self, image: UInt8[Array, "B H W 3"]) -> Float[Array, "B H W 3"]:
        """What `apply` wants to see of uint8 images."""
        return preprocess.normalise(image, self.mean, self.std)

    def init(self, key: Key[Array, ""], image_size: int) -> tuple[Tree, Tree]:
        """(params, model_state) as nested dicts of float32 arrays; the same for every image size.

        Raises `ConfigError` when `image_size` is below `min_size`.
        """
        self._check_size(image_size)
        if self.twins:
            single = dataclasses.replace(self, twins=False)
            return twins.stacked(*(single.init(k, image_size) for k in jax.random.split(key)))
        image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
        with platforms.plain():  # shapes are the same in any formulation, and found in a third of the time
            tree = jax.eval_shape(functools.partial(self.module.init, train=False), key, image)
        shapes = {path: leaf.shape for path, leaf in paths.flatten(tree["params"]).items()}
        values = jax.jit(lambda key: draw(key, shapes, functools.partial(self.initial, shapes=shapes)))(key)
        stats = paths.map_with_path(
            lambda path, leaf: jnp.full(leaf.shape, float(path.endswith("/var")), leaf.dtype),
            tree.get("batch_stats", {}),
        )
        params = paths.map_with_path(lambda path, _: values[path], tree["params"])
        if self.importance:
            output, _ = jax.eval_shape(functools.partial(self._single, train=False, key=None), params, stats, image)
            width = output.features.shape[-1]
            params["head"]["importance"] = {"kernel": jnp.zeros((width, 1)), "bias": jnp.zeros(1)}
        return params, stats

    def apply(
        self,
        params: Tree,
        model_state: Tree,
        image: Float[Array, "B H W 3"],
        *,
        train: bool,
        key: Key[Array, ""] | None = None,
        stored: Sequence[str] = (),
    ) -> tuple[ModelOutput, Tree]:
        """Logits float32 [B, K] and pooled features [B, D] of normalised images, and the model state after them.

        `train` normalises with the batch, moves the statistics and drops (with `key`, which may be None when both
        dropout rates are 0); otherwise the state is used and comes back as it is. So it is in training for layers that
        one of the regexes `stored` matches, see `paths.is_stored`. Raises `ConfigError` for images below `min_size`.
        """
        self._check_size(min(image.shape[1:3]))
        with norms.stored_statistics(stored):
            if not self.twins:
                return self._single(params, model_state, image, train=train, key=key)
            keys = (None, None) if key is None else jax.random.split(key)
            return twins.apply(lambda p, s, i: self._single(p, s, image, train=train, key=keys[i]), params, model_state)

    def _single(
        self, params: Tree, model_state: Tree, image: Float[Array, "B H W 3"], *, train: bool, key: Any
    ) -> tuple[ModelOutput, Tree]:
        variables = {"params": params, **({"batch_stats": model_state} if model_state else {})}
        rngs = {} if key is None or not train else {"dropout": key}
        found: Any
        with self._precision():
            if train and model_state:
                moved: Any = self.module.apply(variables, image, True, rngs=rngs, mutable=["batch_stats"])
                found, model_state = moved[0], moved[1]["batch_stats"]
            else:
                found = self.module.apply(variables, image, train, rngs=rngs)
        logits, features, taps = found  # see `heads.Output`
        importance = None
        if "importance" in params["head"]:
            layer = params["head"]["importance"]
            importance = jax.nn.sigmoid(features.astype(jnp.float32) @ layer["kernel"] + layer["bias"])[:, 0]
        return ModelOutput(logits=logits, features=features, aux=taps, importance=importance), model_state

    def last_inputs(self, params: Tree, model_state: Tree, image: Float[Array, "B H W 3"]) -> Float[Array, "B D"]:
        """What the last layer, `head/dense`, is given of normalised images, float32.

        Raises `ConfigError` for a network that does not end with one dense layer.
        """
        seen: list[Any] = []

        def note(method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            if isinstance(context.module, layers.Dense) and context.module.path == ("head", "dense"):
                seen.append(args[0])
            return method(*args, **kwargs)

        with nn.intercept_methods(note):
            self.apply(params, model_state, image, train=False)
        if len(seen) != 1 or seen[0].ndim != 2 or self.importance:  # SqueezeNet's sees a map
            raise ConfigError(
                f"config.model: {self.name} with this head does not end with one dense layer that gives the logits"
            )
        return seen[0].astype(jnp.float32)

    def rounded(self, params: Tree, image_size: int) -> Tree:
        """`params` for `apply` alone, with kernels that it rounds to bfloat16 anyway rounded once: the same results.

        A quarter of the time of a single picture goes into rounding 28 million numbers again. Training needs them all.
        """
        if not self.rounds:
            return params
        factors: set[str] = set()

        def note(method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            module = context.module
            if isinstance(module, layers.Conv | layers.Dense) and products.factor(module.dtype) == jnp.bfloat16:
                factors.add("/".join((*module.path, "kernel")))
            return method(*args, **kwargs)

        with self._precision(), platforms.plain(), nn.intercept_methods(note):
            image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
            jax.eval_shape(functools.partial(self.module.init, train=False), jax.random.key(0), image)
        return paths.map_with_path(lambda path, leaf: leaf.astype(jnp.bfloat16) if path in factors else leaf, params)

    def depth(self, path: str) -> int:
        """Blocks (or groups of `group` of them) from a parameter to the loss: 0 in the head, 1 in the last block; in
        the stem one more than there are.

        What halves the map at the start of a stage counts with the stage's first block, a norm at its end with the
        last.
        """
        groups = [-(-depth // self.group) for depth in self.depths]
        if path.startswith("head/"):
            return 0
        if path.startswith("stem/"):
            return sum(groups) + 1
        found = re.match(r"stage(\d+)/(?:block(\d+)|(downsample)|norm)/", path)
        if not found:
            raise ConfigError(f"{path!r} is not a parameter of {self.name}")
        stage = int(found[1])
        block = int(found[2] or (1 if found[3] else self.depths[stage - 1]))
        return sum(groups[stage - 1 :]) - (block - 1) // self.group

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return jax.default_matmul_precision(self.products) if self.products else contextlib.nullcontext()

    def _check_size(self, size: Any) -> None:
        if isinstance(size, int) and size < self.min_size:
            raise ConfigError(
                f"config.image_size: {self.name} needs images of at least {self.min_size} px, found {size}; "
                "choose another config.model.stem or larger images"
            )
