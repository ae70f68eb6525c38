"""How often the measure of `spoken` is right: speech that has all its words, and speech with a known span cut out.

    python -m benchmarks.quality.cuts hear STATE --shard 1/4     a piece of the work; needs the teacher's speech
    python -m benchmarks.quality.cuts report STATE --json OUT --split test

Sentences of `benchmarks/texts` dev and test, and the twins of the odd texts. Whole, they must not be flagged: as the
teacher says them and as nano does. With a span of words of at least 8 phonemes taken out they must be: out of the
teacher's audio, there also with other speech in its place, and out of the text that nano is given. Against the text
without the span, the whole sentence must show as extra. The rule was chosen on dev; test is what counts.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.acoustics import SAMPLE_RATE
from benchmarks.quality.cases import Studio, read_sentences
from benchmarks.quality.coverage import BAR, Reference, compare
from benchmarks.quality.odd_texts import ODD_TEXTS, OddText, read_odd_texts
from benchmarks.quality.options import (
    add_model_option,
    add_recogniser_option,
    add_teacher_options,
    open_studio,
    require_sound,
)
from benchmarks.quality.references import read_spellings
from benchmarks.quality.spoken import MAX_BATCH, Listener, parse_shard
from benchmarks.quality.spoken_report import rate
from benchmarks.quality.teachers import Take
from train.corpus import SILENCE, CorpusError, collapse
from train.recogniser import Recogniser
from train.teacher import TeacherError
from train.texts import LANGUAGES
from voxtral.engine.options import EngineOptions
from voxtral.errors import VoxtralWarning
from voxtral.tts import VoxtralTTS

# What must not be flagged, what must be as lost, and what must be as extra.
WHOLE = ("teacher", "teacher, twins", "teacher, twins with gaps", "nano")
LOST = ("teacher, cut", "teacher, replaced", "nano, cut")
EXTRA = ("teacher, replaced", "nano, added")

_MIN_LEFT = 6  # phonemes that a cut sentence keeps


@dataclass(frozen=True)
class CutCase:
    """Speech with a known truth.

    Attributes:
        kind: of WHOLE, LOST or EXTRA.
        id: language, split and number of the sentence, or the id of an odd text.
        split: dev or test; twins count as test.
        num_cut: phonemes that were taken out or added; 0 for none.
        heard: numbers of phonemes.
        reference: what the speech is compared with.
        gaps: places in the reference where anything may be heard.
    """

    kind: str
    id: str
    split: str
    num_cut: int
    heard: tuple[int, ...]
    reference: tuple[int, ...]
    gaps: tuple[int, ...] = ()


class Cutter:
    """Makes cases of sentences.

    Args:
        recogniser: hears.
        studio: has the teacher.
        tts: nano.
    """

    def __init__(self, recogniser: Recogniser, studio: Studio, tts: VoxtralTTS) -> None:
        self._recogniser = recogniser
        self._phonemes = recogniser.phonemes
        self._listener = Listener(tts, recogniser, {})
        self._studio = studio

    def cut(self, sentences: Sequence[tuple[str, str, str]]) -> Iterator[CutCase]:
        """Make the cases of sentences (id, split, text); the language leads each id."""
        jobs: list[tuple[OddText, int]] = []
        spelled: dict[str, tuple[str, int, Reference, Reference]] = {}
        for name, split, text in sentences:
            language, number = name[:2], int(name.rsplit("-", 1)[1])
            rng = random.Random(name)
            presets = self._studio.presets_of(language)
            take = self._studio.take(text, language, presets[number % len(presets)])
            samples = np.asarray(take.samples)
            whole = self._phonemes.spell(take.phonemes, language)
            yield self._case("teacher", name, split, 0, self._hear(samples, language), whole)
            yield from self._cut_audio(name, split, take, samples, rng)
            jobs.append((OddText(f"{name}/whole", language, "", text, text), number))
            shortened = self._shorten(text, language, take, rng)
            if shortened is not None:
                shorter, rest = shortened
                jobs.append((OddText(f"{name}/cut", language, "", shorter, shorter), number))
            else:
                rest = ()
            spelled[name] = (split, len(whole) - len(rest), Reference(tuple(whole)), Reference(rest))
        for one in self._listener.listen(jobs):
            name, _, what = one.id.partition("/")
            split, num_cut, whole_reference, rest_reference = spelled[name]
            heard = list(one.heard)
            if what == "cut":
                yield self._case("nano, cut", name, split, num_cut, heard, whole_reference.phonemes)
                continue
            yield self._case("nano", name, split, 0, heard, whole_reference.phonemes)
            if rest_reference.phonemes:
                yield self._case("nano, added", name, split, num_cut, heard, rest_reference.phonemes)

    def say_twins(self, texts: Iterable[OddText]) -> Iterator[CutCase]:
        """Make the cases of the twins of odd texts, the words of their gaps said: once judged and once not."""
        spellings = read_spellings(ODD_TEXTS, self._phonemes.alphabet)
        for text in texts:
            plain = " ".join(filter(None, text.parts))
            take = self._studio.take(plain, text.language, self._studio.presets_of(text.language)[0])
            heard = self._hear(np.asarray(take.samples), text.language)
            said = self._phonemes.spell(take.phonemes, text.language)
            yield self._case("teacher, twins", text.id, "test", 0, heard, said)
            if len(text.parts) > 1:
                reference = spellings[text.id].reference(self._phonemes)
                gaps = tuple(sorted(reference.gaps))
                made = self._case("teacher, twins with gaps", text.id, "test", 0, heard, reference.phonemes)
                yield replace(made, gaps=gaps)

    def _cut_audio(
        self, name: str, split: str, take: Take, samples: np.ndarray, rng: random.Random
    ) -> Iterator[CutCase]:
        """Take a span of words out of the teacher's audio, and put other speech in its place."""
        language = name[:2]
        whole = self._phonemes.spell(take.phonemes, language)
        bounds = [start for start, _, _ in take.words] + [take.phonemes[-1][0] + 1.0]
        spans: list[tuple[int, float, float]] = []
        for first, start in enumerate(bounds[:-1]):
            for stop in bounds[first + 1 :]:
                inside = self._phonemes.spell([one for one in take.phonemes if start <= one[0] < stop], language)
                if len(inside) >= BAR:
                    if len(whole) - len(inside) >= _MIN_LEFT:
                        spans.append((len(inside), start, stop))
                    break
        if not spans:
            return
        num_cut, start, stop = rng.choice(spans)
        first, last = (max(0, round(at * SAMPLE_RATE)) for at in (start, stop))
        cut = np.concatenate([samples[:first], samples[last:]])
        yield self._case("teacher, cut", name, split, num_cut, self._hear(cut, language), whole)
        other = rng.choice(read_sentences("dev" if split == "test" else "test", language))
        filling = np.asarray(self._studio.take(other, language, self._studio.presets_of(language)[0]).samples)
        replaced = np.concatenate([samples[:first], filling[: last - first], samples[last:]])
        yield self._case("teacher, replaced", name, split, num_cut, self._hear(replaced, language), whole)

    def _shorten(self, text: str, language: str, take: Take, rng: random.Random) -> tuple[str, tuple[int, ...]] | None:
        """Leave out the fewest words from a place on that reach the bar: what is left, and its phonemes.

        Returns:
            None where no place will do.
        """
        words = text.split()
        said = spell_words(text, take, self._recogniser, language)
        num_whole = len(self._phonemes.spell(take.phonemes, language))
        places = list(range(len(words)))
        rng.shuffle(places)
        for first in places:
            for stop in range(first + 1, len(words) + 1):
                kept = words[:first] + words[stop:]
                left = collapse([number for word in said[:first] + said[stop:] for number in word], min_run=1)
                if not kept or len(left) < _MIN_LEFT:
                    break
                if num_whole - len(left) >= BAR:
                    return " ".join(kept), tuple(left)
        return None

    def _hear(self, samples: np.ndarray, language: str) -> list[int]:
        return self._recogniser.transcribe(samples, language) if len(samples) else []

    def _case(
        self, kind: str, name: str, split: str, num_cut: int, heard: Sequence[int], reference: Sequence[int]
    ) -> CutCase:
        return CutCase(kind, name, split, num_cut, tuple(heard), tuple(reference))


