"""create_app: the parts of the server, put together. No globals; two applications in one process share nothing.

Guard -> BodyLimit -> routes of the dialects -> SpeechService -> VoxtralTTS.submit
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

import voxtral
from voxtral.device import device_memory
from voxtral.errors import VoxtralError
from voxtral.server import dialects
from voxtral.server.body import BodyLimit
from voxtral.server.errors import as_http_error
from voxtral.server.guard import Guard, RedactPaths
from voxtral.server.heads import PublicHeads
from voxtral.server.keys import load_keys
from voxtral.server.metrics import Metrics
from voxtral.server.model_host import ModelHost
from voxtral.server.openapi import DOOR, describe, refusals
from voxtral.server.options import ServerOptions
from voxtral.server.schema import invalid
from voxtral.server.service import SpeechService
from voxtral.tts import VoxtralTTS

_log = logging.getLogger("voxtral.server")


def create_app(
    options: ServerOptions | None = None,
    tts: VoxtralTTS | None = None,
    announce: Callable[[str], None] = _log.info,
) -> FastAPI:
    """Make the application.

    Args:
        options: of the server; None reads the VOXTRAL_ variables.
        tts: a loaded model to serve; it is not closed. None loads the one that the options name, in the background.
        announce: gets lines for a person.

    Raises:
        OptionError: a variable or a key breaks a rule.
    """
    options = options or ServerOptions.from_environment()
    keys = load_keys(options)
    if options.insecure and not keys:
        _log.warning("VOXTRAL_INSECURE is set: whoever reaches this server may use it; there is no API key")
    metrics = Metrics()
    host = ModelHost(options, tts, announce)
    host.on_restart = metrics.restarts.inc
    service = SpeechService(options, host, metrics)
    _watch(metrics, service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        redact = RedactPaths([*app.openapi()["paths"], *public])
        await host.start()
        try:
            async with AsyncExitStack() as stack:
                stack.enter_context(redact.of_uvicorn())
                for module in modules:
                    if hasattr(module, "listening"):
                        await stack.enter_async_context(module.listening(service, announce))
                yield
        finally:
            host.drain()
            await service.jobs.close()
            await host.close()
            await service.close()

    modules = [
        importlib.import_module(f"{dialects.__name__}.{found.name}")
        for found in pkgutil.iter_modules(dialects.__path__)
    ]
    public = [path for module in modules for path in getattr(module, "PUBLIC_PATHS", ())]
    # So that one address that takes all it can get leaves as much to others.
    share = -(-service.admission.max_streams // 2)
    middleware = [
        Middleware(Guard, options=options, keys=keys, metrics=metrics, public_paths=public, peer_share=share),
        Middleware(PublicHeads, paths=public),
        Middleware(BodyLimit, options=options),
    ]
    if options.allowed_origins:
        cross_site = Middleware(
            CORSMiddleware,
            allow_origins=options.allowed_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )
        middleware.insert(1, cross_site)
    app = FastAPI(
        title="voxtral-tts",
        version=voxtral.__version__,
        docs_url=None,  # they would load scripts of another site
        redoc_url=None,
        lifespan=lifespan,
        middleware=middleware,
        responses=refusals(*DOOR),
    )
    app.state.service = service
    for module in modules:
        if hasattr(module, "claims"):
            service.shared.add(module.claims(service))
        app.include_router(module.routes(service))
    shapes = [module.error_body for module in modules if hasattr(module, "error_body")]

    async def answer(request: Request, error: Exception) -> Response:
        """Give every error the shape that clients read; a dialect may add to it."""
        if isinstance(error, RequestValidationError):
            error = invalid(error.errors())
        refusal = as_http_error(error)
        bodies = (shape(request, refusal) for shape in shapes)
        return refusal.response(next((body for body in bodies if body is not None), None))

    for kind in (VoxtralError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)
    describe(app, public)
    return app


def _watch(metrics: Metrics, service: SpeechService) -> None:
    admission, host = service.admission, service.host
    metrics.watch("voxtral_streams", "Utterances under way.", lambda: admission.num_active)
    metrics.watch("voxtral_queue_length", "Requests that wait for a turn.", lambda: admission.num_waiting)
    metrics.watch("voxtral_voice_jobs", "Voices that are searched for, or wait.", lambda: service.jobs.num_active)
    metrics.watch("voxtral_batch_size", "Sequences that make frames side by side.", lambda: host.num_active)
    metrics.watch("voxtral_ready", "1 if a request would be spoken.", lambda: float(host.is_ready))
    metrics.watch("voxtral_device_memory_bytes", "Memory of torch on the GPU.", device_memory)
