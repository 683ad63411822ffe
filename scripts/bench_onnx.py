"""ONNX inference of our export against timm's own export of the same network, both under ONNX Runtime, in turns.

    python scripts/bench_onnx.py ours resnet50 ours.onnx        # where the extra `export` is installed
    python scripts/bench_onnx.py theirs resnet50 theirs.onnx    # where timm, torch, onnx and onnxscript are
    python scripts/bench_onnx.py time ours.onnx theirs.onnx     # any two files, where ONNX Runtime is

Both hold random weights, 7 classes, 224 px, and take batches of any size. Ours does more: it takes uint8 pictures in
HWC order, normalises them and ends with a softmax; timm's takes normalised float32 in CHW order and gives logits.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from pathlib import Path

SIZE, CLASSES = 224, 7


def ours(name: str, path: Path) -> None:
    import jax

    from emojax import models, predict, views
    from emojax.config import ModelConfig
    from emojax.export import onnx_file

    model = models.build(ModelConfig(name=name), CLASSES)
    params, state = model.init(jax.random.key(0), SIZE)
    infer = predict.inference_function(model, views=views.VIEWS["center"], average="probs")
    onnx_file.write(path, infer, {"params": params, "model_state": state}, SIZE, metadata={})


def theirs(name: str, path: Path) -> None:
    timm, torch = importlib.import_module("timm"), importlib.import_module("torch")
    net = timm.create_model(name, num_classes=CLASSES).eval()
    batch = {0: torch.export.Dim("batch", min=1, max=1024)}
    torch.onnx.export(
        net,
        (torch.randn(2, 3, SIZE, SIZE),),
        str(path),
        input_names=["image"],
        dynamic_shapes=(batch,),
        external_data=False,
        dynamo=True,
    )


def measure(files: list[Path], *, batch: int, rounds: int, threads: int) -> dict[str, object]:
    """Images per second of each file, medians over rounds in which the files take turns."""
    import numpy as np

    onnxruntime = importlib.import_module("onnxruntime")
    rng = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    jobs = []
    for path in files:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        wants = session.get_inputs()[0]
        if wants.type == "tensor(uint8)":
            images = rng.integers(0, 256, (batch, *wants.shape[1:]), np.uint8)
        else:
            images = rng.standard_normal((batch, *wants.shape[1:]), np.float32)
        jobs.append((session, {wants.name: images}))
        session.run(None, jobs[-1][1])
    seconds: list[list[float]] = [[] for _ in jobs]
    for _ in range(rounds):
        for times, (session, feed) in zip(seconds, jobs, strict=True):
            start = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - start)
    rates = [batch / statistics.median(times) for times in seconds]
    ratios = [b / a for a, b in zip(*seconds, strict=True)]
    return {
        "batch": batch,
        "threads": threads,
        "first": round(rates[0], 2),
        "second": round(rates[1], 2),
        "first / second, median of rounds": round(statistics.median(ratios), 3),
        "lowest and highest": [round(min(ratios), 3), round(max(ratios), 3)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("ours", "theirs", "time"))
    parser.add_argument("what", nargs=2, help="NAME FILE, or FILE FILE to compare")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="0 = ONNX Runtime's choice")
    options = parser.parse_args()
    if options.job != "time":
        {"ours": ours, "theirs": theirs}[options.job](options.what[0], Path(options.what[1]))
        return
    for batch in map(int, options.batches.split(",")):
        files = [Path(name) for name in options.what]
        print(json.dumps(measure(files, batch=batch, rounds=options.rounds, threads=options.threads)))


if __name__ == "__main__":
    main()
