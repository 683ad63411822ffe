"""What others made - data, packs, checkpoints, names, archives - is read, shown and judged, and never obeyed."""

import ast
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tiny
from odd_images import encode, png_header
from PIL import Image
from test_checkpoint import META, make_state

from emojax import cli, config_json, data, files, main, parallel, predict, progress, train, visible
from emojax.checkpoint import Checkpointer
from emojax.config import CheckpointConfig, Config, DataConfig, ParallelConfig
from emojax.data import pack
from emojax.errors import CheckpointError, ConfigError, DataError, EmojaxError, told

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "emojax").rglob("*.py"))

# --- no code from data -------------------------------------------------------------------------------------------

FORBIDDEN_IMPORTS = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "torch",
    "yaml",
    "ctypes",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load", "torch.load"}
MAY_RUN = {  # who starts code, and which: everything else may not
    "recipes.py": {"runpy"},  # the recipe that the user names
    "resume.py": {"subprocess"},  # emojax itself
    "runs.py": {"subprocess"},
    "launch.py": {"subprocess", "socket", "ctypes"},  # prctl(2): processes end with their launcher
    "server.py": {"socket"},  # the one that `emojax serve` listens on
    "memory.py": {"ctypes"},  # a setting of the C library
    "workers.py": {"ctypes"},  # the type of shared memory
}
NETWORK = {
    "socket",
    "ssl",
    "http",
    "urllib",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "fsspec",
    "huggingface_hub",
}


def violations(text: str, name: str) -> list[str]:
    """What a module does that none may do, by its syntax tree."""
    found, allowed = [], MAY_RUN.get(name, set())
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [(node.module or "").split(".")[0]]
        found += sorted((set(names) & (FORBIDDEN_IMPORTS | NETWORK | {"runpy", "subprocess"})) - allowed)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS:
                found.append(called)
            options = {k.arg: k.value for k in node.keywords}
            if called in ("np.load", "numpy.load") and not (
                "allow_pickle" in options and ast.unparse(options["allow_pickle"]) == "False"
            ):
                found.append("np.load without allow_pickle=False")
            if "shell" in options and ast.unparse(options["shell"]) != "False":
                found.append("shell=True")
            if called.endswith((".extract", ".extractall", ".unpack_archive")):
                found.append(called)
            if called in ("Image.open", "PIL.Image.open") and "formats" not in options:
                found.append("Image.open without an allow-list")
            if called == "json.loads" and name not in ("files.py", "report/__init__.py", "runs.py", "__init__.py"):
                found.append("json.loads instead of files.parse_json")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "emojax")))
def test_no_module_runs_what_it_reads_or_opens_the_network(path):
    assert violations(path.read_text(), path.name) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from torch import load",
        "eval('1')",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "import yaml",
        "subprocess.run(c, shell=True)",
        "archive.extractall(x)",
        "Image.open(f)",
        "import urllib.request",
        "import runpy",
        "json.loads(t)",
    ],
)
def test_the_rule_notices(code):
    assert violations(code, "x.py")


class Canary:
    """Unpickling this makes a file."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return Path.touch, (Path(self.place),)


def object_array(place):
    array = np.empty(2, object)
    array[:] = [Canary(str(place)), 1]
    return array


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def archive(members: dict, **options) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content, **options)
    return buffer.getvalue()


def header_only(shape) -> bytes:
    """An .npy file that claims a shape and has no values."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (63 - (10 + len(text)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def hostile_npz(canary):
    image, label = npy(np.zeros((2, 8, 8), np.uint8)), npy(np.array([0, 1]))
    good = {"image.npy": image, "label.npy": label}
    return {
        "objects": archive({**good, "label.npy": npy(object_array(canary))}),
        "objects beside": archive({**good, "extra.npy": npy(object_array(canary))}),
        "a pickle": pickle.dumps(Canary(str(canary))),
        "pickled member": archive({**good, "image.npy": pickle.dumps(Canary(str(canary)))}),
        "huge shape": archive({**good, "image.npy": header_only((1 << 20, 1 << 20, 1 << 10))}),
        "bomb": archive({**good, "image.npy": header_only((2 << 30,)) + bytes(200 << 20)}),
        "header is code": archive({**good, "image.npy": header_only("__import__('os').getcwd()")}),
        "deep header": archive({**good, "image.npy": header_only("(" * 3000)}),
        "text": b"hello",
    }


