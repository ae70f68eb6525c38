"""vLLM-Omni's web socket and batch: /v1/audio/speech/stream and /v1/audio/speech/batch.

Source of the shapes: vLLM-Omni 0.30, its serving code and its tests. What it sends over HTTP to /v1/audio/speech is
part of `openai`. `input.cancel` is more than it has: it cuts off what is spoken, and tells what was heard last.
"""

from __future__ import annotations

import asyncio
import base64
import re
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from starlette.websockets import WebSocket

from voxtral import options
from voxtral.captions.words import words_of
from voxtral.errors import VoxtralError
from voxtral.server.body import decode_clip, read_fields
from voxtral.server.collect import collect
from voxtral.server.errors import HttpError, as_http_error
from voxtral.server.openapi import READING, SPEAKING, refusals, request_body
from voxtral.server.schema import AudioFormat, OptionalInt, OptionalStr, SpeechFields, Switch, or_default, validate
from voxtral.server.service import MAX_HELD_CHARS, Closing, Encoded, Opening, SpeechOrder, SpeechService
from voxtral.server.sockets import POLICY, ClientGoneError, ServerEndsError, Socket
from voxtral.server.stream import visit_of
from voxtral.server.turn import Turn
from voxtral.text.pieces import TextStream
from voxtral.types import WordTime

_MAX_ITEMS, _ITEMS_AT_ONCE = 32, 4
_MAX_BATCH_CHARS = 2 * MAX_HELD_CHARS

_CONFIG_TIMEOUT_S, _IDLE_TIMEOUT_S = 10.0, 30.0
# Of the configuration, which may have a clip, and of any other message.
_MAX_CONFIG_BYTES, _MAX_MESSAGE_BYTES = 2**22, 2**17

# Where a clause ends: at a mark before white space, or at one that no white space follows.
_CLAUSE_END = re.compile(r"[,;:][\"'”’»)\]]*(?=\s)|[，；،؛、：][」』”’）]*")

Granularity = Literal["none", "sentence", "clause"]


class OmniFields(SpeechFields):
    """What an utterance may be asked for in a batch and over the socket."""

    voice: OptionalStr = Field(None, validation_alias=AliasChoices("voice", "speaker"), description="Who speaks.")
    response_format: Annotated[AudioFormat, or_default("wav")] = "wav"
    max_frames: OptionalInt = Field(
        None,
        validation_alias=AliasChoices("max_frames", "max_new_tokens"),
        ge=options.MAX_FRAMES.low,
        le=options.MAX_FRAMES.high,
        description=options.MAX_FRAMES.field_help,
    )
    ref_audio: OptionalStr = Field(None, description="A clip to clone, in base64 or as a data: URL; never fetched.")
    speaker_embedding: list[float] | None = Field(None, description="Refused: voices are no vectors here.")

    def order(self, service: SpeechService, text: str, *, is_held: bool) -> SpeechOrder:
        """Make an order of it.

        Raises:
            HttpError: 400, the clip is none, or a vector is given.
        """
        if self.speaker_embedding is not None:
            raise HttpError(
                400,
                "speaker_embedding is given; voices of this model are no vectors; send voice or ref_audio",
                code="invalid_option",
                param="speaker_embedding",
            )
        clip = None
        if self.ref_audio:
            clip = decode_clip(self.ref_audio, service.options.max_upload_bytes, "ref_audio").data
        asked = self.speech_request(text, self.voice, clip, service.options.normalize, service.dictionaries)
        return SpeechOrder(
            asked,
            format=self.response_format,
            sample_rate=self.sample_rate,
            is_held=is_held,
            ignored=self.unknown_fields,
        )


class BatchFields(BaseModel):
    """The body of POST /v1/audio/speech/batch: items, and beside them what holds for all."""

    model_config = ConfigDict(extra="allow")

    items: list[dict[str, Any]] = Field(
        min_length=1, max_length=_MAX_ITEMS, description="Each with its input, and what it wants otherwise."
    )
    model: OptionalStr = Field(None, description="A name of GET /v1/models.")


