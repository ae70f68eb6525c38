"""What the language model learns from: items of the corpus as codes, references of their voices, and batches of both.

Read next: `train.language_model`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from train.crops import LABELS_PER_FRAME
from train.encode import codes_path
from train.loop import group_by_length, load_weights
from train.shape import NUM_SPECIAL_TOKENS
from train.shards import is_coverage
from train.speech import Speech
from train.tokenizer import LetterTokenizer, build_vocabulary
from voxtral.config import EMPTY_AUDIO, END_AUDIO, NUM_SPECIAL_CODES

_SPACE = NUM_SPECIAL_TOKENS + ord(" ")  # bytes come first in the vocabulary
_BOS, _AUDIO, _BEGIN_AUDIO, _TEXT_TO_AUDIO, _AUDIO_TO_TEXT, _PAD = 1, 24, 25, 36, 35, 11

_FIRST_FRAMES = 20  # the curriculum begins with items this short
_CURRICULUM = 0.25  # share of the time until all lengths are in
SHORT_REFERENCES = 0.45  # share of the time in which references stay short, since they cost most
_OTHER_LANGUAGE = 0.1  # references in another language than the text
_LONG_REFERENCES = 0.1
_JOINED_SHARE, _MAX_JOINED = 0.15, 4  # items in a row, since the corpus has few that last as long as a segment may
_MAX_FRAMES = 150
_POOL = 3000
# From this share of the time on, what only covers words becomes rarer, down to so much of its part at the end: how
# speech is to sound comes from the other teachers.
_COVERED, _LEFT_OF_COVERAGE = 0.4, 0.2


@dataclass(frozen=True, eq=False)
class Example:
    """One item of the corpus as codes; T frames."""

    voice: int
    language: str
    text_ids: list[int]
    codes: np.ndarray  # [T, K] int16, codec alphabet
    aligned: np.ndarray  # [T] int16, text token that sounds
    labels: np.ndarray  # [T, labels per frame] uint8, phonemes
    covers: bool = False  # said by a quick teacher, for its words

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.codes)


@dataclass(frozen=True, eq=False)
class Batch:
    """B padded sequences of T positions."""

    text_ids: Tensor  # [B, T] int64, PAD where a frame or nothing stands
    frames: Tensor  # [B, T, K] int64 audio tokens; valid where is_frame
    is_frame: Tensor  # [B, T] bool
    semantic_target: Tensor  # [B, T] int64 audio tokens, -100 where nothing is predicted
    acoustic_target: Tensor  # [B, T, A] int64 codes; valid where is_speech
    is_speech: Tensor  # [B, T] bool, where the hidden state makes a frame that is not the end
    aligned: Tensor  # [B, T] int64, position of the text token that sounds
    labels: Tensor  # [B, T, labels per frame] int64 phonemes; valid where is_speech

    def to(self, device: torch.device) -> Batch:
        """Move all of it."""
        return Batch(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class ExampleSource:
    """Examples of the corpus and references for them."""

    def __init__(self, examples: list[Example], rng: random.Random) -> None:
        self._examples = examples
        self._natural = [example for example in examples if not example.covers] or examples
        self._rng = rng
        self._by_voice: dict[tuple[int, str], list[Example]] = {}
        self._languages: dict[int, set[str]] = {}
        for example in examples:
            self._by_voice.setdefault((example.voice, example.language), []).append(example)
            self._languages.setdefault(example.voice, set()).add(example.language)

    def reference(self, example: Example, low: int, high: int) -> np.ndarray | None:
        """Join other items of the voice into `low` to `high` frames: [N, K] codes; None if it has no others."""
        wanted = self._rng.randint(low, high)
        language = example.language
        if self._rng.random() < _OTHER_LANGUAGE:
            language = self._rng.choice(sorted(self._languages.get(example.voice, {language})))
        pool = self._by_voice.get((example.voice, language), [])
        parts: list[np.ndarray] = []
        for _ in range(12 if pool else 0):
            other = self._rng.choice(pool)
            if other is not example:
                parts.append(other.codes)
            if sum(map(len, parts)) >= wanted:
                break
        if not parts:
            return None
        joined = np.concatenate(parts)
        start = self._rng.randint(0, max(0, len(joined) - wanted))
        return joined[start : start + wanted]

    def lengthen(self, example: Example, limit: int) -> Example:
        """Follow an example with others of its voice and language, up to `limit` frames."""
        parts = [example]
        pool = self._by_voice[(example.voice, example.language)]
        for _ in range(_MAX_JOINED - 1):
            other = self._rng.choice(pool)
            if sum(part.num_frames for part in parts) + other.num_frames <= limit:
                parts.append(other)
        return join_examples(parts)

    def draw(self, progress: float) -> tuple[Example, np.ndarray] | None:
        """Draw an example and a reference as they are due at this progress of the training, 0 to 1."""
        limit = _FIRST_FRAMES + int((_MAX_FRAMES - _FIRST_FRAMES) * min(1.0, progress / _CURRICULUM))
        example = self._rng.choice(self._examples)
        if example.covers and self._rng.random() > _share_of_coverage(progress):
            example = self._rng.choice(self._natural)
        if example.num_frames > limit:
            return None
        if progress >= _CURRICULUM and self._rng.random() < _JOINED_SHARE:
            example = self.lengthen(example, _MAX_FRAMES)
        low, high = (10, 30) if progress < SHORT_REFERENCES else (25, 80)
        if progress >= SHORT_REFERENCES and self._rng.random() < _LONG_REFERENCES:
            low, high = 80, 125
        reference = self.reference(example, low, high)
        return None if reference is None else (example, reference)

    def batches(self, clock_progress: list[float], max_positions: int) -> Iterator[list[tuple[Example, np.ndarray]]]:
        """Yield batches of similar length for ever, short items first; `clock_progress[0]` is read as it moves."""
        while True:
            drawn: list[tuple[Example, np.ndarray]] = []
            while len(drawn) < _POOL:
                pair = self.draw(clock_progress[0])
                if pair is not None:
                    drawn.append(pair)
            drawn.sort(key=_length)
            groups = group_by_length(drawn, _length, max_positions)
            self._rng.shuffle(groups)
            # A pool is left early, or the curriculum would lag behind the clock.
            yield from groups[: max(1, len(groups) // 2)]


def _share_of_coverage(progress: float) -> float:
    return 1 - (1 - _LEFT_OF_COVERAGE) * max(0.0, progress - _COVERED) / (1 - _COVERED)


def join_examples(parts: list[Example]) -> Example:
    """Make one example of several of one voice and language, their texts with a space between."""
    text_ids: list[int] = []
    aligned: list[np.ndarray] = []
    for part in parts:
        if text_ids:
            text_ids.append(_SPACE)
        aligned.append(np.minimum(part.aligned, len(part.text_ids) - 1) + len(text_ids))
        text_ids += part.text_ids
    return Example(
        voice=parts[0].voice,
        language=parts[0].language,
        text_ids=text_ids,
        codes=np.concatenate([part.codes for part in parts]),
        aligned=np.concatenate(aligned),
        labels=np.concatenate([part.labels for part in parts]),
    )


def _length(pair: tuple[Example, np.ndarray]) -> int:
    example, reference = pair
    return len(reference) + len(example.text_ids) + example.num_frames + 7


def lay_out(pairs: list[tuple[Example, np.ndarray]], num_codebooks: int) -> Batch:
    """Write sequences as the runtime's prompt has them, then their frames; see `voxtral.text.prompt`."""
    size = (len(pairs), max(map(_length, pairs)))
    text_ids = np.full(size, _PAD, np.int64)
    frames = np.full((*size, num_codebooks), EMPTY_AUDIO, np.int64)
    is_frame, is_speech = np.zeros(size, bool), np.zeros(size, bool)
    semantic_target = np.full(size, -100, np.int64)
    acoustic_target = np.zeros((*size, num_codebooks - 1), np.int64)
    aligned = np.zeros(size, np.int64)
    labels = np.zeros((*size, LABELS_PER_FRAME), np.int64)
    for row, (example, reference) in enumerate(pairs):
        voice_stop = 2 + len(reference) + 1
        text_start = voice_stop + 1
        text_stop = text_start + len(example.text_ids)
        text_ids[row, :2] = (_BOS, _BEGIN_AUDIO)
        frames[row, 2 : voice_stop - 1] = reference + NUM_SPECIAL_CODES
        frames[row, voice_stop - 1, 0] = END_AUDIO
        is_frame[row, 2:voice_stop] = True
        text_ids[row, voice_stop] = _TEXT_TO_AUDIO
        text_ids[row, text_start:text_stop] = example.text_ids
        text_ids[row, text_stop : text_stop + 2] = (_AUDIO_TO_TEXT, _BEGIN_AUDIO)
        # The last position of the prompt makes frame 0, frame t makes frame t + 1, the last one the end.
        first = text_stop + 1
        speech = slice(first, first + example.num_frames)
        semantic_target[row, speech] = example.codes[:, 0] + NUM_SPECIAL_CODES
        semantic_target[row, first + example.num_frames] = END_AUDIO
        acoustic_target[row, speech] = example.codes[:, 1:]
        is_speech[row, speech] = True
        aligned[row, speech] = text_start + np.minimum(example.aligned, len(example.text_ids) - 1)
        labels[row, speech] = example.labels
        shifted = slice(first + 1, first + 1 + example.num_frames)
        frames[row, shifted] = example.codes + NUM_SPECIAL_CODES
        is_frame[row, shifted] = True
    arrays = (text_ids, frames, is_frame, semantic_target, acoustic_target, is_speech, aligned, labels)
    return Batch(*(torch.from_numpy(array) for array in arrays))


def load_examples(folder: Path, speech: Speech) -> list[Example]:
    """Read the codes of all parts of a corpus that have been encoded into a folder."""
    tokenizer = LetterTokenizer(build_vocabulary())
    examples: list[Example] = []
    for name in speech.names:
        path = codes_path(folder, name)
        if not path.is_file():
            continue
        arrays = {key: tensor.numpy() for key, tensor in load_weights(path).items()}
        codes = np.concatenate((arrays["semantic"][:, None], arrays["acoustic"].astype(np.int16)), axis=1)
        for index, item in enumerate(speech.read_part(name).items):
            place = slice(arrays["offsets"][index], arrays["offsets"][index + 1])
            ids, _ = tokenizer.encode(item.text)
            if ids:
                aligned, labels = arrays["aligned"][place], arrays["labels"][place]
                covers = is_coverage(name)
                examples.append(Example(item.voice, item.language, ids, codes[place], aligned, labels, covers=covers))
    return examples


def split_examples(examples: list[Example], num_held: int) -> tuple[list[Example], list[Example]]:
    """Keep some examples from training, the same ones in every run: those held, and the rest."""
    shuffled = list(examples)
    random.Random(0).shuffle(shuffled)
    return shuffled[:num_held], shuffled[num_held:]
