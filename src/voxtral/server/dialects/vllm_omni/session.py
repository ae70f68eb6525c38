"""The web socket: a configuration, texts in pieces, and for each unit of them its audio between start and done.

`input.cancel` is more than vLLM-Omni has: it cuts off what is spoken, and tells what was heard last.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket

from voxtral.captions.words import words_of
from voxtral.errors import VoxtralError, shortened
from voxtral.server.dialects.vllm_omni.fields import SessionFields
from voxtral.server.dialects.vllm_omni.units import UnitSplitter
from voxtral.server.errors import ClientGoneError, HttpError, as_http_error
from voxtral.server.schema import validate
from voxtral.server.service import Closing, Encoded, Opening, SpeechService
from voxtral.server.sockets import POLICY, ServerEndsError, Socket
from voxtral.server.turn import Turn, seconds_played
from voxtral.types import WordTime

_CONFIG_TIMEOUT_S, _IDLE_TIMEOUT_S = 10.0, 30.0
# Of the configuration, which may have a clip, and of any other message.
_MAX_CONFIG_BYTES, _MAX_MESSAGE_BYTES = 2**22, 2**17

# What waits takes in memory: a character as it came and as it is spoken, and a unit of them besides.
_BYTES_PER_CHAR, _BYTES_PER_UNIT = 8, 512


def add_routes(router: APIRouter, service: SpeechService) -> None:
    """Make the route."""

    @router.websocket("/stream")
    async def stream(websocket: WebSocket) -> None:
        """Speak what comes in pieces, utterance after utterance."""
        socket = Socket(websocket, service, _MAX_CONFIG_BYTES)
        await socket.serve(_Session(service, socket).run)


@dataclass(frozen=True)
class _Unit:
    """A part of an utterance that is spoken and sent by itself; its text is None at the end of the utterance."""

    text: str | None
    utterance: int
    index: int
    config: SessionFields
    num_bytes: int  # that it takes in memory


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
        self._utterance, self._num_units, self._num_chars, self._num_queued = 0, 0, 0, 0
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
                    message = await self._socket.receive(_IDLE_TIMEOUT_S, self._speaker)
                except TimeoutError:
                    if not self._idle.is_set():
                        continue
                    await self._end("Idle timeout: no message received")
                    return
                except ServerEndsError:
                    await self._finish()
                    raise
                except HttpError as error:
                    await self._error(error.detail)
                    continue
                if message is None:  # only where it fails has it an end
                    self._speaker.result()
                    return
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
            message = await self._socket.receive(_CONFIG_TIMEOUT_S) or {}
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
        self._hold(config, 0)
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
            self._hold(self._config, len(text))
            self._num_chars += len(text)
            self._queue(self._splitter.push(text))
        elif kind == "input.done":
            self._hold(self._config, 0)
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
            is_new = not self._units or self._units[-1].config is not config
            num_bytes = _BYTES_PER_UNIT + _BYTES_PER_CHAR * len(text or "") + is_new * _clip_bytes(config)
            self._units.append(_Unit(text, self._utterance, self._num_units, config, num_bytes))
            self._num_queued += num_bytes
            self._num_units += text is not None
            self._idle.clear()
        self._changed.set()

    def _hold(self, config: SessionFields | None, num_more: int) -> None:
        """Account for all that waits: texts and their clips, and so many characters more.

        Raises:
            HttpError: 429 or 503, there is no room for it.
        """
        num_chars = self._splitter.num_waiting + num_more
        self._socket.hold(self._num_queued + _BYTES_PER_CHAR * num_chars + _clip_bytes(config))

    async def _finish(self) -> None:
        """Let everything be spoken that has come."""
        idle = asyncio.create_task(self._idle.wait())
        try:
            await self._socket.listen_until(idle)
        finally:
            idle.cancel()

    async def _cancel(self, played_ms: Any) -> None:
        """Drop all that is not spoken, and tell what was heard last."""
        spoken = self._units[0] if self._turn is not None and self._units else None
        self._drop()
        self._splitter.flush()
        self._num_chars = 0
        said: dict[str, Any] = {"type": "audio.cancelled", "utterance_index": self._utterance, "last_word": None}
        if self._turn is not None:
            cut = await self._turn.cancel(seconds_played(played_ms))
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
                    with suppress(HttpError):  # it is less than before
                        self._hold(self._config, 0)
                    await self._changed.wait()
                unit = self._units[0]
                if unit.text is None:
                    await self._socket.send(
                        {"type": "session.done", "utterance_index": unit.utterance, "total_sentences": unit.index}
                    )
                else:
                    await self._speak_unit(unit, unit.text)
                if self._units and self._units[0] is unit:  # it may have been dropped
                    self._num_queued -= self._units.popleft().num_bytes
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

    def _drop(self) -> None:
        self._units.clear()
        self._num_queued = 0

    async def _leave(self) -> None:
        self._drop()
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

    def give_up(self) -> None:
        """See TurnListener."""
        self._socket.give_up()

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


def _clip_bytes(config: SessionFields | None) -> int:
    return len(config.ref_audio or "") if config is not None else 0


def _word(text: str, word: WordTime) -> dict[str, Any]:
    return {
        "word": text[word.text_start : word.text_end],
        "start_ms": round(1000 * word.start_s),
        "end_ms": round(1000 * word.end_s),
    }


def _named(message: dict[str, Any]) -> str:
    """Name the type of a message, which may be anything, without quoting much of it."""
    kind = message.get("type")
    return shortened(kind) if isinstance(kind, str) else "None" if kind is None else type(kind).__name__
