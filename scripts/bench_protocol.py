"""Two processes that stay alive and are measured in turns: calls as lines of JSON over stdin and stdout.

    -> {"call": "measure", "arguments": {"variant": "float32", "n": 3}}
    <- {"result": 1.25}        or {"error": "one line"}

Standard library only: both sides import it, each under its own interpreter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Which batches of a data pipeline are measured. One repetition is a batch from every loader process: they finish
    at about the same time, and a part of such a round would be a matter of luck."""

    workers: int
    n: int

    @property
    def before(self) -> int:
        """Batches before the clock starts: processes begin, and queues get as full as they stay in a long run."""
        return 3 * max(2, self.workers)

    @property
    def timed(self) -> int:
        return self.n * max(1, self.workers)

    @property
    def stop(self) -> int:
        """Length of the stream: with batches that are never fetched, so that no process is idle at the end."""
        return self.before + self.timed + 4 * max(2, self.workers)

    def seconds(self, batches: Iterator[Any]) -> float:
        """Fetches `before` + `timed` batches; the time of the latter."""
        for _ in range(self.before):
            next(batches)
        began = time.perf_counter()
        for _ in range(self.timed):
            next(batches)
        return time.perf_counter() - began


class BenchError(Exception):
    """Something a person has to change; its message is one line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """Prepared work: `seconds(n)` does it n times, for `images` pictures each, and takes the time."""

    seconds: Callable[[int], float]
    images: int
    info: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """What a worker can do: its variants, best guess first, and how one is prepared."""

    variants: Callable[[dict[str, Any]], list[str]]
    prepare: Callable[[dict[str, Any], str], Job]


class Jobs:
    """The functions a worker offers; the prepared work lives here, by variant."""

    def __init__(self, section: Callable[[str], Section], hello: dict[str, Any]) -> None:
        self._section, self._hello, self._jobs = section, hello, {}

    def functions(self) -> dict[str, Callable[..., Any]]:
        names = ("hello", "variants", "prepare", "measure", "keep", "peak_bytes", "cpu_seconds")
        return {name: getattr(self, name) for name in names}

    def hello(self) -> dict[str, Any]:
        return self._hello

    def variants(self, section: str, options: dict[str, Any]) -> list[str]:
        return self._section(section).variants(options)

    def prepare(self, section: str, options: dict[str, Any], variant: str) -> dict[str, Any]:
        """Makes the work ready and does it once; returns what is worth knowing about it."""
        job = self._section(section).prepare(options, variant)
        job.seconds(1)
        self._jobs[variant] = job
        return {"images": job.images, **job.info}

    def measure(self, variant: str, n: int) -> float:
        """Seconds of doing it n times."""
        return self._jobs[variant].seconds(n)

    def keep(self, variant: str = "") -> None:
        """Forgets all prepared work but this."""
        self._jobs = {name: job for name, job in self._jobs.items() if name == variant}
        gc.collect()

    def peak_bytes(self) -> int:
        """The most memory that this process ever had (resident)."""
        # ru_maxrss of a child begins with the memory of the process that started it.
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def cpu_seconds(self) -> float:
        """Processor time of this process so far, to see that it is idle while the other one is measured."""
        times = os.times()
        return times.user + times.system


def serve(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Answers calls until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not look like an answer
    for text in sys.stdin:
        call = json.loads(text)
        try:
            answer = {"result": functions[call["call"]](**call["arguments"])}
        except Exception as error:  # the other side decides what becomes of it
            message = " ".join(str(error).split())[:400]
            answer = {"error": f"{type(error).__name__}: {message}"}
        answers.write(json.dumps(answer) + "\n")


class Worker:
    """A process that serves; use it in a `with`. Its stderr is shown when it fails."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in `close`)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=None if env is None else {**os.environ, **env},
            )
        except OSError as error:
            self._errors.close()
            raise BenchError(f"{name}: {command[0]} cannot be started: {error.strerror}") from error

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: str, **arguments: Any) -> Any:
        """The result of a function of the process; `BenchError` when it fails or the process has ended."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"call": function, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            text = self._process.stdout.readline()
        except BrokenPipeError:
            text = ""
        if not text:
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["no message"])[-1]
            raise BenchError(f"{self.name} has ended: {last}")
        answer = json.loads(text)
        if "error" in answer:
            raise BenchError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def close(self) -> None:
        """Ends the process; may be called twice."""
        if self._errors.closed:
            return
        assert self._process.stdin and self._process.stdout
        with contextlib.suppress(BrokenPipeError):  # it has ended before it read the last call
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


@dataclasses.dataclass(frozen=True, slots=True)
class Best:
    """The fastest variant of a side, ready to be measured."""

    worker: Worker
    variant: str
    info: dict[str, Any]
    n: int
    tried: dict[str, float]
    """variant -> images/s of the brief measurement by which it was chosen."""

    def rate(self) -> float:
        """Images per second, measured now."""
        return self.n * self.info["images"] / self.worker.call("measure", variant=self.variant, n=self.n)

    def settle(self) -> bool:
        """Warms up until consecutive measurements agree; False when they never did."""
        return settled(self.rate)


def best(worker: Worker, section: str, options: Mapping[str, Any], *, trial: float, seconds: float) -> Best:
    """Tries every variant for about `trial` seconds and keeps the fastest, repeated to last about `seconds`.

    The trial counts when it is done the second time: while a process still grows, new memory doubles its time.
    """
    given = {"section": section, "options": dict(options)}
    infos, tried = {}, {}
    for variant in worker.call("variants", **given):
        infos[variant] = worker.call("prepare", **given, variant=variant)
        n = repetitions(worker.call("measure", variant=variant, n=1), trial)
        worker.call("measure", variant=variant, n=n)
        tried[variant] = n * infos[variant]["images"] / worker.call("measure", variant=variant, n=n)
        worker.call("keep", variant=_fastest(tried))
    variant = _fastest(tried)
    n = repetitions(infos[variant]["images"] / tried[variant], seconds)
    return Best(worker, variant, infos[variant], n, tried)


def settled(rate: Callable[[], float], *, within: float = 0.05, most: int = 8) -> bool:
    """Calls `rate` until two results in a row differ by no more than the share `within`, at most `most` times.

    Processes that still grow take two to three times as long. Returns whether two agreed.
    """
    last = rate()
    for _ in range(most - 1):
        now = rate()
        if abs(now - last) <= within * max(now, last):
            return True
        last = now
    return False


def _fastest(tried: Mapping[str, float]) -> str:
    return max(tried, key=lambda variant: tried[variant])


def repetitions(once: float, seconds: float) -> int:
    """How often something that takes `once` seconds must be done to last `seconds`."""
    return max(1, math.ceil(seconds / max(once, 1e-6)))
