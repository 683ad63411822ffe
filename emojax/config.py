"""Every knob of emojax: typed, defaulted and documented with its unit. A recipe (`configs/*.py`) fills in a `Config`.

Zero or an empty value means "off" wherever that makes sense, so that every field keeps one type and every override is
one flag: `--config.optim.learning_rate=1e-3`, `--config.stages[0].epochs=5`.
"""

# No `from __future__ import annotations` here: ml_collections reads the fields' types as classes.
import dataclasses
import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from emojax.errors import ConfigError


@dataclass(slots=True, kw_only=True)
class DataConfig:
    """Where the images are, and how they become splits."""

    path: str = "emoji"
    """`emoji` (ships with emojax), a folder, a .csv, .parquet or .npz file, a folder of {train,val,test}.{csv,parquet},
    or `tfds:NAME`."""
    format: str = "auto"
    """auto, emoji, folder, csv, parquet, npz or tfds. `auto` decides by what `path` is."""
    classes: tuple[str, ...] = ()
    """Class names in label order. Empty: taken from the data (folder names sorted, `label_names` of a parquet schema,
    or the sorted distinct labels)."""
    image_column: str = "image"
    """CSV and parquet: column with image bytes or a path relative to the file's folder. npz, TFDS: array or feature."""
    label_column: str = "label"
    """CSV, parquet, npz, TFDS: column with a class name or an integer class id."""
    vote_columns: tuple[str, ...] = ()
    """CSV and parquet: one column per class, in class order, or one list column; votes become the label distribution
    (replaces `label_column`)."""
    slice_columns: tuple[str, ...] = ()
    """CSV and parquet: columns by whose values the report also splits its numbers; absent ones are passed over."""
    split_column: str = "split"
    """CSV and parquet in one file: column with train, val or test; ignored when it does not exist."""
    val_fraction: float = 0.1
    """Share of the training records that becomes `val`, stratified by class, when the data have none. In (0, 1)."""
    test_fraction: float = 0.1
    """Share that becomes `test` when the data have neither `val` nor `test`; 0 = no test split. In [0, 1)."""
    split_seed: int = 0
    """Seed of those cuts; independent of `Config.seed`, so that runs with several seeds share their splits."""
    bad_limit: float = 0.05
    """Largest share of unreadable images that is skipped; above it the run refuses. In [0, 1]."""
    workers: int = 0
    """Loader processes; 0 = two threads of the main process. Does not change the batches."""


@dataclass(slots=True, kw_only=True)
class AugmentConfig:
    """Random changes of training images, in the order in which they are applied. Off unless set."""

    crop_area: tuple[float, float] = (1.0, 1.0)
    """Random resized crop: share of the image area kept, [low, high] in (0, 1]."""
    crop_ratio: tuple[float, float] = (0.75, 1.3333)
    """Random resized crop: width / height, log-uniform in [low, high]. Only read when `crop_area` is not (1, 1)."""
    pad: int = 0
    """Pixels of reflected border before a random crop back to size (at `image_size`)."""
    flip: float = 0.0
    """Probability of a left-right mirror image."""
    rotate: float = 0.0
    """Largest rotation, degrees, uniform in [-x, x]; bilinear, corners filled with the mean colour of the border."""
    translate: float = 0.0
    """Largest shift as a share of the side, uniform in [-x, x] on both axes."""
    zoom: float = 0.0
    """Largest relative change of size, uniform scale in [1 - x, 1 + x]."""
    brightness: float = 0.0
    """Colour jitter: factor uniform in [max(0, 1 - x), 1 + x]; the four jitters run in random order."""
    contrast: float = 0.0
    """Colour jitter, as `brightness`."""
    saturation: float = 0.0
    """Colour jitter, as `brightness`."""
    hue: float = 0.0
    """Colour jitter: hue shift uniform in [-x, x] of the full circle; at most 0.5."""
    erase: float = 0.0
    """Probability of random erasing (Zhong et al. 2017, arXiv:1708.04896): one rectangle filled with the mean
    colour of ImageNet, which is 0 after normalisation."""
    erase_area: tuple[float, float] = (0.02, 0.3333)
    """Random erasing: share of the area, uniform."""
    erase_ratio: tuple[float, float] = (0.3, 3.3)
    """Random erasing: height / width of the rectangle, log-uniform."""
    mixup: float = 0.0
    """MixUp (Zhang et al. 2017, arXiv:1710.09412): alpha of Beta(alpha, alpha); 0 = off."""
    cutmix: float = 0.0
    """CutMix (Yun et al. 2019, arXiv:1905.04899): alpha of Beta(alpha, alpha); 0 = off. With both on, each mixed batch
    takes one of the two at random."""
    mix_probability: float = 1.0
    """Probability that a batch is mixed at all, when `mixup` or `cutmix` is on."""


