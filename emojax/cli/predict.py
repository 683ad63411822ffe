"""`emojax predict`: classifies pictures and folders of pictures with a trained model."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emojax.cli import model_options
from emojax.visible import one_line

if TYPE_CHECKING:
    import numpy as np

    from emojax.predict import Classifier

CHUNK = 256
"""Pictures per call of the classifier: results appear while later pictures are still read, in bounded memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One picture: probabilities [K], None where it could not be read; whether they are too unsure for an answer; the
    members of its set, bool [K], None where no sets are asked for."""

    path: str
    probs: np.ndarray | None
    unsure: bool
    inside: np.ndarray | None


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
    parser.add_argument("--raw", action="store_true", help="without what `emojax calibrate` has stored")
    parser.add_argument(
        "--abstain",
        action="store_true",
        help="no class where the model is less sure than `emojax calibrate --risk` asks",
    )
    parser.add_argument(
        "--sets", action="store_true", help="also the set of classes that holds the true one as often as was calibrated"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line with all probabilities")
    form.add_argument("--csv", action="store_true", help="CSV with one column per class")
    options = parser.parse_args(arguments)

    from emojax import decision, postprocess
    from emojax.predict import load

    pictures = _find(options.paths)
    raw = options.raw or options.post_process  # a post-processing begins at the probabilities as trained
    classifier = load(options.workdir, which=options.which, views=options.views, decision="none" if raw else "stored")
    _check_decision(options, classifier)
    names = classifier.class_names
    post = postprocess.read(Path(options.post_process), names) if options.post_process else None
    show = _json_rows if options.json else _csv_rows if options.csv else _table_rows
    unreadable = 0
    for start in range(0, len(pictures), CHUNK):
        part = pictures[start : start + CHUNK]
        found = classifier.predict([Path(p) for p in part])
        if post:
            found = postprocess.apply(post, found)
        decided = decision.decided(classifier.decision, found) if classifier.decision else None
        rows = [
            Row(
                path=path,
                probs=found.probs[i] if found.weight[i] else None,
                unsure=bool(options.abstain and decided and not decided.answered[i]),
                inside=decided.inside[i] if options.sets and decided else None,
            )
            for i, path in enumerate(part)
        ]
        unreadable += sum(row.probs is None for row in rows)
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


def _check_decision(options: argparse.Namespace, classifier: Classifier) -> None:
    """Raises `ConfigError` when what is asked for was never fitted; tells why a stored decision is left out."""
    from emojax.errors import ConfigError

    if classifier.note:
        sys.stderr.write(f"emojax: {classifier.note}\n")
    fitted = classifier.decision
    for flag, there, how in (
        ("--sets", fitted is not None, ""),
        ("--abstain", fitted is not None and fitted.threshold > 0, " --risk=SHARE"),
    ):
        if getattr(options, flag[2:]) and not there:
            raise ConfigError(
                f"{flag} needs a calibration of these weights and views: run "
                f"`emojax calibrate --workdir={options.workdir}{how}` first, and leave out --raw and --post-process"
            )


def _table_rows(rows: Sequence[Row], names: Sequence[str], *, first: bool, width: int) -> Iterator[str]:
    names = [one_line(name) for name in names]
    wide = max(len("(unsure)"), *map(len, names))
    then_wide = 2 * max(map(len, names)) + len(" 0.00,  0.00")
    if first:
        then = "then" if rows[0].inside is None else f"{'then':<{then_wide}}  set"
        yield f"{'picture':<{width}}  {'class':<{wide}}  probability  {then}"
    for row in rows:
        if row.probs is None:
            yield f"{one_line(row.path):<{width}}  (could not be read)"
            continue
        order = row.probs.argsort()[::-1]
        said = "(unsure)" if row.unsure else names[order[0]]
        then = ", ".join(f"{names[int(k)]} {row.probs[k]:.2f}" for k in order[1 - row.unsure : 3 - row.unsure])
        if row.inside is not None:
            then = f"{then:<{then_wide}}  {', '.join(_members(row, names)) or '(none)'}"
        yield f"{one_line(row.path):<{width}}  {said:<{wide}}  {row.probs[order[0]]:>11.3f}  {then}"


def _json_rows(rows: Sequence[Row], names: Sequence[str], **_) -> Iterator[str]:
    for row in rows:
        if row.probs is None:
            yield json.dumps({"image": row.path, "error": "could not be read"}, ensure_ascii=False)
            continue
        values = {
            "image": row.path,
            "class": None if row.unsure else names[int(row.probs.argmax())],
            "probs": {name: round(float(p), 6) for name, p in zip(names, row.probs, strict=True)},
        }
        values |= {} if row.inside is None else {"set": _members(row, names)}
        yield json.dumps(values, ensure_ascii=False)


def _csv_rows(rows: Sequence[Row], names: Sequence[str], *, first: bool, **_) -> Iterator[str]:
    lines: list[str] = []

    class Sink:
        def write(self, text: str) -> None:
            lines.append(text.rstrip("\r\n"))

    writer = csv.writer(Sink())
    with_sets = bool(rows) and rows[0].inside is not None
    if first:
        writer.writerow(["image", "class", *names, *(["set"] if with_sets else [])])
    for row in rows:
        sets = ["|".join(_members(row, names))] if with_sets else []
        writer.writerow(
            [row.path, "", *[""] * (len(names) + len(sets))]
            if row.probs is None
            else [
                row.path,
                "" if row.unsure else names[int(row.probs.argmax())],
                *(f"{p:.6f}" for p in row.probs),
                *sets,
            ]
        )
    yield from lines


def _members(row: Row, names: Sequence[str]) -> list[str]:
    """The classes of a picture's set, the most probable first."""
    assert row.probs is not None and row.inside is not None
    order = [int(k) for k in row.probs.argsort()[::-1]]
    return [names[k] for k in order if row.inside[k]]
