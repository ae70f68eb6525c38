"""Stage 1: a corpus of the teacher's speech, with the times of phonemes and words.

    python -m train.data build/nano/data --hours 30

Writes for each part k: `audio-k.i16` (mono, 24 kHz, items end to end), `items-k.jsonl`, and once
`corpus.json` (speakers, phonemes). A part that is complete is not made again. About 500 times real
time on one core. Read next: `train.recogniser`, `train.codec`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr

from train.teacher import (
    ESPEAK,
    SilentTextError,
    Speaker,
    SpeakingTeacher,
    TeacherError,
    TeacherSource,
    Utterance,
)
from train.texts import LANGUAGES, TextSourceError, load_texts, missing_word_lists

SAMPLE_RATE = 24000

# Share of each language; those with a hard spelling get more.
_SHARES = {"en": 2.2, "fr": 1.7, "de": 1.2, "nl": 1.2, "ar": 3.0, "hi": 1.8}

# Two voices for each language, (variant, pitch): chosen to sound unlike each other, and to be understood by the
# recogniser in noise and through the codec (docs/LOG.md).
PRESETS = {
    "en": (("f2", 58), ("m3", 40)),
    "fr": (("f3", 58), ("m7", 48)),
    "de": (("f4", 55), ("Alex", 45)),
    "es": (("steph", 58), ("Nguyen", 42)),
    "it": (("belinda", 55), ("max", 46)),
    "pt": (("f5", 60), ("Henrique", 44)),
    "nl": (("f1", 56), ("edward", 44)),
    "ar": (("f4", 56), ("m7", 44)),
    "hi": (("f1", 56), ("m5", 44)),
    "ja": (("Andrea", 60), ("adam", 46)),
}

# Variants that nothing in training ever hears: not the codec, not the recogniser, not the model.
HELD_OUT = ("Alicia", "Gene", "announcer", "m8", "marcelo", "sandro", "shelby", "zac")

_PRESET_SHARE = 0.45
_ITEMS_PER_SPEAKER = 6  # changing the voice of the teacher costs more than a sentence
_AUDIBLE = 200  # of 32768
_LEAD_SECONDS, _TAIL_SECONDS = 0.05, 0.1
_MIN_SECONDS, _MAX_SECONDS = 0.25, 12.0
_GAIN = 0.9


@dataclass(frozen=True)
class Voice:
    """A speaker of the corpus and what it is for."""

    name: str
    speaker: Speaker
    split: str  # preset, train or held
    language: str | None  # of a preset


@dataclass(frozen=True, eq=False)
class Item:
    """One utterance of the corpus; times in seconds from its first sample."""

    start: int  # first sample in the file of its part
    num_samples: int
    text: str
    language: str
    voice: int  # index into the voices of the corpus
    phonemes: list[tuple[float, str]]
    words: list[tuple[float, int, int]]


def list_voices(seed: int = 7, *, source: TeacherSource = ESPEAK) -> list[Voice]:
    """Name all voices: 20 presets, 250 or so to train on, 8 held out.

    Args:
        seed: of the pitches and rates.
        source: of the variants.
    """
    rng = random.Random(seed)
    voices = [
        Voice(f"{language}_{sex}1", Speaker(variant, pitch, 165), "preset", language)
        for language, pair in PRESETS.items()
        for sex, (variant, pitch) in zip("fm", pair, strict=True)
    ]
    for variant in source.list_variants():
        if variant in HELD_OUT:
            speaker = Speaker(variant, rng.randint(35, 65), rng.randint(155, 175))
            voices.append(Voice(f"held_{variant}", speaker, "held", None))
            continue
        for number in range(rng.choice((1, 2))):
            speaker = Speaker(variant, rng.randint(25, 75), rng.randint(150, 185), rng.randint(35, 65))
            voices.append(Voice(f"train_{variant}_{number}", speaker, "train", None))
    return voices


def trim(utterance: Utterance) -> tuple[np.ndarray, float]:
    """Cut silence around an utterance and resample it.

    Returns:
        [S] float32 in [-1, 1] at 24 kHz, empty if nothing is audible, and the seconds cut from the start.
    """
    loud = np.flatnonzero(np.abs(utterance.samples) > _AUDIBLE)
    if len(loud) == 0:
        return np.zeros(0, np.float32), 0.0
    first = max(0, loud[0] - int(_LEAD_SECONDS * utterance.sample_rate))
    stop = min(len(utterance.samples), loud[-1] + int(_TAIL_SECONDS * utterance.sample_rate))
    kept = utterance.samples[first:stop].astype(np.float32) / 32768 * _GAIN
    return soxr.resample(kept, utterance.sample_rate, SAMPLE_RATE), first / utterance.sample_rate


def make_part(
    folder: Path, part: int, hours: float, seed: int, *, source: TeacherSource = ESPEAK, with_word_lists: bool = True
) -> None:
    """Write one part of the corpus.

    Args:
        folder: of the corpus.
        part: number of the part.
        hours: of audio in it, at least.
        seed: of voices and texts.
        source: of the teacher.
        with_word_lists: whether texts draw on the word lists of the system.

    Raises:
        TeacherError: the teacher is not installed.
        TextSourceError: a word list is not installed.
    """
    rng = random.Random(seed)
    teacher = source.make()
    voices = list_voices(source=source)
    texts = {language: load_texts(language, with_word_list=with_word_lists) for language in LANGUAGES}
    shares = [_SHARES.get(language, 1.0) for language in LANGUAGES]
    training = [index for index, voice in enumerate(voices) if voice.split == "train"]
    presets = {
        language: [index for index, voice in enumerate(voices) if voice.language == language] for language in LANGUAGES
    }
    position = 0
    audio_path, items_path = folder / f"audio-{part}.i16", folder / f"items-{part}.jsonl"
    with audio_path.open("wb") as audio, items_path.with_suffix(".partial").open("w", encoding="utf-8") as items:
        while position < hours * 3600 * SAMPLE_RATE:
            language = rng.choices(LANGUAGES, shares)[0]
            index = rng.choice(presets[language] if rng.random() < _PRESET_SHARE else training)
            for _ in range(_ITEMS_PER_SPEAKER):
                text = texts[language].draw(rng)
                made = _speak(teacher, text, language, voices[index].speaker)
                if made is None:
                    continue
                samples, phonemes, words = made
                audio.write(np.clip(np.rint(samples * 32767), -32767, 32767).astype("<i2").tobytes())
                item = Item(position, len(samples), text, language, index, phonemes, words)
                items.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
                position += len(samples)
    os.replace(items_path.with_suffix(".partial"), items_path)


def _speak(
    teacher: SpeakingTeacher, text: str, language: str, speaker: Speaker
) -> tuple[np.ndarray, list[tuple[float, str]], list[tuple[float, int, int]]] | None:
    try:
        utterance = teacher.say(text, language, speaker)
    except SilentTextError:
        return None
    samples, cut = trim(utterance)
    if not _MIN_SECONDS <= len(samples) / SAMPLE_RATE <= _MAX_SECONDS:
        return None
    phonemes = [(round(start - cut, 4), name) for start, name in utterance.phonemes]
    words = [(round(start - cut, 4), first, length) for start, first, length in utterance.words]
    return samples, phonemes, words


def write_index(folder: Path, num_parts: int, *, source: TeacherSource = ESPEAK) -> None:
    """Write corpus.json: the voices, and the phonemes that occur, by language."""
    inventories: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    for part in range(num_parts):
        with (folder / f"items-{part}.jsonl").open(encoding="utf-8") as items:
            for line in items:
                item = json.loads(line)
                inventories[item["language"]].update(name for _, name in item["phonemes"])
    index = {
        "voices": [asdict(voice) for voice in list_voices(source=source)],
        "phonemes": {language: sorted(names) for language, names in inventories.items()},
        "num_parts": num_parts,
    }
    partial = folder / "corpus.partial"
    partial.write_text(json.dumps(index, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(partial, folder / "corpus.json")


def check_requirements(source: TeacherSource = ESPEAK) -> None:
    """Make sure that the teacher, the variants that are named here and the word lists are installed.

    Raises:
        TeacherError: espeak-ng or a variant of it is missing.
        TextSourceError: a word list is missing.
    """
    source.make()
    named = {variant for pair in PRESETS.values() for variant, _ in pair} | set(HELD_OUT)
    missing = sorted(named - set(source.list_variants()))
    if missing:
        raise TeacherError(f"the teacher lacks the variants {missing}; the voices need them; install espeak-ng-data")
    paths = missing_word_lists()
    if paths:
        names = ", ".join(str(path) for path in paths)
        raise TextSourceError(f"missing: {names}; training needs the word lists; install them (recipes/nano.sh)")


def make_corpus(folder: Path, options: argparse.Namespace, source: TeacherSource) -> None:
    """Make the parts that are not complete, one process for each, then the index."""
    folder.mkdir(parents=True, exist_ok=True)
    hours = options.hours / options.parts
    settings = {"source": source, "with_word_lists": options.word_lists}
    todo = [part for part in range(options.parts) if not (folder / f"items-{part}.jsonl").is_file()]
    if len(todo) == 1:
        make_part(folder, todo[0], hours, options.seed + todo[0], **settings)
        todo = []
    jobs = [
        multiprocessing.Process(target=make_part, args=(folder, part, hours, options.seed + part), kwargs=settings)
        for part in todo
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if any(job.exitcode for job in jobs):
        raise SystemExit("a part of the corpus failed; its error is above")
    write_index(folder, options.parts, source=source)


def main(arguments: Sequence[str] | None = None, *, source: TeacherSource = ESPEAK) -> None:
    """Make the corpus, or check that it can be made."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hours", type=float, default=30.0)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument(
        "--no-word-lists", dest="word_lists", action="store_false", help="do without the system's word lists"
    )
    parser.add_argument("--check", action="store_true", help="only check that teacher and word lists are installed")
    options = parser.parse_args(arguments)
    if not options.check:
        make_corpus(options.folder, options, source)
        return
    try:
        check_requirements(source)
    except (TeacherError, TextSourceError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
