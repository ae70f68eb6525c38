"""ElevenLabs' web sockets: one text in pieces (`stream-input`), or several at a time (`multi-stream-input`).

Speech begins with the first words that can be spoken, at the latest when so many characters have come as the client
asks for, or on a flush. `cancel_context` is more than ElevenLabs has: it cuts off what is spoken, and tells what was
heard last.
"""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.websockets import WebSocket

from voxtral.captions.alignment import Alignment, GrowingAlignment
from voxtral.errors import VoxtralError
from voxtral.server.dialects.elevenlabs.speech import DEFAULT_FORMAT, ElevenFields, in_milliseconds
from voxtral.server.errors import HttpError, as_http_error
from voxtral.server.schema import validate
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder, SpeechService
from voxtral.server.sockets import POLICY, ServerEndsError, Socket
from voxtral.server.turn import Turn, seconds_played

_MAX_MESSAGE_BYTES = 2**17
_MAX_CONTEXTS = 10
_IDLE_TIMEOUT_S, _MAX_IDLE_TIMEOUT_S = 20.0, 180.0

# If no more text comes for so long, what is there is spoken: those who write word by word pause between sentences.
_PATIENCE_S = 0.6

_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")

# The least and the most that a client may want gathered before anything is spoken.
_LEAST_CHARS, _MOST_CHARS = 1, 400


class GenerationConfig(BaseModel):
    """How much text is gathered before it is spoken."""

    model_config = ConfigDict(extra="allow")

    chunk_length_schedule: list[float] | None = Field(None, max_length=64)


class SocketFields(ElevenFields):
    """The first message of a text: settings, and a text that is one space."""

    text: str = ""
    generation_config: GenerationConfig | None = None


def routes(service: SpeechService) -> APIRouter:
    """Make the routes."""
    router = APIRouter(prefix="/v1/text-to-speech")

    @router.websocket("/{voice_id}/stream-input")
    async def stream_input(websocket: WebSocket, voice_id: str) -> None:
        """Speak one text that comes in pieces."""
        socket = Socket(websocket, service, _MAX_MESSAGE_BYTES)
        await socket.serve(_One(service, socket, _Asked(websocket, voice_id)).run)

    @router.websocket("/{voice_id}/multi-stream-input")
    async def multi_stream_input(websocket: WebSocket, voice_id: str) -> None:
        """Speak texts that come in pieces, each in a context of its own."""
        socket = Socket(websocket, service, _MAX_MESSAGE_BYTES)
        await socket.serve(_Many(service, socket, _Asked(websocket, voice_id)).run)

    return router


class _Asked:
    """What the address of a socket asks for."""

    def __init__(self, websocket: WebSocket, voice_id: str) -> None:
        query = websocket.query_params
        self.voice_id = voice_id
        self.output_format = query.get("output_format") or DEFAULT_FORMAT
        self.is_auto = query.get("auto_mode", "").lower() == "true"
        self.has_one_clock = query.get("sync_alignment", "").lower() == "true"
        names = ("language_code", "apply_text_normalization", "seed")
        self.fields: dict[str, Any] = {name: query[name] for name in names if query.get(name)}
        # Seconds as ElevenLabs has them: a number of digits, and no other that Python would read.
        wanted = query.get("inactivity_timeout", "")
        wanted_s = float(wanted) if _SECONDS.fullmatch(wanted) else _IDLE_TIMEOUT_S
        self.idle_s = min(max(wanted_s, 1.0), _MAX_IDLE_TIMEOUT_S)

    def order(self, service: SpeechService, first: SocketFields) -> SpeechOrder:
        """Make the order of a text that begins with this message; see `ElevenFields.order`."""
        return first.order(service, self.voice_id, self.output_format, is_held=False, timestamps=True)

    def min_chars(self, first: SocketFields) -> int:
        """Say how many characters are to be gathered; without a wish, whatever can be spoken is."""
        schedule = None if first.generation_config is None else first.generation_config.chunk_length_schedule
        if self.is_auto or not schedule:
            return _LEAST_CHARS
        return round(min(max(schedule[0], _LEAST_CHARS), _MOST_CHARS))


