"""`emojax sweep`: looks for good values of any knobs on val, then trains the winner again with fresh seeds, for the
number that may be believed. Needs Optuna: pip install 'emojax[sweep]'."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emojax.cli import runs, space
from emojax.errors import ConfigError, TrainingError
from emojax.files import parse_json, write_json, write_text

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

METHODS = ("grid", "random", "tpe")

_PRUNED, _DIVERGED = "pruned", "diverged"
"""Ends of a trial without a value; the second is also an attribute of such a trial in Optuna's storage."""


def main(arguments: list[str]) -> int:
    """Trains what is missing, then prints the table and writes it to WORKDIR/sweep.md and sweep.json."""
    parser = argparse.ArgumentParser(
        prog="emojax sweep",
        description=__doc__,
        epilog=f"A search space is a list of {space.FORMS}. --config.KNOB=VALUE applies to every run. The same command "
        "goes on where it stopped; with more --trials it adds some.",
    )
    parser.add_argument(
        "space", nargs="+", metavar="KNOB=VALUES", help="for example optim.learning_rate=log:1e-4..1e-1"
    )
    parser.add_argument("--config", required=True, metavar="RECIPE.py", help="as for emojax train")
    parser.add_argument("--workdir", required=True, help="folder; every trial gets WORKDIR/trials/NAME")
    parser.add_argument("--method", default="tpe", choices=METHODS, help="default: tpe, with pruning of bad trials")
    parser.add_argument("--trials", type=int, default=20, help="in all (default: 20; grid: at most all combinations)")
    parser.add_argument("--confirm", type=int, default=3, help="fresh seeds for the winner (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the search (default: 0)")
    options, overrides = runs.parse(parser, arguments)
    optuna = _optuna()
    parts = space.parse(options.space)
    if options.method == "grid" and any(isinstance(part, space.Range) for part in parts):
        raise ConfigError("--method=grid needs a list of choices for every knob")
    for part in parts:  # before hours of training, not after
        for value in part.values:
            runs.config(options.config, (*overrides, f"--config.{part.knob}={value}"))
    metric, lower = _metric(options.config, overrides)
    folder = Path(options.workdir)
    runs.make_folder(folder)
    study = optuna.create_study(
        storage=f"sqlite:///{folder / 'optuna.db'}", study_name="emojax", load_if_exists=True,
        direction="minimize" if lower else "maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        if options.method == "tpe" else optuna.pruners.NopPruner(),
    )  # fmt: skip
    _same_search(study, options, parts, overrides)
    # Another seed after every stop: with the first one again, the same values would be drawn again.
    study.sampler = _sampler(optuna, options.method, seed=options.seed + len(study.get_trials()))
    if options.method == "grid":
        for values in itertools.product(*(part.values for part in parts)):
            knobs = {part.knob: value for part, value in zip(parts, values, strict=True)}
            study.enqueue_trial(knobs, skip_if_exists=True)
    sweep = _Sweep(study, options, parts, overrides, metric)
    sweep.search()
    return sweep.confirm()