@dataclass(slots=True, kw_only=True)
class ModelConfig:
    """Which network."""

    name: str = "resnet18"
    """resnet18/34/50/101/152, convnext_atto/femto/pico/nano/tiny/small/base/large."""
    stem: str = "imagenet"
    """ResNet: `imagenet` (7x7 stride 2, max-pool), `small` (3x3 stride 1), `small2` (3x3 stride 2). ConvNeXt:
    `imagenet` (patch 4) or `small` (patch 2)."""
    depths: tuple[int, ...] = ()
    """Blocks per stage; empty = as published for `name`."""
    widths: tuple[int, ...] = ()
    """Channels per stage; empty = as published for `name`."""
    dropout: float = 0.0
    """Dropout before the last dense layer."""
    drop_path: float = 0.0
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382): rate of the last block, rising linearly from 0."""
    layer_scale: float = 1e-6
    """ConvNeXt: initial value of the per-channel residual scale; 0 = none."""
    compute: str = "float32"
    """float32 or bfloat16: type of activations and matrix products. Parameters, statistics and logits stay float32."""
    remat: int = 0
    """1 = recompute block activations in the backward pass: less memory, about a third more time."""


@dataclass(slots=True, kw_only=True)
class LossConfig:
    """What is minimised."""

    smoothing: float = 0.0
    """Label smoothing: label -> (1 - s) label + s / K. In [0, 1)."""


@dataclass(slots=True, kw_only=True)
class ScheduleConfig:
    """Learning rate as a function of the step."""

    name: str = "cosine"
    """cosine or constant, after the warm-up."""
    warmup_epochs: float = 0.0
    """Linear warm-up from 0 to the peak, epochs."""
    final: float = 0.0
    """Cosine: last learning rate as a share of the peak."""


@dataclass(slots=True, kw_only=True)
class OptimConfig:
    """How parameters are updated."""

    name: str = "adamw"
    """adamw (Loshchilov & Hutter 2017, arXiv:1711.05101) or sgd (Nesterov momentum)."""
    learning_rate: float = 1e-3
    """Peak learning rate for the configured global batch; nothing rescales it."""
    weight_decay: float = 0.05
    """adamw: decoupled decay, times the learning rate. sgd: added to the gradient (L2)."""
    no_decay: str = r"(bias|scale|gamma)$"
    """Regex over parameter paths that take no weight decay."""
    beta1: float = 0.9
    """adamw: decay of the first moment."""
    beta2: float = 0.999
    """adamw: decay of the second moment."""
    momentum: float = 0.9
    """sgd: Nesterov momentum."""
    clip_norm: float = 0.0
    """Largest global L2 norm of the gradient of the trained parameters; 0 = no clipping."""
    layer_decay: float = 1.0
    """Layer-wise rate decay (Clark et al. 2020, arXiv:2003.10555): a block d blocks below the head learns with
    layer_decay ** d of the rate; 1 = off."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one update (optax.MultiSteps)."""


@dataclass(slots=True, kw_only=True)
class AverageConfig:
    """Running average of the weights; when on, it is what is evaluated and kept as the result."""

    name: str = "none"
    """none or ema."""
    decay: float = 0.999
    """EMA decay per update, after a warm-up min(decay, (1 + step) / (10 + step))."""


@dataclass(slots=True, kw_only=True)
class StageConfig:
    """One stretch of the run. A run is a list of them; most have one."""

    epochs: float = 30.0
    """Length in passes over the training split; may be fractional."""
    image_size: int = 0
    """Side of the square training and evaluation images, pixels; 0 = `Config.image_size`."""
    strength: float = 1.0
    """Factor on every augmentation probability and magnitude, >= 0."""
    mixing: float = 1.0
    """Factor on `mix_probability`, >= 0; 0 = no MixUp or CutMix in this stage."""
    frozen: str = ""
    """Regex over parameter paths that do not learn in this stage; empty = all learn."""
    schedule: ScheduleConfig = field(default_factory=lambda: ScheduleConfig(name=""))
    """A schedule of the stage's own; name "" = go on with the run's schedule."""


