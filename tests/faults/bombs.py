"""Files that are small and would become large; run as a program, it opens each of those in a folder and says what it
cost: a JSON line {name: [reason or size of what was decoded, CPU seconds, MB by which its memory grew at most]}."""

import contextlib
import io
import json
import re
import struct
import sys
import time
import zlib
from pathlib import Path

from odd_images import encode, png_header
from PIL import Image


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, bits=8, extra=()) -> bytes:
    """A whole grey PNG of zeros with other chunks before its pixels."""
    packer = zlib.compressobj(9)
    pixels = packer.compress(bytes((-(-width * bits // 8) + 1) * height))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", pixels + packer.flush()) + chunk(b"IEND", b"")
    )


def jpeg_of_size(width, height) -> bytes:
    data = bytearray(encode(Image.new("L", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def gif(frames, side) -> bytes:
    images = [Image.new("P", (side, side), n % 250) for n in range(frames)]
    for n, image in enumerate(images):
        image.putpalette([n % 256, 7, 7] * 256)
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=10)
    return buffer.getvalue()


def refused() -> dict[str, bytes]:
    """Must not be decoded at all, or only as far as is needed to see it."""
    tiff = bytearray(encode(Image.new("L", (4, 4)), "TIFF"))
    for tag in (b"\x00\x01", b"\x01\x01"):  # width and length of the first directory, type long
        at = tiff.index(tag + b"\x04\x00") if tag + b"\x04\x00" in tiff else tiff.index(tag + b"\x03\x00")
        tiff[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 60_000)
    bmp = bytearray(encode(Image.new("RGB", (4, 4)), "BMP"))
    bmp[18:26] = struct.pack("<ii", 40_000, 40_000)
    gif_header = bytearray(encode(Image.new("P", (4, 4)), "GIF"))
    gif_header[6:10] = struct.pack("<HH", 65_000, 65_000)
    return {
        "header.png": png_header(50_000, 50_000),
        "zeros.png": png(16_384, 16_384, bits=1),
        "thin.png": png_header(2**31 - 1, 1),
        "header.jpg": jpeg_of_size(65_500, 65_500),
        "header.tif": bytes(tiff),
        "header.bmp": bytes(bmp),
        "header.gif": bytes(gif_header),
        "profile.png": png(4, 4, extra=[chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(80 << 20), 9))]),
        "texts.png": png(4, 4, extra=[chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000), 9))] * 200),
        "zip.png": b"PK\x03\x04" + bytes(1000),
        "long.jpg": bytes((64 << 20) + 1),
    }


def harmless() -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Look like bombs and are images: name -> (bytes, height and width)."""
    large = b"Exif\0\0" + bytes(60_000)
    return {
        "frames.gif": (gif(100, 64), (64, 64)),
        "tall.png": (png(1, 40_000), (40_000, 1)),
        "exif.jpg": (encode(Image.new("L", (8, 8)), "JPEG", exif=large), (8, 8)),
        "profile.jpg": (encode(Image.new("L", (8, 8)), "JPEG", icc_profile=bytes(16 << 20)), (8, 8)),
    }


def highest() -> float:
    """Largest memory of this process, MB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def main(folder: Path) -> None:
    from emojax.data.decode import decode
    from emojax.data.storage import Files, Unreadable

    for kind in ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM"):  # what is loaded once is not the image's
        with contextlib.suppress(Unreadable):
            decode(encode(Image.new("RGB", (64, 64)), kind))
    found = {}
    for name in sorted(path.name for path in folder.iterdir()):
        Path("/proc/self/clear_refs").write_text("5")  # the highest so far is what is used now
        before, start = highest(), time.process_time()
        try:
            verdict = list(decode(Files.of(folder, [name])[0]).shape)
        except Unreadable as error:
            verdict = str(error)
        seconds = time.process_time() - start
        found[name] = [verdict, seconds, highest() - before]
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
