"""`emojax evaluate`: judges a trained model, on the data it was trained with or on other data of the same classes."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emojax.cli import model_options

if TYPE_CHECKING:
    from emojax.metrics import Report
    from emojax.postprocess import PostProcess
    from emojax.predict import Classifier
    from emojax.types import Split


def main(arguments: list[str]) -> int:
    """Prints one table of numbers per split."""
    parser = argparse.ArgumentParser(prog="emojax evaluate", description=__doc__)
    model_options.add(parser)
    parser.add_argument("--data", default="", help="other data than the run's: folder, .csv, .parquet, .npz, tfds:NAME")
    parser.add_argument("--split", default="", help="train, val, test or all; default: every split but train")
    parser.add_argument("--per-view", action="store_true", help="also the accuracy of each test-time view alone")
    parser.add_argument(
        "--post-process",
        default="",
        metavar="fit|seed000|FILE.json",
        help="also the numbers after post-processing: temperature and margins of confused pairs, fitted on the run's "
        "val split, seed 000's own constants, or as fitted before",
    )
    parser.add_argument("--report", default="", help="folder for JSON, Markdown and figures; default: only print")
    options = parser.parse_args(arguments)

    from emojax import config_json, data, jsonl, metrics, postprocess, report
    from emojax.config import Config
    from emojax.errors import CheckpointError, ConfigError
    from emojax.files import write_text
    from emojax.predict import load

    classifier = load(options.workdir, which=options.which, views=options.views)
    source, cache = classifier.config.data, Path(options.workdir) / "data_check.json"
    if options.data:
        # Only where the data lie and what their columns are called carries over; classes come from the checkpoint.
        source = dataclasses.replace(
            source, path=options.data, format="auto", classes=classifier.class_names, split_file=""
        )
    dataset = data.open_for_evaluation(source) if options.data else data.open_dataset(source, cache=cache)
    if dataset.class_names != classifier.class_names:
        raise CheckpointError(
            f"{options.workdir} was trained on the classes {', '.join(classifier.class_names)}; "
            f"the data have {', '.join(dataset.class_names)}"
        )
    post = _post_process(options.post_process, classifier, cache=cache)
    if post and options.report:
        write_text(Path(options.report) / "post-process.json", post.to_json(classifier.class_names) + "\n")
    names = [options.split] if options.split else [name for name in dataset.splits if name != "train"]
    for name in names:
        if name not in dataset.splits:
            raise ConfigError(f"--split={name}: the data have {', '.join(dataset.splits)}")
        size = classifier.config.eval.batch_size or classifier.config.batch_size
        predictions = classifier.predict_split(dataset.splits[name], batch_size=size)
        judged = metrics.evaluate(predictions, classifier.class_names)
        sys.stdout.write(_text(name, judged) + "\n")
        more: list[str] = []
        if options.per_view:
            more += _per_view(classifier, dataset.splits[name], batch_size=size)
        if post:
            after = metrics.evaluate(postprocess.apply(post, predictions), classifier.class_names)
            changes = [f"{metrics.text(key)} {value:.4f}" for key, value in after.numbers().items()]
            seen = ", which it was fitted on" if name == "val" and options.post_process == "fit" else ""
            more.append(f"after post-processing{seen}: {', '.join(changes)}")
        if stamp := report.stamp(name, predictions, classifier.class_names, leaked=dataset.leaked):
            sys.stdout.write(f"  {stamp.text}\n")
        sys.stdout.writelines(f"  {line}\n" for line in more)
        if options.report:
            info = report.RunInfo(
                dataset=dataset.name,
                step=classifier.step,
                result=_which(options.workdir, options.which),
                selected_by=classifier.config.eval.metric if options.which == "best" else "",
                seed=classifier.config.seed,
                views=options.views or classifier.config.eval.views,
                notes=(*dataset.notes, *more),
                skipped=dataset.skipped,
                leaked=dataset.leaked,
                command=f"emojax evaluate {shlex.join(arguments)}",
                config_differences=tuple(config_json.differences(Config(), classifier.config)),
            )
            history = jsonl.read(Path(options.workdir) / "metrics.jsonl")
            report.write(
                Path(options.report), split=name, report=judged, predictions=predictions, history=history, run=info
            )
    return 0


def _which(workdir: str, which: str) -> str:
    """What the judged weights are called in the report."""
    if which != "best":
        return "checkpoint"
    from emojax.workdir import is_finished

    return "the run's result" if is_finished(Path(workdir)) else "best checkpoint so far"


def _post_process(kind: str, classifier: Classifier, *, cache: Path) -> PostProcess | None:
    """What `--post-process` asks for. It is fitted on the val split of the run's own data, whatever is judged."""
    from emojax import data, postprocess
    from emojax.errors import ConfigError

    if not kind:
        return None
    if kind.endswith(".json"):
        return postprocess.read(Path(kind), classifier.class_names)
    if kind not in ("fit", "seed000"):
        raise ConfigError(f"--post-process={kind}: expected fit, seed000 or FILE.json")
    if kind == "seed000":
        return postprocess.SEED_000.resolve(classifier.class_names)
    val = data.open_dataset(classifier.config.data, cache=cache).splits["val"]
    size = classifier.config.eval.batch_size or classifier.config.batch_size
    found = postprocess.fit(classifier.predict_split(val, batch_size=size))
    names = classifier.class_names
    swaps = [f"{names[i]}-{names[j]} below {margin:g}" for i, j, margin in found.pairs if margin]
    sys.stdout.write(f"post-processing fitted on val: temperature {found.temperature:.3f}, ")
    sys.stdout.write(f"swaps {', '.join(swaps) or 'none'}\n")
    return found


def _per_view(classifier: Classifier, split: Split, *, batch_size: int) -> list[str]:
    """A line for the accuracy of each view alone."""
    from emojax import metrics

    found = {
        name: metrics.evaluate(alone.predict_split(split, batch_size=batch_size), classifier.class_names).accuracy
        for name, alone in classifier.per_view().items()
    }
    wide = max(map(len, found))
    return [f"view {name:<{wide}}  accuracy {value:.4f}" for name, value in found.items()]


def _text(name: str, judged: Report) -> str:
    """One split as aligned plain text."""
    from emojax import metrics

    wide = max(map(len, judged.class_names))
    lines = [f"{name}: {judged.n:,} images"]
    lines += [f"  {metrics.text(key):<18} {value:.4f}" for key, value in judged.numbers().items()]
    lines += [f"  {'class':<{wide}}  precision  recall     F1  support"]
    lines += [
        f"  {row.name:<{wide}}  {row.precision:>9.3f}  {row.recall:>6.3f}  {row.f1:>5.3f}  {row.support:>7g}"
        for row in judged.per_class
    ]
    return "\n".join(lines)
