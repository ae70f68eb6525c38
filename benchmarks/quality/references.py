"""What is to be heard of a text, as its teacher says it, kept in files so that measuring needs no teacher.

    python -m benchmarks.quality.references                                  espeak-ng, in its mnemonics
    python -m benchmarks.quality.references --teachers build/nano4/teachers  a corpus' teachers, in Kokoro's symbols

The first writes `references.jsonl` beside the odd texts, the sentences of the checks and those with numbers; the second
writes `references-ipa.jsonl` beside these and beside the sentences of test and dev, and `distractors/LANGUAGE.txt`. It
runs in the environment of the teachers, needs the word lists of training (`--word-lists`), and takes minutes. Run both
after a change of these texts; a test fails where a reference is missing or stale.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.quality.cases import (
    DISTRACTOR_SEED,
    DISTRACTORS,
    MIN_DISTRACTOR_PHONEMES,
    NUM_DISTRACTORS,
    TEXTS,
    compose_texts,
)
from benchmarks.quality.cases import read_sentences as read_split
from benchmarks.quality.coverage import Reference, join_parts
from benchmarks.quality.number_texts import NUMBER_TEXTS, read_sentences
from benchmarks.quality.odd_texts import ODD_TEXTS, OddText, read_odd_texts
from benchmarks.quality.teachers import CorpusSpeaker, EspeakSpeaker, Take, Teacher, TeacherVoice
from train.corpus import MNEMONICS, CorpusError, Phonemes, is_sound
from train.sounds import IPA, SOUNDS, Sounds
from train.teacher import SilentTextError
from train.texts import LANGUAGES, load_texts

CHECK_TEXTS = ODD_TEXTS.parent / "checks"
CHECK_SETS = ("calibration", "judging", "long")
"""Good sentences for thresholds, others for judging, and texts that are too long for one segment."""
SPLITS = ("test", "dev")

FILES = {MNEMONICS: "references.jsonl", IPA: "references-ipa.jsonl"}
"""Where the references in each alphabet are kept."""

Spell = Callable[[str, str], Sequence[str]]
"""(text, language) to names of phonemes, none for a text that makes no sound."""
Measure = Callable[[str, str], float]
"""(text, language) to the seconds that espeak-ng needs."""


@dataclass(frozen=True)
class Spelling:
    """What the teacher makes of a text.

    Attributes:
        id: of the text; its language comes first.
        digest: of what was spelled, so that a stale one is found.
        parts: names of phonemes, one sequence for each part of the text (`OddText.parts`).
        seconds: that espeak-ng needs, in the first preset of the language, gaps with words included.
    """

    id: str
    digest: str
    parts: tuple[tuple[str, ...], ...]
    seconds: float

    @property
    def language(self) -> str:
        """Language of the text."""
        return self.id[:2]

    def numbers(self, phonemes: Phonemes) -> list[list[int]]:
        """Number the phonemes of each part as a recogniser does."""
        return [phonemes.spell([(0.0, name) for name in part], self.language) for part in self.parts]

    def reference(self, phonemes: Phonemes, *, judged: Collection[int] = ()) -> Reference:
        """Number the phonemes as a recogniser does.

        Args:
            phonemes: of the recogniser.
            judged: numbers of gaps whose words are to be said too.
        """
        return join_parts(self.numbers(phonemes), judged=judged)


def digest(parts: Sequence[str]) -> str:
    """Name the parts of a text shortly."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def read_check_texts(name: str, languages: Sequence[str] = LANGUAGES) -> list[OddText]:
    """Read one of CHECK_SETS; the texts are plain, so that each is its own twin.

    Raises:
        CorpusError: a file is missing.
    """
    found: list[OddText] = []
    for language in languages:
        path = CHECK_TEXTS / name / f"{language}.txt"
        if not path.is_file():
            raise CorpusError(f"{path} is missing; every language has sentences for the checks; restore it")
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [OddText(f"{language}-{name}-{n}", language, name, line, line) for n, line in enumerate(lines, 1)]
    return found


def read_split_texts(split: str, languages: Sequence[str] = LANGUAGES) -> list[OddText]:
    """Read the sentences of test or dev; each is its own twin."""
    return [
        OddText(f"{language}-{split}-{number}", language, split, text, text)
        for language in languages
        for number, text in enumerate(read_split(split, language))
    ]


def read_spellings(folder: Path, alphabet: str = MNEMONICS) -> dict[str, Spelling]:
    """Read the references of a folder of texts, by id.

    Args:
        folder: of the texts.
        alphabet: that the recogniser answers in.

    Raises:
        CorpusError: there are none.
    """
    path = folder / FILES[alphabet]
    if not path.is_file():
        raise CorpusError(f"{path} is missing; what is to be heard is kept there; restore it, or make it anew")
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    found: dict[str, Spelling] = {}
    for line in lines:
        parts = tuple(tuple(part if alphabet == IPA else part.split()) for part in line["parts"])
        found[line["id"]] = Spelling(line["id"], line["digest"], parts, line["seconds"])
    return found


