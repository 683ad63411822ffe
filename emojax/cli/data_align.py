"""`emojax data align`: a data set of photographs as aligned faces, with the same tree, names and labels."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from emojax.cli.predict import FACES, add_faces, check_faces
from emojax.errors import ConfigError, DataError
from emojax.visible import one_line


def main(arguments: list[str]) -> int:
    """Aligns a data set; the exit code is 2 when some pictures could not be read."""
    parser = argparse.ArgumentParser(prog="emojax data align", description=__doc__)
    parser.add_argument("source", help="a folder of pictures, AffectNet's original release, or RAF-DB's")
    parser.add_argument("target", help="folder for the crops; the same command goes on where one was stopped")
    parser.add_argument("--size", type=int, default=112, help="side of a crop, pixels; default: %(default)s")
    parser.add_argument(
        "--no-face",
        choices=("skip", "whole"),
        default="skip",
        help="pictures without a face: left out (default), or kept as their central square",
    )
    add_faces(parser)
    parser.set_defaults(**FACES)
    options = parser.parse_args(arguments)
    check_faces(options)
    if not 16 <= options.size <= 2048:
        raise ConfigError(f"--size={options.size}: expected 16 to 2048 pixels")

    from emojax.data.aligning import TABLE
    from emojax.data.face_crops import NO_FACE

    source, target = _folders(options.source, options.target)
    layout, errors, rows = _align(source, target, options)
    faceless = sum(error.startswith(NO_FACE) for error in errors)
    sys.stdout.write(f"{target}: {rows - len(errors):,} faces aligned of {rows:,} pictures ({layout})\n")
    if faceless:
        kept = "kept as central squares" if options.no_face == "whole" else "left out"
        sys.stdout.write(f"no face found in {faceless:,}, which are {kept}: column error of {TABLE}\n")
    if len(errors) > faceless:
        sys.stdout.write(f"{len(errors) - faceless:,} could not be used: column error of {TABLE}\n")
    sys.stdout.write(f"train on them with --config.data.path={target}\n")
    return 2 if len(errors) > faceless else 0


def _align(source: Path, target: Path, options: argparse.Namespace) -> tuple[str, list[str], int]:
    """(layout, what was wrong with pictures, how many there are) after all crops and lists are written."""
    from emojax import growing
    from emojax.data import aligning
    from emojax.data.face_detector import Detector
    from emojax.progress import Terminal

    layout, found = aligning.tasks(source)
    total = aligning.count(found)
    if not total:
        raise DataError(f"{source}: has no pictures")
    detector = functools.cache(lambda: Detector(min_face=options.min_face, min_score=options.min_score))
    about = {"layout": layout, **{k: v for k, v in vars(options).items() if k not in ("source", "target")}}
    path = target / aligning.TABLE
    table = growing.open_table(path, aligning.COLUMNS, key="image", about=about)
    terminal, start, before = Terminal(sys.stderr), time.monotonic(), table.rows
    crop = {"size": options.size, "margin": options.margin}
    try:
        if before:
            terminal.message(f"emojax: {path} has {before:,} rows; going on after them")
        for task in aligning.tasks(source)[1]:
            if table.seen.add(task.key):
                table.write([aligning.align(task, target, detector, whole=options.no_face == "whole", **crop)])
                rate = (table.rows - before) / max(time.monotonic() - start, 1e-9)
                told = [(2, f"{table.rows:,}/{total:,} pictures"), (1, f"{rate:,.1f}/s")]
                terminal.update(lambda told=told: told)
        aligning.finish(layout, source, target, table.read(), **crop)
        errors = [row["error"] for row in table.read() if row["error"]]
        emptied = _emptied(table.read()) if layout == "tree" and options.no_face == "skip" else []
        table.finish()
    finally:
        terminal.clear()
        table.close()
    done, seconds = table.rows - before, max(time.monotonic() - start, 1e-9)
    terminal.message(f"emojax: {done:,} pictures in {seconds:.1f} s ({done / seconds:,.1f} pictures/s)")
    if layout == "tree" and (left := aligning.left_behind(source))[0]:
        names = ", ".join(map(one_line, left[1])) + (", ..." if left[0] > len(left[1]) else "")
        terminal.message(f"emojax: {left[0]:,} files that are no pictures were not copied: {names}")
    if emptied:
        terminal.message(f"emojax: nothing is left of these folders: {', '.join(map(one_line, emptied))}")
    return layout, errors, table.rows


def _emptied(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Folders of pictures, mostly classes, of which no picture was kept."""
    kept, lost = set(), set()
    for row in rows:
        (lost if row["error"] else kept).add(str(Path(row["image"]).parent))
    return sorted(lost - kept)


def _folders(source: str, target: str) -> tuple[Path, Path]:
    """Both folders; the target is made. Raises `ConfigError` or `DataError` for those that cannot be used."""
    from emojax.data.aligning import TABLE

    old, new = Path(source), Path(target)
    if not old.is_dir():
        raise DataError(f"{source}: there is no such folder")
    if new.resolve().is_relative_to(old.resolve()) or old.resolve().is_relative_to(new.resolve()):
        raise ConfigError(f"{target}: one folder lies inside the other; give a folder elsewhere")
    if new.exists() and not new.is_dir():
        raise ConfigError(f"{target}: is not a folder")
    if new.is_dir() and not (new / TABLE).exists() and any(new.iterdir()):
        raise ConfigError(f"{target}: has files that `emojax data align` did not make; give a new folder")
    new.mkdir(parents=True, exist_ok=True)
    return old, new
