"""What is wrong with a data set as a whole: outliers, copies, conflicting labels, leaks; and splits without them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from emojax.data import copies
from emojax.data.checks import Progress
from emojax.data.copies import Copies
from emojax.data.corrections import Row
from emojax.types import Dataset


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One record in a finding: its split, its id, its class (the first of several equal ones), and what to know."""

    split: str
    id: str
    label: str
    detail: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Audit:
    """The findings about N records.

    Attributes:
      records: of all splits, end to end.
      copies: which of them show the same picture.
      sizes, brightness: (record, what stands out).
      flat: records whose picture shows nothing, such as one colour.
      group: int64 [N], records that show one picture have one number.
      leaked: bool [N], as `Copies.leaked`.
      conflicting: bool [N], another record of the group has another class.
    """

    records: tuple[Record, ...]
    copies: Copies
    sizes: tuple[tuple[int, str], ...]
    brightness: tuple[tuple[int, str], ...]
    flat: tuple[int, ...]
    group: np.ndarray
    leaked: np.ndarray
    conflicting: np.ndarray


def audit(dataset: Dataset, digests: Mapping[str, list[str]], *, progress: Progress) -> Audit:
    """Looks at every image of an opened data set; `digests` as for `copies.find`."""
    found = copies.find(dataset, digests, across=False, cache=None, progress=progress)
    splits = [dataset.splits[name] for name in found.names]
    label = np.concatenate([split.label.argmax(1) for split in splits])
    classes = dataset.class_names
    records = tuple(
        Record(split.name, str(name), classes[k])
        for split in splits
        for name, k in zip(split.id, split.label.argmax(1).tolist(), strict=True)
    )
    group = found.groups()
    low, high = np.full(group.max() + 1, len(classes)), np.full(group.max() + 1, -1)
    np.minimum.at(low, group, label)
    np.maximum.at(high, group, label)
    content, odd = found.content, found.outliers

    def records_of(contents: Iterable[int]) -> list[int]:
        return np.flatnonzero(np.isin(content, list(contents))).tolist()

    return Audit(
        records=records,
        copies=found,
        sizes=tuple((i, odd.sizes[int(content[i])]) for i in records_of(odd.sizes)),
        brightness=tuple((i, odd.brightness[int(content[i])]) for i in records_of(odd.brightness)),
        flat=tuple(records_of(odd.flat)),
        group=group,
        leaked=found.leaked(),
        conflicting=(low != high)[group],
    )


def cleaned(dataset: Dataset, original: Dataset, found: Audit) -> list[Row]:
    """Corrections that leave out copies, conflicts and unreadable images, and hold the splits that were cut.

    Args:
      dataset: as it was opened.
      original: as its files state it, before any split was cut.

    Of the records that show one picture, the first one of the last split stays (test before val before train, so that
    numbers on test remain comparable); none stays in train when their classes differ, and none at all when those in
    val and test do.
    """
    names = found.copies.names
    order = np.lexsort((np.arange(len(found.group)), -found.copies.split, found.group))
    there = {source: set(split.id.tolist()) for source, split in original.splits.items()}
    rows = [
        Row(f"{source}/{record}", "drop", "", f"unreadable: {reason}")
        for source, names_of in there.items()
        for record, reason in dataset.skipped
        if record in names_of
    ]
    for members in np.split(order, np.flatnonzero(np.diff(found.group[order])) + 1):
        judged = [i for i in members.tolist() if names[found.copies.split[i]] != "train"]
        for rank, i in enumerate(members.tolist()):
            record = found.records[i]
            source = record.split if record.split in original.splits else "train"
            if reason := _reason(found, members, rank, judged):
                rows.append(Row(f"{source}/{record.id}", "drop", "", reason))
            elif source != record.split:
                rows.append(Row(f"{source}/{record.id}", "split", record.split, "as it was cut"))
    return rows


def _reason(found: Audit, members: np.ndarray, rank: int, judged: list[int]) -> str:
    """Why the member at `rank` of a group must go; empty when it may stay."""
    i, first = int(members[rank]), int(members[0])
    if len(members) == 1:
        return ""
    if found.conflicting[i]:
        classes = {found.records[j].label for j in judged}
        if i not in judged or len(classes) > 1:
            other = next(j for j in members.tolist() if found.records[j].label != found.records[i].label)
            return f"other class than its copy {_place(found, other)}, {found.records[other].label}"
    return f"copy of {_place(found, first)}" if rank else ""


def _place(found: Audit, i: int) -> str:
    return f"{found.records[i].split}/{found.records[i].id}"
