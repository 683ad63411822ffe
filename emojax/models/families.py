"""The families of networks: names, and how a config becomes a `Model`. A new family is a module and an entry here."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from emojax import paths, preprocess
from emojax.config import ModelConfig
from emojax.errors import ConfigError
from emojax.models import convnext, efficientnet, heads, inspired, layers, mobilenetv3, resnet, squeezenet, vit
from emojax.models.layers import Initial
from emojax.models.model import Model

Family = Callable[[ModelConfig, int], Model]
"""(config, classes) -> network."""


def _convnext(config: ModelConfig, classes: int) -> Model:
    depths, widths = _sizes(config, *convnext.VARIANTS[config.name])
    _choice("stem", config, convnext.STEMS)
    module = convnext.ConvNeXt(config, depths, widths, heads.make(config, classes, norm=True))
    start = functools.partial(convnext.initial, config=config)
    return _model(config, module, depths, start, convnext.from_torch, min_size=convnext.stride(config, depths))


def _resnet(config: ModelConfig, classes: int) -> Model:
    kind, *published = resnet.VARIANTS[config.name]
    depths, widths = _sizes(config, *published)
    _choice("stem", config, resnet.STEMS)
    module = resnet.ResNet(config, kind, depths, widths, heads.make(config, classes, norm=False))
    return _model(config, module, depths, resnet.initial, resnet.from_torch)


def _resnet_inspired(config: ModelConfig, classes: int) -> Model:
    depths, widths = _sizes(config, *inspired.RESNETS[config.name])
    _choice("stem", config, resnet.STEMS)
    module = resnet.ResNet(config, "basic", depths, widths, heads.make(config, classes, norm=False))
    return _model(config, module, depths, inspired.initial, resnet.from_torch)


def _mobilenet(config: ModelConfig, classes: int) -> Model:
    depths, widths = _sizes(config, *inspired.MOBILENETS[config.name])
    _choice("stem", config, inspired.STEMS)
    _unread(config, "drop_path")
    module = inspired.MobileNet(config, depths, widths, heads.make(config, classes, norm=False))
    return _model(config, module, depths, inspired.initial, inspired.from_torch)


def _squeezenet(config: ModelConfig, classes: int) -> Model:
    _choice("stem", config, squeezenet.STEMS)
    _unread(config, "depths", "widths", "drop_path")
    head = heads.make(config, classes, norm=False, own=squeezenet.own_head(config, classes))
    depths = squeezenet.depths(config.name)
    from_torch = functools.partial(squeezenet.from_torch, name=config.name)
    module = squeezenet.SqueezeNet(config, head)
    start = inspired.initial if config.name == "squeezenet_inspired" else squeezenet.initial
    return _model(config, module, depths, start, from_torch, min_size=squeezenet.min_size(config))


def _mobilenetv3(config: ModelConfig, classes: int) -> Model:
    _choice("stem", config, mobilenetv3.STEMS)
    _unread(config, "depths", "widths")
    head = heads.make(config, classes, norm=False, own=mobilenetv3.own_head(config, classes))
    from_torch = functools.partial(mobilenetv3.from_torch, name=config.name)
    module, depths = mobilenetv3.MobileNetV3(config, head), mobilenetv3.depths(config.name)
    return _model(config, module, depths, mobilenetv3.initial, from_torch)


def _efficientnet(config: ModelConfig, classes: int) -> Model:
    depths, widths = _sizes(config, *efficientnet.VARIANTS[config.name][2:])
    _choice("stem", config, ("imagenet",))
    if len(depths) > len(efficientnet.STAGES):
        raise ConfigError(f"config.model.depths: at most {len(efficientnet.STAGES)} stages, found {len(depths)}")
    module = efficientnet.EfficientNet(config, depths, widths, heads.make(config, classes, norm=False))
    from_torch = functools.partial(efficientnet.from_torch, depths=depths)
    return _model(config, module, (*depths, 1), efficientnet.initial, from_torch)


def _vit(config: ModelConfig, classes: int) -> Model:
    depths, widths = _sizes(config, *vit.VARIANTS[config.name])
    _choice("stem", config, ("imagenet",))
    _require("depths", config, len(depths) == 1, "one number of blocks")
    _require("widths", config, widths[0] % vit.HEAD_WIDTH == 0, f"a multiple of {vit.HEAD_WIDTH}")
    module = vit.ViT(config, depths, widths, heads.make(config, classes, norm=False))
    return _model(config, module, depths, vit.initial, vit.from_torch, min_size=vit.PATCH)


FAMILIES: tuple[tuple[Mapping[str, Any], Family], ...] = (
    (resnet.VARIANTS, _resnet),
    (convnext.VARIANTS, _convnext),
    (inspired.MOBILENETS, _mobilenet),
    (inspired.RESNETS, _resnet_inspired),
    (squeezenet.VARIANTS, _squeezenet),
    (mobilenetv3.VARIANTS, _mobilenetv3),
    (efficientnet.VARIANTS, _efficientnet),
    (vit.VARIANTS, _vit),
)


def check(config: ModelConfig) -> None:
    """Raises `ConfigError` for a knob that no network can have so."""
    for knob in ("dropout", "drop_path"):
        _require(knob, config, 0 <= getattr(config, knob) <= 1, "a rate in [0, 1]")
    _require("layer_scale", config, config.layer_scale >= 0, "0 or more")
    _choice("compute", config, ("float32", "bfloat16"))
    _choice("products", config, ("", "bfloat16"))
    _choice("remat", config, ("", *layers.REMAT))
    for knob, least in (("mean", 0.0), ("std", 1e-6)):
        found = getattr(config, knob)
        _require(
            knob, config, len(found) in (0, 3) and all(least <= x <= 1 for x in found), "R, G, B in [0, 1], or none"
        )
    fits = re.fullmatch("[0-9a-f]{64}" if config.weights else "", config.weights_sha256) or not config.weights_sha256
    _require("weights_sha256", config, bool(fits), "64 hexadecimal digits beside weights, or none")
    paths.compile_pattern(config.reinit, knob="model.reinit")


def _model(
    config: ModelConfig,
    module: nn.Module,
    depths: tuple[int, ...],
    start: Callable[..., Initial],
    from_torch: Callable[..., Any],
    *,
    min_size: int = 1,
) -> Model:
    """The parts as a `Model`; a head with starting values of its own overrides the body's rule under `head/`."""
    if not config.name.startswith("convnext"):
        _unread(config, "layer_scale")
    if config.name != "squeezenet_inspired":
        _unread(config, "final_relu")
    if config.name not in (*efficientnet.VARIANTS, *mobilenetv3.VARIANTS):
        _unread(config, "norm_epsilon")
        _choice("padding", config, ("", "equal", "valid") if config.name in squeezenet.VARIANTS else ("", "equal"))
    else:
        _choice("padding", config, ("", "equal", "same"))

    def initial(path: str, shapes: Mapping[str, tuple[int, ...]]) -> Initial:
        own = heads.initial(path, shapes, config)
        if own is not None:
            return own
        kind, size = start(path, shapes)
        return kind, size * (config.head_scale if path.startswith("head/dense/") else 1.0)

    # Layer-wise rates of ConvNeXt are published for groups of three blocks (arXiv:2201.03545, appendix).
    group = 3 if config.name.startswith("convnext") else 1
    return Model(
        config.name, depths, min_size, module, initial, from_torch, group=group, products=config.products,
        rounds=bool(config.products) or config.compute != "float32",
        twins=bool(config.twins), importance=bool(config.importance),
        mean=tuple(config.mean) or preprocess.MEAN, std=tuple(config.std) or preprocess.STD,
    )  # fmt: skip


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


def _unread(config: ModelConfig, *knobs: str) -> None:
    """Raises `ConfigError` for a knob that is set though this network does not read it."""
    for knob in knobs:
        found, default = getattr(config, knob), getattr(ModelConfig(), knob)
        if found != default and not (knob == "layer_scale" and found == 0):
            raise ConfigError(
                f"config.model.{knob}: {config.name} does not read it; leave it at {default!r}, found {found!r}"
            )
