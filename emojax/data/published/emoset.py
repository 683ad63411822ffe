"""EmoSet-118K: lists of images in JSON, and attributes in one JSON file per image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emojax.config import DataConfig
from emojax.data.published import common
from emojax.data.published.common import Record
from emojax.data.schemas import SCHEMAS, find
from emojax.data.tables import SPLITS
from emojax.errors import DataError
from emojax.files import parse_json
from emojax.types import Dataset

EXPECTED = "info.json, train.json, val.json, test.json, image/CLASS/*.jpg and annotation/CLASS/*.json"
ATTRIBUTES = ("brightness", "colorfulness", "scene", "facial_expression", "human_action")
"""What `slice_columns` may name. `object` is a list, and no slice."""


def recognise(path: Path) -> bool:
    """The list of classes, a list of images and the images are there."""
    return (path / "info.json").is_file() and (path / "train.json").is_file() and (path / "image").is_dir()


def read(path: Path, *, config: DataConfig) -> Dataset:
    """The official splits. Attributes named by `slice_columns` are read from every annotation (118,102 small files)."""
    schema = SCHEMAS["emoset"]
    _check_order(path / "info.json")
    wanted = [name for name in config.slice_columns if name in ATTRIBUTES]
    splits: dict[str, list[Record]] = {}
    for split in SPLITS:
        file = path / f"{split}.json"
        if not file.is_file():
            continue
        entries = _load(file)
        if not isinstance(entries, list):
            raise DataError(f"{file}: expected a list of [emotion, image, annotation]")
        splits[split] = []
        for i, entry in enumerate(entries):
            where = f"{file}: entry {i}"
            # The authors' page shows [emotion, id, image, annotation]; their files have had three items too.
            if not isinstance(entry, list) or len(entry) not in (3, 4):
                raise DataError(
                    f"{where}: expected [emotion, image, annotation], with or without an id; found {entry!r}"
                )
            label = find(str(entry[0]).lower(), schema.names) or common.decoded(str(entry[0]), schema, where)
            slices = _attributes(path / str(entry[-1]), wanted) if wanted else {}
            splits[split].append(Record(str(entry[-2]), str(label), where, slices))
    return common.dataset(path, splits, schema=schema, config=config)


def _check_order(file: Path) -> None:
    """Refuses an `info.json` that numbers the emotions in another way than published."""
    info = _load(file)
    numbers = info.get("label2idx") if isinstance(info, dict) else None
    schema = SCHEMAS["emoset"]
    for name, number in numbers.items() if isinstance(numbers, dict) else ():
        own = find(str(name).lower(), schema.names)
        if own is not None and schema.name_of().get(str(number)) != own:
            raise DataError(f"{file}: {name} has the number {number}; EmoSet's order is {', '.join(schema.names)}")


def _attributes(file: Path, wanted: list[str]) -> dict[str, str]:
    """The wanted attributes of one image; those that it does not have are empty."""
    values = _load(file)
    if not isinstance(values, dict):
        raise DataError(f"{file}: expected an object with attributes")
    return {name: str(values.get(name, "")) for name in wanted}


def _load(file: Path) -> Any:
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable JSON: {error}") from error
