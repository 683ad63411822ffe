"""Frames of video files and cameras, one after another, and videos written frame by frame: constant memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emojax.errors import ConfigError, DataError, EmojaxError, FullError, full

EXTENSIONS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
"""File names that count as videos, in any case."""

_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
"""What can be written: MPEG-4 part 2, and Motion JPEG in AVI. OpenCV's packages read H.264 and do not write it."""

_MISSING, _SHARE = 2, 0.02
"""So many frames, or such a share of them, may lack of what a file says: headers are off by a few."""

_ROOM = 1 << 20
"""Bytes; a disk that does not take so many more counts as full."""

_MAX_SIDE = 8192
_USUAL_RATE = 25.0
"""Frames per second of a source that does not know."""

_LOCAL = "protocol_whitelist;file"
"""For FFmpeg: a file that is really a playlist must not make it open addresses."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its number from 0, its time in seconds, and its pixels, uint8 [H, W, 3] RGB; `sampled` frames are the
    ones to classify."""

    number: int
    time: float
    image: np.ndarray
    sampled: bool


class Clip:
    """An open video file or camera.

    Attributes:
      name: as it was given.
      live: whether it is a camera; then times are those of the clock.
      rate: frames per second, as the file says; cameras and files that do not know count as 25.
      frames: how many there are, by the file; 0 = unknown.
      size: (width, height), pixels.
      grabbed: how many frames were read so far, sampled or not.
      length: seconds of video that these are.
    """

    def __init__(self, name: str, capture: Any, *, live: bool) -> None:
        self.name, self.live, self._capture = name, live, capture
        self.grabbed, self.length = 0, 0.0
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = float(rate) if np.isfinite(rate) and 0 < rate <= 1000 else _USUAL_RATE
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frames = int(count) if np.isfinite(count) and 0 < count < 1e9 and not live else 0
        self.size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        if max(self.size) > _MAX_SIDE:
            capture.release()
            raise DataError(f"{name}: {self.size[0]} x {self.size[1]} pixels; the limit is {_MAX_SIDE} a side")

    @property
    def lacking(self) -> bool:
        """Whether clearly fewer frames were read than the file says."""
        return self._lack(self.grabbed)

    @property
    def short(self) -> bool:
        """Whether what was read also ends clearly before the time at which the file says that it ends.

        Where frames come at varying rates, their number alone is a guess that proves nothing.
        """
        return self.lacking and self._lack(self.length * self.rate)

    def _lack(self, found: float) -> bool:
        return self.frames - found > max(_MISSING, _SHARE * self.frames)

    def close(self) -> None:
        """Lets go of the file or camera."""
        self._capture.release()

    def read(self, *, every: int = 1, rate: float = 0.0, between: bool = False) -> Iterator[Frame]:
        """The frames that are to be classified.

        Args:
          every: each n-th frame, from the first on.
          rate: or so many per second, at the first frame at or after each multiple of 1 / rate; 0 = by `every`.
          between: also the others, with `sampled` false.

        A frame that cannot be decoded ends a file, as FFmpeg gives no way past it.
        """
        number, due, start = 0, 0.0, time.monotonic()
        while self._capture.grab():
            now = time.monotonic() - start if self.live else self._time(number)
            sampled = now >= due - 1e-6 if rate else number % every == 0
            if sampled and rate:
                due = max(due + 1 / rate, now + 0.5 / rate)
            pixels = None
            if sampled or between:
                good, pixels = self._capture.retrieve()
                if not good or pixels is None:
                    return
            self.grabbed, self.length = number + 1, now + (0 if self.live else 1 / self.rate)
            if pixels is not None:
                yield Frame(number, now, _rgb(pixels), sampled)
            number += 1

    def _time(self, number: int) -> float:
        """Seconds of the frame that was grabbed last, by the file where it knows: rates may change on the way."""
        found = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return found if found > 0 and np.isfinite(found) else number / self.rate


