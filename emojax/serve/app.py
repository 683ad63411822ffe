"""The application: its addresses, and what each does. OpenAPI is at /openapi.json."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from emojax import __version__
from emojax.decision import Decision
from emojax.serve import answers, uploads
from emojax.serve.admission import Admission, Ticket
from emojax.serve.batching import Batcher, Found
from emojax.serve.engine import Engine, Picture
from emojax.serve.gate import OPEN, Gate, Rules
from emojax.serve.limits import Limits, Refused
from emojax.serve.meters import TYPE, Meters

PAGE = Path(__file__).parent / "page"
PAGES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
BINARY = {"type": "string", "format": "binary", "minLength": 1}
RAW_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/tiff")
PROBLEMS = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    408: "The body took too long.",
    413: "Too many bytes or pixels.",
    415: "The body is no picture and no form.",
    422: "A picture cannot be read, there are none or too many, or a parameter is wrong.",
    429: "Too many pictures are waiting; Retry-After tells when to try again.",
    503: "Not warm yet, about to end, or no answer in time; see Retry-After.",
}


class Service:
    """What the addresses share: the model behind its queue, and who is in the server.

    Attributes:
      app: the whole as one ASGI application.
      admission, batcher: for whoever ends the server.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        class_names: Sequence[str],
        decision: Decision | None,
        info: dict[str, Any],
        limits: Limits,
        rules: Rules,
        wait: float,
        decoders: int = 2,
    ) -> None:
        """`info`: model and views of `answers.Info`; `wait`: see `Batcher`; `decoders`: threads."""
        self._engine, self._names, self._decision, self._limits = engine, tuple(class_names), decision, limits
        self.meters = Meters()
        self.batcher = Batcher(engine, wait=wait, meters=self.meters)
        self.admission = Admission(limits, ready=self.batcher.ready.is_set)
        self.meters.watch(waiting=lambda: self.admission.pictures, ready=lambda: float(self.admission.state == "ready"))
        self._decoders = ThreadPoolExecutor(decoders, thread_name_prefix="decode")
        self.info = answers.Info(
            version=__version__,
            classes=list(self._names),
            image_size=engine.image_size,
            abstains=decision is not None and decision.threshold > 0,
            coverage=decision.sets.coverage if decision is not None else None,
            max_bytes=limits.bytes,
            max_pixels=limits.pixels,
            max_pictures=limits.pictures,
            **info,
        ).model_dump()
        inside = _application(self, token=bool(rules.token))
        self.app = Gate(inside, rules=rules, meters=self.meters, draining=lambda: self.admission.draining)

    async def body(self, request: Request, ticket: Ticket, *, field: str, most: int) -> list[bytes]:
        """The pictures of a request, which then hold their room."""
        body = await uploads.read(request, self._limits)
        found = await uploads.pictures(request, body, self._limits, field=field, most=most)
        self.admission.widen(ticket, len(found), sum(map(len, found)))
        request.state.pictures = len(found)
        return found

    async def answer(self, data: bytes, *, explain: bool = False) -> dict[str, Any]:
        """The JSON of a `Prediction`. Raises `Refused`."""
        picture = await self._decoded(data)
        found: Found = await self.batcher.find(picture, explain=explain)
        return answers.prediction(found, picture, self._names, self._decision)

    async def _decoded(self, data: bytes) -> Picture:
        def timed() -> Picture:
            began, outcome = time.monotonic(), "refused"
            try:
                picture, outcome = self._engine.decode(data), "decoded"
                return picture
            finally:
                self.meters.picture(outcome, time.monotonic() - began)

        return await asyncio.get_running_loop().run_in_executor(self._decoders, timed)

    @contextlib.asynccontextmanager
    async def life(self, app: FastAPI) -> AsyncIterator[None]:
        """Begins to compile, and ends the threads."""
        del app
        self.batcher.start()
        try:
            yield
        finally:
            self._decoders.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(self.batcher.close)

    @contextlib.asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Turns an answer that takes too long into 503."""
        try:
            async with asyncio.timeout(self._limits.seconds):
                yield
        except TimeoutError as error:
            raise Refused(503, f"no answer within {self._limits.seconds:g} seconds", retry_after=5) from error


def _application(service: Service, *, token: bool) -> FastAPI:
    limits, admission = service._limits, service.admission
    app = FastAPI(
        title="emojax", version=__version__, lifespan=service.life, docs_url=None, redoc_url=None,
        description="Classifies pictures with one trained model.",
    )  # fmt: skip

    @app.post(
        "/predict",
        summary="Classify one picture",
        response_model=answers.Prediction,
        responses=_problems(400, 401, 408, 413, 415, 422, 429, 503),
        openapi_extra={"requestBody": _body("file", {**BINARY}, raw=True)},
    )
    async def predict(
        request: Request,
        explain: Annotated[bool, Query(description="also where the evidence for the class lies")] = False,
    ) -> Response:
        """The body is the picture itself, or a form with one file."""
        uploads.check_kind(request, raw=True)
        with admission.enter(uploads.declared(request, limits)) as ticket:
            found = await service.body(request, ticket, field="file", most=1)
            async with service.deadline():
                return JSONResponse(await service.answer(found[0], explain=explain))

    @app.post(
        "/predict/batch",
        summary="Classify several pictures",
        response_model=answers.Predicted,
        responses=_problems(400, 401, 408, 413, 415, 422, 429, 503),
        openapi_extra={
            "requestBody": _body(
                "files", {"type": "array", "items": BINARY, "minItems": 1, "maxItems": limits.pictures}, raw=False
            )
        },
    )
    async def batch(request: Request) -> Response:
        """The body is a form with files. Those that cannot be read have an `error`; 422 when none can."""
        uploads.check_kind(request, raw=False)
        with admission.enter(uploads.declared(request, limits)) as ticket:
            found = await service.body(request, ticket, field="files", most=limits.pictures)
            async with service.deadline():
                results = await asyncio.gather(*map(service.answer, found), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Refused):
                raise result
        refused = [result for result in results if isinstance(result, Refused)]
        if len(refused) == len(results):
            raise Refused(422, f"none of the pictures can be read; the first: {refused[0].message}")
        rows = [{"error": result.message} if isinstance(result, Refused) else result for result in results]
        return JSONResponse({"results": rows})

    @app.get("/info", summary="The model and the limits", response_model=answers.Info, responses=_problems(400, 401))
    async def info() -> Response:
        return JSONResponse(service.info)

    @app.get(
        "/healthz",
        summary="Whether requests are answered",
        response_model=answers.Health,
        responses={**_problems(400), 503: {"model": answers.Health, "description": "Not now."}},
    )
    async def healthz() -> Response:
        return JSONResponse({"status": admission.state}, 200 if admission.state == "ready" else 503)

    @app.get(
        "/metrics",
        summary="Numbers for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_problems(400, 401)},
    )
    async def metrics() -> Response:
        return Response(service.meters.text(), media_type=TYPE)

    for path, (name, media) in PAGES.items():
        app.get(path, include_in_schema=False)(_file((PAGE / name).read_bytes(), media))
    app.exception_handler(Refused)(_refused)
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(Exception)(_failed)
    app.openapi = lambda: _schema(app, token=token)
    return app


def _file(content: bytes, media: str) -> Any:
    async def page() -> Response:
        return Response(content, media_type=media)

    return page


def _body(field: str, schema: dict[str, Any], *, raw: bool) -> dict[str, Any]:
    form = {"type": "object", "properties": {field: schema}, "required": [field], "additionalProperties": False}
    kinds: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if raw:
        kinds |= {kind: {"schema": BINARY} for kind in RAW_TYPES}
    return {"required": True, "content": kinds}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": answers.Problem, "description": PROBLEMS[status]} for status in statuses}


def _problem(request: Request, status: int, message: str, headers: Any = None) -> JSONResponse:
    request.state.error = message[:300]
    return JSONResponse({"error": message, "request_id": request.state.request_id}, status, headers)


async def _refused(request: Request, error: Any) -> Response:
    headers = {"retry-after": str(error.retry_after)} if error.retry_after else None
    return _problem(request, error.status, error.message, headers)


async def _http(request: Request, error: Any) -> Response:
    return _problem(request, error.status_code, str(error.detail), error.headers)


async def _invalid(request: Request, error: Any) -> Response:
    found = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5])
    return _problem(request, 422, found)


async def _failed(request: Request, error: Any) -> Response:
    del error  # goes to the log, by the gate, and to nobody else
    return _problem(request, 500, "the server failed; its log tells more")


def _schema(app: FastAPI, *, token: bool) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for name in ("HTTPValidationError", "ValidationError"):  # ours are `Problem`s
            schema["components"]["schemas"].pop(name, None)
        if token:
            schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            for path, methods in schema["paths"].items():
                if path not in OPEN:
                    for method in methods.values():
                        method["security"] = [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
