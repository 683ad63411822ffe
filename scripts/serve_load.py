"""Measures `emojax serve`: latency under load, its limit, memory, and what it does with hostile uploads.

    python scripts/serve_load.py                  # about five minutes; writes docs/serving.json and docs/serving.md
    python scripts/serve_load.py page             # the page again, from the numbers

Trains the emoji recipe for six epochs first, into --workdir (a finished run there is used again). The load comes from
this process, over keep-alive connections, and shares the machine with the server. Requests start at random moments
(exponential gaps) whether or not earlier ones were answered, and their time counts from the moment at which they were
due: a server that stalls cannot hide it. The limit is the highest of the rates tried at which every request of some
seconds was answered with 200 and 99 % of them within --bar; the stated limit is 70 % of it, and is then held for
--seconds. Four times that highest rate follows for a quarter of the time, to see what overload does.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import importlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import serve_page

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
hostile_uploads: Any = importlib.import_module("hostile_uploads")
files: Any = importlib.import_module("emojax.files")

NUMBERS, PAGE = ROOT / "docs/serving.json", ROOT / "docs/serving.md"
RATES = (25, 50, 100, 150, 200, 300, 400, 600, 800, 1200)
CONNECTIONS = 400
OVERLOAD = 4
"""Overload is so many times the highest rate that was good."""
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "pillow", "fastapi", "starlette", "uvicorn", "h11")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Requests of one rate: their answers by status (0 = none), and seconds of those answered with 200."""

    rate: float
    seconds: float
    statuses: dict[int, int]
    times: np.ndarray

    @property
    def errors(self) -> int:
        return sum(count for status, count in self.statuses.items() if status != 200)

    def plain(self) -> dict[str, Any]:
        quantiles = np.percentile(1000 * self.times, (50, 95, 99)) if len(self.times) else np.full(3, np.nan)
        return {
            "rate": round(self.rate, 1),
            "seconds": round(self.seconds, 1),
            "requests": sum(self.statuses.values()),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "answered_per_second": round(self.statuses.get(200, 0) / self.seconds, 1),
            **{f"p{q}_ms": round(float(x), 1) for q, x in zip((50, 95, 99), quantiles, strict=True)},
        }


