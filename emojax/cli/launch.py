"""`emojax launch`: several processes of one training on this machine, restarted together when one dies.

    emojax launch --processes=2 -- train --config=RECIPE.py --workdir=FOLDER --config.parallel.distributed=1

The processes talk over the loopback address. A process that dies takes the others with it; after a pause, which doubles
each time, all of them go on from the last checkpoint, at most --restarts times. SIGTERM and Ctrl-C are handed on: all
processes save the same update and end; those that have not after --grace seconds are killed, as by a third signal.
Where this command itself is killed, the processes get a SIGTERM (Linux).

Exit codes: those of `emojax`. 2 to 8, which mean that a person is needed, and 130 and 143 end the job at once. Any
other is the code of the process that failed first in the last attempt, 128 + N where signal N killed it; one that only
missed another (9) counts as later than that.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from emojax.errors import FINAL, ConfigError, PeerError

PROGRAM = [sys.executable, "-m", "emojax.cli"]
_SAVED = {0, 130, 143}
"""Codes of a process that has done what a signal asks for; the others are about to."""
GRACE = 10.0
"""Seconds in which the other processes may notice by themselves that one has failed."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the first restart, and at most before a later one."""


def main(arguments: list[str]) -> int:
    """Runs the job to its end; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="emojax launch", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, help="how many")
    parser.add_argument("--restarts", type=int, default=3, help="how often to start again (default: 3)")
    parser.add_argument("--grace", type=float, default=60.0, help="seconds after a signal to save in (default: 60)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and a verb of emojax with its options")
    options = parser.parse_args(arguments)
    command = [part for i, part in enumerate(options.command) if i or part != "--"]
    if options.processes < 1 or min(options.restarts, options.grace) < 0 or not command:
        raise ConfigError(
            "launch: expected --processes of 1 or more, --restarts and --grace of 0 or more, and -- VERB OPTIONS"
        )
    with _noted() as signals:
        for attempt in range(options.restarts + 1):
            code = _job([*PROGRAM, *command], options.processes, signals, grace=options.grace)
            if code in FINAL or signals:
                return code
            if attempt == options.restarts:
                sys.stderr.write(f"emojax launch: a process ended with {code}; giving up\n")
                return code
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
            sys.stderr.write(
                f"emojax launch: a process ended with {code}; starting all again in {pause:g} s "
                f"({attempt + 1} of {options.restarts})\n"
            )
            if _stopped_within(pause, signals):
                return 128 + signals[0]
    raise AssertionError("unreachable: the last attempt returns")


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """SIGTERM and SIGINT, in their order, while inside."""
    found: list[int] = []
    old = {number: signal.signal(number, lambda n, _: found.append(n)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield found
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _stopped_within(seconds: float, signals: list[int]) -> bool:
    until = time.monotonic() + seconds
    while not signals and time.monotonic() < until:
        time.sleep(0.05)
    return bool(signals)


def _job(command: list[str], count: int, signals: list[int], *, grace: float) -> int:
    """Starts all processes, and returns the exit code of the first that fails, or 0."""
    from emojax import parallel

    address = f"127.0.0.1:{_free_port()}"
    processes = []
    for i in range(count):
        env = {**os.environ, parallel.COORDINATOR: address, parallel.PROCESSES: str(count), parallel.PROCESS: str(i)}
        processes.append(subprocess.Popen(command, env=env, preexec_fn=_end_with_me))  # noqa: S603, PLW1509 - no threads
    told = 0.0
    while True:
        codes = [process.poll() for process in processes]
        if None not in codes:
            return _first_failure(codes)
        if signals and not told:  # one is enough: JAX tells the others
            told = time.monotonic()
            with contextlib.suppress(ProcessLookupError):
                processes[codes.index(None)].send_signal(signal.SIGTERM)
        # Once they are told to stop, one that has saved leaves the others the time to do so too.
        if any(code is not None and code not in (_SAVED if told else {0}) for code in codes):
            return _ended_together(processes, codes)
        if len(signals) >= 3 or (told and time.monotonic() > told + grace):
            _kill(processes)
            return 128 + signals[0]
        time.sleep(0.05)


def _end_with_me() -> None:
    """In a new process: SIGTERM when the launcher dies, however it dies. The number is PR_SET_PDEATHSIG of prctl(2)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _ended_together(processes: list[subprocess.Popen[bytes]], codes: list[int | None]) -> int:
    """Gives the others the time in which they notice by themselves, then kills them."""
    first, until = _first_failure(codes), time.monotonic() + GRACE
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        time.sleep(0.05)
    if first == PeerError.exit_code:  # the one that it missed has ended since
        first = _first_failure([process.poll() for process in processes])
    _kill(processes)
    return first


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def _first_failure(codes: list[int | None]) -> int:
    """The code of one that failed, 128 + N for signal N as in shells; 0 where none did. Of several, one that was
    killed: others fail because of that, before anyone looks. One that missed another comes late, one that was stopped
    and saved everything last."""

    def rank(code: int) -> tuple[bool, ...]:
        return code != -signal.SIGKILL, code in _SAVED, code == PeerError.exit_code

    failed = min((code for code in codes if code), key=rank, default=0)
    return 128 - failed if failed < 0 else failed


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
