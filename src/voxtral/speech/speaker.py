"""Speaker: everything that can be made of `submit`: audio in memory, files, streams, batches.

Whoever can submit a request speaks in all of these ways. `voxtral.tts` is the model of this process.
"""

# pyright: reportUnnecessaryIsInstance=false
# (callers without a type checker pass anything)

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from typing import Any, Self, Unpack, cast

from voxtral.audio.source import AudioSource
from voxtral.errors import TextError
from voxtral.options import CommonOptions, SpeechOptions
from voxtral.speech.batch import (
    MAX_IN_FLIGHT,
    Batch,
    BatchItem,
    BatchResult,
    ClonedVoices,
    ItemReader,
    as_finished,
    check_texts,
    default_in_flight,
    in_order,
)
from voxtral.speech.feed import Feed
from voxtral.speech.planner import Warn
from voxtral.speech.request import check_number, check_options, make_request
from voxtral.speech.result import Audio, collect
from voxtral.speech.stream import PiecewiseText, SpeechStream
from voxtral.speech.utterance import SpeechHandle
from voxtral.types import SpeechRequest
from voxtral.voices.prompt import VoicePrompt

# `synthesize` keeps the whole result in memory: this much text is about 4 hours, 1.5 GB of samples.
_MAX_CHARS_IN_MEMORY = 200_000

BatchText = str | Mapping[str, Any] | SpeechRequest


