"""Decoding: exact pixels of odd images, readable reasons for bad ones, and what files may not do."""

import os
import time

import numpy as np
import pytest
from odd_images import CORNERS, bad_images, encode, odd_images, undo_orientation

from emojax.data import storage
from emojax.data.decode import Opened, decode, verify
from emojax.data.storage import Files, Packed, Unreadable, read_file
from emojax.data.transforms import eval_image

ODD = odd_images()
BAD = bad_images()


@pytest.mark.parametrize(("name", "data", "expected"), ODD, ids=[name for name, _, _ in ODD])
def test_odd_images_have_exactly_these_pixels(name, data, expected):
    pixels = decode(data)
    assert pixels.dtype == np.uint8 and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, expected)
    verify(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_orientation_also_when_decoded_at_reduced_size(orientation):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = undo_orientation(CORNERS.repeat(2, 0).repeat(2, 1), orientation)
    data = encode(stored, "JPEG", quality=100, subsampling=0, exif=exif)
    full = decode(data)
    assert full.shape == (64, 96, 3)
    opened = Opened(data)
    assert opened.size == (96, 64)
    half = np.asarray(opened.load(reduce=2))
    assert half.shape == (32, 48, 3)
    for block, y, x in ((full, 64, 96), (half, 32, 48)):
        centres = block[y // 4 :: y // 2, x // 6 :: x // 3]
        np.testing.assert_allclose(centres, CORNERS[8::16, 8::16], atol=6)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2, "progressive": True}])
def test_both_decoders_give_the_same_pixels_of_a_jpeg(mode, options):
    """Random crops are cut from simplejpeg's pixels, evaluation views from Pillow's; odd sides round up when halved."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((333, 277), Image.Resampling.BICUBIC).convert(mode)
    data = encode(image, "JPEG", quality=70, **options)
    for reduce in (1, 2, 4, 8):
        opened = Opened(data)
        assert opened._jpeg(reduce) is not None
        whole = np.asarray(Opened(data).load(reduce=reduce))
        np.testing.assert_array_equal(opened.pixels((0, 0, 333, 277), reduce=reduce), whole)
        part = opened.pixels((40.2, 16.0, 200.4, 175.9), reduce=reduce)
        left, top = round(40.2 * whole.shape[1] / 333), round(16 * whole.shape[0] / 277)
        np.testing.assert_array_equal(part, whole[top : top + part.shape[0], left : left + part.shape[1]])
        assert part.shape[:2] == (round(159.9 * whole.shape[0] / 277), round(160.2 * whole.shape[1] / 333))


def test_pillow_has_the_last_word_about_damaged_jpegs():
    """Whatever was done to its bytes, a JPEG is refused by both ways to its pixels or by none, with the same pixels."""
    rng = np.random.default_rng(0)
    whole = encode(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8), "JPEG", quality=60)
    refused = 0
    for i in range(300):
        data = bytearray(whole)
        data[int(rng.integers(20, len(data)))] ^= int(rng.integers(1, 256))
        data = bytes(data) if i % 3 else bytes(data[: int(rng.integers(len(data)))])
        try:
            size = Opened(data).size
            expected = np.asarray(Opened(data).load())
        except Unreadable as error:
            refused += 1
            with pytest.raises(Unreadable) as raised:
                opened = Opened(data)
                opened.pixels((0, 0, *opened.size))
            assert str(raised.value) == str(error)
        else:
            np.testing.assert_array_equal(Opened(data).pixels((0, 0, *size)), expected)
    assert 50 < refused < 250


def test_reduced_grey_and_cmyk_jpegs_keep_their_rules():
    from PIL import Image

    grey = encode(Image.new("L", (256, 256), 100), "JPEG")
    cmyk = encode(Image.new("CMYK", (256, 256), (0, 255, 255, 0)), "JPEG", quality=100)
    assert (eval_image(grey, size=32, crop=1.0) == 100).all()
    np.testing.assert_array_equal(eval_image(cmyk, size=32, crop=1.0)[0, 0], (255, 0, 0))


def test_arrays_pass_through():
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(decode(pixels), pixels)
    np.testing.assert_array_equal(decode(pixels[..., :1]), pixels[..., :1].repeat(3, 2))
    np.testing.assert_array_equal(decode(pixels[..., 0])[..., 2], pixels[..., 0])
    for wrong in (pixels.astype(np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(Unreadable):
            decode(wrong)


@pytest.mark.parametrize(("name", "data", "reason"), BAD, ids=[name for name, _, _ in BAD])
def test_bad_images_have_a_reason_and_cost_nothing(name, data, reason):
    start = time.perf_counter()
    with pytest.raises(Unreadable, match=reason):
        decode(data)
    assert time.perf_counter() - start < 0.5


def test_every_truncation_of_a_small_png_and_jpeg_is_refused():
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for kind, tail in (("PNG", 12), ("JPEG", 2)):  # the end marker alone may be missing
        data = encode(pixels, kind)
        for cut in range(0, len(data) - tail - 8, 7):
            with pytest.raises(Unreadable):
                decode(data[:cut])


def test_files_that_are_no_regular_files(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "fifo.jpg")
    files = Files.of(tmp_path, ["folder.jpg", "fifo.jpg", "missing.jpg", "x" * 300 + ".jpg"])
    for i, reason in enumerate(["is a directory", "not a regular file", "No such file", "name too long"]):
        with pytest.raises(Unreadable, match=reason):
            files[i]
    with pytest.raises(Unreadable, match="not a regular file"):
        read_file("/dev/zero")


def test_byte_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MAX_BYTES", 1 << 20)
    (tmp_path / "a.jpg").write_bytes(bytes(2 << 20))
    with pytest.raises(Unreadable, match="2 MiB, more than the limit of 1 MiB"):
        read_file(str(tmp_path / "a.jpg"))


def test_packed_round_trip():
    parts = [b"", b"abc", b"\0\xff", b""]
    packed = Packed.of(parts)
    assert len(packed) == 4 and [packed[i] for i in range(4)] == parts
    assert len(Packed.of([])) == 0