@pytest.mark.parametrize("kind", hostile_npz(Path("canary")))
def test_numpy_archives_run_no_code_and_fill_no_memory(tmp_path, kind):
    canary = tmp_path / "canary"
    path = tmp_path / "set.npz"
    path.write_bytes(hostile_npz(canary)[kind])
    reason = "is a decompression bomb" if kind == "bomb" else "not a readable .npz file of plain arrays"
    with pytest.raises(DataError, match=f"{re.escape(str(path))}: .*{reason}"):
        data.open_dataset(DataConfig(path=str(path)))
    assert not canary.exists()


@pytest.fixture
def packed(tmp_path):
    """A pack of six images and some."""
    source = DataConfig(path=str(tiny.make_folder(tmp_path / "data", per_class=2)))
    pack.write(data.sources.read(source), tmp_path / "pack", progress=lambda done, total: None)
    return tmp_path / "pack"


@pytest.mark.parametrize("kind", ["objects", "bomb", "no labels"])
def test_packs_run_no_code(packed, tmp_path, kind):
    folder, canary = packed, tmp_path / "canary"
    table = folder / "train.table.npz"
    with np.load(table, allow_pickle=False) as found:
        members = {f"{key}.npy": npy(found[key]) for key in found.files}
    members |= {
        "objects": {"id.npy": npy(object_array(canary))},
        "bomb": {"weight.npy": header_only((1 << 30,)) + bytes(200 << 20)},
        "no labels": {},
    }[kind]
    if kind == "no labels":
        del members["label.npy"]
    table.write_bytes(archive(members))
    header = json.loads((folder / pack.HEADER).read_text())
    header["splits"]["train"]["table_sha256"] = hashlib.sha256(table.read_bytes()).hexdigest()  # the attacker can, too
    (folder / pack.HEADER).write_text(json.dumps(header))
    with pytest.raises(DataError, match=re.escape(str(table))):
        pack.read(folder, config=DataConfig(path=str(folder)))
    assert not canary.exists()


def test_a_pack_cannot_name_files_outside_of_it(packed):
    folder = packed
    header = json.loads((folder / pack.HEADER).read_text())
    header["splits"]["../../etc"] = header["splits"].pop("test")
    (folder / pack.HEADER).write_text(json.dumps(header))
    assert set(pack.read(folder, config=DataConfig(path=str(folder))).splits) == {"train", "val"}


DEEP = "[" * 200_000
"""JSON at which Python's parser gives up."""


def test_json_bombs_are_refused_in_words(tmp_path):
    for text in (DEEP, '{"a":' * 200_000, "1" * 10_000):
        with pytest.raises((ValueError, ConfigError)):
            files.parse_json(text)
        with pytest.raises(ConfigError):
            config_json.from_json(text)
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/pack.json").write_text(DEEP)
    with pytest.raises(DataError, match=r"pack\.json: damaged \(nested too deeply\)"):
        data.open_dataset(DataConfig(path=str(tmp_path / "pack")))


def test_a_config_in_json_is_no_code():
    """Knobs are the dataclasses' fields: neither a module nor an attribute can be named."""
    values = json.loads(config_json.to_json(Config()))
    for hostile in ({"__class__": "os.system"}, {"__reduce__": ["os.system"]}, {"py/object": "os.system"}):
        with pytest.raises(ConfigError, match="unknown keys"):
            config_json.from_json(json.dumps(values | hostile))


