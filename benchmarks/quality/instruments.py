"""Instruments that know nothing of this project: whisper-base, DNSMOS, and pitch by WORLD.

They come from packages of their own environment (`recipes/tools.txt`); the product never loads them. Each works on
one thread, so that it does not disturb others and its figures do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr

_RATE = 16000
_PEAK = 0.7
_EDGE = np.zeros(round(0.3 * _RATE), np.float32)
_WINDOW_SECONDS = 9.01  # what DNSMOS takes at once
_MAX_SEMITONES = 12.0
# Whisper-base writes Hindi in other scripts unless it is shown which one is wanted.
_PROMPTS = {"hi": "नमस्ते। यह वाक्य हिन्दी में लिखा गया है।"}


class Whisper:
    """OpenAI's whisper-base (MIT), int8, greedy, the language given, every sentence by itself.

    Args:
        folder: with faster-whisper's `model.bin`, `config.json`, `tokenizer.json` and `vocabulary.txt`.

    Raises:
        ImportError: faster-whisper is not installed.
    """

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel  # pyright: ignore[reportMissingImports]

        self._model: Any = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)

    def hear(self, samples: np.ndarray, rate: int, language: str) -> str:
        """Write down what is said."""
        clip = np.concatenate([_EDGE, at_peak(samples, rate), _EDGE])
        segments, _ = self._model.transcribe(
            clip,
            language=language,
            beam_size=1,
            temperature=0,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
            initial_prompt=_PROMPTS.get(language),
        )
        return " ".join(segment.text.strip() for segment in segments)


@dataclass(frozen=True)
class Sound:
    """What DNSMOS thinks of a sound, 1 to 5: all in all, the speech, the background, and P.808's listeners."""

    ovrl: float
    sig: float
    bak: float
    p808: float


class Dnsmos:
    """DNSMOS P.835 and P.808 of `speechmos`, made for noise suppression; deaf to slurred words (docs/QUALITY.md).

    Raises:
        ImportError: speechmos is not installed.
    """

    def __init__(self) -> None:
        import onnxruntime  # pyright: ignore[reportMissingImports]
        from speechmos import dnsmos  # pyright: ignore[reportMissingImports]

        original = onnxruntime.InferenceSession

        def on_one_thread(path: str, **options: Any) -> Any:
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = settings.inter_op_num_threads = 1
            return original(path, sess_options=settings, providers=["CPUExecutionProvider"], **options)

        onnxruntime.InferenceSession = on_one_thread
        try:
            dnsmos.run(np.zeros(_RATE, np.float32), _RATE)
        finally:
            onnxruntime.InferenceSession = original
        self._run = dnsmos.run

    def rate(self, clips: Sequence[np.ndarray], rate: int, max_windows: int = 3) -> Sound:
        """Rate clips joined end to end, in windows of 9 s; the mean of at most `max_windows`."""
        joined = np.concatenate([at_peak(clip, rate) for clip in clips])
        size = round(_WINDOW_SECONDS * _RATE)
        if len(joined) < size:
            joined = np.resize(joined, size)
        starts = range(0, len(joined) - size + 1, size)[:max_windows]
        found = [self._run(joined[start : start + size], _RATE) for start in starts]
        mean = {key: float(np.mean([each[f"{key}_mos"] for each in found])) for key in ("ovrl", "sig", "bak", "p808")}
        return Sound(**mean)


@dataclass(frozen=True)
class Melody:
    """The pitch of an utterance: median in Hz, and its standard deviation in semitones."""

    hertz: float
    deviation: float


def measure_melody(samples: np.ndarray, rate: int) -> Melody | None:
    """Measure the pitch by WORLD's dio and stonemask; None where too little is voiced.

    Raises:
        ImportError: pyworld is not installed.
    """
    import pyworld  # pyright: ignore[reportMissingImports]

    clip = at_peak(samples, rate).astype(np.float64)
    found, times = pyworld.dio(clip, _RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=10.0)
    return melody_of(pyworld.stonemask(clip, found, times, _RATE))


def melody_of(pitch: np.ndarray) -> Melody | None:
    """Sum up a pitch curve, in Hz, 0 where unvoiced; leaps of an octave and more are errors and left out."""
    voiced = pitch[pitch > 0]
    if len(voiced) <= 10:
        return None
    median = float(np.median(voiced))
    semitones = 12 * np.log2(voiced / median)
    return Melody(median, float(np.std(semitones[np.abs(semitones) < _MAX_SEMITONES])))


def at_peak(samples: np.ndarray, rate: int) -> np.ndarray:
    """Resample to 16 kHz and give the highest sample .7: [S] float32."""
    clip = soxr.resample(np.asarray(samples, np.float32), rate, _RATE)
    return (clip / max(1e-6, float(np.abs(clip).max())) * _PEAK).astype(np.float32)
