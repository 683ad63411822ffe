"""What `Classifier.predict` takes: one picture or many, and nothing that is no picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emojax.data import decode
from emojax.data.given import Given
from emojax.errors import DataError

GREY, RGB = np.full((5, 7), 9, np.uint8), np.full((5, 7, 3), 9, np.uint8)


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("images", "count"),
    [
        ("a.png", 1),
        (Path("a.png"), 1),
        (b"bytes", 1),
        (GREY, 1),
        (RGB, 1),
        (Image.fromarray(RGB), 1),
        ([], 0),
        (["a.png", Path("b.png"), b"bytes", GREY, RGB, Image.fromarray(GREY)], 6),
        ((x for x in ("a.png", "b.png")), 2),
        (np.stack([RGB, RGB]), 2),
        (np.stack([GREY] * 5), 5),
        (GREY[None], 1),
    ],
)
def test_one_picture_or_many(images, count):
    assert len(Given.of(images)) == count


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (None, "found NoneType"),
        (7, "found int"),
        ([None], "picture 0.*found NoneType"),
        ([RGB, RGB.astype(np.float32) / 255], r"picture 1.*values 0 to 255; found float32 \[5, 7, 3\]"),
        (RGB.astype(np.int64), r"picture 0.*found int64"),
        ([np.moveaxis(RGB, 2, 0)], r"picture 0.*found uint8 \[3, 5, 7\]"),
        ([np.zeros((0, 4, 3), np.uint8)], r"picture 0.*found uint8 \[0, 4, 3\]"),
        (np.moveaxis(RGB, 2, 0), r"array \[3, 5, 7\]: give colours on the last axis, or several grey"),
        (np.zeros((5, 7, 2), np.uint8), r"array \[5, 7, 2\]"),
        ({"a.png": 1}, "found dict"),
        ([".", "a.png"], r"picture 0: \. is a folder"),
        (np.zeros((2, 3, 4, 5, 3), np.uint8), r"picture 0.*found uint8 \[3, 4, 5, 3\]"),
    ],
)
def test_what_is_no_picture_is_refused(images, found):
    with pytest.raises(DataError, match=found):
        Given.of(images)


def test_transparent_parts_become_white_as_in_files():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4)).astype(np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    expected = decode.whole(png(image))
    for given in (pixels, image):
        np.testing.assert_array_equal(Given.of(given)[0], expected)


def test_a_pillow_image_is_turned_upright():
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    image.getexif()[0x0112] = 6
    assert Given.of(image)[0].shape == (4, 3)


def test_names_and_files(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(Image.fromarray(RGB)))
    given = Given.of([path, RGB])
    assert given.names().tolist() == [str(path), "image 1"] and given[0] == path.read_bytes()
