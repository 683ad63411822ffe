"""What a server refuses: its limits, the errors that say so, and to whom it may listen without a token."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Mapping

from emojax.data.decode import MAX_PIXELS
from emojax.data.storage import MAX_BYTES
from emojax.errors import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""How a browser on the same machine names the server in its Host header."""


class Refused(Exception):  # noqa: N818 (an answer, no failure of ours)
    """A request is not served; becomes a JSON answer with this status.

    Attributes:
      status: of HTTP, 4xx or 503.
      message: for the client.
      retry_after: seconds after which it may try again; 0 = trying again does not help.
    """

    def __init__(self, status: int, message: str, *, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Attributes:
    bytes: of the body of one request.
    pixels: of one picture, known from its header before it is decoded.
    pictures: in one request.
    queue: pictures in the server, from the first byte of the request to the answer; more get 429.
    memory: bytes of all bodies in the server, in MiB; more get 429.
    seconds: for receiving a body, and again for answering it.
    connections: open at once; more get 503.
    """

    bytes: int = 10 << 20
    pixels: int = 25_000_000
    pictures: int = 32
    queue: int = 256
    memory: int = 256
    seconds: float = 30.0
    connections: int = 512

    def __post_init__(self) -> None:
        for name, flag, least, most, unit, what in (  # told in the unit of the flag
            ("bytes", "--max-mib", 1, MAX_BYTES, 1 << 20, "MiB"),
            ("pixels", "--max-megapixels", 1, MAX_PIXELS, 10**6, "million pixels"),
            ("pictures", "--max-pictures", 1, 1024, 1, "pictures"),
            ("queue", "--queue", 1, 100_000, 1, "pictures"),
            ("seconds", "--timeout", 0.1, 3600, 1, "seconds"),
        ):
            found = getattr(self, name)
            if not least <= found <= most:
                low = f"{least:g} to" if unit == 1 else "more than 0 and at most"
                raise ConfigError(f"{flag}: expected {low} {most // unit:,} {what}, found {found / unit:,.10g}")
        if self.pictures > self.queue:
            raise ConfigError(f"--max-pictures={self.pictures} is more than --queue={self.queue} holds")
        if self.bytes > self.memory << 20:
            raise ConfigError(f"--max-mib: one body may not be larger than {self.memory} MiB, the room for all")


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach an address that a server listens on."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # another name: it may stand for any address
        return False


def check_exposure(host: str, *, token: str, open_to_all: bool) -> None:
    """Raises `ConfigError` unless it was said who may ask: this machine, holders of the token, or everybody."""
    if not (is_loopback(host) or token or open_to_all):
        raise ConfigError(
            f"--host={host} lets other machines in: give a token (--token-file=FILE, or EMOJAX_TOKEN), or --open to "
            "serve everybody who can reach it"
        )


def check_token(token: str) -> str:
    """The token, when it is one that a header can carry and nobody guesses; raises `ConfigError` otherwise."""
    if token and not re.fullmatch(r"[A-Za-z0-9._~+/=-]{16,512}", token):
        raise ConfigError("the token: expected 16 to 512 letters, digits or . _ ~ + / = -, found something else")
    return token


def host_of(headers: Mapping[bytes, bytes]) -> str:
    """The name in a Host header, without its port, in lower case."""
    return re.sub(r":\d*$", "", headers.get(b"host", b"").decode("latin-1").strip().lower())
