"""The roofline: a step takes at least as long as the slowest of its arithmetic, its memory traffic and its messages.

Source: Williams et al. 2009, https://doi.org/10.1145/1498765.1498785.
"""

from __future__ import annotations

from typing import Any

from plan_chips import Chip

ASSUMPTIONS = (
    "Arithmetic: matrix products and convolutions at the chip's peak rate for bfloat16, all else free.",
    "Memory: every operation of the compiled program reads its operands once and writes its result once, at the full "
    "bandwidth; what the compiler keeps on a TPU's chip is free.",
    "Messages: ring algorithms on all links at once, without latency; several nodes at the rate of the network.",
    "Best: the three overlap completely. Worst: they do not overlap. Reading and decoding images is not counted.",
)


def estimate(found: dict[str, Any], chip: Chip) -> dict[str, Any]:
    """Seconds of one step by part, and images/s of all devices: {"arithmetic", "memory", "messages", "bound",
    "best", "worst"}. `found`: from `plan_compile`, numbers per device.
    """
    link = chip.network if chip.node and found["devices"] > chip.node else chip.link
    seconds = {
        "arithmetic": found["flops"] / chip.flops,
        "memory": found["traffic"] / chip.bandwidth,
        "messages": sum(row["wire"] for row in found["collectives"].values()) / link,
    }
    bound = max(seconds, key=lambda part: seconds[part])
    return {
        **seconds,
        "bound": bound,
        "best": found["batch"] / seconds[bound],
        "worst": found["batch"] / sum(seconds.values()),
    }


def peak(memory: dict[str, Any]) -> int:
    """Bytes that a step needs at once: arguments, results that take no argument's place, temporaries, the program."""
    return sum(memory[k] for k in ("arguments", "outputs", "temporaries", "program")) - memory["aliased"]