class _Sweep:
    """A search in progress; everything that must outlive this process is in Optuna's storage and the runs' folders."""

    def __init__(
        self,
        study: Study,
        options: argparse.Namespace,
        parts: Sequence[space.Choice | space.Range],
        overrides: Sequence[str],
        metric: str,
    ) -> None:
        self._study, self._options, self._parts = study, options, parts
        self._overrides, self._metric, self._folder = tuple(overrides), metric, Path(options.workdir)

    def search(self) -> None:
        """Trials until there are as many as asked for."""
        import optuna

        running, over = optuna.trial.TrialState.RUNNING, optuna.trial.TrialState
        for trial in self._study.get_trials(states=(running,)):  # of a search that was stopped: their runs go on
            self._study.tell(trial.number, state=over.FAIL)
            self._study.enqueue_trial(trial.params, skip_if_exists=False)
        while self._done() < self._options.trials and not self._grid_is_over():
            trial = self._study.ask()
            knobs = {part.knob: part.draw(trial) for part in self._parts}
            number = self._done() + 1
            named = ", ".join(f"{knob}={value}" for knob, value in knobs.items())
            sys.stderr.write(f"\ntrial {number} of {self._options.trials}: {named}\n")
            end, value = self._train(trial, knobs)
            trial.set_user_attr("folder", self._place(knobs).name)
            trial.set_user_attr("knobs", knobs)
            if end == _PRUNED:
                self._study.tell(trial, state=over.PRUNED)
            elif end == _DIVERGED:  # some knobs do that; the search is for those that do not
                trial.set_user_attr(_DIVERGED, value=True)
                sys.stderr.write("the trial has diverged and does not compete; the search goes on\n")
                self._study.tell(trial, state=over.FAIL)
            else:
                self._study.tell(trial, value)

    def confirm(self) -> int:
        """Trains the winner with seeds that the search has not seen; prints and writes what was found."""
        # Optuna gives a pruned trial a value too, that of its last evaluation.
        over = [trial for trial in self._trials() if trial.state.name == "COMPLETE"]
        complete = [(trial.value, trial) for trial in over if trial.value is not None]
        if not complete:
            raise TrainingError("the sweep has no finished trial")
        best, knobs = self._study.best_trial, self._study.best_trial.user_attrs["knobs"]
        first = runs.config(self._options.config, self._overrides).seed
        seeds = range(first + 1, first + 1 + self._options.confirm)
        (self._folder / "winners").mkdir(exist_ok=True)
        again = [
            runs.Run(
                self._options.config, self._folder / "winners" / f"{self._place(knobs).name}-seed{seed}",
                (*self._overrides, *_flags(knobs), f"--config.seed={seed}"),
            )
            for seed in seeds
        ]  # fmt: skip
        confirmed, lost = [], []
        for seed, run, ended in zip(seeds, again, runs.train_all(again, jobs=1), strict=True):
            if ended:
                judged = {split: runs.numbers(run.workdir, split) for split in ("val", "test")}
                confirmed.append({"seed": seed, "folder": run.workdir.name, **judged})
            else:
                lost.append(seed)
        text = self._page(complete, confirmed, lost)
        shown = [
            {"value": value, "knobs": trial.user_attrs["knobs"], "folder": trial.user_attrs["folder"]}
            for value, trial in complete
        ]
        write_json(
            self._folder / "sweep.json",
            {
                "metric": self._metric,
                "trials": shown,
                "best": knobs,
                "best_value": best.value,
                "diverged": [
                    {"knobs": trial.user_attrs["knobs"], "folder": trial.user_attrs["folder"]}
                    for trial in self._trials()
                    if _DIVERGED in trial.user_attrs
                ],
                "confirmed": confirmed,
                "confirmed_diverged": lost,
            },
        )
        write_text(self._folder / "sweep.md", text + "\n")
        sys.stdout.write(f"\n{text}\n")
        return 0

    def _done(self) -> int:
        """Trials that have come to an end: finished, pruned or diverged."""
        return sum(
            trial.state.name in ("COMPLETE", "PRUNED") or _DIVERGED in trial.user_attrs
            for trial in self._study.get_trials()
        )

    def _train(self, trial: Trial, knobs: dict[str, str]) -> tuple[str, float]:
        """(how it ended, value on val) of one run, in a process of its own."""
        run = runs.Run(self._options.config, self._place(knobs), (*self._overrides, *runs.UNTOUCHED, *_flags(knobs)))
        run.workdir.parent.mkdir(exist_ok=True)
        process = runs.start(run)
        told = 0
        try:
            while process.poll() is None:
                time.sleep(0.5)
                values = self._values(run.workdir)
                for i, value in enumerate(values[told:], start=told):
                    trial.report(value, i)
                told = len(values)
                if told and trial.should_prune():
                    process.send_signal(signal.SIGTERM)
                    process.wait()
                    if process.returncode == 128 + signal.SIGTERM:
                        return _PRUNED, math.nan
        except KeyboardInterrupt:
            process.wait()  # it got the signal too, and saves
            raise
        if process.returncode == TrainingError.exit_code:
            return _DIVERGED, math.nan
        runs.check(run, process.returncode)
        return "", float(runs.numbers(run.workdir, "val")[self._metric])

    def _values(self, workdir: Path) -> list[float]:
        """The metric at every evaluation so far."""
        from emojax import jsonl

        rows = jsonl.history(workdir / "metrics.jsonl")
        return [float(row[self._metric]) for row in rows if row["kind"] == "eval" and row.get("split") == "val"]

    def _place(self, knobs: dict[str, str]) -> Path:
        """The folder of a trial is a function of its knobs: a trial that was stopped finds its run again."""
        text = json.dumps([sorted(knobs.items()), self._overrides])
        return self._folder / "trials" / hashlib.sha256(text.encode()).hexdigest()[:10]

    def _trials(self) -> list[FrozenTrial]:
        return [trial for trial in self._study.get_trials() if "knobs" in trial.user_attrs]

    def _grid_is_over(self) -> bool:
        if self._options.method != "grid":
            return False
        tried = {json.dumps(trial.user_attrs["knobs"], sort_keys=True) for trial in self._trials()}
        return len(tried) >= math.prod(len(part.values) for part in self._parts)

    def _page(
        self, complete: list[tuple[float, FrozenTrial]], confirmed: list[dict[str, Any]], lost: Sequence[int]
    ) -> str:
        lower = self._study.direction.name == "MINIMIZE"
        ranked = sorted(complete, key=lambda row: row[0] if lower else -row[0])
        knobs = [part.knob for part in self._parts]
        rows = [
            [trial.user_attrs["folder"], *(trial.user_attrs["knobs"][knob] for knob in knobs), f"{value:.4f}"]
            for value, trial in ranked
        ]
        diverged = [trial for trial in self._trials() if _DIVERGED in trial.user_attrs]
        pruned = len(self._trials()) - len(complete) - len(diverged)
        lines = [runs.markdown(["trial", *knobs, f"val {self._metric}"], rows)]
        lines.append(f"\n{len(complete)} trials finished, {pruned} were pruned, {len(diverged)} diverged.")
        lines += [f"Diverged: {', '.join(_flags(trial.user_attrs['knobs']))}" for trial in diverged]
        if confirmed:
            values = [float(row["val"][self._metric]) for row in confirmed]
            percent = self._metric != "loss"
            seeds = ", ".join(str(row["seed"]) for row in confirmed)
            lines.append(
                f"The winner with {len(values)} fresh seeds ({seeds}): val {self._metric} "
                f"{runs.mean_std(values, percent=percent)}; in the search it had "
                f"{runs.mean_std([ranked[0][0]], percent=percent)}, which is the best of many and so too good."
            )
            if tested := [float(row["test"][self._metric]) for row in confirmed if row["test"]]:
                lines.append(
                    f"Test {self._metric}, which the search never saw: {runs.mean_std(tested, percent=percent)}."
                )
        if lost:
            lines.append(
                f"The winner diverged with the fresh seeds {', '.join(map(str, lost))}: it is not to be relied on."
            )
        return "\n".join(lines)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("emojax sweep needs Optuna: pip install 'emojax[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(optuna: Any, method: str, *, seed: int) -> Any:
    """What draws the knobs of a trial; those of a grid wait in a queue instead."""
    if method == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
    return optuna.samplers.RandomSampler(seed=seed)


def _metric(recipe: str, overrides: Sequence[str]) -> tuple[str, bool]:
    """(name of the number that decides, whether less of it is better)."""
    from emojax.metrics import LOWER_IS_BETTER

    metric = runs.config(recipe, overrides).eval.metric
    return metric, metric in LOWER_IS_BETTER


def _same_search(study: Study, options: argparse.Namespace, parts: Sequence[Any], overrides: Sequence[str]) -> None:
    """Raises `ConfigError` when the folder belongs to another search."""
    found = parse_json(json.dumps([options.config, [str(part) for part in parts], list(overrides), options.method]))
    before = study.user_attrs.get("search", found)
    if before != found:
        raise ConfigError(f"--workdir={options.workdir} belongs to another search; use another folder")
    study.set_user_attr("search", found)


def _flags(knobs: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"--config.{knob}={value}" for knob, value in knobs.items())
