"""For Schemathesis, which runs in an environment of its own: what a picture is, since the schema can only say "binary".

Read through SCHEMATHESIS_HOOKS by tests/test_serve_schema.py; uses nothing but Schemathesis and Hypothesis.
"""

import struct
import zlib

import schemathesis
from hypothesis import strategies as st


def png(side: int, colour: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([colour]) * side) * side)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


PICTURES = st.builds(png, st.integers(1, 80), st.integers(0, 255))
schemathesis.openapi.format("binary", PICTURES)
for kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff"):
    schemathesis.openapi.media_type(f"image/{kind}", PICTURES)
