"""Other data than a model was trained with: opening them, and judging the model in the classes that both have."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emojax.data.crossing import Crossing
    from emojax.predict import Classifier
    from emojax.types import Dataset, Predictions, Split


def add(parser: argparse.ArgumentParser) -> None:
    """Adds --data and the options that say how to read and compare them."""
    parser.add_argument("--data", default="", help="other data than the run's: folder, .csv, .parquet, .npz, tfds:NAME")
    parser.add_argument("--format", default="auto", help="layout of --data, as config.data.format")
    parser.add_argument("--protocol", default="", help="published protocol of --data, as config.data.protocol")
    parser.add_argument("--classes", default="", metavar="A,B,...", help="names of --data's classes in label order")
    parser.add_argument("--level", default="name", help="compare the classes by name, ekman, mikels or polarity")
    parser.add_argument(
        "--absent",
        default="mask",
        choices=("mask", "keep"),
        help="the model's classes that --data lacks: masked, or kept as (always wrong) answers",
    )


def open_data(
    classifier: Classifier, options: argparse.Namespace, *, cache: Path | None
) -> tuple[Dataset, Crossing | None]:
    """The data of --data as `open_other` gives them, or the run's own, whose classes must be the model's."""
    from emojax import data
    from emojax.errors import CheckpointError

    if options.data:
        return open_other(classifier, options)
    dataset = data.open_dataset(classifier.config.data, cache=cache)
    if dataset.class_names != classifier.class_names:
        raise CheckpointError(
            f"{options.workdir} was trained on the classes {', '.join(classifier.class_names)}; "
            f"the data have {', '.join(dataset.class_names)}"
        )
    return dataset, None


def open_other(classifier: Classifier, options: argparse.Namespace) -> tuple[Dataset, Crossing | None]:
    """The data of --data with labels over the judged classes, and how the model's answers get there; None where the
    classes are the same in the same order. What was mapped, joined and left out is told.

    Only where the data lie and what their columns are called carries over from the run: their classes are their own.
    """
    from emojax import data
    from emojax.data import crossing, formats, protocols, schemas
    from emojax.errors import ConfigError

    for knob, value, known in (
        ("--format", options.format, formats.NAMES),
        ("--protocol", options.protocol, ("", *protocols.PROTOCOLS)),
        ("--level", options.level, ("name", *schemas.LEVELS)),
    ):
        if value not in known:
            raise ConfigError(f"{knob}={value}: expected one of {', '.join(filter(None, known))}")
    own = classifier.config.data
    source = dataclasses.replace(
        own,
        path=options.data,
        format=options.format,
        protocol=options.protocol,
        corrections="",
        subset=0,
        classes=tuple(name.strip() for name in options.classes.split(",") if name.strip()),
        vote_rule=own.vote_rule if own.vote_columns else "",
        vote_rule_eval=own.vote_rule_eval if own.vote_columns else "",
    )
    dataset = data.open_for_evaluation(source)
    if dataset.class_names == classifier.class_names and options.level == "name":
        return dataset, None
    found = crossing.match(classifier.class_names, dataset.class_names, level=options.level, absent=options.absent)
    before = len(dataset.notes)
    dataset = found.restrict(dataset)
    sys.stdout.writelines(f"{note}\n" for note in dataset.notes[before:])
    return dataset, found


def predict(classifier: Classifier, split: Split, crossing: Crossing | None, *, batch_size: int) -> Predictions:
    """The model's answers over its own classes."""
    if crossing is not None:
        split = crossing.unlabelled(split, len(classifier.class_names))
    return classifier.predict_split(split, batch_size=batch_size)


def judged(predictions: Predictions, split: Split, crossing: Crossing | None) -> Predictions:
    """The answers over the judged classes, beside the labels of `split`."""
    return predictions if crossing is None else crossing.judge(predictions, split.label)
