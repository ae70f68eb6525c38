"""The corpus that `train.data` made, as arrays: samples, phoneme labels, items.

Read next: `train.codec`, which cuts random pieces out of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.data import SAMPLE_RATE, Item, Voice
from train.teacher import Speaker
from voxtral.errors import VoxtralError

LABELS_PER_SECOND = 50
SAMPLES_PER_LABEL = SAMPLE_RATE // LABELS_PER_SECOND
SILENCE = 0


def is_sound(mnemonic: str) -> bool:
    """Tell phonemes from pauses (`_`, `_:`, `_|`), changes of language (`(en)`) and marks; `*` is a tapped r."""
    return mnemonic not in ("", "**", ";") and not mnemonic.startswith(("_", "("))


class CorpusError(VoxtralError):
    """The corpus is missing or incomplete."""

    code = "corpus_failed"


MNEMONICS = "mnemonics"
"""The alphabet of `train.data`: espeak-ng's own names of phonemes. The other one is `train.sounds.IPA`."""


@dataclass(frozen=True)
class Phonemes:
    """The phonemes of all languages in one numbering; 0 is silence."""

    ids: dict[str, int]
    inventories: dict[str, frozenset[int]]  # by language, silence included

    @property
    def alphabet(self) -> str:
        """Name what the phonemes are written in."""
        return MNEMONICS

    @property
    def count(self) -> int:
        """Numbers in use, silence included."""
        return 1 + max(self.ids.values(), default=0)

    def time(self, phonemes: Sequence[tuple[float, str]], language: str) -> list[tuple[float, str]]:
        """Turn what a teacher reports into what is told apart; here they are the same.

        Args:
            phonemes: start in seconds and name of each.
            language: of the text.
        """
        return list(phonemes)

    def spell(self, phonemes: Sequence[tuple[float, str]], language: str) -> list[int]:
        """Turn timed phonemes into numbers: silence left out, neighbours that are equal merged."""
        numbers = [self.ids.get(name, SILENCE) for _, name in self.time(phonemes, language)]
        return collapse(numbers, min_run=1)

    def labels(self, phonemes: Sequence[tuple[float, str]], num_samples: int, language: str) -> np.ndarray:
        """Label every 20 ms of an utterance with the phoneme that sounds there: [ceil(S / 480)] uint8."""
        labels = np.zeros(-(-num_samples // SAMPLES_PER_LABEL), np.uint8)
        timed = self.time(phonemes, language)
        ends = [*(start for start, _ in timed[1:]), num_samples / SAMPLE_RATE]
        for (start, name), end in zip(timed, ends, strict=False):
            first, stop = round(start * LABELS_PER_SECOND), round(end * LABELS_PER_SECOND)
            labels[max(0, first) : max(0, stop)] = self.ids.get(name, SILENCE)
        return labels


def collapse(labels: list[int], *, min_run: int) -> list[int]:
    """Merge runs of equal labels, drop silence and runs shorter than `min_run`.

    >>> collapse([0, 3, 3, 0, 3, 3, 5, 4, 4], min_run=2)
    [3, 4]
    """
    merged: list[int] = []
    start = 0
    for index in range(1, len(labels) + 1):
        if index < len(labels) and labels[index] == labels[start]:
            continue
        label = labels[start]
        if label != SILENCE and index - start >= min_run and (not merged or merged[-1] != label):
            merged.append(label)
        start = index
    return merged


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the corpus; samples are mapped, not read."""

    samples: np.ndarray  # [S] int16
    labels: np.ndarray  # [ceil(S / 480)] uint8
    items: list[Item]


@dataclass(frozen=True, eq=False)
class Corpus:
    """All of it."""

    folder: Path
    voices: list[Voice]
    phonemes: Phonemes
    num_parts: int

    def read_items(self, part: int) -> list[Item]:
        """Read the items of a part."""
        lines = (self.folder / f"items-{part}.jsonl").read_text(encoding="utf-8").splitlines()
        return [Item(**json.loads(line)) for line in lines]

    def read_parts(self) -> list[Part]:
        """Map and label all parts."""
        return [self.read_part(part) for part in range(self.num_parts)]

    def read_part(self, part: int) -> Part:
        """Map the samples of a part and label them."""
        samples = np.memmap(self.folder / f"audio-{part}.i16", dtype="<i2", mode="r")
        items = self.read_items(part)
        labels = np.zeros(len(samples) // SAMPLES_PER_LABEL + 2, np.uint8)
        for item in items:
            shift = item.start / SAMPLE_RATE
            if not item.phonemes:
                continue
            shifted = [(start + shift, name) for start, name in item.phonemes]
            ends = [start for start, _ in shifted[1:]] + [shift + item.num_samples / SAMPLE_RATE]
            for (start, name), end in zip(shifted, ends, strict=True):
                first, stop = round(max(start, shift) * LABELS_PER_SECOND), round(end * LABELS_PER_SECOND)
                labels[first:stop] = self.phonemes.ids.get(name, SILENCE)
        return Part(samples, labels, items)


def load_phonemes(path: Path) -> Phonemes:
    """Read the phoneme numbering from corpus.json.

    Raises:
        CorpusError: there is none.
    """
    index = _read_index(path)
    names = sorted({name for names in index["phonemes"].values() for name in names if is_sound(name)})
    ids = {name: number for number, name in enumerate(names, start=1)}
    inventories = {
        language: frozenset({SILENCE, *(ids[name] for name in names if name in ids)})
        for language, names in index["phonemes"].items()
    }
    return Phonemes(ids, inventories)


def open_corpus(folder: Path) -> Corpus:
    """Read what describes a corpus.

    Raises:
        CorpusError: there is none in that folder.
    """
    index = _read_index(folder / "corpus.json")
    voices = [Voice(**{**entry, "speaker": Speaker(**entry["speaker"])}) for entry in index["voices"]]
    return Corpus(folder, voices, load_phonemes(folder / "corpus.json"), index["num_parts"])


def _read_index(path: Path) -> dict:
    if not path.is_file():
        raise CorpusError(f"{path} is missing; a corpus needs it; make one with python -m train.data")
    return json.loads(path.read_text(encoding="utf-8"))
