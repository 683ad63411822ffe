"""EmotionROI: six emotions in class folders, and lists of the official split."""

from __future__ import annotations

from pathlib import Path

from emojax.config import DataConfig
from emojax.data.csv_table import cells
from emojax.data.published import common
from emojax.data.published.common import Record
from emojax.data.schemas import SCHEMAS, find
from emojax.errors import DataError
from emojax.types import Dataset

EXPECTED = "images/CLASS/*.jpg and training_testing_split/training.txt and testing.txt with lines CLASS/FILE"
_LISTS = {"train": "training_testing_split/training.txt", "test": "training_testing_split/testing.txt"}


def recognise(path: Path) -> bool:
    """The images and both lists are there."""
    return (path / "images").is_dir() and all((path / name).is_file() for name in _LISTS.values())


def read(path: Path, *, config: DataConfig) -> Dataset:
    """Train and test by the official lists."""
    schema = SCHEMAS["emotionroi"]
    splits: dict[str, list[Record]] = {}
    for split, name in _LISTS.items():
        splits[split] = []
        for where, row in cells(path / name, delimiter="\t"):
            file = row[0].strip()
            label = find(file.partition("/")[0].lower(), schema.names)
            if label is None or "/" not in file:
                raise DataError(
                    f"{where}: expected CLASS/FILE with a class of {', '.join(schema.names)}; found {file!r}"
                )
            splits[split].append(Record(f"images/{file}", label, where))
    return common.dataset(path, splits, schema=schema, config=config)
