"""The HTML page: what it holds, that nothing on it is markup but the page's own, and how it behaves in Chromium."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from chromium import CHROMIUM, Browser
from PIL import Image

from emojax import config_json, figures, intervals, metrics, predictions_csv, report
from emojax.config import Config, OptimConfig
from emojax.report import gallery, html, html_data, html_split, pictures
from emojax.types import Dataset, Found, Predictions, Split
from emojax.workdir import CONFIG, FINISHED

K = 21
NAMES = ("<script>alert(1)</script>", "so|so", *(f"class {i}" for i in range(2, K)))


def predictions(n: int, seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    label = np.eye(K, dtype=np.float32)[rng.integers(0, K, n)]
    logits = rng.normal(size=(n, K)) + 2.5 * label
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    ids = np.array([f'<img src=x onerror="boom{i}()">{i}.png' for i in range(n)])
    weight = np.ones(n, np.float32)
    weight[0] = 0
    return Predictions(probs.astype(np.float32), label, weight, ids, {"<lamp>": np.array(["on", "off"] * (n // 2))})


def make_run(folder, *, rate: float = 1e-3):
    """A run's folder as `finish` leaves it."""
    history, speed = [], []
    for step in (10, 20, 30):
        at = {"step": step, "epoch": step / 10}
        judged = {"split": "val", "accuracy": step / 50, "loss": 1.0, "class_f1": [step / 40] * K}
        history += [{"kind": "eval", **at, **judged}]
        history += [{"kind": "train", **at, "accuracy": 0.5, "loss": 1.0, "learning_rate": 1e-3}]
        speed += [{"kind": "speed", **at, "images_per_second": 100.0, "data_wait": 0.1, "seconds": 1.0}]
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*history, *speed]))
    (folder / CONFIG).write_text(config_json.to_json(Config(optim=OptimConfig(learning_rate=rate))))
    info = report.RunInfo(
        dataset="<faces>", step=30, result="best checkpoint", selected_by="macro_f1", seed=0, views="flip",
        seconds=61.0, notes=("a <note>",), skipped=(("<bad>.png", "truncated"),), command="train </script>",
        config_differences=("seed: 0 -> 1",),
    )  # fmt: skip
    splits = {}
    train = predictions(30, 2)
    images = np.zeros((30, 40, 40, 3), np.uint8)
    splits["train"] = Split("train", images, train.label, train.weight, train.id)
    for name, seed in (("val", 0), ("test", 1)):
        p = predictions(600, seed)
        report.write(
            folder / "report",
            split=name,
            report=metrics.evaluate(p, NAMES),
            bounds=intervals.of(p, draws=50),
            predictions=p,
            history=history,
            run=info,
        )
        images = np.random.default_rng(seed).integers(0, 256, (600, 40, 40, 3), np.uint8)
        splits[name] = Split(name, images, p.label, p.weight, p.id, p.slices)
    one, none = Found(41, (("<img src=x>.png", "<b>copy</b> of it"),)), Found(0, ())
    found = {"unreadable": {"train": one, "val": none, "test": none}, "leaks": {"train": none, "val": one, "test": one}}
    report.write_data(folder / "report", Dataset("<faces>", NAMES, splits, findings=found))
    (folder / FINISHED).write_text("{}")
    return pictures.Source(
        splits=splits,
        image_size=48,
        crop=1.0,
        fit="crop",
        interpolation="",
        explain=lambda x, k: np.linspace(0, 1, 9 * len(x)).reshape(-1, 3, 3),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Figures of the folder are small: the page has its own."""
    before, figures.DPI = figures.DPI, 40
    parent = tmp_path_factory.mktemp("runs")
    make_run(parent / "earlier", rate=1e-2)
    source = make_run(parent / "this")
    html.write(parent / "this", source=source, previous=html.previous_run(parent / "this"))
    figures.DPI = before
    return parent / "this"


class Reader(HTMLParser):
    """Elements, their attributes and the visible text of a page; fails on tags that are not closed in order."""

    def __init__(self):
        super().__init__()
        self.elements, self.text, self.open = [], [], []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def page(run):
    reader = Reader()
    reader.feed((run / "report" / html.PAGE).read_text())
    assert not reader.open
    return reader


def test_nothing_on_the_page_is_markup_but_its_own(page):
    """Class names, file names, slices, notes and commands are text, whatever they contain."""
    scripts = [attributes for tag, attributes in page.elements if tag == "script"]
    assert [x.get("type") for x in scripts] == ["application/json", None]
    assert not any("onerror" in x or "onclick" in x for _, x in page.elements)
    text = " ".join(page.text)
    for name in (NAMES[0], "<faces>", "<lamp>", "a <note>", "<img src=x>.png", "<b>copy</b>", "train </script>"):
        assert name in text, name


def test_nothing_is_fetched(page, run):
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/")), (tag, name, value[:60])
    text = (run / "report" / html.PAGE).read_text()
    assert "default-src 'none'" in text and "url(http" not in text and "@import" not in text
    assert len(text) < 5_000_000


def test_ids_are_unique_and_references_exist(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.elements:
        if tag == "use" or (tag == "a" and attributes.get("href", "").startswith("#")):
            assert attributes["href"][1:] in ids
        for name in ("aria-controls", "aria-labelledby"):
            assert attributes.get(name, ids[0]) in ids
        if tag == "img":
            assert attributes.get("alt")


def test_numbers_are_those_of_the_report(page, run):
    text = " ".join(page.text)
    for split in ("val", "test"):
        content = json.loads((run / "report" / f"{split}.json").read_text())
        assert f"{100 * content['accuracy']:.1f} %" in text and f"{content['macro_f1']:.2f}" in text
    assert text.count("F1 on val over the training") == 2, "the trend stands in both tabs"
    chosen = [i for i, (_, x) in enumerate(page.elements) if x.get("class") == "tile first"]
    titles = [page.elements[i + 1 : i + 4] for i in chosen]
    assert len(chosen) == 2 and titles
    assert "McNemar" in text and "with all 27 rows taken together" in text
    assert "optim.learning_rate: 0.01 -> 0.001" in text and "earlier" in text
    cells = [x for tag, x in page.elements if tag == "button" and "data-cell" in x]
    assert len(cells) == 2 * K * K
    assert sum(x.get("tabindex") == "0" for x in cells) == 2, "one way in by keyboard for each matrix"


def test_the_data_check_is_told_per_split(page):
    """Counts of every finding, the stamps, and the first records."""
    text = " ".join(" ".join(page.text).split())
    section = text[text.index("Found train val test") : text.index("How it was made", text.index("Found train val"))]
    assert "images 30 600 600" in section and "unreadable 41 0 0" in section
    assert "leaked: the picture is also in an earlier split 0 41 41" in section
    assert "train <img src=x>.png <b>copy</b> of it and 40 more" in section and "Images of each class" in section
    assert "not leak-checked" in text, "this run's leaks were not looked for"


def test_what_leaks_change_has_intervals_and_counts(run):
    """With and without: few images left say little, which is to be seen."""
    macros = html.templates().get_template("sections.html").module
    content = json.loads((run / "report/test.json").read_text())
    leaked = frozenset(predictions(600, 1).id[5:])
    content["leak_check"] = dataclasses.asdict(
        report.stamp("test", predictions(600, 1), NAMES, leaked={"test": leaked})
    )
    reader = Reader()
    reader.feed(str(html_data._without(macros, {"test": content})))
    text = " ".join(" ".join(reader.text).split())
    assert "With leaked images 95 % Without 95 % test: Images 599 4 test: Accuracy 71.3 % 67.5 to 74.8 %" in text
    assert re.search(r"71\.3 % 67\.5 to 74\.8 % 100\.0 % 51\.0 to 100\.0 %", text), "four of four"
    content.pop("intervals"), content["leak_check"].pop("bounds_without")  # as an earlier emojax wrote it
    assert "71.3 %" in str(html_data._without(macros, {"test": content}))


def test_figures_have_the_colours_of_the_page(run):
    """Two sets of them: what keeps a colour of its own, such as black text, is lost on dark paper."""
    text = (run / "report" / html.PAGE).read_text()
    style, rest = text.split("</style>", 1)
    assert not re.search(r"(stroke|fill): #(d9dee3|0072b2|222222|5f6b76|000000|d55e00)", rest)
    assert "stroke: var(--rule)" in rest and ".chart svg { fill: var(--ink); }" in style  # black is SVG's default


def test_pictures_behind_the_cells(run):
    text = (run / "report" / html.PAGE).read_text()
    cells = json.loads(re.search(r'id="cells">(.*?)</script>', text, re.DOTALL)[1])
    confusion = json.loads((run / "report/test.json").read_text())["confusion"]
    assert sum(cell["total"] for cell in cells["test"].values()) == sum(map(sum, confusion)) == 599
    assert {key for key, cell in cells["test"].items() if cell["shown"]} == set(cells["test"])
    for cell in cells["test"].values():
        shares = [float(row[1].split()[0]) for row in cell["shown"]]
        assert shares == sorted(shares, reverse=True) and all(
            row[2].startswith("data:image/jpeg") for row in cell["shown"]
        )


def test_budget_of_pictures(monkeypatch, tmp_path):
    monkeypatch.setattr(pictures, "BUDGET", 60_000)
    source = make_run(tmp_path / "run")
    html.write(tmp_path / "run", source=source)
    found = (tmp_path / "run/report" / html.PAGE).read_text()
    cells = json.loads(re.search(r'id="cells">(.*?)</script>', found, re.DOTALL)[1])
    for split in cells.values():
        shown = [row[2] for cell in split.values() for row in cell["shown"]]
        assert len(shown) > 5 and sum(map(len, shown)) < 60_000
    surest = pictures.mistakes(predictions(600, 1))[: pictures.MISTAKES]
    assert list(pictures.chosen_records(predictions(600, 1))[: pictures.MISTAKES]) == surest


def test_without_pictures_and_neighbours(tmp_path):
    make_run(tmp_path / "run")
    assert html.previous_run(tmp_path / "run") is None
    (tmp_path / "run/report/data.json").unlink()  # as in runs of earlier versions
    text = html.write(tmp_path / "run", source=None).read_text()
    assert "data:image" not in text and "Against the run before" not in text
    assert "Image that could not be read" in text and "&lt;bad&gt;.png" in text


def test_pictures_are_those_of_the_predicted_records():
    """The data in another order, and without some records: pictures go by id, never by position."""
    test = predictions(600, 1)
    grey = np.broadcast_to((np.arange(600) % 200 + 20)[:, None, None, None], (600, 40, 40, 3)).astype(np.uint8)
    order = np.random.default_rng(3).permutation(600)[:590]
    split = Split("test", grey[order], test.label[order], test.weight[order], test.id[order])
    source = pictures.Source(
        splits={"test": split},
        image_size=48,
        crop=1.0,
        fit="crop",
        interpolation="",
        explain=lambda x, k: np.zeros((len(x), 3, 3)),
    )
    found = source.of(test, "test")
    assert found.lost == 10 and set(found.small) <= set(order.tolist()) and found.small
    for position, uri in list(found.small.items())[:40]:
        picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert abs(np.asarray(picture).mean() - grey[position].mean()) < 2
    (stamp,) = html_split._stamps({}, 0, found.lost)
    assert stamp["kind"] == "warn" and stamp["text"].startswith("10 images are no longer in the data")


@pytest.mark.parametrize(
    ("leaks", "kind"),
    [
        ({"checked": True, "leaked": 0, "numbers_without": {}, "text": "leak-checked"}, "good"),
        ({"checked": False, "leaked": 0, "numbers_without": {}, "text": "not leak-checked"}, "warn"),
        ({"checked": True, "leaked": 9, "numbers_without": {}, "text": "9 leaked"}, "warn"),
        ({"checked": True, "leaked": 9, "numbers_without": {"accuracy": 0.5}, "text": "9 leaked"}, "warn"),
    ],
)
def test_the_stamp_is_green_for_checked_and_clean_splits_only(leaks, kind):
    assert html_split._stamps({"leak_check": leaks}, 0, 0) == [{"kind": kind, "text": leaks["text"]}]


def test_the_run_before_is_an_earlier_one_that_judged_the_same_images(tmp_path):
    for name in ("one", "two", "three", "other"):
        (tmp_path / name / "report").mkdir(parents=True)
        (tmp_path / name / FINISHED).write_text("{}")
        for split, seed in (("val", 0), ("test", 1)):
            place = tmp_path / name / "report" / f"{split}-predictions.csv"
            predictions_csv.write(place, predictions(600, seed), NAMES)
    for time, name in enumerate(("one", "two", "three"), start=1):
        os.utime(tmp_path / name / FINISHED, (time, time))
    os.utime(tmp_path / "other" / FINISHED, (2, 2))
    for path in (tmp_path / "other/report").glob("*-predictions.csv"):
        path.write_text(path.read_text().replace("599.png", "new.png"))
    assert html.previous_run(tmp_path / "three") == tmp_path / "two"
    assert html.previous_run(tmp_path / "two") == tmp_path / "one", "not the one that ended later"
    assert html.previous_run(tmp_path / "one") is None
    (tmp_path / "three" / FINISHED).unlink()
    assert html.previous_run(tmp_path / "three") == tmp_path / "two", "a run that is about to end"


def test_a_run_before_of_another_version_does_not_end_this_one(run, tmp_path):
    """Its knobs cannot be read; its predictions can, and are compared."""
    parent = shutil.copytree(run.parent, tmp_path / "runs")
    place = parent / "earlier/config.json"
    place.write_text(place.read_text().replace('"seed"', '"of_tomorrow"', 1))
    page = html.write(parent / "this", source=None, previous=parent / "earlier").read_text()
    assert "cannot be told" in page and "of_tomorrow" in page and "exact test" in page


PROBE = """
<script>
const found = {errors: []};
addEventListener("error", (event) => found.errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => found.errors.push("policy: " + event.blockedURI));
addEventListener("load", () => {
  const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  const dialog = document.getElementById("pictures"), matrix = document.querySelector(".matrix");
  const buttons = [...matrix.querySelectorAll("button")];
  const full = buttons.find((b) => b.classList.contains("right") && b.textContent.trim() !== "\u00b7");
  full.click();
  found.open = dialog.open;
  found.images = [...dialog.querySelectorAll("img")].every((image) => image.src.startsWith("data:image/jpeg"));
  found.count = dialog.querySelectorAll("img").length;
  found.title = document.getElementById("pictures-title").textContent;
  document.getElementById("close").click();
  found.closed = !dialog.open;
  buttons[0].focus();
  press(buttons[0], "ArrowRight");
  found.right = document.activeElement === buttons[1];
  press(document.activeElement, "ArrowDown");
  found.down = document.activeElement.dataset.cell;
  const tabs = [...document.querySelectorAll('#confusion [role="tab"]')];
  tabs[1].click();
  found.panels = [...document.querySelectorAll('#confusion [role="tabpanel"]')].map((panel) => panel.hidden);
  const before = document.documentElement.dataset.theme;
  document.getElementById("theme").click();
  found.theme = [before, document.documentElement.dataset.theme];
  const table = document.querySelector("#classes table"), head = table.tHead.rows[0].cells[3];
  head.querySelector("button").click();
  found.sorted = [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[3].textContent));
  const shares = document.querySelector(".share"), dense = document.querySelector(".matrix.dense");
  shares.click();
  found.percent = getComputedStyle(dense.querySelector("button small")).display;
  found.sticky = getComputedStyle(dense.querySelector("tbody th")).position;
  const box = dense.getBoundingClientRect();
  found.whole = box.left >= 0 && box.right <= innerWidth;
  found.wide = document.documentElement.scrollWidth > innerWidth;
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_in_chromium(run, tmp_path):
    """Cells open their pictures, keys move, tabs, theme and sorting work, and the console stays empty."""
    text = (run / "report" / html.PAGE).read_text()
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("<body>", "<body>" + PROBE, 1))
    dom = subprocess.run(
        [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,900",
            "--virtual-time-budget=3000", "--dump-dom", probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in dom.stderr, dom.stderr
    found = json.loads(unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom.stdout, re.DOTALL)[1]))
    assert found["errors"] == []
    assert found["open"] and found["closed"] and found["count"] > 0 and found["images"]
    assert found["title"].startswith("true ")
    assert found["right"] and found["down"] == "1,1"
    assert found["panels"] == [True, False]
    assert sorted(found["theme"]) == ["dark", "light"]
    assert found["sorted"] == sorted(found["sorted"], reverse=True)
    assert found["percent"] == "block" and found["sticky"] == "sticky"
    assert found["whole"], "the matrix of 21 classes is cut off"
    assert not found["wide"], "the page scrolls sideways"


CONTRAST = """
const channels = (text) => {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  return [...(text.startsWith("rgb") ? [r / 255, g / 255, b / 255] : [r, g, b]), a];
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const contrast = (element) => {
  const parents = [];
  for (let at = element; at; at = at.parentElement) parents.push(at);
  const paper = parents.map((at) => channels(getComputedStyle(at).backgroundColor)).find((colour) => colour[3] > 0);
  const opacity = parents.reduce((all, at) => all * getComputedStyle(at).opacity, 1);
  const ink = channels(getComputedStyle(element).color).map((c, i) => c * opacity + paper[i] * (1 - opacity));
  const [low, high] = [light(ink), light(paper)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
"""
SHADES = """
(() => {
  const cell = document.querySelector(".matrix button small"), found = [];
  for (let p = 0; p <= 1000; p++) {
    cell.parentElement.style.setProperty("--p", `${p / 10}%`);
    found.push(contrast(cell));
  }
  return found;
})()
"""
TEXTS = """
[...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() && !e.closest("svg") &&
  [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
  .map((e) => [contrast(e), e.outerHTML.slice(0, 99)])
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def opened(browser, place, *, scheme="light", media="", width=1200):
    """The page in a window, as the system would have it."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.send("Emulation.setEmulatedMedia", media=media, features=features)
    browser.size(width, 800)
    browser.open(place.as_uri())


@pytest.fixture(scope="module")
def report_page(run):
    return run / "report" / html.PAGE


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(browser, report_page, scheme):
    """WCAG 2.2, 1.4.3: a contrast of 4.5 or more, for all text and for every shade of the confusion matrix."""
    opened(browser, report_page, scheme=scheme)
    browser.ask(CONTRAST.replace("const ", "var "))
    found = browser.ask(TEXTS)
    assert len(found) > 500 and [row for row in found if row[0] < 4.5] == []
    browser.ask("document.querySelector('.share').click()")  # percent, the smallest text
    shades = browser.ask(SHADES)
    assert len(shades) == 1001 and min(shades) >= 4.5, (shades.index(min(shades)) / 10, min(shades))


def test_a_phone_shows_the_whole_width_and_the_heading_that_was_chosen(browser, report_page):
    for width in (320, 390, 600, 800, 1200):
        opened(browser, report_page, width=width)
        assert browser.ask("document.documentElement.scrollWidth") == width
        browser.ask("document.querySelector('a[href=\"#training\"]').click()")
        under = browser.ask(
            "[document.querySelector('#training h2').getBoundingClientRect().top, "
            "document.querySelector('nav').getBoundingClientRect().bottom]"
        )
        assert under[0] >= max(0, under[1]), (width, under)


def test_on_paper_panels_have_names_and_colours_are_light(browser, report_page):
    opened(browser, report_page, scheme="dark", media="print")
    shown = browser.ask(
        "[...document.querySelectorAll('#classes h3, #classes table')].filter((e) => e.checkVisibility())"
        ".map((e) => e.tagName === 'H3' ? e.textContent : e.tagName)"
    )
    assert shown == ["test", "TABLE", "val", "TABLE"]
    assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened(browser, report_page, scheme="dark")
    assert browser.ask("document.querySelector('#classes h3').checkVisibility()") is False, "the tab says it"


def test_the_keyboard_sorts_and_reaches_what_is_scrolled(browser, report_page):
    opened(browser, report_page)
    for key, code, order in ((" ", 32, "descending"), ("Enter", 13, "ascending")):
        browser.ask("document.querySelector('#classes th:nth-child(4) button').focus()")
        browser.press(key, code)
        assert browser.ask("document.querySelector('#classes th:nth-child(4)').ariaSort") == order
    regions = "[...document.querySelectorAll('.scroll')]"
    assert browser.ask(f"{regions}.every((e) => e.tabIndex === 0 && e.role === 'region' && e.ariaLabel)")
    assert browser.ask(f"{regions}.length") > 8
    loose = "[...document.querySelectorAll('body *')].filter((e) => getComputedStyle(e).overflowX === 'auto')"
    assert browser.ask(f"{loose}.every((e) => e.matches('.scroll, dialog'))")


def test_a_page_of_pictures_is_dark_where_the_system_is(browser, tmp_path):
    split = Split("test", np.zeros((1, 8, 8, 3), np.uint8), np.eye(2)[:1], np.ones(1), np.array(["a.png"]))
    card = gallery.Card(record=(split, 0), title="angry", text="label: sad", id="a.png")
    gallery.write(tmp_path / "page.html", title="Label errors", intro="One.", groups=[[card]])
    for scheme, colour in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 29)")):
        opened(browser, tmp_path / "page.html", scheme=scheme)
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == colour
    assert browser.ask("document.querySelectorAll('main img').length") == 1
    assert ("main", "") in browser.accessible()
