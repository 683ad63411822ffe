"""Checks a `Config` before any image is read: types, ranges, choices, and knobs that contradict one another."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from typing import Any

from emojax import class_weights, loss_checks, losses, metrics, optim, schedules, views, writers
from emojax.config import Config, LossConfig, ScheduleConfig, StageConfig, items
from emojax.data import formats, geometry, policies, protocols, transforms, votes
from emojax.errors import ConfigError
from emojax.models import heads, layers


def _check(path: str, value: Any, ok: bool, expected: str) -> None:
    if not ok:
        raise ConfigError(f"config.{path}: expected {expected}, found {value!r}")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


_SCHEDULES = tuple(schedules.SHAPES)
CHOICES: dict[str, tuple[str, ...]] = {
    "fit": geometry.FITS,
    "data.format": formats.NAMES,
    "data.protocol": ("", *protocols.PROTOCOLS),
    "data.vote_rule": ("", *votes.NAMES),
    "data.vote_rule_eval": ("", *votes.NAMES),
    "data.face": ("box", "eyes", "whole"),
    "data.sampler": ("shuffle", "balanced"),
    "augment.resample": tuple(geometry.RESAMPLE),
    "augment.fill": ("border", "black"),
    "augment.policy": tuple(policies.POLICIES),
    "augment.erase_fill": ("mean", "noise"),
    "augment.mix_partner": ("permutation", "roll"),
    "model.stem": ("imagenet", "small", "small2"),
    "model.head": ("own", *heads.HEADS),
    "model.head_attention": ("none", "tokens", "pooled", "gate"),
    "model.compute": ("float32", "bfloat16"),
    "model.products": ("", "bfloat16"),
    "model.remat": ("", *layers.REMAT),
    "model.head_start": ("random", "solved"),
    "model.padding": ("", "equal", "same", "valid"),
    "loss.name": tuple(losses.LOSSES),
    "loss.smoothing_style": tuple(losses.SMOOTHING),
    "loss.mixed": tuple(losses.MIXED),
    "loss.class_weights": tuple(class_weights.KINDS),
    "loss.regulariser": tuple(losses.REGULARISERS),
    "distill.teacher": ("ema", "best"),
    "optim.name": tuple(optim.RULES),
    "schedule.name": _SCHEDULES,
    "schedule.metric": metrics.NUMBERS,
    "stages.start_from": ("", "best"),
    "stages.sampler": ("", "shuffle", "balanced"),
    "stages.judge": ("", "weights", "ema", "swa"),
    "stages.views": ("", *views.VIEWS),
    "average.name": ("none", "ema", "swa", "ema+swa"),
    "eval.metric": metrics.NUMBERS,
    "eval.interpolation": tuple(geometry.INTERPOLATIONS),
    "eval.views": tuple(views.VIEWS),
    "eval.view_average": ("probs", "logits"),
}
"""knob -> the names it may have; where there is a table of functions, its keys."""

_RANGES = {  # path: (lowest, highest, whether the ends are allowed)
    "seed": (0, (1 << 32) - 1, "[]"),
    "data.split_seed": (0, (1 << 32) - 1, "[]"),
    "image_size": (8, 4096, "[]"),
    "batch_size": (1, 1 << 20, "[]"),
    "data.val_fraction": (0, 1, "()"),
    "data.test_fraction": (0, 1, "[)"),
    "data.bad_limit": (0, 1, "[]"),
    "data.subset": (0, 1, "[]"),
    "data.leak_check": (0, 1, "[]"),
    "data.folds": (0, 1000, "[]"),
    "data.fold": (0, 999, "[]"),
    "data.workers": (0, 256, "[]"),
    "data.worker_start_limit": (0, 1e6, "[]"),
    "data.worker_limit": (0, 1e6, "[]"),
    "data.worker_restarts": (0, 1000, "[]"),
    "data.allow_change": (0, 1, "[]"),
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
    "augment.perspective": (0, 1, "[]"),
    "augment.perspective_probability": (0, 1, "[]"),
    "augment.grayscale": (0, 1, "[]"),
    "augment.blur": (0, 1, "[]"),
    "augment.policy_ops": (1, 100, "[]"),
    "augment.policy_magnitude": (0, 30, "[]"),
    "augment.draw_labels": (0, 1, "[]"),
    "augment.mixup": (0, 100, "[]"),
    "augment.mixup_probability": (0, 1, "[]"),
    "augment.cutmix": (0, 100, "[]"),
    "augment.cutmix_probability": (0, 1, "[]"),
    "model.dropout": (0, 1, "[)"),
    "model.drop_path": (0, 1, "[)"),
    "model.feature_dropout": (0, 1, "[)"),
    "model.head_scale": (0, 1e3, "[]"),
    "model.final_relu": (0, 1, "[]"),
    "model.layer_scale": (0, 1, "[]"),
    "model.norm_epsilon": (0, 1, "[)"),
    "loss.smoothing": (0, 1, "[)"),
    "loss.smooth_mixed": (0, 1, "[]"),
    "loss.gamma": (0, 100, "[]"),
    "loss.alpha": (0, 100, "(]"),
    "loss.focus_weighted": (0, 1, "[]"),
    "loss.effective_beta": (0, 1, "[)"),
    "loss.regulariser_weight": (0, 100, "[]"),
    "distill.alpha": (0, 1, "(]"),
    "distill.temperature": (0, 100, "(]"),
    "distill.attention": (0, 1e6, "[]"),
    "optim.learning_rate": (0, 1e3, "(]"),
    "optim.weight_decay": (0, 1e3, "[]"),
    "optim.beta1": (0, 1, "[)"),
    "optim.beta2": (0, 1, "[)"),
    "optim.momentum": (0, 1, "[)"),
    "optim.clip_norm": (0, 1e9, "[]"),
    "optim.head_multiplier": (0, 1e3, "(]"),
    "optim.lookahead": (0, 1000, "[]"),
    "optim.lookahead_alpha": (0, 1, "(]"),
    "optim.sam": (0, 10, "[]"),
    "optim.layer_decay": (0, 1, "(]"),
    "optim.accumulate": (1, 4096, "[]"),
    "optim.skip_limit": (0, 1 << 20, "[]"),
    "schedule.epochs": (0, 1e6, "[]"),
    "schedule.warmup_epochs": (0, 1e6, "[]"),
    "schedule.warmup_start": (0, 1, "[]"),
    "schedule.final": (0, 1, "[]"),
    "schedule.first_epochs": (0, 1e6, "(]"),
    "schedule.multiply": (1, 100, "[]"),
    "schedule.cycles": (1, 10_000, "[]"),
    "schedule.rise": (0, 1, "()"),
    "schedule.div": (1, 1e9, "[]"),
    "schedule.final_div": (1, 1e12, "[]"),
    "schedule.every_epochs": (0, 1e6, "(]"),
    "schedule.factor": (0, 1, "(]"),
    "schedule.patience": (0, 1 << 20, "[]"),
    "average.decay": (0, 1, "[)"),
    "average.warmup": (0, 1, "[]"),
    "average.swa_start": (0, 1e6, "[]"),
    "average.swa_every": (0, 1e6, "(]"),
    "average.swa_first": (0, 1, "[]"),
    "average.refresh_batches": (1, 1 << 20, "[]"),
    "average.soup": (0, 1000, "[]"),
    "eval.every_epochs": (0, 1e6, "(]"),
    "eval.batch_size": (0, 1 << 20, "[]"),
    "eval.min_delta": (0, 1e3, "[]"),
    "eval.patience": (0, 1 << 20, "[]"),
    "eval.crop": (0, 1, "(]"),
    "checkpoint.every_epochs": (0, 1e6, "[]"),
    "checkpoint.keep_last": (1, 1 << 20, "[]"),
    "checkpoint.keep_best": (1, 1 << 20, "[]"),
    "monitor.log_every": (1, 1 << 30, "[]"),
    "parallel.distributed": (0, 1, "[]"),
    "parallel.heartbeat": (1, 3600, "[]"),
    "parallel.fsdp": (1, 1 << 20, "[]"),
    "parallel.fsdp_min": (0, 1 << 40, "[]"),
    "monitor.tensorboard": (0, 1, "[]"),
    "eval.test": (0, 1, "[]"),
    "monitor.pictures": (0, 1, "[]"),
    "monitor.profile_step": (0, 1 << 40, "[]"),
    "stages.epochs": (0, 1e6, "(]"),
    "stages.strength": (0, 10, "[]"),
    "stages.mixup": (0, 10, "[]"),
    "stages.cutmix": (0, 10, "[]"),
    "stages.learning_rate": (0, 1e3, "[]"),
    "stages.distill": (0, 1, "[]"),
    "stages.fresh": (0, 1, "[]"),
    "stages.train": (0, 1, "[]"),
    "stages.patience": (0, 1 << 20, "[]"),
    **loss_checks.RANGES,
}

_PAIRS = {
    "augment.crop_area": 1.0,
    "augment.crop_ratio": 100.0,
    "augment.blur_sigma": 100.0,
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
    check_knobs(config)
    writers.check(config.monitor)
    for i, stage in enumerate(config.stages):
        _check_stage(config, stage, f"stages[{i}]", first=i == 0)
    _check_run(config)
    return config


def check_knobs(config: Config) -> None:
    """Checks every knob on its own: type, range, choice. Raises as `validate` does."""
    check_types(config, Config)
    _check("stages", config.stages, len(config.stages) > 0, "at least one stage")
    for path, value in items(config):
        key = re.sub(r"\[\d+\]", "", path)
        own = re.fullmatch(r"stages\.((?:loss|schedule)\..+)", key)  # a stage's own loss or schedule: the same rules
        key = own[1] if own else key
        if own and key in ("loss.name", "schedule.name"):
            _check(path, value, value in ("", *CHOICES[key]), f"'' or one of {', '.join(map(repr, CHOICES[key]))}")
        elif key in CHOICES:
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
    transforms.check_order(config.augment.order)


def _check_stage(config: Config, stage: StageConfig, where: str, *, first: bool) -> None:
    """What the knobs of one stage say about each other."""
    size, own = stage.image_size, stage.schedule
    _check(f"{where}.image_size", size, size == 0 or 8 <= size <= 4096, "0 or a number in [8, 4096]")
    for part, default in (("loss", LossConfig(name="")), ("schedule", ScheduleConfig(name=""))):
        found = getattr(stage, part)
        expected = f"a name, since the stage's {part} has other knobs set"
        _check(f"{where}.{part}.name", found.name, bool(found.name) or found == default, expected)
    fits = not own.name or own.warmup_epochs < stage.epochs
    _check(f"{where}.schedule.warmup_epochs", own.warmup_epochs, fits, f"less than the stage's {stage.epochs} epochs")
    fits = not stage.learning_rate or bool(own.name)
    _check(f"{where}.learning_rate", stage.learning_rate, fits, f"0, or a schedule of its own ({where}.schedule.name)")
    _check(f"{where}.start_from", stage.start_from, not (first and stage.start_from), "'' in the first stage")
    judged = len(config.stages) == 1 and bool(config.model.weights)  # pretrained weights, as they are
    expected = "1 in the first stage, unless it is the only one and there are model.weights to judge"
    _check(f"{where}.train", stage.train, not first or bool(stage.train) or judged, expected)
    moved = any(one.train for one in config.stages)
    _check("average.soup", config.average.soup, moved or not config.average.soup, "0 while no stage trains")
    kept = not stage.judge or stage.judge == "weights" or stage.judge in config.average.name
    expected = f"weights, or an average that is kept (average.name is {config.average.name!r})"
    _check(f"{where}.judge", stage.judge, kept, expected)
    for knob in ("distill", "patience"):
        value = getattr(stage, knob)
        _check(f"{where}.{knob}", value, bool(stage.train) or not value, "0 in a stage without training")
    cycle = (own if own.name else config.schedule).name == "onecycle"
    warmup = (own if own.name else config.schedule).warmup_epochs
    knob = f"{where}.schedule.warmup_epochs" if own.name else "schedule.warmup_epochs"
    _check(knob, warmup, not (cycle and warmup), "0: onecycle has a warm-up of its own")
    if stage.distill:
        teacher = config.distill.teacher == "best" or "ema" in config.average.name
        expected = "best, or average.name with ema: there is no running average that could teach"
        _check("distill.teacher", config.distill.teacher, teacher, expected)
        expected = "0 in the first stage: nothing has learned yet that could teach"
        _check(f"{where}.distill", stage.distill, not first, expected)


def _check_run(config: Config) -> None:
    """What the parts of the config say about each other."""
    shared = sum(stage.epochs for stage in config.stages if stage.train and not stage.schedule.name)
    fits = shared == 0 or config.schedule.warmup_epochs < shared
    _check("schedule.warmup_epochs", config.schedule.warmup_epochs, fits, f"less than the run's {shared:g} epochs")
    data, names = config.data, config.data.classes
    _check("data.classes", names, len(set(names)) == len(names), "distinct names")
    _check("data.classes", names, len(names) != 1, "two or more classes")
    total = data.val_fraction + data.test_fraction
    _check("data.val_fraction", data.val_fraction, total < 1, "val_fraction + test_fraction < 1")
    several, solved = config.parallel.distributed, config.model.head_start == "solved"
    expected = "0: one process solves for a last layer; with model.head_start=random several may train"
    _check("parallel.distributed", several, not (solved and several), expected)
    expected = "a file of pretrained weights, on which the last layer is solved for"
    _check("model.weights", config.model.weights, not solved or bool(config.model.weights), expected)
    protocols.check_knobs(config)
    loss_checks.check(config)
    _check("data.folds", data.folds, data.folds != 1, "0 (off), or 2 and more")
    _check("data.fold", data.fold, data.fold < max(1, data.folds), f"a fold below data.folds = {data.folds}")
    soup, most = config.average.soup, config.checkpoint.keep_best
    _check("average.soup", soup, soup <= most, "at most checkpoint.keep_best")
    starts = [sum(stage.epochs for stage in config.stages[:i]) for i in range(len(config.stages))]
    if config.average.swa_first and "swa" in config.average.name:
        ok = any(abs(start - config.average.swa_start) < 1e-9 for start in starts[1:])
        _check(
            "average.swa_start", config.average.swa_start, ok, "the start of a stage after the first, with swa_first"
        )
    transfer = config.distill.attention == 0 or any(stage.distill for stage in config.stages)
    _check("distill.attention", config.distill.attention, transfer, "0 while no stage has distill = 1")
