"""The gallery of `emojax data check`: pictures that are copies of each other, side by side, in one HTML file."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from emojax.data.audit import Audit
    from emojax.types import Dataset

MOST = 200
"""Groups shown: first those with conflicting classes, then those across splits, then the others."""

_IN_A_ROW = 8
_SIDE = 96

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Copies</title>
<style>:root{{color-scheme:light dark}}body{{font:14px system-ui;margin:2em}}figure{{margin:0;width:12em}}
section{{display:flex;gap:1em;flex-wrap:wrap;border-bottom:1px solid #8888;padding:1em 0}}img{{height:96px}}
figcaption{{overflow-wrap:anywhere}}</style><h1>{title}</h1><p>{about}</p>{body}</html>
"""


def write(path: Path, dataset: Dataset, found: Audit) -> None:
    """Writes the page to `path`; it holds the pictures themselves and needs no other file."""
    import numpy as np

    from emojax.files import write_text

    order = np.argsort(found.group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(found.group[order])) + 1)
    several = [group for group in groups if len(group) > 1]
    several.sort(key=lambda group: (-int(found.conflicting[group].any()), -int(found.leaked[group].any())))
    body = "".join(_section(dataset, found, group) for group in several[:MOST])
    about = f"{len(several):,} pictures occur more than once; {min(MOST, len(several))} are shown: first those with "
    about += "different classes, then those in several splits."
    title = html.escape(f"Copies in {dataset.name}")
    write_text(path, _PAGE.format(title=title, about=about, body=body))


def _section(dataset: Dataset, found: Audit, group: np.ndarray) -> str:
    import numpy as np

    figures = []
    for i in group[:_IN_A_ROW].tolist():
        record = found.records[i]
        position = i - int(np.searchsorted(found.copies.split, found.copies.split[i]))
        picture = _picture(dataset.splits[record.split].images, position)
        caption = "<br>".join(html.escape(text) for text in (record.label, record.split, record.id))
        figures.append(f'<figure><img src="{picture}" alt="">' + f"<figcaption>{caption}</figcaption></figure>")
    more = f"<p>and {len(group) - _IN_A_ROW} more</p>" if len(group) > _IN_A_ROW else ""
    return f"<section>{''.join(figures)}{more}</section>"


def _picture(images: object, position: int) -> str:
    """The picture as a data URL, at most 96 pixels high."""
    import cv2

    from emojax.data.decode import decode

    pixels = decode(images[position])  # type: ignore[index]
    scale = _SIDE / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()
