"""The aligned faces of a picture: decoded, found, cut out."""

from __future__ import annotations

import dataclasses

import numpy as np

from emojax.data import face_template
from emojax.data.decode import decode
from emojax.data.face_detector import Detection, Detector
from emojax.data.storage import Unreadable, read_file

NO_FACE = "no face found"


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What was found in a picture: faces, their crops uint8 [S, S, 3] in the same order, and why there are none."""

    faces: list[Detection]
    crops: list[np.ndarray]
    error: str


def of_file(path: str, detector: Detector, *, size: int, margin: float) -> Look:
    """The faces of a picture file, the largest first."""
    try:
        image = decode(read_file(path))
    except Unreadable as error:
        return Look([], [], str(error))
    return of_image(image, detector, size=size, margin=margin)


def of_image(image: np.ndarray, detector: Detector, *, size: int, margin: float) -> Look:
    """The faces of uint8 [H, W, 3], the largest first."""
    faces, crops = [], []
    for face in detector(image):
        try:
            crops.append(face_template.crop(image, face.points, size=size, margin=margin))
        except ValueError:  # five points in one place are no face
            continue
        faces.append(face)
    return Look(faces, crops, "" if faces else NO_FACE)


def side(image_size: int, crop: float) -> int:
    """Pixels of a face so that the central `crop` of it is shown to the model as it was cut out."""
    return round(image_size / crop)
