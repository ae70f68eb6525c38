"""Audio to codes, codes to audio, a clip to a voice: what the codec does outside of an utterance.

It runs on the engine's thread, between two frames of whoever is speaking. Without an encoder the codes of a clip are
searched for (`voxtral.cloning`).
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from voxtral import __version__
from voxtral.audio.read import read_clip, resample
from voxtral.audio.reference import CLIP_LIMITS, MAX_CLIP_S, MAX_REFERENCE_S, PreparedClip, read_reference
from voxtral.audio.source import AudioLimits, AudioSource, InlineClip
from voxtral.cloning.options import MAX_SEARCHED_S, Refine, RefineOptions, RefineProgress, parse_refine
from voxtral.engine.process import BoundToProcess
from voxtral.errors import CodeRangeError, EncoderMissingError, ReferenceAudioError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.encoder_file import check_decoder, find_encoder
from voxtral.loading.load import load_encoder
from voxtral.model.codebooks import check_codes
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.voxtral import CodecModel
from voxtral.speech.result import Audio
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.prompt import VoicePrompt
from voxtral.voices.report import CloneReport

if TYPE_CHECKING:
    import numpy.typing as npt

    from voxtral.cloning.search import Call, CodeSearch

OnProgress = Callable[[RefineProgress], None]

# Of a clip that comes with a request: any rate and width fits, and one that is too long is told its length.
_INLINE_LIMITS = AudioLimits(max_bytes=64 * 2**20, max_seconds=10 * MAX_REFERENCE_S, max_decoded_bytes=128 * 2**20)

# A recording that its owner turns into codes may be longer than what a stranger sends as a reference.
_ENCODE_LIMITS = AudioLimits(max_bytes=256 * 2**20, max_seconds=600.0, max_decoded_bytes=1024 * 2**20)

# Frames of codes that are decoded between two looks at who is speaking.
_DECODE_FRAMES = 100


# Voices that were searched for and are kept, for a text that is checked and then spoken, or spoken in parts.
_KEPT_VOICES = 8

# Steps after which it is said how long a search will take.
_STEPS_TO_JUDGE = 3


@dataclass(frozen=True)
class Cloning:
    """How voices are made of clips where nothing else is said.

    Attributes:
        refine: how codes are searched for; None: not at all.
        announce: gets a line about a search that takes long.
    """

    refine: RefineOptions | None = None
    announce: Callable[[str], None] = lambda line: None


class Coder(BoundToProcess):
    """Encodes and decodes with the codec of a running model; safe to use from many threads.

    Args:
        checkpoint: of the model.
        name: of the model, for messages.
        voices: of the model; its presets can be had without an encoder, and tell what codes of speech are like.
        call: runs a function of the model.
        cloning: what it does where it is not told.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        voices: VoiceLibrary,
        call: Call,
        cloning: Cloning | None = None,
    ) -> None:
        super().__init__()
        self._checkpoint = checkpoint
        self._config = checkpoint.config
        self._name = name
        self._voices = voices
        self._call = call
        self._cloning = cloning or Cloning()
        self._search: CodeSearch | None = None
        self._made: OrderedDict[tuple[bytes, RefineOptions], VoicePrompt] = OrderedDict()
        self._origin = "checkpoint" if checkpoint.has_encoder and checkpoint.encoder is None else None
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._num_at_work = 0

    @property
    def is_busy(self) -> bool:
        """Whether something has state on the device: codes that are being decoded, or searched for."""
        with self._lock:
            return self._num_at_work > 0

    @property
    def encoder_origin(self) -> str | None:
        """Where the encoder is from: "checkpoint", or what its file says; None without one."""
        file = self._checkpoint.encoder
        return self._origin or (None if file is None else file.facts.origin)

    def create_voice(
        self,
        reference_audio: AudioSource | PreparedClip,
        name: str = "cloned",
        metadata: Mapping[str, str] | None = None,
        refine: Refine = None,
        on_progress: OnProgress | None = None,
        *,
        warn: Callable[[str], None],
    ) -> VoicePrompt:
        """Clone a voice from a clip of one speaker; 3 seconds and more are good, of what is longer the best are taken.

        Args:
            reference_audio: the clip; one that came with a request is no longer than a reference, and is searched for
                only where `refine` says so; the voice of one that is prepared is not kept for later calls.
            name: of the voice.
            metadata: kept with the voice.
            refine: search for codes whose sound is nearer to the clip, from those of the encoder or without one; None:
                as the model was loaded.
            on_progress: gets how far the search is, in this thread; what it raises ends the search.
            warn: gets what the caller should know.

        Raises:
            EncoderMissingError: there is no encoder, and nothing is to be searched for.
            EncoderFileError: there is one, in a file that is damaged or of another model.
            ReferenceAudioError: the clip cannot be read, its length breaks the rule, or it holds no voice.
            OptionError: `refine` breaks a rule.
        """
        is_inline = isinstance(reference_audio, InlineClip)
        options = self._cloning.refine if refine is None and not is_inline else parse_refine(refine)
        has_encoder = self._ready_encoder() if options is not None else self._require_encoder()
        samples = self._read_reference(reference_audio, MAX_REFERENCE_S if options is None else MAX_SEARCHED_S, warn)
        if options is None:
            return self._as_voice(name, self._encode_samples(samples), metadata, self._report(samples))
        key = (hashlib.sha256(samples.tobytes()).digest(), options)
        with self._lock:
            known = self._made.get(key)
        if known is None:
            known = self._find_voice(samples, options, has_encoder=has_encoder, on_progress=on_progress)
            if not isinstance(reference_audio, PreparedClip):
                self._keep(key, known)
        return replace(known, name=name, metadata={**known.metadata, **(metadata or {})})

    def _keep(self, key: tuple[bytes, RefineOptions], voice: VoicePrompt) -> None:
        with self._lock:
            self._made[key] = voice
            while len(self._made) > _KEPT_VOICES:
                self._made.popitem(last=False)

    def _read_reference(
        self, source: AudioSource | PreparedClip, max_s: float, warn: Callable[[str], None]
    ) -> npt.NDArray[np.float32]:
        """Read a clip and make it fit to make a voice of: [S] float32 at the model's rate, at most `max_s` seconds."""
        if isinstance(source, PreparedClip):
            return self._check_prepared(source, max_s)
        is_inline = isinstance(source, InlineClip)
        clip = read_reference(
            source,
            sample_rate=self._config.sample_rate,
            max_s=max_s,
            max_clip_s=MAX_REFERENCE_S if is_inline else MAX_CLIP_S,
            limits=_INLINE_LIMITS if is_inline else CLIP_LIMITS,
        )
        for remark in clip.remarks:
            warn(remark)
        return clip.samples

    def _check_prepared(self, clip: PreparedClip, max_s: float) -> npt.NDArray[np.float32]:
        if clip.sample_rate != self._config.sample_rate or clip.duration_s > max_s:
            raise ReferenceAudioError(
                f"the prepared clip has {clip.duration_s:.2f} s at {clip.sample_rate} Hz; it must have at most "
                f"{max_s:g} s at {self._config.sample_rate} Hz; prepare it for this model"
            )
        return clip.samples

    def _find_voice(
        self,
        samples: npt.NDArray[np.float32],
        options: RefineOptions,
        *,
        has_encoder: bool,
        on_progress: OnProgress | None,
    ) -> VoicePrompt:
        """Search for the codes of a clip."""
        codes = self._encode_samples(samples) if has_encoder else None
        tell = on_progress or self._teller(len(samples) / self._config.sample_rate, has_encoder=has_encoder)
        search = self._open_search()
        with self._at_work():
            started = time.perf_counter()
            (found,) = search.find([torch.as_tensor(samples)], options, None if codes is None else [codes], tell)
            elapsed_s = time.perf_counter() - started
        report = replace(
            self._report(samples),
            steps=found.steps,
            first_distance=found.first,
            distance=found.distance,
            lateness=search.speechlike.lateness,
            elapsed_s=elapsed_s,
        )
        facts = {
            "made_by": f"voxtral-tts {__version__} refine",
            "refine_steps": str(found.steps),
            "spectral_distance": f"{found.distance:.3f}",
        }
        return self._as_voice("cloned", found.codes, facts, report)

    def _open_search(self) -> CodeSearch:
        from voxtral.cloning.search import CodeSearch  # here, because most models only speak

        voices = self._voices
        with self._lock:
            if self._search is None:
                self._search = CodeSearch(self._call, lambda: [voices.load(name).rows for name in voices.names])
            return self._search

    def _teller(self, seconds: float, *, has_encoder: bool) -> OnProgress:
        """Make what says once, in a line, how long a search will take, as soon as that can be told."""
        seen: list[RefineProgress] = []
        is_told = False

        def tell(progress: RefineProgress) -> None:
            nonlocal is_told
            # The first step makes what later ones find ready, and says nothing of how long they take.
            if progress.step:
                seen.append(progress)
            if is_told or progress.step < _STEPS_TO_JUDGE or len(seen) < 2:
                return
            is_told = True
            each = (progress.elapsed_s - seen[0].elapsed_s) / (progress.step - seen[0].step)
            start = "from those of the encoder" if has_encoder else "without an encoder"
            self._cloning.announce(
                f"searching for the codes of {seconds:.1f} s of audio {start}: {progress.steps} steps, about "
                f"{progress.elapsed_s + each * (progress.steps - progress.step):.0f} s in all"
            )

        return tell

    def _as_voice(
        self, name: str, codes: torch.Tensor, metadata: Mapping[str, str] | None, report: CloneReport
    ) -> VoicePrompt:
        rows = self._call(lambda model: model.embed_codes(codes.to(model.device)).cpu())
        return VoicePrompt(name=name, rows=rows.clone(), codes=codes, metadata=dict(metadata or {}), report=report)

    def _report(self, samples: npt.NDArray[np.float32]) -> CloneReport:
        return CloneReport(seconds=len(samples) / self._config.sample_rate, encoder=self.encoder_origin)

    def encode(self, audio: AudioSource) -> torch.Tensor:
        """Turn a clip of up to 10 minutes into codes [K, T] int64, without the length rules of a reference.

        Raises:
            EncoderMissingError: the checkpoint holds no encoder.
            ReferenceAudioError: the clip cannot be read.
        """
        self._require_encoder()
        clip = read_clip(audio, limits=_ENCODE_LIMITS)
        if clip.is_joined:
            raise ReferenceAudioError(
                "the file holds more than one recording, one after the other; all of a recording becomes codes, and "
                "only the first could be read: join them with an audio tool, or pass one"
            )
        return self._encode_samples(resample(clip.samples, clip.sample_rate, self._config.sample_rate))

    def decode(self, codes: Any) -> Audio:
        """Turn codes [K, T] into audio.

        Raises:
            CodeRangeError: a code is outside its codebook.
        """
        self.check_process()
        codes = _as_codes(codes)
        check_codes(codes[None], self._config.codebooks)
        with self._at_work():
            parts = list(self._decode_in_steps(codes))
        return Audio(np.concatenate(parts), self._config.sample_rate)

    @contextmanager
    def _at_work(self) -> Generator[None]:
        with self._lock:
            self._num_at_work += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_at_work -= 1

    def _decode_in_steps(self, codes: torch.Tensor) -> Iterator[npt.NDArray[np.float32]]:
        # In steps, so that whoever is speaking goes on between them.
        state = self._call(lambda model: model.init_codec_state())
        for start in range(0, max(codes.shape[1], 1), _DECODE_FRAMES):
            part = codes[:, start : start + _DECODE_FRAMES]

            def step(model: CodecModel, part: torch.Tensor = part) -> npt.NDArray[np.float32]:
                return model.codec(part[None].to(model.device), state)[0].cpu().numpy()

            yield self._call(step)
        yield self._call(lambda model: model.flush_codec(state).cpu().numpy())

    def _require_encoder(self) -> bool:
        if not self._ready_encoder():
            raise EncoderMissingError(
                f"{self._name} holds no codec encoder, so no voice can be made from audio at once; the published 4B "
                "weights come without it; name an encoder file (--encoder FILE, encoder=...), search for the codes "
                "without one (voxtral clone --refine, create_voice(refine=True)), or learn one (voxtral "
                "train-encoder); or use a preset "
                f"({', '.join(self._voices.names)}), a saved voice, or another checkpoint"
            )
        return True

    def _ready_encoder(self) -> bool:
        """Load the encoder if it lies in a file of its own; False where there is none."""
        self.check_process()
        with self._loading:
            if self._origin is not None:
                return True
            # Also one that has been put there since the model was loaded.
            file = self._checkpoint.encoder or find_encoder(self._checkpoint)
            if file is None:
                return False
            check_decoder(file, self._checkpoint)
            device, dtype = self._call(lambda model: (model.device, model.codec.dtype))
            encoder = load_encoder(file, self._checkpoint, device=device, dtype=dtype)
            self._call(lambda model: _put_in(model, encoder))
            self._origin = file.facts.origin
            return True

    def _encode_samples(self, samples: npt.NDArray[np.float32]) -> torch.Tensor:
        return self._call(lambda model: model.encode_audio(torch.as_tensor(samples)).cpu()).clone()


@torch.inference_mode(False)
def _put_in(model: CodecModel, encoder: CodecEncoder) -> None:
    # Where the model is now, if it has moved since.
    model.codec_encoder = encoder.to(device=model.device, dtype=model.codec.dtype)


def _as_codes(codes: Any) -> torch.Tensor:
    """Take a tensor or an array of whole numbers as int64."""
    try:
        tensor = torch.as_tensor(codes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CodeRangeError(f"codes are a {type(codes).__name__}; they must be a tensor [K, frames]") from error
    is_whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)
    return tensor.to(torch.int64) if is_whole else tensor
