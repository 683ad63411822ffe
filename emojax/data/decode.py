"""Encoded image -> pixels, with one defined behaviour for training, evaluation and serving.

The rules, in order:
  1. JPEG, PNG, WebP, BMP, GIF and TIFF only, recognised by content; at most 50 million pixels, known from the header.
  2. Animated files: the first frame.
  3. 16-bit grey -> 8 bits as round(v / 257). 32-bit and floating-point pixels have no defined range and are refused.
  4. The EXIF orientation is applied; metadata that cannot be read counts as "upright".
  5. Transparency (alpha channel, palette or key colour) is composited on white.
  6. Everything else becomes sRGB by Pillow's `convert`, CMYK and YCCK included; colour profiles are ignored.

Truncated files are refused, never filled up. A JPEG much larger than what is needed is decoded at 1/2, 1/4 or 1/8 of
its size inside the inverse DCT, which keeps every rule above. Pillow decides what an image is. For random crops
simplejpeg then decodes plain JPEGs, straight into an array: 0.65 ms for 500 px where Pillow takes 0.75, and the same
pixels, as both are libjpeg-turbo. It stops at anything that libjpeg finds odd; that is Pillow's again, and its verdict
and reasons count. (OpenCV is as fast, but writes a line to the terminal for every oddity, and accepts some damage.)
"""

from __future__ import annotations

import contextlib
import io
import warnings

import cv2
import numpy as np
import simplejpeg
from PIL import Image, PngImagePlugin

from emojax.data.storage import MAX_BYTES, TooLarge, Unreadable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 50_000_000

# Our own limit is stricter and ends in a reason instead of a line on the terminal.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

PngImagePlugin.MAX_TEXT_MEMORY = 8 << 20  # Pillow unpacks 64 MiB of compressed remarks before it refuses a file

_METADATA = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_COLOUR = {"L": "GRAY", "RGB": "RGB"}
"""Mode of a JPEG that simplejpeg may decode -> what it calls that."""


