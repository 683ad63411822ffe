"""`emojax evaluate`: judges a trained model, on the data it was trained with or on other data, whose classes are
matched by name."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emojax.cli import model_options, other_data

if TYPE_CHECKING:
    from emojax.data.crossing import Crossing
    from emojax.intervals import Intervals
    from emojax.metrics import Report
    from emojax.postprocess import PostProcess
    from emojax.predict import Classifier
    from emojax.types import Dataset, Predictions


def main(arguments: list[str]) -> int:
    """Prints one table of numbers per split."""
    parser = argparse.ArgumentParser(prog="emojax evaluate", description=__doc__)
    model_options.add(parser)
    other_data.add(parser)
    parser.add_argument("--split", default="", help="train, val, test or all; default: every split but train")
    parser.add_argument("--per-view", action="store_true", help="also the accuracy of each test-time view alone")
    parser.add_argument(
        "--post-process",
        default="",
        metavar="fit|seed000|FILE.json",
        help="also the numbers after post-processing: temperature and margins of confused pairs, fitted on the run's "
        "val split, seed 000's own constants, or as fitted before",
    )
    parser.add_argument("--raw", action="store_true", help="without what `emojax calibrate` has stored")
    parser.add_argument("--report", default="", help="folder for JSON, Markdown and figures; default: only print")
    options = parser.parse_args(arguments)

    from emojax import config_json, intervals, jsonl, metrics, postprocess, report, workdir
    from emojax.config import Config
    from emojax.errors import ConfigError
    from emojax.files import write_text
    from emojax.predict import load

    classifier = load(options.workdir, which=options.which, views=options.views, decision=_decision(options))
    if classifier.note:
        sys.stderr.write(f"emojax: {classifier.note}\n")
    cache = model_options.cache(options)
    dataset, crossing = other_data.open_data(classifier, options, cache=cache)
    post = _post_process(options, classifier, cache=cache)
    if post and options.report:
        write_text(Path(options.report) / "post-process.json", post.to_json(classifier.class_names) + "\n")
    names = [options.split] if options.split else [name for name in dataset.splits if name != "train"]
    for name in names:
        if name not in dataset.splits:
            raise ConfigError(f"--split={name}: the data have {', '.join(dataset.splits)}")
        found = other_data.predict(classifier, dataset.splits[name], crossing)
        predictions = _with_slices(other_data.judged(found, dataset.splits[name], crossing), dataset, name, options)
        judged = metrics.evaluate(predictions, dataset.class_names)
        bounds = intervals.of(predictions)
        sys.stdout.write(_text(name, judged, bounds) + "\n")
        more = _decided(classifier, predictions) if crossing is None else []
        if other_data.is_test(options, classifier.config.data, dataset, name):
            more += workdir.noted_test(
                Path(options.workdir), f"emojax evaluate {shlex.join(arguments)}", judged.accuracy
            )
        if options.per_view:
            more += _per_view(classifier, dataset, name, crossing)
        if post:
            changed = other_data.judged(postprocess.apply(post, found), dataset.splits[name], crossing)
            after = metrics.evaluate(changed, dataset.class_names)
            changes = [f"{metrics.text(key)} {value:.4f}" for key, value in after.numbers().items()]
            seen = ", which it was fitted on" if name == "val" and options.post_process == "fit" else ""
            more.append(f"after post-processing{seen}: {', '.join(changes)}")
        if stamp := report.stamp(name, predictions, dataset.class_names, leaked=dataset.leaked):
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
                decision=classifier.decision.text() if classifier.decision else "",
                notes=(*dataset.notes, *more),
                skipped=dataset.skipped,
                leaked=dataset.leaked,
                command=f"emojax evaluate {shlex.join(arguments)}",
                config_differences=tuple(config_json.differences(Config(), classifier.config)),
            )
            history = jsonl.read(Path(options.workdir) / "metrics.jsonl")
            report.write(
                Path(options.report),
                split=name,
                report=judged,
                bounds=bounds,
                predictions=predictions,
                history=history,
                run=info,
            )
    return 0


def _with_slices(predictions: Predictions, dataset: Dataset, name: str, options: argparse.Namespace) -> Predictions:
    """With vote entropy and, for a report, what the pictures are like."""
    from emojax import slices

    predictions = slices.with_vote_entropy(predictions)
    return slices.with_looks(predictions, dataset.splits[name].images) if options.report else predictions


def _which(workdir: str, which: str) -> str:
    """What the judged weights are called in the report."""
    if which != "best":
        return "checkpoint"
    from emojax.workdir import is_finished

    return "the run's result" if is_finished(Path(workdir)) else "best checkpoint so far"


def _decision(options: argparse.Namespace) -> str:
    """A post-processing stands in the place of a stored decision: both begin at the probabilities as trained."""
    return "none" if options.post_process or options.raw else "stored"


def _decided(classifier: Classifier, predictions: Predictions) -> list[str]:
    """What the stored decision does on a split; nothing without one."""
    from emojax import conformal, decision, selective

    if classifier.decision is None:
        return []
    found = decision.decided(classifier.decision, predictions)
    sets = conformal.covered(found.inside, predictions)
    within = f"[{sets.low:.1%}, {sets.high:.1%}]"
    lines = [
        f"calibrated: {classifier.decision.text()}",
        f"sets hold the true class for {sets.coverage:.1%} {within}, mean size {sets.size:.2f}",
    ]
    if classifier.decision.threshold:
        answers = selective.answered(predictions, found.answered)
        within = f"[{answers.low:.1%}, {answers.high:.1%}]"
        lines.append(f"answered {answers.coverage:.1%}, of these wrong {answers.risk:.1%} {within}")
    return lines


def _post_process(options: argparse.Namespace, classifier: Classifier, *, cache: Path | None) -> PostProcess | None:
    """What `--post-process` asks for. It is fitted on the val split of the run's own data, whatever is judged; which a
    bundle does not open."""
    from emojax import data, postprocess
    from emojax.errors import ConfigError

    kind = options.post_process
    if not kind:
        return None
    if kind.endswith(".json"):
        return postprocess.read(Path(kind), classifier.class_names)
    if kind not in ("fit", "seed000"):
        raise ConfigError(f"--post-process={kind}: expected fit, seed000 or FILE.json")
    if kind == "seed000":
        return postprocess.SEED_000.resolve(classifier.class_names)
    model_options.refuse_bundle(options, instead="--post-process=fit needs the run's own data: name its work directory")
    val = data.open_dataset(classifier.config.data, cache=cache).splits["val"]
    found = postprocess.fit(classifier.predict_split(val))
    names = classifier.class_names
    swaps = [f"{names[i]}-{names[j]} below {margin:g}" for i, j, margin in found.pairs if margin]
    sys.stdout.write(f"post-processing fitted on val: temperature {found.temperature:.3f}, ")
    sys.stdout.write(f"swaps {', '.join(swaps) or 'none'}\n")
    return found


def _per_view(classifier: Classifier, dataset: Dataset, name: str, crossing: Crossing | None) -> list[str]:
    """A line for the accuracy of each view alone."""
    from emojax import metrics

    found, split = {}, dataset.splits[name]
    for view, alone in classifier.per_view().items():
        predictions = other_data.predict(alone, split, crossing)
        found[view] = metrics.evaluate(other_data.judged(predictions, split, crossing), dataset.class_names).accuracy
    wide = max(map(len, found))
    return [f"view {name:<{wide}}  accuracy {value:.4f}" for name, value in found.items()]


def _text(name: str, judged: Report, bounds: Intervals) -> str:
    """One split as aligned plain text, with 95 % intervals."""
    from emojax import metrics
    from emojax.report import page

    wide = max(map(len, ("class", *judged.class_names)))
    lines = [f"{name}: {judged.n:,} images"]
    for key, value in judged.numbers().items():
        low, high = bounds.numbers[key]
        lines.append(f"  {metrics.text(key):<18} {value:.4f}  95 %: {low:.4f} to {high:.4f}")
    titles = "  ".join(f"{title:>9}  {'95 %':<14}" for title in ("precision", "recall", "F1"))
    lines += [f"  {'class':<{wide}}  {titles}  support"]
    for row, found in zip(judged.per_class, bounds.per_class, strict=True):
        cells = "  ".join(
            f"{getattr(row, key):>9.3f}  {page.fractions(found[key]):<14}" for key in ("precision", "recall", "f1")
        )
        lines.append(f"  {row.name:<{wide}}  {cells}  {row.support:>7g}")
    return "\n".join(lines)
