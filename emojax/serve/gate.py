"""Around the application: who may ask, what every answer carries, and one line in the log for each."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import json
import logging
import secrets
import time
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emojax.serve.limits import LOOPBACK, host_of
from emojax.serve.meters import Meters

access = logging.getLogger("emojax.serve.access")
log = logging.getLogger("emojax.serve")

OPEN = frozenset({"/", "/page.css", "/page.js", "/icon.svg", "/healthz"})
"""What may be asked without the token: the page, which holds nothing of the model, and whether the server lives."""

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cache-control", b"no-store"),
)

MAX_HEADER = 16 << 10
"""Bytes of the head of a request."""

_BEFORE, _AFTER = 32 << 20, 256 << 20
"""Bytes of a refused body that are read all the same: before the answer, which keeps the connection, and after it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Attributes:
    token: that requests must carry as `Authorization: Bearer TOKEN`; "" = none.
    hosts: names under which the server may be addressed; () = any.
    """

    token: str = ""
    hosts: tuple[str, ...] = LOOPBACK


class Gate:
    """An ASGI application around another one.

    On loopback only names of this machine are served: a page on the internet could otherwise have its own name point
    to 127.0.0.1 and read the answers (DNS rebinding). No header allows other origins, so browsers keep them out.
    """

    def __init__(self, app: ASGIApp, *, rules: Rules, meters: Meters, draining: Callable[[], bool]) -> None:
        """`draining`: connections are closed after the answer."""
        self._app, self._rules, self._meters, self._draining = app, rules, meters, draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of HTTP requests; what the server tells about its own life goes straight through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, name = time.monotonic(), secrets.token_hex(8)
        scope["state"]["request_id"] = name
        told: dict[str, Any] = {"status": 0, "bytes": 0, "whole": False}
        refused = waiting = False
        for key, value in scope["headers"]:
            waiting |= key == b"expect" and value.lower() == b"100-continue"

        async def receiving() -> Message:
            nonlocal waiting
            waiting = False  # to receive is to say 100 Continue
            message = await receive()
            told["whole"] = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                refused = message["status"] >= 400 and message["status"] != 408
                if refused and not told["whole"] and not waiting:
                    await discard(receiving, told, _BEFORE)
                message["headers"] = [*message.get("headers", ()), *HEADERS, (b"x-request-id", name.encode())]
                if self._draining() or not told["whole"]:
                    message["headers"].append((b"connection", b"close"))
            elif message["type"] == "http.response.body":
                told["bytes"] += len(message.get("body", b""))
                if refused and not told["whole"] and not message.get("more_body", False):
                    await send({**message, "more_body": True})  # all of the answer, before the connection is closed
                    await discard(receiving, told, _AFTER)
                    message = {"type": "http.response.body"}
            await send(message)

        try:
            if refusal := self._refusal(scope):
                await answer(sending, refusal[0], refusal[1], name, headers=refusal[2])
            else:
                await self._app(scope, receiving, sending)
        except Exception:
            log.exception("request %s failed", name)
            if not told["status"]:
                await answer(sending, 500, "the server failed; its log tells more", name)
        finally:
            self._note(scope, name, told, time.monotonic() - began)

    def _refusal(self, scope: Scope) -> tuple[int, str, tuple[tuple[bytes, bytes], ...]] | None:
        headers = dict(scope["headers"])
        if scope["http_version"] not in ("1.0", "1.1"):
            return 400, "expected HTTP/1.1", ()
        size = len(scope["raw_path"]) + len(scope["query_string"])
        if size + sum(len(name) + len(value) + 4 for name, value in scope["headers"]) > MAX_HEADER:
            return 431, f"the head of the request has more than {MAX_HEADER:,} bytes", ()
        if self._rules.hosts and host_of(headers) not in self._rules.hosts:
            return 400, "the Host header names another server; allow a name with --allow-host", ()
        if self._rules.token and scope["path"] not in OPEN:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._rules.token.encode()):
                return 401, "expected the header Authorization: Bearer TOKEN", ((b"www-authenticate", b"Bearer"),)
        return None

    def _note(self, scope: Scope, name: str, told: dict[str, Any], seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "") or "other"
        self._meters.request(route, told["status"], seconds)
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z",
            "id": name,
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"][:200],
            "status": told["status"],
            "ms": round(1000 * seconds, 2),
            "bytes": told["bytes"],
            **{key: scope["state"][key] for key in ("pictures", "error") if key in scope["state"]},
        }
        # Those who only look after the server ask every few seconds. JSON escapes: nothing sent can break the line.
        quiet = scope["path"] == "/healthz" and told["status"] < 500
        access.log(logging.DEBUG if quiet else logging.INFO, "%s", json.dumps(line))


async def discard(receive: Receive, told: dict[str, Any], left: int) -> None:
    """Reads the rest of a body that nobody wants, at most `left` bytes and two seconds: who is still sending would
    else meet a closed connection instead of the refusal."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            while not told["whole"] and left > 0:
                left -= len((await receive()).get("body", b""))


async def answer(
    send: Send, status: int, message: str, name: str, *, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """A `Problem` outside of the application."""
    body = json.dumps({"error": message, "request_id": name}).encode()
    kept = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": body})
