"""Bodies of requests → pictures as encoded bytes, within the limits and from memory alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from emojax.serve.limits import Limits, Refused

RAW = ("image/", "application/octet-stream")
FORM = "multipart/form-data"


def kind(request: Request) -> str:
    """The type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def check_kind(request: Request, *, raw: bool) -> None:
    """Raises `Refused` with 415 unless the body is a form or, with `raw`, a picture."""
    found = kind(request)
    if found == FORM or (raw and found.startswith(RAW)):
        return
    wanted = f"{FORM} or image/* (application/octet-stream is fine too)" if raw else FORM
    raise Refused(415, f"the Content-Type: expected {wanted}, found {found[:80]!r}")


def declared(request: Request, limits: Limits) -> int:
    """Bytes that the body may have: what the request says, or the limit. Raises `Refused` with 413 for more."""
    text = request.headers.get("content-length", "")
    if not text.isascii() or not text.isdigit():  # sent in chunks
        return limits.bytes
    if int(text[:20]) > limits.bytes:
        raise Refused(413, f"{int(text[:20]):,} bytes, more than the limit of {limits.bytes:,}")
    return int(text)


async def read(request: Request, limits: Limits) -> bytes:
    """The whole body. Raises `Refused`: 413 when it is too large, 408 when it takes too long, 400 when it is cut."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                parts.append(chunk)
                size += len(chunk)
                if size > limits.bytes:
                    raise Refused(413, f"more than the limit of {limits.bytes:,} bytes")
    except TimeoutError as error:
        raise Refused(408, f"the body was not there after {limits.seconds:g} seconds") from error
    except ClientDisconnect as error:
        raise Refused(400, "the connection was closed before the body had ended") from error
    return b"".join(parts)


async def pictures(request: Request, body: bytes, limits: Limits, *, field: str, most: int) -> list[bytes]:
    """The pictures of a body: itself, or the files of a form under the name `field`.

    Raises `Refused`: 400 for a form that is none, 422 for no picture, an empty one, or more than `most`.
    """
    if kind(request) != FORM:
        found = [body]
    else:
        found = await _files(request, body, limits, field=field, most=most)
    if not found or not all(found):
        raise Refused(422, f"expected {'pictures' if most > 1 else 'a picture'}, found nothing or an empty file")
    return found


async def _files(request: Request, body: bytes, limits: Limits, *, field: str, most: int) -> list[bytes]:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=most, max_fields=8, max_part_size=1024)
    parser.spool_max_size = limits.bytes  # nothing goes to a disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise Refused(422, f"more than {most} picture{'s' if most > 1 else ''} in one request") from error
        raise Refused(400, f"the form cannot be read: {error.message}") from error
    except Exception as error:  # whatever a parser stumbled over
        raise Refused(400, "the form cannot be read") from error
    try:
        files = []
        for name, value in form.multi_items():
            if name != field:
                raise Refused(422, f"expected files under the name {field!r}, found {name[:80]!r}")
            if not isinstance(value, UploadFile):
                raise Refused(422, f"expected a file under the name {field!r}, found text (curl: -F {field}=@FILE)")
            files.append(await value.read())
        return files
    finally:
        await form.close()
