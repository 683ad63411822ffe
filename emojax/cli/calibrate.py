"""`emojax calibrate`: makes a finished run's probabilities mean what they say, and fits when to abstain and which sets
of classes to name. Everything is fitted on val; test is only judged, and only when asked for."""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emojax.cli import model_options

if TYPE_CHECKING:
    import numpy as np

    from emojax.decision import Decision, Outcome, Wish
    from emojax.types import Predictions

_MOVED = 0.1
"""Share of the class prior that vector scaling may move without a word."""


def main(arguments: list[str]) -> int:
    """Prints numbers before and after, stores the decision with the model, and writes WORKDIR/report/calibration.*."""
    parser = argparse.ArgumentParser(prog="emojax calibrate", description=__doc__)
    parser.add_argument("--workdir", required=True, help="folder of a finished run")
    parser.add_argument(
        "--scaling",
        default="auto",
        help="none, temperature, vector, or auto (default): the simplest that cross-fitting on val finds no worse",
    )
    parser.add_argument(
        "--target",
        default="",
        help="choose the strength of the logit adjustment on val for this number, such as balanced_accuracy "
        "(mean-class accuracy) or macro_f1; default: no adjustment",
    )
    parser.add_argument("--tau", type=float, default=0.0, help="strength of the logit adjustment, instead of --target")
    parser.add_argument(
        "--risk",
        type=float,
        default=0.0,
        help="share of wrong answers that is kept with 95 %% confidence by not answering unsure pictures; default: "
        "answer all",
    )
    parser.add_argument("--coverage", type=float, default=0.9, help="of the sets of classes (default: 0.9)")
    parser.add_argument("--sets", default="lac", help="lac (smallest sets, default) or aps (never empty)")
    parser.add_argument(
        "--test",
        action="store_true",
        help="judge the decision on test too, which is noted in test_judged.jsonl; choose first, and do this once",
    )
    parser.add_argument("--remove", action="store_true", help="forget the stored decision, and do nothing else")
    options = parser.parse_args(arguments)
    workdir = Path(options.workdir)
    model_options.refuse_bundle(options)

    from emojax import checkpoint, decision, files, predictions_csv, scaling, workdir as run_folder
    from emojax.errors import DataError
    from emojax.report import decisions

    if options.remove:
        found = decision.remove(workdir)
        sys.stdout.write("removed\n" if found else "there was nothing to remove\n")
        return 0
    wish = decision.Wish(
        method=options.scaling,
        target=options.target,
        tau=options.tau,
        risk=options.risk,
        coverage=options.coverage,
        kind=options.sets,
    )
    step, meta, _ = checkpoint.load_weights(workdir, which="best")
    splits = {}
    for name in ("val", "test") if options.test else ("val",):
        splits[name], names = predictions_csv.of_run(workdir, name)
        if names != meta.class_names:
            raise DataError(f"{workdir}: the classes of report/{name}-predictions.csv are not those of the model")
        _check_raw(workdir, name, step=step, views=meta.config.eval.views)
    trained, notes = _prior(workdir, step), []
    val = splits["val"]
    chosen = decision.fit(val, wish, prior=trained)
    prior = scaling.prior(val, method=chosen.method, trained=trained)
    prior = prior / prior.sum()
    judged = {"val": _judged(val, decision.cross_fitted(val, wish, prior=trained), chosen, meta.class_names)}
    if "test" in splits:
        judged["test"] = _judged(splits["test"], decision.outcome(chosen, splits["test"]), chosen, meta.class_names)
        command, found = f"emojax calibrate {shlex.join(arguments)}", judged["test"]["after"]["accuracy"]
        notes = run_folder.noted_test(workdir, command, found)
    count = int((val.weight > 0).sum())
    fitted_on = f"val, {count:,} images"
    content = {
        "command": f"emojax calibrate {shlex.join(arguments)}",
        "fitted_on": fitted_on,
        "decision": chosen.text(),
        "tau": chosen.tau,
        "choices": [*_choices(val, wish, chosen, meta.class_names, prior, trained), _spread(count, wish.coverage)],
        "prior": dict(zip(meta.class_names, prior.tolist(), strict=True)),
        "judged": {name: {key: row[key] for key in ("before", "after", "change")} for name, row in judged.items()},
    }
    plain = _figures(workdir / "report", judged, val, chosen, prior)
    files.write_json(workdir / "report" / "calibration.json", content | {"frontier": plain})
    files.write_text(workdir / "report" / "calibration.md", decisions.calibrate_page(content))
    place = decision.write(
        workdir,
        chosen,
        class_names=meta.class_names,
        weights=decision.weights_digest(meta.digests),
        views=meta.config.eval.views,
        fitted_on=fitted_on,
    )
    for line in (f"chosen on {fitted_on}: {chosen.text()}", *content["choices"]):
        sys.stdout.write(line + "\n")
    for name, row in content["judged"].items():
        sys.stdout.write(_text("val, cross-fitted" if name == "val" else name, row) + "\n")
    sys.stdout.writelines(f"{line}\n" for line in notes)
    sys.stdout.write(f"stored: {place}\nreport: {workdir / 'report' / 'calibration.md'}\n")
    return 0


