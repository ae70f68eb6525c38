"""One view of both kinds of corpus, for the stages that learn from speech: parts with samples, labels, items and pitch.

`open_speech` takes the folder of `train.data` (one teacher, times alone) or of shards (`train.shards`: several
teachers, and their pitch), which may grow meanwhile. Read next: `train.crops`, `train.encode`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from train.corpus import SAMPLES_PER_LABEL, SILENCE, Corpus, Part, Phonemes, open_corpus
from train.data import SAMPLE_RATE, Item
from train.shards import (
    FORMAT,
    SAMPLES_PER_PITCH,
    ShardCorpus,
    ShardItem,
    lateness,
    list_shards,
    open_shards,
    read_shard,
)
from train.sounds import SOUNDS, Sounds
from voxtral.cloning.pitch import HOP_S, PitchCurve, measure_pitch

_MEASURED_HOP = round(HOP_S * SAMPLE_RATE)
_PAUSE = "_"  # what follows the last phoneme; no symbol


class Speech(Protocol):
    """A corpus, part by part; the name of a part tells the same samples for ever."""

    @property
    def names(self) -> Sequence[str]:
        """Name the parts that are there now."""
        ...

    @property
    def phonemes(self) -> Phonemes:
        """The numbering of labels."""
        ...

    @property
    def heard(self) -> Phonemes:
        """The numbering of what a recogniser tells apart; what each language has is not always known."""
        ...

    def read_part(self, name: str) -> Part:
        """Map the samples of a part, label them and read its items."""
        ...

    def read_pitch(self, name: str) -> PitchCurve:
        """Read the pitch of a part, or measure it."""
        ...


@dataclass(frozen=True, eq=False)
class SingleTeacherSpeech:
    """The corpus of `train.data`."""

    corpus: Corpus

    @property
    def names(self) -> Sequence[str]:
        """See Speech."""
        return [str(part) for part in range(self.corpus.num_parts)]

    @property
    def phonemes(self) -> Phonemes:
        """See Speech."""
        return self.corpus.phonemes

    @property
    def heard(self) -> Phonemes:
        """See Speech."""
        return self.corpus.phonemes

    def read_part(self, name: str) -> Part:
        """See Speech."""
        return self.corpus.read_part(int(name))

    def read_pitch(self, name: str) -> PitchCurve:
        """See Speech; measured once, at a hundredth of the length of the part, and kept beside it."""
        path = self.corpus.folder / f"pitch-{name}.f32"
        if not path.is_file():
            curve = measure_pitch(self.read_part(name).samples.astype(np.float32) / 32768, SAMPLE_RATE)
            partial = path.with_suffix(f".{os.getpid()}")
            curve.f0.astype("<f4").tofile(partial)
            os.replace(partial, path)
        return PitchCurve(np.fromfile(path, dtype="<f4").astype(np.float64), _MEASURED_HOP)


@dataclass(frozen=True, eq=False)
class ShardedSpeech:
    """A corpus of shards, which may grow."""

    corpus: ShardCorpus

    @property
    def names(self) -> Sequence[str]:
        """See Speech."""
        return list_shards(self.corpus.folder)

    @property
    def phonemes(self) -> Phonemes:
        """See Speech."""
        return Phonemes(self.corpus.phonemes, {})

    @property
    def heard(self) -> Phonemes:
        """See Speech."""
        return Sounds(SOUNDS, {})

    @cached_property
    def _symbols(self) -> dict[int, str]:
        return {number: symbol for symbol, number in self.corpus.phonemes.items()}

    def read_part(self, name: str) -> Part:
        """See Speech; the text of an item is what the teacher was given, which is what the runtime speaks, too."""
        shard = read_shard(self._folder(name))
        labels = np.full(len(shard.samples) // SAMPLES_PER_LABEL + 2, SILENCE, np.uint8)
        for item in shard.items:
            _label(labels, item)
        return Part(shard.samples, labels, [self._as_item(item) for item in shard.items])

    def read_pitch(self, name: str) -> PitchCurve:
        """See Speech."""
        f0 = np.fromfile(self._folder(name) / "pitch.f32", dtype="<f4").astype(np.float64)
        return PitchCurve(f0, SAMPLES_PER_PITCH)

    def _folder(self, name: str) -> Path:
        return self.corpus.folder / "shards" / name

    def _as_item(self, item: ShardItem) -> Item:
        edges, late = _edges(item), lateness(item.teacher)
        names = [*(self._symbols[number] for number in item.phonemes), _PAUSE]
        return Item(
            item.start,
            item.num_samples,
            item.spoken,
            item.language,
            item.voice,
            [(start / SAMPLE_RATE, name) for start, name in zip(edges, names, strict=True)],
            [(max(0, start - late) / SAMPLE_RATE, first, length) for start, _, first, length, _, _ in item.words],
        )


def _edges(item: ShardItem) -> list[int]:
    """List where phonemes begin to sound and where the last one ends, in samples of the item."""
    late = lateness(item.teacher)
    return [max(0, edge - late) for edge in (*item.phoneme_starts, item.phoneme_end)]


def _label(labels: np.ndarray, item: ShardItem) -> None:
    """Write the phonemes of an item, by the middle of each label."""
    edges = np.array(_edges(item)) + item.start
    places = np.ceil(edges / SAMPLES_PER_LABEL - 0.5).astype(int)
    for number, first, stop in zip(item.phonemes, places[:-1], places[1:], strict=True):
        labels[first:stop] = number


def open_speech(folder: Path) -> Speech:
    """Open a corpus of either kind.

    Raises:
        CorpusError: there is none in that folder.
        ShardError: it is one of shards that cannot be read.
    """
    index = folder / "corpus.json"
    if index.is_file() and json.loads(index.read_text(encoding="utf-8")).get("format") == FORMAT:
        return ShardedSpeech(open_shards(folder))
    return SingleTeacherSpeech(open_corpus(folder))
