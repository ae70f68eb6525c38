"""ElevenLabs' addresses over HTTP: text to speech, plain and with the times of characters; voices; models."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from voxtral.captions.alignment import Alignment, GrowingAlignment, align_characters
from voxtral.server.body import read_fields
from voxtral.server.dialects.elevenlabs.speech import DEFAULT_FORMAT, ElevenFields, in_seconds
from voxtral.server.errors import HttpError
from voxtral.server.openapi import READING, SPEAKING, audio, refusals, request_body
from voxtral.server.schema import validate
from voxtral.server.service import Closing, Encoded, SpeechOrder, SpeechService
from voxtral.server.sharing import Claim, Fields
from voxtral.server.stream import SpeechResponse
from voxtral.server.voice_jobs import VoiceJob
from voxtral.server.voice_service import VoiceService
from voxtral.text.language import LANGUAGES
from voxtral.voices.book import gender_of
from voxtral.voices.facts import StoredVoice
from voxtral.voices.presets import VoiceInfo

PREFIXES = ("/v1/text-to-speech", "/v1/voices", "/v2/voices")
_MODELS_PATH = "/v1/models"
_LINES_TYPE = "application/jsonl"

_Format = Annotated[str, Query(max_length=32, description="Such as mp3_44100_128, pcm_16000, ulaw_8000.")]


class TimedObject:
    """One JSON object: the audio in base64, and the times of all characters; for what is made before it is sent."""

    media_type = "application/json"

    def __init__(self, text: str) -> None:
        self._text = text

    def start(self) -> bytes:
        """Begin the object, up to the audio."""
        return b'{"audio_base64": "'

    def audio(self, piece: Encoded) -> bytes:
        """Write a piece: the server cuts where base64 can be joined."""
        return base64.b64encode(piece.data)

    def end(self, closing: Closing) -> bytes:
        """Write the times, and end the object."""
        told = json.dumps(in_seconds(align_characters(self._text, closing.segments)))
        return f'", "alignment": {told}, "normalized_alignment": {told}}}'.encode()

    def failure(self, error: HttpError) -> bytes:
        """Write nothing: the object stays open."""
        return b""


class TimedLines:
    """A JSON object a line, each with a piece of audio and the characters that are final with it."""

    media_type = _LINES_TYPE

    def __init__(self, text: str) -> None:
        self._text = text
        self._times = GrowingAlignment()

    def start(self) -> bytes:
        """Write nothing."""
        return b""

    def audio(self, piece: Encoded) -> bytes:
        """Write a line."""
        return self._line(piece.data, self._times.take(self._text, piece.words))

    def end(self, closing: Closing) -> bytes:
        """Write the characters that are left, if there are any."""
        rest = self._times.rest(self._text)
        return self._line(b"", rest) if rest.characters else b""

    def failure(self, error: HttpError) -> bytes:
        """Write nothing: clients look for audio in every line, and the broken connection is the message."""
        return b""

    def _line(self, data: bytes, alignment: Alignment) -> bytes:
        told = in_seconds(alignment)
        line = {"audio_base64": base64.b64encode(data).decode(), "alignment": told, "normalized_alignment": told}
        return json.dumps(line).encode() + b"\n"


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(tags=["elevenlabs"])
    voices = VoiceService(service)
    speaking: dict[str, Any] = {
        "response_class": Response,
        "responses": {**audio("application/json", _LINES_TYPE), **refusals(*READING, *SPEAKING)},
        "openapi_extra": request_body(ElevenFields, ["application/json"]),
    }

    async def order(
        request: Request, voice_id: str, output_format: str, *, is_held: bool, timestamps: bool
    ) -> SpeechOrder:
        body = validate(ElevenFields, await read_fields(request))
        return body.order(service, voice_id, output_format, is_held=is_held, timestamps=timestamps)

    @router.post("/v1/text-to-speech/{voice_id}", **speaking)
    async def convert(request: Request, voice_id: str, output_format: _Format = DEFAULT_FORMAT) -> Response:
        """Speak a text into a file."""
        asked = await order(request, voice_id, output_format, is_held=False, timestamps=False)
        return SpeechResponse(service, asked, request)

    @router.post("/v1/text-to-speech/{voice_id}/stream", **speaking)
    async def stream(request: Request, voice_id: str, output_format: _Format = DEFAULT_FORMAT) -> Response:
        """Speak a text, and send it as it is made."""
        asked = await order(request, voice_id, output_format, is_held=False, timestamps=False)
        return SpeechResponse(service, asked, request)

    @router.post("/v1/text-to-speech/{voice_id}/with-timestamps", **speaking)
    async def with_timestamps(request: Request, voice_id: str, output_format: _Format = DEFAULT_FORMAT) -> Response:
        """Speak a text, and tell when each character is heard."""
        asked = await order(request, voice_id, output_format, is_held=True, timestamps=True)
        return SpeechResponse(service, asked, request, TimedObject(asked.request.text))

    @router.post("/v1/text-to-speech/{voice_id}/stream/with-timestamps", **speaking)
    async def stream_with_timestamps(
        request: Request, voice_id: str, output_format: _Format = DEFAULT_FORMAT
    ) -> Response:
        """Speak a text, and tell on the way when each character is heard."""
        asked = await order(request, voice_id, output_format, is_held=False, timestamps=True)
        return SpeechResponse(service, asked, request, TimedLines(asked.request.text))

    @router.get("/v1/voices", responses=refusals(503))
    async def list_voices() -> dict[str, Any]:
        """List presets, then the voices that were added."""
        presets, stored = await voices.list()
        return {"voices": [_voice(voice) for voice in (*presets, *stored)]}

    @router.get("/v2/voices", responses=refusals(400, 503))
    async def search_voices(
        page_size: Annotated[int, Query(ge=1, le=100)] = 10,
        next_page_token: Annotated[str | None, Query(max_length=20, pattern="^[0-9]*$")] = None,
        search: Annotated[str | None, Query(max_length=256, description="Part of a name or a description.")] = None,
        voice_type: Annotated[str | None, Query(max_length=64, description="default or personal.")] = None,
        category: Annotated[str | None, Query(max_length=64, description="premade or cloned.")] = None,
    ) -> dict[str, Any]:
        """List a page of the voices."""
        presets, stored = await voices.list()
        wanted = [_voice(voice) for voice in (*presets, *stored)]
        if voice_type in _CATEGORIES:
            wanted = [voice for voice in wanted if voice["category"] == _CATEGORIES[voice_type]]
        if category is not None:
            wanted = [voice for voice in wanted if voice["category"] == category]
        if search:
            part = search.casefold()
            wanted = [voice for voice in wanted if part in f"{voice['name']} {voice['description']}".casefold()]
        start = int(next_page_token or 0)
        stop = start + page_size
        has_more = stop < len(wanted)
        return {
            "voices": wanted[start:stop],
            "has_more": has_more,
            "total_count": len(wanted),
            "next_page_token": str(stop) if has_more else None,
        }

    @router.get("/v1/voices/{voice_id}", responses=refusals(404, 503))
    async def get_voice(voice_id: str) -> dict[str, Any]:
        """Describe a voice, by its name or id."""
        return _voice(await voices.find_ready(voice_id))

    return router


def claims(service: SpeechService) -> Mapping[str, Claim]:
    """Say what of others' addresses is for this dialect: the list of models, which OpenAI's clients ask for too."""

    async def models(request: Request, fields: Fields) -> Response:
        card, _ = await service.host.describe()
        languages = [{"language_id": code, "name": LANGUAGES.get(code, code)} for code in card.languages]
        told = {
            "model_id": card.id,
            "name": card.id,
            "description": card.description,
            "can_do_text_to_speech": True,
            "can_do_voice_conversion": False,
            "can_use_style": False,
            "can_use_speaker_boost": False,
            "serves_pro_voices": False,
            "languages": languages,
            "maximum_text_length_per_request": service.options.max_chars,
        }
        return JSONResponse([told])

    return {_MODELS_PATH: Claim(knows=lambda request, fields: "xi-api-key" in request.headers, answer=models)}


_CATEGORIES = {"default": "premade", "personal": "cloned"}


def _voice(voice: VoiceInfo | StoredVoice | VoiceJob) -> dict[str, Any]:
    if isinstance(voice, VoiceJob):
        raise AssertionError("a voice that is being made is in no list")
    is_stored = isinstance(voice, StoredVoice)
    labels = {"language": voice.language, "gender": "" if is_stored else gender_of(voice.name)}
    return {
        "voice_id": voice.id if is_stored else voice.name,
        "name": voice.name,
        "category": "cloned" if is_stored else "premade",
        "description": voice.description,
        "labels": {name: value for name, value in labels.items() if value},
        "samples": None,
        "settings": None,
        "preview_url": None,
        "available_for_tiers": [],
        "high_quality_base_model_ids": [],
    }
