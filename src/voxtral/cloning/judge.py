"""What codes, copies and clones are worth, each judged by itself. Read next: `voxtral.cloning.evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from voxtral.audio.condition import active_level
from voxtral.cloning.acoustics import cepstral_distance, log_mel, mel_cepstra
from voxtral.cloning.prior import CodePrior, as_levels
from voxtral.cloning.speakers import SpeakerMeasure, tells_speaker
from voxtral.cloning.spectra import SpectralDistance
from voxtral.cloning.subjects import Subject
from voxtral.cloning.talk import Said
from voxtral.model.voxtral import CodecModel

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Codes of a clip beside those that it was made of.

    Attributes:
        semantic: share of the frames whose semantic code is the same.
        levels: mean distance of acoustic codes.
        mahalanobis: how unlike those of speech they are, of what the true ones are; 1 is as much.
        row_norm: mean length of the rows of a voice, of that of the true ones.
    """

    semantic: float
    levels: float
    mahalanobis: float
    row_norm: float


@dataclass(frozen=True)
class Copy:
    """Codes of a clip, decoded and compared with it.

    Attributes:
        distance: spectral distance.
        cepstral: distance of mel-cepstra along the best warping, about in dB.
        likeness: of the voice, by each measure; left out where there is too little sound.
    """

    distance: float
    cepstral: float
    likeness: Mapping[str, float]


@dataclass(frozen=True)
class Clone:
    """A sentence that a cloned voice said.

    Attributes:
        same: likeness to the voice, by each measure.
        other: mean likeness to the other voices.
        right: whether no other voice is nearer: 1 or 0.
        seconds: of audio.
        ended: whether it ended by itself.
    """

    same: Mapping[str, float]
    other: Mapping[str, float]
    right: Mapping[str, float]
    seconds: float
    ended: bool


def judge_agreement(model: CodecModel, found: Tensor, true: Tensor, prior: CodePrior | None) -> Agreement:
    """Compare codes [K, T] with the true ones, over the frames that both have."""
    count = min(found.shape[1], true.shape[1])
    found, true = found[:, :count].cpu(), true[:, :count].cpu()
    norms = [
        float(model.embed_codes(codes.to(model.device))[:-1].float().norm(dim=1).mean()) for codes in (found, true)
    ]
    likely, usual = (unlikeness(codes, prior, model.config.codebooks.acoustic_size) for codes in (found, true))
    return Agreement(
        semantic=float((found[0] == true[0]).float().mean()),
        levels=float((found[1:] - true[1:]).abs().float().mean()),
        mahalanobis=likely / usual if usual > 0 else math.nan,
        row_norm=norms[0] / max(norms[1], 1e-9),
    )


def unlikeness(codes: Tensor, prior: CodePrior | None, num_levels: int) -> float:
    """Measure how unlike those of speech codes [K, T] are; not a number where nothing is known of it."""
    if prior is None or codes.shape[1] < 2:
        return math.nan
    levels = as_levels(codes[1:], num_levels).T[None]
    return float(prior.distance(levels, torch.ones(levels.shape[:2], dtype=torch.bool)))


def judge_copy(
    subject: Subject, samples: Samples, lateness: int, sample_rate: int, measures: Sequence[SpeakerMeasure]
) -> Copy:
    """Compare what codes decode to, [S] float32, with the clip that they are of."""
    target = np.zeros(len(samples), np.float32)
    late = np.pad(subject.reference, (lateness, 0))[: len(samples)]
    target[: len(late)] = late
    distance = SpectralDistance(sample_rate)
    with torch.no_grad():
        off, _ = distance(torch.as_tensor(samples)[None], distance.spectra(torch.as_tensor(target)[None]))
    cepstra = [mel_cepstra(log_mel(each, sample_rate)) for each in (samples, target)]
    likeness: dict[str, float] = {}
    if tells_speaker(samples, sample_rate):
        for measure in measures:
            likeness[measure.name] = measure.likeness(measure.embed(samples), measure.embed(subject.reference))
    return Copy(float(off), cepstral_distance(*cepstra), likeness)


class Lineup:
    """The voices that a clone is compared with.

    Args:
        subjects: whose voices they are; each with speech by which it is known.
        measures: compare.
        sample_rate: of all audio.
    """

    def __init__(self, subjects: Sequence[Subject], measures: Sequence[SpeakerMeasure], sample_rate: int) -> None:
        self._measures = measures
        self._rate = sample_rate
        self._known = {
            measure.name: {
                subject.name: [measure.embed(each) for each in subject.known if tells_speaker(each, sample_rate)]
                for subject in subjects
            }
            for measure in measures
        }

    def judge(self, name: str, said: Said) -> Clone:
        """Judge a sentence that the clone of a voice said; one that cannot be heard is like no voice."""
        same: dict[str, float] = {}
        other: dict[str, float] = {}
        right: dict[str, float] = {}
        is_heard = tells_speaker(said.samples, self._rate)
        for measure in self._measures:
            near = dict.fromkeys(self._known[measure.name], 0.0)
            if is_heard:
                heard = measure.embed(said.samples)
                for voice, known in self._known[measure.name].items():
                    near[voice] = fmean(measure.likeness(heard, each) for each in known) if known else 0.0
            others = [value for voice, value in near.items() if voice != name]
            same[measure.name], other[measure.name] = near[name], fmean(others)
            right[measure.name] = float(near[name] > max(others))
        return Clone(same, other, right, len(said.samples) / self._rate, said.ended)


class Alike:
    """Voices in the order of how like a clip they sound.

    Args:
        sounds: [S] float32 each, by name.
        measure: compares.
        sample_rate: of all audio.
    """

    def __init__(self, sounds: Mapping[str, Samples], measure: SpeakerMeasure, sample_rate: int) -> None:
        self._measure = measure
        heard = {name: sound for name, sound in sounds.items() if tells_speaker(sound, sample_rate)}
        self._vectors = {name: measure.embed(sound) for name, sound in heard.items()}

    def nearest_first(self, clip: Samples, *, without: str) -> list[str]:
        """Order all voices but one, the nearest first."""
        heard = self._measure.embed(clip)
        near = {
            name: self._measure.likeness(heard, vector) for name, vector in self._vectors.items() if name != without
        }
        return sorted(near, key=lambda name: -near[name])


def level_change(before: Samples, after: Samples, sample_rate: int) -> float:
    """Give by how many dB speech is louder; not a number where one of them is silent."""
    levels = [active_level(each, sample_rate) for each in (before, after)]
    return levels[1] - levels[0] if all(map(math.isfinite, levels)) else math.nan
