"""Tier S of the campaigns: a few of each kind, as `scripts/soak.py` counts them by the hundred.

Reference and victim run with the same device count and CPU affinity: XLA splits sums by the number of threads.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("section", "count"), [("kills", 20), ("interpreters", 2), ("signals", 5), ("flips", 4), ("memory", 4)]
)
def test_campaign(tmp_path, section, count):
    out = tmp_path / "out.json"
    command = [sys.executable, "scripts/soak.py", section, f"--count={count}", f"--json={out}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(out.read_text())[section]
    assert found["passed"] == found["done"] >= count and found["failures"] == []