class Speaker(ABC):
    """Speaks requests in every way that there is; a subclass says how one is checked and started."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Samples per second of all audio."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let the model go; see `VoxtralTTS.close`."""

    @property
    @abstractmethod
    def max_batch(self) -> int:
        """Sequences that make frames side by side."""

    @abstractmethod
    def check(self, request: SpeechRequest, *, warn: Warn | None = None) -> None:
        """Refuse what `submit` would refuse, and speak nothing; see `VoxtralTTS.check`."""

    @abstractmethod
    def submit(
        self, request: SpeechRequest, *, hold_segments: bool = False, warn: Warn | None = None, feed: Feed = None
    ) -> SpeechHandle:
        """Check a request, start it and return at once; see `VoxtralTTS.submit`."""

    @abstractmethod
    def create_voice(
        self,
        reference_audio: AudioSource,
        name: str = "cloned",
        metadata: Mapping[str, str] | None = None,
        *,
        warn: Warn | None = None,
    ) -> VoicePrompt:
        """Clone a voice from a clip; see `VoxtralTTS.create_voice`."""

    def synthesize(
        self,
        text: str,
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        **options: Unpack[SpeechOptions],
    ) -> Audio:
        """Speak a text and return the audio.

        Args:
            text: spoken in plain characters unless normalize says otherwise; long text is spoken in segments.
            language: checked, and chooses the default voice; no model input.
            reference_audio: a clip to clone: path, bytes, or (samples, sample rate).
            options: voice, seed, guidance_scale, noise_scale, num_euler_steps, max_frames, speed,
                pause (seconds between segments), normalize, deadline_s, timestamps, verify, max_attempts,
                keep_to_text; see SpeechRequest.

        Returns:
            The samples with segments, finish reason and statistics.

        Raises:
            RequestError: the input breaks a rule; nothing was computed.
            GenerationError: a segment failed twice; its `audio` has what was made.
        """
        if isinstance(text, str) and len(text) > _MAX_CHARS_IN_MEMORY:
            raise TextError(
                f"the text has {len(text)} characters; synthesize keeps at most {_MAX_CHARS_IN_MEMORY} characters of "
                "speech in memory; use synthesize_to_file or synthesize_stream"
            )
        request = make_request(text, language, reference_audio, **options)
        return collect(self.submit(request, hold_segments=True), self.sample_rate, text)

    def synthesize_to_file(
        self,
        path: str | os.PathLike[str],
        text: str,
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        **options: Unpack[SpeechOptions],
    ) -> SpeechHandle:
        """Speak a text of any length into a file, in constant memory.

        Args:
            path: the extension chooses the format. The file appears complete or not at all.
            text: as the parameters that follow, see `synthesize`.
            language: no model input.
            reference_audio: a clip to clone.
            options: keywords.

        Returns:
            The finished handle: segments, finish_reason, stats, seed.

        Raises:
            RequestError: the input breaks a rule.
            AudioError: the file cannot be written.
            GenerationError: a segment failed twice.
        """
        from voxtral.audio.file import AudioFileWriter

        with AudioFileWriter(path, self.sample_rate) as writer:
            request = make_request(text, language, reference_audio, **options)
            handle = self.submit(request, hold_segments=True)
            try:
                for chunk in handle.chunks():
                    writer.write(chunk.samples)
            finally:
                handle.cancel()
        return handle

    def synthesize_stream(
        self,
        text: str | Iterable[str] | AsyncIterable[str],
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        *,
        chunk_size: int | None = None,
        **options: Unpack[SpeechOptions],
    ) -> SpeechStream:
        """Speak a text and give out audio as it is made.

        Args:
            text: as the parameters that follow, see `synthesize`; or its pieces as they come, such as those of a
                language model. Each sentence is spoken as soon as it is known to end (docs/TEXT.md); an iterable is
                read in a thread of its own, an asynchronous one in the loop that reads the stream.
            language: no model input.
            reference_audio: a clip to clone.
            chunk_size: samples of every chunk but the last; None sends one frame first, then grows.
            options: keywords.

        Returns:
            A stream for `async for` and for plain `for`; its chunks have `.numpy()`.

        Raises:
            RequestError: the input breaks a rule; raised here, before the first chunk. What hangs on a text that comes
                in pieces is raised when the stream is read.
        """
        check_number("chunk_size", chunk_size, 1, 2**31, whole=True)
        if not isinstance(text, str | bytes | Mapping) and isinstance(text, Iterable | AsyncIterable):
            request = make_request("", language, reference_audio, **options)
            check_options(request)
            return SpeechStream(PiecewiseText(text, lambda feed: self.submit(request, feed=feed)), chunk_size)
        request = make_request(cast("str", text), language, reference_audio, **options)  # the planner looks what it is
        return SpeechStream(self.submit(request), chunk_size)

    # Many texts.

    def synthesize_batch(
        self,
        texts: Iterable[BatchText],
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        *,
        seed: int = 0,
        max_in_flight: int | None = None,
        **options: Unpack[CommonOptions],
    ) -> list[Audio]:
        """Speak many texts side by side and return their audio in the order of the texts.

        Every item is checked before the first is spoken. For more than fits memory there is `synthesize_batch_iter`,
        for files and for going on after an interruption `synthesize_files`.

        Args:
            texts: each a str; a dict of "text", any keyword of `synthesize` and "name"; or a SpeechRequest, which
                takes a seed of the common options and nothing else.
            language: of items that name none.
            reference_audio: of items that name no voice; encoded once.
            seed: an item without a seed of its own gets one that is derived from this and its name, or its index if
                it has no name. The same call so makes the same audio; docs/BATCH.md says how exactly.
            max_in_flight: texts under way at a time, 1 to 512; a few more than the engine computes together by
                default.
            options: of items that do not say otherwise; see `synthesize`.

        Raises:
            RequestError: items break a rule; the message names them, and nothing was spoken.
            BatchError: items failed while they were spoken; its `results` have the audio of the others.
        """
        batch, reader = self._batch(
            texts, seed, max_in_flight, {"language": language, "reference_audio": reference_audio, **options}
        )
        items = reader.read_all(texts)
        num_chars = sum(len(item.request.text) for item in items)
        if num_chars > _MAX_CHARS_IN_MEMORY:
            raise TextError(
                f"the texts have {num_chars} characters; synthesize_batch keeps at most {_MAX_CHARS_IN_MEMORY} "
                "characters of speech in memory; use synthesize_batch_iter or `voxtral batch`"
            )
        return in_order(batch, items)

    def synthesize_batch_iter(
        self,
        texts: Iterable[BatchText],
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        *,
        seed: int = 0,
        max_in_flight: int | None = None,
        **options: Unpack[CommonOptions],
    ) -> Iterator[BatchResult]:
        """Speak many texts side by side and yield each as it is done, in whatever order they finish.

        For any number of texts in constant memory: they are read no further ahead than there is room for. Nothing is
        raised for an item: what is refused or fails is a result with its error. Leaving the loop cancels the rest.

        Args:
            texts: see `synthesize_batch`.
            language: see `synthesize_batch`.
            reference_audio: see `synthesize_batch`.
            seed: see `synthesize_batch`.
            max_in_flight: see `synthesize_batch`.
            options: see `synthesize_batch`.

        Yields:
            The index and name of an item with its audio or its error.

        Raises:
            RequestError: a common option breaks a rule; raised here, before the first result.
        """
        batch, reader = self._batch(
            texts, seed, max_in_flight, {"language": language, "reference_audio": reference_audio, **options}
        )
        return as_finished(batch, reader, texts)

    def _batch(
        self, texts: object, seed: int, max_in_flight: int | None, common: dict[str, Any]
    ) -> tuple[Batch[Audio], ItemReader]:
        check_texts(texts)
        check_number("max_in_flight", max_in_flight, 1, MAX_IN_FLIGHT, whole=True)
        reader = ItemReader(common, seed, ClonedVoices(self.create_voice), self.check)
        size = max_in_flight or default_in_flight(self.max_batch)

        def take(item: BatchItem, handle: SpeechHandle) -> Audio:
            return collect(handle, self.sample_rate, item.request.text)

        return Batch(self.submit, take, size), reader
