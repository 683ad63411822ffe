"""Faces brought into one place: a similarity transform from five points to a template.

The template is that of ArcFace (Deng et al. 2019, arXiv 1801.07698) for crops of 112 pixels; points are in the order
left eye, right eye, tip of the nose, left and right corner of the mouth, left as seen in the picture.
"""

from __future__ import annotations

import cv2
import numpy as np

POINTS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
)
"""float64 [5, 2]: x and y of `POINTS` in pixels of a crop of 112 x 112."""
SIDE = 112

_FIVE_OF_68 = (range(36, 42), range(42, 48), (30,), (48,), (54,))
"""Which of the usual 68 landmarks (Sagonas et al. 2013, 300 faces in-the-wild, ICCV workshops) make the points."""


def five(landmarks: np.ndarray) -> np.ndarray:
    """float64 [5, 2] from 68 landmarks [68, 2]: middles of the eyes, tip of the nose, corners of the mouth."""
    return np.stack([np.asarray(landmarks, np.float64)[list(part)].mean(axis=0) for part in _FIVE_OF_68])


def similarity(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, size and shift that bring `points` nearest to `target`, both [N, 2], by least squares.

    Returns float64 [2, 3], as `cv2.warpAffine` takes it. In the plane, with points as complex numbers, the solution of
    Umeyama (1991, IEEE TPAMI 13(4)) without mirroring is one quotient. Raises `ValueError` when all points are one.
    """
    z, w = (np.asarray(x, np.float64) @ np.array([1, 1j]) for x in (points, target))
    centred = z - z.mean()
    length = float((np.abs(centred) ** 2).sum())
    if not np.isfinite(length) or length < 1e-9:
        raise ValueError("the points are all in one place")
    turn = (np.conj(centred) * (w - w.mean())).sum() / length
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def template(size: int, margin: float) -> np.ndarray:
    """The five points in a square of `size` pixels that shows `margin` times the crop's side more on every side."""
    return ((TEMPLATE / SIDE - 0.5) / (1 + 2 * margin) + 0.5) * size


def matrix(points: np.ndarray, *, size: int, margin: float) -> np.ndarray:
    """float64 [2, 3]: picture to crop, for five points [5, 2] in pixels of the picture."""
    return similarity(points, template(size, margin))


def crop(image: np.ndarray, points: np.ndarray, *, size: int = SIDE, margin: float = 0.0) -> np.ndarray:
    """The aligned face of a picture.

    Args:
      image: uint8 [H, W] or [H, W, 3].
      points: [5, 2], x and y of `POINTS` in pixels of `image`.
      size: side of the crop, pixels.
      margin: what to show around the template's square, in its sides.

    Returns uint8 [size, size] or [size, size, 3]; black where the picture ends. A face that is much larger than the
    crop is made smaller by averaging whole pixels first, as bilinear sampling alone would leave out most of them.
    """
    move = matrix(points, size=size, margin=margin)
    step = int(1 / max(float(np.hypot(move[0, 0], move[1, 0])), 1e-6))
    if step >= 2:
        corners = np.array([[0, 0], [size, 0], [0, size], [size, size]]) - move[:, 2]
        corners = corners @ np.linalg.inv(move[:, :2]).T
        high = np.minimum(np.ceil(corners.max(0)) + 2 * step, [image.shape[1], image.shape[0]]).astype(int)
        low = np.clip(np.floor(corners.min(0)) - 2 * step, 0, None).astype(int)
        if (high - low < step).any():
            return np.zeros((size, size, *image.shape[2:]), np.uint8)
        side = (high - low) // step
        image = image[low[1] : low[1] + side[1] * step, low[0] : low[0] + side[0] * step]
        image = cv2.resize(image, (int(side[0]), int(side[1])), interpolation=cv2.INTER_AREA)
        # Pixel i of the small picture has its middle at low + step (i + 1/2) - 1/2 of the large one.
        move = np.column_stack([move[:, :2] * step, move[:, :2] @ (low + (step - 1) / 2) + move[:, 2]])
    return cv2.warpAffine(np.ascontiguousarray(image), move, (size, size), flags=cv2.INTER_LINEAR)