class SessionFields(OmniFields):
    """The first message over the socket, and any between two utterances."""

    model: OptionalStr = None
    stream_audio: Annotated[Switch, or_default(False)] = False
    word_timestamps: Annotated[Switch, or_default(False)] = False
    split_granularity: Annotated[Granularity, or_default("none")] = "none"


@dataclass(frozen=True)
class _Unit:
    """A part of an utterance that is spoken and sent by itself; its text is None at the end of the utterance."""

    text: str | None
    utterance: int
    index: int
    config: SessionFields


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1/audio/speech", tags=["vllm-omni"])

    @router.post(
        "/batch",
        responses=refusals(*READING, *SPEAKING),
        openapi_extra=request_body(BatchFields, ["application/json"]),
    )
    async def batch(request: Request) -> dict[str, Any]:
        """Speak up to 32 texts, each into a file; one that fails does not fail the rest."""
        fields = await read_fields(request)
        wanted = validate(BatchFields, fields)
        service.check_model(wanted.model)
        texts = [item.get("input") for item in wanted.items]
        num_chars = sum(len(text) for text in texts if isinstance(text, str))
        if num_chars > _MAX_BATCH_CHARS:
            raise HttpError(
                413,
                f"the items have {num_chars} characters; a batch may have {_MAX_BATCH_CHARS} at most; send fewer",
                code="text_too_long",
                param="items",
            )
        common = {name: value for name, value in fields.items() if name not in ("items", "model")}
        places = asyncio.Semaphore(_ITEMS_AT_ONCE)

        async def speak(index: int, item: dict[str, Any]) -> dict[str, Any]:
            async with places:
                return await _speak_item(service, request, index, {**common, **item})

        results = await asyncio.gather(*(speak(index, item) for index, item in enumerate(wanted.items)))
        succeeded = sum(result["status"] == "success" for result in results)
        return {
            "id": f"speech-batch-{uuid.uuid4().hex}",
            "results": results,
            "total": len(results),
            "succeeded": succeeded,
            "failed": len(results) - succeeded,
        }

    @router.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        """Speak what comes in pieces, utterance after utterance."""
        socket = Socket(websocket, service, _MAX_CONFIG_BYTES)
        async with socket.open():
            await _Session(service, socket).run()

    return router


