"""The server: batches, limits, tokens, draining, and what it refuses; around a model that is none."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")

import serving
from hostile_uploads import hostile, png, status
from odd_images import encode
from PIL import Image
from serving import NAMES, Model, form, running, solid, until

from emojax import cli, predict
from emojax.conformal import Sets
from emojax.decision import Decision
from emojax.errors import ConfigError
from emojax.scaling import Scaling
from emojax.serve import server as server_lib
from emojax.serve.gate import Rules
from emojax.serve.limits import Limits, check_exposure, check_token, is_loopback

RED, GREEN, BLUE = solid(250, 10, 10), solid(10, 250, 10), solid(10, 10, 250)


@pytest.fixture(scope="module")
def server():
    with running() as found:
        yield found


def test_one_picture_raw_and_in_a_form(server):
    for body, headers in ((RED, {"Content_Type": "image/png"}), form([RED], "file")):
        code, found, heads = server.ask("POST", "/predict", body, **headers)
        assert code == 200 and found["class"] == "angry" and list(found["probs"]) == list(NAMES)
        assert found["probs"]["angry"] == pytest.approx(251 / (251 + 11 + 11), abs=1e-6) == found["confidence"]
        assert found["abstained"] is None and found["set"] is None and found["attention"] is None
        assert heads["cache-control"] == "no-store" and heads["x-content-type-options"] == "nosniff"


def test_where_it_looked_lies_in_the_central_square(server):
    code, found, _ = server.predict(solid(0, 0, 200, width=40, height=20), "?explain=true")
    assert code == 200 and found["attention"]["class"] == "sad" and found["attention"]["box"] == [0.25, 0, 0.75, 1]
    kind, _, data = found["attention"]["png"].partition(",")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert kind == "data:image/png;base64" and pixels.shape[2] == 4
    assert pixels[0, 0, 3] == 0 and pixels[-1, -1, 3] > 200, "the stronger the evidence, the more it covers"


def test_several_pictures_keep_their_order_and_bad_ones_their_place(server):
    body, headers = form([BLUE, b"nothing", RED, GREEN])
    code, found, _ = server.ask("POST", "/predict/batch", body, **headers)
    assert code == 200
    assert [row.get("class") for row in found["results"]] == ["sad", None, "angry", "happy"]
    assert "cannot be read" in found["results"][1]["error"]
    body, headers = form([b"nothing", b"neither"])
    assert server.ask("POST", "/predict/batch", body, **headers)[0] == 422


def test_requests_share_batches_and_get_their_own_answers():
    with running(wait=0.5) as server:
        before, colours = len(server.model.batches), [(RED, "angry"), (GREEN, "happy"), (BLUE, "sad")] * 4
        threads = server.later(*(picture for picture, _ in colours))
        for thread, (_, name) in zip(threads, colours, strict=True):
            thread.join()
            assert thread.found[1]["class"] == name
        sizes = server.model.batches[before:]
        assert set(sizes) <= {1, 2, 4, 8}, "only sizes that were compiled"
        assert len(sizes) < 6 and sum(sizes) >= 12
        assert sorted(set(server.model.batches[:before])) == [1, 2, 4, 8], "all sizes were warmed up"


def test_a_full_batch_does_not_wait():
    with running(wait=20.0) as server:
        threads = server.later(*[RED] * 8)
        for thread in threads:
            thread.join(10)
            assert thread.found[0] == 200


def test_not_before_it_is_warm():
    model = Model()
    model.gate.clear()
    with running(model=model, warm=False) as server:
        assert server.ask("GET", "/healthz")[:2] == (503, {"status": "warming"})
        code, found, heads = server.predict(RED)
        assert code == 503 and "warming" in found["error"] and heads["retry-after"]
        model.gate.set()
        until(lambda: server.ask("GET", "/healthz")[:2] == (200, {"status": "ready"}))


def test_a_full_queue_refuses_and_recovers():
    with running(limits=Limits(queue=3, pictures=3), wait=0.0) as server:
        server.model.gate.clear()
        waiting = server.later(RED, GREEN, BLUE)
        until(lambda: server.service.admission.pictures == 3)
        code, found, heads = server.predict(RED)
        assert code == 429 and int(heads["retry-after"]) >= 1 and "waiting" in found["error"]
        server.model.gate.set()
        for thread in waiting:
            thread.join()
            assert thread.found[0] == 200
        assert server.predict(RED)[0] == 200
        body, headers = form([RED] * 3)
        assert server.ask("POST", "/predict/batch", body, **headers)[0] == 200
        assert server.service.admission.pictures == 0


def test_bodies_have_bounded_room():
    with running(limits=Limits(bytes=1 << 20, memory=2)) as server:
        server.model.gate.clear()
        large = encode(np.random.default_rng(0).integers(0, 256, (540, 540, 3), dtype=np.uint8), "PNG")
        assert 0.8e6 < len(large) < 1 << 20
        waiting = server.later(large, large)
        until(lambda: server.service.admission.pictures == 2)
        assert server.predict(large)[0] == 429
        server.model.gate.set()
        for thread in waiting:
            thread.join()
            assert thread.found[0] == 200


def test_an_answer_that_takes_too_long_is_503():
    with running(limits=Limits(seconds=0.3)) as server:
        server.model.gate.clear()
        code, found, heads = server.predict(RED)
        assert code == 503 and "0.3 seconds" in found["error"] and heads["retry-after"]
        assert server.predict(RED)[0] == 503
        done = len(server.model.batches)
        server.model.gate.set()
        until(lambda: len(server.model.batches) > done)
        assert server.predict(BLUE)[1]["class"] == "sad"


def test_too_many_pixels_are_413_wherever_the_limit_was_noticed():
    """Pillow has limits of its own; what the server tells is the server's."""
    with running(limits=Limits(pixels=1_000_000)) as server:
        for width, height in ((1001, 1000), (8_000, 8_000), (30_000, 30_000)):
            code, found, _ = server.predict(png(width, height))
            assert code == 413 and "more than the limit of 1,000,000" in found["error"], (width, found)


