"""The section "Bars, commands, outputs" of docs/evaluation.md: runs its commands and writes what they print.

    python scripts/bars.py [NAME ...]        # runs these bars (default: all whose data are there), then writes the page
    python scripts/bars.py page              # only writes the page, from docs/bars.json

Commands that need data get it from the environment: FER2013 = a folder or CSV file that emojax reads as FER2013. What
was not run yet is shown as such. docs/bars.json holds the output, date, seconds and exit code of every command.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from emojax import files

ROOT = Path(__file__).resolve().parents[1]
PAGE, RECORD = ROOT / "docs/evaluation.md", ROOT / "docs/bars.json"
BEGIN, END = "<!-- bars: written by scripts/bars.py -->\n", "<!-- end of bars -->\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """What is wanted, and the command that shows it; `needs` = names of environment variables in the command.

    `remark` = what a reader of the output should know: where it falls short, and what only eyes could tell.
    """

    wanted: str
    command: str
    needs: tuple[str, ...] = ()
    remark: str = ""


BARS = {
    "coverage": Bar(
        "95 % intervals hold the truth in 95 % of cases",
        "python scripts/simulate.py coverage",
        remark="Of 300 draws a row, 93 to 97 is within chance; the lowest, of the loss of 57 images, is short.",
    ),
    "compare": Bar(
        "equal models differ clearly in at most 5 %",
        "python scripts/simulate.py compare",
        remark="Not reached with many classes: one bootstrap decides on all rows together, and its tails are too short "
        "for classes of few images. McNemar's test, which is exact, keeps to 5 %.",
    ),
    "sets": Bar("90 % sets cover 90 ± 1 %", "python scripts/simulate.py sets"),
    "ece": Bar("ECE below 2 % after scaling; its interval holds the truth", "python scripts/simulate.py ece"),
    "prior": Bar("logit adjustment gains 3 points of mean-class accuracy", "python scripts/simulate.py prior"),
    "labels": Bar(
        "80 % precision at the top 1 % with 10 % planted noise",
        "python scripts/simulate.py labels",
        remark="Not reached by a model that is right on 58 % only: its own mistakes look like wrong labels.",
    ),
    "scikit-learn": Bar(
        "metrics equal scikit-learn's and torchmetrics' to 1e-9",
        "python -m pytest -p no:cacheprovider -o addopts= --no-header -rs tests/test_metrics.py",
    ),
    "copies": Bar(
        "100,000 images in 2 minutes on 2 cores; 99 % of planted copies found at 0.1 % false alarms",
        "python scripts/bench_copies.py --images=100000 --planted=1000",
    ),
    "copies of faces": Bar(
        "the same among the pictures of FER2013",
        "python scripts/bench_copies.py --images=100000 --planted=1000 --data=$FER2013",
        ("FER2013",),
        remark="The pairs that nobody planted were looked at (`--sheet`, 2026-11-28, all 170): 169 show one photograph "
        "twice, cut, mirrored or with another watermark, so FER2013 itself planted them; of one, eyes could not tell. "
        "False alarms: 1 pair at most.",
    ),
    "leaks of FER2013": Bar(
        "the leak gate's figures on FER2013",
        "python -m emojax.cli data check --data=$FER2013",
        ("FER2013",),
        remark="All 279 val images that the data set marks as duplicates (`dup_of_train`) are among those found, as "
        "`tests/test_data_copies.py` checks; the search does not read that column.",
    ),
}


def main(arguments: list[str]) -> None:
    """Runs what was asked for, keeps the rest of the record, writes the page."""
    found = files.parse_json(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    if unknown := [name for name in arguments if name not in (*BARS, "page")]:
        sys.exit(f"no bar is called {unknown[0]!r}; there are {', '.join(BARS)}")
    for name in [name for name in arguments if name != "page"] if arguments else BARS:
        bar = BARS[name]
        if missing := [need for need in bar.needs if need not in os.environ]:
            sys.stderr.write(f"{name}: left out, set {', '.join(missing)}\n")
            continue
        sys.stderr.write(f"{name}: {bar.command}\n")
        found[name] = run(bar)
        files.write_json(RECORD, {key: found[key] for key in BARS if key in found})
    write(found)


def run(bar: Bar) -> dict[str, Any]:
    """Output, date, seconds and exit code of a bar's command; paths of the environment become their names again."""
    words = [os.path.expandvars(word) for word in shlex.split(bar.command)]
    words[0] = sys.executable if words[0] == "python" else words[0]
    start = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    output = done.stdout if done.returncode == 0 else done.stdout + done.stderr[-2000:]
    for need in bar.needs:
        output = output.replace(os.environ[need], f"${need}")
    return {
        "command": bar.command,
        "output": output.strip(),
        "seconds": round(time.monotonic() - start, 1),
        "exit_code": done.returncode,
        "date": time.strftime("%Y-%m-%d"),
    }


def write(found: dict[str, Any]) -> None:
    """Puts the section into the page, between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    files.write_text(PAGE, before + BEGIN + section(found) + END + rest.split(END)[1])


def section(found: dict[str, Any]) -> str:
    """The section, from {bar: what `run` gave}."""
    parts = ["\n"]
    for name, bar in BARS.items():
        parts.append(f"### {name[0].upper()}{name[1:]}: {bar.wanted}\n\n    {bar.command}\n\n")
        if name not in found:
            parts.append("Not run yet.\n\n")
            continue
        row = found[name]
        ended = "" if row["exit_code"] == 0 else f", **exit code {row['exit_code']}**"
        output = row["output"]
        if not all(line.startswith("|") for line in output.splitlines()):
            output = "```\n" + output + "\n```"
        remark = f" {bar.remark}" if bar.remark else ""
        parts.append(f"{output}\n\n{row['date']}, {row['seconds']:g} s{ended}.{remark}\n\n")
    return "".join(parts)


if __name__ == "__main__":
    main(sys.argv[1:])
