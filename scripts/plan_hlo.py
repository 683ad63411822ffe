"""What a compiled program moves, read from its text (HLO): bytes to and from memory, and collectives by kind.

Loops count as often as they run, of a condition's branches the one that moves most. Memory traffic: every fusion,
product, copy and call reads its operands once and writes its result once; what the compiler keeps on the chip (a TPU's
`S(1)`) moves nothing.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

WIDTH = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s64": 8, "u64": 8, "f64": 8, "c64": 8}
"""Bytes of a number, where it is not four."""
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "iota",
    "partition-id", "replica-id", "while", "conditional", "call", "domain", "optimization-barrier",
}  # fmt: skip
"""What moves nothing by itself; while, conditional and call by what they run."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: name, (bytes, whether in the main memory) per array of the result, operation, operands, rest."""

    name: str
    arrays: tuple[tuple[int, bool], ...]
    operation: str
    operands: tuple[str, ...]
    attributes: str


def arrays(shape: str) -> tuple[tuple[int, bool], ...]:
    """One line: name, (bytes, whether in main memory) per array of the result, operation, operands, the rest."""
    found = re.findall(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?", re.sub(r"/\*.*?\*/", "", shape))
    return tuple(
        (WIDTH.get(kind, 4) * math.prod(int(n.strip("<=")) for n in sizes.split(",") if n), "S(" not in layout)
        for kind, sizes, layout in found
        if kind != "token"
    )


def _closing(text: str, start: int) -> int:
    """Position of the bracket that closes the one at `start`."""
    depth = 0
    for match in re.compile(r"[()]").finditer(text, start):
        depth += 1 if match[0] == "(" else -1
        if depth == 0:
            return match.start()
    raise ValueError(f"unbalanced brackets in {text[:80]}")


def instruction(line: str) -> Instruction | None:
    """One line of a computation, or None."""
    match = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = ", line)
    if not match:
        return None
    rest = line[match.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    start = rest.index("(")
    stop = _closing(rest, start)
    operands = tuple(re.findall(r"%([\w.\-]+)", rest[start:stop]))
    return Instruction(match[1], arrays(shape), rest[:start], operands, rest[stop + 1 :])


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """({name: instructions}, name of the one that is run)."""
    found: dict[str, list[Instruction]] = {}
    entry, current = "", ""
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{\s*$", line):
            current = head[2]
            found[current] = []
            entry = current if head[1] else entry
        elif current and (made := instruction(line)):
            found[current].append(made)
    return found, entry


def group_size(attributes: str) -> int:
    """Devices that take part in one collective; the notations {{0,1},{2,3}}, [2,4]<=[8] and mesh['a'=2,'b'=4] {'b'}."""
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
        return len(match[1].split(","))
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]", attributes):
        return int(match[1])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", match[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match[2]))
    return 2 if "source_target_pairs" in attributes else 1


def on_the_wire(kind: str, size: float, group: int) -> float:
    """Bytes that each device sends, by the algorithms that send least (rings): an all-reduce is a reduce-scatter and an
    all-gather. `size`: bytes of the whole array."""
    if kind == "collective-permute":
        return size
    return (2 if kind == "all-reduce" else 1) * size * (group - 1) / group


class Moved:
    """Sums over a program."""

    def __init__(self, text: str) -> None:
        """Reads the text."""
        self.programs, self.entry = computations(text)
        self.channels: set[str] = set()

    def of(self, name: str, *, fused: bool = False) -> tuple[float, dict[str, dict[str, float]]]:
        """(bytes of memory traffic, {kind: {"count", "bytes", "wire"}}) of one run of a computation; within a fusion
        (`fused`) only collectives count."""
        shapes = {made.name: made for made in self.programs[name]}
        traffic, collectives = 0.0, {}
        for made in self.programs[name]:
            traffic += 0 if fused else _traffic(made, shapes)
            kind = next((k for k in KINDS if made.operation in (k, f"{k}-start")), None)
            if kind and self._is_new(made):
                group = group_size(made.attributes)
                size = sum(n for operand in made.operands for n, _ in shapes[operand].arrays)
                size *= group if kind == "all-gather" else 1
                kind = "reduce-scatter" if "all-reduce-scatter" in name else kind  # a TPU's, as a fusion
                _add(collectives, {kind: {"count": 1, "bytes": size, "wire": on_the_wire(kind, size, group)}})
            more, inner = self._called(made)
            traffic += more
            _add(collectives, inner)
        return traffic, collectives

    def _is_new(self, made: Instruction) -> bool:
        """Not one more piece of a collective that a TPU runs beside several fusions, each of which names it."""
        channel = re.search(r"channel_id=(\d+)", made.attributes)
        known = bool(channel) and channel[1] in self.channels
        self.channels |= {channel[1]} if channel else set()
        return not known

    def _called(self, made: Instruction) -> tuple[float, dict[str, dict[str, float]]]:
        text = made.attributes
        if made.operation == "while":
            body, times = re.search(r"body=%?([\w.\-]+)", text), trips(text)
            traffic, inner = self.of(body[1]) if body else (0.0, {})
            return traffic * times, {k: {n: v * times for n, v in row.items()} for k, row in inner.items()}
        if made.operation == "conditional":
            names = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", text)
            if several := re.search(r"branch_computations=\{([^}]*)\}", text):
                names = re.findall(r"%?([\w.\-]+)", several[1])
            return max((self.of(name) for name in names), key=lambda found: found[0])
        if made.operation in ("call", "fusion", "async-start"):
            called = re.search(r"(?:calls|to_apply)=%?([\w.\-]+)", text)
            return self.of(called[1], fused=made.operation != "call") if called else (0.0, {})
        return 0.0, {}


def trips(attributes: str) -> int:
    """How often a loop runs; 1 where the compiler does not know."""
    match = re.search(r'known_trip_count":\s*\{"n":\s*"(\d+)"', attributes)
    return int(match[1]) if match else 1


def _traffic(made: Instruction, shapes: Mapping[str, Instruction]) -> float:
    if made.operation in _FREE or made.operation.endswith(("-done", "-update")):
        return 0
    written = made.arrays
    if made.operation.endswith("-start"):  # names its source too: a gathering first, a copy second
        written = written[-1:] if made.operation.startswith(KINDS) else written[:1]
    read = [part for operand in made.operands for part in shapes[operand].arrays]
    return sum(size for size, in_memory in (*written, *read) if in_memory)


def _add(total: dict[str, dict[str, float]], more: Mapping[str, Mapping[str, float]]) -> None:
    for kind, row in more.items():
        into = total.setdefault(kind, {"count": 0, "bytes": 0, "wire": 0})
        for name, value in row.items():
            into[name] += value


def summary(text: str) -> dict[str, Any]:
    """{"traffic": bytes, "collectives": {kind: {"count", "bytes", "wire"}}} of one run of a program on one device."""
    moved = Moved(text)
    traffic, collectives = moved.of(moved.entry)
    return {"traffic": traffic, "collectives": collectives}
