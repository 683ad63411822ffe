"""The record of a run, metrics.jsonl: one JSON object per line, each with a "kind" and a "step"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax.files import parse_json, plain, write_text


def read(path: Path) -> list[dict[str, Any]]:
    """All whole rows; a missing file has none. Lines that are not JSON objects are skipped.

    A crash can cut off the last line; such a line must not keep a run from going on.
    """
    if not Path(path).exists():
        return []
    rows = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def history(path: Path) -> list[dict[str, Any]]:
    """Rows of kind "train" and "eval"; where a resumed run repeated a row, the later one."""
    rows = [row for row in read(path) if row.get("kind") in ("train", "eval")]
    return list({(row["kind"], row.get("split"), row["step"]): row for row in rows}.values())


class JsonLines:
    """Appends rows to a file, whole lines at a time."""

    def __init__(self, path: Path, *, start_step: int, owed: bool = False) -> None:
        """Opens `path` for a run that starts at `start_step`: rows of later steps go.

        With `owed`, the evaluation at `start_step` is still to come, if any, and a row of it goes too.

        The truncation is atomic: a crash in the middle of it leaves the old file.
        """
        kept = [row for row in read(path) if row.get("step", 0) <= start_step]
        kept = [row for row in kept if not (owed and row["kind"] == "eval" and row.get("step") == start_step)]
        write_text(path, "".join(map(line, kept)))
        self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115 - closed by `close`

    def append(self, row: Mapping[str, Any]) -> None:
        """Writes one row and hands it to the operating system. NaN and infinity become null."""
        self._file.write(line(row))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def line(row: Mapping[str, Any]) -> str:
    """One row as text, newline included."""
    return json.dumps(plain(row), allow_nan=False) + "\n"
