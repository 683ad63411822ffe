"""Published data sets as their authors (and the copies that people pass on) lay them out: one reader per file.

A reader has `EXPECTED`, what its layouts look like; `recognise(path)`, whether this is one; and `read(path, config=)`,
which turns numbers into the names of its schema before anything else happens. A new data set is one file and one line.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from emojax.config import DataConfig
from emojax.data import selection
from emojax.data.published import affectnet, ckplus, emoset, emotion6, emotionroi, fer2013, ferplus, fi, rafdb
from emojax.data.published.common import listing
from emojax.data.schemas import SCHEMAS
from emojax.errors import DataError
from emojax.types import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How one published data set lies on a disk.

    Attributes:
      expected: its layouts, for messages.
      recognise: path -> whether it is one of them; looks at names and headers only.
      certain: path -> whether `format=auto` may decide so by itself.
      read: (path, config=) -> the data set with the classes of its schema; ignores `config.classes`.
    """

    expected: str
    recognise: Callable[[Path], bool]
    certain: Callable[[Path], bool]
    read: Callable[..., Dataset]


def _layout(module: object) -> Layout:
    recognise = getattr(module, "recognise")  # noqa: B009 (modules as values have no static type)
    return Layout(
        expected=getattr(module, "EXPECTED"),  # noqa: B009
        recognise=recognise,
        certain=getattr(module, "certain", recognise),
        read=getattr(module, "read"),  # noqa: B009
    )


LAYOUTS: dict[str, Layout] = {
    "affectnet": _layout(affectnet),
    "rafdb": Layout(rafdb.EXPECTED, rafdb.recognise, rafdb.certain, rafdb.read),
    "rafdb_compound": Layout(rafdb.COMPOUND, rafdb.recognise_compound, rafdb.certain_compound, rafdb.read_compound),
    "ferplus": _layout(ferplus),  # before fer2013, whose pixels lie beside FER+'s votes
    "fer2013": _layout(fer2013),
    "ckplus": _layout(ckplus),
    "emoset": _layout(emoset),
    "emotionroi": _layout(emotionroi),
    "emotion6": _layout(emotion6),
    "fi": _layout(fi),
}
"""config.data.format -> layout; `auto` takes the first that is certain."""


def recognise(path: Path) -> str | None:
    """The name of the published layout that `path` certainly has, or None."""
    return next((name for name, layout in LAYOUTS.items() if layout.certain(path)), None)


def read(name: str, path: Path, *, config: DataConfig) -> Dataset:
    """Reads a published layout; `config.classes` chooses and orders its classes. Raises `DataError` for another one."""
    layout = LAYOUTS[name]
    if not layout.recognise(path):
        raise DataError(f"{path}: config.data.format = {name} expects {layout.expected}; found {listing(path)}")
    dataset = layout.read(path, config=dataclasses.replace(config, classes=()))
    schema = f"classes of {SCHEMAS[name].title} in its order: {', '.join(dataset.class_names)}"
    dataset = dataclasses.replace(dataset, notes=(schema, *dataset.notes))
    if config.classes:
        dataset = selection.choose(dataset, config.classes, where="config.data.classes")
    return dataset