def open_clip(source: str) -> Clip:
    """Opens a video file, or a camera by its number.

    Raises `DataError` when there is no such file, it is no video, or there is no such camera.
    """
    if source.isdecimal():
        with _quiet():
            capture = cv2.VideoCapture(int(source))
        if not capture.isOpened():
            raise DataError(
                f"camera {source} cannot be opened: none is connected under this number, another program holds it, or "
                "this user may not use it; give another number, or a video file"
            )
        return Clip(f"camera {source}", capture, live=True)
    if not Path(source).is_file():
        raise DataError(f"{source}: no such video file; cameras are numbers, such as --video=0")
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _LOCAL)
    with _quiet():
        capture = cv2.VideoCapture(str(Path(source).resolve()), cv2.CAP_FFMPEG)
    if not capture.isOpened() or not capture.get(cv2.CAP_PROP_FRAME_WIDTH) >= 1:
        raise DataError(f"{source}: cannot be read as a video; formats that usually can: {', '.join(EXTENSIONS)}")
    return Clip(source, capture, live=False)


class Writer:
    """Writes a video, frame by frame; it has its name when it is finished, and until then `.NAME.partial.SUFFIX`."""

    def __init__(self, path: Path, *, rate: float, size: tuple[int, int]) -> None:
        """Raises `ConfigError` for a file name that cannot be written as video."""
        codec = _CODECS.get(path.suffix.lower())
        if codec is None:
            raise ConfigError(f"{path}: expected a name that ends in {', '.join(_CODECS)}")
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: its folder {path.parent} does not exist; create it first")
        self._path, self._partial = path, path.with_name(f".{path.stem}.partial{path.suffix}")
        self._size = (size[0] // 2 * 2, size[1] // 2 * 2)  # chroma has half the resolution
        self._written = 0
        with _quiet():
            self._writer = cv2.VideoWriter(str(self._partial), cv2.VideoWriter.fourcc(*codec), rate, self._size)
        if not self._writer.isOpened():
            raise ConfigError(f"{path}: a video of {size[0]} x {size[1]} pixels cannot be written there")

    def write(self, image: np.ndarray) -> None:
        """Appends a frame, uint8 [H, W, 3] RGB; an odd last row or column is left out."""
        width, height = self._size
        with _quiet():  # one line for each frame that is not written; `finish` tells of them once
            self._writer.write(cv2.cvtColor(np.ascontiguousarray(image[:height, :width]), cv2.COLOR_RGB2BGR))
        self._written += 1

    def finish(self) -> None:
        """Ends the file and gives it its name.

        Raises:
          FullError: the disk is full.
          DataError: not all frames are in the file, for another reason.

        Then there is no new file, and an earlier one of this name stays.
        """
        with _quiet():
            self._writer.release()
        if not _holds(self._partial, self._written):  # OpenCV does not say when it cannot write
            error = self._failure()
            self._partial.unlink(missing_ok=True)
            raise error
        self._partial.replace(self._path)

    def _failure(self) -> EmojaxError:
        """Why the file is not whole: the disk is asked for room, which also tells of quotas and limits of size."""
        told = f"{self._path}: not all of {self._written:,} frames could be written, and the video is not kept"
        try:
            with self._partial.open("ab") as file:
                file.write(bytes(_ROOM))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if full(error):
                return FullError(
                    f"{told}: the disk is full, or a quota or file-size limit is reached. Make room and try again"
                )
            return DataError(f"{told}: {error.strerror}")
        return DataError(f"{told}; try again, or another kind of file: {', '.join(_CODECS)}")

    def discard(self) -> None:
        """Ends the file and removes it."""
        self._writer.release()
        self._partial.unlink(missing_ok=True)


def _holds(path: Path, frames: int) -> bool:
    """Whether a video file has about so many frames, and its last one can be read.

    A file that could not be written to its end lacks its index and says 0 or nonsense, or cannot be opened at all.
    """
    if not frames:
        return True
    with _quiet():
        capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
        try:
            found = capture.get(cv2.CAP_PROP_FRAME_COUNT) if capture.isOpened() else 0.0
            if not abs(found - frames) <= max(_MISSING, _SHARE * frames) or found < 1:
                return False
            capture.set(cv2.CAP_PROP_POS_FRAMES, found - 1)
            return capture.grab()
        finally:
            capture.release()


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """OpenCV tells of what cannot be opened on the terminal; the caller tells it better."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)