def _check_raw(workdir: Path, split: str, *, step: int, views: str) -> None:
    """Raises `DataError` unless the predictions in the report are those of the result, untouched."""
    from emojax.errors import DataError
    from emojax.files import parse_json

    path = workdir / "report" / f"{split}.json"
    try:
        about = parse_json(path.read_text(encoding="utf-8"))
        same = about["step"] == step and about["views"] == views and not about.get("decision")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error!r}); it is written when a run ends") from error
    if not same:
        raise DataError(
            f"{path}: is not the report that the run ended with (update {step}, views {views}, probabilities as "
            "trained); write it anew by running the training command again, and give `emojax evaluate --report` "
            "another folder"
        )


def _prior(workdir: Path, step: int) -> np.ndarray:
    """How much each class counted in the training stage of update `step`, float64 [K]: images, sampler, class weights
    and the adjustment that the loss made for them."""
    import numpy as np

    from emojax import class_weights, data, stages
    from emojax.workdir import read_config

    config = read_config(workdir)
    train = data.open_dataset(config.data, cache=workdir / "data_check.json").splits["train"]
    mass = (train.label * train.weight[:, None]).sum(0, dtype=np.float64)
    begun = [stage for stage in stages.plan(config, len(train)) if stage.train and stage.start <= max(step - 1, 0)]
    last = begun[-1]
    weight = class_weights.weights(last.loss.class_weights, mass, beta=last.loss.effective_beta)
    adjust = last.loss.logit_adjust
    return class_weights.effective_mass(mass, sampler=last.sampler, weight=weight, adjust=adjust)


def _judged(before: Predictions, outcome: Outcome, chosen: Decision, names: tuple[str, ...]) -> dict[str, Any]:
    """{"before", "after": numbers; "change": after - before; "curves", "calibrations": what figures need}."""
    import dataclasses

    from emojax import bootstrap, calibration, comparison, conformal, intervals, metrics, selective

    row: dict[str, Any] = {"curves": {}, "calibrations": {}}
    for key, label, p in (("before", "as trained", before), ("after", "after", outcome.predictions)):
        sure, order = calibration.measure(p), selective.measure(p)
        row["calibrations"][label], row["curves"][label] = sure, (selective.curve(p), order)
        found = metrics.evaluate(p, names).numbers()
        more = {"intervals": intervals.of(p).numbers, "calibration": sure.to_json(), "selective": order.to_json()}
        row[key] = {**found, **more}
    after = outcome.predictions
    row["change"] = {
        line.name: {"value": line.b - line.a, "low": line.low, "high": line.high}
        for line in comparison.compare(before, after, names, draws=1000).numbers
    }
    for name, statistic in (
        *((f"ece_{b}", functools.partial(calibration.ece_statistic, binning=b)) for b in calibration.BINNINGS),
        ("brier", lambda _: bootstrap.mean(calibration.brier_scores)),
        ("aurc", lambda _: selective.areas),
    ):
        row["change"][name] = comparison.change(before, after, statistic)._asdict()
    sets = dataclasses.asdict(conformal.covered(outcome.inside, after))
    sets["per_class"] = {names[k]: value for k, value in sets["per_class"].items()}
    row["answered"] = selective.answered(after, outcome.answered)
    row["after"] |= {
        "sets": sets | {"wanted": chosen.sets.coverage, "kind": chosen.sets.kind},
        "answered": dataclasses.asdict(row["answered"]),
        "risk": chosen.risk,
    }
    return row


