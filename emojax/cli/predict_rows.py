"""What `emojax predict` says about a picture: as a line of a table, as CSV or Parquet cells, as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emojax.data.face_template import POINTS
from emojax.files import csv_text
from emojax.visible import one_line

if TYPE_CHECKING:
    import numpy as np

    from emojax.data.face_detector import Detection


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Probabilities [K]; whether they are too unsure for an answer; members of the set, bool [K], None without sets."""

    probs: np.ndarray
    unsure: bool
    inside: np.ndarray | None


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A picture, or one of its faces.

    Attributes:
      where: what the row is about: {"image": path}, or frame, time and track of a video.
      verdict: None where there is nothing to classify, and `error` says why.
      faces: how many faces the picture has; None where none were looked for.
      number: of this face, from 1.
      face: where it is.
    """

    where: Mapping[str, Any]
    verdict: Verdict | None = None
    error: str = ""
    faces: int | None = None
    number: int = 1
    face: Detection | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """The columns of one call: class names, what tells the rows apart, and whether there are sets and faces."""

    names: tuple[str, ...]
    where: Mapping[str, type]
    sets: bool = False
    faces: bool = False

    def columns(self) -> dict[str, type]:
        """{name: type} of CSV and Parquet."""
        found: dict[str, type] = {**self.where, "class": str, "error": str}
        found |= {f"p:{name}": float for name in self.names}
        if self.faces:
            found |= {"faces": int, "face": int, **{f"box_{side}": float for side in _BOX}, "score": float}
            found |= {f"{point}_{axis}": float for point in POINTS for axis in "xy"}
        return found | ({"set": str} if self.sets else {})

    def nested(self, row: Row) -> dict[str, Any]:
        """The row as a JSON object."""
        values: dict[str, Any] = dict(row.where)
        if row.error:
            values["error"] = row.error
        if row.faces is not None:
            values["faces"] = row.faces
        if row.face is not None:
            values |= {
                "face": row.number,
                "box": [round(x, 2) for x in row.face.box],
                "score": round(row.face.score, 4),
            }
            points = row.face.points.astype(float).round(2).tolist()
            values["points"] = dict(zip(POINTS, points, strict=True))
        if row.verdict is not None:
            values["class"] = self.said(row.verdict)
            values["probs"] = {name: round(float(p), 6) for name, p in zip(self.names, row.verdict.probs, strict=True)}
            if row.verdict.inside is not None:
                values["set"] = self.members(row.verdict)
        return values

    def flat(self, nested: Mapping[str, Any]) -> dict[str, Any]:
        """The JSON object as {column: cell}."""
        values = {name: nested.get(name) for name in self.columns()}
        values |= {f"p:{name}": p for name, p in nested.get("probs", {}).items()}
        values |= {f"box_{side}": x for side, x in zip(_BOX, nested.get("box", ()), strict=False)}
        values |= {f"{p}_{a}": x for p, xy in nested.get("points", {}).items() for a, x in zip("xy", xy, strict=True)}
        if self.sets:
            values["set"] = "|".join(nested.get("set", ()))
        return values

    def said(self, verdict: Verdict) -> str | None:
        """The class, None for an unsure one."""
        return None if verdict.unsure else self.names[int(verdict.probs.argmax())]

    def members(self, verdict: Verdict) -> list[str]:
        """The classes of the set, the most probable first."""
        assert verdict.inside is not None
        return [self.names[k] for k in verdict.probs.argsort()[::-1].tolist() if verdict.inside[k]]


_BOX = ("left", "top", "width", "height")


def json_lines(form: Form, rows: Iterable[Row], **_: Any) -> Iterator[str]:
    """One JSON object per line."""
    for row in rows:
        yield json.dumps(form.nested(row), ensure_ascii=False)


def csv_lines(form: Form, rows: Iterable[Row], *, first: bool, **_: Any) -> Iterator[str]:
    """CSV rows, with a header before the first."""
    columns = list(form.columns())
    if first:
        yield csv_text([columns]).removesuffix("\n")
    for row in rows:
        cells = form.flat(form.nested(row))
        yield csv_text([["" if cells[c] is None else cells[c] for c in columns]]).removesuffix("\n")


def table_lines(form: Form, rows: Sequence[Row], *, first: bool, width: int) -> Iterator[str]:
    """Lines for people, `width` columns for the names."""
    names = [one_line(name) for name in form.names]
    wide = max(len("(unsure)"), *map(len, names))
    then_wide = 2 * max(map(len, names)) + len(" 0.00,  0.00")
    title = next(iter(form.where)) if "image" not in form.where else "picture"
    if first:
        then = f"{'then':<{then_wide}}  set" if form.sets else "then"
        yield f"{title:<{width}}  {'class':<{wide}}  probability  {then}"
    for row in rows:
        what = one_line(str(next(iter(row.where.values())))) + (f" #{row.number}" if (row.faces or 0) > 1 else "")
        if row.verdict is None:
            yield f"{what:<{width}}  ({one_line(row.error)})"
            continue
        probs, unsure = row.verdict.probs, row.verdict.unsure
        order = probs.argsort()[::-1]
        said = "(unsure)" if unsure else names[order[0]]
        then = ", ".join(f"{names[int(k)]} {probs[k]:.2f}" for k in order[1 - unsure : 3 - unsure])
        if row.verdict.inside is not None:
            then = f"{then:<{then_wide}}  {', '.join(map(one_line, form.members(row.verdict))) or '(none)'}"
        yield f"{what:<{width}}  {said:<{wide}}  {probs[order[0]]:>11.3f}  {then}"