def strings_to(value, name):
    """JSON with every string value, but no key, replaced."""
    if isinstance(value, dict):
        return {key: strings_to(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [strings_to(item, name) for item in value]
    return name if isinstance(value, str) else value


@pytest.mark.parametrize(
    "part", ["_CHECKPOINT_METADATA", "_METADATA", "_sharding", "meta/metadata", "commit_success.txt"]
)
def test_what_a_checkpoint_says_cannot_name_code(tmp_path, monkeypatch, part):
    """Handlers, types and devices in its files are names of Orbax's; none of them is imported."""
    (tmp_path / "canary_module.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w').close()\nclass Canary: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig())) as keeper:
        keeper.save(make_state(), META, rank=0.5)
    found = [path for path in (tmp_path / "checkpoints/3").rglob("*") if str(path).endswith(part)]
    assert found
    for path in found:
        try:
            values = strings_to(json.loads(path.read_text()), "canary_module.Canary")
        except ValueError:
            values = "canary_module.Canary"
        path.write_text(json.dumps(values))
    try:
        with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig())) as keeper:
            keeper.newest(lambda step: keeper.restore(make_state(step=9), step))
    except CheckpointError as error:
        assert "canary" not in str(error).partition("is damaged")[0]
    assert "canary_module" not in sys.modules and not (tmp_path / "canary").exists()


def test_a_sealed_description_may_name_what_is_in_a_table_only(tmp_path):
    """Whoever makes a checkpoint can seal it; a model's name is then looked up, not imported."""
    config = Config()
    config.model.name = "os.system"
    with contextlib.closing(Checkpointer(tmp_path, CheckpointConfig())) as keeper:
        keeper.save(make_state(), dataclasses.replace(META, config=config), rank=0.5)
    with pytest.raises(EmojaxError, match=r"os\.system"):
        predict.load(tmp_path)


# --- images ------------------------------------------------------------------------------------------------------

BOMBS = textwrap.dedent(
    """
    import resource, sys, time
    from PIL import Image
    from emojax.data.decode import Opened, decode
    from emojax.data.storage import Unreadable
    Image.init()
    decode(open(sys.argv[1], "rb").read())  # libraries are loaded
    for name in sys.argv[2:]:
        data = open(name, "rb").read()
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            decode(data)
            verdict = "decoded"
        except Unreadable as error:
            verdict = str(error)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(name, f"{time.perf_counter() - began:.3f}", f"{grown:.1f}", verdict, sep="|")
    """
)


def bombs():
    yield "50000x50000.png", png_header(50_000, 50_000)
    yield "2e9.png", png_header(2_000_000_000, 1)
    yield "16k-zeros.png", encode(Image.new("1", (16_000, 16_000)), "PNG")
    webp = bytearray(encode(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    webp[21:25] = (16_383 | 16_383 << 14).to_bytes(4, "little")  # width - 1 and height - 1, 14 bits each
    yield "16k.webp", bytes(webp)
    bmp = bytearray(encode(Image.new("RGB", (8, 8)), "BMP"))
    bmp[18:26] = (100_000).to_bytes(4, "little") * 2
    yield "100k.bmp", bytes(bmp)
    gif = bytearray(encode(Image.new("P", (8, 8)), "GIF"))
    gif[6:10] = b"\xff\xff\xff\xff"
    yield "64k.gif", bytes(gif)
    yield "svg.jpg", b"<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='99999'/>"
    yield "eps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
    yield "pdf.jpg", b"%PDF-1.4\n"
    yield "zip.png", archive({"x": bytes(50 << 20)})
    for kind in ("PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000"):  # formats that Pillow would open by their content
        yield f"{kind}.png", encode(Image.new("RGB", (8, 8)), kind)


def test_bombs_and_other_formats_are_refused_at_once(tmp_path):
    """Each in less than half a second and 100 MB, whatever its name says; measured in a process of its own."""
    (tmp_path / "good.png").write_bytes(encode(np.zeros((8, 8, 3), np.uint8), "PNG"))
    names = []
    for name, content in bombs():
        (tmp_path / name).write_bytes(content)
        names.append(str(tmp_path / name))
    command = [sys.executable, "-c", BOMBS, str(tmp_path / "good.png"), *names]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
    assert len(lines) == len(names)
    for line in lines:
        _, seconds, grown, verdict = line.split("|", 3)
        assert float(seconds) < 0.5 and float(grown) < 100 and verdict != "decoded", line


# --- paths -------------------------------------------------------------------------------------------------------

PATHS = [
    "../secret.png",
    "a/../../secret.png",
    "/etc/hostname",
    "out/secret.png",
    "link.png",
    "..\\secret.png",
    "a\0.png",
    "",
    "C:\\x.png",
    "./../secret.png",
]


@pytest.fixture
def rooted(tmp_path):
    """A data root beside a secret, with links from the one to the other."""
    root = tmp_path / "root"
    root.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    Image.new("RGB", (8, 8)).save(root / "good.png")
    (root / "out").symlink_to(tmp_path)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    return root


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", PATHS)
def test_paths_in_tables_stay_inside_the_data_root(rooted, name, kind):
    if kind == "csv":
        (rooted / "t.csv").write_text(f'image,label\ngood.png,a\n"{name}",b\n')
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"image": ["good.png", name], "label": ["a", "b"]}), rooted / "t.parquet")
    with pytest.raises(DataError, match=r"t\.(csv|parquet)"):
        data.sources.read(DataConfig(path=str(rooted / f"t.{kind}")))


