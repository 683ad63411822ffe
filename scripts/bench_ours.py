"""The worker of `scripts/bench.py` that measures emojax; speaks the protocol of bench_protocol.py on stdin and stdout.

python scripts/bench_ours.py
"""

from __future__ import annotations

import functools
import importlib.metadata
import platform

import bench_protocol

VERSIONS = ("emojax", "jax", "jaxlib", "flax", "optax", "grain", "numpy", "pillow")


@functools.cache
def section(name: str) -> bench_protocol.Section:
    if name == "pipeline":
        import bench_ours_pipeline as found
    elif name == "infer":
        import bench_ours_infer as found
    else:
        import bench_ours_train as found
    return bench_protocol.Section(found.variants, found.prepare)


def memory(options: dict) -> dict[str, int]:
    import bench_ours_memory

    return bench_ours_memory.step_bytes(options)


def stages(options: dict) -> dict[str, float]:
    import bench_ours_pipeline

    return bench_ours_pipeline.stages(options)


def main() -> None:
    from emojax import memory as allocator, parallel

    allocator.keep_freed()  # as the command does
    parallel.prepare()
    versions = {"python": platform.python_version()} | {n: importlib.metadata.version(n) for n in VERSIONS}
    jobs = bench_protocol.Jobs(section, {"versions": versions, "devices": parallel.describe()})
    bench_protocol.serve({**jobs.functions(), "memory": memory, "stages": stages})


if __name__ == "__main__":
    main()
