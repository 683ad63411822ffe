"""What `emojax ablate` changes of a recipe: one thing at a time, named by a person or found in the recipe."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from emojax.config import Config, items
from emojax.errors import ConfigError

FORM = "KNOB=VALUE, several of them with spaces between, or :VARIANT of the recipe (: alone = none)"

_FREE = ("data.sampler", "data.corrections", "data.vote_rule")
"""Knobs of the data that may leave val as it is; runs on other images cannot be compared."""

_PARTS: dict[str, Mapping[str, Any]] = {
    "without random crops": {"augment.crop_area": (1.0, 1.0)},
    "without padded crops": {"augment.pad": 0},
    "without flips": {"augment.flip": 0.0},
    "without rotation": {"augment.rotate": 0.0},
    "without shifts": {"augment.translate": 0.0},
    "without zoom": {"augment.zoom": 0.0},
    "without colour jitter": {
        "augment.brightness": 0.0, "augment.contrast": 0.0, "augment.saturation": 0.0, "augment.hue": 0.0,
    },
    "without perspective": {"augment.perspective": 0.0},
    "without grayscale": {"augment.grayscale": 0.0},
    "without blur": {"augment.blur": 0.0},
    "without the augmentation policy": {"augment.policy": "none"},
    "without erasing": {"augment.erase": 0.0},
    "without drawn labels": {"augment.draw_labels": 0},
    "without MixUp": {"augment.mixup": 0.0},
    "without CutMix": {"augment.cutmix": 0.0},
    "without dropout": {"model.dropout": 0.0, "model.feature_dropout": 0.0},
    "without stochastic depth": {"model.drop_path": 0.0},
    "cross-entropy as the loss": {"loss.name": "ce"},
    "without label smoothing": {"loss.smoothing": 0.0},
    "without class weights": {"loss.class_weights": "none"},
    "without the regulariser": {"loss.regulariser": "none", "loss.regulariser_weight": 0.0},
    "without the balanced sampler": {"data.sampler": "shuffle"},
    "without warm-up": {"schedule.warmup_epochs": 0.0},
    "with a constant rate": {"schedule.name": "constant"},
    "without weight decay": {"optim.weight_decay": 0.0},
    "without clipping": {"optim.clip_norm": 0.0},
    "with the same rate for the head": {"optim.head_multiplier": 1.0},
    "with the same rate for all layers": {"optim.layer_decay": 1.0},
    "without Lookahead": {"optim.lookahead": 0},
    "without SAM": {"optim.sam": 0.0},
    "without the soup": {"average.soup": 0},
    "without freezing": {"stages.frozen": ""},
    "on the statistics of each batch": {"stages.frozen_statistics": ""},
    "with a last layer that starts from noise": {"model.head_start": "random"},
    "without distillation": {"stages.distill": 0, "distill.attention": 0.0},
}  # fmt: skip
"""What a part is called when it is off → the knobs that switch it off; a recipe has it where one of them is another."""


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One difference from the recipe: its name, the knobs, and the recipe's variant (None = that of the base)."""

    name: str
    knobs: tuple[tuple[str, str], ...] = ()
    variant: str | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """The knobs as overrides."""
        return tuple(f"--config.{knob}={value}" for knob, value in self.knobs)

    @property
    def folder(self) -> str:
        """Of its runs."""
        return re.sub(r"[^\w.=+-]+", "-", self.name).strip("-.")[:100] or "plain"


BASE = Change("base")


def parse(text: str) -> Change:
    """The change that an argument describes. Raises `ConfigError`: it is none, or would change what is judged."""
    knobs, variant = [], None
    for word in shlex.split(text):
        knob, equals, value = word.partition("=")
        if word.startswith(":") and variant is None:
            variant = word[1:]
        elif not equals or not re.fullmatch(r"[\w.\[\]]+", knob):
            raise ConfigError(f"--change={text!r}: expected {FORM}, found {word!r}")
        elif knob == "seed" or knob.startswith("eval.test"):
            raise ConfigError(f"--change={text!r}: {knob} is no part of a recipe; see --seeds and --test")
        elif knob.startswith("data.") and knob not in _FREE:
            raise ConfigError(f"--change={text!r}: runs with another {knob} may be judged on other images")
        else:
            knobs.append((knob, value))
    if not knobs and variant is None:
        raise ConfigError(f"--change={text!r}: expected {FORM}")
    return Change(text.strip(), tuple(knobs), variant)


def switched_off(config: Config) -> list[Change]:
    """A change for every part of the recipe that is on: augmentation, mixing, loss, optimizer, averages and stages."""
    values = dict(items(config))
    found = []
    for name, knobs in _PARTS.items():
        own = {place: off for knob, off in knobs.items() for place in _places(knob, values) if values[place] != off}
        if own:
            found.append(_change(name, own))
    averages = config.average.name.split("+") if config.average.name != "none" else []
    for average in averages:
        rest = "+".join(other for other in averages if other != average)
        found.append(_change(f"without {average.upper()}", {"average.name": rest or "none"}))
    return found


def _change(name: str, knobs: Mapping[str, Any]) -> Change:
    return Change(name, tuple((knob, str(value)) for knob, value in knobs.items()))


def _places(knob: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Where a knob lies: in the run, and in every stage that has it, or a loss or schedule of its own."""
    part, _, rest = knob.partition(".")
    if knob in values:
        yield knob
    for i in range(sum(re.fullmatch(r"stages\[\d+\]\.epochs", name) is not None for name in values)):
        if part == "stages":
            yield f"stages[{i}].{rest}"
        elif part in ("loss", "schedule") and values[f"stages[{i}].{part}.name"]:
            yield f"stages[{i}].{knob}"
