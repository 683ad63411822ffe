"""A page of pictures in groups, with a line about each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2

from emojax.data.decode import decode
from emojax.files import write_text
from emojax.report.html import templates, text_of
from emojax.report.pictures import SIDE, data_uri
from emojax.types import Split


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One picture: its record, as (split, position), and what stands below it."""

    record: tuple[Split, int]
    title: str
    text: str
    id: str


def write(path: Path, *, title: str, intro: str, groups: Sequence[Sequence[Card]]) -> None:
    """Writes one HTML file that holds the pictures, whole, at most `2 * SIDE` pixels wide or high."""
    shown = [
        [{"title": card.title, "text": card.text, "id": card.id, "image": _picture(*card.record)} for card in group]
        for group in groups
    ]
    page = templates().get_template("gallery.html")
    write_text(path, page.render(title=title, intro=intro, groups=shown, style=text_of("style.css")))


def _picture(split: Split, position: int) -> str:
    pixels = decode(split.images[position])
    scale = 2 * SIDE / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return data_uri(pixels)
