"""RAF-DB: basic (seven classes, numbered from 1) and compound (eleven), as released and as copied to Kaggle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emojax.config import DataConfig
from emojax.data.csv_table import cells, rows
from emojax.data.published import common
from emojax.data.published.common import Record
from emojax.data.schemas import SCHEMAS, Schema
from emojax.errors import DataError
from emojax.types import Dataset

LIST = Path("EmoLabel") / "list_patition_label.txt"  # the typo is the authors'
EXPECTED = (
    f"{LIST} with labels 1 to 7 and Image/aligned/ (or Image/original/), or train/1..7/ and test/1..7/ with "
    "train_labels.csv and test_labels.csv"
)
_KINDS = 3
"""Different labels above 7 that tell the compound set from the basic one: it has four."""
COMPOUND = f"{LIST} with labels 1 to 11 and Image/aligned/ (or Image/original/)"


def recognise(path: Path) -> bool:
    """The official list with fewer than three labels above 7, which are errors then; or Kaggle's numbered folders."""
    home = _official(path, "basic")
    return _kaggle(path) is not None or (home is not None and _above_seven(home / LIST) < _KINDS)


def certain(path: Path) -> bool:
    """As `recognise`; numbered folders alone could be anything, the label files beside them are Kaggle's."""
    home = _kaggle(path)
    return recognise(path) and (home is None or _label_file(home, "train") is not None)


def recognise_compound(path: Path) -> bool:
    """The official list with labels above 7: one may be all that a part of the data has left."""
    home = _official(path, "compound")
    return home is not None and _above_seven(home / LIST) > 0


def certain_compound(path: Path) -> bool:
    """As `recognise_compound`; of labels above 7, one or two may be mistyped ones of the basic set."""
    home = _official(path, "compound")
    return home is not None and _above_seven(home / LIST) >= _KINDS


def read(path: Path, *, config: DataConfig) -> Dataset:
    """RAF-DB basic: train and test; there is no official val split."""
    home = _kaggle(path)
    if home is not None:
        return _read_kaggle(home, config)
    return _read_official(_official(path, "basic") or path, SCHEMAS["rafdb"], config)


def read_compound(path: Path, *, config: DataConfig) -> Dataset:
    """RAF-DB compound: train and test."""
    return _read_official(_official(path, "compound") or path, SCHEMAS["rafdb_compound"], config)


def _official(path: Path, part: str) -> Path | None:
    return next((home for home in (path, path / part) if (home / LIST).is_file()), None)


def originals(path: Path) -> Iterator[tuple[Path, str]] | None:
    """(folder of the release, name) of every picture of the official list; None when `path` has another layout, or has
    no `Image/original/`, whose pixels the annotations count."""
    home = _official(path, "basic") or _official(path, "compound")
    if home is None or not (home / "Image" / "original").is_dir():
        return None
    return ((home, row[0]) for _, row in cells(home / LIST, delimiter=" ") if row and row[0].strip())


def landmarks(home: Path, name: str) -> np.ndarray | None:
    """float64 [5, 2]: eyes, nose and corners of the mouth of `Image/original/name`, from the manual annotation, whose
    first five lines hold x and y; None when there is none."""
    file = home / "Annotation" / "manual" / f"{Path(name).stem}_manu_attri.txt"
    if not file.is_file():
        return None
    try:
        lines = file.read_text(encoding="utf-8").split("\n")[:5]
        points = np.array([[float(number) for number in line.split()] for line in lines])
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: expected five lines of x and y: {error}") from error
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise DataError(f"{file}: expected five lines of x and y, found {list(points.shape)} numbers")
    return points


def _kaggle(path: Path) -> Path | None:
    numbers = set("1234567")
    return next(
        (
            home
            for home in (path / "DATASET", path)
            if all(set(common.folders(home / split)) == numbers for split in ("train", "test"))
        ),
        None,
    )


def _label_file(home: Path, split: str) -> Path | None:
    return common.first(home / f"{split}_labels.csv", home.parent / f"{split}_labels.csv")


def _above_seven(file: Path) -> int:
    """How many different ones of the labels 8 to 11 a list has."""
    try:
        found = {next((cell for cell in reversed(row) if cell.strip()), "") for _, row in cells(file, delimiter=" ")}
    except DataError:
        return 0
    return len(found & {"8", "9", "10", "11"})


def _read_official(home: Path, schema: Schema, config: DataConfig) -> Dataset:
    aligned = (home / "Image" / "aligned").is_dir()
    splits: dict[str, list[Record]] = {"train": [], "test": []}
    for where, row in cells(home / LIST, delimiter=" "):
        parts = [cell for cell in row if cell.strip()]
        if len(parts) != 2:
            raise DataError(
                f"{where}: expected an image and a label, such as 'train_00001.jpg 5'; found {' '.join(row)!r}"
            )
        name, split = parts[0], parts[0].partition("_")[0]
        if split not in splits:
            raise DataError(f"{where}: image {name!r}: expected a name that begins with train_ or test_")
        stem, dot, suffix = name.rpartition(".")
        file = f"Image/aligned/{stem}_aligned{dot}{suffix}" if aligned else f"Image/original/{name}"
        splits[split].append(Record(file, str(common.decoded(parts[1], schema, where)), where))
    note = f"{'aligned' if aligned else 'original, not aligned,'} images; published numbers are on the aligned ones"
    return common.dataset(home, splits, schema=schema, config=config, notes=(note,))


def _read_kaggle(home: Path, config: DataConfig) -> Dataset:
    schema = SCHEMAS["rafdb"]
    splits: dict[str, list[Record]] = {}
    for split in ("train", "test"):
        found: dict[str, tuple[str, str]] = {}
        for code in common.folders(home / split):
            for name in common.pictures(home / split / code):
                if name in found:
                    raise DataError(
                        f"{home / split / code / name}: lies in {split}/{found[name][0]} too; which is right?"
                    )
                found[name] = (code, schema.name_of()[code])
        listed = _label_file(home, split)
        for where, row in rows(listed, ["image", "label"]) if listed else ():
            name, code = row["image"].strip(), row["label"].strip()
            if name in found and found[name][0] != code:
                raise DataError(f"{where}: {name} has the label {code}, but lies in {split}/{found[name][0]}")
            found.setdefault(name, (code, str(common.decoded(code, schema, where))))
        splits[split] = [
            Record(f"{split}/{code}/{name}", label, str(home / split / code / name))
            for name, (code, label) in sorted(found.items())
        ]
    return common.dataset(home, splits, schema=schema, config=config, notes=("Kaggle's copy",))
