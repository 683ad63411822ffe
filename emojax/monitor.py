"""Everything a person sees of a run: terminal, log.txt, metrics.jsonl, TensorBoard, trackers, the profile.

Nothing here changes the training. Rows of kind "train", "eval" and "spike" in metrics.jsonl hold only numbers that a
resumed run repeats bit by bit; measured times go into rows of kind "speed".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from emojax import jsonl, scoreboard
from emojax.config import MonitorConfig
from emojax.figures import Figures
from emojax.files import write_text
from emojax.metrics import Report
from emojax.profiler import Profiler
from emojax.progress import Terminal, duration, parameter_count
from emojax.throughput import Speed, Throughput
from emojax.visible import visible
from emojax.writers import Writers

FLUSH_SECONDS = 30.0


class Monitor:
    """Shows and records one run. A context manager; `close` leaves nothing open and may be called twice.

    With `active=False` (every process but the first) all methods do nothing and no file is touched. Before `begin`
    there are messages only. The order of calls in the training loop:

        with monitor.waiting_for_data():
            batch = next(batches)
        state, totals = train_step(state, totals, batch)
        monitor.tick(step, wait_for=totals)           # after each dispatched update
        monitor.train(step, numbers, images=...)      # every `log_every` steps
        monitor.status("evaluating")                  # from here to the next batch is not training
        monitor.evaluated(step, "val", report, best=...)
    """

    def __init__(
        self,
        workdir: Path,
        config: MonitorConfig,
        *,
        active: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Opens log.txt in `workdir`, which is made if missing. `stream`: where people read, default standard error."""
        self._workdir, self._config, self._active, self._clock = Path(workdir), config, active, clock
        self._rows: jsonl.JsonLines | None = None
        self._writers = Writers(self._workdir, config, self.say)
        self._figures = Figures()
        self._numbers: dict[str, float] = {}
        self._speed: Speed | None = None
        self._titles = ""
        self._total_steps, self._steps_per_epoch, self._step = 0, 1.0, 0
        self._flush_at = clock() + FLUSH_SECONDS
        self._profiler = Profiler(self._workdir / "profile", first_step=config.profile_step)
        if active:
            self._workdir.mkdir(parents=True, exist_ok=True)
            self._terminal = Terminal(stream or sys.stderr, clock=clock)
            self._throughput = Throughput(step=0, clock=clock)
            self._log = (self._workdir / "log.txt").open("a", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def say(self, text: str) -> None:
        """Prints a message and adds it to log.txt with the time of day."""
        if self._active:
            self._terminal.message(text)
            self._write_log(text)

    def progress(self, done: int, total: int) -> None:
        """Shows how far a long preparation has come; use as a callback."""
        if self._active:
            self._terminal.update(lambda: [(1, f"{done:,} of {total:,} ({done / max(total, 1):.0%})")])

    def begin(
        self,
        *,
        total_steps: int,
        steps_per_epoch: float,
        start_step: int,
        lines: Sequence[str],
        parameters: str,
        owed: bool = False,
    ) -> None:
        """Opens the records, dropping what they hold of steps after `start_step`, and says what is about to happen.

        Args:
          total_steps: length of the whole run, steps.
          steps_per_epoch: steps in one pass over the training split; may be fractional.
          start_step: updates done before this process started; 0 = a fresh run. `owed`: less its evaluation.
          lines: summary of data, model and devices to print.
          parameters: text of `clu.parameter_overview.get_parameter_overview`; goes to WORKDIR/parameters.txt.
        """
        if not self._active:
            return
        self._total_steps, self._steps_per_epoch, self._step = total_steps, steps_per_epoch, start_step
        self._throughput = Throughput(step=start_step, clock=self._clock)
        self._open_records(start_step, owed=owed)
        write_text(self._workdir / "parameters.txt", parameters.rstrip() + "\n")
        for line in (*lines, f"{parameter_count(parameters)}, listed in parameters.txt"):
            self.say(line)
        if start_step:
            self.say(
                f"Going on after step {start_step:,} of {total_steps:,} (epoch {start_step / steps_per_epoch:.2f})"
            )

    def rewind(self, step: int) -> None:
        """The run goes back to `step`: the records lose what is later."""
        if self._active:
            self._show_figures(wait=True)
            self._throughput.pause()
            self._step = step
            self._open_records(step)

    def _open_records(self, start_step: int, *, owed: bool = False) -> None:
        if self._rows:
            self._rows.close()
        self._rows = jsonl.JsonLines(self._workdir / "metrics.jsonl", start_step=start_step, owed=owed)
        self._writers.start(start_step)

    def status(self, what: str) -> None:
        """Shows `what …` until the next batch; the time from here to there is not part of images/s."""
        if self._active:
            self._throughput.pause()
            if self._terminal.live:
                self._terminal.draw([(1, f"{what} …")])

    def compiling(self) -> None:
        """The next update is compiled first (a stage with another image size); the first one is by itself."""
        if self._active:
            self._throughput.expect_compile()

    def waiting_for_data(self) -> AbstractContextManager[None]:
        """Context in which the loop waits for its next batch."""
        return self._waiting() if self._active else nullcontext()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        with self._throughput.waiting():
            yield
        if self._throughput.compiling:
            self._terminal.draw([(1, "compiling …")])

    def tick(self, step: int, *, wait_for: Any = None) -> None:
        """The update that makes `step` updates was dispatched; it computes `wait_for`, awaited only by the profile."""
        if not self._active:
            return
        self._step = step
        seconds = self._throughput.tick(step)
        if seconds is not None:
            self.say(f"Compiled in {seconds:.1f} s" if seconds < 10 else f"Compiled in {duration(seconds)}")
        if message := self._profiler.tick(step, wait_for):
            self.say(message)
        self._terminal.update(self._live_line)

    def skip_to(self, step: int) -> None:
        """The updates up to `step` are left out, by a stage that ended early or only evaluates."""
        if self._active:
            self._step = step
            self._throughput.skip_to(step)

    def train(self, step: int, numbers: Mapping[str, float], *, images: int, ids: str = "") -> None:
        """Records the training numbers of the steps since the last call.

        Args:
          step: updates done at the end of that interval.
          numbers: loss, accuracy, learning_rate, grad_norm: values that depend on nothing but the run itself.
          images: images in the interval.
          ids: digest over the records of all batches up to here.
        """
        if not self._active:
            return
        self._numbers = dict(numbers)
        self._record(step, "train", {**numbers, **({"ids": ids} if ids else {})})
        self._scalars(step, "train", numbers)
        speed = self._throughput.close(step, images)
        if speed is not None:
            self._speed = speed
            values = {name: getattr(speed, name) for name in ("images_per_second", "data_wait", "seconds")}
            self._record(step, "speed", values)
            self._scalars(step, "speed", values)
        if self._clock() >= self._flush_at:
            self._flush()
        self._terminal.update(self._live_line)

    def note(self, step: int, kind: str, values: Mapping[str, Any], text: str = "") -> None:
        """Records a row of a kind of its own, whose values depend on nothing but the run itself; says `text`."""
        if self._active:
            self._record(step, kind, values)
            if text:
                self.say(text)

    def evaluated(self, step: int, split: str, report: Report, *, best: bool = False) -> None:
        """Records and prints the numbers of one split, marked if they are the best so far."""
        if not self._active:
            return
        self._throughput.pause()
        numbers = report.numbers()
        f1 = [row.f1 for row in report.per_class]
        self._record(step, "eval", {"split": split, "n": report.n, **numbers, "class_f1": f1})
        self._scalars(step, split, numbers)
        if self._writers and (best or split != "val"):  # drawing takes a second: only what will be looked at
            from emojax import plots

            self.figure(f"{split}/confusion", step, lambda: plots.confusion(report, title=f"Confusion matrix, {split}"))
        if split == "val":
            self._table_line(step, report, best=best)
        else:
            shown = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())
            self.say(f"{split}: {shown} ({report.n:,} images)")
        self._flush()

    def history(self) -> list[dict[str, Any]]:
        """What `jsonl.history` says so far."""
        return jsonl.history(self._workdir / "metrics.jsonl") if self._active else []

    def hparams(self, values: Mapping[str, Any]) -> None:
        """Shows the knobs of the run in TensorBoard and trackers; flat names."""
        self._writers.write_hparams(values)

    def result(self, step: int, split: str, report: Report) -> None:
        """Shows the numbers of the run's result in TensorBoard and trackers."""
        self._scalars(step, f"report/{split}", report.numbers())

    def finished(self, folder: Path) -> None:
        """The run is over, and its report lies in `folder`: trackers get it."""
        self._writers.write_report(folder)

    def images(self, tag: str, step: int, image: np.ndarray, label: np.ndarray, class_names: Sequence[str]) -> None:
        """Shows the first images of a batch with their labels, as a figure: uint8 [B, H, W, C], float32 [B, K]."""
        if self._writers:
            from emojax import plots

            shown = np.array(image[:24])
            titles = plots.label_titles(np.asarray(label[:24]), class_names)
            self.figure(tag, step, lambda: plots.sample_grid(shown, titles))

    def figure(self, tag: str, step: int, draw: Callable[[], Any]) -> None:
        """Shows the matplotlib figure that `draw` returns in TensorBoard and trackers; drawn beside the training."""
        if self._writers:
            self._figures.add(step, tag, draw)
            self._show_figures()

    def close(self) -> None:
        """Ends the profile, takes the live line away and closes the files."""
        if not self._active:
            return
        try:
            if message := self._profiler.stop():
                self.say(message)
            self._show_figures(wait=True)
        finally:
            self._figures.close()
            self._writers.close()
            self._active = False
            self._terminal.clear()
            for file in filter(None, (self._rows, self._log)):
                file.close()

    def _record(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        if self._rows:
            self._rows.append({"kind": kind, "step": step, "epoch": step / self._steps_per_epoch, **values})

    def _scalars(self, step: int, prefix: str, values: Mapping[str, float]) -> None:
        self._writers.write_scalars(step, {f"{prefix}/{name}": value for name, value in values.items()})

    def _show_figures(self, *, wait: bool = False) -> None:
        for step, tag, pixels in self._figures.ready(wait=wait):
            self._writers.write_images(step, {tag: pixels})

    def _flush(self) -> None:
        self._show_figures()
        self._writers.flush()
        self._flush_at = self._clock() + FLUSH_SECONDS

    def _write_log(self, text: str) -> None:
        now = time.strftime("%Y-%m-%d %H:%M:%S%z")
        self._log.write("".join(f"{now} {line}\n" for line in visible(text).split("\n")))
        self._log.flush()

    def _live_line(self) -> list[tuple[int, str]]:
        """(importance, text) parts of the progress line."""
        step, total = self._step, self._total_steps
        parts = [(9, f"epoch {step / self._steps_per_epoch:.2f}/{total / self._steps_per_epoch:.4g}")]
        parts.append((6, f"step {step}/{total} {step / max(total, 1):.0%}"))
        if "loss" in self._numbers:
            parts.append((8, f"loss {self._numbers['loss']:.4f}"))
        if "learning_rate" in self._numbers:
            parts.append((3, f"lr {self._numbers['learning_rate']:.2e}"))
        if self._speed:
            parts.append((5, f"{self._speed.images_per_second:,.0f} images/s"))
            parts.append((4, f"data wait {self._speed.data_wait:.0%}"))
        left = self._throughput.seconds_left(total)
        return parts if left is None else [*parts, (7, f"{duration(left)} left")]

    def _table_line(self, step: int, report: Report, *, best: bool) -> None:
        speed = self._speed.images_per_second if self._speed else None
        epoch = step / self._steps_per_epoch
        cells = scoreboard.columns(step, epoch, train=self._numbers, report=report, images_per_second=speed)
        titles, line = scoreboard.lines(cells, width=self._terminal.width)
        if titles != self._titles:  # once, and again after the terminal was resized
            self._titles = titles
            self.say(titles)
        self._terminal.message(line, mark="best" if best else "")
        self._write_log(f"{line}  best" if best else line)