def _choices(
    val: Predictions, wish: Wish, chosen: Decision, names: Sequence[str], prior: np.ndarray, trained: np.ndarray
) -> list[str]:
    """What was weighed, one line each."""
    from emojax import metrics, scaling

    lines = []
    if wish.method == "auto":
        losses = ", ".join(f"{method} {loss:.4f}" for method, loss in scaling.choose(val)[1].items())
        lines.append(f"cross-fitted cross-entropy on val: {losses}")
    shares = _shares(names, prior)
    if chosen.method == "vector" and not chosen.tau and abs(prior - trained).sum() > 2 * _MOVED:
        lines.append(
            f"the classes counted in training as {_shares(names, trained)}; by vector scaling they count as in"
        )
        lines[-1] += f" val, {shares}: --scaling=temperature leaves that, --tau=1 makes all count alike"
    if chosen.tau:
        why = f"best {metrics.text(wish.target)} on val" if wish.target else "as given"
        lines.append(f"tau {chosen.tau:g}: {why}; classes count in the probabilities as {shares}")
        lines.append("after a logit adjustment, probabilities are those of a world in which all classes count alike")
    return lines


def _shares(names: Sequence[str], prior: np.ndarray) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in zip(names, prior, strict=True))


def _figures(
    folder: Path, judged: Mapping[str, Any], val: Predictions, chosen: Decision, prior: np.ndarray
) -> list[dict[str, float]]:
    """Draws the figures; returns the points of the frontier."""
    import dataclasses

    from emojax import decision, decision_plots, figures, scaling
    from emojax.files import write_bytes

    for name, row in judged.items():
        on = "val, cross-fitted" if name == "val" else name
        figure = decision_plots.reliability(row["calibrations"], title=f"Reliability, {on}")
        write_bytes(folder / f"calibration-{name}.png", figures.png(figure))
        answered = row["answered"]
        figure = decision_plots.risk_coverage(
            row["curves"],
            threshold=(answered.coverage, answered.risk) if chosen.risk else None,
            title=f"Risk and coverage, {on}",
        )
        write_bytes(folder / f"calibration-{name}-risk.png", figures.png(figure))
    points = decision.frontier(val, scaling.fit(val, method=chosen.method), prior=prior)
    figure = decision_plots.frontier(points, tau=chosen.tau, title="Logit adjustment on val")
    write_bytes(folder / "calibration-frontier.png", figures.png(figure))
    return [dataclasses.asdict(point) for point in points]


def _spread(count: int, coverage: float) -> str:
    """How sure the coverage of the sets is, in a sentence."""
    from emojax import conformal

    low, high = conformal.spread(count, coverage)
    if low == 1:
        return (
            f"sets that hold the true class for {coverage:.0%} need more than {count:,} images: they name every class"
        )
    return f"sets fitted on {count:,} images cover {low:.1%} to {high:.1%} of new ones in 95 of 100 cases"


def _text(name: str, row: Mapping[str, Any]) -> str:
    """One split, before and after, as aligned plain text."""
    from emojax.cli import runs
    from emojax.report.decisions import compared, decided_text

    table = runs.markdown(*compared(row))
    return f"\n{name}; brackets are 95 % intervals\n{table}\n{decided_text(row['after'])}"
