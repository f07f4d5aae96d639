"""The HTTP side of the service: what may come in, and what goes out."""

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from medssl import __version__
from medssl.inference.scans import ScanReader
from medssl.inference.series import Wanted
from medssl.io.sources.opening import FetchSettings
from medssl.serving.answers import Answer, Answerer
from medssl.serving.bodies import save_body
from medssl.serving.refusals import (
    BAD_REQUEST,
    UNAVAILABLE,
    RefusalError,
    broken,
    slow_body,
    too_slow,
    unauthorized,
)
from medssl.serving.serve_config import ServeConfig
from medssl.serving.token import knows
from medssl.serving.worker import Worker

_log = logging.getLogger(__name__)
_HERE = ("localhost", "127.0.0.1", "[::1]", "::1")
_KNOWN = ("/predict", "/health", "/health/live", "/openapi.json")
_Next = Callable[[Request], Awaitable[Response]]


def build_app(config: ServeConfig, answerer: Answerer, worker: Worker, token: str) -> FastAPI:
    """Return the service of one model; it works while it is running."""

    @asynccontextmanager
    async def running(_app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)

    about = answerer.predictor.description
    app = FastAPI(
        title="medssl",
        version=__version__,
        summary="One task model. For research, not for diagnosis.",
        lifespan=running,
        openapi_url="/openapi.json" if config.describe else None,
        docs_url=None,  # its page would fetch scripts from elsewhere
        redoc_url=None,
    )
    service = _Service(config, answerer, worker, token)

    @app.post(
        "/predict",
        openapi_extra={"requestBody": {"required": True, "content": _BODY}},
        responses={code: {"description": text} for code, text in _STATUSES.items()},
    )
    async def predict(request: Request, to: str | None = None) -> Response:
        """A NIfTI file, or a zip of DICOM files, to a mask or to answers."""
        answer = await service.predict(request, to)
        kept = f'attachment; filename="{answer.file_name}"'
        headers = {"Content-Disposition": kept, "Cache-Control": "no-store", **answer.headers}
        return Response(answer.content, media_type=answer.media_type, headers=headers)

    @app.get("/health")
    async def health() -> Response:
        """Whether requests are done, by which model, and how many are under way."""
        said = {
            "ready": worker.is_ready,
            "model": about.title,
            "weights_digest": about.weights_digest,
            "medssl": __version__,
            "under_way": worker.taken,
            "places": worker.places,
        }
        return JSONResponse(said, 200 if worker.is_ready else UNAVAILABLE)

    @app.get("/health/live")
    async def live() -> dict[str, bool]:
        """Whether there is anybody at all."""
        return {"alive": True}

    _explain_errors(app)
    allowed = config.hosts or (_HERE if config.is_local else ("*",))
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(allowed), www_redirect=False)
    app.middleware("http")(_recorded)
    return app


class _Service:
    """What a request goes through."""

    def __init__(self, config: ServeConfig, answerer: Answerer, worker: Worker, token: str) -> None:
        self._config, self._answerer = config, answerer
        self._worker, self._token = worker, token
        about = answerer.predictor.description
        self._wanted = Wanted(
            modality=about.modality,
            any_modality=config.accept_other_modality,
            body_part=config.body_part or about.training.get("body_part"),
        )

    async def predict(self, request: Request, to: str | None) -> Answer:
        """Return the answer; every folder that was made for it is gone."""
        if not knows(self._token, request.headers.get("authorization")):
            raise unauthorized()
        kind = self._answerer.kind(to)
        self._worker.enter()
        try:
            room = TemporaryDirectory(prefix="medssl-", ignore_cleanup_errors=True)
        except BaseException:
            self._worker.leave()
            raise
        done: asyncio.Future[Answer] | None = None
        try:
            path = await self._received(request, Path(room.name))
            job = self._worker.do(lambda: self._work(path, Path(room.name), kind))
            done = asyncio.wrap_future(job)
            return await asyncio.wait_for(asyncio.shield(done), self._config.limits.time_s)
        except TimeoutError:
            raise too_slow(self._config.limits.time_s) from None
        finally:
            self._clear(room, done)

    async def _received(self, request: Request, room: Path) -> Path:
        limits, folder = self._config.limits, room / "body"
        folder.mkdir()
        (room / "incoming").mkdir()
        try:
            async with asyncio.timeout(limits.upload_s):
                path = await save_body(request, folder, limits)
        except TimeoutError:
            raise slow_body(limits.upload_s) from None
        return folder if path.suffix == ".dcm" else path

    def _work(self, path: Path, room: Path, kind: str) -> Answer:
        limits = self._config.limits
        reader = ScanReader(
            wanted=self._wanted,
            settings=FetchSettings(archive=limits.archive),
            limits=limits.volumes,
            room=room / "incoming",
        )
        return self._answerer.answer(reader, path, room / "out", kind)

    def _clear(self, room: "TemporaryDirectory[str]", done: "asyncio.Future[Any] | None") -> None:
        """Delete the files and give the place back, once the worker has left them."""

        def clear(finished: "asyncio.Future[Any] | None" = None) -> None:
            if finished is not None and not finished.cancelled():
                finished.exception()  # seen; whoever waited has been told
            room.cleanup()
            self._worker.leave()

        if done is None or done.done():
            clear(done)
        else:
            done.add_done_callback(clear)


async def _recorded(request: Request, call_next: _Next) -> Response:
    """Log a request without a word of what it, or who, said; a mistake of ours is no traceback."""
    started = time.monotonic()
    try:
        response = await call_next(request)
    except Exception as error:  # noqa: BLE001  a service goes on
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        _log.error("the service failed: %s at %s", type(error).__name__, where)
        response = _refused(broken())
    path = request.url.path if request.url.path in _KNOWN else "(another path)"
    took_ms = 1000 * (time.monotonic() - started)
    method = request.method if request.method in ("GET", "POST", "HEAD") else "(another)"
    _log.info("%s %s %d %.0f ms", method, path, response.status_code, took_ms)
    return response


def _explain_errors(app: FastAPI) -> None:
    @app.exception_handler(RefusalError)
    async def refused(_request: Request, error: RefusalError) -> Response:
        return _refused(error)

    @app.exception_handler(RequestValidationError)
    async def not_understood(_request: Request, _error: RequestValidationError) -> Response:
        hint = "POST /predict takes a body and the parameter `to`"
        return _refused(RefusalError(BAD_REQUEST, "not_understood", "not understood", hint=hint))

    @app.exception_handler(HTTPException)
    async def elsewhere(_request: Request, error: HTTPException) -> Response:
        hint = "there are POST /predict, GET /health and GET /health/live"
        problem = "there is nothing of that kind here"
        return _refused(RefusalError(error.status_code, "no_such_thing", problem, hint=hint))


def _refused(error: RefusalError) -> Response:
    media = "application/problem+json"
    return JSONResponse(error.body, error.status, headers=error.headers, media_type=media)


_ANY_BYTES = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "application/octet-stream": _ANY_BYTES,
    "application/zip": _ANY_BYTES,
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"scan": {"type": "string", "format": "binary"}},
        }
    },
}
_STATUSES: dict[int | str, str] = {
    200: "The mask as a file, or answers as JSON.",
    400: "The request is not understood.",
    401: "The token is missing, or another one.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    422: "There is no scan that can be predicted.",
    503: "The service has as much to do as it takes on; see Retry-After.",
    504: "It took too long.",
}
