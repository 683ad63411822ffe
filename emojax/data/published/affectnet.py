"""AffectNet: the original tables, the release of 2021 with one small file per annotation, and copies in folders."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.csv_table import cells, rows
from emojax.data.published import common, npy_index
from emojax.data.published.common import Record
from emojax.data.published.faces import Face, Faces
from emojax.data.schemas import SCHEMAS, find
from emojax.data.storage import Files, Root, printable
from emojax.data.tables import SPLITS, Table, assemble
from emojax.errors import DataError
from emojax.types import Dataset

EXPECTED = (
    "training.csv and validation.csv (subDirectory_filePath,...,expression,valence,arousal) with "
    "Manually_Annotated_Images/, or train_set/ and val_set/ with images/ and annotations/*_exp.npy, or train/0..7/ and "
    "val/0..7/, or labels.csv (pth,label,relFCs)"
)
_SCHEMA = SCHEMAS["affectnet"]
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip
_TABLES = {"train": "training.csv", "val": "validation.csv"}
_LISTS = ("", "Manually_Annotated_file_lists", "Automatically_Annotated_file_lists")
_IMAGES = ("Manually_Annotated_Images", "Automatically_Annotated_Images")
_SETS = {"train": "train_set", "val": "val_set"}


def recognise(path: Path) -> bool:
    """One of the four layouts."""
    return _is_original(path) or _is_npy(path) or _is_listed(path) or _are_numbered(path)


def certain(path: Path) -> bool:
    """As `recognise`; numbered folders could be anything, unless a folder's name says AffectNet."""
    named = any("affectnet" in part.lower() for part in path.absolute().parts[-3:])
    return _is_original(path) or _is_npy(path) or _is_listed(path) or (named and _are_numbered(path))


def read(path: Path, *, config: DataConfig) -> Dataset:
    """Eight classes, or fewer by `config.classes`; records without an expression of the list are left out."""
    if _is_original(path):
        return _read_original(path, config)
    if _is_npy(path):
        return _read_npy(path, config)
    return _read_listed(path, config) if _is_listed(path) else _read_numbered(path, config)


def _lists(path: Path) -> Path | None:
    """The folder of the lists: one of both is enough, as where a model is judged on the validation part alone."""
    return next((path / name for name in _LISTS if _list_in(path / name)), None)


def _list_in(folder: Path) -> Path | None:
    return next((folder / name for name in _TABLES.values() if (folder / name).is_file()), None)


def _is_original(path: Path) -> bool:
    home = _lists(path)
    file = _list_in(home) if home else None
    if file is None:
        return False
    top = common.header(file)
    # Some copies have no header: then the first row is a record.
    return top[:1] == [COLUMNS[0]] or (len(top) == len(COLUMNS) and "/" in top[0] and top[6].isdigit())


def _is_npy(path: Path) -> bool:
    return all((path / "train_set" / name).is_dir() for name in ("images", "annotations"))


def _is_listed(path: Path) -> bool:
    return (path / "labels.csv").is_file() and {"pth", "label", "relFCs"} <= set(common.header(path / "labels.csv"))


def _are_numbered(path: Path) -> bool:
    found = [common.folders(path / split) for split in ("train", "val")]
    return all(set("0123456") <= set(names) <= set(_SCHEMA.codes) for names in found)


def _read_original(path: Path, config: DataConfig) -> Dataset:
    home = _lists(path) or path
    base = next((name for name in _IMAGES if (path / name).is_dir()), "")
    root, tables, notes = Root(path), {}, []
    for split, name in _TABLES.items():
        if not (home / name).is_file():
            continue
        tables[split], dropped = _table(root, base, home / name, config)
        notes += [f"{split}: {dropped:,} records without an expression of the list or a face box were left out"]
    return assemble(_SCHEMA.title, tables, config=config, notes=notes)


