"""From an order to encoded audio: admission, the model, `submit`, an encoder. All dialects speak through here.

A dialect makes a SpeechOrder of whatever its clients send, and gives it to `voxtral.server.delivery`, which reads an
Utterance. The waiting for audio and the encoding happen in a few threads; the rest on the event loop.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from voxtral.audio.encode import ContainerEncoder
from voxtral.errors import AudioError, CancelledError, OptionError, TextError, quoted, shortened
from voxtral.server.admission import Admission, Holdings
from voxtral.server.cloning import check_cloning_is_on, encoder_problems
from voxtral.server.dictionary_store import DictionaryStore
from voxtral.server.errors import HttpError
from voxtral.server.keys import Client
from voxtral.server.metrics import Metrics
from voxtral.server.model_host import LoadedModel, ModelHost
from voxtral.server.options import ServerOptions
from voxtral.server.sharing import SharedAddresses
from voxtral.server.voice_jobs import VoiceJobs
from voxtral.speech.feed import TextFeed
from voxtral.speech.request import check_options
from voxtral.speech.stream import SpeechReader
from voxtral.speech.utterance import SpeechHandle
from voxtral.text.guess import guess_language
from voxtral.types import (
    UNSAID,
    Finding,
    FinishReason,
    Mark,
    SegmentInfo,
    SpeechRequest,
    SpeechStats,
    SpokenLanguage,
    Verdict,
    WordTime,
    worst_verdict,
)

T = TypeVar("T")

# Names that mean whatever model is loaded; OpenAI's may have a date behind them.
MODEL_ALIASES = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "voxtral-tts")
_DATED = re.compile(r"(tts-1|tts-1-hd|gpt-4o-mini-tts)-[0-9]{4}-[0-9]{2}-[0-9]{2}")

# How the vendor's clients begin the names of its hosted models, of which one has the published weights.
_MISTRAL_MODELS = "voxtral-"

# What is sent whole is kept in memory until then: this much text is about a quarter of an hour.
MAX_HELD_CHARS = 10_000

# Texts and clips that have come over sockets and wait.
_MAX_HELD_BYTES = 2**28

# Threads for what is no stream, such as making a voice.
_THREADS_BESIDE_STREAMS = 4


@dataclass(frozen=True)
class SpeechOrder:
    """What a dialect wants spoken.

    Attributes:
        request: its `voice` is a name or None; the service finds out what it means.
        format: one of `voxtral.audio.encode.FORMATS` or `RAW_FORMATS`.
        sample_rate: of the sound that is sent, in Hz; None is the model's, or one near it that the format knows.
        bit_rate: of mp3 or opus, in bit/s; None is ours.
        model: the name that the client gave, if any.
        is_held: make all of it before the first byte, with the true length in headers and container.
        ignored: names of what was asked for and has no effect, for a header.
        feed: gives the text while it is spoken; that of the request is then empty.
    """

    request: SpeechRequest
    format: str
    sample_rate: int | None = None
    bit_rate: int | None = None
    model: str | None = None
    is_held: bool = False
    ignored: tuple[str, ...] = ()
    feed: TextFeed | None = None

    @property
    def voice(self) -> str | None:
        """The name of the voice."""
        voice = self.request.voice
        if voice is not None and not isinstance(voice, str):
            raise TypeError(f"the voice of an order is a {type(voice).__name__}; it must be a name or None")
        return voice

    def held(self) -> SpeechOrder:
        """Return the same, to be made whole before it is sent."""
        return replace(self, is_held=True)


@dataclass(frozen=True)
class Encoded:
    """A piece of encoded audio, and what it brings of the utterance.

    A container may keep samples back: their bytes come with a later piece.

    Attributes:
        data: empty only where words are left when all audio has been given out.
        start: index of the first sample in the utterance.
        num_samples: that went in.
        marks: places of the text that begin within these samples.
        words: those whose times are final by now and were not by an earlier piece.
    """

    data: bytes
    start: int
    num_samples: int
    marks: tuple[Mark, ...] = ()
    words: tuple[WordTime, ...] = ()


@dataclass(frozen=True)
class Opening:
    """What is known when the first audio is there.

    Attributes:
        content_type: of the audio.
        model: that speaks.
        voice: that is heard.
        seed: of the utterance.
        sample_rate: of the model, by which samples are counted.
        sent_rate: of the sound in what is sent.
        ttfa_s: seconds from the order to here.
        warnings: of the library.
        language: that the text is read in.
    """

    content_type: str
    model: str
    voice: str
    seed: int
    sample_rate: int
    sent_rate: int
    ttfa_s: float
    warnings: tuple[str, ...]
    language: SpokenLanguage = UNSAID


@dataclass(frozen=True)
class Check:
    """The verdict on an utterance, which is the worst on its segments, and what was found in all of them."""

    verdict: Verdict
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, object]:
        """Give plain values for JSON."""
        return {"verdict": self.verdict, "findings": [finding.to_dict() for finding in self.findings]}


@dataclass(frozen=True)
class Closing:
    """What is known when all audio has been given out."""

    finish_reason: FinishReason
    stats: SpeechStats
    num_prompt_tokens: int
    segments: tuple[SegmentInfo, ...] = ()

    @property
    def check(self) -> Check | None:
        """Whether the speech follows its text; None where that was not asked."""
        verdict = worst_verdict(self.segments)
        checks = [segment.check for segment in self.segments if segment.check is not None]
        return None if verdict is None else Check(verdict, tuple(found for check in checks for found in check.findings))


class Drained(Protocol):
    """What is open for as long as its client likes, and has to end with the server."""

    def drain(self) -> None:
        """End as soon as nothing is under way."""
        ...


class SpeechService:
    """The one way from HTTP to the engine.

    Args:
        options: of the server.
        host: of the model.
        metrics: get what every utterance took.
    """

    def __init__(self, options: ServerOptions, host: ModelHost, metrics: Metrics) -> None:
        self.options = options
        self.host = host
        self.metrics = metrics
        self.shared = SharedAddresses()
        self.sockets: set[Drained] = set()  # those that are open
        self.held_for_sockets = Holdings(_MAX_HELD_BYTES)
        self.dictionaries = DictionaryStore(options.data_dir / "dictionaries")
        num_streams = options.max_streams or host.num_rows
        max_queue = 2 * num_streams if options.max_queue is None else options.max_queue
        # Who has waited for as long as an utterance may take has nothing left.
        max_wait_s = min(options.max_wait_s, options.deadline_s or options.max_wait_s)
        self.admission = Admission(num_streams, max_queue, max_wait_s)
        self.jobs = VoiceJobs(options, host, metrics)
        host.on_drain = self._drain
        self.pool = ThreadPoolExecutor(num_streams + _THREADS_BESIDE_STREAMS, thread_name_prefix="voxtral-stream")
        self._closing: set[asyncio.Task[None]] = set()

    def check(self, order: SpeechOrder) -> None:
        """Refuse at once what no waiting would mend.

        Raises:
            RequestError: an option or the text breaks a rule.
            HttpError: 404, the model is not this one; 413, the text is too long.
        """
        text = order.request.text
        self.check_length(text, is_held=order.is_held)
        if order.feed is None and (not text or not text.strip()):
            raise TextError("the text is empty; it must hold something to speak; send some text")
        check_options(order.request)
        if order.request.reference_audio is not None:
            check_cloning_is_on(self.options)
        self.check_fits(order)

    def check_length(self, text: str, *, is_held: bool = False, before: int = 0) -> None:
        """Refuse a text that is too long.

        Args:
            text: or the next piece of it.
            is_held: whether it is made whole before it is sent.
            before: characters that have come before.

        Raises:
            HttpError: 413, it is.
        """
        limit = min(self.options.max_chars, MAX_HELD_CHARS) if is_held else self.options.max_chars
        length = before + len(text)
        if length > limit:
            way_out = "stream it" if is_held and length <= self.options.max_chars else "send it in parts"
            raise HttpError(
                413,
                f"the text has {length} characters; this server takes {limit} at a time; {way_out}",
                code="text_too_long",
                param="input",
            )

    def check_fits(self, order: SpeechOrder) -> None:
        """Refuse what the model that is loaded does not do; nothing is refused while none is known.

        Raises:
            HttpError: 404, the model is not this one.
            OptionError: more Euler steps than the checkpoint asks for.
        """
        self.check_model(order.model)
        card, num_steps = self.host.card, order.request.sampling.num_euler_steps
        if card is not None and num_steps is not None and num_steps > card.num_euler_steps:
            raise OptionError(
                f"num_euler_steps is {num_steps}; this server computes at most {card.num_euler_steps}, the number of "
                "its checkpoint, because more would slow others down; ask for fewer, or leave it out"
            )

    def check_model(self, name: str | None) -> None:
        """Refuse the name of a model that is not the loaded one.

        Raises:
            HttpError: 404.
        """
        card = self.host.card
        names = self.model_names
        if name is None or card is None or name in (card.id, *card.names, *names) or _DATED.fullmatch(name):
            return
        way_out = ""
        if name.startswith(_MISTRAL_MODELS):
            way_out = f"; whoever runs it can let that name stand for it: voxtral serve --model-alias {shortened(name)}"
        raise HttpError(
            404,
            f"the model {quoted(name)} is not here; this server has {card.id}, also called {', '.join(names)}{way_out}",
            code="model_not_found",
            param="model",
        )

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names that stand for the loaded model, whatever it is."""
        return (*MODEL_ALIASES, *self.options.model_alias)

    def begin(self, order: SpeechOrder, client: Client) -> Utterance:
        """Check an order and make an utterance; nothing happens before that is opened.

        Raises:
            RequestError: as `check`.
            HttpError: as `check`.
        """
        self.check(order)
        return Utterance(self, order, client)

    def dispose(self, utterance: Utterance) -> None:
        """Close an utterance without waiting for it: its thread may be busy for a moment."""
        task = asyncio.create_task(utterance.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def run(self, function: Callable[[], T]) -> T:
        """Run something in one of the threads; it goes on if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self.pool, function))

    def welcome(self, socket: Drained) -> None:
        """Take note of one that has been opened; in a server that ends it ends soon."""
        self.sockets.add(socket)
        if self.host.state == "draining":
            socket.drain()

    def _drain(self) -> None:
        self.admission.close()
        self.jobs.drain()
        for socket in self.sockets:
            socket.drain()

    async def close(self) -> None:
        """End the threads; to be called when the model has been closed."""
        while self._closing:
            await asyncio.wait(self._closing)
        await asyncio.to_thread(self.pool.shutdown)


class Utterance:
    """One order under way, used by one task.

    `open`, then `read` until it gives nothing, then `closing`; `close` in any case.
    """

    def __init__(self, service: SpeechService, order: SpeechOrder, client: Client) -> None:
        self.order = order
        self._service = service
        self._client = client
        self._accepted_at = time.perf_counter()
        self._queue_s = 0.0
        self._warnings: list[str] = []
        self._content_type, self._sent_rate = "", 0
        self._stack = AsyncExitStack()
        self._reader: SpeechReader[Encoded] | None = None

    async def open(self) -> tuple[Opening, Encoded | None]:
        """Wait for a turn and for the first audio.

        Returns:
            What is known, and the first piece.

        Raises:
            VoxtralError: the order breaks a rule, or failed.
            HttpError: there is no room.
        """
        ticket = await self._service.admission.enter(self._client)
        self._stack.callback(ticket.give_back)
        loaded = await self._stack.enter_async_context(self._service.host.use())
        self._service.check_fits(self.order)
        self._queue_s = time.perf_counter() - self._accepted_at
        self._reader = SpeechReader(lambda: self._begin(loaded), self._service.pool)
        first = await self._reader.open()
        handle, card = self._handle, loaded.card
        ttfa_s = time.perf_counter() - self._accepted_at
        self._service.metrics.observe_start(ttfa_s, self._queue_s)
        return (
            Opening(
                content_type=self._content_type,
                model=card.id,
                voice=handle.voice,
                language=handle.language,
                seed=handle.seed,
                sample_rate=card.sample_rate,
                sent_rate=self._sent_rate,
                ttfa_s=ttfa_s,
                warnings=tuple(self._warnings),
            ),
            first,
        )

    async def read(self) -> Encoded | None:
        """Wait for more audio; None is the end.

        Raises:
            VoxtralError: the utterance failed; what was read before is good.
        """
        if self._reader is None:
            raise _not_opened()
        return await self._reader.read()

    @property
    def closing(self) -> Closing:
        """What it took; complete after the last piece."""
        handle = self._handle
        return Closing(handle.finish_reason, handle.stats, handle.num_prompt_tokens, handle.segments)

    async def close(self) -> None:
        """Stop what still runs, and give everything back."""
        if self._reader is not None:
            await self._reader.close()
            if self._reader.handle is not None:
                self._service.metrics.observe_end(self._reader.handle.stats)
        await self._stack.aclose()

    @property
    def _handle(self) -> SpeechHandle:
        if self._reader is None or self._reader.handle is None:
            raise _not_opened()
        return self._reader.handle

    def _begin(self, loaded: LoadedModel) -> tuple[SpeechHandle, Iterator[Encoded]]:
        """Plan and start to speak, in a thread."""
        request, options = self.order.request, self._service.options
        if request.reference_audio is None:
            voice = loaded.voices.resolve(self.order.voice, request.language or self._guess(loaded))
            request = replace(request, voice=voice)
        if options.deadline_s is not None:
            left = options.deadline_s - self._queue_s
            request = replace(request, deadline_s=max(left, 0.001))
        encoder = _open_encoder(self.order, loaded.tts.sample_rate)
        self._content_type, self._sent_rate = encoder.content_type, encoder.output_rate
        with encoder_problems(loaded.card, options, "inline"):
            handle = loaded.tts.submit(
                request, hold_segments=self.order.is_held, warn=self._warnings.append, feed=self.order.feed
            )
        pieces = _encode(handle, encoder)
        return handle, _join(pieces, encoder) if self.order.is_held else pieces

    def _guess(self, loaded: LoadedModel) -> str | None:
        """Tell the language of the text, for OpenAI's names, which stand for voices of any."""
        guess = guess_language(self.order.request.text)
        return guess if guess in loaded.card.languages else None


def _not_opened() -> CancelledError:
    return CancelledError("the utterance was not opened")


def _open_encoder(order: SpeechOrder, sample_rate: int) -> ContainerEncoder:
    param = "response_format" if order.sample_rate is None else "sample_rate"
    try:
        return ContainerEncoder(
            order.format,
            sample_rate,
            is_seekable=order.is_held,
            output_rate=order.sample_rate,
            bit_rate=order.bit_rate,
        )
    except AudioError as error:
        raise HttpError(400, str(error), code="unsupported_format", param=param) from error


def _encode(handle: SpeechHandle, encoder: ContainerEncoder) -> Iterator[Encoded]:
    """Encode an utterance as it is made."""
    start, num_samples = 0, 0
    marks: list[Mark] = []
    words: list[WordTime] = []
    for chunk in handle.chunks():
        num_samples += len(chunk)
        marks += chunk.marks
        words += chunk.words
        if data := encoder.write(chunk.samples):
            yield Encoded(data, start, num_samples, tuple(marks), tuple(words))
            start, num_samples = start + num_samples, 0
            marks.clear()
            words.clear()
    data = encoder.finish()
    if data or words:
        yield Encoded(data, start, num_samples, tuple(marks), tuple(words))


def _join(pieces: Iterator[Encoded], encoder: ContainerEncoder) -> Iterator[Encoded]:
    """Make one piece of a whole utterance, and write into the container what is known at its end."""
    data = bytearray()
    num_samples = 0
    marks: list[Mark] = []
    words: list[WordTime] = []
    for piece in pieces:
        data += piece.data
        num_samples += piece.num_samples
        marks += piece.marks
        words += piece.words
    for position, correction in encoder.corrections:
        data[position : position + len(correction)] = correction
    yield Encoded(bytes(data), 0, num_samples, tuple(marks), tuple(words))
