"""Weights under the names of timm or torchvision: what `from_torch` of each network reads, the other way round."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from emojax import paths
from emojax.config import ModelConfig
from emojax.errors import ConfigError
from emojax.models import convnext, efficientnet, inspired, mobilenetv3, resnet, squeezenet, vit
from emojax.types import Tree

Rules = Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """The network of another library that takes the weights.

    Attributes:
      library: timm or torchvision.
      name: of the network there.
      arguments: of its constructor, beside `num_classes`.
    """

    library: str
    name: str
    arguments: dict[str, Any]


_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def to_torch(
    config: ModelConfig, params: Tree, model_state: Tree, *, image_size: int
) -> tuple[dict[str, np.ndarray], Target]:
    """(state dict of float32 arrays, the network that takes it).

    A ConvNeXt without layer scale gets one of ones, and a ViT's positions are those for `image_size`, as its target
    has them. Raises `ConfigError` when neither library has this network.
    """
    target = _target(config, image_size)
    rules, renamed = _rules(config)
    state: dict[str, np.ndarray] = {}
    for path, leaf in (paths.flatten(params) | paths.flatten(model_state)).items():
        array = np.asarray(leaf, np.float32)
        module, _, own = path.rpartition("/")
        if config.name.startswith("vit") and path == "stem/position":
            side = image_size // vit.PATCH
            array = np.asarray(vit.resize_positions(array, side, side))  # pyright: ignore[reportArgumentType]
        name = renamed(f"{_name(module, rules, target.library)}.{_LEAVES.get(own, own)}")
        state[name] = _layout(array, one_by_one=_is_convolution(config, module, target.library))
    if target.name.startswith("convnext") and not config.layer_scale:
        for name, array in list(state.items()):
            if name.endswith("conv_dw.bias"):
                state[name.replace("conv_dw.bias", "gamma")] = np.ones_like(array)
    return {name: np.ascontiguousarray(array) for name, array in state.items()}, target


def _name(module: str, rules: Rules, library: str) -> str:
    """The name that `library` has for the module which the rules turn into the path `module`: torchvision's begin with
    "features" or "classifier.". The first of several, since what is special comes first in the rules, and names of
    neither library last."""
    found: list[str] = []
    for regex, template in rules:
        match = re.fullmatch(re.escape(template).replace(r"\{\}", r"(\d+)"), module)
        if match is None:
            continue
        for alternative in regex.split("|"):
            pattern = re.sub(r"\(\?:[^)]*\)\?", "", alternative)
            numbers = iter(match.groups())
            name = re.sub(r"\([^)]*\)", lambda _, n=numbers: str(int(next(n)) - 1), pattern)
            name = name.replace("\\", "")
            if _path(name, rules) == module:
                found.append(name)
    if not found:
        raise ConfigError(f"{module!r} has no counterpart among the names of timm and torchvision")
    theirs = library == "torchvision"
    return next((name for name in found if bool(_TORCHVISION.match(name)) == theirs), found[0])


_TORCHVISION = re.compile(r"features|classifier\.")


def _path(name: str, rules: Rules) -> str:
    """As `layers.rename_torch` would call a module."""
    first = next(((path, m) for regex, path in rules if (m := re.fullmatch(regex, name))), None)
    return first[0].format(*[int(number) + 1 for number in first[1].groups()]) if first else ""


def _layout(array: np.ndarray, *, one_by_one: bool) -> np.ndarray:
    """HWIO -> OIHW, (in, out) -> (out, in), as a 1x1 convolution where torch has one."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        return array.T[:, :, None, None] if one_by_one else array.T
    return array


def _is_convolution(config: ModelConfig, module: str, library: str) -> bool:
    """Whether torch computes a dense layer as a 1x1 convolution: SqueezeNet's classes, the hidden layer of the head of
    timm's MobileNetV3, and the blocks of timm's ConvNeXt from atto to nano."""
    if config.name.startswith("squeezenet"):
        return module == "head/dense"
    if config.name in mobilenetv3.VARIANTS:
        return module == "head/dense1" and library == "timm"
    return config.name in _CONV_MLP and module.endswith(("/expand", "/project"))


_CONV_MLP = ("convnext_atto", "convnext_femto", "convnext_pico", "convnext_nano")


def _same(name: str) -> str:
    return name


