"""What every reader produces, and how tables become splits with one list of classes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emojax.config import DataConfig
from emojax.data import labels, schemas, votes
from emojax.errors import DataError
from emojax.types import Dataset, Split

_ALIASES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
SPLITS = ("train", "val", "test")


def split_name(text: str) -> str | None:
    """train, val or test for any of their usual names in any case; None for anything else."""
    return _ALIASES.get(text.strip().lower())


@dataclasses.dataclass(slots=True, kw_only=True)
class Table:
    """Records as a reader found them, N rows.

    Attributes:
      images: sequence as in `Split.images`.
      ids: N names, unique.
      label: N class names or ids, or None when there are votes.
      votes: N rows of K numbers, or None.
      names: class names that the file itself states, or ().
      slices: column -> N strings.
      split: N split names as written, or None.
      where: position -> "file:line".
    """

    images: Any
    ids: Sequence[str]
    label: Sequence[Any] | None = None
    votes: Sequence[Any] | None = None
    names: tuple[str, ...] = ()
    slices: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    split: Sequence[str] | None = None
    where: Callable[[int], str]


def group_columns(config: DataConfig) -> tuple[str, ...]:
    """The columns that a table must have because of `config.group_column`: one or none."""
    return (config.group_column,) if config.group_column else ()


def split_files(path: Path, suffix: str) -> dict[str, list[Path]]:
    """The files of a table data set: `path` itself as {"": [path]}, or the files of a folder by split.

    In a folder, `train.csv` and shards such as `train-00000-of-00002.parquet` count; the shards of a split are sorted.
    Raises `DataError` when a folder has no such files.
    """
    if path.is_file():
        return {"": [path]}
    found: dict[str, list[Path]] = {}
    for file in sorted(path.glob("*")):
        match = re.fullmatch(r"([a-z]+)(?:-\d+-of-\d+)?", file.stem.lower())
        name = split_name(match[1]) if match and file.suffix.lower() == suffix else None
        if name:
            found.setdefault(name, []).append(file)
    if not found:
        raise DataError(f"{path}: expected files named train{suffix}, val{suffix}, test{suffix}; there are none")
    if "train" not in found:
        raise DataError(f"{path}: found {', '.join(sorted(found))} but no train{suffix}")
    return {name: found[name] for name in SPLITS if name in found}


def assemble(name: str, tables: Mapping[str, Table], *, config: DataConfig, notes: Sequence[str] = ()) -> Dataset:
    """One table per split, or one table under "" with or without a split column, as a `Dataset` with shared classes.

    Classes are `config.classes`, else what the first table states, else the distinct labels of all tables.
    """
    columns = tuple(config.classes or next(iter(tables.values())).names or _infer(tables))
    if not config.classes:
        _check_case(name, columns)
    names = tuple(c for c in columns if not (config.vote_rule and schemas.is_no_class(c)))
    splits: dict[str, Split] = {}
    notes = list(notes)
    for key, table in tables.items():
        if config.vote_rule and table.votes is None:
            raise DataError(
                f"config.data.vote_rule = {config.vote_rule}: {name} has no votes (config.data.vote_columns)"
            )
        whole = _split(key or "train", table, columns, counts=bool(config.vote_rule))
        if key or table.split is None:
            splits[whole.name] = whole
            continue
        found = np.array([split_name(text) or "" for text in table.split])
        if (bad := np.flatnonzero(found == "")).size:
            i = int(bad[0])
            raise DataError(f"{table.where(i)}: split {table.split[i]!r} is not one of train, val, test")
        splits = {s: whole.take(np.flatnonzero(found == s), name=s) for s in SPLITS if (found == s).any()}
    if config.vote_rule:
        splits, told = _by_rule(splits, columns, names, config)
        notes += told
    return Dataset(name=name, class_names=names, splits=splits, notes=tuple(notes))


def _check_case(name: str, classes: Sequence[str]) -> None:
    """Refuses two classes that are surely one, written in two ways."""
    seen: dict[str, str] = {}
    for other in classes:
        if (one := seen.setdefault(other.casefold(), other)) != other:
            raise DataError(
                f"{name}: the classes {one!r} and {other!r} differ in upper and lower case only: write them alike, or "
                "name both in config.data.classes where they are two"
            )


def _infer(tables: Mapping[str, Table]) -> tuple[str, ...]:
    for table in tables.values():
        if table.label is None:
            count = len(table.votes[0]) if table.votes is not None and len(table.votes) else 0
            raise DataError(f"the {count} vote classes have no names: set config.data.classes")
    return labels.infer_names([value for table in tables.values() for value in table.label or ()])


def _by_rule(
    splits: Mapping[str, Split], columns: tuple[str, ...], names: tuple[str, ...], config: DataConfig
) -> tuple[dict[str, Split], list[str]]:
    """Splits whose labels are counts of votes for `columns`, with labels over the classes `names`; and notes."""
    order = [columns.index(name) for name in names] + [i for i, column in enumerate(columns) if column not in names]
    out: dict[str, Split] = {}
    notes = []
    for key, split in splits.items():
        rule = config.vote_rule if key == "train" else config.vote_rule_eval or config.vote_rule
        label, kept = votes.apply(split.label[:, order], len(names), rule)
        out[key] = dataclasses.replace(split.take(kept), label=label)
        notes.append(f"{key}: {len(kept):,} of {len(split):,} records have a label by the rule {rule}")
    return out, notes


def _split(name: str, table: Table, names: tuple[str, ...], *, counts: bool) -> Split:
    """One table as a split; with `counts`, `label` is float64 [N, columns], the votes as they are."""
    if table.votes is not None and counts:
        label = labels.checked_votes(table.votes, names=names, where=table.where)
    elif table.votes is not None:
        label = labels.from_votes(table.votes, names=names, where=table.where)
    else:
        ids = labels.class_ids(table.label or (), names=names, where=table.where)
        label = labels.one_hot(ids, len(names))
    return Split(
        name=name,
        images=table.images,
        label=label,
        weight=np.ones(len(label), np.float32),
        id=np.array(table.ids, dtype=np.str_),
        slices={key: np.array(column, dtype=np.str_) for key, column in table.slices.items()},
    )
