"""How many planted copies the search finds, what else it flags, and how long it takes.

    python scripts/bench_copies.py --images=100000 --planted=1000 --data=FOLDER

Takes the pictures of a data set (or drawn ones), one of each content; where there are fewer than --images, also turned
upside down and transposed, which no copy is. Pictures between which the search finds copies before anything is planted
are left out: what is planted then has one copy, and every other pair is a false alarm, or a copy that the first search
missed; --sheet shows these pairs, for only eyes can tell. Prints one JSON object: seconds of thumbnails and of the
search, seconds of processor time, the share found of each kind, and the share of images in pairs that nobody planted.
"""

import argparse
import io
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import pictures  # noqa: E402  # pyright: ignore[reportMissingImports]
from PIL import Image  # noqa: E402

from emojax.config import DataConfig  # noqa: E402
from emojax.data import decode, near_duplicates, sources, thumbnails  # noqa: E402


def ignore(done: int, total: int) -> None:
    """No progress is shown."""


def unique(data: str, count: int) -> list[np.ndarray]:
    """Pictures of different contents, as arrays."""
    if not data:
        return list(pictures.drawn(count))
    dataset, digests = sources.open_with_digests(DataConfig(path=data), cache=None, progress=ignore)
    found: dict[str, np.ndarray] = {}
    for name, split in dataset.splits.items():
        for i, digest in enumerate(digests[name]):
            image = split.images[i]
            if digest not in found:
                found[digest] = image if isinstance(image, np.ndarray) else decode.whole(image)
    return list(found.values())


def many(originals: list[np.ndarray], count: int) -> list[np.ndarray]:
    """`count` pictures: the originals, then upside down, then transposed, then both; none is another's mirror image."""
    turned = [
        originals,
        [image[::-1] for image in originals],
        [np.swapaxes(image, 0, 1) for image in originals],
        [np.swapaxes(image, 0, 1)[::-1] for image in originals],
    ]
    return [np.ascontiguousarray(image) for part in turned for image in part][:count]


def timed(images: list[np.ndarray]) -> tuple[near_duplicates.Pairs, dict[str, float]]:
    start, cpu = time.perf_counter(), time.process_time()
    looks = thumbnails.look(images, np.arange(len(images)), progress=ignore)
    middle, middle_cpu = time.perf_counter(), time.process_time()
    pairs = near_duplicates.search(looks.thumbs)
    return pairs, {
        "look_seconds": round(middle - start, 1),
        "look_cpu_seconds": round(middle_cpu - cpu, 1),
        "search_seconds": round(time.perf_counter() - middle, 1),
        "search_cpu_seconds": round(time.process_time() - middle_cpu, 1),
    }


def sheet(images: list[np.ndarray], pairs: list[tuple[int, int]]) -> bytes:
    """PNG, eight pairs a row."""
    cells = [
        np.concatenate([np.asarray(Image.fromarray(images[i]).convert("L").resize((72, 72))) for i in pair], 1)
        for pair in pairs
    ]
    cells += [np.zeros_like(cells[0])] * (-len(cells) % 8)
    rows = [np.concatenate(cells[start : start + 8], 1) for start in range(0, len(cells), 8)]
    data = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(data, "PNG")
    return data.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--planted", type=int, default=1000, help="copies of each kind")
    parser.add_argument("--data", default="", help="a data set; empty = drawn pictures")
    parser.add_argument("--sheet", type=Path, help="PNG of the pairs that nobody planted; not for the repository")
    options = parser.parse_args()
    images = many(unique(options.data, options.images), options.images)
    pairs, times = timed(images)
    n, rng = len(images), np.random.default_rng(1)
    single = np.setdiff1d(np.arange(n), pairs.index)
    kinds = {**pictures.CHANGES, "all together (no bar)": pictures.together}
    chosen = rng.permutation(single)[: options.planted * len(kinds)].reshape(len(kinds), -1)
    planted = [change(images[i], rng) for change, row in zip(kinds.values(), chosen, strict=True) for i in row.tolist()]
    alone = [images[i] for i in single.tolist()]
    place = {int(i): k for k, i in enumerate(single.tolist())}
    again, _ = timed([*alone, *planted])
    expected = [(place[int(i)], len(alone) + k) for k, i in enumerate(chosen.ravel().tolist())]
    found = set(map(tuple, again.index.tolist()))
    hits = np.array([pair in found for pair in expected]).reshape(chosen.shape)
    others = sorted(found - set(expected))
    if options.sheet and others:
        options.sheet.write_bytes(sheet([*alone, *planted], others))
    result = {
        "images": n,
        "cores": len(os.sched_getaffinity(0)),
        **times,
        "pairs_before_planting": len(pairs.index),
        "images_in_them": n - len(single),
        "planted_of_each_kind": options.planted,
        "found": {kind: float(row.mean()) for kind, row in zip(kinds, hits, strict=True)},
        "pairs_nobody_planted": len(others),
        "images_in_those": len({i for pair in others for i in pair}) / (len(alone) + len(planted)),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
