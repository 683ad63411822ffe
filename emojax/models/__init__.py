"""The networks behind one door: `build(config, classes)` gives a `Model` of plain functions on trees of arrays.

Nothing outside this package knows Flax. A new network is a module like `convnext.py` and an entry in `FAMILIES`.
"""

from __future__ import annotations

import dataclasses
import difflib

from emojax.config import ModelConfig
from emojax.errors import ConfigError
from emojax.models.cam import class_activation, scaled_evidence
from emojax.models.families import FAMILIES, check
from emojax.models.model import HEAD, Model
from emojax.models.platforms import plain
from emojax.models.to_torch import Target, to_torch

__all__ = [
    "FAMILIES",
    "HEAD",
    "Model",
    "Target",
    "build",
    "class_activation",
    "names",
    "plain",
    "scaled_evidence",
    "to_torch",
]


def names() -> list[str]:
    """Every name that `build` knows."""
    return [name for variants, _ in FAMILIES for name in variants]


def build(config: ModelConfig, num_classes: int) -> Model:
    """The network that `config` describes, for `num_classes` classes.

    Raises `ConfigError` naming the knob that is unknown, out of range, or has no meaning for this network.
    """
    if config.name not in names():
        raise ConfigError(
            f"config.model.name: expected one of {', '.join(names())}{_hint(config.name)}, found {config.name!r}"
        )
    check(config)
    if num_classes < 1:
        raise ConfigError(f"a classifier needs at least one class, found {num_classes}")
    config = dataclasses.replace(config)  # later changes of the caller's config must not reach the network
    return next(make for variants, make in FAMILIES if config.name in variants)(config, num_classes)


def _hint(name: str) -> str:
    close = difflib.get_close_matches(name, names(), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
