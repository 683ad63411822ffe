"""docs/finetuning.md says what its JSON says."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import finetune_bench


def test_the_page_is_the_one_of_its_json():
    record = json.loads(finetune_bench.RECORD.read_text())
    assert finetune_bench.PAGE.read_text(encoding="utf-8") == finetune_bench.page(record)
    for case, ways in record["cases"].items():
        for way, runs in ways.items():
            assert len({run["seed"] for run in runs}) == len(runs), (case, way)
