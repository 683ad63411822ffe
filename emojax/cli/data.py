"""`emojax data`: jobs on data sets, one module each."""

from __future__ import annotations

import importlib
import sys

JOBS = {
    "check": "look for unreadable and odd images, copies, conflicting classes, and leaks across splits",
    "align": "cut out faces and bring eyes, nose and mouth into one place, with the same tree and labels",
    "pack": "write the images of each split into one file",
    "labels": "rank likely label errors, from out-of-fold predictions",
}


def main(arguments: list[str]) -> int:
    """Runs one job and returns its exit code."""
    from emojax.errors import ConfigError

    job = arguments[0] if arguments else "--help"
    if job in ("--help", "-h"):
        jobs = "\n".join(f"  {name:<8} {text}" for name, text in JOBS.items())
        sys.stdout.write(f"usage: emojax data JOB [options]\n\n{jobs}\n\n")
        sys.stdout.write("emojax data JOB --help tells the options of a job.\n")
        return 0
    if job not in JOBS:
        raise ConfigError(f"emojax data: there is no job {job!r}; there are {', '.join(JOBS)}")
    return importlib.import_module(f"emojax.cli.data_{job}").main(arguments[1:])
