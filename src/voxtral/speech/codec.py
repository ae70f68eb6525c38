"""VoxtralCodec: a model's codec and voices without the networks that speak.

The 4B needs a tenth of its memory so. What is made here is what the whole model would make.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import torch

from voxtral.audio.read import AudioSource
from voxtral.audio.reference import PreparedClip
from voxtral.cloning.options import Refine
from voxtral.config import ModelConfig
from voxtral.device import ComputePlan, plan_compute, run_aside
from voxtral.engine.process import BoundToProcess
from voxtral.errors import EngineStoppedError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.encoder_file import find_encoder
from voxtral.loading.load import load_codec
from voxtral.loading.locate import locate_model
from voxtral.model.voxtral import CodecModel
from voxtral.speech.coding import Cloning, Coder, OnProgress
from voxtral.speech.result import Audio
from voxtral.switches import check_variables
from voxtral.types import Voice
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.presets import VoiceInfo
from voxtral.voices.prompt import VoicePrompt

T = TypeVar("T")


class VoxtralCodec(BoundToProcess):
    """The codec and the voices of a model; safe to use from many threads, one after the other.

    Example:
        with open_codec("4b") as codec:
            codec.create_voice("me.wav", refine=True).save("me.safetensors")

    Attributes:
        name: of the model, as it was asked for.
        checkpoint: what it was loaded from.
        compute: where and in which precision it runs.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: CodecModel,
        compute: ComputePlan,
        name: str,
        announce: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.name = name
        self.checkpoint = checkpoint
        self.compute = compute
        self._model: CodecModel | None = model
        self._lock = threading.Lock()
        self._voices = VoiceLibrary(checkpoint.folder, checkpoint.config)
        self._coder = Coder(checkpoint, name, self._voices, self.run, Cloning(announce=announce))

    def run(self, function: Callable[[CodecModel], T]) -> T:
        """Run a function of the model as an engine would, in this thread.

        Raises:
            EngineStoppedError: the codec has been closed, or this is a forked child.
        """
        self.check_process()
        with self._lock:
            if self._model is None:
                raise EngineStoppedError("the codec has been closed; open it again")
            others, own = torch.get_num_threads(), self.compute.num_threads
            try:
                if own is not None:
                    torch.set_num_threads(own)
                with torch.inference_mode():
                    return function(self._model)
            finally:
                if own is not None:
                    torch.set_num_threads(others)

    def close(self) -> None:
        """Let the weights go; the object is of no use afterwards."""
        with self._lock:
            self._model = None

    def __enter__(self) -> VoxtralCodec:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def config(self) -> ModelConfig:
        """Sizes and defaults of the checkpoint."""
        return self.checkpoint.config

    @property
    def sample_rate(self) -> int:
        """Samples per second of all audio."""
        return self.config.sample_rate

    @property
    def encoder_origin(self) -> str | None:
        """Where the codec encoder is from: "checkpoint", or what its file says; None without one."""
        return self._coder.encoder_origin

    @property
    def has_encoder(self) -> bool:
        """Whether voices can be cloned from audio without `refine`."""
        return self.encoder_origin is not None

    @property
    def voices(self) -> tuple[VoiceInfo, ...]:
        """The preset voices."""
        return self._voices.describe()

    def load_voice(self, voice: Voice) -> VoicePrompt:
        """Find a voice; see `VoxtralTTS.load_voice`."""
        return self._voices.load(voice)

    def create_voice(
        self,
        reference_audio: AudioSource | PreparedClip,
        name: str = "cloned",
        metadata: Mapping[str, str] | None = None,
        *,
        refine: Refine = None,
        on_progress: OnProgress | None = None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> VoicePrompt:
        """Clone a voice from a clip; see `VoxtralTTS.create_voice`."""
        return self._coder.create_voice(reference_audio, name, metadata, refine, on_progress, warn=warn)

    def encode(self, audio: AudioSource) -> torch.Tensor:
        """Turn a clip into codes; see `VoxtralTTS.encode`."""
        return self._coder.encode(audio)

    def decode(self, codes: torch.Tensor) -> Audio:
        """Turn codes [K, T] into audio; see `VoxtralTTS.decode`."""
        return self._coder.decode(codes)


def open_codec(
    model: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    encoder: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    announce: Callable[[str], None] | None = None,
) -> VoxtralCodec:
    """Load what makes voices of a model, and leave what speaks in its file.

    Args:
        model: as `VoxtralTTS.from_pretrained` takes it, like all that is not said here.
        device: auto, cpu, cuda or cuda:N.
        dtype: of the rows of voices; on a CPU the codec itself is in float32, in which a search is faster.
        encoder: an encoder file; default: see docs/CLONING.md.
        revision: of a hub id.
        token: for the hub.
        local_files_only: never download.
        announce: gets what a person should know; default: standard error.

    Raises:
        ModelNotFoundError: there is no such model.
        DownloadError: the hub refused or broke off.
        CheckpointError: a file is damaged.
        EncoderFileError: the encoder file is damaged, or of another model.
        DeviceError: the device or dtype is not available.
    """
    check_variables()
    announce = announce or tell_on_stderr
    folder = locate_model(model, revision=revision, token=token, allow_download=not local_files_only, announce=announce)
    checkpoint = open_checkpoint(folder)
    checkpoint = replace(checkpoint, encoder=find_encoder(checkpoint, encoder))
    compute = plan_compute(device, dtype, num_parameters=checkpoint.num_parameters)
    if compute.device.type == "cpu":
        compute = replace(compute, codec_dtype=torch.float32, codec_reason="a search goes through it many times")
    for remark in compute.remarks:
        announce(remark)
    loaded = run_aside(
        lambda: load_codec(checkpoint, device=compute.device, dtype=compute.dtype, codec_dtype=compute.codec_dtype)
    )
    return VoxtralCodec(checkpoint, loaded, compute, str(model), announce)


def tell_on_stderr(line: str) -> None:
    """Tell a person."""
    sys.stderr.write(f"{line}\n")