class _Text:
    """One text on its way: the turn that speaks it, and what is written of that. A TurnListener."""

    def __init__(
        self, service: SpeechService, socket: Socket, asked: _Asked, first: dict[str, Any], context: str | None
    ) -> None:
        fields = {name: value for name, value in first.items() if name not in _OF_MESSAGES}
        settings = validate(SocketFields, {**asked.fields, **fields, "text": ""})
        self.context = context
        self.has_failed = False
        self._socket = socket
        self._asked = asked
        self._times = GrowingAlignment()
        self._told_ms = 0  # up to here characters have their times
        self.turn = Turn(
            service,
            asked.order(service, settings),
            socket.visit,
            self,
            in_pieces=True,
            min_chars=asked.min_chars(settings),
            patience_s=_PATIENCE_S,
            idle_s=asked.idle_s,
        )

    async def begin(self, opening: Opening) -> None:
        """See TurnListener."""

    async def audio(self, piece: Encoded) -> None:
        """Write a piece, and the characters that are final with it."""
        feed = self.turn.feed
        await self._piece(piece.data, self._times.take("" if feed is None else feed.text, piece.words))

    async def end(self, closing: Closing) -> None:
        """Write the characters behind the last word, and that there is no more."""
        feed = self.turn.feed
        rest = self._times.rest("" if feed is None else feed.text)
        if rest.characters:
            await self._piece(b"", rest)
        await self._send(_FINAL)

    async def fail(self, error: HttpError, *, has_begun: bool) -> None:
        """Write what went wrong."""
        self.has_failed = True
        if self.context is None:
            await self._socket.send({"message": error.detail, "error": error.code, "code": POLICY})
        else:
            await self._send({"error": error.detail, "code": error.code})

    def give_up(self) -> None:
        """See TurnListener."""
        self._socket.give_up()

    async def _piece(self, data: bytes, alignment: Alignment) -> None:
        """Write a piece. Without one clock for all, times begin anew where those before ended: clients add them up."""
        told = in_milliseconds(alignment, 0.0 if self._asked.has_one_clock else self._told_ms / 1000)
        if told is not None:
            self._told_ms += told["charStartTimesMs"][-1] + told["charDurationsMs"][-1]
        audio = base64.b64encode(data).decode()
        await self._send({"audio": audio, "isFinal": False, "alignment": told, "normalizedAlignment": told})

    async def _send(self, message: dict[str, Any]) -> None:
        named = {} if self.context is None else {"contextId": self.context, "context_id": self.context}
        await self._socket.send({**message, **named})


# Keys of a message that are no settings of what is spoken.
_OF_MESSAGES = (
    "context_id", "contextId", "flush", "try_trigger_generation", "close_context", "close_socket", "cancel_context",
    "played_ms", "xi-api-key", "authorization", "xi_api_key",
)  # fmt: skip


class _One:
    """A socket with one text."""

    def __init__(self, service: SpeechService, socket: Socket, asked: _Asked) -> None:
        self._service = service
        self._socket = socket
        self._asked = asked
        self._text: _Text | None = None
        self._first: dict[str, Any] = {}
        self._is_cut_short = False  # by the end of the server

    async def run(self) -> None:
        """Take pieces until the text is whole, and speak to its end."""
        try:
            while await self._take():
                pass
            if self._text is not None:
                self._text.turn.close()
                await self._socket.listen_until(self._text.turn.ending)
                if self._text.has_failed:
                    await self._socket.close(POLICY)
            if self._is_cut_short:
                raise ServerEndsError
            if self._text is None:
                await self._socket.send(_FINAL)
        except (HttpError, VoxtralError) as error:
            refusal = as_http_error(error)
            await self._socket.send({"message": refusal.detail, "error": refusal.code, "code": POLICY})
            await self._socket.close(POLICY, refusal.detail)
        finally:
            if self._text is not None:
                await self._text.turn.cancel()

    async def _take(self) -> bool:
        """Take a message; tell whether there may be more text.

        Raises:
            HttpError: it breaks a rule, or nobody has said anything for too long.
        """
        text = self._text
        try:
            message = await self._socket.receive(self._asked.idle_s, None if text is None else text.turn.ending)
        except TimeoutError:
            if text is not None:
                return True  # its turn knows when it has waited for too long
            raise HttpError(
                408, f"no message has come for {self._asked.idle_s:g} s; send a space to keep it", code="idle"
            ) from None
        except ServerEndsError:
            self._is_cut_short = True
            return False
        if message is None:
            return False
        piece = _piece_of(message)
        if not self._first:
            self._first = message
        if piece == "":
            return False
        if piece is not None and piece.strip():
            if text is None:
                text = _Text(self._service, self._socket, self._asked, {**self._first, **message}, None)
                self._text = text
            self._socket.hold(_BYTES_PER_CHAR * (text.turn.num_chars + len(piece)))
            text.turn.push(piece)
        elif text is not None:
            text.turn.touch()
        if message.get("flush") is True and text is not None:
            text.turn.flush()
        return True


