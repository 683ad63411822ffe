"""The data that a model is judged on: the run's own, or others, in the classes that both have.

A bundle may come from a stranger: whatever its config says of data, no path of it is opened. Whoever judges a bundle
names the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emojax.cli import model_options

if TYPE_CHECKING:
    from emojax.config import DataConfig
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
    if options.data:
        return open_other(classifier, options, cache=cache)
    return open_own(classifier, options, cache=cache), None


def own(classifier: Classifier, options: argparse.Namespace) -> DataConfig:
    """What the config says of the run's data, with their place from --data where the verb has it and it is given.

    Raises `ConfigError` for a bundle without it.
    """
    from emojax.errors import ConfigError

    found, place = classifier.config.data, getattr(options, "data", "")
    if not model_options.is_bundle(options):
        return dataclasses.replace(found, path=place) if place else found
    if not place:
        raise ConfigError(
            f"--workdir={options.workdir} is a bundle, which may come from a stranger: the data that it names are not "
            "opened; give --data, where the verb has it, or the run's work directory"
        )
    return dataclasses.replace(found, path=place, corrections="")


def open_own(classifier: Classifier, options: argparse.Namespace, *, cache: Path | None) -> Dataset:
    """The run's data, see `own`. Raises `CheckpointError` when their classes are not the model's."""
    from emojax import data
    from emojax.errors import CheckpointError

    dataset = data.open_dataset(own(classifier, options), cache=None if getattr(options, "data", "") else cache)
    if dataset.class_names != classifier.class_names:
        raise CheckpointError(
            f"{options.workdir} was trained on the classes {', '.join(classifier.class_names)}; "
            f"the data have {', '.join(dataset.class_names)}"
        )
    return dataset


def add_place(parser: argparse.ArgumentParser) -> None:
    """Adds --data for a verb that wants the run's own data, wherever they lie now."""
    parser.add_argument(
        "--data",
        default="",
        metavar="PATH",
        help="where the run's data lie; default: where the run found them, which a bundle is not trusted to tell",
    )


def open_other(
    classifier: Classifier, options: argparse.Namespace, *, cache: Path | None
) -> tuple[Dataset, Crossing | None]:
    """The data of --data with labels over the judged classes, and how the model's answers get there; None where the
    classes are the same in the same order. What was mapped, joined and left out is told, and which of the images that
    are to be judged are also in the run's train or val (`Dataset.leaked`; None where nobody could look).

    Only where the data lie and what their columns are called carries over from the run: their classes are their own.
    """
    from emojax import data
    from emojax.data import copies, crossing, formats, protocols, schemas
    from emojax.errors import ConfigError
    from emojax.progress import Terminal

    for knob, value, known in (
        ("--format", options.format, formats.NAMES),
        ("--protocol", options.protocol, ("", *protocols.PROTOCOLS)),
        ("--level", options.level, ("name", *schemas.LEVELS)),
    ):
        if value not in known:
            raise ConfigError(f"{knob}={value}: expected one of {', '.join(filter(None, known))}")
    run = classifier.config.data
    source = dataclasses.replace(
        run,
        path=options.data,
        format=options.format,
        protocol=options.protocol,
        corrections="",
        subset=0,
        classes=tuple(name.strip() for name in options.classes.split(",") if name.strip()),
        vote_rule=run.vote_rule if run.vote_columns else "",
        vote_rule_eval=run.vote_rule_eval if run.vote_columns else "",
    )
    dataset = data.open_for_evaluation(source)
    sys.stdout.writelines(f"{note}\n" for note in dataset.notes)
    trained = _trained_with(classifier, options, cache=cache)
    found = None
    if not _same_classes(classifier, dataset, options, certain=_is_own(classifier, options, trained)):
        found = crossing.match(classifier.class_names, dataset.class_names, level=options.level, absent=options.absent)
    before, leaked = len(dataset.notes), None
    if trained is not None:
        names = [options.split] if options.split else [name for name in dataset.splits if name != "train"]
        names = [name for name in names if name in dataset.splits]
        # Labels of different class lists say nothing about whether two pictures are one.
        terminal = Terminal(sys.stderr)
        leaked, notes = copies.leaks_into(
            trained,
            dataset,
            names,
            labels=found is None,
            cache=cache and cache.with_name("copies_other.json"),
            progress=lambda done, n: terminal.update(lambda: [(0, f"comparing with the run's data {done:,}/{n:,}")]),
        )
        terminal.clear()
        dataset = dataclasses.replace(dataset, notes=(*dataset.notes, *notes))
    if found is not None:
        dataset = found.restrict(dataset)
    sys.stdout.writelines(f"{note}\n" for note in dataset.notes[before:])
    return dataclasses.replace(dataset, leaked=leaked), found


def _trained_with(classifier: Classifier, options: argparse.Namespace, *, cache: Path | None) -> Dataset | None:
    """The data of the run, to look for their pictures in others; None, and why, where that cannot be."""
    from emojax import data
    from emojax.errors import DataError

    config = classifier.config.data
    if not config.leak_check:
        return None
    if model_options.is_bundle(options):
        sys.stderr.write("emojax: not leak-checked, for the data that a bundle names are not opened\n")
        return None
    try:
        return data.open_dataset(dataclasses.replace(config, leak_check=0), cache=cache)
    except DataError as error:
        sys.stderr.write(f"emojax: not leak-checked, for the run's own data cannot be opened: {error}\n")
        return None


def _same_classes(classifier: Classifier, dataset: Dataset, options: argparse.Namespace, *, certain: bool) -> bool:
    """Whether the data's classes are the model's in the same order. Bare numbers prove that only where the data are
    the run's own, or where the command says what they number."""
    from emojax.data import schemas

    if dataset.class_names != classifier.class_names or options.level != "name":
        return False
    stated = options.classes or options.protocol or options.format != "auto"
    return bool(stated) or certain or not schemas.numbers_only(dataset.class_names)


def _is_own(classifier: Classifier, options: argparse.Namespace, trained: Dataset | None) -> bool:
    """Whether --data is where the run's data lie, and they are as they were when it was trained."""
    from emojax import manifest

    if trained is None:
        return False
    named, given = (Path(path).expanduser().resolve() for path in (classifier.config.data.path, options.data))
    return named == given and manifest.knows(Path(options.workdir), trained)


def is_test(options: argparse.Namespace, config: DataConfig, dataset: Dataset, name: str) -> bool:
    """Whether split `name` of the data that are judged is the run's own test, wherever it was read from; `config` of
    the run's data. A bundle keeps no list of its test images, nor a log."""
    from emojax import manifest

    if model_options.is_bundle(options):
        return False
    place = Path(options.data or config.path).expanduser().resolve()
    own = name == "test" and place == Path(config.path).expanduser().resolve()
    return own or manifest.holds_test(Path(options.workdir), dataset.contents[name])


def predict(classifier: Classifier, split: Split, crossing: Crossing | None) -> Predictions:
    """The model's answers over its own classes."""
    if crossing is not None:
        split = crossing.unlabelled(split, len(classifier.class_names))
    return classifier.predict_split(split)


def judged(predictions: Predictions, split: Split, crossing: Crossing | None) -> Predictions:
    """The answers over the judged classes, beside the labels of `split`."""
    return predictions if crossing is None else crossing.judge(predictions, split.label)