class Server:
    """`emojax serve` as a process on a free port."""

    def __init__(self, run: Path, folder: Path) -> None:
        self.log = (folder / "access.jsonl").open("w")
        self.errors = folder / "errors.txt"
        command = [sys.executable, "-m", "emojax.cli", "serve", str(run), "--port=0", "--timeout=5"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.errors.open("w"), env=environment)
        self.port = self._port()
        while asyncio.run(hostile_uploads.status(_get("/healthz"), self.port)) != 200:
            time.sleep(0.2)
        self.ready_seconds = time.monotonic() - began

    def _port(self) -> int:
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", self.errors.read_text())):
            if self.process.poll() is not None:
                sys.exit(f"the server ended: {self.errors.read_text()}")
            time.sleep(0.1)
        return int(found[1])

    def memory(self) -> float:
        """MiB in use by the process."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # pyright: ignore[reportOptionalSubscript]

    def end(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def load(port: int, pictures: list[bytes], *, rate: float, seconds: float, seed: int = 0) -> Outcome:
    """Asks for `seconds` at `rate` requests a second."""
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
    requests = [hostile_uploads.post(picture) for picture in pictures]
    return asyncio.run(_load(port, requests, due.tolist(), rate))


async def _load(port: int, requests: list[bytes], due: list[float], rate: float) -> Outcome:
    idle: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(None)
    statuses: dict[int, int] = {}
    times: list[float] = []
    start = time.monotonic()

    async def one(number: int, moment: float) -> None:
        connection = await idle.get()
        status = 0
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            status, keep = await asyncio.wait_for(_ask(*connection, requests[number % len(requests)]), 20)
            if not keep:
                connection[1].close()
                connection = None
        except (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError):
            connection = None
        idle.put_nowait(connection)
        statuses[status] = statuses.get(status, 0) + 1
        if status == 200:
            times.append(time.monotonic() - start - moment)

    tasks = []
    for number, moment in enumerate(due):
        await asyncio.sleep(max(0.0, moment - (time.monotonic() - start)))
        tasks.append(asyncio.create_task(one(number, moment)))
    await asyncio.gather(*tasks)
    took = time.monotonic() - start
    while not idle.empty():
        if connection := idle.get_nowait():
            connection[1].close()
    return Outcome(rate, took, statuses, np.array(times))


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> tuple[int, bool]:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # pyright: ignore[reportOptionalSubscript]
    return int(head.split()[1]), b"connection: close" not in head


def pictures() -> list[bytes]:
    """A hundred emoji faces: 64 px PNG files."""
    with zipfile.ZipFile(ROOT / "emojax/data/emoji-faces-64px.zip") as archive:
        return [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".png")][:100]


def trained(folder: Path) -> Path:
    """The run that is served."""
    command = [sys.executable, "-m", "emojax.main", f"--config={ROOT}/configs/emoji.py", f"--workdir={folder}"]
    subprocess.run([*command, "--config.stages[0].epochs=6"], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return folder


def find_limit(server: Server, sent: list[bytes], *, seconds: float, bar: float) -> list[Outcome]:
    """Rates upwards until one is too much; the last of the outcomes is that one."""
    found = []
    for rate in RATES:
        found.append(load(server.port, sent, rate=rate, seconds=seconds, seed=rate))
        print(json.dumps(found[-1].plain()), flush=True)
        if found[-1].errors or np.percentile(found[-1].times, 99) > bar:
            break
    return found


def attack(server: Server, sent: list[bytes]) -> dict[str, Any]:
    """All hostile uploads, one after the other; the statuses by kind."""
    counts: dict[str, dict[str, int]] = {}
    wrong = []
    for one in hostile_uploads.hostile():
        status = asyncio.run(hostile_uploads.status(one.request, server.port))
        kind = counts.setdefault(one.name.partition(":")[0], {})
        kind[str(status)] = kind.get(str(status), 0) + 1
        if not 400 <= status < 500:
            wrong.append([one.name, status])
    alive = server.process.poll() is None
    after = load(server.port, sent, rate=20, seconds=5)
    return {
        "uploads": sum(sum(kind.values()) for kind in counts.values()),
        "statuses": counts,
        "not_4xx": wrong,
        "crashed": not alive,
        "errors_afterwards": after.errors,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it goes into docs/serving.json."""
    folder = Path(options.workdir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    run, sent = trained(folder), pictures()
    busy = os.getloadavg()[0]
    server = Server(run, folder)
    try:
        memory = {"warm": server.memory()}
        load(server.port, sent, rate=25, seconds=options.step)  # allocations that happen once
        memory["after_first_requests"] = server.memory()
        steps = find_limit(server, sent, seconds=options.step, bar=options.bar)
        good = [one.rate for one in steps if not one.errors and np.percentile(one.times, 99) <= options.bar]
        if not good:
            sys.exit(f"even {RATES[0]} requests a second were too many for this machine as it is")
        limit = int(0.7 * good[-1])
        for seed in (4, 5):  # until every size of batch has been met by every thread
            load(server.port, sent, rate=OVERLOAD * good[-1], seconds=options.step, seed=seed)
        memory["before_load"] = server.memory()
        held = load(server.port, sent, rate=limit, seconds=options.seconds, seed=1)
        memory["after_load"] = server.memory()
        print(json.dumps(held.plain()), flush=True)
        over = load(server.port, sent, rate=OVERLOAD * good[-1], seconds=options.seconds / 4, seed=2)
        print(json.dumps(over.plain()), flush=True)
        if not over.statuses.get(429):
            print(f"warning: {over.rate:g} requests a second were no overload: nothing was refused", file=sys.stderr)
        memory["after_overload"] = server.memory()
        hostile = attack(server, sent)
        memory["after_hostile"] = server.memory()
        again = load(server.port, sent, rate=limit, seconds=options.step, seed=3)
        memory["at_the_end"] = server.memory()
        code = server.end()
    finally:
        server.process.kill()
    return {
        "command": "python scripts/serve_load.py "
        + " ".join(f"--{name}={getattr(options, name):g}" for name in ("seconds", "step", "bar")),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": {
            "cpu": re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1],  # pyright: ignore
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "load_before": round(busy, 1),
        },
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "model": "the emoji recipe: ResNet, 4.9 M parameters, 64 px, views flip; 64 px PNG files",
        "bar_ms": 1000 * options.bar,
        "ready_seconds": round(server.ready_seconds, 1),
        "steps": [one.plain() for one in steps],
        "limit": limit,
        "held": held.plain(),
        "overload": over.plain(),
        "again": again.plain(),
        "memory_mib": {name: round(value, 1) for name, value in memory.items()},
        "hostile": hostile,
        "exit_code_after_sigterm": code,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="measure", choices=("measure", "page"))
    parser.add_argument("--workdir", default="runs/serve_load", help="run that is served, and the server's logs")
    parser.add_argument("--seconds", type=float, default=60, help="at the limit")
    parser.add_argument("--step", type=float, default=8, help="seconds at each rate of the search")
    parser.add_argument("--bar", type=float, default=0.25, help="seconds within which 99 %% must be answered")
    options = parser.parse_args()
    if options.what == "measure":
        files.write_json(NUMBERS, measure(options))
    files.write_text(PAGE, serve_page.page(json.loads(NUMBERS.read_text())))
    print(PAGE)


if __name__ == "__main__":
    main()
