"""The page at `/`: type, choose a voice, hear it while it is made.

Its files are written by hand, need nothing from elsewhere, and are sent from memory: no path of a client is looked up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

from voxtral.server.service import SpeechService

_SCRIPTS = (
    "clip.js",
    "command.js",
    "dom.js",
    "events.js",
    "heard.js",
    "history.js",
    "microphone-worklet.js",
    "microphone.js",
    "output.js",
    "page.js",
    "player.js",
    "preparing.js",
    "queue.js",
    "reading.js",
    "recording.js",
    "server.js",
    "speech.js",
    "voices.js",
    "waveform.js",
)

_FILES = {
    "/": "index.html",
    "/favicon.ico": "icon.svg",
    **{f"/{name}": name for name in ("page.css", "icon.svg", *_SCRIPTS)},
}

# The page asks for the key itself.
PUBLIC_PATHS = tuple(_FILES)

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(include_in_schema=False)
    folder = files("voxtral.server") / "page"
    for path, name in _FILES.items():
        router.add_api_route(path, _sender((folder / name).read_bytes(), _TYPES[name.rpartition(".")[2]]))
    return router


def _sender(data: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    """Make a route that sends a file, or says that the browser has it."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
    # Kept by the browser, but asked for each time: after an update of the server no old page speaks to it.
    headers = {"ETag": etag, "Cache-Control": "no-cache"}

    async def send(request: Request) -> Response:
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=media_type, headers=headers)

    return send
