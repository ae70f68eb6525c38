"""OpenAI's API: speech, models, and the addresses that its clients look at beside them.

Source of the shapes: openai-python's types for audio.speech and models; the clients in docs/SERVER.md.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Request
from pydantic import AliasChoices, BaseModel, Field
from starlette.responses import Response

from voxtral import options
from voxtral.audio.writers import can_write
from voxtral.captions.words import words_of
from voxtral.server.body import read_clip, read_fields
from voxtral.server.cloning import describe_cloning
from voxtral.server.errors import HttpError, needs_events
from voxtral.server.model_host import ModelCard
from voxtral.server.openapi import READING, SPEAKING, audio, refusals, request_body
from voxtral.server.schema import (
    AudioFormat,
    OptionalInt,
    OptionalStr,
    SpeechFields,
    Switch,
    or_default,
    validate,
)
from voxtral.server.service import MAX_HELD_CHARS, Closing, Encoded, SpeechOrder, SpeechService
from voxtral.server.stream import SpeechResponse
from voxtral.types import WordTime

SPEECH_PATH, MODELS_PATH = "/v1/audio/speech", "/v1/models"

# Proxies take some kilobytes of headers.
_MAX_HEADER_CHARS = 4096


class VoiceId(BaseModel):
    """A voice as an object."""

    id: str


class SpeechBody(SpeechFields):
    """The body of POST /v1/audio/speech; what comes after `stream_format` is more than OpenAI has."""

    input: str = Field(description="What to speak.")
    model: OptionalStr = Field(None, description="A name of GET /v1/models.")
    voice: str | VoiceId | None = Field(
        None,
        validation_alias=AliasChoices("voice", "speaker"),
        description="A name of GET /v1/audio/voices, or an object with its id.",
    )
    response_format: Annotated[AudioFormat, or_default("mp3")] = "mp3"
    stream_format: Annotated[Literal["audio", "sse"], or_default("audio")] = "audio"
    max_frames: OptionalInt = Field(
        None,
        validation_alias=AliasChoices("max_frames", "max_new_tokens"),
        ge=options.MAX_FRAMES.low,
        le=options.MAX_FRAMES.high,
        description=options.MAX_FRAMES.field_help,
    )
    word_timestamps: Annotated[Switch, or_default(False)] = Field(
        False, description="The times of words: in the events, or of what is not streamed in a header."
    )
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
        """Write the error as OpenAI's clients read it, and as vLLM-Omni's do."""
        lost = {"message": error.detail, "type": "server_error", "param": error.param, "code": error.status_code}
        event = {"type": "speech.audio.error", "error": {**lost, "partial_audio": True, "action": "discard"}}
        return _event({"type": "error", **error.body}) + _event(event)


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
        fields = await read_fields(request)
        answer = await service.shared.answer(SPEECH_PATH, request, fields)
        if answer is not None:
            return answer
        body = validate(SpeechBody, fields)
        limit = service.options.max_upload_bytes
        clip = (await read_clip(request, body.ref_audio, limit, "ref_audio")).data if body.ref_audio else None
        asked = body.speech_request(body.input, body.voice_name, clip, service.options.normalize, service.dictionaries)
        order = SpeechOrder(
            replace(asked, timestamps=body.timestamps or body.word_timestamps),
            format=body.response_format,
            sample_rate=body.sample_rate,
            model=body.model,
            is_held=body.stream is False,
            ignored=(*(["instructions"] if body.instructions else []), *body.unknown_fields),
        )
        if body.stream_format == "sse":
            return SpeechResponse(
                service, order, request, SpeechEvents(body.input if order.request.timestamps else None)
            )
        if body.timestamps:
            raise needs_events('send stream_format "sse", or ask /dev/captioned_speech')
        if body.word_timestamps:
            return SpeechResponse(
                service, order.held(), request, closing_headers=lambda closing: _words_in_a_header(body.input, closing)
            )
        # Many readers of flac want its length first, so it is streamed only where that is asked for.
        is_file = body.response_format == "flac" and body.stream is None and len(body.input) <= MAX_HELD_CHARS
        return SpeechResponse(service, order.held() if is_file else order, request)

    @router.get("/models", responses=refusals(503), response_model=dict[str, Any])
    async def models(request: Request) -> Any:
        """List the loaded model, first by its own name, then by those that clients have built in."""
        answer = await service.shared.answer(MODELS_PATH, request, {})
        if answer is not None:
            return answer
        card, _ = await service.host.describe()
        return {"object": "list", "data": [model_of(name, card) for name in (card.id, *service.model_names)]}

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
        return {"models": [{"id": name, "name": name} for name in (card.id, *service.model_names)]}

    return router


def _model(name: str, card: ModelCard) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        # The vendor's client wants these two of every model.
        "type": "base",
        "capabilities": {"audio_speech": True},
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
    """Write an event, with its name for those who read it there: vLLM-Omni's and Mistral's clients."""
    return f"event: {value['type']}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def _words_in_a_header(text: str, closing: Closing) -> dict[str, str]:
    """Tell the times of words as vLLM-Omni does, or that they are too many for a header."""
    words = [
        {
            "word": text[word.text_start : word.text_end],
            "start_ms": round(1000 * word.start_s),
            "end_ms": round(1000 * word.end_s),
        }
        for segment in closing.segments
        for word in words_of(text, segment)
    ]
    told = json.dumps(words, separators=(",", ":"))
    if len(told) > _MAX_HEADER_CHARS:
        return {"X-Word-Timestamps-Omitted": "true"}
    return {"X-Word-Timestamps": told}