def test_links_inside_the_root_are_fine(rooted):
    (rooted / "inside.png").symlink_to(rooted / "good.png")
    (rooted / "t.csv").write_text("image,label\ngood.png,a\ninside.png,b\n")
    assert len(data.sources.read(DataConfig(path=str(rooted / "t.csv"))).splits["train"]) == 2


# --- the compile cache -------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """(cache folder, call of `prepare` that returns the folder JAX was told, or None)."""
    told = {}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(parallel.jax.config, "update", lambda key, value: told.update({key: value}))

    def prepare():
        told.clear()
        parallel.prepare()
        return told.get("jax_compilation_cache_dir")

    made = prepare()
    assert made is not None
    return Path(made), prepare


def test_the_compile_cache_is_private(cache):
    folder, prepare = cache
    assert folder.stat().st_mode & 0o777 == 0o700 and folder.parent.stat().st_mode & 0o777 == 0o700
    folder.parent.chmod(0o775)  # as umask 002 makes it: mended, nothing of others is executed
    assert prepare() == str(folder) and folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_compile_cache_that_others_could_write_is_not_used(cache):
    folder, prepare = cache
    for mode in (0o777, 0o770, 0o702):
        folder.chmod(mode)
        assert prepare() is None, oct(mode)
    folder.chmod(0o755)
    assert prepare() == str(folder)


def test_a_compile_cache_of_somebody_else_or_behind_a_link_is_not_used(cache, monkeypatch, tmp_path):
    folder, prepare = cache
    with monkeypatch.context() as patch:
        patch.setattr(parallel.os, "geteuid", lambda: folder.stat().st_uid + 1)
        assert prepare() is None
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert prepare() is None


