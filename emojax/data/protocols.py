"""Published protocols: which classes, which vote rules, and how many records there have to be.

A number under a protocol's name means something only when the records are those that others counted, so a run under a
protocol refuses data with other counts; `data.subset` = 1 admits them, and says so in the notes. Sources of the counts
are named beside them; "sum" marks totals of which only the sum over classes or splits was checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from emojax.config import Config, DataConfig, items
from emojax.data import schemas
from emojax.errors import ConfigError, DataError
from emojax.types import Dataset

Counts = Mapping[str, int | tuple[int, ...]]
"""split -> records, or records of each class in the protocol's order; `all` = over all splits."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What a published number stands for.

    Attributes:
      title: as papers call it.
      formats: the `config.data.format`s that it can be read from.
      classes: in label order.
      releases: name of a release -> its counts; one of them has to fit.
      vote_rule, vote_rule_eval: what the knobs of these names have to be or become.
      group_column: what this knob must be unless it is empty: the reader then sees to it; "" = anything.
      knobs: other knobs -> value, which the config must have.
    """

    title: str
    formats: tuple[str, ...]
    classes: tuple[str, ...]
    releases: Mapping[str, Counts]
    vote_rule: str = ""
    vote_rule_eval: str = ""
    group_column: str = ""
    knobs: Mapping[str, object] = dataclasses.field(default_factory=dict)


_AFFECTNET = (74874, 134415, 25459, 14090, 6378, 3803, 24882, 3750)
_EIGHT = schemas.SCHEMAS["ferplus"].names


def _own(name: str, title: str, releases: Mapping[str, Counts], group_column: str = "") -> Protocol:
    classes = schemas.SCHEMAS[name].names
    return Protocol(title=title, formats=(name,), classes=classes, releases=releases, group_column=group_column)


def _ferplus(title: str, rule: str, train: int, **knobs: object) -> Protocol:
    return Protocol(
        title=title,
        formats=("ferplus",),
        classes=_EIGHT,
        # The authors' code judges every mode on labels by majority.
        releases={"FER+": {"train": train, "val": 3199, "test": 3153} if train else {"val": 3199, "test": 3153}},
        vote_rule=rule,
        vote_rule_eval="majority",
        knobs={key.replace("__", "."): value for key, value in knobs.items()},
    )


PROTOCOLS: dict[str, Protocol] = {
    "affectnet8": _own(
        "affectnet",
        "AffectNet-8",
        {
            "original": {"train": _AFFECTNET, "val": (500,) * 8},
            "2021": {"train": _AFFECTNET, "val": (*(500,) * 7, 499)},
        },
    ),
    "affectnet7": Protocol(
        title="AffectNet-7, contempt dropped",
        formats=("affectnet",),
        classes=schemas.SCHEMAS["affectnet"].names[:7],
        releases={"original and 2021": {"train": _AFFECTNET[:7], "val": (500,) * 7}},
    ),
    "rafdb": _own(
        "rafdb",
        "RAF-DB basic, official split",
        {
            "official": {
                "train": (1290, 281, 717, 4772, 1982, 705, 2524),
                "test": (329, 74, 160, 1185, 478, 162, 680),
            }
        },
    ),
    # Recalled from the data set's page: 3,954 images.
    "rafdb_compound": _own(
        "rafdb_compound", "RAF-DB compound, official split", {"official": {"train": 3162, "test": 792}}
    ),
    # Kaggle's three parts; the private test is the one to report.
    "fer2013": _own("fer2013", "FER2013", {"Kaggle": {"train": 28709, "val": 3589, "test": 3589}}),
    "ferplus_majority": _ferplus("FER+ majority", "majority", 25060),
    "ferplus_drawing": _ferplus("FER+ label drawing", "cross_entropy", 27956, augment__draw_labels=1),
    "ferplus_cross_entropy": _ferplus("FER+ cross-entropy", "cross_entropy", 27956),
    # The number of training images was never published; those of val and test are the majority's.
    "ferplus_multi_target": _ferplus("FER+ multi-target", "multi_target", 0, loss__name="multi_target"),
    # 327 labelled sequences, three frames each; with the first frame of each as neutral for eight classes.
    "ckplus7": Protocol(
        title="CK+ seven emotions, last three frames",
        formats=("ckplus",),
        classes=schemas.SCHEMAS["ckplus"].names[1:],
        releases={"CK+": {"all": (135, 54, 177, 75, 207, 84, 249)}},
        group_column="subject",
    ),
    "ckplus8": _own("ckplus", "CK+ with neutral", {"CK+": {"all": (327, 135, 54, 177, 75, 207, 84, 249)}}, "subject"),
    "fi": _own(  # sum
        "fi", "FI, complete", {"You et al.": {"all": (4942, 1266, 3151, 5374, 1658, 2963, 1032, 2922)}}
    ),
    "emotionroi": _own("emotionroi", "EmotionROI, official split", {"official": {"train": 1386, "test": 594}}),
    "emotion6": _own("emotion6", "Emotion6", {"Peng et al.": {"all": 1980}}),
    "emoset118k": _own("emoset", "EmoSet-118K", {"official": {"all": 118102}}),
}


def check_knobs(config: Config) -> None:
    """Raises `ConfigError` for knobs that a protocol, or its absence, forbids."""
    data, knobs = config.data, dict(items(config))
    if data.subset and not data.protocol:
        raise ConfigError("config.data.subset: expected 0 without data.protocol, found 1")
    if data.vote_rule_eval and not data.vote_rule:
        raise ConfigError(
            f"config.data.vote_rule_eval: expected '' without data.vote_rule, found {data.vote_rule_eval!r}"
        )
    for knob, due in PROTOCOLS[data.protocol].knobs.items() if data.protocol else ():
        if knobs[knob] != due:
            raise ConfigError(
                f"config.{knob}: expected {due!r} under data.protocol {data.protocol}, found {knobs[knob]!r}"
            )


def resolve(config: DataConfig, kind: str) -> DataConfig:
    """`config` with what its protocol says about classes and votes. Raises `ConfigError` where it says otherwise."""
    if not config.protocol:
        return config
    protocol = PROTOCOLS[config.protocol]
    if kind not in (*protocol.formats, "packed"):
        raise ConfigError(
            f"config.data.protocol = {config.protocol} is for the format {' or '.join(protocol.formats)}; "
            f"{config.path} is read as {kind}"
        )
    for knob in ("vote_rule", "vote_rule_eval"):
        own, due = getattr(config, knob), getattr(protocol, knob)
        if own not in ("", due):
            raise ConfigError(f"config.data.{knob}: the protocol {config.protocol} has {due!r}, found {own!r}")
    if protocol.group_column and config.group_column not in ("", protocol.group_column):
        raise ConfigError(
            f"config.data.group_column: the protocol {config.protocol} keeps each {protocol.group_column} in one part, "
            f"found {config.group_column!r}"
        )
    given = {schemas.canonical(name) for name in config.classes}
    if config.classes and given != {schemas.canonical(name) for name in protocol.classes}:
        raise ConfigError(
            f"config.data.classes: the protocol {config.protocol} has {', '.join(protocol.classes)} (in any order), "
            f"found {', '.join(config.classes)}"
        )
    return dataclasses.replace(
        config,
        classes=config.classes or protocol.classes,
        vote_rule=protocol.vote_rule,
        vote_rule_eval=protocol.vote_rule_eval,
    )


def check(dataset: Dataset, config: DataConfig) -> Dataset:
    """`dataset` with a note on its protocol. Raises `DataError` when its records are not as many as published."""
    if not config.protocol:
        return dataset
    protocol = PROTOCOLS[config.protocol]
    wrong = {name: _differences(dataset, counts, protocol) for name, counts in protocol.releases.items()}
    fitting = next((name for name, lines in wrong.items() if not lines), None)
    if fitting is not None:
        note = f"protocol {protocol.title}: the numbers of records are as published ({fitting})"
    else:
        least = min(wrong, key=lambda name: len(wrong[name]))
        told = f"the protocol {protocol.title} ({least}) does not fit: {'; '.join(wrong[least])}"
        if not config.subset:
            raise DataError(
                f"{config.path}: {told}. The numbers would not be comparable; complete the data, or set "
                "config.data.subset=1 to go on with others"
            )
        note = f"NOT COMPARABLE with published numbers (config.data.subset = 1): {told}"
    return dataclasses.replace(dataset, notes=(*dataset.notes, note))


def _differences(dataset: Dataset, counts: Counts, protocol: Protocol) -> list[str]:
    """A line for each number of records that is not as published."""
    if set(map(schemas.canonical, dataset.class_names)) != set(map(schemas.canonical, protocol.classes)):
        return [f"its classes are {', '.join(protocol.classes)}, found {', '.join(dataset.class_names)}"]
    lines = []
    for key, expected in counts.items():
        found = _found(dataset, key, protocol)
        if isinstance(expected, int) and sum(found) != expected:
            lines.append(f"{key}: {expected:,} records published, found {sum(found):,}")
        elif not isinstance(expected, int) and tuple(found) != expected:
            each = [
                f"{name} {due:,} but {have:,}"
                for name, due, have in zip(protocol.classes, expected, found, strict=True)
                if due != have
            ]
            lines.append(f"{key}: {sum(expected):,} records published, found {sum(found):,} ({', '.join(each)})")
    return lines


def _found(dataset: Dataset, key: str, protocol: Protocol) -> list[int]:
    """Records of each class of the protocol, by the strongest class of the label."""
    splits = [s for name, s in dataset.splits.items() if key in ("all", name)]
    own = [schemas.find(name, dataset.class_names) for name in protocol.classes]
    at = [dataset.class_names.index(str(name)) for name in own]
    return [sum(int((split.label.argmax(1) == k).sum()) for split in splits) for k in at]
