"""A data set of faces brought into one place: the same tree, names and labels, with aligned crops for pictures.

AffectNet's lists and RAF-DB's annotations have landmarks of their own, which are used; every other picture goes through
the detector. What was found is told in `aligned.csv`, one row per picture, which also makes the work resumable.
"""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from emojax.data import face_template, walk
from emojax.data.decode import decode
from emojax.data.face_crops import NO_FACE
from emojax.data.face_detector import Detection, Detector
from emojax.data.published import affectnet, rafdb
from emojax.data.published.faces import Face, landmarks
from emojax.data.storage import EXTENSIONS, Root, Unreadable, printable, read_file
from emojax.errors import DataError
from emojax.files import csv_text, write_bytes, write_text
from emojax.seen import Seen
from emojax.tracks import Box, overlap

TABLE = "aligned.csv"
COLUMNS: dict[str, type] = {
    "image": str,
    "aligned": str,
    "source": str,
    "faces": int,
    **{f"box_{side}": float for side in ("left", "top", "width", "height")},
    "score": float,
    **{f"{point}_{axis}": float for point in face_template.POINTS for axis in "xy"},
    "error": str,
}
"""Of `aligned.csv`: picture (for AffectNet `list:line`) and crop, relative to their folders; where the points are from
("landmarks" or "detector"); faces found; box, score and points in pixels of the picture; and why there is no crop."""


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """One picture: its key in `aligned.csv`, its file, the crop's path relative to the target, and what its data set
    says: five points [5, 2], or the box of the face that is meant."""

    key: str
    file: str
    target: str
    points: np.ndarray | None = None
    box: Box | None = None


def tasks(source: Path) -> tuple[str, Iterator[Task]]:
    """(layout, its pictures): "affectnet", "rafdb" or "tree"."""
    if (rows := affectnet.originals(source)) is not None:
        return "affectnet", _affectnet(source, rows)
    if (names := rafdb.originals(source)) is not None:
        return "rafdb", _rafdb(names)
    return "tree", _tree(source)


def count(found: Iterator[Task]) -> int:
    """How many pictures there are. Raises `DataError` where two of them would get the same crop, and one be lost."""
    targets = Seen()
    for task in found:
        if not targets.add(task.target):
            name = printable(task.target)
            raise DataError(f"{task.key}: its crop would be {name}, as that of another picture; rename one of them")
    return len(targets)


def left_behind(source: Path, *, shown: int = 3) -> tuple[int, list[str]]:
    """(how many files of a tree, hidden ones aside, are no pictures and stay behind; the names of the first)."""
    total, first = 0, []
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            if name.startswith(".") or name.lower().endswith(EXTENSIONS):
                continue
            total += 1
            if len(first) < shown:
                first.append(printable(str((Path(folder) / name).relative_to(source))))
    return total, first


def align(task: Task, target: Path, detector: Callable[[], Detector], *, size: int, margin: float, whole: bool) -> dict:
    """Writes the crop of one picture; returns its row for `aligned.csv`.

    Args:
      task: the picture.
      target: the folder of the crops.
      detector: gives the detector, which is only made when it is needed.
      size, margin: of the crop, see `face_template.crop`.
      whole: whether a picture without a face is kept as its central square.
    """
    row: dict[str, Any] = {"image": task.key, "aligned": "", "source": "landmarks", "faces": None, "error": ""}
    try:
        image = decode(read_file(task.file))
    except Unreadable as error:
        return row | {"source": "", "error": str(error)}
    points = task.points
    if points is None:
        found = detector()(image)
        face = _meant(found, task.box)
        row |= {"source": "detector", "faces": len(found), **(_told(face) if face else {})}
        points = face.points if face else None
    if points is not None:
        try:
            crop = face_template.crop(image, points, size=size, margin=margin)
        except ValueError as error:
            return row | {"error": str(error)}
        names = [f"{point}_{axis}" for point in face_template.POINTS for axis in "xy"]
        row |= dict(zip(names, points.ravel().tolist(), strict=True))
    elif whole:
        crop = _square(image, size)
        row |= {"error": f"{NO_FACE}: the central square is kept"}
    else:
        return row | {"error": NO_FACE}
    write_bytes(target / task.target, _encoded(crop, Path(task.target).suffix.lower()))
    return row | {"aligned": printable(task.target)}


