"""What the corpus' teachers say of all that judges ask for, kept in files: python -m benchmarks.quality.takes FOLDER.

    python -m benchmarks.quality.takes build/nano4/takes --teachers build/nano4/teachers --part 0 --parts 2

The teachers live in an environment of their own (`recipes/tools.txt`), which has no torch, and take half an hour of one
core for all; so they are asked there, once, and a judge is given the folder. What is there is not said again, and a run
that is stopped goes on. Each process takes every `parts`-th language. Files of a folder:

    voices.json       presets and held-out voices
    KEY.i16           samples of takes, end to end, 24 kHz
    KEY.jsonl         a take a line: language, voice, text, start and number of samples, phonemes and words with times
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.quality.cases import (
    LONG_SECONDS,
    MOST_TIMED,
    Studio,
    collect_sentences,
    list_lines,
    list_long_lines,
    read_sentences,
)
from benchmarks.quality.letter_texts import list_probes
from benchmarks.quality.odd_texts import read_odd_texts
from benchmarks.quality.teachers import CorpusSpeaker, Take, Teacher, TeacherVoice
from train.corpus import CorpusError
from train.data import SAMPLE_RATE
from train.sounds import IPA, SOUNDS, Sounds
from train.teacher import SilentTextError, TeacherError
from train.texts import LANGUAGES

_VOICES = "voices.json"
_PURPOSES = ("judge", "times", "letters", "cuts")
_USUAL = ("judge", "times", "letters")

Key = tuple[str, str, str]
"""Language, voice and text."""


class Takes:
    """A folder of takes, of which live teachers say what is missing.

    Args:
        folder: of the takes.
        live: says what is not there; None if nobody does.

    Raises:
        TeacherError: the folder is empty, and nobody could fill it.
    """

    alphabet = IPA
    has_sound = True

    def __init__(self, folder: Path, live: Teacher | None = None) -> None:
        self._folder, self._live = folder, live
        path = folder / _VOICES
        if live is not None:
            folder.mkdir(parents=True, exist_ok=True)
            _write_whole(path, json.dumps([asdict(voice) for voice in live.voices], ensure_ascii=False, indent=1))
        elif not path.is_file():
            raise TeacherError(
                f"{path} is missing; a folder of takes has it; python -m benchmarks.quality.takes makes one"
            )
        voices = json.loads(path.read_text(encoding="utf-8"))
        self.voices = [TeacherVoice(**voice | {"languages": tuple(voice["languages"])}) for voice in voices]
        self._known: dict[Key, tuple[str, dict]] = {}
        for listing in sorted(folder.glob("*.jsonl")):
            for line in listing.read_text(encoding="utf-8").split("\n"):
                with suppress(json.JSONDecodeError):  # a line that a kill cut off
                    found = json.loads(line)
                    self._known[found["language"], found["voice"], found["text"]] = (listing.stem, found)
        self._name = f"{os.getpid()}-{time.time_ns()}"

    def say(self, text: str, language: str, voice: str) -> Take:
        """See Teacher.

        Raises:
            TeacherError: it is not there, and nobody is here to say it.
        """
        found = self._known.get((language, voice, text))
        if found is not None:
            return self._read(*found)
        if self._live is None:
            raise TeacherError(
                f"{self._folder} has no take of {len(text)} characters in {language} by {voice}; all that is judged "
                "must be there; run python -m benchmarks.quality.takes again, or give --teachers"
            )
        take = self._live.say(text, language, voice)
        self._keep((language, voice, text), take)
        return take

    def _read(self, name: str, found: dict) -> Take:
        samples = np.fromfile(
            self._folder / f"{name}.i16", "<i2", count=found["num_samples"], offset=2 * found["start"]
        )
        return Take(
            samples.astype(np.float32) / 32768,
            len(samples) / SAMPLE_RATE,
            [(start, symbol) for start, symbol in found["phonemes"]],
            [(start, first, length) for start, first, length in found["words"]],
        )

    def _keep(self, key: Key, take: Take) -> None:
        # A process has files of its own, and a line comes after its samples.
        audio = self._folder / f"{self._name}.i16"
        start = audio.stat().st_size // 2 if audio.is_file() else 0
        samples = np.clip(np.rint(np.asarray(take.samples) * 32768), -32768, 32767).astype("<i2")
        with audio.open("ab") as file:
            file.write(samples.tobytes())
        language, voice, text = key
        found = {
            "language": language, "voice": voice, "text": text, "start": start, "num_samples": len(samples),
            "phonemes": [[round(at, 4), name] for at, name in take.phonemes],
            "words": [[round(at, 4), first, length] for at, first, length in take.words],
        }  # fmt: skip
        with (self._folder / f"{self._name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(found, ensure_ascii=False) + "\n")
        self._known[key] = (self._name, found)


def _write_whole(path: Path, content: str) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, path)


def say_all(studio: Studio, language: str, split: str, limit: int | None) -> Iterator[str]:
    """Say what `python -m benchmarks.quality`, its clones, quantisation and cloning ask for in a language."""
    yield from _name_cases(studio, language, studio.preset_cases(split, language, limit))
    if any(language in voice.languages for voice in studio.held_out):
        yield from _name_cases(studio, language, studio.held_out_cases(split, language, limit))

    def say(text: str) -> tuple[int, list[int]]:
        samples, numbers = studio.say(text, language, studio.presets_of(language)[0])
        return len(samples if samples is not None else ()), numbers

    yield f"{len(collect_sentences(read_sentences(split, language), say, LONG_SECONDS))} sentences of a long text"


def _name_cases(studio: Studio, language: str, cases: Sequence) -> Iterator[str]:
    yield f"{len(cases)} sentences by {', '.join(sorted({case.voice for case in cases}))}"
    for voice in sorted({case.voice for case in cases}):
        studio.reference(language, voice)
    for voice in sorted({name for case in cases for name in case.group}):
        studio.enrolment(language, voice)
    yield "clips of their voices"


def say_times(studio: Studio, language: str, split: str, limit: int | None) -> Iterator[str]:
    """Say what `benchmarks.quality.times` asks for."""
    most = min(limit or MOST_TIMED, MOST_TIMED)
    lines = [*list_lines(split, language, most), *list_long_lines(split, language, most)]
    for text, voice, _ in lines:
        studio.take(text, language, voice)
    yield f"{len(lines)} texts for word times"


def say_letters(studio: Studio, language: str, split: str, limit: int | None) -> Iterator[str]:
    """Say what `benchmarks.quality.letters` asks for."""
    count = 0
    for _, text in list_probes(language):
        for voice in studio.presets_of(language):
            with suppress(SilentTextError):
                studio.take(text, language, voice)
                count += 1
    yield f"{count} letters and short words"


def say_cuts(studio: Studio, language: str, split: str, limit: int | None) -> Iterator[str]:
    """Say what `benchmarks.quality.cuts` asks for, which is as much again as all else."""
    texts = [text for each in ("dev", "test") for text in read_sentences(each, language)[:limit]]
    for text in texts:
        for voice in studio.presets_of(language):
            studio.take(text, language, voice)
    twins = [" ".join(filter(None, text.parts)) for text in read_odd_texts([language])[:limit]]
    for text in twins:
        studio.take(text, language, studio.presets_of(language)[0])
    yield f"{len(texts)} sentences in all presets, {len(twins)} plain twins of odd texts"


_SAY: dict[str, Callable[[Studio, str, str, int | None], Iterator[str]]] = {
    "judge": say_all,
    "times": say_times,
    "letters": say_letters,
    "cuts": say_cuts,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Say one process's languages."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--teachers", type=Path, required=True, help="what train.packages made")
    parser.add_argument("--for", dest="purposes", nargs="+", choices=_PURPOSES, default=list(_USUAL))
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    parser.add_argument("--limit", type=int, help="sentences of a language")
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        takes = Takes(options.folder, CorpusSpeaker(options.teachers))
        studio = Studio(Sounds(SOUNDS, {}), takes, with_word_lists=False)
        for language in options.languages[options.part :: options.parts]:
            for purpose in options.purposes:
                for done in _SAY[purpose](studio, language, options.split, options.limit):
                    print(f"{time.strftime('%H:%M:%S')} {language}: {done}", flush=True)
    except (CorpusError, TeacherError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
