"""TensorBoard event files without TensorFlow.

`EventWriter` has the methods and signatures of CLU's `MetricWriter` interface. It does not inherit from it, because
importing `clu.metric_writers` imports TensorFlow. It writes records itself with tensorboardX's protocol buffers,
instead of tensorboardX's `SummaryWriter`, whose thread and queue let `flush` return before anything is on disk, and
whose file names collide when a run is resumed within a second. Not thread safe: one thread writes.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from emojax.files import plain


class EventWriter:
    """Writes one TensorBoard event file into `folder`; tensorboardX is imported when the first one is made."""

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        """Args:
        folder: made if missing; the file in it gets a name that no other writer has.
        purge_step: TensorBoard hides what earlier files of the folder hold at this step or later (after a resume).
        """
        with _without("torch"):
            from tensorboardX import summary
            from tensorboardX.proto import event_pb2, tensor_pb2, tensor_shape_pb2
            from tensorboardX.record_writer import RecordWriter

        self._summary: Any = summary
        self._event: Any = event_pb2  # generated modules: their names exist at run time only
        self._tensor: Any = vars(tensor_pb2)["TensorProto"]
        self._shape: Any = vars(tensor_shape_pb2)["TensorShapeProto"]
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        # TensorBoard reads the files of a folder in the order of their names: seconds first, then the finer parts.
        self.path = folder / f"events.out.tfevents.{int(now):010d}.{time.time_ns() % 10**9:09d}.{os.getpid()}.emojax"
        self._records = RecordWriter(str(self.path))
        self._write(self._event.Event(file_version="brain.Event:2"))
        if purge_step is not None:
            start = self._event.SessionLog(status=self._event.SessionLog.START)
            self._write(self._event.Event(step=purge_step, session_log=start))
        self.flush()

    def write_summaries(self, step: int, values: Mapping[str, Any], metadata: Any = None) -> None:
        """Numeric tensors of any shape for a TensorBoard plugin; `metadata` is a SummaryMetadata or its bytes."""
        for tag, value in values.items():
            one = self._summary.Summary.Value(tag=tag, tensor=self._tensor_of(np.asarray(value)))
            if metadata is not None:
                data = metadata if isinstance(metadata, bytes) else metadata.SerializeToString()
                one.metadata.ParseFromString(data)
            self._add(step, self._summary.Summary(value=[one]))

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """One number per tag."""
        values = [
            self._summary.Summary.Value(tag=tag, simple_value=float(np.asarray(value).reshape(())))
            for tag, value in scalars.items()
        ]
        if values:
            self._add(step, self._summary.Summary(value=values))

    def write_images(self, step: int, images: Mapping[str, Any]) -> None:
        """[H, W, C] or [N, H, W, C] with C = 1 or 3; uint8, or float in [0, 1] (clipped). N images get N tags."""
        for tag, value in images.items():
            array = np.asarray(value)
            if array.ndim == 3:
                self._image(step, tag, _png(array), array.shape)
            else:
                for i, image in enumerate(array):
                    self._image(step, f"{tag}/{i}", _png(image), image.shape)

    def write_videos(self, step: int, videos: Mapping[str, Any]) -> None:
        """[T, H, W, C] or [N, T, H, W, C], values as in `write_images`; shown as an animated GIF, 8 frames a second."""
        for tag, value in videos.items():
            array = np.asarray(value)
            if array.ndim == 4:
                self._image(step, tag, _gif(array), array.shape[1:])
            else:
                for i, video in enumerate(array):
                    self._image(step, f"{tag}/{i}", _gif(video), video.shape[1:])

    def write_audios(self, step: int, audios: Mapping[str, Any], *, sample_rate: int) -> None:
        """[T, C] or [N, T, C], float in [-1, 1]; written as 16-bit WAV."""
        for tag, value in audios.items():
            array = np.asarray(value, np.float64)
            tracks = {tag: array} if array.ndim == 2 else {f"{tag}/{i}": track for i, track in enumerate(array)}
            for name, track in tracks.items():
                audio = self._summary.Summary.Audio(
                    sample_rate=sample_rate,
                    num_channels=track.shape[1],
                    length_frames=track.shape[0],
                    encoded_audio_string=_wav(track, sample_rate),
                    content_type="audio/wav",
                )
                one = self._summary.Summary.Value(tag=name, audio=audio)
                self._add(step, self._summary.Summary(value=[one]))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Markdown per tag."""
        for tag, text in texts.items():
            self._add(step, self._summary.text(tag, text))

    def write_histograms(
        self, step: int, arrays: Mapping[str, Any], num_buckets: Mapping[str, int] | None = None
    ) -> None:
        """Distribution of the finite values of each array; an array without any is left out. Default 30 buckets."""
        for tag, array in arrays.items():
            values = np.asarray(array, np.float64).ravel()
            values = values[np.isfinite(values)]
            if values.size:
                buckets = (num_buckets or {}).get(tag, 30)
                self._add(step, self._summary.histogram(tag, values, bins=buckets))

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Flat names and values for the HPARAMS tab; what is not a number, bool or text is shown as text."""
        kept = {
            name: value if isinstance(value, bool | int | float | str) else str(plain(value))
            for name, value in hparams.items()
        }
        for part in self._summary.hparams(kept, {}):
            self._add(0, part)

    def flush(self) -> None:
        """Everything written so far is on disk when this returns."""
        self._records.flush()

    def close(self) -> None:
        """Flushes and closes the file; further writes raise."""
        self._records.flush()
        self._records.close()

    def _image(self, step: int, tag: str, encoded: bytes, shape: tuple[int, ...]) -> None:
        image = self._summary.Summary.Image(
            height=shape[0], width=shape[1], colorspace=shape[2], encoded_image_string=encoded
        )
        self._add(step, self._summary.Summary(value=[self._summary.Summary.Value(tag=tag, image=image)]))

    def _tensor_of(self, array: np.ndarray) -> Any:
        shape = self._shape(dim=[self._shape.Dim(size=size) for size in array.shape])
        if array.dtype.kind in "US":
            strings = [str(item).encode() for item in array.ravel()]
            return self._tensor(dtype="DT_STRING", string_val=strings, tensor_shape=shape)
        name = {"f4": "DT_FLOAT", "f8": "DT_DOUBLE", "i4": "DT_INT32", "i8": "DT_INT64", "u1": "DT_UINT8"}
        name |= {"b1": "DT_BOOL"}
        code = array.dtype.str[1:]
        if code not in name:
            array, code = array.astype("<f4"), "f4"
        return self._tensor(dtype=name[code], tensor_content=array.tobytes(), tensor_shape=shape)

    def _add(self, step: int, summary: Any) -> None:
        self._write(self._event.Event(step=int(step), summary=summary))

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def _bytes_of(image: np.ndarray) -> np.ndarray:
    """uint8, from uint8 or from float in [0, 1]; one channel is dropped, as Pillow wants it."""
    if image.dtype != np.uint8:
        image = np.round(255 * np.clip(np.nan_to_num(image.astype(np.float64)), 0, 1)).astype(np.uint8)
    return image[..., 0] if image.shape[-1] == 1 else image


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(_bytes_of(image)).save(buffer, format="PNG")
    return buffer.getvalue()


def _gif(video: np.ndarray) -> bytes:
    from PIL import Image

    first, *rest = [Image.fromarray(_bytes_of(frame)) for frame in video]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=125, loop=0)
    return buffer.getvalue()


def _wav(track: np.ndarray, sample_rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(track.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(32767 * np.clip(track, -1, 1)).astype("<i2").tobytes())
    return buffer.getvalue()


@contextlib.contextmanager
def _without(library: str) -> Iterator[None]:
    """Lets imports of `library` fail: tensorboardX imports torch wherever it finds it, for nothing."""
    if library in sys.modules:  # the caller uses it already
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]  # what Python itself does to forbid an import
    try:
        yield
    finally:
        del sys.modules[library]