@pytest.mark.parametrize("count", [4, 5, 60])
def test_too_many_pictures_are_told_by_the_limit_of_the_server(count):
    with running(limits=Limits(pictures=3)) as server:
        body, headers = form([RED] * count)
        code, found, _ = server.ask("POST", "/predict/batch", body, **headers)
        assert code == 422 and found["error"] == "more than 3 pictures in one request"
        body, headers = form([RED] * count, "file")
        code, found, _ = server.ask("POST", "/predict", body, **headers)
        assert code == 422 and found["error"] == "more than 1 picture in one request"


def test_text_where_a_file_belongs_is_told(server):
    body = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n\r\n--x--\r\n'
    code, found, _ = server.ask("POST", "/predict/batch", body, Content_Type="multipart/form-data; boundary=x")
    assert code == 422 and "found text" in found["error"] and "-F files=@FILE" in found["error"]


def test_a_body_that_is_far_too_large_meets_the_refusal(server):
    """Not a closed connection: whoever sends all of it before reading is let finish."""
    code, found, heads = server.predict(bytes(80_000_000))
    assert code == 413 and "more than the limit" in found["error"] and heads["connection"] == "close"
    assert server.predict(RED)[0] == 200


def test_who_asks_whether_to_send_is_refused_at_once(server):
    head = HEAD + b"Content-Length: 40000000\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        began = time.monotonic()
        connection.sendall(head)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ") and time.monotonic() - began < 1.5
    small = HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(RED)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(small)
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(RED)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_a_failing_model_is_500_without_its_reasons(caplog):
    with running() as server:
        server.model.failure = RuntimeError("secret reason")
        with caplog.at_level(logging.ERROR, "emojax.serve"):
            code, found, _ = server.predict(RED)
            until(lambda: "secret reason" in caplog.text and found["request_id"] in caplog.text)
        assert code == 500 and "secret" not in json.dumps(found) and "Traceback" not in json.dumps(found)
        assert server.predict(RED)[0] == 200


