"""The users' guide's own API: POST /synthesize and GET /health.

The text comes in the query, as the guide has it, or as a form or JSON, because the line of a request has an end.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse, PlainTextResponse, Response

from voxtral.server.body import read_clip, read_fields
from voxtral.server.cloning import describe_cloning
from voxtral.server.errors import needs_events
from voxtral.server.openapi import READING, SPEAKING, audio, refusals
from voxtral.server.schema import AudioFormat, OptionalStr, SpeechFields, validate
from voxtral.server.service import SpeechOrder, SpeechService
from voxtral.server.stream import SpeechResponse

PUBLIC_PATHS = ("/health",)

_LANGUAGES_OF_THE_WEIGHTS = 9


class SynthesizeFields(SpeechFields):
    """What /synthesize takes, by query, form or JSON; a form may have the clip `reference` besides."""

    text: str = Field(description="What to speak.")
    voice: OptionalStr = Field(None, description="A name of GET /v1/audio/voices.")
    response_format: AudioFormat = "wav"


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["guide"])

    @router.post(
        "/synthesize",
        response_class=Response,
        responses={**audio(), **refusals(*READING, *SPEAKING)},
        openapi_extra={"requestBody": _request_body()},
    )
    async def synthesize(
        request: Request,
        text: str | None = Query(None, description="What to speak."),
        language: str | None = Query(None, description="Chooses the default voice."),
    ) -> Response:
        """Speak a text; a clip sent along as `reference` is the voice, and is not stored."""
        fields = {**request.query_params, **await read_fields(request)}
        clip = fields.pop("reference", None)
        reference = None
        if clip is not None and clip != "":
            reference = (await read_clip(request, clip, service.options.max_upload_bytes, "reference")).data
        wanted = validate(SynthesizeFields, fields)
        if wanted.timestamps:
            raise needs_events('ask /v1/audio/speech with stream_format "sse", or /dev/captioned_speech')
        order = SpeechOrder(
            wanted.speech_request(
                wanted.text, wanted.voice, reference, service.options.normalize, service.dictionaries
            ),
            format=wanted.response_format,
            sample_rate=wanted.sample_rate,
            is_held=wanted.stream is False,
            ignored=wanted.unknown_fields,
        )
        return SpeechResponse(service, order, request)

    @router.get(
        "/health",
        response_class=Response,
        responses={
            200: {
                "description": "It runs.",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/plain": {"schema": {"type": "string"}},
                },
            }
        },
    )
    async def health(request: Request) -> Response:
        """Say that the server runs; /readyz says whether it would speak."""
        if request.headers.get("accept", "").startswith("text/plain"):
            return PlainTextResponse("OK")
        card = service.host.card
        num_languages = len(card.languages) if card else _LANGUAGES_OF_THE_WEIGHTS
        cloning = describe_cloning(card, service.options)
        return JSONResponse({"status": "ok", "model": "voxtral-tts", "languages": num_languages, "cloning": cloning})

    return router


def _request_body() -> dict[str, Any]:
    schema = SynthesizeFields.model_json_schema()
    with_clip = {**schema, "properties": {**schema["properties"], "reference": {"type": "string", "format": "binary"}}}
    # The text may be in the query instead.
    for each in (schema, with_clip):
        each.pop("required", None)
    return {
        "required": False,
        "content": {
            "multipart/form-data": {"schema": with_clip},
            "application/x-www-form-urlencoded": {"schema": schema},
            "application/json": {"schema": schema},
        },
    }
