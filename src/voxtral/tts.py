"""VoxtralTTS: the Python API. Loads a model, resolves requests, speaks.

Everything audible goes through `submit`; the other methods are ways to read its handle. HTTP and the
command line use this class too. Read next: `voxtral.speech.planner`, `voxtral.speech.utterance`, docs/ENGINE.md.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch

import voxtral
from voxtral.audio.read import AudioSource
from voxtral.config import ModelConfig
from voxtral.device import ComputePlan, plan_compute, run_aside
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.errors import CheckpointError, TextError, VoxtralWarning
from voxtral.loading.checkpoint import TOKENIZER_FILE, Checkpoint, fingerprint, load_model, open_checkpoint
from voxtral.loading.locate import locate_model
from voxtral.loading.memory import check_precision, choose_quantization, limit_device_memory
from voxtral.loading.running import RunningModel
from voxtral.model.voxtral import VoxtralModel
from voxtral.options import CommonOptions, SpeechOptions
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
from voxtral.speech.coding import Coder
from voxtral.speech.planner import Planner, Warn
from voxtral.speech.request import check_number, make_request
from voxtral.speech.result import Audio, collect
from voxtral.speech.stream import SpeechStream
from voxtral.speech.utterance import SpeechHandle
from voxtral.text.tokenizer import SpeechTokenizer, load_tokenizer
from voxtral.types import SpeechRequest, Voice
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.presets import VoiceInfo
from voxtral.voices.prompt import VoicePrompt

# `synthesize` keeps the whole result in memory: this much text is about 4 hours, 1.5 GB of samples.
_MAX_CHARS_IN_MEMORY = 200_000

# Above this many parameters a CPU keeps the keys and values of preset voices on disk.
_KEPT_VOICE_PARAMETERS = 500_000_000
_CACHE_VARIABLE = "VOXTRAL_CACHE"

BatchText = str | Mapping[str, Any] | SpeechRequest


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
        options = options or EngineOptions()
        if options.num_threads is None:
            options = replace(options, num_threads=compute.num_threads)
        if options.kv_cache_bytes is None:
            options = replace(options, kv_cache_bytes=compute.kv_cache_bytes)
        self._running = RunningModel(model, compute, _keep_voices_on_disk(options, checkpoint, compute))
        self._library = VoiceLibrary(checkpoint.folder, checkpoint.config)
        self._coder = Coder(checkpoint, name, self._library.names, self._running.call)
        self._planner = Planner(checkpoint.config, tokenizer, self._library, self._coder.create_voice)
        self._handles: weakref.WeakSet[SpeechHandle] = weakref.WeakSet()
        self._lock = threading.Lock()

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
        tokenizer = _open_tokenizer(checkpoint)
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
        self._running.move_to(device, self._is_busy)
        return self

    def half(self) -> VoxtralTTS:
        """Use float16 for backbone and acoustic transformer; the codec stays in a wider dtype.

        Going back to a wider dtype keeps what float16 rounded away.

        Raises:
            DeviceError: a weight does not fit float16; nothing was changed.
            EngineError: requests are open.
        """
        return self._with_dtype(torch.float16)

    def bfloat16(self) -> VoxtralTTS:
        """Use bfloat16, the dtype of the published weights."""
        return self._with_dtype(torch.bfloat16)

    def float(self) -> VoxtralTTS:
        """Use float32."""
        return self._with_dtype(torch.float32)

    def _with_dtype(self, dtype: torch.dtype) -> VoxtralTTS:
        self._running.set_dtype(dtype, self._is_busy)
        return self

    def _is_busy(self) -> bool:
        """Tell whether anybody has state on the device."""
        with self._lock:
            return self._coder.is_decoding or any(handle.is_open for handle in self._handles)

    def restart_engine(self) -> None:
        """Give the model a new engine where the old one has failed (`engine.failure`); the weights stay.

        Whoever had something under way has been told. A working engine is left alone.

        Raises:
            DeviceError: the device does not answer any more: end the process.
            EngineStoppedError: the model has been closed.
        """
        self._running.restart()

    def close(self) -> None:
        """Stop the engine; unfinished requests fail. The object is of no use afterwards."""
        self._running.close()

    def __enter__(self) -> VoxtralTTS:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What it is.

    @property
    def config(self) -> ModelConfig:
        """Sizes and defaults of the checkpoint."""
        return self.checkpoint.config

    @property
    def compute(self) -> ComputePlan:
        """Where and in which precision the model runs, and why."""
        return self._running.compute

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
        return self._running.engine

    @property
    def voices(self) -> tuple[VoiceInfo, ...]:
        """The preset voices."""
        return self._library.describe()

    # Speaking.

    def check(self, request: SpeechRequest) -> None:
        """Refuse what `submit` would refuse, and speak nothing.

        Raises:
            RequestError: as `submit`.
        """
        self._planner.plan(request, hold_segments=True, warn=_warn)

    def submit(self, request: SpeechRequest, *, hold_segments: bool = False, warn: Warn | None = None) -> SpeechHandle:
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
        plan = self._planner.plan(request, hold_segments=hold_segments, warn=warn or _warn)
        handle = SpeechHandle(plan, self.engine, accepted_at=accepted_at, owner=self._running)
        with self._lock:
            self._handles.add(handle)
        return handle

    def synthesize(
        self,
        text: str,
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        **options: Unpack[SpeechOptions],
    ) -> Audio:
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
        request = make_request(text, language, reference_audio, **options)
        return collect(self.submit(request, hold_segments=True), self.sample_rate)

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
        text: str,
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        *,
        chunk_size: int | None = None,
        **options: Unpack[SpeechOptions],
    ) -> SpeechStream:
        """Speak a text and give out audio as it is made.

        Args:
            text: as the parameters that follow, see `synthesize`.
            language: no model input.
            reference_audio: a clip to clone.
            chunk_size: samples of every chunk but the last; None sends one frame first, then grows.
            options: keywords.

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
        size = max_in_flight or default_in_flight(self.engine.max_batch)
        return Batch(self.submit, lambda _, handle: collect(handle, self.sample_rate), size), reader

    # Voices and codes.

    def load_voice(self, voice: Voice) -> VoicePrompt:
        """Find a preset by name, read a saved voice by path, or check a VoicePrompt.

        Raises:
            VoiceError: there is no such voice, or it does not fit this checkpoint.
        """
        return self._library.load(voice)

    def create_voice(
        self,
        reference_audio: AudioSource,
        name: str = "cloned",
        metadata: Mapping[str, str] | None = None,
        *,
        warn: Warn | None = None,
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
        return self._coder.create_voice(reference_audio, name, metadata, warn=warn or _warn)

    def encode(self, audio: AudioSource) -> torch.Tensor:
        """Turn a clip of up to 10 minutes into codes [K, T] int64, without the length rules of a reference.

        Raises:
            EncoderMissingError: the checkpoint holds no encoder.
            ReferenceAudioError: the clip cannot be read.
        """
        return self._coder.encode(audio)

    def decode(self, codes: torch.Tensor) -> Audio:
        """Turn codes [K, T] into audio.

        Raises:
            CodeRangeError: a code is outside its codebook.
        """
        return self._coder.decode(codes)


def load_as_planned(checkpoint: Checkpoint, compute: ComputePlan) -> VoxtralModel:
    """Load the weights for speaking: where and in which precision a plan says, prepared, in a thread of its own.

    Raises:
        CheckpointError: a file is damaged, or a value does not fit the dtype.
    """
    return run_aside(
        lambda: load_model(
            checkpoint,
            device=compute.device,
            dtype=compute.dtype,
            codec_dtype=compute.codec_dtype,
            quantization=compute.quantization,
            prepared=True,
        )
    )


def _keep_voices_on_disk(options: EngineOptions, checkpoint: Checkpoint, compute: ComputePlan) -> EngineOptions:
    """Let a large model on a CPU keep the voices' part of the prompt, which takes it seconds."""
    is_slow = compute.device.type == "cpu" and checkpoint.num_parameters > _KEPT_VOICE_PARAMETERS
    folder = os.environ.get(_CACHE_VARIABLE)
    if options.prefix_folder is not None or not is_slow or folder == "":
        return options
    base = Path(folder) if folder else Path.home() / ".cache" / "voxtral"
    made_by = f"{voxtral.__version__} {compute.quantization} {fingerprint(checkpoint)}"
    return replace(options, prefix_folder=base / "voices", prefix_fingerprint=made_by)


def _open_tokenizer(checkpoint: Checkpoint) -> SpeechTokenizer:
    tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
    config = checkpoint.config
    if tokenizer.tokens.audio != config.audio_token_id:
        raise CheckpointError(
            f"tekken.json has [AUDIO] at {tokenizer.tokens.audio}, params.json at {config.audio_token_id}; both must "
            "come from one checkpoint; download it again"
        )
    if tokenizer.vocab_size > config.backbone.vocab_size:
        raise CheckpointError(
            f"tekken.json has {tokenizer.vocab_size} tokens, the model {config.backbone.vocab_size}; both must come "
            "from one checkpoint; download it again"
        )
    return tokenizer


def _tell_on_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _warn(message: str) -> None:
    # Point at the first line outside this package, however deep the call is.
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("voxtral."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, VoxtralWarning, stacklevel=level)
