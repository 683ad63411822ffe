"""Pictures for the tests of copies: drawn ones, real ones where they lie beside the checkout, and changes of them."""

import io

import cv2
import numpy as np
import pyarrow.parquet
from conftest import shared_data
from PIL import Image


def drawn(count: int, *, side: int = 48, seed: int = 0) -> np.ndarray:
    """uint8 [count, side, side, 3]: ellipses and lines over a shaded ground, every picture another one."""
    rng = np.random.default_rng(seed)
    pictures = np.empty((count, side, side, 3), np.uint8)
    for picture in pictures:
        corners = rng.integers(30, 220, (2, 2, 3)).astype(np.uint8)
        canvas = cv2.resize(corners, (4 * side, 4 * side), interpolation=cv2.INTER_LINEAR)
        for _ in range(rng.integers(5, 12)):
            centre, axes = rng.integers(0, 4 * side, 2).tolist(), rng.integers(side // 4, 3 * side // 2, 2).tolist()
            colour = rng.integers(0, 256, 3).tolist()
            cv2.ellipse(canvas, centre, axes, int(rng.integers(0, 180)), 0, 360, colour, int(rng.choice([-1, 6, 12])))
        picture[:] = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return pictures


def photographed(count: int, *, side: int = 48, seed: int = 0) -> np.ndarray:
    """uint8 [count, side, side]: clouds of many scales, with all grey levels of a photograph, no two alike."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, side, side), np.float32)
    for picture in pictures:
        for wave in (3, 6, 12, 24):
            noise = rng.normal(size=(side // wave + 3, side // wave + 3)).astype(np.float32)
            picture[:] += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC) * wave**0.7
        picture[:] += rng.normal(0, 0.2, (side, side))
    spread = pictures.std((1, 2), keepdims=True)
    return np.clip(128 + 50 * pictures / spread, 0, 255).astype(np.uint8)


def faces(split: str) -> list[np.ndarray] | None:
    """uint8 [48, 48] each: real faces, or None where they are not."""
    folder = shared_data()
    path = folder / "fer2013plus" / f"{split}.parquet" if folder else None
    if path is None or not path.is_file():
        return None
    column = pyarrow.parquet.read_table(path, columns=["image"]).column("image").to_pylist()
    return [np.asarray(Image.open(io.BytesIO(row["bytes"]))) for row in column]


def cropped(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """At least 90 % of the area, of any shape and from anywhere, in whole pixels."""
    height, width = picture.shape[:2]
    wide = int(np.ceil(width * 0.9 ** rng.uniform(0, 1)))
    high = int(np.ceil(0.9 * height * width / wide))
    left, top = rng.integers(0, width - wide + 1), rng.integers(0, height - high + 1)
    return picture[top : top + high, left : left + wide]


def cropped_back(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(cropped(picture, rng), picture.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def mirrored(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return picture[:, ::-1]


def encoded(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A JPEG of quality 30 to 90."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(data, "JPEG", quality=int(rng.integers(30, 91)))
    return np.asarray(Image.open(data))


def shifted(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brighter or darker, by up to 40 levels or 35 %, clipped."""
    if rng.integers(2):
        return np.clip(picture.astype(float) + rng.uniform(-40, 40), 0, 255).astype(np.uint8)
    return np.clip(picture * rng.uniform(0.65, 1.35), 0, 255).astype(np.uint8)


def together(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Everything at once: more than the bar asks for."""
    return encoded(shifted(cropped(mirrored(picture, rng), rng), rng), rng)


CHANGES = {
    "mirrored": mirrored,
    "cropped": cropped,
    "cropped, resized back": cropped_back,
    "JPEG": encoded,
    "brightness": shifted,
}
