"""Mistral's API: speech of its own at OpenAI's address, in base64 or as events. `voices` and `openai` have the rest.

Source of the shapes: mistralai 2.10 for Python, @mistralai/mistralai 2.7, and the plug-ins of LiveKit and Pipecat.
`pcm` is 32-bit floats here, and 16-bit integers there: so a request is told apart before anything is spoken.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import AliasChoices, Field
from starlette.requests import Request
from starlette.responses import Response

from voxtral.server.body import read_clip
from voxtral.server.errors import HttpError
from voxtral.server.schema import OptionalStr, SpeechFields, or_default, validate
from voxtral.server.service import Closing, Encoded, SpeechOrder, SpeechService
from voxtral.server.sharing import Claim, Fields
from voxtral.server.stream import SpeechResponse

_SPEECH_PATH = "/v1/audio/speech"
_AGENT = "mistral-client-"
_AGENT_HEADERS = ("user-agent", "x-mistral-user-agent")
_ANSWERS = ("application/json", "text/event-stream")

# Its presets by name: language, speaker, mood. Who they stand for here is chosen by language and gender.
_VOICE = re.compile(r"(gb|en|fr)_([a-z]+)(?:_([a-z]+))?", re.IGNORECASE)
_LANGUAGES = {"gb": "en", "en": "en", "fr": "fr"}
_USUAL_VOICES = {"jane": "alloy", "marie": "alloy", "oliver": "onyx", "paul": "onyx"}
_PLAIN_MOOD = "neutral"


class MistralSpeechFields(SpeechFields):
    """The body of a request of Mistral's clients; the rest of what OpenAI's may say is taken too."""

    input: str = Field(description="What to speak.")
    model: OptionalStr = Field(None, description="A name of GET /v1/models.")
    voice_id: OptionalStr = Field(
        None, validation_alias=AliasChoices("voice_id", "voice"), description="A name or id of GET /v1/audio/voices."
    )
    ref_audio: OptionalStr = Field(None, description="A clip to clone, in base64.")
    response_format: Annotated[Literal["pcm", "wav", "mp3", "flac", "opus"], or_default("mp3")] = "mp3"
    stream: Annotated[bool | None, or_default(False)] = Field(False, description="Events in place of one object.")


class MistralObject:
    """One JSON object with all audio in base64; for what is made before it is sent."""

    media_type = "application/json"

    def start(self) -> bytes:
        """Begin the object, up to the audio."""
        return b'{"audio_data": "'

    def audio(self, piece: Encoded) -> bytes:
        """Write a piece: the server cuts where base64 can be joined."""
        return base64.b64encode(piece.data)

    def end(self, closing: Closing) -> bytes:
        """End the object."""
        return b'"}'

    def failure(self, error: HttpError) -> bytes:
        """Write nothing: the object stays open."""
        return b""


class MistralEvents:
    """Server-sent events with a name each: audio in base64, then the usage."""

    media_type = "text/event-stream; charset=utf-8"

    def start(self) -> bytes:
        """Write nothing."""
        return b""

    def audio(self, piece: Encoded) -> bytes:
        """Write a piece of audio."""
        return _event({"type": "speech.audio.delta", "audio_data": base64.b64encode(piece.data).decode()})

    def end(self, closing: Closing) -> bytes:
        """Write what it took."""
        num_out = closing.stats.num_frames
        usage = {
            "prompt_tokens": closing.num_prompt_tokens,
            "completion_tokens": num_out,
            "total_tokens": closing.num_prompt_tokens + num_out,
        }
        return _event({"type": "speech.audio.done", "usage": usage})

    def failure(self, error: HttpError) -> bytes:
        """Write the error, as an event of a type that clients pass over; the broken connection is the message."""
        return _event({"type": "error", **error.body})


def claims(service: SpeechService) -> Mapping[str, Claim]:
    """Say what of OpenAI's address is for this dialect."""

    async def speech(request: Request, fields: Fields) -> Response:
        body = validate(MistralSpeechFields, fields)
        clip = None
        if body.ref_audio:
            clip = (await read_clip(request, body.ref_audio, service.options.max_upload_bytes, "ref_audio")).data
        voice, ignored = await _voice(service, None if clip else body.voice_id)
        order = SpeechOrder(
            body.speech_request(body.input, voice, clip, service.options.normalize, service.dictionaries),
            format="f32" if body.response_format == "pcm" else body.response_format,
            sample_rate=body.sample_rate,
            model=body.model,
            is_held=not body.stream,
            ignored=(*ignored, *body.unknown_fields),
        )
        return SpeechResponse(service, order, request, MistralEvents() if body.stream else MistralObject())

    return {_SPEECH_PATH: Claim(knows=is_mistral, answer=speech)}


def routes(service: SpeechService) -> APIRouter:
    """Make no routes: all addresses are shared."""
    return APIRouter()


def is_mistral(request: Request, fields: Fields) -> bool:
    """Tell a request of Mistral's clients from one of OpenAI's: by who asks, or by what only they send."""
    if any(request.headers.get(name, "").startswith(_AGENT) for name in _AGENT_HEADERS):
        return True
    if "voice_id" in fields:
        return True
    accept = request.headers.get("accept", "*/*")
    return (
        "ref_audio" in fields
        and not {"voice", "speaker", "stream_format"} & set(fields)
        and any(kind in accept for kind in _ANSWERS)
        and "*/*" not in accept
    )


async def _voice(service: SpeechService, name: str | None) -> tuple[str | None, tuple[str, ...]]:
    """Find who speaks for a name of theirs, and what of it has no effect."""
    found = None if name is None else _VOICE.fullmatch(name)
    if name is None or found is None or found[2].lower() not in _USUAL_VOICES:
        return name, ()
    _, book = await service.host.describe()
    if await service.run(lambda: book.find(name)) is not None or not book.presets:
        return name, ()
    language, speaker, mood = (part and part.lower() for part in found.groups())
    ignored = () if mood in (None, _PLAIN_MOOD) else ("mood",)
    return book.preset_for(_USUAL_VOICES[speaker], _LANGUAGES[language]), ignored


def _event(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode()