class _Many:
    """A socket with several texts, each with a context."""

    def __init__(self, service: SpeechService, socket: Socket, asked: _Asked) -> None:
        self._service = service
        self._socket = socket
        self._asked = asked
        self._texts: dict[str, _Text] = {}
        self._first: dict[str, dict[str, Any]] = {}  # settings of contexts that have no text yet
        self._endings: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take messages until the client closes, leaves, or is silent for too long."""
        try:
            while True:
                try:
                    message = await self._socket.receive(self._asked.idle_s) or {}
                except TimeoutError:
                    if any(not text.turn.has_ended for text in self._texts.values()):
                        continue
                    return
                except HttpError:
                    continue  # what is no message is dropped, as ElevenLabs does
                except ServerEndsError:
                    await self._close_all()
                    raise
                if message.get("close_socket") is True:
                    await self._close_all()
                    return
                await self._take(message)
        finally:
            for text in list(self._texts.values()):
                await text.turn.cancel()

    async def _take(self, message: dict[str, Any]) -> None:
        given = message.get("context_id") or message.get("contextId")
        context = given if isinstance(given, str) and 0 < len(given) <= _MAX_CONTEXT_CHARS else _DEFAULT_CONTEXT
        try:
            await self._act(context, message)
        except (HttpError, VoxtralError) as error:
            refusal = as_http_error(error)
            self._first.pop(context, None)
            told = {"error": refusal.detail, "code": refusal.code, "contextId": context, "context_id": context}
            await self._socket.send(told)

    async def _act(self, context: str, message: dict[str, Any]) -> None:
        """Do what a message asks for.

        Raises:
            HttpError: it breaks a rule.
        """
        piece = _piece_of(message)
        text = self._texts.get(context)
        if piece is not None and piece.strip():
            self._hold(len(piece))
            text = self._text(context, message)
            text.turn.push(piece)
        elif text is not None:
            text.turn.touch()
        elif piece:
            if context not in self._first and len(self._first) >= _MAX_CONTEXTS:
                raise _too_many_contexts()
            self._first[context] = message
        if message.get("cancel_context") is True:
            await self._cancel(context, message.get("played_ms"))
        elif message.get("close_context") is True:
            await self._close(context)
        elif message.get("flush") is True and text is not None:
            text.turn.flush()

    def _hold(self, num_more: int = 0) -> None:
        """Account for the characters of all texts, and so many more."""
        num_chars = num_more + sum(text.turn.num_chars for text in self._texts.values())
        self._socket.hold(_BYTES_PER_CHAR * num_chars)

    def _text(self, context: str, message: dict[str, Any]) -> _Text:
        """Find the text of a context, or begin one."""
        text = self._texts.get(context)
        if text is not None and not text.turn.has_ended:
            return text
        if text is None and len(self._texts) >= _MAX_CONTEXTS:
            raise _too_many_contexts()
        first = self._first.pop(context, {})
        text = _Text(self._service, self._socket, self._asked, {**first, **message}, context)
        self._texts[context] = text
        ending = asyncio.create_task(self._forget_at_the_end(context, text))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return text

    async def _forget_at_the_end(self, context: str, text: _Text) -> None:
        await text.turn.wait()
        if self._texts.get(context) is text:
            del self._texts[context]
            self._hold()

    async def _close(self, context: str) -> None:
        """Say that a text is whole; one that never began ends at once."""
        text = self._texts.get(context)
        if text is not None:
            text.turn.close()
        elif self._first.pop(context, None) is not None:
            told = {"audio": None, "isFinal": True, "contextId": context, "context_id": context}
            await self._socket.send(told)

    async def _cancel(self, context: str, played_ms: Any) -> None:
        text = self._texts.pop(context, None)
        self._first.pop(context, None)
        if text is None:
            return
        cut = await text.turn.cancel(seconds_played(played_ms))
        word = cut.last_word
        last_word = word and {
            "word": cut.text[word.text_start : word.text_end],
            "text_start": word.text_start,
            "text_end": word.text_end,
            "start_ms": round(1000 * word.start_s),
            "end_ms": round(1000 * word.end_s),
        }
        told = {"isFinal": True, "cancelled": True, "played_ms": round(1000 * cut.played_s), "last_word": last_word}
        await self._socket.send({"audio": None, **told, "contextId": context, "context_id": context})

    async def _close_all(self) -> None:
        """Let everything be spoken to its end."""
        texts = list(self._texts.values())
        for text in texts:
            text.turn.close()
        for text in texts:
            await self._socket.listen_until(text.turn.ending)


_FINAL = {"audio": None, "isFinal": True, "alignment": None, "normalizedAlignment": None}

# In memory: as it came, and as it is spoken.
_BYTES_PER_CHAR = 8

_DEFAULT_CONTEXT = "default"
_MAX_CONTEXT_CHARS = 256


def _too_many_contexts() -> HttpError:
    return HttpError(
        429,
        f"the socket has {_MAX_CONTEXTS} contexts, which is as many as it may have; close one",
        code="too_many_contexts",
    )


def _piece_of(message: dict[str, Any]) -> str | None:
    """Take the text out of a message; None where it has none.

    Raises:
        HttpError: 400, it is no text.
    """
    piece = message.get("text")
    if piece is not None and not isinstance(piece, str):
        raise HttpError(400, "text is no string; it must be a piece of the text", code="invalid_message", param="text")
    return piece
