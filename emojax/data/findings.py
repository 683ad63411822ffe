"""What the check before training found, per split, for the report: counts, and the first records of each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from emojax.data.copies import Copies
from emojax.types import Dataset, Found

KINDS = {
    "unreadable": "unreadable",
    "sizes": "odd size",
    "brightness": "odd brightness",
    "flat": "show nothing",
    "same_bytes": "copies of another in the split, same bytes",
    "leaks": "leaked: the picture is also in an earlier split",
    "conflicts": "one picture, two classes",
}
"""What may be found → in words. Kinds for which nobody looked are absent from `Dataset.findings`."""

EXAMPLES = 30


def of_copies(dataset: Dataset, found: Copies) -> dict[str, dict[str, Found]]:
    """Outliers, copies, leaks and conflicts among the records that can be read: kind → split → what was found.

    Changed copies were looked for across splits only, so within a split they show neither here nor as conflicts;
    `emojax data check` looks for all of them.
    """
    names, content, out = found.names, found.content, found.outliers
    ids = np.concatenate([dataset.splits[name].id for name in names])
    label = np.concatenate([dataset.splits[name].label.argmax(1) for name in names])
    own = content * len(names) + found.split  # one number for the same bytes in the same split
    first = np.unique(own, return_index=True, return_inverse=True)
    original = first[1][first[2].reshape(-1)]
    group = found.groups()
    by_group = np.lexsort((np.arange(len(group)), group))
    leader = by_group[np.searchsorted(group[by_group], group)]
    conflicting = np.isin(group, group[label != label[leader]])

    def place(i: int) -> str:
        return f"{names[found.split[i]]}/{ids[i]}"

    def other_class(i: int) -> str:
        members = np.flatnonzero((group == group[i]) & (label != label[i]))
        return f"{dataset.class_names[label[i]]}; {place(int(members[0]))}: {dataset.class_names[label[members[0]]]}"

    def per_split(records: Iterable[int], detail: Callable[[int], str]) -> dict[str, Found]:
        which = np.fromiter(records, np.int64)
        kept = {}
        for k, name in enumerate(names):
            mine = which[found.split[which] == k].tolist()
            kept[name] = Found(len(mine), tuple((str(ids[i]), detail(i)) for i in mine[:EXAMPLES]))
        return kept

    def of_contents(numbers: Iterable[int]) -> list[int]:
        return np.flatnonzero(np.isin(content, list(numbers))).tolist()

    return {
        "sizes": per_split(of_contents(out.sizes), lambda i: out.sizes[int(content[i])]),
        "brightness": per_split(of_contents(out.brightness), lambda i: out.brightness[int(content[i])]),
        "flat": per_split(of_contents(out.flat), lambda i: ""),
        "same_bytes": per_split(
            np.flatnonzero(original != np.arange(len(original))).tolist(), lambda i: f"copy of {place(original[i])}"
        ),
        "leaks": per_split(np.flatnonzero(found.leaked()).tolist(), lambda i: f"copy of {place(found.origin(i))}"),
        "conflicts": per_split(np.flatnonzero(conflicting).tolist(), other_class),
    }
