"""The shape of the code base: which module may import which, how long files get, and what is never imported."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import emojax

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "emojax"

# A module imports only from rows above its own; inside data, models, report, serve and cli, also from its siblings.
ROWS = [
    ["__init__", "visible"],
    ["errors"],
    ["config", "types", "files", "memory"],
    [
        "config_json",
        "recipes",
        "paths",
        "jsonl",
        "progress",
        "throughput",
        "profiler",
        "train_metrics",
        "figures",
        "drawing",
        "spikes",
        "seen",
        "logistic",
        "tracks",
        "video",
        "tensor_file",
    ],
    ["parallel"],
    [
        "schedules",
        "plateau",
        "patience",
        "checkpoint_meta",
        "class_weights",
        "loss_checks",
        "views",
        "preprocess",
        "predictions_csv",
        "bootstrap",
        "shares",
        "environment",
        "manifest",
        "growing_text",
        "overlay",
    ],
    [
        "stages",
        "losses",
        "noise",
        "distill",
        "averaging",
        "lookahead",
        "metrics",
        "combine",
        "growing_parquet",
        "data",
        "models",
    ],
    [
        "checkpoint_store",
        "preemption",
        "loop",
        "events",
        "scoreboard",
        "calibration",
        "scaling",
        "intervals",
        "label_errors",
        "growing",
        "mlflow_writer",
        "wandb_writer",
    ],
    [
        "comparison",
        "optim",
        "step",
        "checkpoint",
        "workdir",
        "plots",
        "postprocess",
        "selective",
        "conformal",
        "slices",
        "writers",
    ],
    ["decision", "decision_plots", "checkpoint_list", "objective", "bundle", "validate"],
    ["stored"],
    ["monitor", "report", "predict", "resume"],
    ["wiring", "robustness", "serve", "export"],
    ["transitions", "lr_finder", "opening"],
    ["judging"],
    ["finish", "probe"],
    ["train"],
    ["main", "cli"],
]
ROW = {name: i for i, row in enumerate(ROWS) for name in row}
FOLDERS = ("data", "models", "report", "serve", "export", "cli")

# cli.train is emojax.main under another name; `import emojax` offers emojax.load.
EXCEPTIONS = {("cli", "main"), ("__init__", "predict")}


def part(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("emojax.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "emojax":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("emojax."):
            found.add(node.module.split(".")[1])
    return found - {"__version__"}


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_upwards_only(path):
    own = part(path)
    assert own in ROW, f"{own} is new: give it a row in this test and in docs/design.md"
    for name in imported(path):
        if (own, name) in EXCEPTIONS or (name == own and own in FOLDERS):
            continue
        assert ROW[name] < ROW[own], f"emojax/{path.relative_to(PACKAGE)} imports {name}, which is not above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path):
    # config.py is one list, of every knob; cutting it in two would hide half of them.
    assert len(path.read_text().splitlines()) <= (600 if path.name == "config.py" else 320)


def test_no_import_cycles_inside_folders():
    for folder in FOLDERS:
        graph = {}
        for path in (PACKAGE / folder).glob("*.py"):
            text = path.read_text()
            found = re.findall(rf"^from emojax\.{folder}\.(\w+) import", text, re.MULTILINE)
            for names in re.findall(rf"^from emojax\.{folder} import ([\w, ]+)", text, re.MULTILINE):
                found += [n.strip() for n in names.split(",")]
            graph[path.stem] = set(found)
        done = set()

        def visit(name, trail, graph=graph, done=done):
            assert name not in trail, f"import cycle: {' -> '.join([*trail, name])}"
            if name not in done:
                for other in graph.get(name, ()):
                    visit(other, [*trail, name])
                done.add(name)

        for name in graph:
            visit(name, [])


def sources():
    return {path: path.read_text() for path in FILES}


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        (r"\bimport orbax|from orbax", {"checkpoint_store.py"}),
        (r"flax\.linen|import linen", {"models"}),
        (r"\bimport grain|from grain", {"data"}),
        (r"tensorboardX", {"events.py"}),
        (r"import mlflow|from mlflow", {"mlflow_writer.py"}),
        (r"import wandb|import_module\(.wandb", {"wandb_writer.py"}),
        (r"process_index|process_count|jax\.distributed", {"parallel.py"}),
        (r"\bprint\(", set()),
        (r"import pickle|pickle\.|\beval\(|yaml\.load|allow_pickle=True|torch\.load|\bpmap\b", set()),
        (r"\bjnp\.empty\b", set()),
        (r"^\s*(import|from) matplotlib", {"drawing.py", "plots.py", "decision_plots.py", "figures.py"}),
    ],
)
def test_one_place_for_each_library(pattern, allowed):
    for path, text in sources().items():
        code = "\n".join(line.split("#")[0] for line in text.splitlines())
        if path.name not in allowed and part(path) not in allowed:
            assert not re.search(pattern, code, re.MULTILINE), f"{pattern} in emojax/{path.relative_to(PACKAGE)}"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_neither_tensorflow_nor_torch_is_imported_by_a_whole_run(tmp_path):
    modules = [str(p.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__") for p in FILES]
    for name in ("tensorflow", "torch", "keras"):  # stand-ins: the libraries need not be installed to be asked for
        (tmp_path / f"{name}.py").write_text("")
    code = (
        f"import importlib, pathlib, sys; sys.path.insert(0, {str(tmp_path)!r}); sys.path.insert(0, 'tests')\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "import tiny; from emojax import train\n"
        f"data = tiny.make_folder(pathlib.Path({str(tmp_path)!r}, 'data'))\n"
        f"train.run(tiny.config(data, stages=(tiny.StageConfig(epochs=1),)), {str(tmp_path / 'run')!r})\n"
        "print([m for m in ('tensorflow', 'torch', 'keras') if m in sys.modules])"
    )
    assert run(code).strip() == "[]"
    assert list((tmp_path / "run/tensorboard").iterdir())


def test_import_is_light():
    heavy = run("import sys, emojax; print([m for m in ('jax', 'numpy', 'flax', 'grain') if m in sys.modules])")
    assert heavy.strip() == "[]"


def test_types_reach_those_who_import_the_package():
    """Without the marker of PEP 561 type checkers take everything of an installed package as unknown."""
    assert '"Typing :: Typed"' in (ROOT / "pyproject.toml").read_text()
    assert (PACKAGE / "py.typed").is_file()
    names = next(n for n in ast.parse((PACKAGE / "__init__.py").read_text()).body if isinstance(n, ast.If)).body
    assert {a.name for n in names if isinstance(n, ast.ImportFrom) for a in n.names} == set(emojax.__all__)


def test_a_training_does_not_wait_for_what_it_may_not_need():
    slow = "('scipy.stats', 'scipy.optimize', 'pyarrow', 'matplotlib')"
    code = f"import sys, emojax.train, emojax.finish; print([m for m in {slow} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_help_does_not_wait_for_jax():
    code = "import sys, emojax.main; print([m for m in ('jax', 'flax', 'grain', 'orbax') if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_no_machine_paths():
    for path in [
        *FILES,
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("configs/*.py"),
        ROOT / "constraints.txt",
    ]:
        assert not re.search(r"/(home|root|work|opt|tmp)/|https?://[^ )]*(simple|pypi)", path.read_text()), path
