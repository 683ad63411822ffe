"""`emojax serve`: a trained model behind HTTP, with a page for trying it in a browser."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import warnings
from pathlib import Path

from emojax.cli import model_options

TOKEN = "EMOJAX_TOKEN"  # noqa: S105 (the name of a variable)


def main(arguments: list[str]) -> int:
    """Serves until SIGTERM or Ctrl-C, and then answers what is inside; 0 when all of it got an answer, else 130."""
    options = _parser().parse_args(arguments)
    _check_installed()
    from emojax import predict
    from emojax.serve import app, engine, gate, limits as limits_lib, server

    limits = limits_lib.Limits(
        bytes=round(options.max_mib * (1 << 20)),
        pixels=round(options.max_megapixels * 1e6),
        pictures=options.max_pictures,
        queue=options.queue,
        seconds=options.timeout,
    )
    token = limits_lib.check_token(_token(options.token_file))
    limits_lib.check_exposure(options.host, token=token, open_to_all=options.open)
    socket = server.listen(options.host, options.port)
    with socket:
        classifier = predict.load(options.path, which=options.which, views=options.views)
        if classifier.note:
            sys.stderr.write(f"emojax: {classifier.note}\n")
        _log_lines()
        service = app.Service(
            engine.of(classifier, max_pixels=limits.pixels, max_batch=options.max_batch),
            class_names=classifier.class_names,
            decision=classifier.decision,
            info={"model": classifier.config.model.name, "views": classifier.views},
            limits=limits,
            rules=gate.Rules(token=token, hosts=_hosts(options)),
            wait=options.max_wait_ms / 1000,
            decoders=min(8, max(2, os.cpu_count() or 1)),
        )
        running = server.make(service, limits, drain=options.drain)
        host, port = options.host.strip("[]"), socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        sys.stderr.write(f"emojax: http://{shown}:{port}/ - compiling; /healthz tells when requests are answered\n")
        sys.stderr.flush()
        running.run(sockets=[socket])
    if service.batcher.failure is not None:
        raise service.batcher.failure
    sys.stderr.write("emojax: drained\n" if running.drained else "emojax: ended before all had their answers\n")
    return 0 if running.drained else 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emojax serve", description=__doc__)
    parser.add_argument("path", metavar="PATH", help="folder of a training run, or a bundle of `emojax export`")
    model_options.add_choice(parser)
    where = parser.add_argument_group("who may ask")
    where.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine alone")
    where.add_argument("--port", type=int, default=8000, help="0 = any free one, which is told; default: 8000")
    where.add_argument(
        "--token-file", default="", metavar="FILE", help=f"holds the token that requests must carry; or set {TOKEN}"
    )
    where.add_argument(
        "--open", action="store_true", help="serve everybody who can reach --host; needed where there is no token"
    )
    where.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="another name that browsers may use; * = any"
    )
    how = parser.add_argument_group("how much")
    how.add_argument(
        "--max-batch", type=int, default=32, choices=(1, 2, 4, 8, 16, 32), help="pictures at once; default: 32"
    )
    for name, kind, default, what in (
        ("max-wait-ms", _number, 4.0, "how long a picture waits for others"),
        ("queue", int, 256, "pictures in the server; more get 429"),
        ("max-mib", _number, 10.0, "of one request"),
        ("max-megapixels", _number, 25.0, "of one picture"),
        ("max-pictures", int, 32, "in one request"),
        ("timeout", _number, 30.0, "seconds for a body, and again for its answer"),
        ("drain", _number, 30.0, "seconds for what is inside when the server is to end"),
    ):
        how.add_argument(f"--{name}", type=kind, default=default, metavar="N", help=f"{what}; default: {default:g}")
    return parser


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, found {text!r}")
    return value


def _check_installed() -> None:
    from emojax.errors import ConfigError

    try:
        import fastapi
        import prometheus_client
        import python_multipart
        import uvicorn
    except ImportError as error:
        raise ConfigError(f"emojax serve needs {error.name}: pip install 'emojax[serve]'") from error
    del fastapi, prometheus_client, python_multipart, uvicorn


def _token(file: str) -> str:
    from emojax.errors import ConfigError

    if not file:
        return os.environ.get(TOKEN, "")
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file={file}: cannot be read: {error}") from error
    if not token:
        raise ConfigError(f"--token-file={file}: is empty")
    return token


def _hosts(options: argparse.Namespace) -> tuple[str, ...]:
    """Names under which the server may be addressed: on other addresses than loopback, any."""
    from emojax.serve import limits

    if "*" in options.allow_host or not limits.is_loopback(options.host):
        return ()
    return (*limits.LOOPBACK, options.host.lower(), *(name.lower() for name in options.allow_host))


def _log_lines() -> None:
    """One JSON line per request on stdout; what went wrong on stderr."""
    for name, stream, level in (
        ("emojax.serve.access", sys.stdout, logging.INFO),
        ("emojax.serve", sys.stderr, logging.WARNING),
    ):
        logger = logging.getLogger(name)
        logger.handlers = [logging.StreamHandler(stream)]
        logger.setLevel(level)
        logger.propagate = False
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata; whether a picture can be read is told
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # has a warning for every form that is none
