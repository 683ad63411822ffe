"""scripts/bench.py: ratios by hand, the page from its JSON, and the protocol from end to end."""
# ruff: noqa: E402 (the scripts are no package: their folder must be on the path first)

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import bench
import bench_page
import bench_protocol
import bench_setting
import bench_stats
import bench_works
from bench_protocol import BenchError, Worker


def work(**changes):
    return bench_works.Work(**(dict(section="train", name="net", unit="images/s", at_least=1.0, aim=1.5) | changes))


def entry(pairs, **changes):
    return bench_stats.record(work(**changes), pairs, ours="float32", peer="bfloat16")


def found(*records):
    return {
        "date": "2026-01-02",
        "quick": False,
        "rounds": 3,
        "machine": {"cpu": "Some CPU", "cores": 2, "memory_gib": 8, "system": "Linux"},
        "devices": "1 x cpu (cpu)",
        "switches": {},
        "versions": {"ours": {"jax": "1.0"}, "peer": {"torch": "2.0"}},
        "records": list(records),
    }


def test_more_images_and_fewer_seconds_are_better():
    assert bench_stats.ratio(200.0, 100.0, "images/s") == 2.0
    assert bench_stats.ratio(2.0, 1.0, "s") == 0.5
    assert bench_stats.ratio(1.0, 4.0, "bytes") == 4.0
    assert bench_stats.ratio(0.0, 0.0, "share") == 1.0


def test_a_record_has_medians_their_ratio_and_the_range_of_paired_ratios():
    record = entry([(100.0, 50.0), (120.0, 100.0), (300.0, 60.0)])
    assert (record["ours"], record["peer"], record["ratio"]) == (120.0, 60.0, 2.0)
    assert record["ours_range"] == [100.0, 300.0]
    assert record["peer_range"] == [50.0, 100.0]
    assert record["ratio_range"] == [1.2, 5.0]
    assert {"section", "work", "ours", "peer", "ratio"} <= record.keys()


@pytest.mark.parametrize(
    ("pair", "changes", "expected"),
    [
        ((0.9, 1.0), {}, "missed"),
        ((1.2, 1.0), {}, "met"),
        ((1.5, 1.0), {}, "aim"),
        ((1.0, 1.5), {"unit": "s"}, "aim"),
        ((13.0, 99.0), {"unit": "s", "at_least": 12.0, "aim": None, "bar_on": "ours"}, "missed"),
        ((11.0, 1.0), {"unit": "s", "at_least": 12.0, "aim": None, "bar_on": "ours"}, "met"),
        ((1.0, 1.0), {"at_least": None, "aim": None}, ""),
    ],
)
def test_verdicts(pair, changes, expected):
    assert bench_stats.verdict(entry([pair], **changes)) == expected


def test_the_sides_take_turns():
    order = []
    pairs = bench_stats.alternate(lambda: order.append("a") or 1, lambda: order.append("b") or 2, rounds=3)
    assert order == ["a", "b"] * 3
    assert pairs == [(1, 2)] * 3


def test_names_are_unique_and_every_section_has_work():
    names = [(w.section, w.name) for w in bench_works.WORKS]
    assert len(set(names)) == len(names)
    assert {section for section, _ in names} == set(bench_works.SECTIONS) == set(bench.MEASURE)
    assert [w.name for w in bench_works.selected("train", "RESNET-18")] == ["ResNet-18, 64 px, batch 32"]


def test_the_page_shows_numbers_bars_and_differences_and_keeps_the_prose():
    record = entry([(1.0, 2.0)], unit="s", section="startup", at_least=8.0, aim=None, bar_on="ours")
    record["detail"]["parameters"] = {"ours": 10, "peer": 11}
    old = f"old\n{bench_page.MARK}\n\n## Limits\n\nProse.\n"
    text = bench_page.page(found(entry([(120.0, 100.0)]), record), old)
    assert "| net | 120 images/s | 100 images/s | 1.20 [1.20 to 1.20] | 1 | 1.5 | met | float32 | bfloat16 |" in text
    assert "≤ 8.00 s" in text
    assert "parameters differ: ours 10, peer 11" in text
    assert text.endswith("\n\n## Limits\n\nProse.\n")
    assert bench_page.page(found(entry([(120.0, 100.0)]), record), text) == text


def test_the_chart_is_drawn(tmp_path):
    bench_page.chart(found(entry([(120.0, 100.0)]), entry([(3.0, 2.0)], unit="s")), tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_updates_replace_records_and_refuse_other_machines():
    stored, new = found(entry([(1.0, 1.0)]), entry([(1.0, 1.0)], name="other")), found(entry([(2.0, 1.0)]))
    assert [r["ratio"] for r in bench.updated(stored, new)["records"]] == [2.0, 1.0]
    with pytest.raises(BenchError, match="another machine"):
        bench.updated(stored, {**new, "machine": {}})


def test_the_page_in_the_repository_is_made_from_its_json():
    text = (ROOT / "docs/performance.md").read_text()
    assert text == bench_page.page(json.loads((ROOT / "docs/performance.json").read_text()), text)


def test_synthetic_faces_are_the_same_at_every_call(tmp_path):
    import bench_pictures
    import pyarrow.parquet as pq

    tables = [pq.read_table(bench_pictures.faces(tmp_path / n, count=8) / "train.parquet") for n in "ab"]
    assert tables[0].equals(tables[1])


def test_ours_answers_the_protocol_and_its_errors_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = {"model": "squeezenet1_1", "size": 32, "batch": 2}
    command = [sys.executable, str(ROOT / "scripts/bench_ours.py")]
    with Worker("emojax", command, {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}) as worker:
        assert worker.call("hello")["versions"]["jax"]
        side = bench_protocol.best(worker, "infer", options, trial=0.01, seconds=0.02)
        assert side.variant in side.tried and len(side.tried) == 3
        assert side.rate() > 0
        assert worker.call("peak_bytes") > 1e6
        with pytest.raises(BenchError, match="emojax: KeyError"):
            worker.call("measure", variant="unknown", n=1)
        assert worker.call("cpu_seconds") > 0


def run_bench(*arguments):
    command = [sys.executable, str(ROOT / "scripts/bench.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_what_is_missing_is_refused_in_one_line(tmp_path):
    for python, expected in (("", "--peer-python is missing"), ("no/such/python", "cannot be started")):
        result = run_bench("train", f"--peer-python={python}")
        assert result.returncode == 1
        assert expected in result.stderr and len(result.stderr.splitlines()) == 1
    with pytest.raises(BenchError, match="the peer's Python lacks onnx, onnxruntime, onnxscript, timm; install"):
        bench_setting.check_peer({"torch": "2.0"}, "infer")


@pytest.mark.peers
def test_one_work_against_the_peer(tmp_path):
    python = os.environ.get("EMOJAX_PEER_PYTHON", sys.executable)
    if python == sys.executable and not all(map(importlib.util.find_spec, ("torch", "timm"))):
        pytest.skip("needs torch and timm here, or their interpreter in EMOJAX_PEER_PYTHON")
    output = tmp_path / "out.json"
    arguments = ("--quick", "--rounds=1", "--only=convnext-atto", f"--json={output}")
    result = run_bench("train", f"--peer-python={python}", *arguments)
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(output.read_text())
    assert record["section"] == "train" and record["ratio"] > 0
    assert len(set(record["detail"]["parameters"].values())) == 1
    assert "ratio" in result.stdout
