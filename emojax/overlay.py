"""What a model sees, drawn into a frame: a box, the class, and a bar per class."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emojax.drawing import ORANGE, SKY, font_file
from emojax.tracks import Box, overlap
from emojax.visible import one_line

_MOST = 8
"""Bars that are drawn: all classes in their order, or the most probable ones when there are more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """One face, or the whole picture: box, title such as "2 happy", class names and probabilities [K]."""

    box: Box
    title: str
    names: Sequence[str]
    probs: np.ndarray


def draw(image: np.ndarray, shown: Sequence[Shown]) -> None:
    """Draws into uint8 [H, W, 3] RGB. Panels stand beside their boxes, off other panels and faces where there is room;
    letters grow with the picture, from 12 pixels on."""
    height, width = image.shape[:2]
    letter = max(12, min(height, width) // 30)
    line = max(2, letter // 6)
    taken = [one.box for one in shown if one.box[2:] != (width, height)]
    for one in shown:
        left, top, w, h = (round(value) for value in one.box)
        if (w, h) != (width, height):
            cv2.rectangle(image, (left, top), (left + w, top + h), _rgb(ORANGE), line)
        panel = _panel(one, letter)
        tall, wide = panel.shape[0], panel.shape[1]
        x, y = _place((left, top, w, h), (wide, tall), (width, height), taken, gap=line)
        taken.append((x, y, wide, tall))
        place = image[y : y + tall, x : x + wide]
        part = panel[: place.shape[0], : place.shape[1]]
        place[:] = (place * 0.25 + part * 0.75).astype(np.uint8)
        bright = part.max(axis=2) > 60  # letters and bars stay solid, only the ground lets the picture through
        place[bright] = part[bright]


def _place(
    box: tuple[int, int, int, int], panel: tuple[int, int], size: tuple[int, int], taken: Sequence[Box], *, gap: int
) -> tuple[int, int]:
    """Left and top of a panel: right of its box, left, below or above, whichever covers least of what is taken."""
    (left, top, w, h), (wide, tall) = box, panel
    wishes = [(left + w + gap, top), (left - wide - gap, top), (left, top + h + gap), (left, top - tall - gap)]
    inside = [(min(max(x, 0), max(size[0] - wide, 0)), min(max(y, 0), max(size[1] - tall, 0))) for x, y in wishes]
    return min(inside, key=lambda at: sum(overlap((*at, wide, tall), other) for other in taken))


def _panel(one: Shown, letter: int) -> np.ndarray:
    """Title and bars on a dark ground, uint8 [h, w, 3]."""
    order = range(len(one.names)) if len(one.names) <= _MOST else one.probs.argsort()[::-1][:_MOST]
    rows = [(one_line(one.names[k]), float(one.probs[k])) for k in order]
    font, step, pad = _font(letter), letter * 3 // 2, letter // 2
    names = round(max(font.getlength(name) for name, _ in rows))
    bar, number = 5 * letter, round(font.getlength("0.00"))
    title = one_line(one.title)
    wide = max(names + bar + number + 4 * pad, round(font.getlength(title)) + 2 * pad)
    image = Image.new("RGB", (wide, step * (len(rows) + 1) + pad), (24, 24, 28))
    pen = ImageDraw.Draw(image)
    pen.text((pad, pad // 2), title, font=font, fill="white")
    best = max(value for _, value in rows)
    for i, (name, value) in enumerate(rows, start=1):
        y, x = i * step, 2 * pad + names
        pen.text((pad, y + pad // 2), name, font=font, fill="white")
        pen.rectangle((x, y + pad, x + bar, y + letter + pad // 2), fill=(72, 72, 80))
        if value * bar >= 1:
            colour = ORANGE if value == best else SKY
            pen.rectangle((x, y + pad, x + round(value * bar), y + letter + pad // 2), fill=colour)
        pen.text((x + bar + pad, y + pad // 2), f"{value:.2f}", font=font, fill="white")
    return np.asarray(image)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(), size)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