def test_drain_answers_who_is_inside_and_refuses_who_comes():
    with running() as server:
        server.model.gate.clear()
        waiting = server.later(RED, BLUE)
        until(lambda: server.service.admission.pictures == 2)
        server.server.handle_exit(signal.SIGTERM, None)
        code, found, heads = server.predict(GREEN)
        assert code == 503 and "draining" in found["error"] and heads["retry-after"] and heads["connection"] == "close"
        assert server.ask("GET", "/healthz")[:2] == (503, {"status": "draining"})
        server.model.gate.set()
        for thread in waiting:
            thread.join()
            assert thread.found[0] == 200
        server.thread.join(10)
        assert not server.thread.is_alive() and server.server.drained


def test_drain_has_an_end():
    with running(drain=0.3) as server:
        server.model.gate.clear()
        waiting = server.later(RED)
        until(lambda: server.service.admission.pictures == 1)
        server.server.handle_exit(signal.SIGTERM, None)
        until(lambda: not server.server.drained)
        server.model.gate.set()
        server.thread.join(20)
        assert not server.thread.is_alive()
        waiting[0].join()


def test_token():
    token = "0123456789abcdef"
    with running(rules=Rules(token=token)) as server:
        for given in ({}, {"Authorization": "Bearer 0123456789abcdeX"}, {"Authorization": token}):
            for method, path in (("GET", "/info"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("POST", "/predict")):
                code, found, heads = server.ask(method, path, **given)
                assert code == 401 and heads["www-authenticate"] == "Bearer" and token not in json.dumps(found)
        for path in ("/", "/page.js", "/page.css", "/icon.svg", "/healthz"):
            assert server.ask("GET", path)[0] == 200
        assert server.predict(RED, Authorization=f"Bearer {token}")[0] == 200
        schema = server.ask("GET", "/openapi.json", Authorization=f"bearer {token}")[1]
        assert schema["paths"]["/predict"]["post"]["security"] == [{"token": []}]
        assert "security" not in schema["paths"]["/healthz"]["get"]


def test_only_names_of_this_machine(server):
    for host, code in (("localhost", 200), ("LOCALHOST:80", 200), ("[::1]:9", 200), ("evil.example", 400), ("", 400)):
        assert server.ask("GET", "/info", Host=host)[0] == code, host


def test_who_may_ask_has_to_be_said():
    assert is_loopback("127.0.0.2") and is_loopback("::1") and is_loopback("localhost")
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.1", "::", "localhost.example", "")))
    check_exposure("127.0.0.1", token="", open_to_all=False)
    check_exposure("0.0.0.0", token="x" * 16, open_to_all=False)
    check_exposure("0.0.0.0", token="", open_to_all=True)
    with pytest.raises(ConfigError, match="--token-file"):
        check_exposure("0.0.0.0", token="", open_to_all=False)
    for bad in ("short", "with spaces and more", "ünicode-ünicode-ü"):
        with pytest.raises(ConfigError, match="16 to 512"):
            check_token(bad)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host=0.0.0.0"], "--token-file"),
        (["--token-file=nowhere"], "cannot be read"),
        (["--queue=0"], "--queue: expected 1 to 100,000 pictures, found 0"),
        (["--max-mib=-1"], "--max-mib: expected more than 0 and at most 64 MiB, found -1"),
        (["--max-mib=0"], "at most 64 MiB, found 0"),
        (["--max-mib=1e4"], "at most 64 MiB, found 10,000"),
        (["--max-pictures=99", "--queue=9"], "more than --queue"),
        (["--max-megapixels=90"], "--max-megapixels: expected more than 0 and at most 50 million pixels, found 90"),
        (["--timeout=0"], "--timeout: expected 0.1 to 3,600 seconds, found 0"),
        (["--port=99999"], "cannot listen"),
        (["--port=0"], "nowhere"),
    ],
)
def test_wrong_options_are_told(arguments, message, capsys, monkeypatch):
    monkeypatch.delenv("EMOJAX_TOKEN", raising=False)
    assert cli.main(["serve", "nowhere", *arguments]) in (2, 3)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--timeout=nan", "--max-mib=inf", "--drain=nan", "--max-wait-ms=soon"])