def spell(texts: Iterable[OddText], spell_text: Spell, measure: Measure) -> Iterator[Spelling]:
    """Let a teacher spell texts."""
    for text in texts:
        parts = tuple(tuple(spell_text(part, text.language)) if part else () for part in text.parts)
        seconds = measure(" ".join(filter(None, text.parts)), text.language)
        yield Spelling(text.id, digest(text.parts), parts, round(seconds, 2))


def write_spellings(spellings: Iterable[Spelling], folder: Path, alphabet: str = MNEMONICS) -> None:
    """Write the references of a folder of texts."""
    between = "" if alphabet == IPA else " "
    lines = (
        {
            "id": one.id,
            "digest": one.digest,
            "seconds": one.seconds,
            "parts": [between.join(part) for part in one.parts],
        }
        for one in spellings
    )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / FILES[alphabet]).write_text(text, encoding="utf-8")


class ReferenceSpeaker:
    """A corpus' teachers of whom only the phonemes of the test sentences are known: nothing of theirs can be heard."""

    alphabet = IPA
    has_sound = False

    def __init__(self) -> None:
        self.voices = [
            TeacherVoice(f"{language}_{sex}1", "preset", language, (language,), "preset")
            for language in LANGUAGES
            for sex in "fm"
        ]
        self._takes: dict[tuple[str, str], Take] = {}
        for split in SPLITS:
            spellings = read_spellings(TEXTS / split, IPA)
            for text in read_split_texts(split):
                one = spellings[text.id]
                phonemes = [(0.0, name) for part in one.parts for name in part]
                self._takes[text.language, text.text] = Take(None, one.seconds, phonemes)

    def say(self, text: str, language: str, voice: str) -> Take:
        """See Teacher; every voice says the same.

        Raises:
            CorpusError: it is no sentence of test or dev.
        """
        take = self._takes.get((language, text))
        if take is None:
            raise CorpusError(
                f"a text of {len(text)} characters in {language} has no reference; only sentences of test and dev "
                "have; give --teachers or --takes"
            )
        return take


def list_sets() -> Iterator[tuple[Path, list[OddText], Collection[str]]]:
    """List all that has references: folder, texts, and the alphabets that they are kept in."""
    both = (MNEMONICS, IPA)
    yield ODD_TEXTS, read_odd_texts(), both
    yield NUMBER_TEXTS, [text for sentence in read_sentences() for text in sentence.as_texts()], both
    for name in CHECK_SETS:
        yield CHECK_TEXTS / name, read_check_texts(name), both
    for split in SPLITS:
        yield TEXTS / split, read_split_texts(split), (IPA,)


def use_espeak(teacher: Teacher) -> tuple[Spell, Measure]:
    """Spell and measure as espeak-ng says a text in the first preset of its language; no sound is twice in a row."""
    voices = {str(voice.language): voice.name for voice in reversed(teacher.voices) if voice.split == "preset"}

    def spell_text(text: str, language: str) -> list[str]:
        try:
            take = teacher.say(text, language, voices[language])
        except SilentTextError:  # punctuation between two gaps
            return []
        names = [name for _, name in take.phonemes if is_sound(name)]
        return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]

    def measure(text: str, language: str) -> float:
        return teacher.say(text, language, voices[language]).seconds

    return spell_text, measure


def write_distractors(speaker: CorpusSpeaker, root: Path) -> None:
    """Write sentences composed as training texts are, which no test sentence is, in Kokoro's symbols."""
    DISTRACTORS.mkdir(exist_ok=True)
    sounds = Sounds(SOUNDS, {})
    for language in LANGUAGES:
        avoid = [text for split in SPLITS for text in read_split(split, language)]
        source = load_texts(language, with_word_list=True, root=root)
        spelled = (speaker.spell(text, language) for text in compose_texts(source, DISTRACTOR_SEED, avoid))
        long = (
            one
            for one in spelled
            if len(sounds.spell([(0.0, name) for name in one], language)) >= MIN_DISTRACTOR_PHONEMES
        )
        lines = ("".join(one) + "\n" for one in islice(long, NUM_DISTRACTORS))
        (DISTRACTORS / f"{language}.txt").write_text("".join(lines), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all references of one alphabet."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--teachers", type=Path, help="what train.packages made; espeak-ng without")
    parser.add_argument("--word-lists", type=Path, default=Path("/"), help="root of the system's word lists")
    options = parser.parse_args(arguments)
    alphabet = MNEMONICS if options.teachers is None else IPA
    speaker = None
    if options.teachers is None:
        spell_text, measure = use_espeak(EspeakSpeaker())
    else:
        # Never both: there is one espeak-ng in a process.
        speaker = CorpusSpeaker(options.teachers)
        spell_text, measure = speaker.spell, speaker.measure
    for folder, texts, alphabets in list_sets():
        if alphabet in alphabets:
            write_spellings(list(spell(texts, spell_text, measure)), folder, alphabet)
            print(f"{folder / FILES[alphabet]}: {len(texts)}", flush=True)
    if speaker is not None:
        write_distractors(speaker, options.word_lists)


if __name__ == "__main__":
    main()
