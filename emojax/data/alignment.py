"""Whether two thumbnails show one picture: they are laid on each other, and what remains different is judged.

The second thumbnail is moved and stretched along each axis until it correlates best with the first, by the inverse
compositional algorithm (Baker & Matthews 2004, "Lucas-Kanade 20 years on", IJCV 56) at 16 and then at 32 pixels; gain
and offset of the brightness do not matter. Then two numbers over the part that both show:

- `detail`: correlation of the band-passed pictures. Coarse shapes, which many portraits share, do not count.
- `worst`: the largest share of the band-passed energy by which any window of 8 x 8 pixels differs. It tells two
  drawings apart that differ in their mouths alone.

Limits were chosen on FER2013 (30,618 different pictures of faces), CIFAR-10 and emoji: 99.5 % of crops that keep 90 %
of the area, JPEGs of quality 30 and brightness changes with clipping stay inside all of them, and nearly all pairs of
different faces stay below a detail of 0.88. Drawings are harder: two emoji of one set may share all but the mouth. A
worst difference therefore costs detail (two faces of an emoji set have both of middling size, a crop rarely has), and
`certain` is for drawings whose labels say that they are two pictures. Photographs do not come so close: by eye, all of
100 pairs of FER2013 with two labels that `certain` would doubt show one photograph.
"""

from __future__ import annotations

import numpy as np

DETAIL, WORST = 0.9, 0.3
"""A copy has at least this detail, and at most this worst difference."""

COST = 0.15
"""Detail that a worst difference of 1 costs: halves the pairs of different emoji, and takes 0.2 % of planted copies."""

SURE_DETAIL, SURE_WORST = 0.98, 0.1
"""Of drawings with different labels. Different emoji with other labels have a detail of up to 0.97, nine of ten planted
copies of faces more than 0.98."""

_ROUGH = 0.85
"""Least correlation at 16 pixels of pairs that are looked at in full; copies have 0.9 and more."""

_WINDOW, _STRIDE = 8, 4
_LIMIT = 0.2
"""Largest move and stretch, in sides of the picture."""


