"""Who speaks: measures of how like two voices are. A search or a training never sees any of them.

`TimbreAndPitch` always runs and is coarse: means over time, no model. Resemblyzer (Apache-2.0) is used where it is
installed. ECAPA (SpeechBrain, Apache-2.0) is what others publish figures of; its weights are the user's to bring.
"""

from __future__ import annotations

import importlib
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soxr
import torch

from voxtral.cloning.acoustics import log_mel, log_pitch, mel_cepstra
from voxtral.disk import is_file, why
from voxtral.errors import OptionError

# Distance of an e-fold of pitch beside the distance of mean cepstra in nepers; chosen on the voices nano learned from.
_PITCH_WEIGHT = 12.0
_UNVOICED_PITCH = 5.0  # 148 Hz
_LOUD = 5.0  # nepers of the mean band below the loudest frame

# What both networks hear.
_NETWORK_RATE = 16000

# The published ECAPA of SpeechBrain: bands of its spectrum, channels, and the file of its weights.
_ECAPA_BANDS, _ECAPA_CHANNELS = 80, (1024, 1024, 1024, 1024, 3 * 1024)
_ECAPA_FILE = "embedding_model.ckpt"
_ECAPA_SOURCE = "speechbrain/spkrec-ecapa-voxceleb"

# Shorter than this says nothing of who speaks, in seconds.
_LEAST_S = 0.25


class SpeakerMeasure(Protocol):
    """Something that turns speech into a vector; near vectors are like voices."""

    name: str

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Turn [S] float32 into [E] float64."""
        ...

    def likeness(self, first: np.ndarray, second: np.ndarray) -> float:
        """Compare two vectors: 1 for the same, less for others."""
        ...


class TimbreAndPitch:
    """Mean mel-cepstra of the loud frames, and the median of the logarithm of the pitch.

    Args:
        sample_rate: of what is embedded, in Hz.
    """

    name = "timbre_and_pitch"

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Turn [S] float32 into [25] float64."""
        bands = log_mel(samples, self._rate)
        level = bands.mean(1)
        timbre = mel_cepstra(bands[level >= level.max() - _LOUD]).mean(0)
        pitch = log_pitch(samples, self._rate)
        return np.append(timbre, _PITCH_WEIGHT * (_UNVOICED_PITCH if pitch is None else pitch))

    def likeness(self, first: np.ndarray, second: np.ndarray) -> float:
        """Turn the distance, in nepers, into a likeness from 0 to 1."""
        return 1.0 / (1.0 + float(np.linalg.norm(first - second)))


class _Vectors:
    """A network whose vectors are compared by their angle, whatever its rate."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate

    def _resampled(self, samples: np.ndarray) -> np.ndarray:
        return soxr.resample(np.asarray(samples, np.float32), self._rate, _NETWORK_RATE)

    def likeness(self, first: np.ndarray, second: np.ndarray) -> float:
        """Give the cosine."""
        return float(first @ second / max(1e-12, float(np.linalg.norm(first) * np.linalg.norm(second))))


class Resemblyzer(_Vectors):
    """The d-vectors of Resemblyzer, of length 1.

    Args:
        sample_rate: of what is embedded, in Hz.

    Raises:
        ImportError: it is not installed, or one of its parts is missing.
    """

    name = "resemblyzer"

    def __init__(self, sample_rate: int) -> None:
        super().__init__(sample_rate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._encoder: Any = importlib.import_module("resemblyzer").VoiceEncoder("cpu", verbose=False)

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Turn [S] float32 into [256] float64."""
        return np.asarray(self._encoder.embed_utterance(self._resampled(samples)), np.float64)


class Ecapa(_Vectors):
    """The vectors of SpeechBrain's ECAPA, of a folder that the user has filled; nothing is downloaded.

    Only its weights are read, and those as tensors: the recipe beside them is a program, and is not run.

    Args:
        sample_rate: of what is embedded, in Hz.
        folder: that holds `embedding_model.ckpt`.

    Raises:
        OptionError: there is no such file, SpeechBrain cannot be loaded, or the file is none of the published sizes.
    """

    name = "ecapa"

    def __init__(self, sample_rate: int, folder: Path) -> None:
        super().__init__(sample_rate)
        path = folder / _ECAPA_FILE
        try:
            is_there = is_file(path)
        except (OSError, ValueError) as error:
            raise OptionError(f"--ecapa: {path} cannot be looked at ({why(error)}); name another folder") from error
        if not is_there:
            raise OptionError(
                f"--ecapa: {path} is missing; the folder must hold the weights of {_ECAPA_SOURCE}, which you download "
                "yourself; name that folder"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network: Any = importlib.import_module("speechbrain.lobes.models.ECAPA_TDNN").ECAPA_TDNN
                features: Any = importlib.import_module("speechbrain.lobes.features").Fbank
        except (ImportError, OSError) as error:  # OSError: a library of it that does not fit
            raise OptionError(
                f"--ecapa needs SpeechBrain, which cannot be loaded ({error}); run pip install speechbrain, or leave "
                "--ecapa out"
            ) from error
        self._features = features(n_mels=_ECAPA_BANDS)
        self._network = network(_ECAPA_BANDS, channels=list(_ECAPA_CHANNELS))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # whatever bytes that are no tensors make of a reader of pickles
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise OptionError(
                f"--ecapa: {path} does not hold the weights of {_ECAPA_SOURCE} ({reason}); download them again, whole"
            ) from error
        self._network.eval()

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Turn [S] float32 into [192] float64."""
        with torch.no_grad():
            bands = self._features(torch.as_tensor(self._resampled(samples))[None])
            vector = self._network(bands - bands.mean(1, keepdim=True))
        return vector.flatten().double().numpy()


def open_measures(sample_rate: int, ecapa: Path | None = None) -> list[SpeakerMeasure]:
    """Set up the measures that run here, the best first.

    Args:
        sample_rate: of what they will hear, in Hz.
        ecapa: the folder of ECAPA's weights.

    Raises:
        OptionError: as `Ecapa`.
    """
    measures: list[SpeakerMeasure] = [] if ecapa is None else [Ecapa(sample_rate, ecapa)]
    with suppress(ImportError):  # the report says by what was measured
        measures.append(Resemblyzer(sample_rate))
    return [*measures, TimbreAndPitch(sample_rate)]


def tells_speaker(samples: np.ndarray, sample_rate: int) -> bool:
    """Say whether samples are enough to tell anything of who speaks."""
    return len(samples) >= _LEAST_S * sample_rate and bool(np.abs(samples).max() > 0)
