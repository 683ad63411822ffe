"""The sections of docs/reliability.md: what is counted, how often, and in words how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import soak_damage
import soak_measures
import soak_runs
import soak_scale
from soak_record import Unit
from soak_setting import Setting


@dataclasses.dataclass(frozen=True)
class Section:
    """Attributes:
    units: (setting, number of the first unit) -> units.
    count: how many make the bar.
    what, bar: of the table.
    how: a paragraph.
    """

    units: Callable[[Setting, int], Iterator[Unit]]
    count: int
    what: str
    bar: str
    how: str


SECTIONS = {
    "kills": Section(
        soak_runs.kills,
        300,
        "SIGKILL at random moments, then resume",
        "300 / 300 bit-identical",
        "A chain is one training that is killed and started again until it comes to its end. Then every array "
        "of its last checkpoint and of its result (weights, statistics, moments, averages), every row of "
        "metrics.jsonl (with losses and the digest of the records seen) and every prediction are compared "
        "with those of the run that was left alone, and all arrays on the disk with their digests. Half of "
        "the kills come at a moment drawn from the whole life of a run, the others at a random moment of a "
        "phase that is drawn first, so that short phases are met too. Counted are kills that met a living "
        "process; one difference at the end fails all kills of its chain. The training: 18 updates on 24-px "
        "pictures, a checkpoint after each, augmentation, mixing, dropout, drop-path, BatchNorm, Adam, EMA, "
        "accumulation, two stages, three evaluations. Processes are forked from one that has imported emojax "
        "and has not yet used a device; from there on they run what `python -m emojax.main` runs. This makes "
        "a kill cost two seconds instead of ten, and leaves out imports; see the next section. Some chains "
        "begin with an empty compile cache.",
    ),
    "interpreters": Section(
        soak_runs.interpreters,
        20,
        "SIGKILL of fresh interpreters, then resume",
        "20 / 20 bit-identical",
        "As above, with `python -m emojax.main` in an interpreter of its own for every life, at moments drawn "
        "from the whole of it, imports included; every second chain with two loader processes. Every second "
        "kill goes to the whole process group.",
    ),
    "signals": Section(
        soak_runs.signals,
        40,
        "SIGTERM in training, evaluation, compilation, saving, and to the group with loader processes",
        "40 / 40 saved, 0 updates lost",
        "One signal per run, at a random moment of the phase. The run must end with exit code 143, its newest "
        "checkpoint must be of the very update that was done last, and the continued run must end as one that "
        "was left alone, compared as above.",
    ),
    "workers": Section(
        soak_runs.loaders,
        10,
        "SIGKILL of a loader process",
        "10 / 10 trainings end bit-identical",
        "A training with two loader processes loses one of them at a random moment. It must end by itself, "
        "with the same arrays and rows as one that was left alone.",
    ),
    "flips": Section(
        soak_damage.flips,
        100,
        "single bits flipped, and files cut off, in the newest checkpoint",
        "100 / 100 noticed or without effect, 0 silent",
        "A run is stopped; one file of its newest checkpoint gets one flipped bit, or loses its end; the run "
        "goes on, and must end as one that was left alone. Every second time the file is drawn from all "
        "files, else the byte from all bytes. Damage is noticed when the run goes on from the checkpoint "
        "before, and the damaged one is set aside. It is harmless when the run goes on from the damaged "
        "checkpoint with all arrays equal to their digests: nothing reads that byte. Anything else is a "
        "failure.",
    ),
    "crash points": Section(
        soak_damage.crash_points,
        15,
        "the process dies at named points of saving, recording and reporting",
        "all: a complete checkpoint remains, the end is bit-identical",
        "The tests of tests/faults/test_crash_points.py, counted.",
    ),
    "controls": Section(
        soak_damage.controls,
        8,
        "negative controls: one part left out of what a resumed run gets back",
        "the comparison fails each time",
        "The tests of tests/faults/test_controls.py, counted: the run's average, a moment of Adam, a batch "
        "statistic, a weight, the records seen, the position in the data, the random key.",
    ),
    "data faults": Section(
        soak_damage.data_faults,
        18,
        "corrupt images at 0.1, 1 and 10 %, decompression bombs, odd images, hostile names and CSV paths, changed data",
        "all: exact counts and tensors; bombs < 0.5 s and < 100 MB",
        "The tests of tests/faults/test_data_faults.py, counted.",
    ),
    "devices": Section(
        soak_scale.devices,
        21,
        "1, 2, 4, 8 virtual devices, data parallel, FSDP and mixed; continued on another mesh",
        "same loss curve and weights to 1e-5, same records; FSDP holds less per device",
        "The curve of 18 updates on every mesh against that on one device: the largest difference relative to "
        "1 + the loss. Then runs that are stopped on one mesh and continued on another: the arrays that are "
        "restored have the digests that were saved, so they are bit-equal; the digests of all records must be "
        "those of the run that stayed, and the weights at the end within the limit, relative to 1 + their "
        "size.",
    ),
    "processes": Section(
        soak_scale.processes,
        8,
        "2 processes (`jax.distributed`, loopback), one killed",
        "the other ends in 15 s, both are restarted, bit-identical end",
        "Under `emojax launch`, which restarts both; then compared with the two-process run that was left "
        "alone. Every fourth time without it, to see that the other process ends by itself. Heartbeat: 10 s.",
    ),
    "memory": Section(
        soak_measures.memory,
        4,
        "memory over 30 epochs with an evaluation after each",
        "< 1 MB per epoch, no growth of child processes, descriptors, threads",
        "Resident memory of the training process after every evaluation, after ten epochs of warm-up: slope "
        "of the least-squares line.",
    ),
    "cost": Section(
        soak_measures.cost,
        1,
        "a checkpoint after every update of the emoji recipe",
        "adds < 10 % to an update, digests included",
        "Updates without a checkpoint and with one after each, in turns; medians.",
    ),
}
