"""The server's page in Chromium: pictures, paste, webcam, keyboard, token, both colour schemes, nothing fetched."""

from __future__ import annotations

import base64
import json

import pytest

pytest.importorskip("fastapi")

from chromium import CHROMIUM, Browser
from serving import running, solid

from emojax.serve.gate import Rules

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

READY = "document.getElementById('status-text').textContent === 'ready' && document.querySelectorAll('#bars li').length"
ANSWER = "document.getElementById('answer-class').textContent"
ROWS = "[...document.querySelectorAll('#bars li')].map((row) => [0, 1].map((i) => row.children[i].textContent))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def server():
    with running() as found:
        yield found


@pytest.fixture
def page(browser, server):
    browser.size(1120, 800)
    browser.scheme("light")
    browser.console.clear()
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.until(READY)
    yield browser
    assert browser.console == [], "the console stays empty"


@pytest.fixture(scope="module")
def red(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "red.png"
    path.write_bytes(solid(250, 10, 10, width=40, height=20))
    return path


def test_a_picture_is_classified_and_explained(page, red):
    page.upload("#file", red)
    page.until(f"{ANSWER} === 'angry' && !document.getElementById('map').hidden")
    assert page.ask(ROWS) == [["angry", "91.9 %"], ["happy", "4.0 %"], ["sad", "4.0 %"]]
    box = page.ask(
        "(() => { const [m, p] = ['map', 'photo'].map((id) => document.getElementById(id).getBoundingClientRect());"
        "return [(m.left - p.left) / p.width, m.width / p.width, m.height / p.height, p.width / p.height]; })()"
    )
    assert box == pytest.approx([0.25, 0.5, 1, 2], abs=0.01), "the map lies where the model looked"
    page.ask("document.getElementById('top').click()")
    assert page.ask("document.getElementById('top').getAttribute('aria-pressed')") == "true"
    page.ask("document.getElementById('explain').click()")
    assert page.ask("document.getElementById('map').hidden")
    assert page.ask("document.getElementById('live').textContent").startswith("angry, 91.9 %. happy")


def _given(event: str, picture: bytes) -> str:
    """An event that brings a file, as dropping and pasting do."""
    data = base64.b64encode(picture).decode()
    kind = "ClipboardEvent" if event == "paste" else "DragEvent"
    name = "clipboardData" if event == "paste" else "dataTransfer"
    return (
        f"(() => {{ const bytes = Uint8Array.from(atob('{data}'), (c) => c.charCodeAt(0)), data = new DataTransfer();"
        f"data.items.add(new File([bytes], 'a.png', {{ type: 'image/png' }}));"
        f"dispatchEvent(new {kind}('{event}', {{ {name}: data, cancelable: true, bubbles: true }})); }})()"
    )


def test_drop_and_paste(page):
    page.ask(_given("drop", solid(10, 250, 10)))
    page.until(f"{ANSWER} === 'happy'")
    page.ask(_given("paste", solid(10, 10, 250)))
    page.until(f"{ANSWER} === 'sad'")


def test_a_bad_picture_is_told(browser, server):
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.until(READY)
    browser.ask(_given("drop", b"nothing"))
    browser.until("document.getElementById('problem').textContent.includes('cannot be read')")
    assert browser.ask(ANSWER) == "–" and not browser.ask("document.getElementById('problem').hidden")
    browser.ask(_given("drop", solid(10, 250, 10)))
    browser.until(f"{ANSWER} === 'happy' && document.getElementById('problem').hidden")


def test_webcam(page, server):
    before = len(server.model.batches)
    page.ask("document.getElementById('webcam').click()")
    page.until("!document.getElementById('video').hidden && document.getElementById('answer-share').textContent !== ''")
    page.until("document.getElementById('webcam').textContent === 'Stop webcam'")
    assert len(server.model.batches) > before
    page.ask("document.getElementById('snap').click()")
    page.until("document.getElementById('video').hidden && !document.getElementById('photo').hidden")
    assert page.ask("document.getElementById('webcam').getAttribute('aria-pressed')") == "false"


def test_by_keyboard(page):
    seen = []
    for _ in range(9):
        page.press("Tab", 9)
        seen.append(page.ask("document.activeElement.id || document.activeElement.className"))
    assert seen[:7] == ["skip", "choose", "webcam", "explain", "opacity", "top", "all"]
    page.ask("document.getElementById('explain').focus()")
    page.press(" ", 32)
    assert page.ask("document.getElementById('explain').checked") is False
    page.ask("document.getElementById('top').focus()")
    page.press("Enter", 13)
    assert page.ask("document.getElementById('top').getAttribute('aria-pressed')") == "true"


def test_for_screen_readers(page):
    found = page.accessible()
    for one in (
        ("heading", "emojax"), ("button", "Choose picture"), ("button", "Use webcam"), ("switch", "Where it looked"),
        ("slider", "Strength"), ("group", "How many classes"), ("list", "Probabilities, the highest first"),
    ):  # fmt: skip
        assert one in found, one
    assert [name for role, name in found if role in ("button", "image", "link", "switch", "slider") and not name] == []
    assert page.ask("document.documentElement.lang") == "en"


READ = (
    "h1",
    "#model",
    "h2",
    ".drop span",
    "#choose",
    "#webcam",
    ".slider",
    ".note",
    ".bars .name",
    "footer",
    "#all",
    "#top",
)
CONTRAST = """
(() => {
  const linear = (v) => v / 255 <= .03928 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(linear);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return NAMES.map((name) => {
    const element = document.querySelector(name);
    const a = light(getComputedStyle(element).color), b = light(behind(element));
    return [name, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)];
  });
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read_and_narrow_windows_do_not_scroll_sideways(page, scheme):
    page.scheme(scheme)
    page.until("document.getAnimations().length === 0")
    assert [
        (name, round(ratio, 2)) for name, ratio in page.ask(CONTRAST.replace("NAMES", json.dumps(READ))) if ratio < 4.5
    ] == [], "WCAG 2.2 AA"
    dark = page.ask("getComputedStyle(document.documentElement).backgroundColor") == "rgb(15, 17, 25)"
    assert dark == (scheme == "dark")
    for width in (320, 390, 768, 1600):
        page.size(width, 800, mobile=width < 700)
        assert page.ask("document.documentElement.scrollWidth <= innerWidth"), width


def test_nothing_is_fetched_from_elsewhere(page, server):
    names = page.ask("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert names and all(name.startswith(f"http://127.0.0.1:{server.port}/") for name in names)
    page.ask(
        "new Promise((end) => { const i = new Image(); i.onerror = i.onload = end; i.src = 'http://localhost:1/x'; })"
    )
    page.until("true")
    assert any("Content Security Policy" in text for text in page.console), "the policy is in force"
    page.console.clear()


def test_token(browser):
    with running(rules=Rules(token="0123456789abcdef")) as server:
        browser.open(f"http://127.0.0.1:{server.port}/")
        browser.until("document.getElementById('ask').open")
        browser.ask("document.getElementById('token').value = '0123456789abcdef'")
        browser.ask("document.querySelector('#ask-form button').click()")
        browser.until("!document.getElementById('ask').open && document.querySelectorAll('#bars li').length === 3")
        browser.ask(_given("drop", solid(10, 250, 10)))
        browser.until(f"{ANSWER} === 'happy'")
        assert browser.ask("localStorage.length + sessionStorage.length + document.cookie.length") == 0
