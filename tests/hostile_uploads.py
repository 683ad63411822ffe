"""A hundred requests that no server should answer with a class: bombs, truncated, of another type, huge, odd headers.

Each is the whole request as bytes, so that nothing between here and the server makes it better.
"""

from __future__ import annotations

import asyncio
import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from odd_images import encode
from PIL import Image

BOUNDARY = "----limit"


class Hostile(NamedTuple):
    """What it is, and the request."""

    name: str
    request: bytes


def hostile() -> list[Hostile]:
    """All of them, always the same."""
    return [*_bombs(), *_truncated(), *_other_types(), *_huge(), *_forms(), *_heads()]


async def status(request: bytes, port: int, *, seconds: float = 20) -> int:
    """The status that a server on this machine answers, 0 = the connection was closed without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        try:
            for start in range(0, len(request), 1 << 16):
                writer.write(request[start : start + (1 << 16)])
                await writer.drain()
        except OSError:  # it had enough
            pass

    sending = asyncio.create_task(send())
    try:
        line = await asyncio.wait_for(reader.readline(), seconds)
        return int(line.split()[1]) if line else 0
    except (ConnectionError, TimeoutError):
        return 0
    finally:
        sending.cancel()
        writer.close()


def post(
    body: bytes, kind: str = "image/png", *headers: str, path: str = "/predict", length: int | None = None
) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"Content-Type: {kind}"] if kind else []
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


def form(*parts: bytes, kind: str = f"multipart/form-data; boundary={BOUNDARY}", end: bool = True) -> bytes:
    lines = b"".join(f"--{BOUNDARY}\r\n".encode() + part + b"\r\n" for part in parts)
    return post(lines + (f"--{BOUNDARY}--\r\n".encode() if end else b""), kind)


def part(content: bytes, disposition: str = 'form-data; name="file"; filename="a.png"') -> bytes:
    return f"Content-Disposition: {disposition}\r\nContent-Type: image/png\r\n\r\n".encode() + content


def png(width: int, height: int, *chunks: tuple[bytes, bytes], data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = [(b"IHDR", head), *chunks, (b"IDAT", data or zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*row) for row in rows)


def good(kind: str = "PNG", side: int = 64) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encode(noise, kind)


def _bombs() -> Iterator[Hostile]:
    for width, height in (
        (50_000, 50_000),
        (2**31 - 1, 2**31 - 1),
        (1, 2**31 - 1),
        (6000, 6000),
        (0, 0),
        (100_000, 300),
    ):
        yield Hostile(f"bomb: PNG of {width} x {height}", post(png(width, height)))
    flat = zlib.compress(b"\0" * (3 * 6000 + 1) * 6000, 6)
    yield Hostile("bomb: PNG whose 36 million pixels are there, in 105 KB", post(png(6000, 6000, data=flat)))
    text = b"remark\0\0" + zlib.compress(b"a" * (40 << 20), 6)
    yield Hostile("bomb: PNG with 40 MB of compressed remarks", post(png(64, 64, (b"zTXt", text))))
    profile = b"profile\0\0" + zlib.compress(b"a" * (40 << 20), 6)
    yield Hostile("bomb: PNG with 40 MB of colour profile", post(png(64, 64, (b"iCCP", profile))))
    yield Hostile("bomb: GIF", post(b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b";", "image/gif"))
    bmp = bytearray(good("BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    yield Hostile("bomb: BMP", post(bytes(bmp), "image/bmp"))
    jpeg = bytearray(good("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65535, 65535)
    yield Hostile("bomb: JPEG", post(bytes(jpeg), "image/jpeg"))
    wide = encode(Image.new("L", (8_000, 8_000)), "TIFF", compression="tiff_deflate")
    yield Hostile("bomb: TIFF of 64 million pixels", post(wide, "image/tiff"))
    yield Hostile("bomb: in a form", form(part(png(50_000, 50_000))))


def _truncated() -> Iterator[Hostile]:
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        whole = good(kind)
        for share in (0.02, 0.3, 0.6, 0.9):
            cut = whole[: int(share * len(whole))]
            yield Hostile(f"truncated: {kind} after {share:.0%}", post(cut, f"image/{kind.lower()}"))
    yield Hostile("truncated: PNG without its end, in a form", form(part(good()[:2000])))
    yield Hostile("truncated: GIF after 50%", post(good("GIF")[: len(good("GIF")) // 2], "image/gif"))


def _other_types() -> Iterator[Hostile]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zeros", b"\0" * (20 << 20))
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, 4096, dtype=np.uint8).tobytes()
    for name, body in (
        ("nothing", b""), ("text", b"hello"), ("zeros", b"\0" * 4096), ("noise", noise), ("HTML", b"<html><script>"),
        ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'),
        ("XML with entities", b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>'),
        ("PDF", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj"), ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("zip bomb", archive.getvalue()), ("gzip", b"\x1f\x8b\x08" + noise), ("ELF", b"\x7fELF" + noise),
        ("pickle", b"cos\nsystem\n(S'true'\ntR."), ("npy", b"\x93NUMPY\x01\x00" + noise), ("PSD", b"8BPS\0\1" + noise),
        ("ICO", encode(Image.new("RGB", (16, 16)), "ICO")), ("PPM", encode(Image.new("RGB", (4, 4)), "PPM")),
        ("PNG and noise", b"\x89PNG\r\n\x1a\n" + noise), ("JPEG and noise", b"\xff\xd8\xff\xe0" + noise),
        ("WebP and noise", b"RIFF\xff\xff\xff\xffWEBPVP8 " + noise), ("TIFF and noise", b"II*\0" + noise),
        ("TIFF that points at itself", b"II*\0\x08\0\0\0\x01\0\0\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0"),
        ("floating-point TIFF", encode(Image.new("F", (8, 8)), "TIFF")), ("JSON", b'{"a":' * 9999),
    ):  # fmt: skip
        yield Hostile(f"type: {name}", post(body))
    for kind in ("text/plain", "application/json", "image", "", "application/x-www-form-urlencoded", "multipart/mixed"):
        yield Hostile(f"type: a picture as {kind or 'nothing'}", post(good(), kind))
    yield Hostile("type: a picture, but for several", post(good(), path="/predict/batch"))


def _huge() -> Iterator[Hostile]:
    yield Hostile("huge: 12 MB", post(b"\0" * (12 << 20)))
    yield Hostile("huge: 12 MB after a picture", post(good() + b"\0" * (12 << 20)))
    yield Hostile("huge: 20 GB are promised", post(b"", length=20 << 30))
    yield Hostile("huge: a length of 400 digits", post(b"x", length=10**400))
    chunk = f"{1 << 20:x}\r\n".encode() + b"\0" * (1 << 20) + b"\r\n"
    head = post(b"", length=0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    yield Hostile("huge: 12 MB in chunks", head + chunk * 12 + b"0\r\n\r\n")
    yield Hostile("huge: a form of 12 MB", form(part(b"\0" * (12 << 20))))
    yield Hostile("huge: a part that never ends", form(part(good() * 900)[: 9 << 20], end=False))
    yield Hostile("huge: less than was promised", post(good()[:100], length=5000))


def _forms() -> Iterator[Hostile]:
    fine = part(good())
    yield Hostile("form: no boundary", form(fine, kind="multipart/form-data"))
    yield Hostile("form: another boundary", form(fine, kind="multipart/form-data; boundary=other"))
    yield Hostile("form: an endless boundary", form(fine, kind=f"multipart/form-data; boundary={'b' * 9000}"))
    yield Hostile("form: a boundary of control characters", form(fine, kind='multipart/form-data; boundary="\x01\t"'))
    yield Hostile(
        "form: an unknown charset and no parts", form(kind=f"multipart/form-data; charset=x; boundary={BOUNDARY}")
    )
    yield Hostile("form: no name", form(part(good(), "form-data")))
    yield Hostile("form: another name", form(part(good(), 'form-data; name="../../etc"; filename="a.png"')))
    yield Hostile("form: no file", form(part(b"text", 'form-data; name="file"')))
    yield Hostile("form: a thousand files", form(*[fine[:300]] * 1000))
    yield Hostile("form: a thousand fields", form(*[part(b"x", 'form-data; name="a"')] * 1000))
    yield Hostile("form: a field of 5 MB", form(part(b"x" * (5 << 20), 'form-data; name="file"')))
    yield Hostile("form: two files", form(fine, fine))
    yield Hostile("form: an empty file", form(part(b"")))
    yield Hostile("form: heads without end", form(b"X-A: b\r\n" * 9000))
    yield Hostile("form: noise", post(good(), f"multipart/form-data; boundary={BOUNDARY}"))
    yield Hostile("form: a form in a form", form(part(form(fine))))


def _heads() -> Iterator[Hostile]:
    body = good()
    for name, request in (
        ("a negative length", post(body, length=-1)),
        ("two lengths", post(body, "image/png", "Content-Length: 5")),
        ("a length and chunks", post(body, "image/png", "Transfer-Encoding: chunked")),
        ("a length that is none", post(body).replace(f": {len(body)}".encode(), b": 0x10")),
        (
            "a chunk size that is none",
            post(b"", length=0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"zz\r\n",
        ),
        ("an unknown encoding", post(body, "image/png", "Transfer-Encoding: gzip")),
        ("100 KB of heads", post(body, "image/png", "X-A: " + "a" * 100_000)),
        ("10,000 heads", post(body, "image/png", *["X-A: b"] * 10_000)),
        ("NUL", post(body, "image/png", "X-A: a\0b")),
        ("no colon", post(body, "image/png", "nonsense")),
        ("a space before the colon", post(body, "image/png", "X-A : b")),
        ("another server's name", post(body).replace(b"localhost", b"example.org")),
        ("no name", post(body).replace(b"Host: localhost\r\n", b"")),
        ("two names", post(body, "image/png", "Host: example.org")),
        ("HTTP/9.9", post(body).replace(b"HTTP/1.1", b"HTTP/9.9")),
        ("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + body[:300] + b"\r\n\r\n"),
        ("an address of 50 KB", post(body, path="/predict?" + "a" * 50_000)),
        ("a parameter that is none", post(body, path="/predict?explain=perhaps")),
        ("a path upwards", b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("another method", post(body).replace(b"POST", b"PUT")),
    ):
        yield Hostile(f"head: {name}", request)
