"""Whose names the arrays of a weights file have, and what that library does otherwise than emojax by default."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from emojax import preprocess

_LITE = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
_CAFFE = {"mean": (123.68 / 255, 116.779 / 255, 103.939 / 255), "std": (1 / 255,) * 3}
"""Colours 0 to 255 less these means, undivided."""
_IMAGENET = {"mean": preprocess.MEAN, "std": preprocess.STD}
_BILINEAR = {"interpolation": "bilinear"}
_TENSORFLOW = {"padding": "same", "norm_epsilon": 1e-3}


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """One library's names for one family.

    Attributes:
      title: for people.
      family: regex over the names of networks that may have it.
      sign: regex; one array has this name.
      missing: regex; no array has this name; "" = any.
      knobs: knob -> value that these weights want.
    """

    title: str
    family: str
    sign: str
    missing: str = ""
    knobs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


LAYOUTS = (
    Layout("pytorch_resnet_cifar10", r"resnet(20|32|44|56)", r"linear\.weight", r"layer4\..*", _IMAGENET),
    Layout("torchvision or timm ResNet", r"resnet\d+", r"layer1\.0\.conv1\.weight"),
    Layout("timm ConvNeXt", r"convnext_.*", r"stages\.0\.blocks\.0\.conv_dw\.weight"),
    Layout("torchvision ConvNeXt", r"convnext_.*", r"features\.1\.0\.layer_scale", knobs=_BILINEAR),
    Layout("ConvNeXt of its authors", r"convnext_.*", r"stages\.0\.0\.dwconv\.weight"),
    Layout("timm MobileNetV3", r"mobilenetv3_.*", r"conv_head\.bias", knobs={"norm_epsilon": 1e-5}),
    Layout("torchvision MobileNetV3", r"mobilenetv3_.*", r"features\.1\.block\.0\.0\.weight", knobs=_BILINEAR),
    Layout("timm EfficientNet", r"efficientnet_.*", r"blocks\.0\.0\.conv_dw\.weight", r"conv_head\.bias"),
    Layout("torchvision EfficientNet", r"efficientnet_b.*", r"features\.1\.0\.block\.0\.0\.weight"),
    Layout(
        "efficientnet_lite_pytorch",
        r"efficientnet_lite.*",
        r"_blocks\.0\._depthwise_conv\.weight",
        r"_blocks\.0\._se_reduce\.weight",
        _TENSORFLOW | _LITE,
    ),
    Layout("efficientnet_pytorch", r"efficientnet_b.*", r"_blocks\.0\._se_reduce\.weight", knobs=_TENSORFLOW),
    Layout("torchvision SqueezeNet", r"squeezenet1_1", r"features\.3\.squeeze\.weight", knobs=_BILINEAR),
    Layout(
        "keras-squeezenet",
        r"squeezenet1_1",
        r"fire2/squeeze1x1/kernel",
        knobs=_CAFFE | _BILINEAR | {"padding": "valid"},
    ),
    Layout("timm ViT", r"vit_.*", r"blocks\.0\.attn\.qkv\.weight"),
    Layout("torchvision ViT", r"vit_.*", r"encoder\.layers\.encoder_layer_0\.ln_1\.weight", knobs=_BILINEAR),
)


def guess(names: Iterable[str]) -> Layout | None:
    """The first layout whose sign is among the names; None when there is none."""
    names = list(names)
    for layout in LAYOUTS:
        signed = any(re.fullmatch(layout.sign, name) for name in names)
        if signed and not (layout.missing and any(re.fullmatch(layout.missing, name) for name in names)):
            return layout
    return None


def unsure(layout: Layout | None, knobs: Mapping[str, Any]) -> str:
    """What the names leave open, for people; "" = nothing. timm calls the arrays of its `tf_` networks as those of its
    others, and only config.json tells them apart, which gives colours too."""
    if layout is None or layout.title not in ("timm EfficientNet", "timm MobileNetV3") or "mean" in knobs:
        return ""
    return (
        "padding and norm_epsilon cannot be told from timm's names: keep its config.json beside the file, or where it "
        "is of a tf_ network give --config.model.padding=same --config.model.norm_epsilon=0.001"
    )


def of_timm(values: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs from the config.json that timm publishes beside weights: colours, resizing, and TensorFlow's padding for
    networks that are called `tf_`. Values of an unexpected kind are passed over."""
    published = values.get("pretrained_cfg")
    published = published if isinstance(published, Mapping) else values
    knobs: dict[str, Any] = {}
    for knob in ("mean", "std"):
        found = published.get(knob)
        if isinstance(found, list) and len(found) in (1, 3) and all(isinstance(x, int | float) for x in found):
            knobs[knob] = tuple(map(float, found * (3 // len(found))))
    if published.get("interpolation") in ("bicubic", "bilinear"):
        knobs["interpolation"] = published["interpolation"]
    if str(values.get("architecture", "")).startswith("tf_"):
        knobs |= _TENSORFLOW
    return knobs
