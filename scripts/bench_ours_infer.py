"""emojax' inference function as evaluation and `predict` run it: uint8 pictures in, probabilities on the host."""

from __future__ import annotations

import time
from typing import Any

import bench_ours_parts
import jax
from bench_protocol import Job

from emojax import parallel, wiring


def variants(options: dict[str, Any]) -> list[str]:
    del options
    return list(bench_ours_parts.COMPUTE)


def prepare(options: dict[str, Any], variant: str) -> Job:
    parts = bench_ours_parts.build(options, variant)
    state, infer = wiring.initial_state(parts), parts.infer("center")
    params = parts.model.rounded(state.params, options["size"])  # as `emojax.load` does
    model_state = state.model_state
    host = bench_ours_parts.host_batch(parts)

    def seconds(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            batch = parallel.shard(parts.mesh, host)
            parallel.to_host(infer(params, model_state, batch.image))
        return time.perf_counter() - began

    return Job(seconds, options["batch"], {"parameters": sum(x.size for x in jax.tree.leaves(params))})
