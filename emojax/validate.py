"""Checks a `Config` before any image is read: types, ranges, choices, and knobs that contradict one another."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from typing import Any

from emojax.config import Config, items
from emojax.errors import ConfigError


def _check(path: str, value: Any, ok: bool, expected: str) -> None:
    if not ok:
        raise ConfigError(f"config.{path}: expected {expected}, found {value!r}")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


CHOICES = {
    "data.format": ("auto", "emoji", "folder", "csv", "parquet", "npz", "tfds"),
    "model.stem": ("imagenet", "small", "small2"),
    "model.head": ("own", "linear", "mlp", "deep", "emote", "emote_lite"),
    "model.head_attention": ("none", "tokens", "pooled", "gate"),
    "model.compute": ("float32", "bfloat16"),
    "optim.name": ("adamw", "sgd"),
    "schedule.name": ("cosine", "constant"),
    "stages.schedule.name": ("", "cosine", "constant"),
    "average.name": ("none", "ema"),
    "eval.views": ("center", "flip"),
}

_RANGES = {  # path: (lowest, highest, whether the ends are allowed)
    "seed": (0, (1 << 32) - 1, "[]"),
    "data.split_seed": (0, (1 << 32) - 1, "[]"),
    "image_size": (8, 4096, "[]"),
    "batch_size": (1, 1 << 20, "[]"),
    "data.val_fraction": (0, 1, "()"),
    "data.test_fraction": (0, 1, "[)"),
    "data.bad_limit": (0, 1, "[]"),
    "data.workers": (0, 256, "[]"),
    "augment.pad": (0, 1024, "[]"),
    "augment.flip": (0, 1, "[]"),
    "augment.rotate": (0, 180, "[]"),
    "augment.translate": (0, 1, "[]"),
    "augment.zoom": (0, 1, "[)"),
    "augment.brightness": (0, 10, "[]"),
    "augment.contrast": (0, 10, "[]"),
    "augment.saturation": (0, 10, "[]"),
    "augment.hue": (0, 0.5, "[]"),
    "augment.erase": (0, 1, "[]"),
    "augment.mixup": (0, 100, "[]"),
    "augment.cutmix": (0, 100, "[]"),
    "augment.mix_probability": (0, 1, "[]"),
    "model.dropout": (0, 1, "[)"),
    "model.drop_path": (0, 1, "[)"),
    "model.layer_scale": (0, 1, "[]"),
    "model.remat": (0, 1, "[]"),
    "loss.smoothing": (0, 1, "[)"),
    "optim.learning_rate": (0, 1e3, "(]"),
    "optim.weight_decay": (0, 1e3, "[]"),
    "optim.beta1": (0, 1, "[)"),
    "optim.beta2": (0, 1, "[)"),
    "optim.momentum": (0, 1, "[)"),
    "optim.clip_norm": (0, 1e9, "[]"),
    "optim.layer_decay": (0, 1, "(]"),
    "optim.accumulate": (1, 4096, "[]"),
    "schedule.warmup_epochs": (0, 1e6, "[]"),
    "schedule.final": (0, 1, "[]"),
    "average.decay": (0, 1, "[)"),
    "eval.every_epochs": (0, 1e6, "(]"),
    "eval.batch_size": (0, 1 << 20, "[]"),
    "eval.patience": (0, 1 << 20, "[]"),
    "eval.crop": (0, 1, "(]"),
    "checkpoint.every_epochs": (0, 1e6, "[]"),
    "checkpoint.keep_last": (1, 1 << 20, "[]"),
    "monitor.log_every": (1, 1 << 30, "[]"),
    "monitor.tensorboard": (0, 1, "[]"),
    "monitor.profile_step": (0, 1 << 40, "[]"),
    "stages.epochs": (0, 1e6, "(]"),
    "stages.strength": (0, 10, "[]"),
    "stages.mixing": (0, 10, "[]"),
    "stages.schedule.warmup_epochs": (0, 1e6, "[]"),
    "stages.schedule.final": (0, 1, "[]"),
}

_PAIRS = {
    "augment.crop_area": 1.0,
    "augment.crop_ratio": 100.0,
    "augment.erase_area": 1.0,
    "augment.erase_ratio": 100.0,
}


def check_types(value: Any, hint: Any, path: str = "") -> None:
    """Raises `ConfigError` at the first knob of another type than declared; an int passes for a float."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, hint):
            raise ConfigError(f"config.{path}: expected {hint.__name__}, found {value!r}")
        hints = typing.get_type_hints(hint)
        for f in dataclasses.fields(hint):
            check_types(getattr(value, f.name), hints[f.name], f"{path}.{f.name}".lstrip("."))
        return
    if typing.get_origin(hint) is tuple:
        args = typing.get_args(hint)
        _check(path, value, isinstance(value, tuple), "a tuple")
        _check(path, value, args[-1] is ... or len(value) == len(args), f"{len(args)} values")
        for i, part in enumerate(value):
            check_types(part, args[0], f"{path}[{i}]")
        return
    allowed: Any = (int, float) if hint is float else hint
    found = isinstance(value, allowed) and not isinstance(value, bool) and not _is_nan(value)
    _check(path, value, found, f"a value of type {getattr(hint, '__name__', hint)}")


def validate(config: Config) -> Config:
    """Checks every knob on its own and against the others, before any image is read.

    Returns the config unchanged. Raises `ConfigError` naming the knob, what was expected and what was found.
    """
    check_types(config, Config)
    _check("stages", config.stages, len(config.stages) > 0, "at least one stage")
    for path, value in items(config):
        key = re.sub(r"\[\d+\]", "", path)
        if key in CHOICES:
            _check(path, value, value in CHOICES[key], f"one of {', '.join(map(repr, CHOICES[key]))}")
        elif key in _RANGES:
            low, high, ends = _RANGES[key]
            ok = (value >= low if ends[0] == "[" else value > low) and (
                value <= high if ends[1] == "]" else value < high
            )
            _check(path, value, ok, f"a number in {ends[0]}{low}, {high}{ends[1]}")
        elif key in _PAIRS:
            ok = 0 < value[0] <= value[1] <= _PAIRS[key]
            _check(path, value, ok, f"0 < low <= high <= {_PAIRS[key]}")
    for i, stage in enumerate(config.stages):
        size = stage.image_size
        _check(f"stages[{i}].image_size", size, size == 0 or 8 <= size <= 4096, "0 or a number in [8, 4096]")
        own = stage.schedule
        idle = not own.name and (own.warmup_epochs or own.final)
        _check(f"stages[{i}].schedule.name", own.name, not idle, "a name, since the schedule has other knobs set")
        fits = not own.name or own.warmup_epochs < stage.epochs
        _check(
            f"stages[{i}].schedule.warmup_epochs",
            own.warmup_epochs,
            fits,
            f"less than the stage's {stage.epochs} epochs",
        )
    shared = sum(stage.epochs for stage in config.stages if not stage.schedule.name)
    fits = shared == 0 or config.schedule.warmup_epochs < shared
    _check("schedule.warmup_epochs", config.schedule.warmup_epochs, fits, f"less than the run's {shared:g} epochs")
    _check(
        "data.classes", config.data.classes, len(set(config.data.classes)) == len(config.data.classes), "distinct names"
    )
    total = config.data.val_fraction + config.data.test_fraction
    _check("data.val_fraction", config.data.val_fraction, total < 1, "val_fraction + test_fraction < 1")
    return config