@dataclass(slots=True, kw_only=True)
class EvalConfig:
    """When and how a model is judged."""

    every_epochs: float = 1.0
    """Epochs between evaluations on `val`; the end of every stage is always evaluated."""
    batch_size: int = 0
    """Images per evaluation batch over all devices; 0 = the training batch size."""
    metric: str = "accuracy"
    """Number of the report by which the best checkpoint and early stopping are decided."""
    patience: int = 0
    """Evaluations without improvement of `metric` before the run stops early; 0 = never."""
    crop: float = 1.0
    """Side of the central crop as a share of the resized image: 0.875 resizes 224 px models' images to 256 first."""
    views: str = "center"
    """Test-time views whose probabilities are averaged: center, or flip (image and mirror image)."""


@dataclass(slots=True, kw_only=True)
class CheckpointConfig:
    """What is kept on disk. Best and last are always kept; a checkpoint is written at every evaluation."""

    every_epochs: float = 0.0
    """Extra checkpoints between evaluations, epochs; 0 = none."""
    keep_last: int = 1
    """How many of the latest checkpoints stay, besides the best."""


@dataclass(slots=True, kw_only=True)
class MonitorConfig:
    """What is shown and recorded. Nothing here changes the training."""

    log_every: int = 20
    """Steps between lines of metrics.jsonl and TensorBoard points; an evaluation or checkpoint also closes a line."""
    tensorboard: int = 1
    """1 = write TensorBoard event files to WORKDIR/tensorboard."""
    profile_step: int = 0
    """Step from which a profile of ten steps is written to WORKDIR/profile; 0 = none."""


@dataclass(slots=True, kw_only=True)
class Config:
    """A whole run: data in, report out."""

    seed: int = 0
    """Seed of initialisation, data order, augmentation and dropout."""
    image_size: int = 224
    """Side of the square input images, pixels."""
    batch_size: int = 64
    """Images per step over all devices, before accumulation."""
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    stages: tuple[StageConfig, ...] = (StageConfig(),)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    monitor: MonitorConfig = field(default_factory=MonitorConfig)


MAY_CHANGE = ("data.workers", "monitor.", "checkpoint.")
"""Knobs that a resumed run may have changed: they alter neither the weights nor the numbers."""


def items(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (`optim.learning_rate`, value) for every leaf knob, in the order of definition."""
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), prefix + f.name
        if dataclasses.is_dataclass(value):
            yield from items(value, name + ".")
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            for i, part in enumerate(value):
                yield from items(part, f"{name}[{i}].")
        else:
            yield name, value


def to_json(config: Config) -> str:
    """The resolved config as JSON text, read back by `from_json`."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str, *, where: str = "config") -> Config:
    """Rebuilds a `Config` from `to_json` text; unknown keys and wrong types raise `ConfigError` naming `where`."""
    try:
        return _build(Config, json.loads(text), where)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where} is not valid JSON: {error}") from error


def _build(cls: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected an object, found {type(value).__name__}")
    hints = typing.get_type_hints(cls)
    if unknown := sorted(set(value) - set(hints)):
        raise ConfigError(f"{where}: unknown keys {unknown}; it was written by another version of emojax")
    built = {key: _value(hints[key], item, f"{where}.{key}") for key, item in value.items()}
    return cls(**built)


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        part = typing.get_args(hint)[0]
        return tuple(_value(part, v, f"{where}[{i}]") for i, v in enumerate(value))
    return value


def differences(old: Config, new: Config) -> list[str]:
    """One line per knob that differs, leaving out those a resumed run may change."""
    a, b = dict(items(old)), dict(items(new))
    return [
        f"{key}: {a.get(key, 'absent')!r} -> {b.get(key, 'absent')!r}"
        for key in dict.fromkeys([*a, *b])
        if a.get(key, "absent") != b.get(key, "absent") and not key.startswith(MAY_CHANGE)
    ]
