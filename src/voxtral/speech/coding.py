"""Audio to codes, codes to audio, a clip to a voice: what the codec does outside of an utterance.

It runs on the engine's thread, between two frames of whoever is speaking.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch

from voxtral.audio.read import read_clip, resample
from voxtral.audio.reference import CLIP_LIMITS, MAX_CLIP_S, MAX_REFERENCE_S, read_reference
from voxtral.audio.source import AudioLimits, AudioSource, InlineClip
from voxtral.engine.process import BoundToProcess
from voxtral.errors import CodeRangeError, EncoderMissingError, ReferenceAudioError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.codebooks import check_codes
from voxtral.model.voxtral import VoxtralModel
from voxtral.speech.result import Audio
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    import numpy.typing as npt

T = TypeVar("T")

# Of a clip that comes with a request: any rate and width fits, and one that is too long is told its length.
_INLINE_LIMITS = AudioLimits(max_bytes=64 * 2**20, max_seconds=10 * MAX_REFERENCE_S, max_decoded_bytes=128 * 2**20)

# A recording that its owner turns into codes may be longer than what a stranger sends as a reference.
_ENCODE_LIMITS = AudioLimits(max_bytes=256 * 2**20, max_seconds=600.0, max_decoded_bytes=1024 * 2**20)

# Frames of codes that are decoded between two looks at who is speaking.
_DECODE_FRAMES = 100


class Call(Protocol):
    """`RunningModel.call`: runs a function of the model between two frames."""

    def __call__(self, function: Callable[[VoxtralModel], T]) -> T:
        """Wait for the function's result."""
        ...


class Coder(BoundToProcess):
    """Encodes and decodes with the codec of a running model; safe to use from many threads.

    Args:
        checkpoint: of the model.
        name: of the model, for messages.
        presets: names of voices that can be had without an encoder, for messages.
        call: runs a function of the model.
    """

    def __init__(self, checkpoint: Checkpoint, name: str, presets: tuple[str, ...], call: Call) -> None:
        super().__init__()
        self._config = checkpoint.config
        self._has_encoder = checkpoint.has_encoder
        self._name = name
        self._presets = presets
        self._call = call
        self._lock = threading.Lock()
        self._num_decoding = 0

    @property
    def is_decoding(self) -> bool:
        """Whether codes are being decoded, whose state is on the device."""
        with self._lock:
            return self._num_decoding > 0

    def create_voice(
        self,
        reference_audio: AudioSource,
        name: str = "cloned",
        metadata: Mapping[str, str] | None = None,
        *,
        warn: Callable[[str], None],
    ) -> VoicePrompt:
        """Clone a voice from a clip of one speaker; 3 seconds and more are good, of what is longer the best are taken.

        Args:
            reference_audio: the clip; one that came with a request is no longer than a reference.
            name: of the voice.
            metadata: kept with it.
            warn: gets what is not as it should be with the clip.

        Raises:
            EncoderMissingError: the checkpoint holds no encoder.
            ReferenceAudioError: the clip cannot be read, its length breaks the rule, or it holds no voice.
        """
        self._require_encoder()
        is_inline = isinstance(reference_audio, InlineClip)
        clip = read_reference(
            reference_audio,
            sample_rate=self._config.sample_rate,
            max_clip_s=MAX_REFERENCE_S if is_inline else MAX_CLIP_S,
            limits=_INLINE_LIMITS if is_inline else CLIP_LIMITS,
        )
        for remark in clip.remarks:
            warn(remark)
        codes = self._encode_samples(clip.samples)
        rows = self._call(lambda model: model.embed_codes(codes.to(model.device)).cpu())
        return VoicePrompt(name=name, rows=rows.clone(), codes=codes, metadata=dict(metadata or {}))

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
        with self._lock:
            self._num_decoding += 1
        try:
            parts = list(self._decode_in_steps(codes))
        finally:
            with self._lock:
                self._num_decoding -= 1
        return Audio(np.concatenate(parts), self._config.sample_rate)

    def _decode_in_steps(self, codes: torch.Tensor) -> Iterator[npt.NDArray[np.float32]]:
        # In steps, so that whoever is speaking goes on between them.
        state = self._call(lambda model: model.init_codec_state())
        for start in range(0, max(codes.shape[1], 1), _DECODE_FRAMES):
            part = codes[:, start : start + _DECODE_FRAMES]

            def step(model: VoxtralModel, part: torch.Tensor = part) -> npt.NDArray[np.float32]:
                return model.codec(part[None].to(model.device), state)[0].cpu().numpy()

            yield self._call(step)
        yield self._call(lambda model: model.flush_codec(state).cpu().numpy())

    def _require_encoder(self) -> None:
        self.check_process()
        if not self._has_encoder:
            raise EncoderMissingError(
                f"{self._name} holds no codec encoder, so no voice can be made from audio; the published 4B weights "
                f"come without it; use a preset ({', '.join(self._presets)}), a saved voice, or another checkpoint"
            )

    def _encode_samples(self, samples: npt.NDArray[np.float32]) -> torch.Tensor:
        return self._call(lambda model: model.encode_audio(torch.as_tensor(samples)).cpu()).clone()


def _as_codes(codes: Any) -> torch.Tensor:
    """Take a tensor or an array of whole numbers as int64."""
    try:
        tensor = torch.as_tensor(codes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CodeRangeError(f"codes are a {type(codes).__name__}; they must be a tensor [K, frames]") from error
    is_whole = not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is torch.bool)
    return tensor.to(torch.int64) if is_whole else tensor
