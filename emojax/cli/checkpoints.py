"""`emojax checkpoints`: `list` shows the checkpoints of a run, `verify` reads every array of them and compares it with
the digest that was saved. Exit code 3 when one is damaged; those that the run has set aside do not count."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Prints one line per checkpoint."""
    parser = argparse.ArgumentParser(prog="emojax checkpoints", description=__doc__)
    parser.add_argument("job", choices=("list", "verify"), help="what to do")
    parser.add_argument("--workdir", required=True, help="of a training run")
    options = parser.parse_args(arguments)

    from emojax import checkpoint_list
    from emojax.errors import DamagedError

    rows = checkpoint_list.inspect(Path(options.workdir), verify=options.job == "verify")
    width = max(len(row.name) for row in rows)
    for row in rows:
        rank = "" if row.rank is None else f"  {row.rank_name} {row.rank:.6g}"
        sys.stdout.write(f"{row.name:<{width}}  {row.size / 1e6:8.1f} MB  {row.state}{rank}\n")
    if bad := [row.name for row in rows if row.damaged]:
        raise DamagedError(f"{len(bad)} of {len(rows)} checkpoints are damaged: {', '.join(bad)}")
    return 0
