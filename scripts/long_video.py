"""Is the memory of `emojax predict` flat over a long video? Makes one, classifies it, and tells its memory over time.

    python scripts/long_video.py [--minutes=10] [--faces] [--overlay]

The video is synthetic: a coloured square that wanders, 160 x 120 pixels, 25 frames per second; with --faces a picture
of a face that ships with matplotlib. The model is a network of 4,000 parameters, trained for some seconds on squares.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
RATE, SIZE = 25, (160, 120)


def make_video(path: Path, *, frames: int, face: np.ndarray | None) -> None:
    """Writes the video frame by frame; `face` uint8 [80, 80, 3] BGR instead of squares."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, SIZE)
    colours = ((220, 30, 30), (30, 200, 30), (30, 30, 220))
    for i in range(frames):
        image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
        x, y = int(40 + 38 * np.sin(i / 40)), int(20 + 18 * np.cos(i / 53))
        image[y : y + 80, x : x + 80] = colours[i // 200 % 3] if face is None else face
        writer.write(image)
    writer.release()


def watched(command: list[str], out: Path) -> tuple[list[tuple[float, float, int]], float, str]:
    """[(seconds, MiB resident, bytes of `out`)] twice a second, all seconds, and what was told on stderr."""
    start = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    found: list[tuple[float, float, int]] = []

    def watch() -> None:
        one = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                size = one.memory_info().rss / 2**20
            except psutil.Error:
                return
            if size:  # a process that has just ended has no memory
                found.append((time.monotonic() - start, size, out.stat().st_size if out.exists() else 0))
            time.sleep(0.5)

    thread = threading.Thread(target=watch)
    thread.start()
    told = process.communicate()[1]
    thread.join()
    if process.returncode:
        raise SystemExit(told)
    return found, time.monotonic() - start, told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--faces", action="store_true")
    parser.add_argument("--overlay", action="store_true")
    options = parser.parse_args()

    import tiny  # pyright: ignore[reportMissingImports]
    from matplotlib import cbook

    from emojax import train

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        data = tiny.make_folder(place / "data")
        train.run(tiny.config(data, stages=(tiny.StageConfig(epochs=1),)), str(place / "run"))
        face = None
        if options.faces:
            with Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
                face = np.asarray(image.convert("RGB").resize((80, 80)))[..., ::-1].copy()
        make_video(place / "long.mp4", frames=round(options.minutes * 60 * RATE), face=face)
        command = [sys.executable, "-m", "emojax.cli", "predict", f"--workdir={place / 'run'}", str(place / "long.mp4")]
        command += [f"--out={place / 'rows.csv'}"] + ["--faces"] * options.faces
        command += [f"--overlay={place / 'seen.mp4'}"] * options.overlay
        found, seconds, told = watched(command, place / "rows.csv")
        rows = len((place / "rows.csv").read_text().splitlines()) - 1
    # How long starting and compiling take depends on the machine: counted is from a third of the rows on.
    half = [(t, m) for t, m, size in found if size >= found[-1][2] / 3]
    slope = np.polyfit([t for t, _ in half], [m for _, m in half], 1)[0]
    print(told.strip())
    values = [m for _, m in half]
    print(
        json.dumps(
            {
                "rows": rows,
                "seconds": round(seconds, 1),
                "MiB_after_a_third": round(values[0], 1),
                "MiB_at_the_end": round(values[-1], 1),
                "MiB_most": round(max(m for _, m, _ in found), 1),
                "MiB_per_minute": round(60 * slope, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
