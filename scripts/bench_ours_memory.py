"""What a train step needs, as XLA plans it: `compiled.memory_analysis()`."""

from __future__ import annotations

from typing import Any

import bench_ours_parts

from emojax import metrics, parallel, wiring


def step_bytes(options: dict[str, Any]) -> dict[str, int]:
    """{"peak", "temporary"} bytes of the compiled step; temporary: activations, gradients and scratch.

    options: those of `bench_ours_parts.build`, and `variant`, one of `bench_ours_parts.COMPUTE`.
    """
    parts = bench_ours_parts.build(options, options["variant"])
    train_step: Any = wiring.train_step(parts, parts.stages[0])[0]
    batch = parallel.shard(parts.mesh, bench_ours_parts.host_batch(parts), accumulate=options.get("accumulate", 1))
    totals = parallel.replicate(parts.mesh, metrics.TrainMetrics.empty())
    found = train_step.lower(wiring.initial_state(parts), totals, batch, parts.key).compile().memory_analysis()
    alive = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return {"peak": alive + found.temp_size_in_bytes, "temporary": found.temp_size_in_bytes}
