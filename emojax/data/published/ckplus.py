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
    for subject in common.folders(images):
        for number in common.folders(images / subject):
            folder = labels / subject / number
            found = sorted(folder.glob("*_emotion.txt")) if folder.is_dir() else []
            if not found:  # 266 of 593 sequences have no label; for some of them the folder exists and is empty
                unlabelled += 1
                continue
            code = _code(found[0])
            label = common.decoded(code, schema, str(found[0]))
            place = f"{images.relative_to(path)}/{subject}/{number}"
            frames = common.pictures(images / subject / number)
            if not frames:
                raise DataError(
                    f"{images / subject / number}: {found[0].name} labels this sequence, but it has no frames"
                )
            slices = {GROUP: subject, "sequence": f"{subject}/{number}"}
            first, last = frames[0], frames[1:][-_PEAK:]
            records.append(Record(f"{place}/{first}", "neutral", str(found[0]), slices))
            records += [Record(f"{place}/{frame}", str(label), str(found[0]), slices) for frame in last]
    notes = (
        f"each labelled sequence's last {_PEAK} frames, the first as neutral; {unlabelled} sequences have no label",
        "the frames of one subject stay together in folds and cuts",
    )
    found = common.dataset(path, {"": records}, schema=schema, config=config, notes=notes)
    return dataclasses.replace(found, group_column=GROUP)


def _homes(path: Path) -> tuple[Path | None, Path | None]:
    return common.first(*(path / name for name in _IMAGES)), common.first(*(path / name for name in _LABELS))


def _code(file: Path) -> str:
    """The label in a file that holds a number such as `3.0000000e+00`."""
    try:
        number = float(file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: expected a number such as 3.0000000e+00: {error}") from error
    return f"{number:g}"
