"""Loader processes, and the watch over them: a process that dies, falls silent or never starts is replaced.

What a process makes is a pure function of the step, so its successor goes on at the very batch that was not delivered:
none is lost, none comes twice. A process shares nothing with its parent that could be left locked when it is killed:
it has a pipe of its own and slots in shared memory without a name, which the system frees whoever dies.
(Grain's own processes hold locks of queues; it waits for ever for one that is stopped or has ended with code 0.)
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np

from emojax.config import DataConfig
from emojax.errors import EmojaxError, TrainingError

SLOTS = 3
"""Batches that a process may be ahead."""

ANSWER = 2.0
"""Seconds that a silent process has to tell where it is. One that is stopped, or in code that keeps the interpreter
to itself, tells nothing."""

FRAMES = 4
"""Innermost places of its stack that are told."""

BACKOFF = 0.5
"""Seconds before a process is replaced; doubled at every further time in a row."""

_LOADS: Callable[[Any], Any] = vars(ForkingPickler)["loads"]  # what multiprocessing itself reads its messages with

_CONTEXT = multiprocessing.get_context("spawn")  # forking a process that runs XLA's threads may lock it up


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """What the watch waits for, and whom it tells.

    Attributes:
      first: seconds within which a new process must deliver its first batch; 0 = without limit.
      later: seconds within which every further batch must come once it is waited for; 0 = without limit.
      restarts: how often in a row, without a batch in between, a process is replaced.
      say: is told about each time.
    """

    first: float
    later: float
    restarts: int
    say: Callable[[str], None]

    @classmethod
    def of(cls, config: DataConfig, say: Callable[[str], None]) -> Watch:
        """As the knobs want it."""
        return cls(config.worker_start_limit, config.worker_limit, config.worker_restarts, say)


class Pool:
    """An iterator over `make(step)` for the steps, made by `count` processes that take turns.

    Args:
      make: step -> a tuple of arrays with the fields of `make.layout`, a structured dtype; it
        travels to the processes.

    Raises `TrainingError` when a process fails more than `watch.restarts` times at one batch, and what `make` raises.
    """

    def __init__(self, make: Any, steps: range, *, count: int, watch: Watch) -> None:
        self._steps, self._watch, self._done = steps, watch, 0
        # Pickled once, and handed over in shared memory: a pipe would block until the process reads.
        pickled = ForkingPickler.dumps(make)
        self._payload = _shared(len(pickled))
        np.frombuffer(self._payload, np.uint8)[:] = np.frombuffer(pickled, np.uint8)
        self._workers = [_Worker(make.layout, number, count) for number in range(count)]
        self._end = weakref.finalize(self, _end_all, self._workers)  # also at exit: they ignore what would end them
        for worker in self._workers:
            worker.start(self._payload, steps[worker.number :: count])

    def __next__(self) -> list[np.ndarray]:
        if self._done >= len(self._steps) or not self._end.alive:
            raise StopIteration
        worker = self._workers[self._done % len(self._workers)]
        for failed in range(self._watch.restarts + 1):
            try:
                fields = worker.take(self._watch)
                break
            except _LostError as lost:
                self._replace(worker, str(lost), failed)
        else:
            raise AssertionError  # unreachable: the last time, `_replace` raises
        self._done += 1
        return fields

    def close(self) -> None:
        """Ends the processes; may be called twice."""
        self._end()

    def _replace(self, worker: _Worker, reason: str, failed: int) -> None:
        worker.end()
        what = f"loader process {worker.number + 1} of {worker.count} {reason}"
        step = self._steps[self._done]
        if failed == self._watch.restarts:
            times = f", {failed + 1} times in a row" if failed else ""
            raise TrainingError(
                f"{what}{times}; batch {step + 1:,} cannot be loaded. With too little memory, lower "
                "config.data.workers; for data that are slow to read, raise config.data.worker_start_limit and "
                "config.data.worker_limit. The same command then goes on from the last checkpoint"
            )
        self._watch.say(
            f"warning: {what}; starting it again from batch {step + 1:,} ({failed + 1} of {self._watch.restarts})"
        )
        time.sleep(BACKOFF * 2**failed)
        worker.start(self._payload, self._steps[self._done :: worker.count])


class _LostError(Exception):
    """A process will deliver nothing more; the message says what it did."""


class _Worker:
    """One of `count` processes, and its slots."""

    def __init__(self, layout: np.dtype, number: int, count: int) -> None:
        self.number, self.count = number, count
        self._memory, self._layout = _shared(SLOTS * layout.itemsize), layout
        self._slots = np.frombuffer(self._memory, layout)
        self._process: Any = None
        self._connection: Any = None
        self._asked: Any = None
        self._taken = 0

    def start(self, payload: Any, steps: range) -> None:
        """Starts the process that makes `steps`."""
        self._connection, theirs = _CONTEXT.Pipe()
        self._asked, answers = _CONTEXT.Pipe()
        self._taken = 0
        self._process = _CONTEXT.Process(
            target=_work,
            args=(payload, self._memory, theirs, answers, steps, os.getpid()),
            daemon=True,
            name=f"emojax-loader-{self.number}",
        )
        self._process.start()
        theirs.close()  # or its end would not be noticed
        answers.close()

    def take(self, watch: Watch) -> list[np.ndarray]:
        """A copy of the next batch. Raises `_LostError`, and what `make` raised."""
        limit = watch.later if self._taken else watch.first
        ready = wait([self._connection, self._process.sentinel], timeout=limit or None)
        if not ready:
            what = "has fallen silent" if self._taken else "has not started"
            raise _LostError(f"{what}: no batch for {limit:g} s{self._where()}")
        try:
            # What it sent before it died still counts.
            error = self._connection.recv() if self._connection.poll() else self._died()
        except (EOFError, OSError):
            error = self._died()
        if error is not None:
            raise error
        slot = self._slots[self._taken % SLOTS]
        fields = [np.array(slot[name]) for name in self._layout.names or ()]
        self._taken += 1
        with contextlib.suppress(OSError):  # it has died since: seen when the next batch is taken
            self._connection.send(None)
        return fields

    def _where(self) -> str:
        """Where in its code the process is, innermost first."""
        with contextlib.suppress(OSError, EOFError):
            self._asked.send(None)
            if self._asked.poll(ANSWER):
                return f"; it was at {self._asked.recv()}"
        return ""

    def _died(self) -> _LostError:
        self._process.join(1.0)
        code = self._process.exitcode
        if code is not None and code < 0:
            return _LostError(f"was killed by {signal.Signals(-code).name}")
        return _LostError(f"ended by itself, with code {code}")

    def end(self) -> None:
        """Kills the process, which has nothing to save; SIGKILL also ends one that is stopped."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()
            self._asked.close()
            self._process = None


