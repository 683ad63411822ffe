"""EmoSet-118K: lists of images in JSON, and attributes in one JSON file per image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emojax.config import DataConfig
from emojax.data.published import common
from emojax.data.published.common import Record
from emojax.data.schemas import SCHEMAS, find
from emojax.data.storage import Root
from emojax.data.tables import SPLITS
from emojax.errors import DataError
from emojax.files import parse_json
from emojax.types import Dataset

EXPECTED = "info.json, train.json, val.json, test.json, image/CLASS/*.jpg and annotation/CLASS/*.json"
ATTRIBUTES = ("brightness", "colorfulness", "scene", "facial_expression", "human_action")
"""What `slice_columns` may name. `object` is a list, and no slice."""


def recognise(path: Path) -> bool:
    """A list of images, the images, and annotations or the list of classes are there."""
    rest = (path / "annotation").is_dir() or (path / "info.json").is_file()
    return rest and (path / "train.json").is_file() and (path / "image").is_dir()


def read(path: Path, *, config: DataConfig) -> Dataset:
    """The official splits. Attributes named by `slice_columns` are read from every annotation (118,102 small files),
    whose emotion must then be that of the list."""
    schema, root, notes = SCHEMAS["emoset"], Root(path), []
    if (path / "info.json").is_file():
        _check_order(path / "info.json")
    else:
        notes.append("there is no info.json, so that the numbers of the emotions were not compared with it")
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
            image, annotation = entry[-2:]
            if not isinstance(image, str) or not isinstance(annotation, str):
                raise DataError(f"{where}: image and annotation must be paths; found {image!r} and {annotation!r}")
            label = find(str(entry[0]).lower(), schema.names) or common.decoded(str(entry[0]), schema, where)
            folder = find(image.split("/")[-2].lower(), schema.names) if "/" in image else None
            if folder not in (None, label):
                raise DataError(f"{where}: {label}, but the image is {image}: which of the two is it?")
            slices = _attributes(root, annotation, wanted, str(label), where) if wanted else {}
            splits[split].append(Record(image, str(label), where, slices))
    return common.dataset(path, splits, schema=schema, config=config, notes=notes)


def _check_order(file: Path) -> None:
    """Refuses an `info.json` that numbers the emotions in another way than published, or not all of them."""
    info = _load(file)
    schema = SCHEMAS["emoset"]
    numbers, names = (info.get(key) if isinstance(info, dict) else None for key in ("label2idx", "idx2label"))
    pairs = [*(numbers.items() if isinstance(numbers, dict) else ())]
    pairs += [(name, number) for number, name in (names.items() if isinstance(names, dict) else ())]
    pairs += [(name, number) for number, name in (enumerate(names) if isinstance(names, list) else ())]
    known = {find(str(name).lower(), schema.names) for name, _ in pairs}
    if missing := [name for name in schema.names if name not in known]:
        raise DataError(f"{file}: expected label2idx or idx2label with all emotions; without {', '.join(missing)}")
    for name, number in pairs:
        own = find(str(name).lower(), schema.names)
        if own is not None and schema.name_of().get(str(number)) != own:
            raise DataError(f"{file}: {name} has the number {number}; EmoSet's order is {', '.join(schema.names)}")


def _attributes(root: Root, name: str, wanted: list[str], label: str, where: str) -> dict[str, str]:
    """The wanted attributes of one image; those that it does not have are empty. Raises `DataError` where its emotion
    is another than `label`."""
    try:
        file = Path(root.real) / root.resolve(name)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    values = _load(file)
    if not isinstance(values, dict):
        raise DataError(f"{file}: expected an object with attributes")
    if "emotion" in values and find(str(values["emotion"]).lower(), SCHEMAS["emoset"].names) != label:
        raise DataError(f"{where}: {label}, but {file} has the emotion {values['emotion']!r}: which of the two is it?")
    return {name: str(values.get(name, "")) for name in wanted}


def _load(file: Path) -> Any:
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: not readable JSON: {error}") from error