def test_what_is_no_number_is_told(option, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["serve", "nowhere", option])
    assert error.value.code == 2 and "expected a number, found" in capsys.readouterr().err


def test_hostile_uploads_are_refused():
    requests = hostile()
    assert len(requests) >= 100 and len({one.name for one in requests}) == len(requests)
    with running(limits=Limits(seconds=5)) as server:  # a body that never comes takes as long
        batches = len(server.model.batches)

        async def all_of_them():
            at_once = asyncio.Semaphore(32)  # a loaded machine decodes them all together in more than `seconds`

            async def ask(request):
                async with at_once:
                    return await status(request, server.port)

            found = await asyncio.gather(*(ask(one.request) for one in requests))
            return [(one.name, code) for one, code in zip(requests, found, strict=True)]

        found = asyncio.run(all_of_them())
        assert [(name, code) for name, code in found if not 400 <= code < 500] == []
        assert len(server.model.batches) == batches, "none of them came as far as the model"
        assert server.service.admission.pictures == 0
        assert server.predict(RED)[0] == 200


def test_a_head_that_never_ends_is_cut(monkeypatch):
    monkeypatch.setattr(server_lib.Protocol, "HEAD_SECONDS", 0.3)
    with running() as server:
        for first in (
            b"",
            b"GET /healthz HTTP/1.1\r\nHost: loc",
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",
        ):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(first)
                received = b""
                while part := connection.recv(4096):
                    received += part
                assert received.count(b"HTTP/1.1") == first.count(b"\r\n\r\n")


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
TRICKLES = {
    "of a length": (HEAD + b"Content-Length: 1000\r\n\r\n", b"x", 408, 0.5),
    "in chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 408, 0.5),
    "refused": (HEAD.replace(b"image/png", b"text/plain") + b"Content-Length: 1000\r\n\r\n", b"x", 415, 2.0),
}
"""(head, what comes every 50 ms, the answer, after how many seconds it may come)."""


@pytest.mark.parametrize("kind", TRICKLES)
def test_a_body_that_comes_byte_by_byte_is_cut(kind):
    """Every byte is in time, all of them are not: the limit is for the whole body."""
    head, part, code, seconds = TRICKLES[kind]
    with running(limits=Limits(seconds=0.5, queue=1, pictures=1), rules=Rules(hosts=())) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.05) as connection:
            began, received = time.monotonic(), b""
            connection.sendall(head)
            with contextlib.suppress(ConnectionError):  # closed while the next byte was on its way
                while time.monotonic() < began + 20:
                    with contextlib.suppress(TimeoutError):
                        received += (found := connection.recv(4096))
                        if not found:
                            break
                    connection.sendall(part)
            took = time.monotonic() - began
        assert received.startswith(b"HTTP/1.1 %d " % code) and took < seconds + 5, (received, took)
        until(lambda: server.service.admission.pictures == 0)
        assert server.predict(RED)[0] == 200, "the only slot is free again"


def test_numbers_for_prometheus():
    with running() as server:
        server.predict(RED)
        server.predict(b"nothing")
        server.ask("GET", "/nowhere/else")
        text = server.ask("GET", "/metrics")[1].decode()
        for line in (
            'emojax_requests_total{route="/predict",status="200"} 1.0',
            'emojax_requests_total{route="/predict",status="422"} 1.0',
            'emojax_requests_total{route="other",status="404"} 1.0',
            'emojax_pictures_total{outcome="decoded"} 1.0',
            'emojax_pictures_total{outcome="refused"} 1.0',
            "emojax_batch_pictures_count 1.0",
            "emojax_pictures_waiting 0.0",
            "emojax_ready 1.0",
        ):
            assert line in text.splitlines(), line


