"""A page of pictures with a line about each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emojax.data import pipeline
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


def write(path: Path, *, title: str, intro: str, cards: Sequence[Card], crop: float, fit: str) -> None:
    """Writes one HTML file that holds the pictures, as the model sees them, `2 * SIDE` pixels wide."""
    shown = []
    for card in cards:
        split, i = card.record
        with pipeline.eval_batches(split.take(np.array([i])), size=2 * SIDE, crop=crop, fit=fit, batch_size=1) as batch:
            image = data_uri(np.asarray(next(batch).image)[0])
        shown.append({"title": card.title, "text": card.text, "id": card.id, "image": image})
    page = templates().get_template("gallery.html")
    write_text(path, page.render(title=title, intro=intro, cards=shown, style=text_of("style.css")))