def _rules(config: ModelConfig) -> tuple[Rules, Callable[[str], str]]:
    """(the rules of `from_torch`, what it does to names before them, undone)."""
    name = config.name
    if name.startswith("convnext"):
        return convnext._TORCH, _same
    if name in resnet.VARIANTS or name in inspired.RESNETS:
        return resnet._TORCH, lambda key: re.sub(r"^layer(\d+)", lambda m: f"layer{int(m[1]) + 1}", key)
    if name in inspired.MOBILENETS:
        return inspired._TORCH, _same
    if name in squeezenet.VARIANTS:
        return squeezenet.torch_rules(name), _same
    if name in mobilenetv3.VARIANTS:
        return mobilenetv3.torch_rules(name), _same
    if name in efficientnet.VARIANTS:
        return efficientnet._TORCH, _same
    bare = {"stem.cls": "cls_token", "stem.position": "pos_embed"}
    return vit._TORCH, lambda key: bare.get(key, key)


_NAMES: Mapping[str, tuple[str, str]] = {
    "mobilenet_inspired": ("timm", "mobilenetv1_100"),
    "resnet_inspired": ("timm", "resnet18"),
    "squeezenet_inspired": ("torchvision", "squeezenet1_0"),
    "squeezenet1_1": ("torchvision", "squeezenet1_1"),
    "mobilenetv3_small": ("torchvision", "mobilenet_v3_small"),
    "mobilenetv3_large": ("torchvision", "mobilenet_v3_large"),
    "vit_small_patch16": ("timm", "vit_small_patch16_224"),
    "vit_base_patch16": ("timm", "vit_base_patch16_224"),
}


def _target(config: ModelConfig, image_size: int) -> Target:
    """Raises `ConfigError` when no library has this network."""
    name = config.name
    own = config.head == "own" or (config.head == "linear" and not name.startswith(("squeezenet", "mobilenetv3")))
    if not own:
        raise ConfigError(f"safetensors: neither timm nor torchvision has the head {config.head!r} on {name}")
    if config.padding == "valid":
        raise ConfigError(f"safetensors: neither timm nor torchvision has a {name} with model.padding valid")
    if name in resnet.VARIANTS and resnet.VARIANTS[name][0] == "cifar":
        raise ConfigError(f"safetensors: neither timm nor torchvision has a {name}")
    if config.twins or config.importance:
        raise ConfigError("safetensors: neither timm nor torchvision has model.twins or importance")
    if config.stem != "imagenet":
        raise ConfigError(f"safetensors: neither timm nor torchvision has the stem {config.stem!r} of {name}")
    if name.startswith("squeezenet") and not config.final_relu:
        raise ConfigError(f"safetensors: torchvision's {name} has a ReLU on its class maps, and this one has not")
    library, theirs = _NAMES.get(name, ("timm", name))
    arguments: dict[str, Any] = {}
    if name in efficientnet.VARIANTS or name in mobilenetv3.VARIANTS:
        library, theirs, arguments = _as_padded(config, library, theirs)
    sizes = {"depths": list(config.depths), "widths": list(config.widths)}
    if name.startswith("vit"):
        arguments = {"img_size": image_size}
        if sizes["depths"]:
            arguments["depth"] = sizes["depths"][0]
        if sizes["widths"]:
            arguments |= {"embed_dim": sizes["widths"][0], "num_heads": sizes["widths"][0] // vit.HEAD_WIDTH}
    elif any(sizes.values()):
        known = {"convnext": ("depths", "dims"), "resnet": ("layers", "channels")}
        keys = next((keys for family, keys in known.items() if name.startswith(family)), None)
        if keys is None:
            raise ConfigError(f"safetensors: neither timm nor torchvision has a {name} of other depths and widths")
        if any(len(value) not in (0, 4) for value in sizes.values()):
            raise ConfigError(f"safetensors: timm's {name} has 4 stages, and this one {len(config.depths)}")
        if name.startswith("resnet") and config.widths and config.widths[0] != 64:
            raise ConfigError(f"safetensors: timm's {name} starts with 64 channels, and this one {config.widths[0]}")
        arguments = {key: value for key, value in zip(keys, sizes.values(), strict=True) if value}
    return Target(library, theirs, arguments)


def _as_padded(config: ModelConfig, library: str, theirs: str) -> tuple[str, str, dict[str, Any]]:
    """(library, name, arguments) of an EfficientNet or MobileNetV3 with this padding and epsilon: timm's `tf_` networks
    pad as TensorFlow and add 1e-3 to the variances, its others pad equally and add 1e-5; torchvision's MobileNetV3 pads
    equally and adds 1e-3. Another epsilon is an argument of timm's."""
    mobile, same = config.name in mobilenetv3.VARIANTS, config.padding == "same"
    epsilon = config.norm_epsilon or (1e-3 if mobile else 1e-5)
    if mobile and not same and epsilon == 1e-3:
        return library, theirs, {}
    name = f"{'tf_' if same else ''}{config.name}{'_100' if mobile else ''}"
    return "timm", name, {} if epsilon == (1e-3 if same else 1e-5) else {"bn_eps": epsilon}
