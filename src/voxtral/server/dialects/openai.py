"""OpenAI's API: speech, models, and the addresses that its clients look at beside them.

Source of the shapes: openai-python's types for audio.speech and models; the clients in docs/SERVER.md.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Literal, get_args

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from voxtral.audio.writers import can_write
from voxtral.server.body import read_clip, read_fields
from voxtral.server.cloning import describe_cloning
from voxtral.server.errors import HttpError, needs_events
from voxtral.server.model_host import ModelCard
from voxtral.server.openapi import READING, SPEAKING, audio, refusals, request_body
from voxtral.server.schema import AudioFormat, OptionalStr, SpeechFields, validate
from voxtral.server.service import MODEL_ALIASES, Closing, Encoded, SpeechOrder, SpeechService
from voxtral.server.stream import SpeechResponse
from voxtral.types import WordTime


class VoiceId(BaseModel):
    """A voice as an object."""

    id: str


class SpeechBody(SpeechFields):
    """The body of POST /v1/audio/speech; what comes after `stream_format` is more than OpenAI has."""

    input: str = Field(description="What to speak.")
    model: OptionalStr = Field(None, description="A name of GET /v1/models.")
    voice: str | VoiceId | None = Field(None, description="A name of GET /v1/audio/voices, or an object with its id.")
    response_format: AudioFormat = "mp3"
    stream_format: Literal["audio", "sse"] = "audio"
    instructions: str | None = Field(None, description="Accepted; the model takes none.")
    ref_audio: OptionalStr = Field(None, description="A clip to clone, in base64 or as a data: URL; never fetched.")

    @property
    def voice_name(self) -> str | None:
        """The voice as a name."""
        return (self.voice.id if isinstance(self.voice, VoiceId) else self.voice) or None


class SpeechEvents:
    """Server-sent events: audio in base64, then the usage; an error before a stream that breaks.

    Args:
        spoken: a text whose words are wanted, which are in each event then; None for none.
    """

    media_type = "text/event-stream; charset=utf-8"

    def __init__(self, spoken: str | None = None) -> None:
        self._spoken = spoken

    def start(self) -> bytes:
        """Write nothing."""
        return b""

    def audio(self, piece: Encoded) -> bytes:
        """Write a piece of audio, and the words that are final with it; `words` is more than OpenAI has."""
        event: dict[str, Any] = {"type": "speech.audio.delta", "audio": base64.b64encode(piece.data).decode()}
        if self._spoken is not None:
            event["words"] = [_word(self._spoken, word) for word in piece.words]
        return _event(event)

    def end(self, closing: Closing) -> bytes:
        """Write what it took; the field `voxtral` is more than OpenAI has."""
        num_out = closing.stats.num_frames
        usage = {
            "input_tokens": closing.num_prompt_tokens,
            "output_tokens": num_out,
            "total_tokens": closing.num_prompt_tokens + num_out,
        }
        more: dict[str, Any] = {"finish_reason": closing.finish_reason, **closing.stats.to_dict()}
        if closing.check is not None:
            more["check"] = closing.check.to_dict()
        return _event({"type": "speech.audio.done", "usage": usage, "voxtral": more})

    def failure(self, error: HttpError) -> bytes:
        """Write the error."""
        return _event({"type": "error", **error.body})


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1", tags=["openai"])
    formats = [name for name in get_args(AudioFormat) if can_write(name)]

    def model_of(name: str, card: ModelCard) -> dict[str, Any]:
        more = {
            "cloning": card.has_encoder and service.options.cloning,
            "cloning_details": describe_cloning(card, service.options),
            "formats": formats,
            "normalize": service.options.normalize,
        }
        return {**_model(name, card), **more}

    @router.get("/")
    async def root() -> dict[str, str]:
        """Answer clients that open their connection early."""
        return {"object": "voxtral-tts", "status": "ok"}

    @router.post(
        "/audio/speech",
        response_class=Response,
        responses={**audio("text/event-stream"), **refusals(*READING, *SPEAKING)},
        openapi_extra=request_body(SpeechBody, ["application/json"]),
    )
    async def speech(request: Request) -> Response:
        """Speak a text."""
        body = validate(SpeechBody, await read_fields(request))
        limit = service.options.max_upload_bytes
        clip = (await read_clip(request, body.ref_audio, limit, "ref_audio")).data if body.ref_audio else None
        order = SpeechOrder(
            body.speech_request(body.input, body.voice_name, clip, service.options.normalize, service.dictionaries),
            format=body.response_format,
            model=body.model,
            is_held=body.stream is False,
            ignored=(*(["instructions"] if body.instructions else []), *body.unknown_fields),
        )
        if body.stream_format == "sse":
            return SpeechResponse(service, order, request, SpeechEvents(body.input if body.timestamps else None))
        if body.timestamps:
            raise needs_events('send stream_format "sse", or ask /dev/captioned_speech')
        return SpeechResponse(service, order, request)

    @router.get("/models", responses=refusals(503))
    async def models() -> dict[str, Any]:
        """List the loaded model, first by its own name, then by those that clients have built in."""
        card, _ = await service.host.describe()
        return {"object": "list", "data": [model_of(name, card) for name in (card.id, *MODEL_ALIASES)]}

    @router.get("/models/{model_id:path}", responses=refusals(404, 503))
    async def model(model_id: str) -> dict[str, Any]:
        """Describe the loaded model, with its voices."""
        card, voices = await service.host.describe()
        service.check_model(model_id)
        listed = [{"name": voice.name, "language": voice.language} for voice in (*voices.presets, *voices.store.list())]
        return {**model_of(model_id, card), "voices": listed}

    @router.get("/audio/models", responses=refusals(503))
    async def audio_models() -> dict[str, Any]:
        """List models as Open WebUI reads them."""
        card, _ = await service.host.describe()
        return {"models": [{"id": name, "name": name} for name in (card.id, *MODEL_ALIASES)]}

    return router


def _model(name: str, card: ModelCard) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": _STARTED_AT,
        "owned_by": "mistralai" if card.root.startswith("mistralai/") else "voxtral-tts",
        "root": card.root,
        "license": card.license,
        "languages": list(card.languages),
        "has_encoder": card.has_encoder,
        "sample_rate": card.sample_rate,
    }


_STARTED_AT = int(time.time())


def _word(text: str, word: WordTime) -> dict[str, Any]:
    return {
        "word": text[word.text_start : word.text_end],
        "start": round(word.start_s, 4),
        "end": round(word.end_s, 4),
        "confidence": round(word.confidence, 4),
        "text_start": word.text_start,
        "text_end": word.text_end,
    }


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
