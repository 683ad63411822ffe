"""The networks behind one door: `build(config, classes)` gives a `Model` of plain functions on trees of arrays.

Nothing outside this package knows Flax. A new network is a module like `convnext.py` and an entry in `FAMILIES`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from emojax import paths
from emojax.config import ModelConfig
from emojax.errors import ConfigError
from emojax.models import convnext, heads, resnet
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
      module: the Flax module; nothing outside `models` touches it.
      initial: (path, shapes of all parameters) -> how the parameter starts, see `layers.Initial`.
      from_torch: (params, model_state) from a state dict of torchvision or timm as NumPy arrays.
    """

    name: str
    depths: tuple[int, ...]
    min_size: int
    module: nn.Module = dataclasses.field(repr=False)
    initial: Callable[..., Initial] = dataclasses.field(repr=False)
    from_torch: Callable[[Mapping[str, np.ndarray]], tuple[Tree, Tree]] = dataclasses.field(repr=False)
    head: str = HEAD

    def init(self, key: Key[Array, ""], image_size: int) -> tuple[Tree, Tree]:
        """(params, model_state) as nested dicts of float32 arrays; the same for every image size.

        Raises `ConfigError` when `image_size` is below `min_size`.
        """
        self._check_size(image_size)
        image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
        tree = jax.eval_shape(functools.partial(self.module.init, train=False), key, image)
        shapes = {path: leaf.shape for path, leaf in paths.flatten(tree["params"]).items()}
        values = jax.jit(lambda key: draw(key, shapes, functools.partial(self.initial, shapes=shapes)))(key)
        stats = paths.map_with_path(
            lambda path, leaf: jnp.full(leaf.shape, float(path.endswith("/var")), leaf.dtype),
            tree.get("batch_stats", {}),
        )
        return paths.map_with_path(lambda path, _: values[path], tree["params"]), stats

    def apply(
        self,
        params: Tree,
        model_state: Tree,
        image: Float[Array, "B H W 3"],
        *,
        train: bool,
        key: Key[Array, ""] | None = None,
    ) -> tuple[ModelOutput, Tree]:
        """Logits float32 [B, K] and pooled features [B, D] of normalised images, and the model state after them.

        `train` normalises with the batch, moves the statistics and drops (with `key`, which may be None when both
        dropout rates are 0); otherwise the state is used and comes back as it is. Raises `ConfigError` for images below
        `min_size`.
        """
        self._check_size(min(image.shape[1:3]))
        variables = {"params": params, **({"batch_stats": model_state} if model_state else {})}
        rngs = {} if key is None or not train else {"dropout": key}
        if train and model_state:
            (logits, features, taps), new = self.module.apply(
                variables, image, True, rngs=rngs, mutable=["batch_stats"]
            )
            model_state = new["batch_stats"]
        else:
            logits, features, taps = self.module.apply(variables, image, train, rngs=rngs)
        return ModelOutput(logits=logits, features=features, aux=taps), model_state

    def depth(self, path: str) -> int:
        """Blocks from a parameter to the loss: 0 in the head, 1 in the last block; in the stem one more than there are.

        What halves the map at the start of a stage counts with the stage's first block.
        """
        if path.startswith("head/"):
            return 0
        if path.startswith("stem/"):
            return sum(self.depths) + 1
        found = re.match(r"stage(\d+)/(?:block(\d+)|downsample)/", path)
        if not found:
            raise ConfigError(f"{path!r} is not a parameter of {self.name}")
        stage, block = int(found[1]), int(found[2] or 1)
        return sum(self.depths) - sum(self.depths[: stage - 1]) - block + 1

    def _check_size(self, size: Any) -> None:
        if isinstance(size, int) and size < self.min_size:
            raise ConfigError(
                f"config.image_size: {self.name} needs images of at least {self.min_size} px, found {size}; "
                "choose another config.model.stem or larger images"
            )


def _convnext(config: ModelConfig, classes: int) -> Model:
    depths, widths = _sizes(config, *convnext.VARIANTS[config.name])
    _choice("stem", config, convnext.STEMS)
    module = convnext.ConvNeXt(config, depths, widths, heads.make(config, classes, norm=True))
    initial = functools.partial(convnext.initial, config=config)
    return Model(config.name, depths, convnext.stride(config, depths), module, initial, convnext.from_torch)


def _resnet(config: ModelConfig, classes: int) -> Model:
    depths, widths = _sizes(config, *resnet.VARIANTS[config.name][1:])
    _choice("stem", config, resnet.STEMS)
    if config.layer_scale not in (0, ModelConfig().layer_scale):
        raise ConfigError(
            f"config.model.layer_scale: {config.name} has none; leave it out, found {config.layer_scale!r}"
        )
    module = resnet.ResNet(config, depths, widths, heads.make(config, classes, norm=False))
    return Model(config.name, depths, 1, module, resnet.initial, resnet.from_torch)


FAMILIES: tuple[tuple[Mapping[str, Any], Callable[[ModelConfig, int], Model]], ...] = (
    (resnet.VARIANTS, _resnet),
    (convnext.VARIANTS, _convnext),
)


def names() -> list[str]:
    """Every name that `build` knows."""
    return [name for variants, _ in FAMILIES for name in variants]


def build(config: ModelConfig, num_classes: int) -> Model:
    """The network that `config` describes, for `num_classes` classes.

    Raises `ConfigError` naming the knob that is unknown, out of range, or has no meaning for this network.
    """
    _require("name", config, config.name in names(), f"one of {', '.join(names())}{_hint(config.name)}")
    if num_classes < 1:
        raise ConfigError(f"a classifier needs at least one class, found {num_classes}")
    for knob in ("dropout", "drop_path"):
        _require(knob, config, 0 <= getattr(config, knob) <= 1, "a rate in [0, 1]")
    _require("layer_scale", config, config.layer_scale >= 0, "0 or more")
    _choice("compute", config, ("float32", "bfloat16"))
    _choice("remat", config, (0, 1))
    config = dataclasses.replace(config)  # later changes of the caller's config must not reach the network
    return next(make for variants, make in FAMILIES if config.name in variants)(config, num_classes)


def _sizes(
    config: ModelConfig, depths: tuple[int, ...], widths: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    depths, widths = tuple(config.depths or depths), tuple(config.widths or widths)
    for knob, values in (("depths", depths), ("widths", widths)):
        _require(knob, config, all(isinstance(v, int) and v > 0 for v in values), "whole numbers of at least 1")
    if len(depths) != len(widths):
        raise ConfigError(f"config.model.depths and widths: one number per stage each, found {depths} and {widths}")
    return depths, widths


def _choice(knob: str, config: ModelConfig, allowed: Any) -> None:
    _require(
        knob, config, getattr(config, knob) in allowed, f"one of {', '.join(map(repr, allowed))} for {config.name}"
    )


def _require(knob: str, config: ModelConfig, ok: bool, expected: str) -> None:
    if not ok:
        raise ConfigError(f"config.model.{knob}: expected {expected}, found {getattr(config, knob)!r}")


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, names(), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
