"""Tables that grow in a file: cut at every byte, they go on without a lost or doubled row."""

import contextlib
import csv
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from emojax import growing, growing_parquet, growing_text
from emojax.errors import ConfigError, DataError
from emojax.seen import Seen

COLUMNS = {"image": str, "faces": int, "p:a": float, "error": str}
GROUPS = [
    [{"image": "one.png", "faces": 1, "p:a": 0.25}],
    [
        {"image": 'odd "name",\nwith\r all.png', "faces": 2, "p:a": 0.5},
        {"image": 'odd "name",\nwith\r all.png', "faces": 2},
    ],
    [{"image": "äö 猫.png", "faces": 0, "error": 'says "no",\nreally'}],
    [{"image": "last.png", "faces": 3, "p:a": p} for p in (0.1, 0.2, 0.3)],
]


def opened(path, about=None, columns=COLUMNS):
    return growing.open_table(path, columns, key="image", size="faces", about=about or {"weights": "x"})


def fill(path, groups=GROUPS):
    table = opened(path)
    for group in groups:
        if table.seen.add(group[0]["image"]):
            table.write(group)
    table.finish()
    return table


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_cut_at_every_byte_it_goes_on_to_the_same_file(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    assert fill(path).rows == 7
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert fill(path).rows == 7, length
        assert path.read_bytes() == whole, length


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_is_whole_stays_when_its_picture_is_gone(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    fill(path)
    before = path.read_bytes()
    fill(path, GROUPS[:1])
    assert path.read_bytes() == before


def test_csv_cells_come_back(tmp_path):
    fill(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [row["image"] for group in GROUPS for row in group]
    assert rows[0]["p:a"] == "0.25" and rows[2]["p:a"] == "" and rows[3]["error"] == 'says "no",\nreally'


def test_parquet_survives_a_kill_before_during_and_after_its_end(tmp_path, monkeypatch):
    path, partial = tmp_path / "rows.parquet", tmp_path / "rows.parquet.partial"
    table = opened(path)
    table.write(GROUPS[0])
    table.write(GROUPS[1])
    table.close()  # killed before the end: rows wait as text
    assert not path.exists() and opened_rows(path) == 3
    partial.write_bytes(partial.read_bytes()[:-5])  # the second row of the second picture is cut
    assert fill(path, GROUPS[:3]).rows == 4 and not partial.exists()
    first = pq.read_table(path).to_pylist()
    assert [row["image"] for row in first] == [row["image"] for group in GROUPS[:3] for row in group]

    with monkeypatch.context() as patch:  # killed between the new Parquet file and the removal of the text
        patch.setattr(growing_parquet.Path, "unlink", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fill(path)
    assert partial.exists() and opened_rows(path) == 7
    with contextlib.closing(opened(path)) as both:  # a row that is in both files counts once
        assert sum(map(bool, both.cells("error"))) == 1 and len(list(both.cells("image"))) == 7
    assert fill(path).rows == 7 and not partial.exists()
    found = pq.read_table(path)
    assert found.num_rows == 7 and found.column("p:a").to_pylist()[-3:] == [0.1, 0.2, 0.3]
    assert found.schema.names == list(COLUMNS)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_column_of_the_rows_that_are_there(tmp_path, suffix):
    fill(tmp_path / f"rows{suffix}")
    with contextlib.closing(opened(tmp_path / f"rows{suffix}")) as table:
        assert list(filter(None, table.cells("error"))) == ['says "no",\nreally']


def opened_rows(path):
    table = opened(path)
    table.close()
    return table.rows


def test_other_origin_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "rows.csv"
    fill(path)
    with pytest.raises(ConfigError, match="weights differ"):
        opened(path, about={"weights": "y"})
    with pytest.raises(ConfigError, match="columns differ"):
        opened(path, columns={"image": str})
    (tmp_path / "rows.csv.about.json").unlink()
    with pytest.raises(ConfigError, match=r"no readable rows\.csv\.about\.json"):
        opened(path)
    with pytest.raises(ConfigError, match="expected a name that ends in"):
        opened(tmp_path / "rows.txt")
    with pytest.raises(ConfigError, match="does not exist"):
        opened(tmp_path / "none" / "rows.csv")


def test_a_second_writer_is_refused(tmp_path):
    first = opened(tmp_path / "rows.csv")
    with pytest.raises(ConfigError, match="another process"):
        opened(tmp_path / "rows.csv")
    first.close()
    opened(tmp_path / "rows.csv").close()


def test_damage_in_the_midst_names_the_line(tmp_path):
    fill(tmp_path / "rows.jsonl")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text("\n".join([lines[0], "{", *lines[1:], ""]))
    with pytest.raises(DataError, match=r"rows.jsonl:2: is not JSON"):
        opened(tmp_path / "rows.jsonl")
    fill(tmp_path / "rows.csv")
    text = (tmp_path / "rows.csv").read_text().replace("one.png,1", "one.png,1,9")
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(DataError, match=r"rows.csv:2: 5 cells"):
        opened(tmp_path / "rows.csv")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nothing")
    growing.about_file(tmp_path / "rows.parquet").write_text(json.dumps({"columns": list(COLUMNS), "weights": "x"}))
    with pytest.raises(DataError, match="not a readable Parquet file"):
        opened(tmp_path / "rows.parquet")


def test_names_that_are_no_text_are_kept_as_escapes(tmp_path):
    row = {"image": "a\udcff.png", "faces": 0}
    for suffix in (".csv", ".jsonl"):
        fill(tmp_path / f"rows{suffix}", [[row]])
        table = opened(tmp_path / f"rows{suffix}")
        assert "a\udcff.png" in table.seen
        table.close()


def test_seen_is_a_set(monkeypatch):
    monkeypatch.setattr("emojax.seen._RECENT", 64)
    rng, seen, ordinary = np.random.default_rng(0), Seen(), set()
    for number in rng.integers(0, 800, 3000).tolist():
        assert (str(number) in seen) == (str(number) in ordinary)
        assert seen.add(str(number)) == (str(number) not in ordinary)
        ordinary.add(str(number))
        assert len(seen) == len(ordinary)


def test_text_forms_write_one_line_per_row():
    assert growing_text.JsonForm().text({"image": "a\nb"}).count("\n") == 1


SUFFIXES = [".csv", ".jsonl", ".parquet"]


def files_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_call_that_is_refused_changes_nothing(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    with contextlib.closing(opened(path)) as first:  # its first row is not there yet, nor anything but the lock
        before = files_of(tmp_path)
        with pytest.raises(ConfigError, match="another process is writing it"):
            opened(path, about={"weights": "y"})
        assert files_of(tmp_path) == before
        first.write(GROUPS[0])
        first.finish()
    before = files_of(tmp_path)
    with pytest.raises(ConfigError, match="weights differ"):
        opened(path, about={"weights": "y"})
    assert files_of(tmp_path) == before
    assert opened_rows(path) == 1 and files_of(tmp_path) == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cleared_table_is_held_all_the_time_and_begins_anew(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    fill(path)
    table = opened(path)
    table.write([{"image": "late.png", "faces": 1}])
    table.clear()
    assert table.rows == 0 and not len(table.seen) and list(table.cells("image")) == []
    with pytest.raises(ConfigError, match="another process is writing it"):
        opened(path)
    table.write(GROUPS[0])
    table.finish()
    with contextlib.closing(opened(path)) as table:
        assert list(table.cells("image")) == ["one.png"] and table.rows == 1


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_vanishes_before_it_is_locked_gets_no_rows(tmp_path, suffix, monkeypatch):
    """Parquet's rows wait in a file that its writer removes: who has opened that one must not go on in it."""
    path = tmp_path / f"rows{suffix}"
    real, held = growing_text.fcntl.flock, growing_parquet.partial_file(path) if suffix == ".parquet" else path

    def late(file, how):
        if late.first:
            held.unlink()
        late.first = False
        real(file, how)

    late.first = True
    with monkeypatch.context() as patch:
        patch.setattr(growing_text.fcntl, "flock", late)
        assert fill(path).rows == 7
    assert not late.first and opened_rows(path) == 7

    with monkeypatch.context() as patch:
        patch.setattr(growing_text, "_is_at", lambda file, path: False)
        with pytest.raises(ConfigError, match="again and again"):
            opened(path)
