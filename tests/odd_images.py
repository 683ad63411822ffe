"""Makes the odd images of the decoding tests: (name, encoded bytes, expected uint8 [H, W, 3])."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

CORNERS = (
    np.array(  # 2 x 3 blocks of 16 x 16 pixels: no symmetry, so every orientation differs
        [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [0, 0, 0], [255, 255, 255]]], np.uint8
    )
    .repeat(16, 0)
    .repeat(16, 1)
)


def encode(image, kind: str, **options) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def solid(colour, height: int = 4, width: int = 5) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def undo_orientation(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that EXIF `orientation` shows `pixels`: by the definition of EXIF 2.32, table 6."""
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, 1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }
    return np.ascontiguousarray(stored[orientation])


def odd_images() -> list[tuple[str, bytes, np.ndarray]]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    grey = noise[..., 0]
    grey3 = np.repeat(grey[..., None], 3, 2)
    made = [
        ("1x1", encode(noise[:1, :1], "PNG"), noise[:1, :1]),
        ("1x4000", encode(solid(7, 1, 4000), "PNG"), solid(7, 1, 4000)),
        ("4000x1", encode(solid(7, 4000, 1), "PNG"), solid(7, 4000, 1)),
        ("rgb.png", encode(noise, "PNG"), noise),
        ("rgb.bmp", encode(noise, "BMP"), noise),
        ("rgb.tif", encode(noise, "TIFF"), noise),
        ("rgb.webp", encode(noise, "WEBP", lossless=True), noise),
        ("grey.png", encode(grey, "PNG"), grey3),
        ("grey.jpg", encode(np.full((8, 8), 100, np.uint8), "JPEG"), solid(100, 8, 8)),
    ]
    bits = grey > 127
    made.append(("1bit.png", encode(Image.fromarray(bits), "PNG"), np.where(bits, 255, 0)[..., None].repeat(3, 2)))

    deep = np.array([[0, 257, 128, 129, 65535], [256, 1000, 32768, 65406, 65407]], np.uint16)
    shallow = np.array([[0, 1, 0, 1, 255], [1, 4, 128, 254, 255]], np.uint8)  # round(v / 257), by hand
    made.append(("16bit.png", encode(Image.fromarray(deep), "PNG"), np.repeat(shallow[..., None], 3, 2)))
    made.append(("16bit.tif", encode(Image.fromarray(deep), "TIFF"), np.repeat(shallow[..., None], 3, 2)))

    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[0, 1] = (10, 20, 30, 0)  # a hidden colour must not come out
    rgba[1, 0] = (0, 0, 0, 51)  # a fifth of black on white
    rgba[1, 1] = (255, 0, 0, 255)
    white = np.array([[[10, 20, 30], [255] * 3], [[204] * 3, [255, 0, 0]]], np.uint8)
    made.append(("rgba.png", encode(rgba, "PNG"), white))
    made.append(("rgba.webp", encode(rgba, "WEBP", lossless=True, exact=True), white))
    made.append(("la.png", encode(Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA"), "PNG"),
                 np.array([[[9] * 3, [255] * 3]], np.uint8)))  # fmt: skip

    palette = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "P")
    palette.putpalette([1, 2, 3, 40, 50, 60, 70, 80, 90])
    table = np.array([[1, 2, 3], [40, 50, 60], [70, 80, 90]], np.uint8)
    made.append(("palette.png", encode(palette, "PNG"), table[[[0, 1], [2, 0]]]))
    clear = table.copy()
    clear[1] = 255
    made.append(("palette-alpha.png", encode(palette, "PNG", transparency=1), clear[[[0, 1], [2, 0]]]))
    made.append(("palette-alpha.gif", encode(palette, "GIF", transparency=1), clear[[[0, 1], [2, 0]]]))
    keyed = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    made.append(
        ("rgb-key.png", encode(keyed, "PNG", transparency=(4, 5, 6)), np.array([[[1, 2, 3], [255] * 3]], np.uint8))
    )

    frames = [Image.fromarray(solid(colour)) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=10, **options)
        made.append((f"animated.{kind.lower()}", data, solid((255, 0, 0))))

    # Ink: no cyan, all magenta, all yellow is red; Pillow stores CMYK JPEG inverted as Adobe does.
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    made.append(("cmyk.jpg", encode(cmyk, "JPEG", quality=100), solid((255, 0, 0), 8, 8)))
    made.append(("cmyk.tif", encode(cmyk, "TIFF"), solid((255, 0, 0), 8, 8)))

    for orientation in range(1, 9):
        stored = undo_orientation(CORNERS, orientation)
        exif = Image.Exif()
        exif[0x0112] = orientation
        made.append((f"exif{orientation}.png", encode(stored, "PNG", exif=exif), CORNERS))
        made.append((f"exif{orientation}.webp", encode(stored, "WEBP", lossless=True, exif=exif), CORNERS))
        if orientation in (1, 6):
            made.append((f"exif{orientation}.tif", encode(stored, "TIFF", tiffinfo={0x0112: orientation}), CORNERS))
    broken = encode(noise, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    made.append(("broken-exif.png", broken, noise))
    return made


def png_header(width: int, height: int) -> bytes:
    """A tiny PNG file that claims to be width x height."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def bad_images() -> list[tuple[str, bytes, str]]:
    """(name, bytes, part of the reason)."""
    whole = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "JPEG")
    png = encode(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), "PNG")
    return [
        ("empty.jpg", b"", "empty file"),
        ("truncated.jpg", whole[: len(whole) // 2], "truncated"),
        ("truncated.png", png[: len(png) // 2], "damaged"),
        ("header-only.jpg", whole[:20], "not a JPEG|damaged"),
        ("text.jpg", b"hello, world\n", "not a JPEG, PNG"),
        ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG, PNG"),
        ("eps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a JPEG, PNG"),
        ("pdf.jpg", b"%PDF-1.4\n", "not a JPEG, PNG"),
        ("zip.png", b"PK\x03\x04" + bytes(30), "not a JPEG, PNG"),
        ("bomb.png", png_header(50_000, 50_000), "50,000,000"),
        ("large.png", png_header(8_000, 7_000), "8000 x 7000 pixels"),
        ("float.tif", encode(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ]
