"""`emojax predict`: classifies pictures, folders of pictures, videos and cameras with a trained model."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emojax.cli import model_options

if TYPE_CHECKING:
    from emojax.cli.predict_rows import Row
    from emojax.cli.verdicts import Judge
    from emojax.data.face_detector import Detector
    from emojax.predict import Classifier
    from emojax.seen import Seen

CHUNK = 256
"""Pictures per call of the classifier: results appear while later pictures are still read, in bounded memory."""

FACES: dict[str, Any] = {"min_face": 0, "min_score": 0.9, "margin": 0.0}
"""What the options of `add_faces` are where they are not given."""

_VIDEO: dict[str, Any] = {"every": None, "fps": None, "smooth": "exponential:0.4", "overlay": "", "seconds": None}
"""Those of videos."""

_MEASURED = 10_000
"""Pictures whose names decide how wide the first column of a table is."""


def main(arguments: list[str]) -> int:
    """Tells one row per picture, or per face; the exit code is 2 when some could not be read."""
    options = _parser().parse_args(arguments)

    from emojax.data.face_detector import Detector
    from emojax.errors import ConfigError
    from emojax.predict import load
    from emojax.video import EXTENSIONS

    videos = [options.video] if options.video else []
    videos += [path for path in options.paths if path.lower().endswith(EXTENSIONS)]
    if len(videos) > 1 or (videos and len(videos) != len(options.paths) + bool(options.video)):
        raise ConfigError("a video is classified in a call of its own, without other videos and pictures")
    if not videos and not options.paths:
        raise ConfigError("nothing to classify: give pictures, folders, a video, or - for a list on standard input")
    if options.out and (options.json or options.csv):
        raise ConfigError("--json and --csv are for the standard output; --out=FILE goes by the name of the file")
    _settle(options, _VIDEO, where="videos", there=bool(videos))
    _settle(options, FACES, where="faces: give --faces too", there=options.faces)
    check_faces(options)
    detector = Detector(min_face=options.min_face, min_score=options.min_score) if options.faces else None
    raw = options.raw or options.post_process  # a post-processing begins at the probabilities as trained
    classifier = load(options.workdir, which=options.which, views=options.views, decision="none" if raw else "stored")
    _check_decision(options, classifier)
    if videos:
        from emojax.cli import predict_video

        return predict_video.run(videos[0], options, classifier, detector)
    return _pictures(options, classifier, detector)


def _settle(options: argparse.Namespace, flags: dict[str, Any], *, where: str, there: bool) -> None:
    """Puts the default where a flag was not given; raises `ConfigError` for one that was, and would do nothing."""
    from emojax.errors import ConfigError

    for name, default in flags.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
        elif not there:
            raise ConfigError(f"--{name.replace('_', '-')} is for {where}")


def check_faces(options: argparse.Namespace) -> None:
    """Raises `ConfigError` for options of the detector and the crop that are out of range."""
    from emojax.data.face_detector import LEAST_SCORE, LEAST_SIDE
    from emojax.errors import ConfigError

    for name, good, found, expected in (
        ("min-face", options.min_face == 0 or options.min_face >= LEAST_SIDE, options.min_face, "0, or 20 and more"),
        ("min-score", LEAST_SCORE <= options.min_score <= 1, options.min_score, f"{LEAST_SCORE} to 1"),
        ("margin", 0 <= options.margin <= 2, options.margin, "0 to 2"),
    ):
        if not good:
            raise ConfigError(f"--{name}={found}: expected {expected}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emojax predict", description=__doc__)
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="IMAGE|FOLDER|VIDEO|-",
        help="pictures, folders that are searched for some, a video, or - for a list of paths on standard input",
    )
    model_options.add(parser)
    parser.add_argument(
        "--post-process", default="", metavar="FILE.json", help="post-processing that `emojax evaluate` has fitted"
    )
    parser.add_argument("--raw", action="store_true", help="without what `emojax calibrate` has stored")
    parser.add_argument(
        "--abstain",
        action="store_true",
        help="no class where the model is less sure than `emojax calibrate --risk` asks",
    )
    parser.add_argument(
        "--sets", action="store_true", help="also the set of classes that holds the true one as often as was calibrated"
    )
    parser.add_argument(
        "--out",
        default="",
        metavar="FILE",
        help="write rows to FILE.csv, FILE.jsonl or FILE.parquet; the same command goes on where one was stopped",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object per line with all probabilities")
    form.add_argument("--csv", action="store_true", help="CSV with one column per class")
    faces = parser.add_argument_group("faces in photographs (extra [faces])")
    faces.add_argument("--faces", action="store_true", help="find faces, align each by five points and classify it")
    add_faces(faces)
    video = parser.add_argument_group("videos")
    video.add_argument("--video", default="", metavar="FILE|NUMBER", help="a video file, or the number of a camera")
    video.add_argument("--every", type=int, metavar="N", help="classify each N-th frame; default: all")
    video.add_argument("--fps", type=float, help="or so many frames per second")
    video.add_argument(
        "--smooth",
        help="over the classified frames of a track: none, exponential:WEIGHT of a new frame, or median:FRAMES; "
        f"default: {_VIDEO['smooth']}",
    )
    video.add_argument("--overlay", metavar="FILE.mp4|.avi", help="write the video with boxes and bars")
    video.add_argument("--seconds", type=float, help="stop after so many seconds of the video or camera")
    return parser


def add_faces(group: Any) -> None:
    """The options of the detector and of the crop, None where not given, for every verb that looks for faces."""
    group.add_argument(
        "--min-face", type=int, metavar="PIXELS", help="smallest face, from 20 on; default: 1/20 of the shorter side"
    )
    group.add_argument(
        "--min-score", type=float, help=f"least score of a face, 0.7 to 1; default: {FACES['min_score']}"
    )
    group.add_argument("--margin", type=float, help="show so much more around a face, in sides of the crop; default: 0")


def _pictures(options: argparse.Namespace, classifier: Classifier, detector: Detector | None) -> int:
    from emojax.cli import predict_out, predict_rows
    from emojax.cli.verdicts import Judge
    from emojax.data import walk

    form = predict_rows.Form(classifier.class_names, {"image": str}, sets=options.sets, faces=detector is not None)
    total, wide = 0, 24
    if walk.STDIN not in options.paths:  # what is not there is told before the work begins
        for path in walk.pictures(options.paths):
            total, wide = total + 1, max(wide, len(path)) if total < _MEASURED else wide
    lines = predict_rows.json_lines if options.json else predict_rows.csv_lines if options.csv else None
    judge = Judge.of(options, classifier)
    with predict_out.Output(options, classifier, form, lines or predict_rows.table_lines, width=wide) as out:
        progress = predict_out.Progress(total, already=len(out.seen), unread=out.unread)
        for part in _chunks(walk.pictures(options.paths, sys.stdin.buffer), out.seen):
            groups = _classified(part, judge, classifier, detector, options.margin)
            progress.clear()
            out.write(groups)
            progress.add(groups)
        out.finish()
    return progress.told(options.out)


def _chunks(found: Iterator[str], seen: Seen) -> Iterator[list[str]]:
    """Paths that are new, each once, in parts of `CHUNK`."""
    from emojax.data.storage import printable

    # A name is taken in before its row is written: what is not written is forgotten with this process.
    new = (path for path in found if seen.add(printable(path)))
    while part := list(itertools.islice(new, CHUNK)):
        yield part


def _classified(
    paths: list[str], judge: Judge, classifier: Classifier, detector: Detector | None, margin: float
) -> list[list[Row]]:
    """The rows of each picture."""
    from emojax.cli.predict_rows import Row
    from emojax.data import face_crops
    from emojax.data.storage import printable

    where = [{"image": printable(path)} for path in paths]
    if detector is None:
        verdicts = judge([Path(path) for path in paths])
        return [[Row(w, v, "" if v else _reason(p))] for w, v, p in zip(where, verdicts, paths, strict=True)]
    size = face_crops.side(classifier.image_size, classifier.config.eval.crop)
    looks = [face_crops.of_file(path, detector, size=size, margin=margin) for path in paths]
    verdicts = iter(judge([crop for look in looks for crop in look.crops]))
    return [
        [
            Row(w, next(verdicts), faces=len(look.faces), number=n, face=face)
            for n, face in enumerate(look.faces, start=1)
        ]
        or [Row(w, None, look.error, faces=0)]
        for w, look in zip(where, looks, strict=True)
    ]


def _reason(path: str) -> str:
    """Why a picture could not be classified. The loader does not say; to look again costs only where it failed."""
    from emojax.data.decode import decode
    from emojax.data.storage import Unreadable, read_file

    try:
        decode(read_file(path))
    except Unreadable as error:
        return str(error)
    return "could not be read, though it can be now"


def _check_decision(options: argparse.Namespace, classifier: Classifier) -> None:
    """Raises `ConfigError` when what is asked for was never fitted; tells why a stored decision is left out."""
    from emojax.errors import ConfigError

    if classifier.note:
        sys.stderr.write(f"emojax: {classifier.note}\n")
    fitted = classifier.decision
    # A bundle stays as it was exported: what is calibrated is the run that it is of.
    run, then = ("RUN", " and export the run again") if model_options.is_bundle(options) else (options.workdir, "")
    for flag, there, how in (
        ("--sets", fitted is not None, ""),
        ("--abstain", fitted is not None and fitted.threshold > 0, " --risk=SHARE"),
    ):
        if getattr(options, flag[2:]) and not there:
            raise ConfigError(
                f"{flag} needs a calibration of these weights and views: run "
                f"`emojax calibrate --workdir={run}{how}` first{then}; leave out --raw and --post-process"
            )