def _table(root: Root, base: str, file: Path, config: DataConfig) -> tuple[Table, int]:
    """The usable records of one list, and how many there were besides. Several faces may be in one picture."""
    files, labels, faces, places, ids, dropped = [], [], [], [], [], 0
    scales: dict[str, list[str]] = {name: [] for name in ("valence", "arousal") if name in config.slice_columns}
    seen: dict[str, int] = {}
    known: dict[tuple[str, tuple[int, ...]], str] = {}
    for where, row in _original_rows(file):
        label = common.decoded(row["expression"], _SCHEMA, where)
        face = Face.parse(row, where)
        if label is None or face is None:
            dropped += 1
            continue
        name = row[COLUMNS[0]].strip()
        try:
            files.append(root.resolve(f"{base}/{name}" if base else name))
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        if (name, face.box) in known:
            raise DataError(f"{where}: the face {face.box} of {name!r} is already listed in {known[name, face.box]}")
        known[name, face.box] = where
        seen[name] = seen.get(name, 0) + 1
        ids.append(printable(name) + (f"#{seen[name]}" if seen[name] > 1 else ""))
        labels.append(label)
        faces.append(face)
        places.append(where)
        for scale, column in scales.items():
            column.append(_scale(row[scale].strip(), scale, where))
    found = Files.of(root.real, files)
    images = found if config.face == "whole" else Faces.of(found, faces, level=config.face == "eyes")
    table = Table(images=images, ids=ids, label=labels, names=_SCHEMA.names, slices=scales, where=places.__getitem__)
    return table, dropped


def _scale(text: str, name: str, where: str) -> str:
    """Valence or arousal as the file has it, "" for -2, not given."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if value != -2 and not -1 <= value <= 1:
        raise DataError(f"{where}: {name} {text!r}; expected a number from -1 to 1, or -2 for not given")
    return "" if value == -2 else text


def _original_rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(place, {column: cell}), with or without a header."""
    if common.header(file)[:1] == [COLUMNS[0]]:
        yield from rows(file, list(COLUMNS))
        return
    for where, row in cells(file):
        if len(row) != len(COLUMNS):
            raise DataError(f"{where}: {len(row)} cells; expected {','.join(COLUMNS)}")
        yield where, dict(zip(COLUMNS, row, strict=True))


def originals(path: Path) -> Iterator[tuple[Path, str, dict[str, str]]] | None:
    """(list, place, row) of every row of the original lists, in their order, with the picture's path relative to `path`
    as `file` besides; None when `path` has another layout."""
    home = _lists(path) if _is_original(path) else None
    if home is None:
        return None
    base = next((name for name in _IMAGES if (path / name).is_dir()), "")
    return (
        (home / name, where, {**row, "file": f"{base}/{row[COLUMNS[0]].strip()}" if base else row[COLUMNS[0]].strip()})
        for name in _TABLES.values()
        if (home / name).is_file()
        for where, row in _original_rows(home / name)
    )


def _read_npy(path: Path, config: DataConfig) -> Dataset:
    splits: dict[str, list[Record]] = {}
    for split, name in _SETS.items():
        if not (path / name).is_dir():
            continue
        codes = npy_index.read(path / name / "annotations")
        splits[split] = []
        for image in common.pictures(path / name / "images"):
            number = image.rpartition(".")[0]
            where = f"{path / name / 'annotations' / number}_exp.npy"
            if number not in codes:
                raise DataError(f"{where}: there is no such file for images/{image}")
            label = common.decoded(codes[number], _SCHEMA, where)
            if label is not None:
                splits[split].append(Record(f"{name}/images/{image}", label, where))
    return common.dataset(path, splits, schema=_SCHEMA, config=config)


def _read_numbered(path: Path, config: DataConfig) -> Dataset:
    splits: dict[str, list[Record]] = {}
    notes: list[str] = []
    for split in SPLITS:
        if not (path / split).is_dir():
            continue
        splits[split] = []
        for code in common.folders(path / split):
            folder = path / split / code
            label, images = common.decoded(code, _SCHEMA, str(folder)), common.pictures(folder)
            if label is None:
                notes.append(f"{split}/{code}: {len(images):,} images without an expression of the list were left out")
                continue
            splits[split] += [Record(f"{split}/{code}/{image}", label, str(folder / image)) for image in images]
    return common.dataset(path, splits, schema=_SCHEMA, config=config, notes=notes)


def _read_listed(path: Path, config: DataConfig) -> Dataset:
    """Kaggle's copy: folders of names, and labels that were predicted again; `label` counts, not the folder."""
    records, moved = [], 0
    for where, row in rows(path / "labels.csv", ["pth", "label"]):
        file, label = row["pth"].strip(), find(row["label"].strip().lower(), _SCHEMA.names)
        if label is None:
            raise DataError(f"{where}: label {row['label']!r}; expected one of {', '.join(_SCHEMA.names)}")
        moved += find(file.split("/")[-2].lower() if "/" in file else "", _SCHEMA.names) != label
        records.append(Record(file, label, where))
    note = f"labels of labels.csv; {moved:,} of {len(records):,} images lie in the folder of another class"
    return common.dataset(path, {"": records}, schema=_SCHEMA, config=config, notes=(note,))
