"""Requests → batches: one thread owns the device, and takes what has come in within a few milliseconds together."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from emojax.serve.engine import Engine, Picture
from emojax.serve.meters import Meters

log = logging.getLogger("emojax.serve")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """Of one picture: probabilities float32 [K], and the evidence for the most probable class [Y, X] if it was asked
    for."""

    probs: np.ndarray
    heat: np.ndarray | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Item:
    picture: Picture
    explain: bool
    since: float
    answer: asyncio.Future[Found]
    loop: asyncio.AbstractEventLoop


class Batcher:
    """Starts its thread, which compiles first, in `start`; `close` ends it after the batch that it is at.

    Attributes:
      ready: the model has been warmed up.
      failure: what went wrong in the warm-up.
    """

    def __init__(self, engine: Engine, *, wait: float, meters: Meters) -> None:
        """`wait`: seconds that the first picture of a batch waits for others."""
        self._engine, self._wait, self._meters = engine, wait, meters
        self._queue: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="device", daemon=True)
        self.ready = threading.Event()
        self.failure: Exception | None = None

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Waits for the batch in work, not for those behind it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    async def find(self, picture: Picture, *, explain: bool = False) -> Found:
        """The model's answer. Who stops waiting cancels: the picture then leaves the queue unseen."""
        loop = asyncio.get_running_loop()
        item = _Item(picture, explain, time.monotonic(), loop.create_future(), loop)
        with self._changed:
            self._queue.append(item)
            self._changed.notify()
        return await item.answer

    def _work(self) -> None:
        try:
            self._engine.warm_up()
        except Exception as error:
            self.failure = error
            log.exception("the model cannot be warmed up")
            return
        self.ready.set()
        while batch := self._next():
            began = time.monotonic()
            try:
                found = self._run(batch)
            except Exception as error:
                log.exception("the model failed on a batch of %d", len(batch))
                for item in batch:
                    _settle(item, lambda answer, error=error: answer.set_exception(error))
                continue
            self._meters.batch(len(batch), began - batch[0].since, time.monotonic() - began)
            for item, one in zip(batch, found, strict=True):
                _settle(item, lambda answer, one=one: answer.set_result(one))

    def _next(self) -> list[_Item]:
        """The next batch, [] at the end."""
        most, batch = self._engine.sizes[-1], []
        with self._changed:
            while not batch:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return []
                until = self._queue[0].since + self._wait
                while len(self._queue) < most and not self._closed and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                while self._queue and len(batch) < most:
                    item = self._queue.popleft()
                    if not item.answer.cancelled():
                        batch.append(item)
        return batch

    def _run(self, batch: list[_Item]) -> list[Found]:
        size = self._engine.image_size
        images = np.zeros((self._engine.bucket(len(batch)), size, size, 3), np.uint8)
        for image, item in zip(images, batch, strict=False):
            image[:] = item.picture.pixels
        probs = self._engine.probabilities(images)[: len(batch)]
        return [
            Found(row, self._heat(item, row) if item.explain else None) for item, row in zip(batch, probs, strict=True)
        ]

    def _heat(self, item: _Item, probs: np.ndarray) -> np.ndarray:
        return np.asarray(self._engine.explain(item.picture.pixels[None], np.array([probs.argmax()], np.int32)))[0]


def _settle(item: _Item, settle: Callable[[asyncio.Future[Found]], Any]) -> None:
    """Gives the answer in the thread of who waits for it; nobody may wait any more, and the loop may have ended."""

    def inside() -> None:
        if not item.answer.done():
            settle(item.answer)

    with contextlib.suppress(RuntimeError):
        item.loop.call_soon_threadsafe(inside)
