"""The presets of a checkpoint: clips of about 4 s, spoken by the teacher for it or taken from a corpus of shards.

Read next: `train.export`, which turns them into rows.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from train.data import SAMPLE_RATE, Voice, list_voices, trim
from train.shards import Shard, ShardCorpus, ShardItem, lateness
from train.teacher import SpeakingTeacher, TeacherSource
from train.texts import load_texts

_REFERENCE_SECONDS = (3.3, 4.1)
_LOW, _HIGH = (round(seconds * SAMPLE_RATE) for seconds in _REFERENCE_SECONDS)
# Kept behind the last word where an item is cut.
_TAIL = round(0.05 * SAMPLE_RATE)
_KINDS = ("sentence", "question", "dialogue", "list", "long")


@dataclass(frozen=True, eq=False)
class Preset:
    """A preset and what it is made of.

    Attributes:
        name: such as "en_f1".
        language: code.
        is_female: or male.
        clip: [S] float32 at 24 kHz.
    """

    name: str
    language: str
    is_female: bool
    clip: np.ndarray


def spoken_presets(source: TeacherSource) -> Iterator[Preset]:
    """Let a teacher speak a clip in the voice of each preset."""
    teacher = source.make()
    for voice in list_voices(source=source):
        if voice.split == "preset":
            yield Preset(voice.name, str(voice.language), "_f" in voice.name, reference_clip(teacher, voice))


def reference_clip(teacher: SpeakingTeacher, voice: Voice, seed: int = 0) -> np.ndarray:
    """Let the teacher speak about 4 s in a preset's voice and language: [S] float32 at 24 kHz."""
    language = voice.language or "en"
    sentences = [text for text in load_texts(language).sentences if 2 <= len(text.split()) <= 10]
    rng = random.Random(seed)
    for _ in range(500):
        text = " ".join(rng.sample(sentences, rng.choice((1, 2, 3))))
        samples, _ = trim(teacher.say(text, language, voice.speaker))
        if _LOW <= len(samples) <= _HIGH:
            return samples
    raise SystemExit(f"no sentences of {language} last {_REFERENCE_SECONDS} s in voice {voice.name}")


def taken_presets(corpus: ShardCorpus) -> Iterator[Preset]:
    """Take a clip of each preset from the first shard of its language that has one; the same from the same shards.

    Raises:
        SystemExit: a preset says nothing of that length in any of them.
    """
    for number, voice in enumerate(corpus.voices):
        if voice.split != "preset":
            continue
        language = str(voice.language)
        for name in corpus.names:
            if name.endswith(f"-{language}"):
                clip = _find_clip(corpus.read(name), number, language)
                if clip is not None:
                    yield Preset(voice.name, language, voice.sex == "f", clip)
                    break
        else:
            raise SystemExit(f"no item of {voice.name} lasts {_REFERENCE_SECONDS} s; make more shards of {language}")


def _find_clip(shard: Shard, voice: int, language: str) -> np.ndarray | None:
    for item in shard.items:
        if (item.voice, item.language) == (voice, language) and item.kind in _KINDS:
            length = _fitting(item)
            if length is not None:
                return shard.samples[item.start : item.start + length].astype(np.float32) / 32768
    return None


def _fitting(item: ShardItem) -> int | None:
    """Tell how many samples of an item make a reference: all, or those up to the end of a word; None if none do."""
    if item.num_samples <= _HIGH:
        return item.num_samples if item.num_samples >= _LOW else None
    tail = _TAIL - lateness(item.teacher)
    ends = [end + tail for _, end, *_ in item.words if _LOW <= end + tail <= _HIGH]
    return max(ends, default=None)