def test_a_line_per_request(caplog):
    with running() as server, caplog.at_level(logging.INFO, "emojax.serve.access"):
        server.predict(RED)
        server.ask("GET", "/a%0d%0ab%1b[31m")
        until(lambda: len(caplog.records) >= 2)
    first, second = (json.loads(record.getMessage()) for record in caplog.records[:2])
    assert first["path"] == "/predict" and first["status"] == 200 and first["pictures"] == 1 and first["ms"] > 0
    assert second["status"] == 404 and second["path"] == "/a\r\nb\x1b[31m"
    assert not re.search(r"[\x00-\x1f]", caplog.records[1].getMessage())


def test_abstention_and_sets():
    decision = Decision(
        scaling=Scaling((1.0,) * 3, (0.0,) * 3), method="none", tau=0.0, threshold=0.6, risk=0.1,
        sets=Sets("lac", 0.9, 0.7),
    )  # fmt: skip
    with running(decision=decision) as server:
        assert server.ask("GET", "/info")[1]["abstains"] and server.ask("GET", "/info")[1]["coverage"] == 0.9
        sure, unsure = server.predict(RED)[1], server.predict(solid(120, 100, 5))[1]
        assert sure["class"] == "angry" and sure["abstained"] is False and sure["set"] == ["angry"]
        assert unsure["class"] is None and unsure["abstained"] is True and unsure["set"] == ["angry", "happy"]


def test_a_trained_model_over_http(alone, pictures, tmp_path):
    """The command itself: its answers are those of `emojax.load`, and SIGTERM ends it with 0."""
    paths = sorted((pictures / "test").rglob("*.png"))[:5]
    expected = predict.load(alone).predict(paths)
    command = [sys.executable, "-m", "emojax.cli", "serve", str(alone), "--port=0", "--max-batch=4"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:  # fmt: skip
        try:
            line = process.stderr.readline()
            port = int(re.search(r"http://127\.0\.0\.1:(\d+)/", line)[1])
            ask = serving.Running(port, None, None, None, None)
            until(lambda: _asked(ask), 120, every=0.2)
            names = ask.ask("GET", "/info")[1]["classes"]
            body, headers = form([path.read_bytes() for path in paths])
            rows = ask.ask("POST", "/predict/batch", body, **headers)[1]["results"]
            found = np.array([[row["probs"][name] for name in names] for row in rows])
            np.testing.assert_allclose(found, expected.probs, atol=2e-6)
            heat = ask.predict(paths[0].read_bytes(), "?explain=true")[1]["attention"]
            assert heat["class"] == names[int(expected.probs[0].argmax())]
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0 and "drained" in err and "Traceback" not in err
    assert [json.loads(row)["path"] for row in out.splitlines()][-2:] == ["/predict/batch", "/predict"]


def _asked(ask) -> bool:
    try:
        return ask.ask("GET", "/healthz")[0] == 200
    except OSError:
        return False


def test_pages_are_in_the_package():
    folder = Path(server_lib.__file__).parent / "page"
    for name in ("page.html", "page.css", "page.js", "icon.svg"):
        text = (folder / name).read_text()
        assert not re.search(r"(src|href|url\()=?[\"']?(https?:)?//", text), f"{name} fetches from elsewhere"
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=", (folder / "page.html").read_text())
    assert "innerHTML" not in (folder / "page.js").read_text()
    assert threading.active_count() < 60


def test_the_page_of_the_measurement_says_what_was_measured(monkeypatch):
    root = Path(__file__).resolve().parents[1]
    monkeypatch.syspath_prepend(root / "scripts")
    import serve_page

    found = json.loads((root / "docs/serving.json").read_text())
    assert (root / "docs/serving.md").read_text() == serve_page.page(found)
    assert set(found["held"]["statuses"]) == {"200"} and found["held"]["rate"] == found["limit"]
    assert found["hostile"]["uploads"] == len(hostile()) and found["hostile"]["not_4xx"] == []
    assert not found["hostile"]["crashed"] and found["exit_code_after_sigterm"] == 0