class Opened:
    """An image whose header was read and whose pixels were not: its size decides how much has to be decoded.

    Attributes:
      size: (width, height) after orientation, pixels.
    """

    __slots__ = ("_data", "_image", "_orientation", "_pixels", "size")

    def __init__(self, data: bytes | np.ndarray, *, max_pixels: int = MAX_PIXELS) -> None:
        """Raises `TooLarge` for an encoded image of more than `max_pixels`, `Unreadable` for one that is none."""
        self._pixels = None
        if isinstance(data, np.ndarray):
            self._pixels = _checked(data)
            self.size = self._pixels.shape[1], self._pixels.shape[0]
            return
        self._data, self._image = data, _from_bytes(data, max_pixels)
        self._orientation = _orientation(self._image)
        width, height = self._image.size
        self.size = (height, width) if self._orientation >= 5 else (width, height)

    def load(self, *, reduce: int = 1) -> Image.Image:
        """Decodes: a Pillow image of mode L (grey) or RGB.

        A JPEG comes back with its sides divided by 1, 2, 4 or 8, the largest that is at most `reduce`; everything else
        at full size. Raises `Unreadable` when the pixels cannot be decoded.
        """
        if self._pixels is not None:
            return Image.fromarray(self._pixels)
        image = self._image
        try:
            if reduce > 1 and image.format in ("JPEG", "MPO"):
                image.draft(None, (max(1, image.width // reduce), max(1, image.height // reduce)))
            image.load()
            image = _plain(image)
        except Unreadable:
            raise
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            raise Unreadable(f"damaged image: {error or type(error).__name__}") from error
        return image.transpose(_TRANSPOSE[self._orientation]) if self._orientation in _TRANSPOSE else image

    def pixels(self, box: tuple[float, ...], *, reduce: int = 1) -> np.ndarray:
        """Decodes as `load` does: the part of the picture in `box`, rounded to whole pixels.

        Args:
          box: (left, top, right, bottom) in pixels of the full picture.

        Returns uint8 [H, W] or [H, W, 3], read-only or a view of the array that was opened.
        """
        whole = self._jpeg(reduce) if self._pixels is None else self._pixels
        if whole is None:
            whole = np.asarray(self.load(reduce=reduce))
        height, width = whole.shape[:2]
        x, y = width / self.size[0], height / self.size[1]
        left, top, right, bottom = _whole((box[0] * x, box[1] * y, box[2] * x, box[3] * y), width, height)
        return whole[top:bottom, left:right]

    def _jpeg(self, reduce: int) -> np.ndarray | None:
        """All pixels of an upright grey or colour JPEG by simplejpeg; None for what Pillow has to look at."""
        image = self._image
        if image.format != "JPEG" or image.mode not in _COLOUR or self._orientation != 1:
            return None
        width, height = (-(-side // reduce) for side in image.size)  # the smallest that may come back
        try:
            pixels = simplejpeg.decode_jpeg(
                self._data, colorspace=_COLOUR[image.mode], min_height=height, min_width=width
            )
        except ValueError:  # also for what can be decoded all the same
            return None
        return pixels[..., 0] if image.mode == "L" else pixels


def _whole(box: tuple[float, ...], width: int, height: int) -> tuple[int, int, int, int]:
    """`box` with its sides and then its corner rounded to whole pixels, at least one each, inside width x height."""
    w = min(width, max(1, round(box[2] - box[0])))
    h = min(height, max(1, round(box[3] - box[1])))
    left, top = min(round(box[0]), width - w), min(round(box[1]), height - h)
    return left, top, left + w, top + h


def decode(data: bytes | np.ndarray) -> np.ndarray:
    """Full-size pixels of an encoded image, or of an array uint8 [H, W], [H, W, 1] or [H, W, 3].

    Returns uint8 [H, W, 3], sRGB; grey images have three equal channels. Raises `Unreadable` with the reason.
    """
    pixels = whole(data)
    out = np.empty((*pixels.shape[:2], 3), np.uint8)
    fill_rgb(out, pixels)
    return out


def whole(data: bytes | np.ndarray) -> np.ndarray:
    """As `decode`, but uint8 [H, W] for an image that is stored as grey, and perhaps read-only."""
    opened = Opened(data)
    return opened.pixels((0, 0, *opened.size))


def pixels_of(image: Image.Image) -> np.ndarray:
    """Pixels of a Pillow image, uint8 [H, W] or [H, W, 3]; transparency becomes white. Raises `Unreadable`."""
    return np.asarray(_plain(image))


def verify(data: bytes) -> None:
    """Raises `Unreadable` unless the image decodes; cheaper than `decode` for large JPEG files."""
    Opened(data).load(reduce=8)


def fill_rgb(out: np.ndarray, pixels: np.ndarray) -> None:
    """Copies uint8 [H, W] or [H, W, 3] into `out`, uint8 [H, W, 3] without gaps; grey becomes three equal channels."""
    if pixels.ndim == 3:
        np.copyto(out, pixels)
    else:
        cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB, dst=out)


def _checked(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise Unreadable(f"expected uint8 [H, W] or [H, W, 3], found {pixels.dtype} {list(pixels.shape)}")
    if pixels.size == 0:
        raise Unreadable("the image has no pixels")
    return pixels


def _from_bytes(data: bytes, max_pixels: int) -> Image.Image:
    if len(data) == 0:
        raise Unreadable("empty file (0 bytes)")
    if len(data) > MAX_BYTES:
        raise Unreadable(f"{len(data) >> 20} MiB, more than the limit of {MAX_BYTES >> 20} MiB")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise Unreadable("not a JPEG, PNG, WebP, BMP, GIF or TIFF image") from error
    except Image.DecompressionBombError as error:
        raise TooLarge(f"more than the limit of {max_pixels:,} pixels") from error
    except Exception as error:  # damaged headers raise whatever the parser stumbled over
        raise Unreadable(f"damaged header: {error or type(error).__name__}") from error
    if image.width * image.height > max_pixels:
        raise TooLarge(f"{image.width} x {image.height} pixels, more than the limit of {max_pixels:,}")
    return image


def _orientation(image: Image.Image) -> int:
    # Pillow turns TIFF files itself while loading. Looking for EXIF costs 20 us, so only where there can be some.
    if image.format == "TIFF" or not any(key in image.info for key in _METADATA):
        return 1
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = image.getexif().get(_ORIENTATION, 1)
        return value if value in _TRANSPOSE else 1
    return 1


def _plain(image: Image.Image) -> Image.Image:
    """Any Pillow image as mode L or RGB, by the rules of this module."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise Unreadable("32-bit or floating-point pixels; convert the image to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")
