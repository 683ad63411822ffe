"""emojax' train step as the training loop runs it: host batch to the device, one step in flight, real metrics."""

from __future__ import annotations

import time
from typing import Any

import bench_ours_parts
import jax
from bench_protocol import Job

from emojax import metrics, parallel, wiring


def variants(options: dict[str, Any]) -> list[str]:
    del options
    return list(bench_ours_parts.COMPUTE)


def prepare(options: dict[str, Any], variant: str) -> Job:
    parts = bench_ours_parts.build(options, variant)
    train_step, _ = wiring.train_step(parts, parts.stages[0])
    state = wiring.initial_state(parts)
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    totals = parallel.replicate(parts.mesh, metrics.TrainMetrics.empty())
    host = bench_ours_parts.host_batch(parts)

    def seconds(n: int) -> float:
        nonlocal state, totals
        began = time.perf_counter()
        for _ in range(n):
            batch = parallel.shard(parts.mesh, host)
            previous, (state, totals) = totals, train_step(state, totals, batch, parts.key)
            jax.block_until_ready(previous)
        jax.block_until_ready((state, totals))
        return time.perf_counter() - began

    return Job(seconds, options["batch"], {"parameters": parameters})
