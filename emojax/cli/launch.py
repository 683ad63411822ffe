"""`emojax launch`: several processes of one training on this machine, restarted together when one dies.

    emojax launch --processes=2 -- train --config=RECIPE.py --workdir=FOLDER --config.parallel.distributed=1

The processes talk over the loopback address. A process that dies takes the others with it; all of them then go on from
the last checkpoint. Exit codes that mean "a person is needed" (2 to 7) and signals end the job.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from emojax.errors import FINAL, ConfigError


def main(arguments: list[str]) -> int:
    """Runs the job to its end; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="emojax launch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--restarts", type=int, default=3, help="how often to start again (default: 3)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and a verb of emojax with its options")
    options = parser.parse_args(arguments)
    command = [part for i, part in enumerate(options.command) if i or part != "--"]
    if options.processes < 1 or options.restarts < 0 or not command:
        raise ConfigError("launch: expected --processes of 1 or more, --restarts of 0 or more, and -- VERB OPTIONS")
    stopped: list[int] = []
    old = {number: signal.signal(number, lambda n, _: stopped.append(n)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for attempt in range(options.restarts + 1):
            code = _job(command, options.processes, stopped)
            if code in FINAL or stopped:
                return code
            again = attempt < options.restarts
            told = f"starting all again ({attempt + 1} of {options.restarts})" if again else "giving up"
            sys.stderr.write(f"emojax launch: a process ended with {code}; {told}\n")
        return code
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _job(command: list[str], count: int, stopped: list[int]) -> int:
    """Starts all processes, and returns the exit code of the first that fails, or 0."""
    from emojax import parallel

    address = f"127.0.0.1:{_free_port()}"
    processes = []
    for i in range(count):
        env = {**os.environ, parallel.COORDINATOR: address, parallel.PROCESSES: str(count), parallel.PROCESS: str(i)}
        own = [sys.executable, "-m", "emojax.cli", *command]
        processes.append(subprocess.Popen(own, env=env))  # noqa: S603 - itself
    told = False
    while True:
        if stopped and not told:  # one is enough: JAX tells the others
            told = True
            with contextlib.suppress(ProcessLookupError):
                processes[0].send_signal(signal.SIGTERM)
        codes = [process.poll() for process in processes]
        if all(code is not None for code in codes):
            return _first_failure(codes)
        if any(code is not None and code != 0 for code in codes) and not told:
            return _ended_together(processes, codes)
        time.sleep(0.1)


def _ended_together(processes: list[Any], codes: list[int | None]) -> int:
    """Gives the others the time in which they notice by themselves, then kills them."""
    first, until = _first_failure(codes), time.monotonic() + 10
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        time.sleep(0.1)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    return first


def _first_failure(codes: list[int | None]) -> int:
    return next((code for code in codes if code), 0)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
