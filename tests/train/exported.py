"""A checkpoint of random weights, exported, and the same weights as training has them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from train.codec_network import TrainableCodec
from train.language_model import SpeechModel
from voxtral.model.voxtral import VoxtralModel


@dataclass(frozen=True, eq=False)
class Exported:
    """One set of weights in three forms: on disk, in training, in the runtime."""

    folder: Path
    codec: TrainableCodec
    model: SpeechModel
    runtime: VoxtralModel
