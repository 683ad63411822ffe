"""Emotion6: seven shares of votes per image, with valence and arousal."""

from __future__ import annotations

import math
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.csv_table import cells
from emojax.data.published import common
from emojax.data.schemas import SCHEMAS, find
from emojax.data.storage import Files, Root, printable
from emojax.data.tables import Table, assemble
from emojax.errors import DataError
from emojax.types import Dataset

EXPECTED = "images/CLASS/N.jpg and ground_truth.txt (tab-separated: file, valence, arousal, seven shares)"
_SCALES = ("valence", "arousal")
_ROUNDING = 0.02
"""By which seven rounded shares may miss a sum of 1."""


def recognise(path: Path) -> bool:
    """Both are there, and the first row of the table has ten cells."""
    file = path / "ground_truth.txt"
    return (path / "images").is_dir() and file.is_file() and len(common.header(file, delimiter="\t")) == 10


def read(path: Path, *, config: DataConfig) -> Dataset:
    """One split with soft labels. `slice_columns` may name valence and arousal, text as in the file."""
    schema, root = SCHEMAS["emotion6"], Root(path)
    order, files, votes, places = schema.names, [], [], []
    scales: dict[str, list[str]] = {name: [] for name in _SCALES}
    seen: dict[str, str] = {}
    for where, row in cells(path / "ground_truth.txt", delimiter="\t"):
        if len(row) != 10:
            raise DataError(f"{where}: {len(row)} cells; expected file, valence, arousal and seven shares")
        if "/" not in row[0]:  # the header: "[image_filename] [valence] [arousal] [prob. anger] ..."
            order = _order(row[3:], schema.names, where)
            continue
        files.append(common.listed_image(root, f"images/{row[0].strip()}", where, seen))
        votes.append([_number(row[3 + order.index(name)], f"the share of {name}", where) for name in schema.names])
        if abs(sum(votes[-1]) - 1) > _ROUNDING:
            raise DataError(f"{where}: the seven shares sum to {sum(votes[-1]):g}; expected 1")
        places.append(where)
        for name, text in zip(_SCALES, row[1:3], strict=True):
            _number(text, name, where)
            scales[name].append(text.strip())
    table = Table(
        images=Files.of(root.real, files),
        ids=[printable(file) for file in files],
        votes=votes,
        names=schema.names,
        slices={name: column for name, column in scales.items() if name in config.slice_columns},
        where=places.__getitem__,
    )
    return assemble(schema.title, {"": table}, config=config)


def _number(text: str, what: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise DataError(f"{where}: {what} is {text!r}; expected a number from 0")
    return value


def _order(header: list[str], names: tuple[str, ...], where: str) -> tuple[str, ...]:
    """The classes as the header has them: its order counts, not the usual one."""
    found = tuple(
        find(cell.strip().strip("[]").removeprefix("prob.").strip().lower(), names) or cell for cell in header
    )
    if set(found) != set(names):
        raise DataError(f"{where}: the columns are {', '.join(header)}; expected shares of {', '.join(names)}")
    return found
