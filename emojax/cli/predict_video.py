"""`emojax predict` on a video or a camera: tracks, steadied probabilities, rows per frame, a video with an overlay."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emojax.cli import predict_rows
from emojax.cli.predict_out import origin
from emojax.cli.predict_rows import Form, Row
from emojax.cli.verdicts import Judge
from emojax.data import face_crops
from emojax.errors import ConfigError, DataError
from emojax.overlay import Shown, draw
from emojax.progress import Terminal, duration
from emojax.tracks import Smoother, Smoothing, Tracker
from emojax.video import Clip, Frame, Writer, open_clip

if TYPE_CHECKING:
    from emojax.data.face_detector import Detector
    from emojax.growing import Table
    from emojax.predict import Classifier

_BATCH = 32
_BYTES = 256 << 20
"""Frames wait for their batch until there are so many bytes of them: what a video of any size takes at most."""

_TRACKS = 200
"""Most tracks that the summary remembers."""

_WHERE = {"frame": int, "time": float, "track": int, "lag_frames": int, "lag_ms": float}


def run(source: str, options: argparse.Namespace, classifier: Classifier, detector: Detector | None) -> int:
    """Classifies a video; rows go to --out or, with --json or --csv, to the standard output, else a summary does.

    The rows of a video begin anew in every call: its tracks and its smoothing depend on all frames before. The exit
    code is 2 when a file ends before it should.
    """
    given = [x for x in (options.fps, options.seconds) if x is not None]
    both = options.every is not None and options.fps is not None
    if both or not all(0 < x < math.inf for x in given) or (options.every is not None and options.every < 1):
        raise ConfigError("expected --every=N from 1 on, or --fps=RATE above 0, not both; and --seconds above 0")
    smoothing = Smoothing.parse(options.smooth)
    clip = open_clip(source)
    with contextlib.closing(clip), contextlib.ExitStack() as stack:
        form = Form(classifier.class_names, _WHERE, sets=options.sets, faces=detector is not None)
        terminal = Terminal(sys.stderr)
        rows, finish = _rows_out(options, classifier, form, clip, terminal, stack)
        writer = stack.enter_context(_overlay(options.overlay, clip)) if options.overlay else None
        work = _Work(clip, Judge.of(options, classifier), detector, smoothing, options)
        terminal.message(f"emojax: {_introduction(clip, work, options)}")
        start = time.monotonic()
        try:
            for frame, found, shown in work.frames():
                for row in found:
                    rows(row)
                if writer:
                    draw(frame.image, shown)
                    writer.write(frame.image)
                terminal.update(lambda frame=frame: _progress(frame, clip, time.monotonic() - start))
        except KeyboardInterrupt:
            if not clip.live:
                raise
        finally:
            terminal.clear()
        if not work.sampled:
            raise DataError(f"{source}: has no frame that can be decoded")
        finish()  # the rows are whole, whatever becomes of the overlay
        seconds = max(time.monotonic() - start, 1e-9)
        terminal.message(
            f"emojax: {work.sampled:,} frames classified of {duration(_length(clip, options))} of video in "
            f"{seconds:.1f} s ({work.sampled / seconds:,.1f} frames/s)"
        )
        if detector and not work.tracks:
            terminal.message("emojax: no face found in any frame; try a lower --min-face or --min-score")
        if not (options.out or options.json or options.csv):
            _summary(form, work)
        return _ended(clip, options, terminal)


def _length(clip: Clip, options: argparse.Namespace) -> float:
    """Seconds of video that were looked through, which is more than up to the last frame that was classified."""
    return min(clip.length, options.seconds or math.inf)


def _ended(clip: Clip, options: argparse.Namespace, terminal: Terminal) -> int:
    """Tells of a file that has less than it says; returns the exit code, 2 where its end is missing."""
    if not clip.lacking or (options.seconds and clip.length >= options.seconds):
        return 0
    if clip.short:
        terminal.message(
            f"emojax: {clip.name} ended after frame {clip.grabbed:,} of {clip.frames:,}: it is cut or damaged, and "
            "what comes after that is not classified"
        )
        return 2
    terminal.message(
        f"emojax: {clip.name} has {clip.grabbed:,} frames, where {clip.frames:,} were expected by its rate: the rate "
        "varies, or it is damaged on the way"
    )
    return 0


@dataclasses.dataclass
class _Work:
    """Frames in, rows and drawings out; `sampled` frames so far, and {track: classes said} of them."""

    clip: Clip
    judge: Judge
    detector: Detector | None
    smoothing: Smoothing
    options: argparse.Namespace

    def __post_init__(self) -> None:
        self.sampled, self.tracks = 0, {}
        self._tracker, self._smoother = Tracker(), Smoother(self.smoothing)
        classifier = self.judge.classifier
        self._side = face_crops.side(classifier.image_size, classifier.config.eval.crop)
        self._shown: list[Shown] = []

    @property
    def lag(self) -> tuple[int, float]:
        """(frames of the video, milliseconds) by which the smoothing shows a sudden change later."""
        step = self.clip.rate / self.options.fps if self.options.fps else self.options.every or 1
        frames = round(self.smoothing.lag * max(step, 1))
        return frames, round(1000 * frames / self.clip.rate, 1)

    def frames(self) -> Iterator[tuple[Frame, list[Row], list[Shown]]]:
        """All frames that were read, with the rows of the sampled ones and what is to be drawn."""
        batch, waiting, size = [], 0, 0
        limit = 1 if self.clip.live else _BATCH  # of a camera each frame is wanted at once
        for frame in self.clip.read(
            every=self.options.every or 1, rate=self.options.fps or 0.0, between=bool(self.options.overlay)
        ):
            if self.options.seconds and frame.time >= self.options.seconds:
                break
            batch.append(frame)
            waiting, size = waiting + frame.sampled, size + frame.image.nbytes
            if waiting >= limit or size >= _BYTES:
                yield from self._done(batch)
                batch, waiting, size = [], 0, 0
        yield from self._done(batch)

    def _done(self, batch: list[Frame]) -> Iterator[tuple[Frame, list[Row], list[Shown]]]:
        looks = {frame.number: self._look(frame.image) for frame in batch if frame.sampled}
        crops = [crop for look in looks.values() for crop in look.crops]
        found = self.judge.predict(crops) if crops else None
        at = 0
        for frame in batch:
            rows: list[Row] = []
            if frame.sampled:
                look = looks[frame.number]
                self.sampled += 1
                part = np.arange(at, at + len(look.crops))
                at += len(look.crops)
                rows = self._rows(frame, look, found, part)
            yield frame, rows, self._shown

    def _look(self, image: np.ndarray) -> face_crops.Look:
        if self.detector is None:
            return face_crops.Look([], [image], "")
        return face_crops.of_image(image, self.detector, size=self._side, margin=self.options.margin)

    def _rows(self, frame: Frame, look: face_crops.Look, found: Any, part: np.ndarray) -> list[Row]:
        """The rows of one sampled frame, with the probabilities of its faces steadied."""
        height, width = frame.image.shape[:2]
        boxes = [face.box for face in look.faces] or [(0.0, 0.0, float(width), float(height))] * len(look.crops)
        tracks = self._tracker.update(boxes)
        lag = dict(zip(("lag_frames", "lag_ms"), self.lag, strict=True))
        where: dict[str, Any] = {"frame": frame.number, "time": round(frame.time, 4)}
        faces = None if self.detector is None else len(look.faces)
        self._shown = []
        self._smoother.keep(self._tracker.living)
        if not look.crops:
            return [Row({**where, "track": None, **lag}, None, look.error, faces=0)]
        probs = np.stack([self._smoother(t, found.probs[i]) for t, i in zip(tracks, part, strict=True)])
        steady = dataclasses.replace(
            found, probs=probs, **{name: getattr(found, name)[part] for name in ("label", "weight", "id")}
        )
        rows = []
        for i, verdict in enumerate(self.judge.verdicts(steady)):
            assert verdict is not None  # pixels that were decoded can be read
            form = Form(self.judge.classifier.class_names, _WHERE)
            said = form.said(verdict) or "(unsure)"
            self._count(tracks[i], said)
            face = look.faces[i] if look.faces else None
            at = {**where, "track": tracks[i], **lag}
            rows.append(Row(at, verdict, faces=faces, number=i + 1, face=face))
            self._shown.append(Shown(boxes[i], f"{tracks[i]}  {said}" if face else said, form.names, verdict.probs))
        return rows

    def _count(self, track: int, said: str) -> None:
        """For the summary; of a camera that runs for days only the longer tracks are remembered."""
        self.tracks.setdefault(track, Counter())[said] += 1
        if len(self.tracks) > _TRACKS:
            ended = [t for t in self.tracks if t not in self._tracker.living]
            for one in sorted(ended, key=lambda t: self.tracks[t].total())[: _TRACKS // 2]:
                del self.tracks[one]


def _rows_out(
    options: argparse.Namespace,
    classifier: Classifier,
    form: Form,
    clip: Clip,
    terminal: Terminal,
    stack: contextlib.ExitStack,
) -> tuple[Callable[[Row], None], Callable[[], None]]:
    """Where rows go: a function of a row, and what is to be called after the last one."""
    if options.out:
        from emojax import growing

        path = Path(options.out)
        about = {"video": options.video or options.paths[0], "smooth": options.smooth, **origin(options, classifier)}
        table = growing.open_table(path, form.columns(), key="frame", size="faces", about=about, flat=form.flat)
        stack.callback(table.close)
        _begin_anew(table, path, clip, terminal)
        return lambda row: table.write([form.nested(row)]), table.finish
    if not (options.json or options.csv):
        return lambda row: None, lambda: None
    lines = predict_rows.json_lines if options.json else predict_rows.csv_lines
    if options.csv:
        for line in lines(form, [], first=True):
            sys.stdout.write(line + "\n")

    def say(row: Row) -> None:
        for line in lines(form, [row], first=False):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()  # of a camera each row is wanted at once

    return say, lambda: None


def _begin_anew(table: Table, path: Path, clip: Clip, terminal: Terminal) -> None:
    """Takes away the rows of an earlier call; raises `ConfigError` for those of a camera."""
    if table.rows and clip.live:
        raise ConfigError(
            f"{path} has {table.rows:,} rows of an earlier recording, and a camera does not show the same twice: give "
            "another name, or remove it with what lies beside it"
        )
    if table.rows:
        terminal.message(f"emojax: {path} has {table.rows:,} rows of an earlier call; they are replaced")
    table.clear()


@contextlib.contextmanager
def _overlay(name: str, clip: Clip) -> Iterator[Writer]:
    path = Path(name)
    if not clip.live and path.exists() and path.samefile(clip.name):
        raise ConfigError(f"--overlay={name} is the video itself; give another name")
    writer = Writer(path, rate=clip.rate, size=clip.size)
    try:
        yield writer
    except BaseException:
        writer.discard()
        raise
    writer.finish()


def _introduction(clip: Clip, work: _Work, options: argparse.Namespace) -> str:
    length = f", {duration(clip.frames / clip.rate)}" if clip.frames else ""
    frames, ms = work.lag
    return (
        f"{clip.name}: {clip.size[0]} x {clip.size[1]}, {clip.rate:g} frames/s{length}; smoothing {options.smooth} "
        f"shows a sudden change {frames} frames ({ms:g} ms) later"
    )


def _progress(frame: Frame, clip: Clip, seconds: float) -> list[tuple[int, str]]:
    rate = (frame.number + 1) / max(seconds, 1e-9)
    of = f"/{clip.frames:,}" if clip.frames else ""
    parts = [(3, f"frame {frame.number + 1:,}{of}"), (2, f"{rate:,.1f} frames/s")]
    if clip.frames:
        parts.append((1, f"{duration((clip.frames - frame.number - 1) / rate)} left"))
    return parts


def _summary(form: Form, work: _Work) -> None:
    """Which share of its frames each track was which class, for people."""
    sys.stdout.write("track  frames  classes\n")
    for track, classes in work.tracks.items():
        total = sum(classes.values())
        shares = ", ".join(f"{name} {count / total:.0%}" for name, count in classes.most_common(4))
        sys.stdout.write(f"{track:>5}  {total:>6,}  {shares}\n")
