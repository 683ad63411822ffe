"""CK+: sequences from a neutral face to the peak of an expression, by 123 subjects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.published import common
from emojax.data.published.common import Record
from emojax.data.schemas import SCHEMAS
from emojax.errors import DataError
from emojax.types import Dataset

EXPECTED = "cohn-kanade-images/S005/001/*.png and Emotion/S005/001/*_emotion.txt"
_IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
_LABELS = ("Emotion", "Emotion_labels/Emotion")
_ENDING = "_emotion.txt"
GROUP = "subject"
_PEAK = 3
"""Frames at the end of a sequence that carry its label; the first frame is neutral. The usual protocol."""


def recognise(path: Path) -> bool:
    """Both folders are there."""
    return None not in _homes(path)


def read(path: Path, *, config: DataConfig) -> Dataset:
    """The last three frames of every labelled sequence with its label, and the first as neutral.

    There are no splits: cross-validate by subject, `config.data.folds=10`. Folds and cuts never divide a subject, whose
    neighbouring frames show almost the same.
    """
    images, labels = _homes(path)
    if images is None or labels is None:
        raise DataError(f"{path}: expected {EXPECTED}")
    schema, records = SCHEMAS["ckplus"], []
    unlabelled = 0
    for subject in sorted({*common.folders(images), *common.folders(labels)}):
        for number in sorted({*common.folders(images / subject), *common.folders(labels / subject)}):
            file = _label_file(labels / subject / number)
            if file is None:  # 266 of 593 sequences have no label; for some of them the folder exists and is empty
                unlabelled += (images / subject / number).is_dir()
                continue
            label = common.decoded(_code(file), schema, str(file))
            place = f"{images.relative_to(path)}/{subject}/{number}"
            frames = _frames(images / subject / number, file)
            slices = {GROUP: subject, "sequence": f"{subject}/{number}"}
            records.append(Record(f"{place}/{frames[0]}", "neutral", str(file), slices))
            records += [Record(f"{place}/{frame}", str(label), str(file), slices) for frame in frames[1:][-_PEAK:]]
    notes = (
        f"each labelled sequence's last {_PEAK} frames, the first as neutral; {unlabelled} sequences have no label",
        "the frames of one subject stay together in folds and cuts",
    )
    found = common.dataset(path, {"": records}, schema=schema, config=config, notes=notes)
    return dataclasses.replace(found, group_column=GROUP)


def _homes(path: Path) -> tuple[Path | None, Path | None]:
    return common.first(*(path / name for name in _IMAGES)), common.first(*(path / name for name in _LABELS))


def _label_file(folder: Path) -> Path | None:
    """The one file that labels a sequence; None without one. Of two, nobody knows which is right: `DataError`."""
    found = [file for file in sorted(folder.glob(f"*{_ENDING}")) if not file.name.startswith(".")]
    if len(found) > 1:
        raise DataError(f"{folder}: one label expected, found {', '.join(file.name for file in found)}")
    return found[0] if found else None


def _frames(folder: Path, label: Path) -> list[str]:
    """The frames of a labelled sequence, at least two, of which the last is the one that the label's name numbers.
    Otherwise some are missing, and the peak's label would be given to frames before it."""
    frames = common.pictures(folder) if folder.is_dir() else []
    if len(frames) < 2:
        raise DataError(
            f"{folder}: {label.name} labels this sequence, but it has {len(frames)} frames; 2 are the least"
        )
    last, labelled = (name.rpartition("_")[2] for name in (Path(frames[-1]).stem, label.name.removesuffix(_ENDING)))
    if last != labelled:
        raise DataError(f"{folder}: {label.name} labels frame {labelled}, but the last one is {frames[-1]}")
    return frames


def _code(file: Path) -> str:
    """The label in a file that holds a number such as `3.0000000e+00`."""
    try:
        number = float(file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected a number such as 3.0000000e+00: {error}") from error
    return f"{number:g}"
