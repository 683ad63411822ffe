"""Writes constraints.txt: the newest versions that pyproject.toml allows, for Python 3.11 and 3.12.

    python scripts/update_constraints.py PYTHON3.11 PYTHON3.12

The arguments are interpreters. Each gets a fresh virtual environment with `.[dev]`; where the two resolve to different
versions, an environment marker tells them apart. Run the whole CI before committing the result.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = """# The exact versions that CI tests, for `pip install -c constraints.txt ...` on Python 3.11 and 3.12.
# Made by scripts/update_constraints.py.
"""


def resolved(interpreter: str) -> dict[str, str]:
    """{package: version} of a fresh environment."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "-q", "-e", f"{ROOT}[dev]"], check=True)
        frozen = subprocess.run([*pip, "freeze", "--exclude-editable"], check=True, capture_output=True, text=True)
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", frozen.stdout, re.MULTILINE))


def main(old: str, new: str) -> None:
    before, after = resolved(old), resolved(new)
    lines = []
    for name in sorted({*before, *after}, key=str.lower):
        if before.get(name) == after.get(name):
            lines.append(f"{name}=={before[name]}")
            continue
        for versions, marker in ((before, "<"), (after, ">=")):
            if name in versions:
                lines.append(f'{name}=={versions[name]} ; python_version {marker} "3.12"')
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n")
    print(f"constraints.txt: {len(lines)} lines")


if __name__ == "__main__":
    main(*sys.argv[1:])
