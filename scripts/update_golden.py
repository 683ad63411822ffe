"""Writes what the recipes resolve to: tests/golden/config_*.json, learning_rates.json and variants.json.

    python scripts/update_golden.py

For changes of a recipe or schedule that are meant; the difference belongs in the same commit.
"""

import json
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from emojax import config_json, recipes  # noqa: E402
from emojax.validate import validate  # noqa: E402


def main() -> None:
    tests = runpy.run_path(str(ROOT / "tests" / "test_recipes.py"))
    names, curve = tests["RECIPES"], tests["curve"]
    golden = ROOT / "tests" / "golden"
    for old in golden.glob("config_*.json"):
        old.unlink()
    for name in names:
        text = config_json.to_json(validate(recipes.load(name))) + "\n"
        (golden / f"config_{Path(name).stem}.json").write_text(text)
    lines = [f"{json.dumps(name)}: {json.dumps(curve(recipes.load(name)))}" for name in names]
    (golden / "learning_rates.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    variants = {name: tests["changes"](name) for name in tests["EVERY_VARIANT"]}
    (golden / "variants.json").write_text(json.dumps(variants, indent=1) + "\n")


if __name__ == "__main__":
    main()
