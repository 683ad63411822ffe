"""The sections whose two sides are processes that stay alive: train, infer, pipeline (images/s) and memory (bytes)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import bench_protocol
import bench_stats
from bench_protocol import Best
from bench_setting import Setting
from bench_works import FAST, Work


def rates(works: Sequence[Work], setting: Setting) -> Iterator[dict[str, Any]]:
    """One record per work, as soon as it is measured."""
    for work in works:
        with (
            setting.ours() as ours,
            setting.peer() as peer,
        ):  # new ones each time: nothing left over, nothing fragmented
            yield _rate(work, setting, ours, peer)


def _rate(work: Work, setting: Setting, ours: bench_protocol.Worker, peer: bench_protocol.Worker) -> dict[str, Any]:
    options = dict(work.options)
    if work.section == "pipeline":
        options["path"] = str(setting.pictures[options["pictures"]])
    mine, other = (
        bench_protocol.best(worker, work.section, options, trial=setting.seconds / 2, seconds=setting.seconds)
        for worker in (ours, peer)
    )
    settled = {"ours": mine.settle(), "peer": other.settle()}
    load: list[float] = []
    pairs = bench_stats.alternate(_watched(mine, peer, load), _watched(other, ours, load), rounds=setting.rounds)
    detail: dict[str, Any] = {"idle_load": round(max(load), 3), "settled": settled}
    counts = {
        "ours": mine.info.get("parameters"),
        "peer": other.info.get("parameters"),
        "torchvision": other.info.get("torchvision"),
    }
    if any(counts.values()):
        detail["parameters"] = {name: count for name, count in counts.items() if count}
    for name, side in (("ours", mine), ("peer", other)):
        detail.setdefault("tried", {})[name] = {k: bench_stats.rounded(v) for k, v in side.tried.items()}
    if work.section == "pipeline" and not options["workers"]:
        detail["stages_ms"] = ours.call("stages", options=options)
    return bench_stats.record(work, pairs, ours=_variant(mine), peer=_variant(other), **detail)


def _variant(side: Best) -> str:
    return ", ".join(filter(None, (side.variant, side.info.get("optimizer"))))


def _watched(side: Best, idle: bench_protocol.Worker, load: list[float]) -> Callable[[], float]:
    """`side.rate`, which also notes what share of a core the other process took meanwhile."""

    def rate() -> float:
        before, began = idle.call("cpu_seconds"), time.perf_counter()
        found = side.rate()
        load.append((idle.call("cpu_seconds") - before) / (time.perf_counter() - began))
        return found

    return rate


def memory(works: Sequence[Work], setting: Setting) -> Iterator[dict[str, Any]]:
    """Our step against our own plain step, and the training process against the peer's."""
    for work in works:
        options = dict(work.options)
        if options.get("process"):
            pairs = [
                (_process_bytes(setting.ours, work, FAST["ours"]), _process_bytes(setting.peer, work, FAST["peer"]))
            ]
            yield bench_stats.record(work, pairs, ours=FAST["ours"], peer=FAST["peer"])
            continue
        options["variant"] = FAST["ours"]
        plain = {key: options[key] for key in ("model", "size", "batch", "variant")}
        with setting.ours() as ours:
            found = [ours.call("memory", options=given) for given in (options, plain)]
        pair = found[0][options["number"]], found[1][options["number"]]
        detail = {"ours": found[0], "plain": found[1]}
        yield bench_stats.record(work, [pair], ours=FAST["ours"], peer="emojax, plain step", bytes=detail)


def _process_bytes(start: Callable[[], bench_protocol.Worker], work: Work, variant: str) -> float:
    """The most memory of a process that has trained three steps in that variant, and nothing before."""
    options = dict(work.options)
    with start() as worker:
        worker.call("prepare", section="train", options=options, variant=variant)
        worker.call("measure", variant=variant, n=3)
        return worker.call("peak_bytes")