# --- the network -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "bound"),
    [
        ("127.0.0.1:5", True),
        ("localhost:5", True),
        ("[::1]:5", True),
        ("10.0.0.1:5", False),
        ("host:5", False),
        ("", False),
    ],
)
def test_the_coordinator_listens_on_loopback_unless_told(monkeypatch, address, bound):
    given = {}
    monkeypatch.setattr(parallel.jax.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(parallel.jax.distributed, "initialize", lambda **kwargs: given.update(kwargs))
    for name, value in {parallel.COORDINATOR: address, parallel.PROCESSES: "2", parallel.PROCESS: "0"}.items():
        monkeypatch.setenv(name, value)
    assert parallel.join(ParallelConfig()) == "" and given == {}
    warning = parallel.join(ParallelConfig(distributed=1))
    assert given.get("coordinator_bind_address") == (address if bound else None)
    assert ("listens on all network addresses" in warning) == (not bound)
    monkeypatch.setenv(parallel.PROCESSES, "many")
    if address:
        with pytest.raises(ConfigError, match="EMOJAX_PROCESSES and EMOJAX_PROCESS must be numbers"):
            parallel.join(ParallelConfig(distributed=1))


OFFLINE = textwrap.dedent(
    """
    import sys
    asked = []
    def hook(event, args):
        local = event == "socket.connect" and isinstance(args[1], (str, bytes))  # a Unix socket of this machine
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.bind", "urllib.Request"):
            if not local:
                asked.append((event, repr(args[1:])))
                raise OSError(f"no network: {event} {args[1:]!r}")
    sys.addaudithook(hook)
    if __name__ == "__main__":
        import pathlib
        sys.path.insert(0, "tests")
        import tiny
        from emojax import cli, train
        place = pathlib.Path(sys.argv[1])
        data = tiny.make_folder(place / "data")
        if sys.argv[2] == "broken":
            import socket
            try: socket.create_connection(("192.0.2.1", 80), 1)
            except OSError: pass
        config = tiny.config(data, stages=(tiny.StageConfig(epochs=1),))
        train.run(config, str(place / "run"))
        code = cli.main(["predict", f"--workdir={place / 'run'}", str(data / "test")])
        print("ASKED", code, asked)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "broken"])
def test_training_and_predicting_ask_for_no_network(tmp_path, how):
    """Every connection, look-up of a name and listening port of Python is refused and written down."""
    if how:  # the same test, of a program that does ask
        code = OFFLINE.replace("config = tiny", "print('ASKED', 0, asked); sys.exit()\n    config = tiny")
    else:
        code = OFFLINE
    (tmp_path / "offline.py").write_text(code)
    command = [sys.executable, str(tmp_path / "offline.py"), str(tmp_path), how]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert found.returncode == 0, found.stderr
    last = found.stdout.strip().splitlines()[-1]
    assert (last == "ASKED 0 []") == (not how), last


# --- what people see ---------------------------------------------------------------------------------------------

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m<script>alert(1)</script>\u202egnp.exe\r|`x`$y$"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


def test_a_terminal_shows_names_and_obeys_none():
    screen = Screen()
    terminal = progress.Terminal(screen)
    terminal.message(NASTY)
    terminal.draw([(1, NASTY)])
    terminal.clear()
    assert not CONTROLS.search(screen.getvalue().replace("\r", "")) and r"\x1b[2J" in screen.getvalue()
    screen = Screen()
    progress.Terminal(screen).message(NASTY, mark="best")  # emojax's own colour stays
    assert screen.getvalue().count("\x1b") <= 2
    guarded = visible.Guarded(screen)
    guarded.write(NASTY)
    guarded.writelines([NASTY])
    assert guarded.isatty() and screen.getvalue().count("\x1b") <= 2
    assert not CONTROLS.search(told(EmojaxError(NASTY)))


def test_one_line_and_ordinary_text():
    assert visible.one_line("a\nb\tc") == r"a\nb\tc"
    ordinary = "Grüße, 日本, 😀, père\n\tok"
    assert visible.visible(ordinary) == ordinary


def test_output_of_verbs_to_a_terminal_is_guarded(monkeypatch, tmp_path):
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(cli, "VERBS", {"evaluate": ""})
    import emojax.cli.evaluate as verb

    monkeypatch.setattr(verb, "main", lambda arguments: sys.stdout.write(NASTY) * 0)
    assert cli.main(["evaluate"]) == 0
    assert "script" in screen.getvalue() and not CONTROLS.search(screen.getvalue())


@pytest.mark.slow
def test_a_hostile_data_set_from_training_to_report(tmp_path, capsys):
    """Class and file names with terminal sequences, HTML, Markdown and mathtext: in no output do they act."""
    names = {color: f"{color}{NASTY}".replace("/", "∕") for color in tiny.COLOURS}
    folder = tiny.make_folder(tmp_path / "data")
    for split in ("train", "val", "test"):
        for colour, name in names.items():
            (folder / split / colour).rename(folder / split / name)
            first = folder / split / name / "00.png"
            first.rename(first.with_name("\x1b[31m<img src=x onerror=alert(1)>\u202e.png"))
    config = tiny.config(folder, stages=(tiny.StageConfig(epochs=1),))
    train.run(config, tmp_path / "run")
    assert cli.main(["predict", f"--workdir={tmp_path / 'run'}", str(folder / "test")]) == 0
    assert cli.main(["evaluate", f"--workdir={tmp_path / 'run'}", f"--report={tmp_path / 'again'}"]) == 0
    screen = capsys.readouterr()
    assert not CONTROLS.search(screen.err)
    table = screen.out.split("val:")[0]
    assert not CONTROLS.search(table) and len(table.splitlines()) == 13
    assert not CONTROLS.search((tmp_path / "run/log.txt").read_text())
    pages = [*(tmp_path / "run/report").glob("*.md"), *(tmp_path / "again").glob("*.md")]
    assert len(pages) >= 4
    for page in pages:
        text = page.read_text()
        outside = re.sub(r"^(`{3,}).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
        assert "<script" not in outside and "<img" not in outside, page
        assert not CONTROLS.search(text), page
    assert {p.parent for p in tmp_path.rglob("*.md")} == {tmp_path / "run/report", tmp_path / "again"}


def test_recipes_are_code_and_say_so(capsys):
    for show in (lambda: main.run_with_errors(["emojax", "--help"]), lambda: cli.main(["--help"])):
        assert show() == 0
        assert re.search(
            r"executed:\s+(train only from recipes|run only those)\s+that\s+you\s+trust", capsys.readouterr().out
        )
