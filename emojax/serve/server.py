"""The process: a socket, uvicorn, and how it ends: nothing new, what is inside is answered, then it is over."""

from __future__ import annotations

import asyncio
import socket
import time
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from emojax.errors import ConfigError
from emojax.serve.app import Service
from emojax.serve.gate import MAX_HEADER
from emojax.serve.limits import Limits


class Protocol(H11Protocol):
    """HTTP/1.1 by h11, of which a head must be whole within a few seconds: uvicorn itself waits for ever."""

    HEAD_SECONDS = 10.0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A head is due."""
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Perhaps the end of a head, or the beginning of the next."""
        super().data_received(data)
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy and self._waiting:
            self._waiting.cancel()
            self._waiting = None
        elif not busy and not self._waiting:
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        if self._waiting:
            self._waiting.cancel()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._waiting = self.loop.call_later(self.HEAD_SECONDS, self._late)

    def _late(self) -> None:
        self._waiting = None
        if (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Attributes:
    drained: every picture that was inside got its answer.
    """

    def __init__(self, config: uvicorn.Config, service: Service, *, drain: float) -> None:
        """`drain`: seconds that those inside have after the first signal."""
        super().__init__(config)
        self._service, self._drain, self._until = service, drain, 0.0
        self.drained = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets nothing new in; a second one ends the process at once."""
        if self._service.admission.draining:
            self.drained = not self._service.admission.pictures
            self.force_exit = self.should_exit = True
            return
        self._until = time.monotonic() + self._drain
        self._service.admission.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether it is over."""
        inside, admission = await super().on_tick(counter), self._service.admission
        if admission.draining and not inside:
            late = time.monotonic() > self._until
            self.drained = not (late and admission.pictures)
            return late or not admission.pictures
        return inside or self._service.batcher.failure is not None


def listen(host: str, port: int) -> socket.socket:
    """A socket at this address; port 0 = a free one. Raises `ConfigError` when there can be none."""
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"--host={host} --port={port}: cannot listen there: {reason}") from error


def make(service: Service, limits: Limits, *, drain: float) -> Server:
    """The server, not yet running: `server.run(sockets=[listen(...)])`."""
    config = uvicorn.Config(
        service.app,  # pyright: ignore[reportArgumentType]
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=MAX_HEADER,
    )
    return Server(config, service, drain=drain)
