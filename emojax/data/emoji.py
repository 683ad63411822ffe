"""The data set that ships with emojax: 398 emoji faces, 64 x 64 pixels, seven emotions, six art styles."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

from emojax.config import DataConfig
from emojax.data.storage import Packed
from emojax.data.tables import Table, assemble
from emojax.types import Dataset

ARCHIVE = Path(__file__).with_name("emoji-faces-64px.zip")

STYLES = {
    "noto": "train",
    "noto-v1": "train",
    "fluent-emoji": "train",
    "fluent-emoji-flat": "train",
    "emojione": "val",
    "twemoji": "test",
}
"""Splits by art style: neither `val` nor `test` has a sibling style in `train`, so their accuracy is that on drawings
by a hand the model has never seen."""

ATTRIBUTION = (
    "emoji faces rendered from Noto Emoji (Google, Apache-2.0), Twemoji (Twitter, CC-BY-4.0), Fluent Emoji "
    "(Microsoft, MIT) and EmojiOne 2 (CC-BY-4.0); see NOTICE"
)


def read(*, config: DataConfig) -> Dataset:
    """The shipped set; `slices` has the art style. The emotion of each emoji is this project's own judgement."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        rows = list(csv.DictReader(io.TextIOWrapper(archive.open("emoji-faces/labels.csv"), encoding="utf-8")))
        images = Packed.of(archive.read("emoji-faces/" + row["file"]) for row in rows)
    table = Table(
        images=images,
        ids=[row["file"] for row in rows],
        label=[row["label"] for row in rows],
        slices={"style": [row["style"] for row in rows]},
        split=[STYLES[row["style"]] for row in rows],
        where=lambda i: f"{ARCHIVE.name}: {rows[i]['file']}",
    )
    splits = "splits by art style: train Noto and Fluent Emoji, val EmojiOne, test Twemoji"
    return assemble("emoji", {"": table}, config=config, notes=(splits, ATTRIBUTION))
