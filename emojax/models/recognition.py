"""Which network a file of weights is of, by its names and shapes alone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from emojax import paths
from emojax.config import ModelConfig
from emojax.errors import CheckpointError, ConfigError
from emojax.models import build, names, pretrained
from emojax.models.families import FAMILIES
from emojax.models.pretrained import Source

_STEMS = ("imagenet", "small")


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """The network that weights are of: `ModelConfig.name`, `stem` and the number of classes."""

    name: str
    stem: str
    classes: int


def candidates(source: Source) -> list[str]:
    """Names of networks that the layout may stand for."""
    family = source.layout.family if source.layout else ".*"
    return [each for variants, _ in FAMILIES for each in variants if re.fullmatch(family, each)]


def recognised(source: Source, *, name: str = "", stem: str = "") -> Match | None:
    """The network with exactly the shapes of a file, of those called `name` with the stem `stem` where given; None when
    there is none."""
    known, stems = _possible(source, name, stem)
    zeros = _zeros(source)
    for candidate in known:
        for each in stems:
            try:
                match, faults = _compared(ModelConfig(name=candidate, stem=each), zeros, own=source.own is not None)
            except (CheckpointError, ConfigError, KeyError, IndexError, ValueError):
                continue  # another network
            if not faults:
                return match
    return None


def differences(source: Source, *, name: str = "", stem: str = "") -> str:
    """How a file that is not `recognised` differs from the network that it can only be of, and with which stem: of two
    the nearer. "" where the names leave several networks."""
    known, stems = _possible(source, name, stem)
    reports: list[tuple[float, str]] = []
    for each in stems if len(known) == 1 else ():
        try:
            _, faults = _compared(ModelConfig(name=known[0], stem=each), _zeros(source), own=source.own is not None)
            reports.append((sum(map(len, faults.values())), f"with the stem {each}, {pretrained.listed(faults)}"))
        except CheckpointError as error:
            reports.append((float("inf"), str(error)))
        except (ConfigError, KeyError, IndexError, ValueError):
            continue  # there is no such stem, or nothing that can be compared
    return min(reports, default=(0, ""))[1]


def _possible(source: Source, name: str, stem: str) -> tuple[list[str], Sequence[str]]:
    """(names, stems) that are to be tried. Raises `ConfigError` for a `name` that no network has."""
    if name and name not in names():
        raise ConfigError(f"expected a network out of {', '.join(names())}, found {name!r}")
    if source.own is not None and not name and source.own.get("name") in names():
        name, stem = str(source.own["name"]), stem or str(source.own.get("stem"))
    return [name] if name else candidates(source), [stem] if stem else _STEMS


def _zeros(source: Source) -> dict[str, np.ndarray]:
    """The arrays of a file without their numbers: a broadcast zero has a shape, and takes no memory."""
    return {
        pretrained.bare(key): np.broadcast_to(np.float32(0), entry.shape)
        for key, entry in source.header.entries.items()
        if not key.endswith("num_batches_tracked")
    }


def _compared(config: ModelConfig, zeros: Mapping[str, np.ndarray], *, own: bool) -> tuple[Match, dict[str, list[str]]]:
    """(the network with as many classes as a file has, how the file differs from it)."""
    model = build(config, 2)
    found = zeros if own else paths.flatten(dict(zip(pretrained.TREES, model.from_torch(zeros), strict=True)))
    head = next((found[path] for path in ("params/head/dense/bias", "params/head/dense/kernel") if path in found), None)
    match = Match(config.name, config.stem, 2 if head is None else head.shape[-1])
    like = pretrained.shapes_of(build(config, match.classes))
    return match, pretrained.compared(found, like, reinit="")[1]
