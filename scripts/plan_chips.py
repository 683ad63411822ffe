"""The chips that scripts/plan.py knows: what their makers say, and what a compiler without them must be told."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 shared_memory_per_core: 233472
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072 shared_memory_per_block_optin: 232448 cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
}
platform_name: "CUDA" dnn_version_info { major: 9 minor: 8 } device_description_str: "NVIDIA H100 80GB HBM3"
"""


class PlanError(Exception):
    """A request that cannot be planned; the message says what to change."""


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
      name: as its maker calls it.
      platform: "tpu" or "cuda".
      flops: dense bfloat16 products, FLOP/s.
      memory: bytes.
      bandwidth: of that memory, bytes/s.
      link: what one chip can send to the others nearby, bytes/s in one direction (half of what makers call
        bidirectional).
      node: chips that `link` joins; 0 = all.
      network: what one chip can send to those of other nodes, bytes/s in one direction.
      source: where the numbers are from.
      config: XLA's description of the chip (`target_config`), for GPUs.
    """

    name: str
    platform: str
    flops: float
    memory: float
    bandwidth: float
    link: float
    source: str
    node: int = 0
    network: float = 0.0
    config: str = ""


CHIPS = {
    "v5e": Chip("TPU v5e", "tpu", 197e12, 16e9, 819e9, 200e9, "https://docs.cloud.google.com/tpu/docs/v5e"),
    "v5p": Chip("TPU v5p", "tpu", 459e12, 95e9, 2765e9, 600e9, "https://docs.cloud.google.com/tpu/docs/v5p"),
    "v6e": Chip("TPU v6e", "tpu", 918e12, 32e9, 1638e9, 400e9, "https://docs.cloud.google.com/tpu/docs/v6e"),
    "h100": Chip(
        "NVIDIA H100 SXM",
        "cuda",
        989e12,
        80e9,
        3.35e12,
        450e9,
        "https://www.nvidia.com/en-us/data-center/h100/ (between nodes: a 400 Gb/s port for each GPU, as in DGX H100)",
        node=8,
        network=50e9,
        config=_H100,
    ),
}


def target(name: str, *, topology: str, devices: int) -> dict[str, Any]:
    """What `plan_compile` is told: {"platform", "topology", "config"}. Raises `PlanError`.

    TPUs have a topology, chips per axis as in `16x16`; GPUs a number, one node or several whole ones.
    """
    if name not in CHIPS:
        raise PlanError(f"--chip: expected one of {', '.join(CHIPS)}, found {name!r}")
    chip = CHIPS[name]
    if chip.platform == "tpu":
        if devices or not re.fullmatch(r"\d+(x\d+){1,2}", topology):
            raise PlanError(
                f"--topology: a {chip.name} needs chips per axis, for example --topology=4x4, and no --devices"
            )
        return {"platform": "tpu", "topology": f"{name}:{topology}", "config": ""}
    if topology or devices < 1:
        raise PlanError(
            f"--devices: a machine of {chip.name} needs their number, for example --devices=8, no --topology"
        )
    if devices > chip.node and devices % chip.node:
        raise PlanError(f"--devices: {devices} are no whole nodes of {chip.node}")
    nodes = math.ceil(devices / chip.node)
    return {"platform": "cuda", "topology": f"1x{nodes}x{devices // nodes}", "config": chip.config}
