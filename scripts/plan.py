"""Compiles a recipe's train step for machines that are not here, and says what it would need there.

    python scripts/plan.py --config=configs/convnext_tiny.py --chip=v5e --topology=16x16 --config.batch_size=4096
    python scripts/plan.py --config=configs/convnext_tiny.py --chip=h100 --devices=8 --json=plan.json
    python scripts/plan.py page --update=NAME --config=... --chip=...    # also a line of docs/scaling.json and .md
    python scripts/plan.py page                                          # docs/scaling.md anew from its JSON

Chips: see scripts/plan_chips.py. Knobs are set as in training: --config.batch_size=2048, --config.parallel.fsdp=8. The
first call for a kind of chip makes an environment for it; compiling takes minutes, and is done once for a program.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import plan_chips
import plan_env
import plan_page
import plan_roofline
from plan_chips import CHIPS, PlanError

MARK = "plan: "
"""What `plan_compile` puts before its result."""


def arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """(own options, the rest: those of the recipe)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("verb", nargs="?", choices=("show", "page"), default="show", help="page: write docs/scaling.md")
    parser.add_argument("--chip", default="", help=", ".join(CHIPS))
    parser.add_argument("--topology", default="", help="TPUs: chips per axis, such as 16x16")
    parser.add_argument("--devices", type=int, default=0, help="GPUs: how many")
    parser.add_argument("--classes", type=int, default=8, help="classes of the data (default: 8)")
    parser.add_argument("--images", type=int, default=1_000_000, help="training images (default: a million)")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--program", type=Path, help="file for the compiled program's text (HLO)")
    parser.add_argument("--update", default="", help="page: the name under which the result enters docs/scaling.json")
    return parser.parse_known_args(argv)


def request(options: argparse.Namespace, recipe: list[str]) -> dict[str, Any]:
    """What `plan_compile` is asked. Raises `PlanError`."""
    if options.classes < 2 or options.images < 1:
        raise PlanError("--classes: expected 2 or more, and --images 1 or more")
    return {
        "target": plan_chips.target(options.chip, topology=options.topology, devices=options.devices),
        "arguments": recipe,
        "classes": options.classes,
        "images": options.images,
        "kept": str(plan_env.folder() / "programs"),
        "program": str(options.program.absolute()) if options.program else "",
    }


def asked(question: dict[str, Any]) -> dict[str, Any]:
    """The answer of `plan_compile` in the environment of its platform. Raises `PlanError`."""
    platform = question["target"]["platform"]
    interpreter = plan_env.python(platform)
    environment = {
        **os.environ,
        **plan_env.VARIABLES[platform],
        "JAX_PLATFORMS": "cpu",  # where this process itself computes; the target is asked for by name
        "PYTHONPATH": str(plan_env.ROOT),
    }
    command = [str(interpreter), str(plan_env.ROOT / "scripts" / "plan_compile.py"), json.dumps(question)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    lines = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise PlanError(f"compiling ended with code {done.returncode}: {said}")
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise PlanError(answer["error"].removeprefix("error: "))
    return answer


def main(argv: list[str]) -> int:
    options, recipe = arguments(argv)
    try:
        if options.verb == "page" and not options.update:
            plan_page.write(plan_page.stored())
            return 0
        found = asked(request(options, recipe))
        found = {
            "chip": options.chip,
            "topology": options.topology or str(options.devices),
            **found,
            "roofline": plan_roofline.estimate(found, CHIPS[options.chip]),
        }
        sys.stdout.write(plan_page.told(found))
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")
        if options.update:
            plan_page.write(plan_page.updated(plan_page.stored(), options.update, found, recipe))
    except PlanError as error:
        sys.stderr.write(f"plan: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
