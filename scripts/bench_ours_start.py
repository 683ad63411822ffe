"""A real training run that ends after its first update: prints the seconds of {"trace", "compile", "step"} and exits.

    python scripts/bench_ours_start.py --config=FILE --workdir=FOLDER

What `scripts/bench.py` measures is the time from the start of this process to that line.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from typing import Any

import jax

from emojax import main, step, wiring


def stopping(train_step: step.Step) -> step.Step:
    """`train_step`, which waits for its result, says how long everything took, and ends the process."""

    def first(*arguments: Any) -> Any:
        jitted: Any = train_step
        clock = [time.perf_counter()]
        lowered = jitted.lower(*arguments)
        clock.append(time.perf_counter())
        compiled = lowered.compile()
        clock.append(time.perf_counter())
        jax.block_until_ready(compiled(*arguments))
        clock.append(time.perf_counter())
        parts = (b - a for a, b in itertools.pairwise(clock))
        print(json.dumps(dict(zip(("trace", "compile", "step"), parts, strict=True))), flush=True)
        os._exit(0)  # loader threads and checkpoints have nothing to say any more

    return first


if __name__ == "__main__":
    make = wiring.train_step

    def patched(parts: wiring.Parts, stage: Any) -> tuple[step.Step, bool]:
        found, new = make(parts, stage)
        return stopping(found), new

    wiring.train_step = patched
    sys.exit(main.run_with_errors(sys.argv))
