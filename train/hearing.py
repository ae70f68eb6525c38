"""What a recogniser learns from: utterances of either kind of corpus with what is heard in them, in small arrays.

Of a corpus of shards the first natural part of each language is kept from training, and so are some voices in all
parts, for `benchmarks.quality.validity` to judge by. Read next: `train.recogniser`.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from train.corpus import SAMPLES_PER_LABEL, SILENCE, Phonemes
from train.data import SAMPLE_RATE
from train.loop import group_by_length
from train.shards import is_coverage
from train.speech import ShardedSpeech, Speech
from train.texts import LANGUAGES

PADDING = 2400  # samples of silence around an utterance
_HOP = SAMPLES_PER_LABEL // 2
_MAX_SECONDS = 9.0
_POOL = 600
# What nano is to sound like, and what is judged most, is drawn more often than the quick teachers' words.
_NATURAL_WEIGHT = 3.0
# One of so many voices of each teacher is kept from training, the one at this place.
_VOICES_PER_HELD, _HELD_PLACE = 12, 5


@dataclass(frozen=True)
class Held:
    """What is kept from training.

    Attributes:
        parts: names.
        voices: names.
    """

    parts: tuple[str, ...] = ()
    voices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Heard:
    """An utterance and what is heard in it.

    Attributes:
        samples: [S] int16 at 24 kHz, mapped.
        labels: [ceil(S / 480)] uint8.
        sequence: [n] uint8, without silence.
        language: code.
        voice: index into the voices of the corpus.
        weight: how often it is drawn, against others.
    """

    samples: np.ndarray
    labels: np.ndarray
    sequence: np.ndarray
    language: str
    voice: int
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class RecogniserBatch:
    """B utterances, padded with silence."""

    samples: Tensor  # [B, S] float32
    labels: Tensor  # [B, T] int64, -100 behind the end
    languages: Tensor  # [B] int64
    sequences: list[Tensor]  # [n] int64 each, phonemes without silence
    lengths: Tensor  # [B] int64, labels up to the end


def choose_held(speech: Speech) -> Held:
    """Choose what is kept from training: nothing of a corpus whose parts are not by language."""
    if not isinstance(speech, ShardedSpeech):
        return Held()
    parts: dict[str, str] = {}
    for name in speech.names:
        if not is_coverage(name):
            parts.setdefault(name[-2:], name)
    groups: dict[str, list[str]] = {}
    for voice in speech.corpus.voices:
        # What speaks several languages, and what speaks one of them only, are held apart.
        if voice.split == "train":
            groups.setdefault(f"{voice.teacher} {voice.language}", []).append(voice.name)
    voices = [name for group in groups.values() for name in group[_HELD_PLACE::_VOICES_PER_HELD]]
    return Held(tuple(sorted(parts.values())), tuple(voices))


def read_utterances(speech: Speech, phonemes: Phonemes, names: Collection[str]) -> Iterator[Heard]:
    """Read utterances of some parts.

    Args:
        speech: the corpus.
        phonemes: what is told apart.
        names: of the parts.
    """
    for name in names:
        part = speech.read_part(name)
        weight = 1.0 if is_coverage(name) else _NATURAL_WEIGHT
        for item in part.items:
            yield Heard(
                part.samples[item.start : item.start + item.num_samples],
                phonemes.labels(item.phonemes, item.num_samples, item.language),
                np.array(phonemes.spell(item.phonemes, item.language), np.uint8),
                item.language,
                item.voice,
                weight,
            )


def held_voices(speech: Speech, held: Held) -> frozenset[int]:
    """Number the voices that are kept from training."""
    if not isinstance(speech, ShardedSpeech):
        return frozenset()
    return frozenset(number for number, voice in enumerate(speech.corpus.voices) if voice.name in held.voices)


def read_training(speech: Speech, phonemes: Phonemes, held: Held) -> list[Heard]:
    """Read all that is not kept from training, and is not too long."""
    names = [name for name in speech.names if name not in held.parts]
    unheard = held_voices(speech, held)
    return [
        one
        for one in read_utterances(speech, phonemes, names)
        if one.voice not in unheard and len(one.samples) <= _MAX_SECONDS * SAMPLE_RATE and len(one.sequence)
    ]


def find_inventories(utterances: Sequence[Heard]) -> dict[str, frozenset[int]]:
    """List the phonemes of each language that occur, and silence."""
    found: dict[str, set[int]] = {language: {SILENCE} for language in LANGUAGES}
    for one in utterances:
        found[one.language].update(one.sequence.tolist())
    return {language: frozenset(numbers) for language, numbers in found.items()}


def draw_batches(
    utterances: Sequence[Heard], rng: random.Random, *, seconds: float = 30.0
) -> Iterator[RecogniserBatch]:
    """Yield batches of utterances of similar length, for ever.

    Args:
        utterances: to draw from.
        rng: draws them.
        seconds: of audio in a batch, padding included.
    """
    weights = list(accumulate(one.weight for one in utterances))
    while True:
        drawn = sorted(rng.choices(utterances, cum_weights=weights, k=_POOL), key=lambda one: len(one.samples))
        groups = group_by_length(drawn, lambda one: len(one.samples) + 2 * PADDING, SAMPLE_RATE * seconds)
        rng.shuffle(groups)
        for group in groups:
            yield stack(group)


def stack(group: Sequence[Heard]) -> RecogniserBatch:
    """Put utterances side by side."""
    size = max(len(one.samples) for one in group) + 2 * PADDING
    samples = torch.zeros(len(group), size)
    labels = torch.full((len(group), -(-(size // _HOP + 1) // 2)), -100)
    first = PADDING // SAMPLES_PER_LABEL
    for row, one in enumerate(group):
        piece = one.samples.astype(np.float32) / 32768
        samples[row, PADDING : PADDING + len(piece)] = torch.from_numpy(piece)
        wanted = torch.from_numpy(one.labels.astype(np.int64))
        labels[row, : 2 * first + len(wanted)] = SILENCE
        labels[row, first : first + len(wanted)] = wanted
    languages = torch.tensor([LANGUAGES.index(one.language) for one in group])
    sequences = [torch.from_numpy(one.sequence.astype(np.int64)) for one in group]
    lengths = torch.tensor([-(-(len(one.samples) + 2 * PADDING) // SAMPLES_PER_LABEL) for one in group])
    return RecogniserBatch(samples, labels, languages, sequences, lengths)