def spell_words(text: str, take: Take, recogniser: Recogniser, language: str) -> list[list[int]]:
    """Number the phonemes of each word of a text, as it is cut at spaces, by the times of the teacher's words."""
    spelled: list[list[int]] = [[] for _ in text.split()]
    starts = [start for start, _, _ in take.words]
    # Which word, by spaces, each of the teacher's words is in.
    places = [len(text[: first + 1].split()) - 1 for _, first, _ in take.words]
    for start, name in recogniser.phonemes.time(take.phonemes, language):
        word = max(0, bisect_right(starts, start + 1e-4) - 1)
        number = recogniser.phonemes.ids.get(name, SILENCE)
        if number != SILENCE and places:
            spelled[places[word]].append(number)
    return spelled


def list_sentences() -> list[tuple[str, str, str]]:
    """List the sentences of dev and test: id, split, text."""
    return [
        (f"{language}-{split}-{number}", split, text)
        for split in ("dev", "test")
        for language in LANGUAGES
        for number, text in enumerate(read_sentences(split, language))
    ]


def hear(options: argparse.Namespace) -> None:
    """Make the cases of a piece of the work."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    options.state.mkdir(parents=True, exist_ok=True)
    number, count = options.shard
    engine = EngineOptions(max_batch=MAX_BATCH, batch_invariant=True, num_threads=1)
    recogniser = Recogniser.load(options.recogniser)
    studio = open_studio(options, recogniser.phonemes, with_word_lists=False)
    require_sound(studio, "cutting speech")
    with VoxtralTTS.from_pretrained(options.model, device="cpu", options=engine) as tts:
        cutter = Cutter(recogniser, studio, tts)
        made = [*cutter.cut(list_sentences()[number - 1 :: count])]
        made += cutter.say_twins(read_odd_texts()[number - 1 :: count])
    lines = (json.dumps(asdict(case)) + "\n" for case in made)
    (options.state / f"{number:03d}-of-{count:03d}.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(made)} cases")


def read_cases(folder: Path, split: str) -> list[CutCase]:
    """Read the cases of a split."""
    fields = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    kept = [one for one in fields if one["split"] == split]
    return [CutCase(**(one | {name: tuple(one[name]) for name in ("heard", "reference", "gaps")})) for one in kept]


def count_flags(cases: Iterable[CutCase]) -> dict[str, Any]:
    """Count what is flagged as lost and as extra, by kind; cuts also by size."""
    groups: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for case in cases:
        coverage = compare(case.heard, Reference(case.reference, frozenset(case.gaps)))
        flags = (coverage.is_lost, coverage.is_extended)
        groups[case.kind].append(flags)
        if case.num_cut:
            groups[f"{case.kind}, {_size(case.num_cut)}"].append(flags)
    return {
        kind: {
            "lost": rate(sum(lost for lost, _ in flags), len(flags)),
            "extra": rate(sum(e for _, e in flags), len(flags)),
        }
        for kind, flags in sorted(groups.items())
    }


def _size(num_cut: int) -> str:
    return "8 to 9" if num_cut < 10 else "10 to 12" if num_cut < 13 else "13 and more"


def report(options: argparse.Namespace) -> None:
    """Count, and write what was asked for."""
    counts = count_flags(read_cases(options.state, options.split))
    content = {"benchmark": "cuts", "split": options.split, "bar": BAR, "kinds": counts}
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for kind, found in counts.items():
        lost, extra = (f"{found[key]['hits']}/{found[key]['of']} = {found[key]['rate']}" for key in ("lost", "extra"))
        print(f"{kind:30} lost {lost:22} extra {extra}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make cases, or report."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.quality.cuts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    hearing = commands.add_parser("hear", help="make the cases of a piece of the work")
    hearing.set_defaults(run=hear)
    add_model_option(hearing)
    add_recogniser_option(hearing)
    add_teacher_options(hearing)
    hearing.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="I/N", help="piece of the work")
    reporting = commands.add_parser("report", help="count what is there")
    reporting.set_defaults(run=report)
    reporting.add_argument("--split", choices=("dev", "test"), default="test")
    reporting.add_argument("--json", type=Path, help="file for the report")
    for command in (hearing, reporting):
        command.add_argument("state", type=Path, help="folder for what was heard")
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (CorpusError, TeacherError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
