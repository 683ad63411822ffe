"""`emojax predict`: classifies pictures and folders of pictures with a trained model."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from emojax.cli import model_options
from emojax.visible import one_line

CHUNK = 256
"""Pictures per call of the classifier: results appear while later pictures are still read, in bounded memory."""


def main(arguments: list[str]) -> int:
    """Prints one row per picture; the exit code is 2 when some could not be read."""
    parser = argparse.ArgumentParser(prog="emojax predict", description=__doc__)
    parser.add_argument(
        "paths", nargs="+", metavar="IMAGE|FOLDER", help="pictures, or folders that are searched for some"
    )
    model_options.add(parser)
    parser.add_argument(
        "--post-process", default="", metavar="FILE.json", help="post-processing that `emojax evaluate` has fitted"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line with all probabilities")
    form.add_argument("--csv", action="store_true", help="CSV with one column per class")
    options = parser.parse_args(arguments)

    from emojax import postprocess
    from emojax.predict import load

    pictures = _find(options.paths)
    classifier = load(options.workdir, which=options.which, views=options.views)
    names = classifier.class_names
    post = postprocess.read(Path(options.post_process), names) if options.post_process else None
    show = _json_rows if options.json else _csv_rows if options.csv else _table_rows
    unreadable = 0
    for start in range(0, len(pictures), CHUNK):
        part = pictures[start : start + CHUNK]
        found = classifier.predict([Path(p) for p in part])
        if post:
            found = postprocess.apply(post, found)
        rows = [
            (path, probs if good else None) for path, probs, good in zip(part, found.probs, found.weight, strict=True)
        ]
        unreadable += sum(probs is None for _, probs in rows)
        for line in show(rows, names, first=start == 0, width=max(map(len, pictures))):
            sys.stdout.write(line + "\n")
    if unreadable:
        sys.stderr.write(f"emojax: {unreadable} of {len(pictures)} pictures could not be read\n")
        return 2
    return 0


def _find(given: Sequence[str]) -> list[str]:
    from emojax.data.folder import EXTENSIONS
    from emojax.errors import DataError

    pictures: list[str] = []
    for name in given:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS and p.is_file())
            if not inside:
                raise DataError(f"{name}: the folder has no pictures ({', '.join(sorted(EXTENSIONS))})")
            pictures += [str(p) for p in inside]
        elif path.is_file():
            pictures.append(name)
        else:
            raise DataError(f"{name}: no such file or folder")
    return pictures


def _table_rows(rows: Sequence, names: Sequence[str], *, first: bool, width: int) -> Iterator[str]:
    names = [one_line(name) for name in names]
    wide = max(len("class"), *map(len, names))
    if first:
        yield f"{'picture':<{width}}  {'class':<{wide}}  probability  then"
    for name, probs in rows:
        path = one_line(name)
        if probs is None:
            yield f"{path:<{width}}  (could not be read)"
            continue
        order = probs.argsort()[::-1]
        then = ", ".join(f"{names[k]} {probs[k]:.2f}" for k in order[1:3])
        yield f"{path:<{width}}  {names[order[0]]:<{wide}}  {probs[order[0]]:>11.3f}  {then}"


def _json_rows(rows: Sequence, names: Sequence[str], **_) -> Iterator[str]:
    for path, probs in rows:
        if probs is None:
            yield json.dumps({"image": path, "error": "could not be read"}, ensure_ascii=False)
        else:
            values = {name: round(float(p), 6) for name, p in zip(names, probs, strict=True)}
            yield json.dumps({"image": path, "class": names[probs.argmax()], "probs": values}, ensure_ascii=False)


def _csv_rows(rows: Sequence, names: Sequence[str], *, first: bool, **_) -> Iterator[str]:
    lines: list[str] = []

    class Sink:
        def write(self, text: str) -> None:
            lines.append(text.rstrip("\r\n"))

    writer = csv.writer(Sink())
    if first:
        writer.writerow(["image", "class", *names])
    for path, probs in rows:
        writer.writerow(
            [path, "", *[""] * len(names)]
            if probs is None
            else [path, names[probs.argmax()], *(f"{p:.6f}" for p in probs)]
        )
    yield from lines
