"""Random pieces of a corpus as the codec learns from them: sound, the same later, phonemes and pitch.

A step's pieces are drawn from its number alone, so that a training that goes on draws them again. Read next:
`train.codec`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from train.corpus import SAMPLES_PER_LABEL, Part
from train.shards import is_coverage
from train.speech import Speech
from voxtral.cloning.pitch import PitchCurve, places_of_steps
from voxtral.model.source import Pitch

SAMPLES_PER_FRAME, SAMPLES_PER_STEP = 1920, 240
LABELS_PER_FRAME = SAMPLES_PER_FRAME // SAMPLES_PER_LABEL
# Samples by which the decoder is late. Without the delay the last steps of a frame would have to guess the next frame.
DELAY = 480

# How often pieces of the quick teachers are drawn, by the hour, against those of the others: of their words the codec
# learns nothing, and codes that are spent on their voices are lacking elsewhere.
_COVERAGE_WEIGHT = 0.05

# Played as a tape at another speed: voices that are not in the corpus.
_SLOWEST, _FASTEST = 0.87, 1.15


@dataclass(frozen=True, eq=False)
class Crop:
    """B pieces of the corpus, S samples or T frames each."""

    samples: Tensor  # [B, S] float32, what the encoder hears
    target: Tensor  # [B, S] float32, what the decoder has to say: the same, later
    labels: Tensor  # [B, T, labels per frame] int64
    pitch: Pitch  # [B, steps], of what the decoder says

    def to(self, device: torch.device) -> Crop:
        """Move all of it."""
        pitch = Pitch(self.pitch.f0.to(device), self.pitch.gate.to(device))
        return Crop(self.samples.to(device), self.target.to(device), self.labels.to(device), pitch)


class Crops:
    """Pieces across the borders of utterances.

    Args:
        speech: to cut from; looked at again when `refresh` is called.
        num_frames: T.
        tape: share of the pieces that are played faster or slower.
        without: parts that are left out.
        only: parts that are taken; None takes all, and those that come.
    """

    def __init__(
        self,
        speech: Speech,
        num_frames: int,
        *,
        tape: float = 0.0,
        without: Collection[str] = (),
        only: Collection[str] | None = None,
    ) -> None:
        self._speech = speech
        self._without, self._only = without, only
        self._num_frames = num_frames
        self._tape = tape
        self._parts: dict[str, tuple[Part, PitchCurve]] = {}
        self._shares = np.zeros(0)
        self.refresh()

    @property
    def hours(self) -> float:
        """Of speech that there is."""
        return sum(len(part.samples) for part, _ in self._parts.values()) / 24000 / 3600

    def refresh(self) -> None:
        """Take in the parts that have come since."""
        for name in self._speech.names:
            is_wanted = name not in self._without and (self._only is None or name in self._only)
            if is_wanted and name not in self._parts:
                part = self._speech.read_part(name)
                if len(part.samples) > self._longest + 2 * SAMPLES_PER_LABEL:
                    self._parts[name] = (part, self._speech.read_pitch(name))
        lengths = np.array(
            [
                len(self._parts[name][0].samples) * (_COVERAGE_WEIGHT if is_coverage(name) else 1.0)
                for name in sorted(self._parts)
            ]
        )
        if not len(lengths):
            raise SystemExit("the corpus has no part that is long enough to cut pieces from; make more of it")
        self._shares = lengths / lengths.sum()

    @property
    def _longest(self) -> int:
        return round((self._num_frames * SAMPLES_PER_FRAME + DELAY) * _FASTEST) + SAMPLES_PER_LABEL

    def draw(self, count: int, seed: list[int]) -> Crop:
        """Cut B = `count` pieces; the same seed cuts the same from the same parts."""
        rng = np.random.default_rng(seed)
        names = sorted(self._parts)
        rows = [self._cut(*self._parts[names[rng.choice(len(names), p=self._shares)]], rng) for _ in range(count)]
        audio, labels, f0, gate = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        labels = labels.unflatten(1, (-1, LABELS_PER_FRAME))
        return Crop(audio[:, DELAY:], audio[:, :-DELAY], labels, Pitch(f0, gate))

    def _cut(
        self, part: Part, curve: PitchCurve, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Cut a piece: samples from the delay before it on, labels, and pitch and gate of the decoder's steps."""
        size = self._num_frames * SAMPLES_PER_FRAME
        speed = rng.uniform(_SLOWEST, _FASTEST) if rng.random() < self._tape else 1.0
        length = round((size + DELAY) * speed)
        start = int(rng.integers(len(part.samples) - length))
        piece = part.samples[start : start + length].astype(np.float32) / 32768
        if speed != 1.0:
            made = soxr.resample(piece, length, size + DELAY)[: size + DELAY]
            piece = np.pad(made, (0, size + DELAY - len(made)))
        speed = length / (size + DELAY)
        heard = start + DELAY * speed  # where what the encoder hears begins
        middles = heard + speed * SAMPLES_PER_LABEL * (np.arange(self._num_frames * LABELS_PER_FRAME) + 0.5)
        labels = part.labels[(middles // SAMPLES_PER_LABEL).astype(int)].astype(np.int64)
        places = places_of_steps(size // SAMPLES_PER_STEP, SAMPLES_PER_STEP, DELAY)
        f0, gate = curve.at(heard + speed * places)
        return piece, labels, (f0 * speed).astype(np.float32), gate.astype(np.float32)
