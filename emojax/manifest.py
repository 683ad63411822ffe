"""What the data of a run were, record by record: so that a run that meets others can say what has changed.

One file for each state of the data that the run was trained with, `WORKDIR/data_records/FINGERPRINT.json`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from emojax import files
from emojax.types import Dataset

FOLDER = "data_records"
SHOWN = 3
"""Records that are named of each kind of change."""


def write(workdir: Path, fingerprint: str, dataset: Dataset) -> None:
    """Keeps ids, contents and labels of all splits, unless that was done before."""
    if not _path(workdir, fingerprint).is_file():
        files.write_text(_path(workdir, fingerprint), json.dumps(_records(dataset), separators=(",", ":")) + "\n")


def knows(workdir: Path, dataset: Dataset) -> bool:
    """Whether the run was trained with exactly these data, at its beginning or after a change that was allowed."""
    records = _records(dataset)
    for file in (workdir / FOLDER).glob("*.json"):
        with contextlib.suppress(OSError, ValueError):  # damaged: it proves nothing
            if files.parse_json(file.read_text(encoding="utf-8")) == records:
                return True
    return False


def holds_test(workdir: Path, contents: Iterable[str]) -> bool:
    """Whether images with these digests are the run's test or much of it: half of either are also in the other."""
    judged = set(contents)
    for file in (workdir / FOLDER).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):  # damaged: it names no test
            rows = files.parse_json(file.read_text(encoding="utf-8")).get("test", {})
            test = {content for content, _ in rows.values()}
            if test and judged and 2 * len(test & judged) >= min(len(test), len(judged)):
                return True
    return False


def differences(workdir: Path, fingerprint: str, dataset: Dataset) -> str:
    """What has changed since the data had `fingerprint`, in words."""
    try:
        before = files.parse_json(_path(workdir, fingerprint).read_text(encoding="utf-8"))
        changes = [*_changes(before, _records(dataset))]
    except (OSError, ValueError, AttributeError, TypeError):  # of an earlier emojax, or damaged
        changes = []
    return "; ".join(changes) or "images or labels have changed"


def _path(workdir: Path, fingerprint: str) -> Path:
    return workdir / FOLDER / f"{fingerprint[:16]}.json"


def _records(dataset: Dataset) -> dict[str, dict[str, list[str]]]:
    """split -> record -> [digest of the image, digest of the label]."""
    found = {}
    for name, split in dataset.splits.items():
        rows = np.ascontiguousarray(split.label, "<f4")
        labels = (hashlib.blake2b(row, digest_size=4).hexdigest() for row in rows)
        # As the file gives them back: names may hold bytes that UTF-8 cannot.
        ids = (str(record).encode("utf-8", "backslashreplace").decode() for record in split.id)
        found[name] = {r: [c, y] for r, c, y in zip(ids, dataset.contents[name], labels, strict=True)}
    return found


def _changes(before: dict[str, dict[str, list[str]]], now: dict[str, dict[str, list[str]]]) -> Iterable[str]:
    known = {record for records in before.values() for record in records}
    left = {record for records in now.values() for record in records}
    for name in dict.fromkeys([*before, *now]):
        old, new = before.get(name, {}), now.get(name, {})
        both, added = old.keys() & new.keys(), new.keys() - old.keys()
        kinds = {
            "missing or unreadable": old.keys() - left,
            "new": added - known,
            "with other contents": {record for record in both if old[record][0] != new[record][0]},
            "with another label": {record for record in both if old[record][1] != new[record][1]},
        }
        kinds |= {f"that were in {other}": added & before[other].keys() for other in before if other != name}
        found = [f"{len(records):,} {kind} ({_names(records)})" for kind, records in kinds.items() if records]
        if found:
            yield f"{name}: {', '.join(found)}"
        elif list(old) != list(new):
            yield f"{name}: another order of the records"


def _names(records: Iterable[str]) -> str:
    records = sorted(records)
    return ", ".join(records[:SHOWN]) + (", ..." if len(records) > SHOWN else "")