def judge(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(detail, worst), float32 [P] each, of P pairs of thumbnails, uint8 [P, 32, 32]; 0 and inf for hopeless pairs."""
    detail, worst = np.zeros(len(first), np.float32), np.full(len(first), np.inf, np.float32)
    a, b = first.astype(np.float32), second.astype(np.float32)
    move, rough = _fit(_halved(a), _halved(b), np.zeros((len(a), 4), np.float32), steps=6)
    kept = np.flatnonzero(rough >= _ROUGH)
    if kept.size:
        a, b = a[kept], b[kept]
        move, _ = _fit(a, b, move[kept], steps=4)
        detail[kept], worst[kept] = _compared(a, b, move)
    return detail, worst


def alike(detail: np.ndarray, worst: np.ndarray) -> np.ndarray:
    """bool [P]: the pairs look like one picture."""
    return (detail - COST * worst >= DETAIL) & (worst <= WORST)


def certain(detail: np.ndarray, worst: np.ndarray) -> np.ndarray:
    """bool [P]: the pairs are one picture, whatever is said about them."""
    return (detail >= SURE_DETAIL) & (worst <= SURE_WORST)


def moved(image: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(moved pictures, 1 where they have pixels and 0 outside), float32 [P, S, S] each.

    Args:
      image: float32 [P, S, S].
      move: float32 [P, 4]: stretch and shift in x, then in y. Pixel x, counted from the centre in sides of the
        picture, is read at (1 + stretch) x + shift, linearly between neighbours.
    """
    side = image.shape[1]
    x = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)

    def matrix(stretch: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        place = (x * (1 + stretch)[:, None] + shift[:, None] + 0.5) * side - 0.5
        inside = (place >= -0.5) & (place <= side - 0.5)
        distance = np.abs(np.clip(place, 0, side - 1)[:, :, None] - np.arange(side, dtype=np.float32))
        return np.maximum(0, 1 - distance), inside

    (across, in_x), (down, in_y) = matrix(move[:, 0], move[:, 1]), matrix(move[:, 2], move[:, 3])
    return down @ image @ across.transpose(0, 2, 1), (in_y[:, :, None] & in_x[:, None, :]).astype(np.float32)


def _normed(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean 0 and length 1 inside the mask, 0 outside."""
    mean = (image * mask).sum((1, 2), keepdims=True) / np.maximum(mask.sum((1, 2), keepdims=True), 1)
    image = (image - mean) * mask
    return image / (np.sqrt((image * image).sum((1, 2), keepdims=True)) + 1e-6)


def _fit(first: np.ndarray, second: np.ndarray, move: np.ndarray, *, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """(the best move [P, 4] of `second`, correlation [P]) after `steps` Gauss-Newton steps from `move`."""
    pairs, side = len(first), first.shape[1]
    x = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32)
    template = _normed(first, np.ones_like(first))
    down, across = (side * part for part in np.gradient(template, axis=(1, 2)))
    slopes = np.stack([across * x, across, down * x[:, None], down], 1).reshape(pairs, 4, -1)
    flat = template.reshape(pairs, -1)
    slopes -= slopes.mean(2, keepdims=True)
    slopes -= (slopes @ flat[:, :, None]) * flat[:, None, :]  # gain and offset explain nothing of a move
    hessian = slopes @ slopes.transpose(0, 2, 1)
    ridge = 2.5e-4 * np.trace(hessian, axis1=1, axis2=2) + 1e-9
    inverse = np.linalg.inv(hessian + np.eye(4, dtype=np.float32) * ridge[:, None, None])
    best, kept = np.full(pairs, -2, np.float32), move.copy()
    for step in range(steps + 1):
        image, mask = moved(second, move)
        image, template = _normed(image, mask), _normed(first, mask)
        found = (image * template).sum((1, 2))
        better = found > best
        best, kept[better] = np.where(better, found, best), move[better]
        if step == steps:
            break
        change = (inverse @ (slopes @ (image - template).reshape(pairs, -1, 1)))[:, :, 0].clip(-0.1, 0.1)
        stretch, shift = (1 + move[:, ::2]) / (1 + change[:, ::2]), move[:, 1::2].copy()
        shift -= stretch * change[:, 1::2]
        move = np.stack([stretch - 1, shift], 2).reshape(pairs, 4).clip(-_LIMIT, _LIMIT).astype(np.float32)
    return kept, best


def _compared(first: np.ndarray, second: np.ndarray, move: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(detail, worst) [P] each, of pictures 32 pixels wide and the move of `second`."""
    image, mask = moved(second, move)
    a, b = _normed(_band(first), mask), _normed(_band(image), mask)
    energy = _windows(a * a) + _windows(b * b)
    usual = 2 * _WINDOW**2 / np.maximum(mask.sum((1, 2)), 1)[:, None, None]  # of a window, were all alike
    worst = (_windows((a - b) ** 2) / (energy + usual / 2)).max((1, 2))
    return (a * b).sum((1, 2)), worst


def _windows(image: np.ndarray) -> np.ndarray:
    """Sums over windows of 8 x 8 pixels, every 4 pixels."""
    total = np.pad(image, ((0, 0), (1, 0), (1, 0))).cumsum(1).cumsum(2)
    high, low = slice(_WINDOW, None, _STRIDE), slice(0, -_WINDOW, _STRIDE)
    return total[:, high, high] - total[:, low, high] - total[:, high, low] + total[:, low, low]


def _halved(image: np.ndarray) -> np.ndarray:
    side = image.shape[1] // 2
    return image.reshape(len(image), side, 2, side, 2).mean((2, 4))


def _blur(sigma: float, side: int) -> np.ndarray:
    """float32 [S, S]: Gaussian blur along one axis, mirrored at the ends, as a matrix."""
    radius = int(4 * sigma + 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    places = np.pad(np.arange(side), radius, mode="reflect")
    matrix = np.zeros((side, side))
    for i in range(side):
        np.add.at(matrix[i], places[i : i + 2 * radius + 1], kernel / kernel.sum())
    return matrix.astype(np.float32)


_FINE = _blur(0.7, 32)
_COARSE = _FINE @ _blur(1.5, 32)


def _band(image: np.ndarray) -> np.ndarray:
    """What is coarser than noise (sigma 0.7) and finer than shading (sigma 1.5)."""
    return _FINE @ image @ _FINE.T - _COARSE @ image @ _COARSE.T
