"""Campaigns against checkpoints: bits that flip, files that are cut off, parts that are left out, points where a save
dies. The latter two are the tests of tests/faults, counted."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import soak_children as children
from bench_setting import ROOT
from soak_record import Unit
from soak_runs import newest
from soak_setting import Setting


def flips(setting: Setting, first: int) -> Iterator[Unit]:
    """One bit flipped, or a file cut off, anywhere in the newest checkpoint; then the run goes on to its end."""
    variant = setting.variant("two kept")
    stopped = setting.folder / "stopped"
    if not stopped.is_dir():
        child = children.training(variant.recipe, stopped)
        while child.poll() is None and child.page.step < 15:
            time.sleep(0.001)
        child.signal(signal.SIGTERM)
        if child.wait(60) != 143:
            raise RuntimeError(f"the run to be damaged ended with {child.code}: {child.told()}")
    step = newest(stopped)
    for seed in range(first, 1_000_000):
        clock, run = random.Random(f"flips {seed}"), setting.folder / f"flips-{seed}"
        shutil.copytree(stopped, run)
        files = sorted(p for p in (run / "checkpoints" / str(step)).rglob("*") if p.is_file() and p.stat().st_size)
        # In turns any file, most of which are small descriptions, and any byte, most of which are numbers.
        sizes = [path.stat().st_size if seed % 2 else 1 for path in files]
        path = clock.choices(files, sizes)[0]
        what = _damage(path, clock, cut=seed % 10 in (6, 7, 8))
        child = children.training(variant.recipe, run)
        code = child.wait(300)
        child.end()
        found = [f"ended with {code}: {child.told()}"] if code else []
        found = found or children.compared(run, variant.reference, setting.folder)
        noticed = child.page.restored != step
        kind = "numbers" if path.parent.name == "d" else path.name
        counts = {what: 1, "noticed, went on from the step before" if noticed else f"harmless, equal: {kind}": 1}
        if noticed and not (run / f"checkpoints/damaged-{step}").exists():
            found.append("the damaged checkpoint was not set aside")
        failures = [{"seed": seed, "file": str(path.relative_to(run)), "what": what, "seen": found}] if found else []
        if not found:
            shutil.rmtree(run)
            run.with_suffix(".log").unlink()
        yield Unit(1, int(not found), counts, [], failures)


def _damage(path: Path, clock: random.Random, *, cut: bool) -> str:
    data = bytearray(path.read_bytes())
    at = clock.randrange(len(data))
    if cut:
        path.write_bytes(data[:at])
        return "truncated"
    data[at] ^= 1 << clock.randrange(8)
    path.write_bytes(data)
    return "bit flipped"


def controls(setting: Setting, first: int) -> Iterator[Unit]:
    """Parts left out of what a resumed run gets back; a test passes when the comparison fails."""
    yield from _tests(setting, first, "test_controls.py")


def crash_points(setting: Setting, first: int) -> Iterator[Unit]:
    """Named points at which the process dies."""
    yield from _tests(setting, first, "test_crash_points.py")


def data_faults(setting: Setting, first: int) -> Iterator[Unit]:
    """Images and names that are not what they should be."""
    yield from _tests(setting, first, "test_data_faults.py", marked="slow or not slow")


def _tests(setting: Setting, first: int, name: str, *, marked: str = "slow") -> Iterator[Unit]:
    out = setting.folder / f"{name}.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-m", marked, f"tests/faults/{name}", f"--junitxml={out}"]
    subprocess.run(command, cwd=ROOT, check=False)
    for case in list(ET.parse(out).getroot().iter("testcase"))[first:]:  # noqa: S314
        wrong = [node.get("message", "") for node in case if node.tag in ("failure", "error", "skipped")]
        label = str(case.get("name"))
        failures = [{"seed": label, "seen": wrong}] if wrong else []
        yield Unit(1, int(not wrong), {label: 1}, [], failures)
