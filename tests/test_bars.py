"""The section of docs/evaluation.md that a script writes: what it shows is what its commands printed."""
# ruff: noqa: E402 (the scripts are no package: their folder must be on the path first)

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import bars  # pyright: ignore[reportMissingImports]

from emojax import files


def test_the_page_is_written_from_the_record():
    found = files.parse_json(bars.RECORD.read_text(encoding="utf-8"))
    text = bars.PAGE.read_text(encoding="utf-8")
    assert text.split(bars.BEGIN)[1].split(bars.END)[0] == bars.section(found), "run scripts/bars.py page"
    for name, row in found.items():
        assert row["command"] == bars.BARS[name].command and row["output"]


def test_a_failed_command_and_a_path_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("PLACE", str(tmp_path))
    script = "import sys; print(sys.argv[1]); sys.exit(3)"
    row = bars.run(bars.Bar("x", f'python -c "{script}" $PLACE', ("PLACE",)))
    assert row["exit_code"] == 3 and row["output"] == "$PLACE"
    monkeypatch.setattr(bars, "BARS", {"a": bars.Bar("x", "python x"), "b": bars.Bar("y", "python y")})
    text = bars.section({"a": row})
    assert "**exit code 3**" in text and "Not run yet." in text
