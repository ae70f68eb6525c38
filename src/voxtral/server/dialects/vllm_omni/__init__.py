"""vLLM-Omni's web socket and batch: /v1/audio/speech/stream and /v1/audio/speech/batch.

Source of the shapes: vLLM-Omni 0.30, its serving code and its tests. What it sends over HTTP to /v1/audio/speech is
part of `openai`. `fields` has what may be asked for, `units` what is spoken by itself, `batch` and `session` the
addresses.
"""

from __future__ import annotations

from fastapi import APIRouter

from voxtral.server.dialects.vllm_omni import batch, session
from voxtral.server.service import SpeechService


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1/audio/speech", tags=["vllm-omni"])
    batch.add_routes(router, service)
    session.add_routes(router, service)
    return router
