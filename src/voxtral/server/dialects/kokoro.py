"""Kokoro-FastAPI's speech with captions: POST /dev/captioned_speech, audio in base64 beside the times of words.

Source of the shapes: Kokoro-FastAPI's schemas and the examples for its clients. A stream is one JSON object a line,
and what is not streamed is one object. `timestamps` is a list wherever text was spoken: clients iterate over it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from voxtral.captions.words import words_of
from voxtral.server.body import read_fields
from voxtral.server.errors import HttpError
from voxtral.server.openapi import READING, SPEAKING, audio, refusals, request_body
from voxtral.server.schema import AudioFormat, OptionalStr, SpeechFields, Switch, validate
from voxtral.server.service import Closing, Encoded, SpeechOrder, SpeechService
from voxtral.server.stream import SpeechResponse
from voxtral.types import MAX_BLENDED_VOICES, WordTime
from voxtral.voices.book import OPENAI_VOICES

# The name that its clients have built in: it means whatever model is loaded.
_MODEL = "kokoro"

# Its languages, each a letter, with which the names of its voices begin too; Chinese is not spoken here.
_LANGUAGES = {"a": "en", "b": "en", "e": "es", "f": "fr", "h": "hi", "i": "it", "j": "ja", "p": "pt"}
_VOICE = re.compile(r"([abefhijp])([fm])_([a-z]+)")
_USUAL_VOICES = {"f": "alloy", "m": "onyx"}

# There it is application/json, which lines are not. Who looks for that at the start, finds it.
_LINES_TYPE = "application/jsonl"

_TIMESTAMP = {
    "type": "object",
    "required": ["word", "start_time", "end_time"],
    "properties": {"word": {"type": "string"}, "start_time": {"type": "number"}, "end_time": {"type": "number"}},
}
_ANSWER = {
    "type": "object",
    "required": ["audio", "audio_format", "timestamps"],
    "properties": {
        "audio": {"type": "string", "description": "Base64."},
        "audio_format": {"type": "string", "description": "Its media type."},
        "timestamps": {"type": ["array", "null"], "items": _TIMESTAMP},
    },
}


class CaptionedSpeechFields(SpeechFields):
    """The body of POST /dev/captioned_speech; fields of Kokoro-FastAPI that are not here have no effect."""

    input: str = Field(description="What to speak.")
    model: OptionalStr = Field(None, description="kokoro, or a name of GET /v1/models.")
    voice: OptionalStr = Field(None, description="A name of GET /v1/audio/voices, of OpenAI's or of Kokoro's.")
    response_format: AudioFormat = "mp3"
    return_timestamps: Switch = Field(True, description="false: `timestamps` is null.")
    lang_code: OptionalStr = Field(None, description="A letter of Kokoro's, or a language.")

    @property
    def spoken_language(self) -> str | None:
        """The language that is asked for, if any is."""
        return self.language or (None if self.lang_code is None else _LANGUAGES.get(self.lang_code, self.lang_code))


class CaptionedLines:
    """A JSON object a line, each with a piece of audio and the words that are final with it.

    Args:
        text: that is spoken.
        format: of the audio.
        has_words: whether they are wanted.
    """

    media_type = _LINES_TYPE

    def __init__(self, text: str, format: str, *, has_words: bool) -> None:
        self._text = text
        self._format = format
        self._has_words = has_words

    def start(self) -> bytes:
        """Write nothing."""
        return b""

    def audio(self, piece: Encoded) -> bytes:
        """Write a line."""
        return self._line(piece.data, piece.words)

    def end(self, closing: Closing) -> bytes:
        """Write a line without audio where no piece can have had words."""
        if not self._has_words or any(segment.words for segment in closing.segments):
            return b""
        return self._line(b"", _all_words(self._text, closing))

    def failure(self, error: HttpError) -> bytes:
        """Write nothing: clients look for audio in every line, and the broken connection is the message."""
        return b""

    def _line(self, data: bytes, words: Iterable[WordTime]) -> bytes:
        line = {
            "audio": base64.b64encode(data).decode(),
            "audio_format": _media_type(self._format),
            "timestamps": _timestamps(self._text, words) if self._has_words else None,
        }
        return json.dumps(line).encode() + b"\n"


class CaptionedObject:
    """One JSON object with all of it; for what is made before it is sent. Arguments are those of CaptionedLines."""

    media_type = "application/json"

    def __init__(self, text: str, format: str, *, has_words: bool) -> None:
        self._text = text
        self._format = format
        self._has_words = has_words

    def start(self) -> bytes:
        """Begin the object, up to the audio."""
        return f'{{"audio_format": {json.dumps(_media_type(self._format))}, "audio": "'.encode()

    def audio(self, piece: Encoded) -> bytes:
        """Write a piece: the server cuts where base64 can be joined."""
        return base64.b64encode(piece.data)

    def end(self, closing: Closing) -> bytes:
        """Write the words, and end the object."""
        words = _timestamps(self._text, _all_words(self._text, closing)) if self._has_words else None
        return f'", "timestamps": {json.dumps(words)}}}'.encode()

    def failure(self, error: HttpError) -> bytes:
        """Write nothing: the object stays open."""
        return b""


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/dev", tags=["kokoro"])

    @router.post(
        "/captioned_speech",
        response_class=Response,
        responses={**_answer(), **refusals(*READING, *SPEAKING)},
        openapi_extra=request_body(CaptionedSpeechFields, ["application/json"]),
    )
    async def captioned_speech(request: Request) -> Response:
        """Speak a text, and tell of each word when it is heard."""
        body = validate(CaptionedSpeechFields, await read_fields(request))
        voice, language = await _voice(service, body)
        asked = body.speech_request(body.input, voice, None, service.options.normalize, service.dictionaries)
        order = SpeechOrder(
            replace(asked, language=language, timestamps=body.return_timestamps),
            format=body.response_format,
            sample_rate=body.sample_rate,
            model=None if body.model == _MODEL else body.model,
            is_held=body.stream is False,
            ignored=(*(["model"] if body.model == _MODEL else []), *body.unknown_fields),
        )
        shape = CaptionedObject if order.is_held else CaptionedLines
        return SpeechResponse(
            service, order, request, shape(body.input, body.response_format, has_words=body.return_timestamps)
        )

    return router


async def _voice(service: SpeechService, body: CaptionedSpeechFields) -> tuple[str | None, str | None]:
    """Find what a name of Kokoro's stands for, as the names of OpenAI's voices do: a voice or blend, and a language."""
    # What names too many is refused later, and looked up by nobody.
    if body.voice is None or body.voice.count("+") >= MAX_BLENDED_VOICES:
        return body.voice, body.spoken_language
    _, voices = await service.host.describe()
    language: str | None = None
    parts: list[str] = []
    for part in body.voice.split("+"):
        name, weight = _split_weight(part.strip())
        found = _VOICE.fullmatch(name)
        if found is not None and voices.find(name) is None:
            letter, gender, own = found.groups()
            name = own if own in OPENAI_VOICES else _USUAL_VOICES[gender]
            language = language or _LANGUAGES[letter]
        parts.append(name if weight is None else f"{name}:{weight}")
    return "+".join(parts), body.spoken_language or language


def _split_weight(part: str) -> tuple[str, str | None]:
    """Split `af_bella(2)`, as Kokoro writes a weight, or `af_bella:2`, as it is written here."""
    if part.endswith(")"):
        name, opened, weight = part[:-1].rpartition("(")
        return (name, weight) if opened else (part, None)
    name, colon, weight = part.rpartition(":")
    return (name, weight) if colon else (part, None)


def _all_words(text: str, closing: Closing) -> list[WordTime]:
    return [word for segment in closing.segments for word in words_of(text, segment)]


def _timestamps(text: str, words: Iterable[WordTime]) -> list[dict[str, str | float]]:
    return [
        {
            "word": text[word.text_start : word.text_end],
            "start_time": round(word.start_s, 4),
            "end_time": round(word.end_s, 4),
        }
        for word in words
    ]


def _media_type(format: str) -> str:
    return "audio/mpeg" if format == "mp3" else f"audio/{format}"


def _answer() -> dict[int | str, dict[str, Any]]:
    answer = audio()[200]
    return {
        200: {
            **answer,
            "description": "A JSON object for each piece, on lines; one for all of it where stream is false.",
            "content": {"application/json": {"schema": _ANSWER}, _LINES_TYPE: {"schema": _ANSWER}},
        }
    }
