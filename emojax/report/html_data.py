"""The section of the HTML page about the data: what the check before training found, and what leaks change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from emojax.data.findings import KINDS
from emojax.report.html_sections import Contents, joined
from emojax.report.page import MOST, TITLES, shown, shown_bounds

LOOKED = (
    "Images that cannot be read took no part and are not counted among the others. Copies across splits were found "
    "cropped, mirrored, brighter or encoded again too; within a split, byte for byte only: emojax data check finds the "
    "changed ones, shows all of them, and writes splits without."
)
NOT_LOOKED = "Nobody looked for copies and outliers (config.data.leak_check = 0): emojax data check does."


def section(macros: Any, contents: Contents, known: Mapping[str, Any]) -> Any:
    """Stamps, images and findings per split, classes per split, and the first records of each finding.

    `known` is the content of report/data.json; {} for a run that has none, of which only unreadable images are shown.
    """
    if not known:
        return _unreadable(macros, contents)
    findings, splits = known["findings"], list(known["splits"])
    # An unreadable image is counted where its files put it; the others in the splits as they were cut.
    splits += [name for name in findings.get("unreadable", {}) if name not in splits]
    rows = [("images", *(f"{known['splits'].get(name, 0):,}" for name in splits))]
    rows += [
        (KINDS[kind], *(f"{found[name]['n']:,}" if name in found else "–" for name in splits))
        for kind, found in findings.items()
        if kind in KINDS
    ]
    classes = [(name, *(f"{counts.get(split, 0):,}" for split in splits)) for name, counts in known["classes"].items()]
    parts = [
        macros.stamped(_stamps(contents)),
        macros.table(["Found", *splits], rows),
        macros.note(LOOKED if "leaks" in findings else NOT_LOOKED),
        _without(macros, contents),
        macros.heading("Images of each class"),
        macros.table(["Class", *splits], classes, sortable=True),
        *(macros.folded(f"{title} ({n:,})", text) for title, n, text in _examples(findings)),
    ]
    return joined(parts)


def _stamps(contents: Contents) -> list[tuple[str, str, str]]:
    """(split, kind, text) of what is known about leaks."""
    found = {name: content.get("leak_check") for name, content in contents.items()}
    return [
        (name, "good" if leaks["checked"] and not leaks["leaked"] else "warn", leaks["text"])
        for name, leaks in found.items()
        if leaks
    ]


def _without(macros: Any, contents: Contents) -> Any:
    """All numbers with and without the leaked images, with their intervals; nothing where none leaked."""
    rows = []
    for name, content in contents.items():
        leaks = content.get("leak_check") or {}
        if without := leaks.get("numbers_without"):
            left = f"{content['n'] - leaks['leaked']:,}"
            rows.append((f"{name}: Images", f"{content['n']:,}", "", left, ""))
            rows += [
                (
                    f"{name}: {TITLES[key]}",
                    shown(key, content[key]),
                    _bounds(key, content.get("intervals")),
                    shown(key, value),
                    _bounds(key, leaks.get("bounds_without")),
                )
                for key, value in without.items()
            ]
    if not rows:
        return ""
    table = macros.table(["Number", "With leaked images", "95 %", "Without", "95 %"], rows)
    return joined([macros.heading("What leaks change"), table])


def _bounds(key: str, intervals: Mapping[str, Any] | None) -> str:
    """A dash for a report of an emojax that wrote none."""
    return shown_bounds(key, (intervals or {}).get(key, (None, None)))


def _examples(findings: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    """(title, records in all, the first ones) of everything that was found at least once."""
    shown_kinds = []
    for kind, found in findings.items():
        if kind in KINDS and (total := sum(part["n"] for part in found.values())):
            lines = [
                f"{name}  {record}  {detail}".rstrip()
                for name, part in found.items()
                for record, detail in part["examples"]
            ]
            more = [f"and {total - len(lines):,} more"] if total > len(lines) else []
            shown_kinds.append((KINDS[kind], total, "\n".join([*lines, *more])))
    return shown_kinds


def _unreadable(macros: Any, contents: Contents) -> Any:
    content = next(iter(contents.values()))
    if not content.get("skipped"):
        return ""
    rows = [(row["id"], row["reason"]) for row in content["skipped"][:MOST]]
    return macros.table(["Image that could not be read", "Reason"], rows, left=2)
