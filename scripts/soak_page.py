"""docs/reliability.md, made from docs/reliability.json."""

from __future__ import annotations

from typing import Any

from bench_setting import ROOT
from soak_record import read
from soak_sections import SECTIONS

from emojax import files

PAGE = ROOT / "docs/reliability.md"
_SHOWN = 30
"""Rows of measured numbers that are shown; of more, the largest ones."""

_INTRO = """# Reliability

What a run survives, in counts. `python scripts/soak.py SECTION` runs a section and writes
[reliability.json](reliability.json); `python scripts/soak.py page` writes this page from it. Every number below comes
from there, and every failure is listed.

"Bit-identical" holds for one machine, one number of devices and one version of jaxlib: XLA splits sums by the number of
threads. Moments and places are drawn from seeds; when a process meets them depends on the machine. "Source" is a digest
of emojax's own modules; what has changed since is in the history.
"""


def write() -> None:
    """Writes the page."""
    files.write_text(PAGE, page(read()))


def page(found: dict[str, Any]) -> str:
    """The page of what was counted: {section: values}."""
    known = [name for name in SECTIONS if name in found]
    rows = ["| section | what | bar | passed | bar reached | counted on |", "| --- | --- | --- | ---: | --- | --- |"]
    for name in known:
        values = found[name]
        passed = f"{values['passed']} of {values['done']}"
        reached = "yes" if values["passed"] == values["done"] >= SECTIONS[name].count else "**no**"
        rows.append(f"| {name} | {values['what']} | {values['bar']} | {passed} | {reached} | {values['date']} |")
    missing = [name for name in SECTIONS if name not in found]
    if missing:
        rows += ["", f"Not counted yet: {', '.join(missing)}."]
    return "\n\n".join([_INTRO.rstrip(), "\n".join(rows), *(_section(name, found[name]) for name in known)]) + "\n"


def _section(name: str, values: dict[str, Any]) -> str:
    parts = [f"## {name[0].upper()}{name[1:]}", SECTIONS[name].how]
    outcome = f"**{values['passed']} of {values['done']} passed** in {_duration(values['seconds'])}"
    # The names of tests, each counted once, say no more than the number.
    counts = [f"{key}: {count}" for key, count in sorted(values["counts"].items()) if not key.startswith("test_")]
    parts.append(outcome + ("; of these, " + "; ".join(counts) if counts else "") + ".")
    if measured := values["measured"]:
        parts.append(_measured(measured))
    if failures := values["failures"]:
        lines = [f"- {_flat(row)}" for row in failures]
        parts.append("Failures:\n\n" + "\n".join(lines))
    machine, versions = values["machine"], values["versions"]
    load = f", load up to {values['load']:g}" if "load" in values else ""
    sources = values["sources"]
    code = f"source {sources[0]}" if len(sources) == 1 else f"{len(sources)} states of the source, {', '.join(sources)}"
    parts.append(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB{load}; "
        + ", ".join(f"{package} {version}" for package, version in versions.items())
        + f"; {code}."
    )
    return "\n\n".join(parts)


def _measured(rows: list[dict[str, Any]]) -> str:
    shown = rows if len(rows) <= _SHOWN else sorted(rows, key=lambda row: row["value"], reverse=True)[:5]
    lines = ["| measured | value | limit |", "| --- | ---: | ---: |"]
    for row in shown:
        limit = f"{row['limit']:g} {row['unit']}".strip() if "limit" in row else ""
        value = f"{row['value']} {row['unit']}".strip()
        lines.append(f"| {row['name']} | {value} | {limit} |")
    if len(shown) < len(rows):
        lines += ["", f"The {len(shown)} largest of {len(rows)}."]
    return "\n".join(lines)


def _flat(row: dict[str, Any]) -> str:
    seen = row["seen"] if isinstance(row["seen"], str) else "; ".join(row["seen"][:3])
    return f"seed {row['seed']}: {' '.join(seen.split())[:300]}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
