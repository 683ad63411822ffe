"""A server in a thread, around a model that is none, and what it is asked with."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from odd_images import encode

from emojax.serve import engine as engine_lib, server as server_lib
from emojax.serve.app import Service
from emojax.serve.engine import Engine
from emojax.serve.gate import Rules
from emojax.serve.limits import Limits

NAMES = ("angry", "happy", "sad")
SIZE = 16


class Model:
    """Says how red, green and blue a picture is; notes the sizes of its batches.

    Attributes:
      gate: closed, it keeps the device busy.
      failure: what the next batch ends in.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate, self.failure = threading.Event(), None
        self.gate.set()
        self.image_size = SIZE
        self.config = SimpleNamespace(eval=SimpleNamespace(crop=1.0, interpolation=""), fit="crop")

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        self.gate.wait(30)
        self.batches.append(len(images))
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure
        means = images.mean((1, 2)) + 1
        return (means / means.sum(1, keepdims=True)).astype(np.float32)

    def explain(self, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
        return np.linspace(0, 1, 9 * len(images)).reshape(-1, 3, 3)


@dataclasses.dataclass
class Running:
    """A server that runs, and its model."""

    port: int
    service: Service
    server: server_lib.Server
    model: Model
    thread: threading.Thread

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """(status, JSON or bytes, headers in lower case)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            found = answer.read()
            heads = {name.lower(): value for name, value in answer.getheaders()}
            kind = heads.get("content-type", "")
            return answer.status, json.loads(found) if kind == "application/json" else found, heads
        finally:
            connection.close()

    def predict(self, picture: bytes, query: str = "", **headers: str) -> tuple[int, Any, dict[str, str]]:
        return self.ask("POST", f"/predict{query}", picture, **{"Content_Type": "image/png", **headers})

    def later(self, *pictures: bytes) -> list[threading.Thread]:
        """Asks in threads; each has `.found` when it has ended."""
        threads = []
        for picture in pictures:
            thread = threading.Thread(
                target=lambda p=picture: setattr(threading.current_thread(), "found", self.predict(p))
            )
            thread.start()
            threads.append(thread)
        return threads


def solid(red: int, green: int, blue: int, *, width: int = 20, height: int = 20) -> bytes:
    return encode(np.full((height, width, 3), (red, green, blue), np.uint8), "PNG")


def form(pictures: list[bytes], field: str = "files") -> tuple[bytes, dict[str, str]]:
    """(body, headers) of a form."""
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="' + field.encode() + b'"; filename="a.png"\r\n\r\n' + p + b"\r\n"
        for p in pictures
    )
    return parts + b"--x--\r\n", {"Content_Type": "multipart/form-data; boundary=x"}


def until(true, seconds: float = 20, *, every: float = 0.01) -> None:
    """Waits until `true()`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(every)


@contextlib.contextmanager
def running(
    *,
    model: Model | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    rules: Rules | None = None,
    decision: Any = None,
    wait: float = 0.05,
    warm: bool = True,
    drain: float = 10,
) -> Iterator[Running]:
    """A server on a free port; `warm`: wait until it answers."""
    model, limits = model or Model(), limits or Limits()
    engine = engine or engine_lib.of(model, max_pixels=limits.pixels, max_batch=8)
    service = Service(
        engine, class_names=NAMES, decision=decision, info={"model": "colours", "views": "center"}, limits=limits,
        rules=rules or Rules(), wait=wait,
    )  # fmt: skip
    server = server_lib.make(service, limits, drain=drain)
    with server_lib.listen("127.0.0.1", 0) as socket:
        thread = threading.Thread(target=lambda: server.run(sockets=[socket]), daemon=True)
        thread.start()
        try:
            until(lambda: server.started)
            if warm:
                until(service.batcher.ready.is_set)
            yield Running(socket.getsockname()[1], service, server, model, thread)
        finally:
            model.gate.set()
            server.should_exit = True
            thread.join(20)
            assert not thread.is_alive()
