"""Faces cut out of larger pictures by boxes, and turned by landmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from emojax.data.decode import whole
from emojax.data.storage import Files, Unreadable
from emojax.errors import DataError

_EYES = slice(36, 42), slice(42, 48)
"""The points of both eyes among the usual 68 landmarks (Sagonas et al. 2013, 300 faces in-the-wild, ICCV workshops)."""

_FARTHEST = 1 << 20
"""Pixels; no picture that is read is as wide."""


def landmarks(cell: str, where: str) -> np.ndarray | None:
    """float64 [68, 2] of AffectNet's `x;y;x;y...`; None for an empty cell or NULL."""
    text = cell.strip()
    try:
        flat = [float(number) for number in text.split(";")] if text and text.upper() != "NULL" else []
    except ValueError as error:
        raise DataError(f"{where}: face box and landmarks must be numbers: {error}") from error
    if len(flat) not in (0, 136):
        raise DataError(f"{where}: {len(flat)} numbers in facial_landmarks; expected 68 pairs x;y")
    if not all(abs(number) <= _FARTHEST for number in flat):
        raise DataError(f"{where}: a landmark lies outside of any picture")
    return np.reshape(flat, (68, 2)) if flat else None


@dataclasses.dataclass(frozen=True, slots=True)
class Face:
    """Box of a face, pixels, and the angle of the line through the eyes, degrees, positive where the right one (of the
    picture) is lower; 0 without landmarks."""

    box: tuple[int, int, int, int]
    angle: float

    @classmethod
    def parse(cls, row: Mapping[str, str], where: str) -> Face | None:
        """From AffectNet's columns; None where there is no face (its width is negative, or NULL)."""
        cells = [row[name].strip() for name in ("face_x", "face_y", "face_width", "face_height")]
        if cells[2].upper() == "NULL":
            return None
        try:
            left, top, width, height = (int(float(cell)) for cell in cells)
        except (ValueError, OverflowError) as error:  # infinity is no integer
            raise DataError(f"{where}: face box and landmarks must be numbers: {error}") from error
        points = landmarks(row["facial_landmarks"], where)
        if max(map(abs, (left, top, width, height))) > _FARTHEST:
            raise DataError(f"{where}: face box {', '.join(cells)} lies outside of any picture")
        if width <= 0 or height <= 0:
            return None
        if points is None:
            return cls((left, top, width, height), 0.0)
        first, second = (points[part].mean(0) for part in _EYES)
        x, y = second - first
        return cls((left, top, width, height), float(np.degrees(np.arctan2(y, x))))


@dataclasses.dataclass(frozen=True, slots=True)
class Faces:
    """`Faces(files, box, angle)[i]` decodes file i and returns its face, uint8 [h, w] or [h, w, 3].

    Attributes:
      files: the pictures.
      box: int32 [N, 4]; left, top, width, height.
      angle: float32 [N], degrees; the picture is turned back by it about the middle of the box first.
    """

    files: Files
    box: np.ndarray
    angle: np.ndarray

    @classmethod
    def of(cls, files: Files, faces: Sequence[Face], *, level: bool) -> Faces:
        """The faces in the order of `files`; `level` turns them until the eyes are level."""
        box = np.array([face.box for face in faces], np.int32).reshape(-1, 4)
        return cls(files, box, np.array([face.angle if level else 0.0 for face in faces], np.float32))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> np.ndarray:
        image = whole(self.files[i])
        left, top, width, height = self.box[i].tolist()
        if angle := float(self.angle[i]):
            middle = (left + width / 2, top + height / 2)
            turn = cv2.getRotationMatrix2D(middle, angle, 1.0)
            size = (image.shape[1], image.shape[0])
            image = cv2.warpAffine(image, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        cut = image[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)]
        if cut.size == 0:
            raise Unreadable(f"the face box {left},{top},{width},{height} lies outside of the picture")
        return np.ascontiguousarray(cut)
