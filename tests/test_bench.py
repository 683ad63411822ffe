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
import bench_stored
import bench_works
from bench_protocol import BenchError, Worker


def work(**changes):
    return bench_works.Work(**(dict(section="train", name="net", unit="images/s", at_least=1.0, aim=1.5) | changes))


def entry(pairs, **changes):
    record = bench_stats.record(work(**changes), pairs, ours="float32", peer="bfloat16")
    return {**record, "date": "2026-01-02", "commit": "abc1234"}


def setting(**changes):
    given = dict(peer_python="", rounds=3, seconds=1.0, folder=ROOT, jpegs=1, faces=80) | changes
    return bench_setting.Setting(**given)


def stored_page():
    return json.loads((ROOT / "docs/performance.json").read_text())


def key(row):
    return row["section"], row["work"]


def found(*records):
    return {
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


def test_a_ceiling_on_our_number_has_no_peer_and_no_ratio():
    record = entry([(11.0, 1.0), (12.0, 2.0)], unit="s", at_least=12.0, aim=None, bar_on="ours")
    assert [record[name] for name in ("peer", "ratio", "peer_range", "ratio_range")] == [None] * 4
    assert record["peer_variant"] == "" and record["ours"] == 11.5
    assert "ratio" not in bench_stats.line(record) and "11.5" in bench_stats.line(record)
    assert "| net | 11.5 s [11.0 to 12.0] |  |  | ≤ 12.0 s |  | met | 2 |" in bench_page.page(found(record))


def test_a_number_that_the_peer_does_not_say_is_an_error():
    import bench_processes

    compared = work(unit="s", options={"number": "compile"})
    with pytest.raises(BenchError, match="net: the peer does not say its 'compile'"):
        bench_processes._record(compared, [({"seconds": 9.0, "compile": 4.0}, {"seconds": 3.0})], "a", "b")


def test_warming_up_ends_when_two_times_agree_or_after_a_while():
    rates = iter([10.0, 20.0, 30.0, 30.9, 99.0])
    assert bench_protocol.settled(lambda: next(rates))
    assert next(rates) == 99.0
    doubling = iter([2.0**i for i in range(9)])
    assert not bench_protocol.settled(lambda: next(doubling), most=5)
    assert next(doubling) == 32.0


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
    assert (
        "| net | 120 images/s | 100 images/s | 1.20 | 1 | 1.5 | met | 1 | float32 | bfloat16 | 2026-01-02 abc1234 |"
        in text
    )
    assert "≤ 8.00 s" in text
    assert "parameters differ: ours 10, peer 11" in text
    assert text.endswith("\n\n## Limits\n\nProse.\n")
    assert bench_page.page(found(entry([(120.0, 100.0)]), record), text) == text


def test_the_chart_is_drawn(tmp_path):
    bench_page.chart(found(entry([(120.0, 100.0)]), entry([(3.0, 2.0)], unit="s")), tmp_path / "chart.png")
    assert (tmp_path / "chart.png").stat().st_size > 1000


def test_updates_replace_records_and_refuse_other_machines():
    stored, new = found(entry([(1.0, 1.0)]), entry([(1.0, 1.0)], name="other")), found(entry([(2.0, 1.0)]))
    assert [r["ratio"] for r in bench_stored.updated(stored, new["records"])["records"]] == [2.0, 1.0]
    with pytest.raises(BenchError, match="another machine"):
        bench_stored.check_update(stored, {**new, "machine": {}}, [], setting())
    bench_stored.check_update(stored, new, [work()], setting(rounds=1))


def test_real_and_synthetic_faces_are_not_mixed(tmp_path):
    import bench_pictures

    synthetic, real = setting(), setting(fer_data=bench_pictures.faces(tmp_path, count=80))
    other = setting(fer_data=bench_pictures.faces(tmp_path / "other", count=160))
    assert synthetic.run_data == {"kind": "synthetic faces", "train": 80, "val": 10}
    assert real.run_data == {"kind": "real FER2013 faces", "train": 80, "val": 10}
    records = [{**entry([(1.0, 1.0)], section="run", name=name), "data": real.run_data} for name in "ab"]
    stored = found(*records)
    one, both = ([work(section="run", name=name) for name in names] for names in ("a", "ab"))
    for works, allowed in ((one, real), (both, synthetic), ([work()], synthetic)):
        bench_stored.check_update(stored, stored, works, allowed)
    for refused in (synthetic, other):
        with pytest.raises(BenchError, match="'b' was measured on real FER2013 faces"):
            bench_stored.check_update(stored, stored, one, refused)
    assert "Data: real FER2013 faces, 80 to train on and 10 in val" in bench_page.page(stored)
    records[1]["data"] = {**real.run_data, "train": None, "val": None}  # as it was kept at first
    bench_stored.check_update(stored, stored, one, other)


def test_the_first_paragraph_says_from_how_many_calls_the_page_is():
    one, two = entry([(1.0, 1.0)]), {**entry([(1.0, 1.0)] * 3, name="other"), "date": "2026-01-04"}
    assert "Measured at 2026-01-02 abc1234, rounds: 1." in bench_page.page(found(one)).split("\n\n")[1]
    first = bench_page.page(found(one, two)).split("\n\n")[1]
    assert "several calls of scripts/bench.py**, rounds: 1 to 3, on 2026-01-02 and 2026-01-04." in first


def test_works_without_a_record_are_listed_and_no_record_is_unknown():
    declared, there = {(w.section, w.name) for w in bench_works.WORKS}, {key(r) for r in stored_page()["records"]}
    assert there <= declared
    lines = (ROOT / "docs/performance.md").read_text().splitlines()
    lists = [
        line.removeprefix("Not measured: ")[:-1].split("; ") for line in lines if line.startswith("Not measured: ")
    ]
    assert sorted(name for names in lists for name in names) == sorted(name for _, name in declared - there)


def test_memory_is_measured_in_the_variants_of_the_speed_rows():
    rows = [r for r in stored_page()["records"] if r["section"] == "train" and "Tiny" in r["work"]]
    assert {r["ours_variant"] for r in rows} == {bench_works.FAST["ours"]}
    assert {r["peer_variant"].rpartition(", ")[0] for r in rows} == {bench_works.FAST["peer"]}


def test_the_peers_run_is_the_recipe():
    from emojax import recipes

    recipe = recipes.load(str(ROOT / "configs/fer2013_15min.py"))
    run = recipes.load(str(ROOT / "scripts/bench_recipe.py"), "faces")
    faces = bench_works.FACES
    assert (faces["size"], faces["batch"]) == (recipe.stages[-1].image_size, recipe.batch_size) == (48, run.batch_size)
    augment = {name: tuple(v) if isinstance(v, list) else v for name, v in faces["augment"].items()}
    assert type(recipe.augment)(**augment) == recipe.augment
    for name, value in bench_works.FER_NETWORK.items():
        assert getattr(recipe.model, name) == value, name
    for name, value in bench_works.FER_TRAINING.items():
        assert getattr(recipe.loss if name == "smoothing" else recipe.optim, name) == value, name
    assert run.schedule.warmup_epochs == bench_works.WARM_UP_EPOCHS
    assert (run.model, run.augment, run.optim, run.loss) == (recipe.model, recipe.augment, recipe.optim, recipe.loss)


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


def never(*_):
    raise AssertionError("measures or writes")


def refused(monkeypatch, *arguments):
    """The message of the command, which must not get as far as measuring."""
    monkeypatch.setattr(bench, "measured", never)
    monkeypatch.setattr(bench, "write_page", never)
    monkeypatch.setattr(sys, "argv", ["bench.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        bench.main()
    return str(ended.value.code)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("page", "--quick"), "page measures nothing: leave out --quick"),
        (("page", "--peer-python=x"), "page measures nothing: leave out --peer-python"),
        (("page", "--rounds=0"), "page measures nothing: leave out --rounds"),
        (("train", "--rounds=0", "--peer-python=x"), "--rounds: expected 1 or more, found 0"),
        (("train", "--json=no/such/out.json", "--peer-python=x"), "--json: there is no folder no/such"),
        (("train", "--update", "--quick", "--peer-python=x"), "--update: what --quick measures is not for"),
        (("train", "--fer-data=.", "--peer-python=x"), "--fer-data is for the section run"),
        (("run", "--fer-data=no", "--peer-python=x"), "--fer-data: no has no train.parquet"),
        (("train", "--only=nothing so named", "--peer-python=x"), "no work of section train has"),
        (("train", "--peer-python=/bin/true"), "(--peer-python: is it a Python with torch?)"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_measured(arguments, expected, monkeypatch):
    message = refused(monkeypatch, *arguments)
    assert message.startswith("bench: ") and "\n" not in message and expected in message


def test_an_update_is_checked_before_it_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_stored, "header", lambda *_: {**stored_page(), "versions": {}})
    assert "measured with another versions" in refused(
        monkeypatch, "train", "--peer-python=x", "--update", "--rounds=1"
    )
    monkeypatch.setattr(bench, "DOCS", tmp_path)
    assert "measure `all` first" in refused(monkeypatch, "train", "--peer-python=x", "--update")
    (tmp_path / "performance.json").write_text('{"records": []}')
    assert "does not say its machine" in refused(monkeypatch, "page")


def peer_python():
    python = os.environ.get("EMOJAX_PEER_PYTHON", sys.executable)
    if python == sys.executable and not all(map(importlib.util.find_spec, ("torch", "timm"))):
        pytest.skip("needs torch and timm here, or their interpreter in EMOJAX_PEER_PYTHON")
    return python


@pytest.mark.peers
def test_torch_also_infers_with_weights_in_bfloat16():
    options = {"model": "resnet18", "size": 32, "batch": 2, "engine": "torch"}
    with setting(peer_python=peer_python()).peer() as peer:
        variants = peer.call("variants", section="infer", options=options)
        rounded = [name for name in variants if name.startswith("bfloat16 weights")]
        assert len(rounded) == 2 and {"float32, contiguous", "bfloat16, contiguous"} <= set(variants)
        assert not set(rounded) & set(peer.call("variants", section="train", options=options))
        for variant in (*rounded, "bfloat16, contiguous"):
            info = peer.call("prepare", section="infer", options=options, variant=variant)
            assert info["weights"] == ("bfloat16" if variant in rounded else "float32")
            assert peer.call("measure", variant=variant, n=1) > 0


@pytest.mark.peers
def test_one_work_against_the_peer(tmp_path):
    python = peer_python()
    output = tmp_path / "out.json"
    arguments = ("--quick", "--rounds=1", "--only=convnext-atto", f"--json={output}")
    result = run_bench("train", f"--peer-python={python}", *arguments)
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(output.read_text())
    assert record["section"] == "train" and record["ratio"] > 0
    assert len(set(record["detail"]["parameters"].values())) == 1
    assert "ratio" in result.stdout
