"""The worker of `scripts/bench.py` that measures the peer; started under the interpreter of a PyTorch environment.

    PEER_PYTHON scripts/bench_peer.py

Says first which modules there are, so that a missing one is refused in one line before anything is measured.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import platform

import bench_protocol

MODULES = ("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow", "pyarrow")


@functools.cache
def section(name: str) -> bench_protocol.Section:
    if name == "pipeline":
        import bench_peer_pipeline as found
    elif name == "infer":
        import bench_peer_infer as found
    else:
        import bench_peer_train as found
    return bench_protocol.Section(found.variants, found.prepare)


def versions() -> dict[str, str]:
    """{module: version} of those that are installed."""
    found = {"python": platform.python_version()}
    for name in MODULES:
        if importlib.util.find_spec("PIL" if name == "pillow" else name):
            found[name] = importlib.metadata.version(name)
    return found


if __name__ == "__main__":
    jobs = bench_protocol.Jobs(section, {"versions": versions()})
    bench_protocol.serve(jobs.functions())
