"""The README is true: its files exist, its tree is complete, its numbers are measured. CI runs its commands."""

import json
import re
from pathlib import Path

from emojax import cli, config as config_lib, metrics
from emojax.config import Config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_two_set_up_commands_are_there():
    assert (
        "pip install -c constraints.txt -e . && "
        "python -m emojax.main --config=configs/emoji.py --workdir=runs/emoji" in README
    )
    assert "pip install -c constraints.txt -e '.[test]' && pytest" in README


def test_the_tree_names_every_module():
    tree = README[README.index("## The code") :]
    for path in (ROOT / "emojax").glob("*.py"):
        if path.name != "__init__.py":
            assert path.name in tree, f"{path.name} is missing in the README's tree"


def test_every_recipe_is_in_the_table():
    for path in (ROOT / "configs").glob("*.py"):
        assert f"| `{path.stem}`" in README, path.name


def test_nothing_is_left_to_be_filled_in():
    assert not re.search(r"RESULT_|TODO|TBD", README)


def test_flags_exist():
    known = {re.sub(r"\[\d+\]", "[0]", name) for name, _ in config_lib.items(Config())}
    for path in [ROOT / "README.md", *(ROOT / "configs").glob("*.py")]:
        for flag in re.findall(r"--config\.([\w.\[\]]+)=", path.read_text()):
            assert flag in known, f"{path.name}: --config.{flag}"
    for verb in re.findall(r"^ +emojax ([\w-]+)", README, re.MULTILINE):
        assert verb in cli.VERBS


def test_numbers_are_the_measured_ones():
    measured = json.loads((ROOT / "docs/measured.json").read_text())
    for recipe, found in measured.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{recipe}`"))
        assert f"{found['mean_accuracy']:.3f}" in row, (
            f"the README's row of {recipe} does not say {found['mean_accuracy']:.3f}"
        )


def test_every_number_is_explained():
    text = (ROOT / "docs/evaluation.md").read_text()
    for name in metrics.NUMBERS:
        assert f"| `{name}` |" in text, name
