"""FI (Flickr and Instagram): folders of Mikels' eight emotions, or a table of names, emotions and polarities."""

from __future__ import annotations

import hashlib
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.csv_table import cells
from emojax.data.published import common
from emojax.data.published.common import Record
from emojax.data.schemas import SCHEMAS, at_level, find
from emojax.errors import DataError
from emojax.types import Dataset

_SCHEMA = SCHEMAS["fi"]
_TITLES = ("emotion", "label", "class", "category", "sentiment")
"""What the column of emotions is called; anything else in the first row is a record, mistyped or not."""
EXPECTED = (
    f"eight class folders ({', '.join(_SCHEMA.names)}), also below emotion_dataset/, or a .csv of image, emotion and "
    "polarity (three columns)"
)


def recognise(path: Path) -> bool:
    """The eight folders, or one table of three columns whose second names an emotion."""
    return _home(path) is not None or _table(path) is not None


def certain(path: Path) -> bool:
    """As `recognise`; a table must say positive or negative, since any table may have three columns."""
    file = _table(path)
    return recognise(path) and (file is None or _some(file)[-1][1][2].strip().lower() in ("positive", "negative"))


def read(path: Path, *, config: DataConfig) -> Dataset:
    """One split: the usual one is 80 / 5 / 15, `config.data.val_fraction=0.05 --config.data.test_fraction=0.15`."""
    home, file = _home(path), _table(path)
    root = home or (file.parent if file else path)
    records = _listed(file) if file else _folders(root)
    listed = hashlib.sha256("\n".join(sorted(f"{r.file}\t{r.label}" for r in records)).encode(errors="surrogateescape"))
    # FI was released as a list of links, many of which are dead: every copy holds other images.
    note = (
        f"{len(records):,} of the 23,308 published images; SHA-256 of their names and labels {listed.hexdigest()[:16]}"
    )
    return common.dataset(root, {"": records}, schema=_SCHEMA, config=config, notes=(note,))


def _home(path: Path) -> Path | None:
    return next((home for home in (path, path / "emotion_dataset") if set(_classes(home)) == set(_SCHEMA.names)), None)


def _classes(home: Path) -> dict[str, str]:
    """{class: its folder}, in whatever case; a folder that is no class stands for itself."""
    return {name.lower(): name for name in common.folders(home)}


def _table(path: Path) -> Path | None:
    files = [path] if path.is_file() else sorted(path.glob("*.csv")) if path.is_dir() else []
    if len(files) != 1 or files[0].suffix.lower() != ".csv":
        return None
    try:
        found = [row for _, row in _some(files[0])]
    except DataError:
        return None
    return (
        files[0]
        if found and all(len(row) == 3 for row in found) and find(found[-1][1].strip(), _SCHEMA.names)
        else None
    )


def _some(file: Path) -> list[tuple[str, list[str]]]:
    """The first two rows: a header may be one of them."""
    return [pair for _, pair in zip(range(2), cells(file), strict=False)]


def _folders(home: Path) -> list[Record]:
    return [
        Record(f"{folder}/{image}", name, str(home / folder / image))
        for name, folder in sorted(_classes(home).items())
        for image in common.pictures(home / folder)
    ]


def _listed(file: Path) -> list[Record]:
    records = []
    for position, (where, row) in enumerate(cells(file)):
        if len(row) != 3:
            raise DataError(f"{where}: expected image, emotion and polarity; found {len(row)} cells")
        name, emotion, polarity = (cell.strip() for cell in row)
        label = find(emotion.lower(), _SCHEMA.names)
        if position == 0 and emotion.lower() in _TITLES:  # the header
            continue
        if label is None:
            raise DataError(f"{where}: emotion {emotion!r}; expected one of {', '.join(_SCHEMA.names)}")
        own = at_level(label, "polarity")
        if polarity.lower() in ("positive", "negative") and polarity.lower() != own:
            raise DataError(
                f"{where}: {emotion} is called {polarity}, but it is {own}: the columns do not belong together"
            )
        records.append(Record(name, label, where))
    return records
