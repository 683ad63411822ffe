"""The part of scripts/plan.py that runs in a target's environment: compiles a step, and prints what it needs as JSON.

python scripts/plan_compile.py REQUEST    # the keys of `plan.request`, as JSON
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plan_flops
import plan_hlo

MARK = "plan: "
"""What the line with the result begins with."""


def devices(target: dict[str, Any]) -> Sequence[Any]:
    """The devices of a machine that is not here."""
    from jax.experimental import topologies

    if target["platform"] == "tpu":
        return topologies.get_topology_desc(platform="tpu", topology_name=target["topology"]).devices
    # JAX has found the plugin by itself and could not start it, as there is no driver; compiling needs none.
    return topologies.get_topology_desc(
        platform="cuda", topology_name="gpu", topology=target["topology"], target_config=target["config"]
    ).devices


def pretended(classes: int, images: int) -> Any:
    """A data set of so many records, without their images: a step's shapes need no more."""
    from emojax.types import Dataset, Split

    label = np.eye(classes, dtype=np.float32)[np.arange(images) % classes]
    split = Split("train", (), label, np.ones(images, np.float32), np.arange(images))
    return Dataset("none", tuple(f"class {i + 1}" for i in range(classes)), {"train": split, "val": split})


def planned(request: dict[str, Any]) -> dict[str, Any]:
    """What the step of the stage with the largest images needs, per device."""
    import jax

    from emojax import main, parallel, validate, wiring

    found = devices(request["target"])
    config = main.config_from(request["arguments"])
    validate.validate(config)
    wiring.check_model(config)
    parallel.check_batch(config.batch_size, knob="batch_size", devices=len(found))
    mesh = parallel.grid(found, config.parallel.fsdp)
    parts = wiring.build(config, pretended(request["classes"], request["images"]), mesh)
    stage = max((s for s in parts.stages if s.train), key=lambda s: s.image_size)
    shapes = wiring.step_shapes(parts, stage)
    with jax.set_mesh(mesh):
        step: Any = wiring.train_step(parts, stage)[0]
        traced = step.trace(*shapes)
        program = compiled(traced.lower(), str(found[0].device_kind), Path(request["kept"]))
    if request["program"]:
        Path(request["program"]).write_text(program["text"])
    state = shapes[0]
    held = {name: bytes_per_device(getattr(state, name)) for name in ("params", "opt_state", "average", "teacher")}
    return {
        "device": str(found[0].device_kind),
        "devices": len(found),
        "jax": jax.__version__,
        "model": config.model.name,
        "compute": config.model.compute,
        "remat": config.model.remat,
        "fsdp": config.parallel.fsdp,
        "accumulate": config.optim.accumulate,
        "batch": parts.update_images,
        "image_size": stage.image_size,
        "parameters": sum(x.size for x in jax.tree.leaves(state.params)),
        "seconds": program["seconds"],
        "memory": {**program["memory"], "state": held},
        "flops": plan_flops.total(traced.jaxpr.jaxpr) / len(found),
        **plan_hlo.summary(program["text"]),
    }


def compiled(lowered: Any, device: str, folder: Path) -> dict[str, Any]:
    """Memory, text and seconds of compiling of a lowered program; kept in `folder`, as it may take long."""
    import jax

    mark = hashlib.sha256(f"{jax.__version__} {device} {lowered.as_text()}".encode()).hexdigest()[:16]
    file = folder / f"{mark}.json"
    if file.exists():
        return json.loads(file.read_text())
    start = time.perf_counter()
    program = lowered.compile()
    seconds, memory = time.perf_counter() - start, program.memory_analysis()
    found = {
        "seconds": seconds,
        "memory": {
            "arguments": memory.argument_size_in_bytes,
            "outputs": memory.output_size_in_bytes,
            "aliased": memory.alias_size_in_bytes,
            "temporaries": memory.temp_size_in_bytes,
            "program": memory.generated_code_size_in_bytes,
        },
        "text": program.as_text(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.rename(file)
    return found


def bytes_per_device(tree: Any) -> int:
    """What the shards of a tree of placed shapes take on one device."""
    import jax

    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape), dtype=np.int64)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def main(request: str) -> int:
    import jax

    from emojax.errors import EmojaxError, told

    try:
        sys.stdout.write(MARK + json.dumps(planned(json.loads(request))) + "\n")
    except EmojaxError as error:
        sys.stdout.write(MARK + json.dumps({"error": told(error)}) + "\n")
        return error.exit_code
    except jax.errors.JaxRuntimeError as error:  # a topology that does not exist, or a program that does not fit
        sys.stdout.write(MARK + json.dumps({"error": f"error: XLA refuses: {str(error).splitlines()[0]}"}) + "\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
