"""ElevenLabs' API: text to speech over HTTP and over web sockets, voices, models.

Source of the shapes: elevenlabs 2.78 for Python, elevenlabs-js 2.73, and the plug-ins of LiveKit and Pipecat.
`speech` has what is asked for and how it is told, `rest` and `sockets` the addresses.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request

from voxtral.server.dialects.elevenlabs import rest, sockets
from voxtral.server.errors import HttpError
from voxtral.server.service import SpeechService
from voxtral.server.sharing import Claim


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter()
    router.include_router(rest.routes(service))
    router.include_router(sockets.routes(service))
    return router


def claims(service: SpeechService) -> Mapping[str, Claim]:
    """Say what of others' addresses is for this dialect."""
    return rest.claims(service)


def error_body(request: Request, error: HttpError) -> dict[str, object] | None:
    """Give an error the shape of this dialect beside ours, where its client asks."""
    is_asked = request.url.path.startswith(rest.PREFIXES) or "xi-api-key" in request.headers
    return {"detail": {"status": error.code, "message": error.detail}, **error.body} if is_asked else None
