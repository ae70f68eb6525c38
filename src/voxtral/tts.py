"""VoxtralTTS: the Python API. Loads a model, resolves requests, speaks.

Everything audible goes through `submit`; the ways to read its handle are in `voxtral.speech.speaker`. HTTP and the
command line use this class too. Read next: `voxtral.speech.planner`, `voxtral.speech.utterance`, docs/ENGINE.md.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

import torch

from voxtral.align.known import KnownAlignment
from voxtral.audio.reference import PreparedClip
from voxtral.audio.source import AudioSource
from voxtral.cloning.options import Refine, parse_refine
from voxtral.config import ModelConfig
from voxtral.device import ComputePlan, plan_compute
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.process import BoundToProcess
from voxtral.errors import VoxtralWarning
from voxtral.loading.budgets import BUDGETS
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.encoder_file import with_encoder
from voxtral.loading.first_use import open_paths
from voxtral.loading.load import check_flow_dtype, keep_voices_on_disk, load_as_planned, open_tokenizer
from voxtral.loading.locate import locate_model
from voxtral.loading.memory import check_precision, choose_quantization
from voxtral.loading.running import RunningModel, fill_in
from voxtral.model.voxtral import VoxtralModel
from voxtral.options import CommonOptions
from voxtral.speech.codec import tell_on_stderr
from voxtral.speech.coding import Cloning, Coder, OnProgress
from voxtral.speech.feed import Feed
from voxtral.speech.planner import Planner, Warn
from voxtral.speech.result import Audio
from voxtral.speech.speaker import Speaker
from voxtral.speech.utterance import SpeechHandle
from voxtral.switches import check_variables
from voxtral.text.dictionary import user_dictionary
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.types import SpeechRequest, Voice
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.presets import VoiceInfo
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    from voxtral.jobs.run import BatchProgress, BatchReport
    from voxtral.jobs.synthesize import Texts


class VoxtralTTS(Speaker, BoundToProcess):
    """A loaded model that speaks; safe to use from many threads, and not from a forked child.

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
        paths: Paths | None = None,
        cloning: Cloning | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.checkpoint = checkpoint
        self.alignment = KnownAlignment(checkpoint, tokenizer, tell_on_stderr)
        options = keep_voices_on_disk(fill_in(options or EngineOptions(), compute), checkpoint, compute)
        self._running = RunningModel(model, compute, self.alignment.follow_text(options), paths)
        self._library = VoiceLibrary(checkpoint.folder, checkpoint.config)
        self._coder = Coder(checkpoint, name, self._library, self._running.call, cloning)
        self._planner = Planner(
            checkpoint.config, tokenizer, self._library, self._coder.create_voice, self.alignment, user_dictionary()
        )
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
        encoder: str | os.PathLike[str] | None = None,
        refine: Refine = None,
        announce: Callable[[str], None] | None = None,
        options: EngineOptions | None = None,
    ) -> VoxtralTTS:
        """Load a checkpoint.

        Args:
            model: a folder, a hub id or alias (`mistralai/Voxtral-TTS`, `4b`), or `nano`, the small demo voice
                in this package. A hub id that is not in the local cache is downloaded.
            device: auto, cpu, cuda, cuda:N or mps (untested).
            dtype: auto, float32, bfloat16 or float16; of what is not quantised.
            quantize: int8, int4 (the backbone; the acoustic transformer gets int8), int4-all, none, or auto: the first
                of none, int8 and int4 that fits; default: auto on a GPU, else none. Costs: docs/QUANTIZATION.md.
            max_memory: such as "3GB": a budget for weights, keys and values, and activations; what does not fit is
                refused before it is loaded. Without `quantize` it means quantize="auto".
            revision: of a hub id; the published checkpoint is pinned by default.
            token: for the hub; HF_TOKEN by default.
            local_files_only: never download.
            encoder: a file of the codec encoder; docs/CLONING.md says where one is found by itself.
            refine: what cloning does where it is not told; see `create_voice`.
            announce: gets what a person should know: of a download, of what is compiled on a GPU, of choices that
                surprise; default: standard error.
            options: of the engine, such as max_batch or batch_invariant.

        Raises:
            ModelNotFoundError: there is no such model.
            DownloadError: the hub refused or broke off.
            CheckpointError: a file is damaged, or is an encoder of another model.
            DeviceError: the device or dtype is not available, or the model does not fit.
            OptionError: quantize, max_memory, refine or a switch is unknown, or contradicts the checkpoint.
        """
        check_variables()
        check_precision(quantize, max_memory)
        cloning = Cloning(parse_refine(refine), announce := announce or tell_on_stderr)
        # Before a download: what is not there would be refused after it.
        check_flow_dtype(options := options or EngineOptions(), plan_compute(device, dtype).device)
        may_fetch = not local_files_only
        folder = locate_model(model, revision=revision, token=token, allow_download=may_fetch, announce=announce)
        checkpoint = with_encoder(open_checkpoint(folder), encoder)
        tokenizer = open_tokenizer(checkpoint)
        unplanned = plan_compute(device, dtype, num_parameters=checkpoint.num_parameters)
        plan = partial(choose_quantization, checkpoint, unplanned, quantize, max_memory, max_batch=options.max_batch)
        compute, paths, weights = _load(checkpoint, plan, options, announce)
        return _prepared(cls(checkpoint, weights, compute, tokenizer, str(model), options, paths, cloning), announce)

    def to(self, device: str | torch.device) -> VoxtralTTS:
        """Move the model; returns itself.

        Raises:
            DeviceError: the device is not there or has no room, or the model is quantised: laid out for where it is.
            EngineError: requests are open.
        """
        self._running.move_to(device, self._is_busy)
        return self

    def half(self) -> VoxtralTTS:
        """Use float16 for backbone and acoustic transformer, and lose what it rounds; the codec stays in a wider dtype.

        Raises:
            DeviceError: a weight does not fit float16; nothing was changed.
            EngineError: requests are open.
        """
        self._running.set_dtype(torch.float16, self._is_busy)
        return self

    def bfloat16(self) -> VoxtralTTS:
        """Use bfloat16, the dtype of the published weights."""
        self._running.set_dtype(torch.bfloat16, self._is_busy)
        return self

    def float(self) -> VoxtralTTS:
        """Use float32."""
        self._running.set_dtype(torch.float32, self._is_busy)
        return self

    def _is_busy(self) -> bool:
        """Tell whether anybody has state on the device."""
        with self._lock:
            return self._coder.is_busy or any(handle.is_open for handle in self._handles)

    def restart_engine(self) -> None:
        """Start a new engine where the old one has failed (`engine.failure`); a working one is left alone.

        Raises:
            DeviceError: the device does not answer any more: end the process.
            EngineStoppedError: the model has been closed.
        """
        self._running.restart()

    def close(self) -> None:
        """Stop the engine; unfinished requests fail. The object is of no use afterwards."""
        self._running.close()

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
        """Whether voices can be cloned from audio without `refine`."""
        return self._coder.encoder_origin is not None

    @property
    def engine(self) -> Engine:
        """The engine that everything runs on; another one after `restart_engine`."""
        return self._running.engine

    @property
    def max_batch(self) -> int:
        """Sequences that make frames side by side."""
        return self.engine.max_batch

    @property
    def voices(self) -> tuple[VoiceInfo, ...]:
        """The preset voices."""
        return self._library.describe()

    # Speaking.

    def check(self, request: SpeechRequest, *, warn: Warn | None = None) -> None:
        """Refuse what `submit` would refuse, and speak nothing.

        Raises:
            RequestError: as `submit`.
        """
        self.check_process()
        self._planner.plan(request, hold_segments=True, warn=warn or _warn)

    def submit(
        self, request: SpeechRequest, *, hold_segments: bool = False, warn: Warn | None = None, feed: Feed = None
    ) -> SpeechHandle:
        """Check a request, start it and return at once; of a text in a feed, when its first words have come.

        Args:
            request: what to speak.
            hold_segments: see SpeechPlan; for results that nobody hears before they are whole.
            warn: gets what the caller should know and what does not stop the work; default: a VoxtralWarning.
            feed: gives the text while it is spoken; that of the request is then empty.

        Raises:
            RequestError: text, voice, language, reference audio or an option breaks a rule.
            DeadlineError: the deadline passed while the request was checked.
            EngineStoppedError: the model has been closed, its engine has failed, or this is a forked child.
        """
        self.check_process()
        accepted_at = time.perf_counter()
        self.alignment.find_out(request, self._library, self.engine)
        plan = self._planner.plan(request, hold_segments=hold_segments, warn=warn or _warn, feed=feed)
        handle = SpeechHandle(plan, self.engine, accepted_at=accepted_at, owner=self._running)
        with self._lock:
            self._handles.add(handle)
        return handle

    def synthesize_files(  # noqa: PLR0913 - each is an option of its own
        self,
        texts: Texts,
        folder: str | os.PathLike[str],
        *,
        format: str = "wav",
        split: str | None = None,
        language: str | None = None,
        reference_audio: AudioSource | None = None,
        seed: int = 0,
        max_in_flight: int | None = None,
        overwrite: bool = False,
        join: str | os.PathLike[str] | None = None,
        captions: Sequence[str] = (),
        on_progress: Callable[[BatchProgress], None] | None = None,
        **options: Unpack[CommonOptions],
    ) -> BatchReport:
        """Speak many texts into a folder of files; see `voxtral.jobs.synthesize.synthesize_files` and docs/BATCH.md."""
        from voxtral.jobs.synthesize import synthesize_files  # here, because most who load a model write no files

        return synthesize_files(
            self,
            texts,
            folder,
            format=format,
            split=split,
            seed=seed,
            max_in_flight=max_in_flight,
            overwrite=overwrite,
            join=join,
            captions=captions,
            on_progress=on_progress,
            warn=_warn,
            common={"language": language, "reference_audio": reference_audio, **options},
        )

    # Voices and codes.

    def load_voice(self, voice: Voice) -> VoicePrompt:
        """Find a preset by name, read a saved voice by path, or check a VoicePrompt.

        Raises:
            VoiceError: there is no such voice, or it does not fit this checkpoint.
        """
        return self._library.load(voice)

    def create_voice(
        self,
        reference_audio: AudioSource | PreparedClip,
        name: str = "cloned",
        metadata: Mapping[str, str] | None = None,
        *,
        refine: Refine = None,
        on_progress: OnProgress | None = None,
        warn: Warn | None = None,
    ) -> VoicePrompt:
        """Clone a voice from a clip of one speaker, 1 second to 10 minutes; docs/VOICES.md says what makes a good one.

        Args:
            reference_audio: path, bytes, or (samples, sample rate), of any rate; docs/SERVER.md has the formats.
            name: how the voice is called.
            metadata: kept with the voice when it is saved.
            refine: True, steps or RefineOptions: search for codes by their sound, which takes time and no encoder.
            on_progress: of that, called in this thread; what it raises ends the search.
            warn: see `submit`; it is told which seconds were used and what is wrong with the clip.

        Raises:
            EncoderMissingError: there is no encoder, and `refine` is not wanted.
            EncoderFileError: it is damaged, or of another model.
            ReferenceAudioError: the clip cannot be read, its length breaks the rule, or it holds no voice.
        """
        return self._coder.create_voice(reference_audio, name, metadata, refine, on_progress, warn=warn or _warn)

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