async def _speak_item(service: SpeechService, request: Request, index: int, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        text = fields.pop("input", None)
        if not isinstance(text, str):
            raise HttpError(
                400, "input is missing; it must be the text to speak", code="invalid_request", param="input"
            )
        order = validate(OmniFields, fields).order(service, text, is_held=True)
        opening, data, closing = await collect(service, order, visit_of(request), request.receive)
    except (HttpError, VoxtralError) as error:
        return {"index": index, "status": "error", "error": as_http_error(error).detail}
    num_in, num_out = closing.num_prompt_tokens, closing.stats.num_frames
    return {
        "index": index,
        "status": "success",
        "audio_data": base64.b64encode(data).decode(),
        "media_type": opening.content_type,
        "usage": {"input_tokens": num_in, "output_tokens": num_out, "total_tokens": num_in + num_out},
    }


class UnitSplitter:
    """Cuts a text that comes in pieces into what is spoken by itself.

    Args:
        granularity: "none" keeps all until `flush`; "sentence" and "clause" let go what has ended.
        language: of the text, where it is known.
    """

    def __init__(self, granularity: Granularity, language: str | None) -> None:
        self._granularity = granularity
        self._language = language
        self._pending = ""
        self._stream: TextStream = self._begin()

    def push(self, piece: str) -> list[str]:
        """Take a piece, and give the units that it finishes."""
        self._pending += piece
        if self._granularity == "none":
            return []
        given = [part for stretch in self._stream.feed(piece) for part in self._take(stretch.text)]
        if self._granularity == "clause":
            *clauses, rest = _clauses(self._pending)
            if clauses:
                given += clauses
                self._pending, self._stream = rest, self._begin()
                self._stream.push(rest)
        return [unit for unit in given if unit.strip()]

    def flush(self) -> list[str]:
        """Give what is left."""
        rest, self._pending, self._stream = self._pending, "", self._begin()
        units = _clauses(rest) if self._granularity == "clause" else [rest]
        return [unit for unit in units if unit.strip()]

    @property
    def num_waiting(self) -> int:
        """Characters that were not given."""
        return len(self._pending)

    def _take(self, text: str) -> list[str]:
        self._pending = self._pending[len(text) :]
        return _clauses(text) if self._granularity == "clause" else [text]

    def _begin(self) -> TextStream:
        return TextStream(language=self._language)


def _clauses(text: str) -> list[str]:
    """Cut a text behind its clauses; the last part may be none.

    >>> _clauses("One, two; 3,000 or")
    ['One,', ' two;', ' 3,000 or']
    """
    parts: list[str] = []
    start = 0
    for found in _CLAUSE_END.finditer(text):
        parts.append(text[start : found.end()])
        start = found.end()
    return [*parts, text[start:]]


class _Session:
    """One socket: messages are read here, and units spoken one after another by a task beside it."""

    def __init__(self, service: SpeechService, socket: Socket) -> None:
        self._service = service
        self._socket = socket
        self._units: deque[_Unit] = deque()
        self._changed, self._idle = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._turn: Turn | None = None
        self._speaker: asyncio.Task[None] | None = None
        self._utterance, self._num_units, self._num_chars = 0, 0, 0
        self._config: SessionFields | None = None
        self._splitter = UnitSplitter("none", None)

    async def run(self) -> None:
        """Read messages until the client leaves, is silent for too long, or closes."""
        if not await self._configure():
            return
        self._speaker = asyncio.create_task(self._speak())
        try:
            while True:
                try:
                    message = await self._socket.receive(_IDLE_TIMEOUT_S)
                except TimeoutError:
                    if not self._idle.is_set():
                        continue
                    await self._end("Idle timeout: no message received")
                    return
                except ServerEndsError:
                    await self._idle.wait()
                    raise
                except HttpError as error:
                    await self._error(error.detail)
                    continue
                if message.get("type") == "session.close":
                    return
                try:
                    await self._take(message)
                except (HttpError, VoxtralError) as error:
                    await self._error(as_http_error(error).detail)
        finally:
            await self._leave()

    async def _configure(self) -> bool:
        """Wait for the configuration; tell whether there is one."""
        try:
            message = await self._socket.receive(_CONFIG_TIMEOUT_S)
            if message.get("type") != "session.config":
                await self._end(f"Expected session.config, got: {_named(message)}")
                return False
            self._apply(message)
        except TimeoutError:
            await self._end("Timeout waiting for session.config")
        except (HttpError, VoxtralError) as error:
            await self._end(as_http_error(error).detail)
        return self._config is not None

    def _apply(self, message: dict[str, Any]) -> None:
        """Take a configuration.

        Raises:
            HttpError: it breaks a rule; the one before stays.
        """
        config = validate(SessionFields, {name: value for name, value in message.items() if name != "type"})
        self._service.check_model(config.model)
        is_raw = config.stream_audio and config.response_format == "pcm"
        if config.stream_audio and not (is_raw and config.speed == 1.0):
            raise HttpError(
                400, "stream_audio is true; it needs response_format pcm and speed 1.0", code="invalid_option"
            )
        if config.word_timestamps and not is_raw:
            raise HttpError(
                400, "word_timestamps is true; it needs stream_audio and response_format pcm", code="invalid_option"
            )
        # So that a clip or a voice that is none is told now.
        config.order(self._service, "x", is_held=not config.stream_audio)
        self._config = config
        self._splitter = UnitSplitter(config.split_granularity, config.language)

    async def _take(self, message: dict[str, Any]) -> None:
        """Do what a message asks for.

        Raises:
            HttpError: it breaks a rule.
        """
        kind = message.get("type")
        if kind == "session.config":
            if self._num_chars:
                raise HttpError(
                    400, "session.config came within an utterance; send input.done first", code="invalid_message"
                )
            self._apply(message)
        elif kind == "input.text":
            text = message.get("text")
            if not isinstance(text, str):
                raise HttpError(400, "input.text requires a string value", code="invalid_message")
            if len(text) > _MAX_MESSAGE_BYTES:
                raise HttpError(
                    413, f"input.text has more than {_MAX_MESSAGE_BYTES} characters", code="message_too_large"
                )
            is_held = self._config is None or not self._config.stream_audio
            self._service.check_length(text, is_held=is_held, before=self._num_chars)
            self._num_chars += len(text)
            self._queue(self._splitter.push(text))
        elif kind == "input.done":
            self._queue([*self._splitter.flush(), None])
            self._utterance, self._num_units, self._num_chars = self._utterance + 1, 0, 0
        elif kind == "input.cancel":
            await self._cancel(message.get("played_ms"))
        else:
            raise HttpError(400, f"Unknown message type: {_named(message)}", code="invalid_message")

    def _queue(self, texts: Sequence[str | None]) -> None:
        config = self._config
        if config is None:
            raise AssertionError("a session has a configuration before it has a text")
        for text in texts:
            self._units.append(_Unit(text, self._utterance, self._num_units, config))
            self._num_units += text is not None
            self._idle.clear()
        self._changed.set()

    async def _cancel(self, played_ms: Any) -> None:
        """Drop all that is not spoken, and tell what was heard last."""
        played_s = played_ms / 1000 if isinstance(played_ms, int | float) and not isinstance(played_ms, bool) else None
        spoken = self._units[0] if self._turn is not None and self._units else None
        self._units.clear()
        self._splitter.flush()
        self._num_chars = 0
        said: dict[str, Any] = {"type": "audio.cancelled", "utterance_index": self._utterance, "last_word": None}
        if self._turn is not None:
            cut = await self._turn.cancel(played_s)
            said["played_ms"] = round(1000 * cut.played_s)
            if spoken is not None:
                said |= {"utterance_index": spoken.utterance, "sentence_index": spoken.index}
                if cut.last_word is not None and spoken.text is not None:
                    said["last_word"] = _word(spoken.text, cut.last_word)
        self._utterance, self._num_units = self._utterance + 1, 0
        await self._socket.send(said)

    async def _speak(self) -> None:
        """Speak what is queued, a unit at a time."""
        try:
            while True:
                while not self._units:
                    self._idle.set()
                    self._changed.clear()
                    await self._changed.wait()
                unit = self._units[0]
                if unit.text is None:
                    await self._socket.send(
                        {"type": "session.done", "utterance_index": unit.utterance, "total_sentences": unit.index}
                    )
                else:
                    await self._speak_unit(unit, unit.text)
                if self._units and self._units[0] is unit:  # it may have been dropped
                    self._units.popleft()
        except ClientGoneError:
            pass  # who reads from the socket sees it too
        finally:
            self._idle.set()

    async def _speak_unit(self, unit: _Unit, text: str) -> None:
        writer = _UnitWriter(self._socket, unit, text)
        try:
            order = unit.config.order(self._service, text, is_held=not unit.config.stream_audio)
            # Words are told where they are asked for, and wanted for whoever may be interrupted.
            asked = replace(order.request, timestamps=unit.config.stream_audio)
            self._turn = Turn(self._service, replace(order, request=asked), self._socket.visit, writer)
        except (HttpError, VoxtralError) as error:
            await writer.fail(as_http_error(error), has_begun=False)
            return
        try:
            await self._turn.wait()
        finally:
            self._turn = None

    async def _error(self, message: str) -> None:
        await self._socket.send({"type": "error", "message": message})

    async def _end(self, message: str) -> None:
        await self._error(message)
        await self._socket.close(POLICY, message)

    async def _leave(self) -> None:
        self._units.clear()
        if self._turn is not None:
            await self._turn.cancel()
        if self._speaker is not None:
            self._speaker.cancel()


class _UnitWriter:
    """Writes a unit: what it is, its audio, its end. A TurnListener."""

    def __init__(self, socket: Socket, unit: _Unit, text: str) -> None:
        self._socket = socket
        self._unit = unit
        self._text = text
        self._whole = bytearray()
        self._num_bytes = 0
        self._num_chunks, self._position = 0, 0
        self._rate = 0

    async def begin(self, opening: Opening) -> None:
        """Announce the unit."""
        self._rate = opening.sample_rate
        await self._start(opening.sent_rate)

    async def audio(self, piece: Encoded) -> None:
        """Send a piece, or keep it for the whole."""
        config = self._unit.config
        self._num_bytes += len(piece.data)
        if not config.stream_audio:
            self._whole += piece.data
        elif config.word_timestamps:
            await self._chunk(piece.data, piece.num_samples, None)
        elif piece.data:
            await self._socket.send_bytes(piece.data)

    async def end(self, closing: Closing) -> None:
        """Send what was kept, and the end."""
        if self._unit.config.word_timestamps:
            words = [word for segment in closing.segments for word in words_of(self._text, segment)]
            await self._chunk(b"", 0, [_word(self._text, word) for word in words])
        if self._whole:
            await self._socket.send_bytes(bytes(self._whole))
        await self._done(is_error=False)

    async def fail(self, error: HttpError, *, has_begun: bool) -> None:
        """Say what went wrong, and end."""
        if not has_begun:
            await self._start(None)
        unit = self._unit
        message = f"Generation failed for utterance {unit.utterance}, sentence {unit.index}: {error.detail}"
        lost = {"partial_audio": True, "action": "discard"} if has_begun else {}
        await self._socket.send({"type": "error", "message": message, **lost})
        await self._done(is_error=True)

    async def _start(self, rate: int | None) -> None:
        config = self._unit.config
        start: dict[str, Any] = {
            "type": "audio.start",
            "utterance_index": self._unit.utterance,
            "sentence_index": self._unit.index,
            "sentence_text": self._text.strip(),
            "format": config.response_format,
        }
        if config.stream_audio and rate is not None:
            start["sample_rate"] = rate
        if config.word_timestamps:
            start["word_timestamps"] = True
        await self._socket.send(start)

    async def _chunk(self, data: bytes, num_samples: int, words: list[dict[str, Any]] | None) -> None:
        start, self._position = self._position, self._position + num_samples
        await self._socket.send(
            {
                "type": "audio.chunk",
                "utterance_index": self._unit.utterance,
                "sentence_index": self._unit.index,
                "chunk_id": self._num_chunks,
                "chunk_start_ms": round(1000 * start / self._rate),
                "chunk_end_ms": round(1000 * self._position / self._rate),
                "sample_rate": self._unit.config.sample_rate or self._rate,
                "audio_b64": base64.b64encode(data).decode(),
                "timestamps": words,
            }
        )
        self._num_chunks += 1

    async def _done(self, *, is_error: bool) -> None:
        await self._socket.send(
            {
                "type": "audio.done",
                "utterance_index": self._unit.utterance,
                "sentence_index": self._unit.index,
                "total_bytes": self._num_bytes,
                "error": is_error,
            }
        )


def _word(text: str, word: WordTime) -> dict[str, Any]:
    return {
        "word": text[word.text_start : word.text_end],
        "start_ms": round(1000 * word.start_s),
        "end_ms": round(1000 * word.end_s),
    }


def _named(message: dict[str, Any]) -> str:
    """Name the type of a message, which may be anything, without quoting much of it."""
    return str(message.get("type"))[:40]
