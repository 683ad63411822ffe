"""What scripts/plan.py found, in words: for the terminal, and docs/scaling.md from docs/scaling.json.

The page's prose above and below the marks stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

from plan_chips import CHIPS
from plan_env import ROOT
from plan_roofline import ASSUMPTIONS, peak

JSON, PAGE = ROOT / "docs" / "scaling.json", ROOT / "docs" / "scaling.md"
MARKS = ("<!-- From here written by scripts/plan.py page. -->", "<!-- Up to here. -->")


def told(found: dict[str, Any]) -> str:
    """A few lines about one plan."""
    chip, roof, memory = CHIPS[found["chip"]], found["roofline"], found["memory"]
    state = ", ".join(f"{name} {_gb(size)}" for name, size in memory["state"].items() if size)
    lines = [
        f"{found['model']}, batch {found['batch']}, {found['image_size']} px, {found['compute']}, "
        f"{found['devices']} x {chip.name} ({found['device']}), compiled in {found['seconds']:.0f} s",
        f"memory per device: arguments {_gb(memory['arguments'])} ({state}), temporaries {_gb(memory['temporaries'])}, "
        f"outputs {_gb(memory['outputs'])} of which {_gb(memory['aliased'])} in the arguments' place",
        f"  at once {_gb(peak(memory))} of {_gb(chip.memory)}: {'fits' if fits(found) else 'DOES NOT FIT'}",
        f"FLOPs per step: {found['flops'] * found['devices']:.3g}, per device {found['flops']:.3g}",
        *(f"{kind}: {row['count']:g} of {_gb(row['bytes'])} in all" for kind, row in found["collectives"].items()),
        f"roofline, ms per step: arithmetic {1e3 * roof['arithmetic']:.1f}, memory {1e3 * roof['memory']:.1f}, "
        f"messages {1e3 * roof['messages']:.1f}",
        f"  {roof['best']:,.0f} images/s if all of it overlaps, {roof['worst']:,.0f} if nothing does; assumptions:",
        *(f"  - {line}" for line in (*ASSUMPTIONS, chip_line(found["chip"]))),
    ]
    return "\n".join(lines) + "\n"


def fits(found: dict[str, Any]) -> bool:
    """Whether a step needs no more than the chip has."""
    return peak(found["memory"]) <= CHIPS[found["chip"]].memory


def chip_line(name: str) -> str:
    """The numbers of a chip that the roofline uses, and their source."""
    chip = CHIPS[name]
    network = f", {chip.network / 1e9:g} GB/s between nodes of {chip.node}" if chip.network else ""
    return (
        f"{chip.name}: {chip.flops / 1e12:g} TFLOP/s, {chip.memory / 1e9:g} GB at {chip.bandwidth / 1e9:g} GB/s, "
        f"{chip.link / 1e9:g} GB/s each way between chips{network}; {chip.source}"
    )


def stored() -> dict[str, Any]:
    """docs/scaling.json: {name: plan}."""
    return json.loads(JSON.read_text()) if JSON.exists() else {}


def updated(plans: dict[str, Any], name: str, found: dict[str, Any], recipe: list[str]) -> dict[str, Any]:
    """`plans` with one more, or another one, under `name`."""
    return {**plans, name: {**found, "arguments": recipe}}


def write(plans: dict[str, Any]) -> None:
    """docs/scaling.json and the tables in docs/scaling.md."""
    JSON.write_text(json.dumps(plans, indent=1) + "\n")
    PAGE.write_text(page(plans, PAGE.read_text()))


def page(plans: dict[str, Any], old: str) -> str:
    """`old` with the tables of `plans` between the marks."""
    before, _, rest = old.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    chips = sorted({found["chip"] for found in plans.values()})
    parts = [MARKS[0], _memory(plans), _roofline(plans), _lines((*ASSUMPTIONS, *map(chip_line, chips)))]
    parts += ["Again:", "\n".join(f"    {_command(name, found)}" for name, found in plans.items()), MARKS[1]]
    return before + "\n\n".join(parts) + after


def _memory(plans: dict[str, Any]) -> str:
    rows = []
    for name, found in plans.items():
        memory = found["memory"]
        state = memory["state"]
        rows.append(
            [
                name,
                f"{found['batch']} / {found['devices']}",
                str(found["fsdp"]),
                found["remat"] or "nothing",
                *(_gb(state[part]) for part in ("params", "opt_state", "average")),
                _gb(memory["arguments"]),
                _gb(memory["temporaries"]),
                f"{_gb(peak(memory))} of {_gb(CHIPS[found['chip']].memory)}",
                "yes" if fits(found) else "**no**",
            ]
        )
    titles = ["plan", "batch / devices", "fsdp", "computed again", "parameters", "optimizer", "averages"]
    return _table([*titles, "arguments", "temporaries", "at once", "fits"], rows)


def _roofline(plans: dict[str, Any]) -> str:
    rows = []
    for name, found in plans.items():
        roof, messages = found["roofline"], found["collectives"]
        rows.append(
            [
                name,
                f"{found['flops'] / 1e12:.2f}",
                "; ".join(f"{row['count']:g} {kind}, {_gb(row['bytes'])}" for kind, row in messages.items()) or "none",
                *(f"{1e3 * roof[part]:.1f}" for part in ("arithmetic", "memory", "messages")),
                f"{roof['worst']:,.0f} to {roof['best']:,.0f}",
            ]
        )
    titles = ["plan", "TFLOP per device", "collectives per step", "arithmetic, ms", "memory, ms", "messages, ms"]
    return _table([*titles, "images/s, worst to best"], rows)


def _command(name: str, found: dict[str, Any]) -> str:
    size = "topology" if CHIPS[found["chip"]].platform == "tpu" else "devices"
    options = [f"--chip={found['chip']}", f"--{size}={found['topology']}", *found["arguments"]]
    return f"python scripts/plan.py page --update='{name}' {' '.join(options)}"


def _table(titles: list[str], rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (titles, rule, *rows))


def _lines(lines: tuple[str, ...]) -> str:
    linked = (re.sub(r"(https?://[^ ]*[^ .])", r"<\1>", line) for line in lines)
    return "\n".join(f"- {line}" for line in linked)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"
