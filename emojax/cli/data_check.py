"""`emojax data check`: unreadable files, outliers, copies, conflicting labels and leaks across splits, in one table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emojax.cli import data_options

if TYPE_CHECKING:
    from emojax.data.audit import Audit
    from emojax.data.near_duplicates import Pairs
    from emojax.types import Dataset

MOST, IN_A_ROW = 200, 8
"""Groups of copies in the gallery, and pictures of each."""
SHOWN = 3
"""Examples of each finding on the terminal; --json has all."""


def main(arguments: list[str]) -> int:
    """Prints the findings; writes a corrected split file and a gallery where asked."""
    parser = argparse.ArgumentParser(prog="emojax data check", description=__doc__, epilog=data_options.EPILOG)
    data_options.add(parser, "check")
    parser.add_argument(
        "--write-clean",
        default="",
        metavar="FILE.csv",
        help="corrections without copies, conflicts, unreadable images",
    )
    parser.add_argument(
        "--gallery", default="", metavar="FILE.html", help="page that shows copies side by side with their classes"
    )
    parser.add_argument("--json", action="store_true", help="print all findings as JSON")
    options, config = data_options.parse(parser, arguments)

    from emojax.data import audit, corrections, formats, sources
    from emojax.errors import ConfigError
    from emojax.files import plain
    from emojax.progress import Terminal

    if options.write_clean and config.folds:
        raise ConfigError(
            f"{parser.prog}: --write-clean needs config.data.folds = 0; folds are cut from the clean data"
        )
    terminal = Terminal(sys.stderr)

    def progress(done: int, total: int) -> None:
        what = f"looking at images {done:,}/{total:,}" if done < total else f"comparing {total:,} images"
        terminal.update(lambda: [(0, what)])

    config = dataclasses.replace(config, bad_limit=1.0)  # unreadable images are a finding here
    dataset, digests = sources.open_with_digests(config, cache=None, progress=progress)
    found = audit.audit(dataset, digests, progress=progress)
    terminal.clear()
    rows = audit.cleaned(dataset, formats.read(config), found) if options.write_clean else []
    if options.write_clean:
        corrections.write(Path(options.write_clean), rows)
    if options.gallery:
        _write_gallery(Path(options.gallery), dataset, found)
    findings = _findings(dataset, found)
    if options.json:
        values = {"dataset": dataset.name, "splits": _sizes(dataset), "classes": _histogram(dataset), **findings}
        sys.stdout.write(json.dumps(plain(values), indent=2, ensure_ascii=False) + "\n")
        return 0
    sys.stdout.write(_text(dataset, findings) + "\n")
    if options.write_clean:
        gone, total = sum(row.action == "drop" for row in rows), sum(_sizes(dataset).values()) + len(dataset.skipped)
        sys.stdout.write(f"{options.write_clean}: leaves out {gone:,} of {total:,} records; train with it by\n")
        sys.stdout.write(f"  --config.data.corrections={options.write_clean}\n")
    elif any(findings[name] for name in ("unreadable", "same_bytes", "changed_copies", "conflicts")):
        sys.stdout.write("Make splits without copies and conflicts: --write-clean=FILE.csv\n")
    if options.gallery:
        sys.stdout.write(f"look at the copies: {options.gallery}\n")
    return 0


def _write_gallery(path: Path, dataset: Dataset, found: Audit) -> None:
    """Groups of copies side by side: first those with conflicting classes, then those across splits."""
    import numpy as np

    from emojax.report import gallery

    order = np.argsort(found.group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(found.group[order])) + 1)
    several = [group for group in groups if len(group) > 1]
    several.sort(key=lambda group: (-int(found.conflicting[group].any()), -int(found.leaked[group].any())))
    first = np.unique(found.copies.content, return_index=True)[1]
    pairs = [first[pair] for pair in found.copies.alike.index]

    def card(i: int) -> gallery.Card:
        record, split = found.records[i], found.copies.split
        place = dataset.splits[record.split], i - int(np.searchsorted(split, split[i]))
        return gallery.Card(record=place, title=record.label, text=record.split, id=record.id)

    cards = [[card(i) for i in group[:IN_A_ROW].tolist()] for group in (*several[:MOST], *pairs[:MOST])]
    intro = (
        f"{len(several):,} pictures occur more than once; {min(MOST, len(several)):,} are shown, each with up to "
        f"{IN_A_ROW} copies: first those with different classes, then those in several splits. "
    )
    if pairs:
        intro += f"At the end, {min(MOST, len(pairs)):,} of {len(pairs):,} pairs of drawings that only look the same."
    gallery.write(path, title=f"Copies in {dataset.name}", intro=intro, groups=cards)


def _sizes(dataset: Dataset) -> dict[str, int]:
    return {name: len(split) for name, split in dataset.splits.items()}


def _histogram(dataset: Dataset) -> dict[str, dict[str, int]]:
    """class -> split -> records."""
    return {
        name: {key: int((split.label.argmax(1) == k).sum()) for key, split in dataset.splits.items()}
        for k, name in enumerate(dataset.class_names)
    }


def _findings(dataset: Dataset, found: Audit) -> dict[str, list[Any]]:
    """name -> what was found, each a dict with the records that it is about."""
    import numpy as np

    def named(i: int, detail: str = "") -> dict[str, str]:
        record = found.records[i]
        return {"split": record.split, "id": record.id, "class": record.label} | ({"detail": detail} if detail else {})

    content = found.copies.content
    first: list[int] = np.unique(content, return_index=True)[1].tolist()
    again = np.setdiff1d(np.arange(len(content)), first)

    def listed(pairs: Pairs) -> list[dict[str, Any]]:
        return [
            {"record": named(first[j]), "copy_of": named(first[i]), "mirrored": mirrored, "detail": detail}
            for (i, j), mirrored, detail in zip(
                pairs.index.tolist(), pairs.mirrored.tolist(), pairs.detail.round(3).tolist(), strict=True
            )
        ]

    values: dict[str, list[Any]] = {
        "unreadable": [{"id": name, "detail": reason} for name, reason in dataset.skipped],
        "sizes": [named(i, detail) for i, detail in found.sizes],
        "brightness": [named(i, detail) for i, detail in found.brightness],
        "flat": [named(i) for i in found.flat],
        "same_bytes": [{"record": named(i), "copy_of": named(first[content[i]])} for i in again.tolist()],
        "changed_copies": listed(found.copies.pairs),
        "alike": [{**pair, "two_classes": True} for pair in listed(found.copies.alike)],
    }
    conflicting = np.flatnonzero(found.conflicting)
    by_group = conflicting[np.argsort(found.group[conflicting], kind="stable")]
    parts = np.split(by_group, np.flatnonzero(np.diff(found.group[by_group])) + 1) if by_group.size else []
    values["conflicts"] = [{"records": [named(i) for i in part.tolist()]} for part in parts]
    values["leaks"] = [
        {"record": named(i), "copy_of": named(found.copies.origin(i))} for i in np.flatnonzero(found.leaked).tolist()
    ]
    return values


_TITLES = {
    "unreadable": "unreadable images",
    "sizes": "odd sizes",
    "brightness": "odd brightness",
    "flat": "show nothing",
    "same_bytes": "copies, same bytes",
    "changed_copies": "copies, changed",
    "alike": "look alike, two classes",
    "conflicts": "one picture, two classes",
    "leaks": "leaks across splits",
}


def _text(dataset: Dataset, findings: dict[str, list[Any]]) -> str:
    """The classes per split, then one line per finding with a few examples."""
    sizes = _sizes(dataset)
    lines = [f"{dataset.name}: {sum(sizes.values()):,} images, {len(dataset.class_names)} classes", ""]
    histogram = {"images": sizes, **_histogram(dataset)}
    wide = max(map(len, (*histogram, *_TITLES.values())))
    lines.append(f"{'':<{wide}}" + "".join(f"{name:>10}" for name in sizes))
    for name, row in histogram.items():
        lines.append(f"{name:<{wide}}" + "".join(f"{row[split]:>10,}" for split in sizes))
    lines.append("")
    for name, title in _TITLES.items():
        lines.append(f"{title:<{wide}}{len(findings[name]):>10,}")
        lines += [f"    {_example(value)}" for value in findings[name][:SHOWN]]
    if findings["alike"]:
        lines += [
            "",
            "Drawings of two classes may be two pictures that look the same: they are no copies here, look at them.",
        ]
    for split in sizes:
        count = sum(value["record"]["split"] == split for value in findings["leaks"])
        if count:
            lines += ["", f"{count:,} of {sizes[split]:,} {split} images ({count / sizes[split]:.1%}) are leaked."]
    return "\n".join(lines)


def _example(value: dict[str, Any]) -> str:
    if "records" in value:
        one_each = {record["class"]: record for record in reversed(value["records"])}  # the first of each class
        return " = ".join(f"{_where(record)} ({name})" for name, record in sorted(one_each.items()))
    if value.get("two_classes"):
        one, other = value["record"], value["copy_of"]
        return f"{_where(one)} ({one['class']}) ~ {_where(other)} ({other['class']})"
    if "copy_of" not in value:
        return f"{_where(value)}: {value['detail']}" if "detail" in value else _where(value)
    how = ", mirrored" if value.get("mirrored") else ""
    return f"{_where(value['record'])} = {_where(value['copy_of'])}{how}"


def _where(record: dict[str, Any]) -> str:
    """The record's split and id on one line; file names may hold anything."""
    name = "".join(c if c.isprintable() else "?" for c in record["id"])
    return f"{record['split']}/{name}" if "split" in record else name