def _end_all(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.end()


def _shared(size: int) -> Any:
    """Memory without a name that processes started later may share; on disk where /dev/shm is too small."""
    return _CONTEXT.RawArray(ctypes.c_uint8, size)


def _work(payload: Any, memory: Any, connection: Connection, answers: Connection, steps: range, parent: int) -> None:
    """The life of a loader process: fills slot after slot, and waits while all are full."""
    # Ctrl-C and SIGTERM reach the whole group; the parent must still finish its step and save, and then ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(parent, answers, threading.get_ident()), daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # the parent has gone, or ends this process
        try:
            make: Any = _LOADS(np.frombuffer(payload, np.uint8).data)
            slots = np.frombuffer(memory, make.layout)
            for n, step in enumerate(steps):
                fields = make(step)
                if n >= SLOTS:
                    connection.recv()
                slot = slots[n % SLOTS]
                for name, field in zip(make.layout.names, fields, strict=True):
                    slot[name][...] = field
                connection.send(None)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except EmojaxError as error:
            connection.send(error)
        except Exception as error:
            connection.send(_told(error))
        while True:  # what ends by itself has failed
            connection.recv()


def _told(error: Exception) -> RuntimeError:
    """A defect, with its traceback, in a form that surely pickles."""
    return RuntimeError(f"in a loader process: {''.join(traceback.format_exception(error))}")


def _follow(parent: int, answers: Connection, thread: int) -> None:
    """Tells the parent, whenever it asks, where `thread` is; and ends the process with it."""
    with contextlib.suppress(EOFError, OSError):
        while os.getppid() == parent:
            if answers.poll(1.0):
                answers.recv()
                stack = traceback.extract_stack(sys._current_frames()[thread])  # the only way to see another thread's
                answers.send(
                    " < ".join(f"{Path(at.filename).name}:{at.lineno} {at.name}" for at in stack[: -FRAMES - 1 : -1])
                )
    os._exit(0)  # the parent was killed: without this the process would wait on its pipe for ever
