"""VoxtralTTS: the Python API. Loads a model, resolves requests, speaks.

Everything audible goes through `submit`; the other methods are ways to read its handle. HTTP and the
command line use this class too. Read next: `voxtral.speech.utterance`, then docs/ENGINE.md.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
import sys
import threading
import time
import unicodedata
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from voxtral.audio.read import AudioLimits, read_audio
from voxtral.config import ModelConfig
from voxtral.device import ComputePlan, codec_dtype_for, plan_compute, probe_device, resolve_device
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise, derive_seed
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationRequest
from voxtral.errors import (
    EncoderMissingError,
    EngineError,
    EngineStoppedError,
    GenerationError,
    LanguageError,
    ReferenceAudioError,
    TextError,
    VoiceError,
    VoxtralWarning,
)
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.load import keep_voices_on_disk, load_as_planned, open_tokenizer
from voxtral.loading.locate import locate_model
from voxtral.loading.memory import check_precision, choose_quantization, limit_device_memory
from voxtral.model.codebooks import CodeRangeError, check_codes
from voxtral.model.voxtral import VoxtralModel, move_model
from voxtral.speech.batch import (
    MAX_IN_FLIGHT,
    Batch,
    BatchResult,
    ClonedVoices,
    ItemReader,
    as_finished,
    check_texts,
    default_in_flight,
    in_order,
)
from voxtral.speech.request import check_number, check_options, make_request
from voxtral.speech.result import Audio
from voxtral.speech.utterance import SpeechHandle, SpeechPlan
from voxtral.text.kana import LETTERS_PER_KANA
from voxtral.text.language import LANGUAGES, check_speakable, is_speakable, resolve_language, script_mismatch
from voxtral.text.normalize import normalize, write_in_kana
from voxtral.text.prompt import build_prompt
from voxtral.text.segment import TextSegment, split_text
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.types import AudioChunk, SpeechRequest
from voxtral.voices.presets import VoiceInfo, default_voice, describe_presets, list_presets, voice_language
from voxtral.voices.prompt import VoicePrompt, check_voice, load_voice

if TYPE_CHECKING:
    import numpy.typing as npt

# Lengths of reference audio, seconds. Source: the users' guide (3 s) and docs/MODEL.md, "Habits".
_MIN_REFERENCE_S, _GOOD_REFERENCE_S, _MAX_REFERENCE_S = 1.0, 3.0, 30.0

# A recording that its owner turns into codes may be longer than what a stranger sends as a reference.
_ENCODE_LIMITS = AudioLimits(max_bytes=256 * 2**20, max_seconds=600.0, max_decoded_bytes=1024 * 2**20)

# Frames of codes that are decoded between two looks at who is speaking.
_DECODE_FRAMES = 100

# Segments of one text that are made side by side: as many as pay where nobody listens yet; where somebody does, the
# next one only, so that it does not slow the one that is heard.
_SEGMENTS_IN_FLIGHT, _SEGMENTS_IN_FLIGHT_HELD = 2, 8

# `synthesize` keeps the whole result in memory: this much text is about 4 hours, 1.5 GB of samples.
_MAX_CHARS_IN_MEMORY = 200_000

# The default frame budget, in seconds of speech. Typical English is 0.08 s a character; two or three
# words may take 6 s without fault (docs/MODEL.md, "Habits").
_BUDGET_BASE_S, _BUDGET_PER_CHAR_S = 6.0, 0.25


class VoxtralTTS:
    """A loaded model that speaks; safe to use from many threads.

    Example:
        model = VoxtralTTS.from_pretrained("mistralai/Voxtral-TTS")
        audio = model.synthesize(text="Hello!", language="en")
        audio.save("hello.wav")
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: VoxtralModel,
        compute: ComputePlan,
        tokenizer: SpeechTokenizer,
        name: str,
        options: EngineOptions | None = None,
    ) -> None:
        self.name = name
        self.checkpoint = checkpoint
        self.compute = compute
        self._model = model
        self._tokenizer = tokenizer
        self._presets = list_presets(checkpoint.folder)
        self._voices: dict[str, VoicePrompt] = {}
        self._handles: weakref.WeakSet[SpeechHandle] = weakref.WeakSet()
        self._num_decoding = 0
        self._lock = threading.Lock()
        self._restarting = threading.Lock()
        self._is_closed = False
        options = options or EngineOptions()
        if options.num_threads is None:
            options = replace(options, num_threads=compute.num_threads)
        if options.kv_cache_bytes is None:
            options = replace(options, kv_cache_bytes=compute.kv_cache_bytes)
        options = keep_voices_on_disk(options, checkpoint, compute)
        self._set_engine(Engine(model, options))

    @classmethod
    def from_pretrained(  # noqa: PLR0913 - each is an option of its own
        cls,
        model: str | os.PathLike[str],
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        quantize: str | None = None,
        max_memory: str | int | None = None,
        revision: str | None = None,
        token: str | None = None,
        local_files_only: bool = False,
        announce: Callable[[str], None] | None = None,
        options: EngineOptions | None = None,
    ) -> VoxtralTTS:
        """Load a checkpoint.

        Args:
            model: a folder, a hub id or alias (`mistralai/Voxtral-TTS`, `4b`), or `nano`, the small
                robotic demo voice in this package. A hub id that is not in the local cache is
                downloaded.
            device: auto, cpu, cuda, cuda:N or mps (untested).
            dtype: auto, float32, bfloat16 or float16; of what is not quantised.
            quantize: int8, int4 (the backbone; the acoustic transformer gets int8), int4-all, none, or auto: the
                first of none, int8 and int4 that fits the memory. See docs/QUANTIZATION.md for what it costs.
            max_memory: such as "3GB": a budget for weights, keys and values, and activations; what does not fit is
                refused before it is loaded. Without `quantize` it means quantize="auto".
            revision: of a hub id; the published checkpoint is pinned by default.
            token: for the hub; HF_TOKEN by default.
            local_files_only: never download.
            announce: gets what a person should know before a download starts; default: standard error.
            options: of the engine, such as max_batch or batch_invariant.

        Raises:
            ModelNotFoundError: there is no such model.
            DownloadError: the hub refused or broke off.
            CheckpointError: a file is damaged.
            DeviceError: the device or dtype is not available, or the model does not fit.
            OptionError: quantize or max_memory is unknown, or contradicts the checkpoint.
        """
        check_precision(quantize, max_memory)
        plan_compute(device, dtype)  # before a download: a device that is not there would be refused after it
        folder = locate_model(
            model,
            revision=revision,
            token=token,
            allow_download=not local_files_only,
            announce=announce or _tell_on_stderr,
        )
        checkpoint = open_checkpoint(folder)
        tokenizer = open_tokenizer(checkpoint)
        compute = plan_compute(device, dtype, num_parameters=checkpoint.num_parameters)
        compute = choose_quantization(checkpoint, compute, quantize, max_memory)
        if max_memory is not None:
            limit_device_memory(compute.device, max_memory)
        weights = load_as_planned(checkpoint, compute)
        return cls(checkpoint, weights, compute, tokenizer, str(model), options)

    # Where and how it runs.

    def to(self, device: str | torch.device) -> VoxtralTTS:
        """Move the model; returns itself.

        Raises:
            DeviceError: the device is not there, or has no room; or the model is quantised, for then its weights are
                laid out for where they are.
            EngineError: requests are open.
        """
        resolved, reason = resolve_device(device)
        return self._recompute(device=resolved, device_reason=reason)

    def half(self) -> VoxtralTTS:
        """Use float16 for backbone and acoustic transformer; the codec stays in a wider dtype.

        Going back to a wider dtype keeps what float16 rounded away.

        Raises:
            DeviceError: a weight does not fit float16; nothing was changed.
            EngineError: requests are open.
        """
        return self._recompute(dtype=torch.float16, dtype_reason="it was asked for")

    def bfloat16(self) -> VoxtralTTS:
        """Use bfloat16, the dtype of the published weights."""
        return self._recompute(dtype=torch.bfloat16, dtype_reason="it was asked for")

    def float(self) -> VoxtralTTS:
        """Use float32."""
        return self._recompute(dtype=torch.float32, dtype_reason="it was asked for")

    def restart_engine(self) -> None:
        """Give the model a new engine where the old one has failed (`engine.failure`); the weights stay.

        Whoever had something under way has been told. A working engine is left alone.

        Raises:
            DeviceError: the device does not answer any more: end the process.
            EngineStoppedError: the model has been closed.
        """
        with self._restarting:
            failed = self._engine
            if failed.failure is None:
                return
            failed.close()  # its thread gives back what it held
            probe_device(self.compute.device)
            engine = Engine(self._model, failed.options)
            with self._lock:
                if self._is_closed:
                    raise EngineStoppedError("the model has been closed; it speaks no more; load it again")
                self._finalizer.detach()
                self._set_engine(engine)

    def _set_engine(self, engine: Engine) -> None:
        self._engine = engine
        # Also runs at interpreter exit, so that no thread is inside torch when that is torn down.
        self._finalizer = weakref.finalize(self, engine.close)

    def close(self) -> None:
        """Stop the engine; unfinished requests fail. The object is of no use afterwards."""
        with self._lock:
            self._is_closed = True
        self._engine.close()

    def __enter__(self) -> VoxtralTTS:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recompute(self, **changes: Any) -> VoxtralTTS:
        """Change fields of the compute plan; the codec's dtype follows from the others."""

        def move(model: VoxtralModel) -> None:
            # On the engine's thread, between frames, so that two changes cannot undo each other.
            before, after = self.compute, replace(self.compute, **changes)
            codec_dtype, codec_reason = codec_dtype_for(after.device, after.dtype)
            after = replace(after, codec_dtype=codec_dtype, codec_reason=codec_reason)
            if (after.device, after.dtype, after.codec_dtype) == (before.device, before.dtype, before.codec_dtype):
                return
            with self._lock:
                is_open = self._num_decoding > 0 or any(handle.is_open for handle in self._handles)
            # What has state on the device would lose it.
            if is_open or self._engine.num_active:
                raise EngineError(
                    "speech is under way; the model moves only while nobody speaks; read it to its end or cancel it"
                )
            move_model(model, device=after.device, dtype=after.dtype, codec_dtype=after.codec_dtype)
            self._engine.weights_changed()
            self.compute = after

        self._engine.call(move)
        return self

    # What it is.

    @property
    def config(self) -> ModelConfig:
        """Sizes and defaults of the checkpoint."""
        return self.checkpoint.config

    @property
    def sample_rate(self) -> int:
        """Samples per second of all audio."""
        return self.config.sample_rate

    @property
    def has_encoder(self) -> bool:
        """Whether voices can be cloned from audio."""
        return self.checkpoint.has_encoder

    @property
    def engine(self) -> Engine:
        """The engine that everything runs on; another one after `restart_engine`."""
        return self._engine

    @property
    def voices(self) -> tuple[VoiceInfo, ...]:
        """The preset voices."""
        return describe_presets(self._presets, self.config.languages)

    # Speaking.

    def check(self, request: SpeechRequest) -> None:
        """Refuse what `submit` would refuse, and speak nothing.

        Raises:
            RequestError: as `submit`.
        """
        self._plan(request, True, _warn)

    def submit(
        self, request: SpeechRequest, *, hold_segments: bool = False, warn: Callable[[str], None] | None = None
    ) -> SpeechHandle:
        """Check a request, start it and return at once.

        Args:
            request: what to speak.
            hold_segments: see SpeechPlan; for results that nobody hears before they are whole.
            warn: gets what the caller should know and what does not stop the work; default: a VoxtralWarning.

        Raises:
            RequestError: text, voice, language, reference audio or an option breaks a rule.
            DeadlineError: the deadline passed while the request was checked.
            EngineStoppedError: the model has been closed, or its engine has failed.
        """
        accepted_at = time.perf_counter()
        handle = SpeechHandle(self._plan(request, hold_segments, warn or _warn), self._engine, accepted_at=accepted_at)
        with self._lock:
            self._handles.add(handle)
        return handle

    def synthesize(self, text: str, language: str | None = None, reference_audio: Any = None, **options: Any) -> Audio:
        """Speak a text and return the audio.

        Args:
            text: spoken verbatim unless normalize="auto"; long text is spoken in segments.
            language: checked, and chooses the default voice; no model input.
            reference_audio: a clip to clone: path, bytes, or (samples, sample rate).
            options: voice, seed, guidance_scale, noise_scale, num_euler_steps, max_frames, speed,
                pause (seconds between segments), normalize, deadline_s; see SpeechRequest.

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
        return self._collect(self.submit(make_request(text, language, reference_audio, **options), hold_segments=True))

    def _collect(self, handle: SpeechHandle) -> Audio:
        """Read a handle into memory."""
        parts: list[npt.NDArray[np.float32]] = []
        try:
            parts.extend(chunk.samples for chunk in handle.chunks())
        except GenerationError as error:
            made = [*parts, error.audio] if error.audio is not None else parts
            error.audio = np.concatenate(made) if made else None
            raise
        return Audio(np.concatenate(parts), self.sample_rate, handle.segments, handle.finish_reason, handle.stats)

    def synthesize_to_file(
        self, path: str | os.PathLike[str], text: str, language: str | None = None, **options: Any
    ) -> SpeechHandle:
        """Speak a text of any length into a file, in constant memory.

        Args:
            path: the extension chooses the format. The file appears complete or not at all.
            text: see `synthesize`.
            language: see `synthesize`.
            options: see `synthesize`; also reference_audio.

        Returns:
            The finished handle: segments, finish_reason, stats, seed.

        Raises:
            RequestError: the input breaks a rule.
            AudioError: the file cannot be written.
            GenerationError: a segment failed twice.
        """
        from voxtral.audio.file import AudioFileWriter

        with AudioFileWriter(path, self.sample_rate) as writer:
            handle = self.submit(make_request(text, language, **options), hold_segments=True)
            try:
                for chunk in handle.chunks():
                    writer.write(chunk.samples)
            finally:
                handle.cancel()
        return handle

    def synthesize_stream(
        self,
        text: str,
        language: str | None = None,
        reference_audio: Any = None,
        *,
        chunk_size: int | None = None,
        **options: Any,
    ) -> SpeechStream:
        """Speak a text and give out audio as it is made.

        Args:
            text: see `synthesize`.
            language: see `synthesize`.
            reference_audio: see `synthesize`.
            chunk_size: samples of every chunk but the last; None sends one frame first, then grows.
            options: see `synthesize`.

        Returns:
            A stream for `async for` and for plain `for`; its chunks have `.numpy()`.

        Raises:
            RequestError: the input breaks a rule; raised here, before the first chunk.
        """
        check_number("chunk_size", chunk_size, 1, 2**31, whole=True)
        return SpeechStream(self.submit(make_request(text, language, reference_audio, **options)), chunk_size)

    # Many texts.

    def synthesize_batch(
        self,
        texts: Iterable[str | Mapping[str, Any] | SpeechRequest],
        language: str | None = None,
        reference_audio: Any = None,
        *,
        seed: int = 0,
        max_in_flight: int | None = None,
        **options: Any,
    ) -> list[Audio]:
        """Speak many texts side by side and return their audio in the order of the texts.

        Every item is checked before the first is spoken. For more than fits memory there is `synthesize_batch_iter`,
        for files and for going on after an interruption `voxtral batch`.

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
        texts: Iterable[str | Mapping[str, Any] | SpeechRequest],
        language: str | None = None,
        reference_audio: Any = None,
        *,
        seed: int = 0,
        max_in_flight: int | None = None,
        **options: Any,
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
        self, texts: Any, seed: int, max_in_flight: int | None, common: dict[str, Any]
    ) -> tuple[Batch[Audio], ItemReader]:
        check_texts(texts)
        check_number("max_in_flight", max_in_flight, 1, MAX_IN_FLIGHT, whole=True)
        reader = ItemReader(common, seed, ClonedVoices(self.create_voice), self.check)
        size = max_in_flight or default_in_flight(self._engine.max_batch)
        return Batch(self.submit, lambda _, handle: self._collect(handle), size), reader

    # Voices and codes.

    def load_voice(self, voice: str | os.PathLike[str] | VoicePrompt) -> VoicePrompt:
        """Find a preset by name, read a saved voice by path, or check a VoicePrompt.

        Raises:
            VoiceError: there is no such voice, or it does not fit this checkpoint.
        """
        if isinstance(voice, VoicePrompt):
            check_voice(voice, self.config)
            return voice
        name = os.fspath(voice) if isinstance(voice, str | os.PathLike) else None
        if not isinstance(name, str):
            raise VoiceError(
                f"voice is {voice!r}; it must be a preset's name, the path of a saved voice or a VoicePrompt"
            )
        if name in self._presets:
            with self._lock:
                if name not in self._voices:
                    self._voices[name] = load_voice(self._presets[name], self.config)
                return self._voices[name]
        if name.endswith(".safetensors"):
            return load_voice(name, self.config)
        known = ", ".join(self._presets) or "none"
        raise VoiceError(
            f"voice {name!r} is unknown; this checkpoint has: {known}; name one of them or the path of a saved "
            ".safetensors voice"
        )

    def create_voice(
        self,
        reference_audio: Any,
        name: str = "cloned",
        metadata: Mapping[str, str] | None = None,
        *,
        warn: Callable[[str], None] | None = None,
    ) -> VoicePrompt:
        """Clone a voice from a clip of 1 to 30 seconds; 3 and more are good.

        Args:
            reference_audio: path, bytes, or (samples, sample rate); any format and rate, mono or more.
            name: how the voice is called.
            metadata: kept with the voice when it is saved.
            warn: see `submit`.

        Raises:
            EncoderMissingError: the checkpoint holds no encoder.
            ReferenceAudioError: the clip cannot be read, or its length breaks the rule.
        """
        codes = self._encode_reference(reference_audio, warn or _warn)
        rows = self._engine.call(lambda model: model.embed_codes(codes.to(model.device)).cpu())
        return VoicePrompt(name=name, rows=rows.clone(), codes=codes, metadata=dict(metadata or {}))

    def encode(self, audio: Any) -> torch.Tensor:
        """Turn a clip of up to 10 minutes into codes [K, T] int64, without the length rules of a reference.

        Raises:
            EncoderMissingError: the checkpoint holds no encoder.
            ReferenceAudioError: the clip cannot be read.
        """
        self._require_encoder()
        return self._encode_samples(read_audio(audio, sample_rate=self.sample_rate, limits=_ENCODE_LIMITS))

    def decode(self, codes: torch.Tensor) -> Audio:
        """Turn codes [K, T] into audio.

        Raises:
            CodeRangeError: a code is outside its codebook.
        """
        codes = _as_codes(codes)
        check_codes(codes[None], self.config.codebooks)
        with self._lock:
            self._num_decoding += 1
        try:
            parts = list(self._decode_in_steps(codes))
        finally:
            with self._lock:
                self._num_decoding -= 1
        return Audio(np.concatenate(parts), self.sample_rate)

    def _decode_in_steps(self, codes: torch.Tensor) -> Iterator[npt.NDArray[np.float32]]:
        # In steps, so that whoever is speaking goes on between them.
        state = self._engine.call(lambda model: model.init_codec_state())
        for part in codes.split(_DECODE_FRAMES, dim=1):

            def step(model: VoxtralModel, part: torch.Tensor = part) -> npt.NDArray[np.float32]:
                return model.codec(part[None].to(model.device), state)[0].cpu().numpy()

            yield self._engine.call(step)
        yield self._engine.call(lambda model: model.flush_codec(state).cpu().numpy())

    # From a request to a plan.

    def _plan(self, request: SpeechRequest, hold_segments: bool, warn: Callable[[str], None]) -> SpeechPlan:
        if not isinstance(request.text, str):
            raise TextError(
                f"the text is a {type(request.text).__name__}; it must be a str; decode bytes as UTF-8 first"
            )
        check_options(request)
        sampling = request.sampling
        check_number("max_frames", sampling.max_frames, 1, self.config.backbone.max_seq_len, whole=True)
        language = self._check_language(request, warn)
        source = self._prepare_text(request, language or self._language_of(request.voice))
        voice = self._resolve_voice(request, language, warn)
        seed = secrets.randbits(32) if request.seed is None else int(request.seed)
        num_values = self.config.codebooks.num_acoustic

        def make_request(segment: TextSegment, index: int, attempt: int) -> GenerationRequest:
            prompt = build_prompt(self._tokenizer, segment.text, voice.rows.shape[0])
            budget = sampling.max_frames or self._frame_budget(segment.text)
            room = self.config.backbone.max_seq_len - len(prompt.token_ids)
            if room < 1:
                raise TextError(
                    f"the prompt has {len(prompt.token_ids)} tokens; the model takes "
                    f"{self.config.backbone.max_seq_len}; use a shorter reference or shorter words"
                )
            return GenerationRequest(
                prompt=prompt,
                voice_rows=voice.rows,
                noise=SeededNoise(derive_seed(seed, attempt), index, num_values),
                guidance_scale=_given(sampling.guidance_scale, self.config.generation.guidance_scale),
                noise_scale=_given(sampling.noise_scale, self.config.generation.noise_scale),
                num_euler_steps=_given(sampling.num_euler_steps, self.config.generation.num_euler_steps),
                max_frames=min(budget, room),
                # The first frame does not depend on the noise: an end there would come again.
                min_frames=min(attempt, 1),
                voice_key=voice.key,
                is_voice_stored=self._voices.get(voice.name) is voice,
                # What is heard only when it is whole need not wait for anybody to listen.
                max_buffered_frames=min(budget, room) if hold_segments else None,
            )

        return SpeechPlan(
            segments=source,
            make_request=make_request,
            voice=voice.name,
            seed=seed,
            has_explicit_budget=sampling.max_frames is not None,
            speed=float(request.speed),
            pause_s=float(request.pause_s),
            deadline_s=request.deadline_s,
            sample_rate=self.sample_rate,
            hold_segments=hold_segments,
            segments_in_flight=_SEGMENTS_IN_FLIGHT_HELD if hold_segments else _SEGMENTS_IN_FLIGHT,
        )

    def _check_language(self, request: SpeechRequest, warn: Callable[[str], None]) -> str | None:
        if request.language is None:
            return None
        if not isinstance(request.language, str):
            raise LanguageError(f"language is {request.language!r}; it must be a name or code, such as en or English")
        # A checkpoint may speak languages that this package has no name for.
        is_own = request.language in self.config.languages
        language = request.language if is_own else resolve_language(request.language)
        if language not in self.config.languages:
            spoken = ", ".join(self.config.languages)
            # The users' guide lists Japanese, the published weights do not know it.
            if language != "ja":
                raise LanguageError(
                    f"language {request.language!r} is not spoken by this checkpoint; it speaks {spoken}; choose one"
                )
            warn(f"the weights were not trained on {LANGUAGES[language]}; expect poor speech; they speak {spoken}")
        mismatch = script_mismatch(request.text, language) if language in LANGUAGES else None
        if mismatch:
            warn(mismatch)
        return language

    def _language_of(self, voice: Any) -> str:
        """Guess the language of a text from the voice that is to speak it."""
        if isinstance(voice, VoicePrompt):
            said = voice.metadata.get("language", "")
            return said if said in self.config.languages else "en"
        return voice_language(voice, self.config.languages) if isinstance(voice, str) else "en"

    def _segment_limits(self, *, in_kana: bool) -> dict[str, int]:
        max_chars = self.config.generation.max_segment_chars
        if in_kana:
            max_chars = max(1, max_chars // LETTERS_PER_KANA)
        # Sentences are gathered up to a quarter of the longest segment, so that short ones keep their melody.
        return {"min_chars": max(1, max_chars // 4), "max_chars": max_chars}

    def _prepare_text(self, request: SpeechRequest, language: str) -> Iterator[TextSegment]:
        in_kana = language == "ja" and language in self.config.languages
        if request.normalize == "off":
            check_speakable(request.text)
            if not in_kana:
                return (
                    part
                    for part in split_text(request.text, **self._segment_limits(in_kana=False))
                    if is_speakable(part.text)
                )
            normalized = write_in_kana(request.text)
        else:
            normalized = normalize(request.text, language if language in LANGUAGES else "en", in_kana=in_kana)
        check_speakable(normalized.text)
        limits = self._segment_limits(in_kana=in_kana)

        def segments() -> Iterator[TextSegment]:
            for part in split_text(normalized.text, **limits):
                if is_speakable(part.text):
                    start, end = normalized.source_span(part.start, part.end)
                    yield TextSegment(text=part.text, start=start, end=end)

        return segments()

    def _resolve_voice(self, request: SpeechRequest, language: str | None, warn: Callable[[str], None]) -> VoicePrompt:
        if request.reference_audio is not None:
            return self.create_voice(request.reference_audio, warn=warn)
        if request.voice is not None:
            return self.load_voice(request.voice)
        name = default_voice(self._presets, self.config.languages, language or "en")
        spoken = voice_language(name, self.config.languages)
        if language in self.config.languages and spoken != language:
            warn(f"this checkpoint has no {language} voice; {name} speaks with an accent; name another voice")
        return self.load_voice(name)

    def _frame_budget(self, text: str) -> int:
        seconds = _BUDGET_BASE_S + _BUDGET_PER_CHAR_S * sum(map(_spoken_weight, text))
        return math.ceil(seconds * self.config.frame_rate)

    def _require_encoder(self) -> None:
        if not self.has_encoder:
            raise EncoderMissingError(
                f"{self.name} holds no codec encoder, so no voice can be made from audio; the published 4B weights "
                f"come without it; use a preset ({', '.join(self._presets)}), a saved voice, or another checkpoint"
            )

    def _encode_reference(self, reference_audio: Any, warn: Callable[[str], None]) -> torch.Tensor:
        self._require_encoder()
        # Above the rule, so that any rate and width fits and a clip that is too long is told its length.
        limits = AudioLimits(max_bytes=64 * 2**20, max_seconds=10 * _MAX_REFERENCE_S, max_decoded_bytes=128 * 2**20)
        samples = read_audio(reference_audio, sample_rate=self.sample_rate, limits=limits)
        seconds = len(samples) / self.sample_rate
        if not _MIN_REFERENCE_S <= seconds <= _MAX_REFERENCE_S:
            raise ReferenceAudioError(
                f"the reference audio is {seconds:.2f} s long; it must be {_MIN_REFERENCE_S:.0f} to "
                f"{_MAX_REFERENCE_S:.0f} s; it is never cut silently: cut it where the voice is clearest"
            )
        if seconds < _GOOD_REFERENCE_S:
            warn(f"the reference audio is {seconds:.2f} s long; {_GOOD_REFERENCE_S:.0f} s and more clone better")
        return self._encode_samples(samples)

    def _encode_samples(self, samples: npt.NDArray[np.float32]) -> torch.Tensor:
        return self._engine.call(lambda model: model.encode_audio(torch.from_numpy(samples)).cpu()).clone()


class SpeechStream:
    """Audio as it is made, for `async for` and for `for`; leaving the loop cancels the rest.

    Attributes:
        handle: segments, finish_reason, stats and seed of the utterance.
    """

    def __init__(self, handle: SpeechHandle, chunk_size: int | None) -> None:
        self.handle = handle
        self._chunks = handle.chunks(chunk_size)
        self._is_taken = False

    def __iter__(self) -> Iterator[AudioChunk]:
        return self._once(self._sync_chunks())

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self._once(self._async_chunks())

    def _once(self, chunks: Any) -> Any:
        if self._is_taken:
            raise EngineError("the stream was read before; audio is given out once; keep what you got, or ask again")
        self._is_taken = True
        return chunks

    def _sync_chunks(self) -> Iterator[AudioChunk]:
        try:
            yield from self._chunks
        finally:
            self.cancel()

    async def _async_chunks(self) -> AsyncIterator[AudioChunk]:
        try:
            while (chunk := await asyncio.to_thread(next, self._chunks, None)) is not None:
                yield chunk
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop before the next frame."""
        self.handle.cancel()

    def close(self) -> None:
        """Stop before the next frame, for `contextlib.closing`."""
        self.cancel()


def _tell_on_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _as_codes(codes: Any) -> torch.Tensor:
    """Take a tensor or an array of whole numbers as int64."""
    try:
        tensor = torch.as_tensor(codes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CodeRangeError(f"codes are a {type(codes).__name__}; they must be a tensor [K, frames]") from error
    is_whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)
    return tensor.to(torch.int64) if is_whole else tensor


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


def _spoken_weight(character: str) -> float:
    """Weigh a character by how long it may be spoken, a Latin letter being 1."""
    if character.isdigit():
        return 4.0  # "7" is a word, and "2024" three
    # Ideographs and syllables are a syllable or more each.
    return 3.0 if unicodedata.east_asian_width(character) == "W" else 1.0


def _warn(message: str) -> None:
    # Point at the first line outside this package, however deep the call is.
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("voxtral."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, VoxtralWarning, stacklevel=level)