def _load(
    checkpoint: Checkpoint, plan: Callable[[], ComputePlan], options: EngineOptions, announce: Callable[[str], None]
) -> tuple[ComputePlan, Paths, VoxtralModel]:
    """Try what is there, plan by what works, and load the weights so."""
    compute = plan()
    # Before the weights: what is tried needs memory, and may cost a process.
    paths = open_paths(checkpoint, compute, fill_in(options, compute), announce)
    compute = plan()
    for remark in compute.remarks:
        announce(remark)
    # The model that is made of the weights has a claim of its own.
    with BUDGETS.held(compute.device, compute.budget_bytes):
        return compute, paths, load_as_planned(checkpoint, compute)


def _prepared(loaded: VoxtralTTS, announce: Callable[[str], None]) -> VoxtralTTS:
    """Check and warm up what has been loaded; what fails is not kept."""
    loaded.alignment.announce = announce
    try:
        loaded._running.prepare(announce)  # pyright: ignore[reportPrivateUsage] - a part of its loading
    except BaseException:
        loaded.close()
        raise
    return loaded


def _warn(message: str) -> None:
    # Point at the first line outside this package, however deep the call is.
    frame, level = sys._getframe(1), 2  # pyright: ignore[reportPrivateUsage] - documented, and the only way
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("voxtral."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, VoxtralWarning, stacklevel=level)
