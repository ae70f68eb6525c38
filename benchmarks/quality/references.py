"""What is to be heard of a text, as the teacher says it, kept in files so that measuring needs no teacher.

    python -m benchmarks.quality.references benchmarks/quality/recogniser.safetensors

writes `benchmarks/texts/odd/references.jsonl`, and the same beside the sentences of the checks and those with numbers.
Run it after a change of these texts, with espeak-ng at hand; a test fails where a reference is missing or stale.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.acoustics import SAMPLE_RATE
from benchmarks.quality.cases import Studio
from benchmarks.quality.coverage import Reference, join_parts
from benchmarks.quality.number_texts import NUMBER_TEXTS, read_sentences
from benchmarks.quality.odd_texts import ODD_TEXTS, OddText, read_odd_texts
from train.corpus import CorpusError, Phonemes
from train.recogniser import Recogniser
from train.teacher import SilentTextError
from train.texts import LANGUAGES

CHECK_TEXTS = ODD_TEXTS.parent / "checks"
CHECK_SETS = ("calibration", "judging", "long")
"""Good sentences for thresholds, others for judging, and texts that are too long for one segment."""

_FILE = "references.jsonl"


@dataclass(frozen=True)
class Spelling:
    """What the teacher makes of a text.

    Attributes:
        id: of the text.
        digest: of what was spelled, so that a stale one is found.
        parts: mnemonics of phonemes, one sequence for each part of the text (`OddText.parts`).
        seconds: that the teacher needs in the first preset of the language, gaps with words included.
    """

    id: str
    digest: str
    parts: tuple[tuple[str, ...], ...]
    seconds: float

    def reference(self, phonemes: Phonemes, *, judged: Collection[int] = ()) -> Reference:
        """Number the phonemes as a recogniser does.

        Args:
            phonemes: of the recogniser.
            judged: numbers of gaps whose words are to be said too.
        """
        parts = [[phonemes.ids[name] for name in part] for part in self.parts]
        return join_parts(parts, judged=judged)


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


def read_spellings(folder: Path) -> dict[str, Spelling]:
    """Read the references of a folder of texts, by id.

    Raises:
        CorpusError: there are none.
    """
    path = folder / _FILE
    if not path.is_file():
        raise CorpusError(f"{path} is missing; what is to be heard is kept there; restore it, or make it anew")
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    found: dict[str, Spelling] = {}
    for line in lines:
        parts = tuple(tuple(part.split()) for part in line["parts"])
        found[line["id"]] = Spelling(line["id"], line["digest"], parts, line["seconds"])
    return found


def spell(texts: Iterable[OddText], studio: Studio, names: Mapping[int, str]) -> list[Spelling]:
    """Let the teacher say texts.

    Args:
        texts: what is said.
        studio: has the teacher.
        names: mnemonics of phonemes by number.
    """
    voices = {voice.language: voice.name for voice in reversed(studio.presets)}
    spelled: list[Spelling] = []
    for text in texts:
        parts: list[tuple[str, ...]] = []
        for part in text.parts:
            try:
                numbers = studio.say(part, text.language, voices[text.language])[1] if part else []
            except SilentTextError:  # punctuation between two gaps
                numbers = []
            parts.append(tuple(names[number] for number in numbers))
        samples, _ = studio.say(" ".join(filter(None, text.parts)), text.language, voices[text.language])
        seconds = round(len(samples) / SAMPLE_RATE, 2)
        spelled.append(Spelling(text.id, digest(text.parts), tuple(parts), seconds))
    return spelled


def write_spellings(spellings: Iterable[Spelling], folder: Path) -> None:
    """Write the references of a folder of texts."""
    lines = (
        {"id": one.id, "digest": one.digest, "seconds": one.seconds, "parts": [" ".join(part) for part in one.parts]}
        for one in spellings
    )
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / _FILE).write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write all references."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("recogniser", type=Path, help="whose phonemes are meant")
    options = parser.parse_args(arguments)
    phonemes = Recogniser.load(options.recogniser).phonemes
    names = {number: name for name, number in phonemes.ids.items()}
    studio = Studio(phonemes, with_word_lists=False)
    write_spellings(spell(read_odd_texts(), studio, names), ODD_TEXTS)
    readings = (text for sentence in read_sentences() for text in sentence.as_texts())
    write_spellings(spell(readings, studio, names), NUMBER_TEXTS)
    for name in CHECK_SETS:
        write_spellings(spell(read_check_texts(name), studio, names), CHECK_TEXTS / name)


if __name__ == "__main__":
    main()
