"""Schemathesis, which invents requests from the OpenAPI, right ones and wrong ones, finds nothing.

It is a command of an environment of its own, named by EMOJAX_SCHEMATHESIS or found on PATH as `schemathesis`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

from serving import running

from emojax.serve.gate import Rules

COMMAND = os.environ.get("EMOJAX_SCHEMATHESIS") or shutil.which("schemathesis")
TOKEN = "0123456789abcdef"


@pytest.mark.skipif(COMMAND is None, reason="needs Schemathesis")
@pytest.mark.parametrize("token", ["", TOKEN], ids=["open", "token"])
def test_schemathesis_finds_nothing(token, tmp_path):
    with running(wait=0.0, rules=Rules(token=token)) as server:
        found = subprocess.run(
            [
                str(COMMAND), "run", f"http://127.0.0.1:{server.port}/openapi.json", "--checks=all", "--no-color",
                "--max-examples=25", "--seed=1", *(["-H", f"Authorization: Bearer {token}"] if token else []),
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
            env={
                "PATH": os.environ["PATH"],
                "SCHEMATHESIS_HOOKS": str(Path(__file__).parent / "schemathesis_hooks.py"),
            },
        )  # fmt: skip
    assert found.returncode == 0, found.stdout[-6000:] + found.stderr[-2000:]
    assert "5 passed" in found.stdout, found.stdout[-2000:]