def finish(
    layout: str, source: Path, target: Path, rows: Iterator[dict[str, Any]], *, size: int, margin: float
) -> None:
    """Writes the lists of the layout for the crops, from the rows of `aligned.csv`."""
    if layout == "rafdb":
        for home in {home for home, _ in rafdb.originals(source) or ()}:
            place = target / home.relative_to(source) / rafdb.LIST
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / rafdb.LIST, place)
    if layout == "affectnet":
        done = {row["image"]: row["aligned"] for row in rows if row["aligned"]}
        lists: dict[Path, list[list[Any]]] = {}
        for file, where, row in affectnet.originals(source) or ():
            name = done.get(_key(file, where), "")
            cells = {**row, **_moved(row, where, name, size=size, margin=margin)}
            top = [list(affectnet.COLUMNS)]
            lists.setdefault(target / file.relative_to(source), top).append([cells[c] for c in affectnet.COLUMNS])
        for file, table in lists.items():
            write_text(file, csv_text(table))


def _tree(source: Path) -> Iterator[Task]:
    for path in walk.below(str(source)):
        name = str(Path(path).relative_to(source))
        # GIF has 256 colours, which a crop does not keep to.
        yield Task(printable(name), path, f"{name}.png" if name.lower().endswith(".gif") else name)


def _rafdb(names: Iterator[tuple[Path, str]]) -> Iterator[Task]:
    roots: dict[Path, Root] = {}
    for home, name in names:
        root = roots.setdefault(home, Root(home))
        file = root.resolve(f"Image/original/{name}")
        stem, dot, suffix = name.rpartition(".")
        inside = "" if (home.name not in ("basic", "compound")) else f"{home.name}/"
        target = f"{inside}Image/aligned/{stem}_aligned{dot}{suffix}"
        yield Task(printable(f"{inside}{file}"), str(home / file), target, rafdb.landmarks(home, name))


def _affectnet(source: Path, rows: Iterator[tuple[Path, str, dict[str, str]]]) -> Iterator[Task]:
    root, seen = Root(source), {}
    for file, where, row in rows:
        face = Face.parse(row, where)
        if face is None:
            continue
        try:
            name = root.resolve(row["file"])
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        number = seen[name] = seen.get(name, 0) + 1  # several faces may be in one picture: each gets a crop of its own
        stem, dot, suffix = name.rpartition(".")
        marks = landmarks(row["facial_landmarks"], where)
        points = None if marks is None else face_template.five(marks)
        box = tuple(map(float, face.box))
        target = name if number == 1 else f"{stem}-face{number}{dot}{suffix}"
        yield Task(_key(file, where), str(source / name), target, points, (box[0], box[1], box[2], box[3]))


def _key(file: Path, where: str) -> str:
    return f"{file.name}:{where.rpartition(':')[2]}"


def _moved(row: dict[str, str], where: str, name: str, *, size: int, margin: float) -> dict[str, Any]:
    """The cells of AffectNet's row that the alignment changes; a row without a crop is one without a face."""
    if not name:
        return {"face_x": 0, "face_y": 0, "face_width": -1, "face_height": -1, "facial_landmarks": "NULL"}
    base = row["file"].removesuffix(row[affectnet.COLUMNS[0]].strip())
    marks = landmarks(row["facial_landmarks"], where)
    text = "NULL"
    if marks is not None:
        move = face_template.matrix(face_template.five(marks), size=size, margin=margin)
        text = ";".join(f"{x:.2f}" for x in (marks @ move[:, :2].T + move[:, 2]).ravel())
    box = {"face_x": 0, "face_y": 0, "face_width": size, "face_height": size}
    return {affectnet.COLUMNS[0]: name.removeprefix(base), **box, "facial_landmarks": text}


def _meant(faces: list[Detection], box: Box | None) -> Detection | None:
    """The largest face, or the one that a list means by its box."""
    if box is None:
        return faces[0] if faces else None
    best = max(faces, key=lambda face: overlap(face.box, box), default=None)
    return best if best and overlap(best.box, box) > 0.1 else None


def _told(face: Detection) -> dict[str, float]:
    sides = dict(zip(("box_left", "box_top", "box_width", "box_height"), face.box, strict=True))
    return {**sides, "score": face.score}


def _square(image: np.ndarray, size: int) -> np.ndarray:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)


_FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True}),
    ".bmp": ("BMP", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
}
"""How a crop is written under its name; everything else as PNG."""


def _encoded(crop: np.ndarray, suffix: str) -> bytes:
    kind, options = _FORMATS.get(suffix, ("PNG", {}))
    buffer = io.BytesIO()
    Image.fromarray(crop).save(buffer, kind, **options)
    return buffer.getvalue()
