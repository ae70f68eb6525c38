"""Measure nano: python -m benchmarks.quality --model FOLDER --recogniser FILE --json OUT.

The whole test split takes about twelve minutes on one core. Prints a table with the bars; the last line is JSON. The
recogniser's file says who its teacher is: espeak-ng, which must be installed, or the teachers of a corpus of shards. Of
these --takes has what they said, or --teachers lets them speak; without both, what is made of their speech is left out,
and the report says so. Needs the word lists of training; Resemblyzer is used if it is installed. To choose settings for
decoding use `--split dev --systems nano --stops 0` with --guidance, --noise, --steps.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from safetensors import safe_open

from benchmarks.quality.acoustics import SAMPLE_RATE
from benchmarks.quality.bars import Verdict, judge_all
from benchmarks.quality.cases import NUM_DISTRACTORS, Case, Studio, collect_sentences, read_sentences
from benchmarks.quality.judge import Judge, Measurement, summarise_system
from benchmarks.quality.long_text import count_stops, draw_texts, speak_long_text
from benchmarks.quality.options import add_teacher_options, open_studio
from benchmarks.quality.phonemes import overlap
from benchmarks.quality.pictures import write_picture
from benchmarks.quality.speakers import Lineup, open_measures
from benchmarks.quality.systems import (
    CONTROLS_OF_SOUND,
    Narrator,
    Spoken,
    System,
    clone_system,
    control_systems,
    write_random_copy,
)
from train.corpus import CorpusError
from train.recogniser import Recogniser
from train.shards import list_shards
from train.teacher import TeacherError
from train.texts import LANGUAGES, load_texts
from voxtral.device import describe_machine
from voxtral.errors import VoxtralWarning
from voxtral.tts import VoxtralTTS

SYSTEMS = ("teacher", "codec", "semantic", "nano", "clone", "controls", "long", "overlap")
_CONTROLS_PER_LANGUAGE = 4
_WITH_SPEAKERS = ("teacher", "teacher, held out", "nano", "clone", "reference echoed")
_REPORT_COLUMNS = 140  # where there is no terminal
_STOP_SEED = 90_002  # apart from those of training
# Systems that are the teacher, or are made of its speech.
_OF_SOUND = ("teacher", "codec", "semantic", "clone")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--recogniser", type=Path, required=True, help="made by train.recogniser")
    add_teacher_options(parser)
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    parser.add_argument("--limit", type=int, help="sentences of each language")
    parser.add_argument("--stops", type=int, default=500, help="random texts that must end by themselves; 0: none")
    parser.add_argument("--guidance", type=float, help="default: the checkpoint's")
    parser.add_argument("--noise", type=float, help="default: the checkpoint's")
    parser.add_argument("--steps", type=int, help="Euler time points; default: the checkpoint's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--no-word-lists", dest="word_lists", action="store_false", help="do without the system's word lists"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--corpus", type=Path, help="of training, of either kind, for the overlap; default: data beside the recogniser"
    )
    parser.add_argument("--codes", type=Path, help="folder of the training codes; default: that of the recogniser")
    parser.add_argument("--pictures", type=Path, help="folder for spectrograms: teacher, codec copy, nano")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--utterances", type=Path, help="file for the figures of each utterance, JSON lines")
    options = parser.parse_args(arguments)
    options.codes = options.codes or options.recogniser.parent
    options.corpus = options.corpus or options.recogniser.parent / "data"
    return options


class Evaluation:
    """One run: what it needs, and what it has found."""

    def __init__(self, options: argparse.Namespace, progress: Progress) -> None:
        self.options = options
        self._progress = progress
        recogniser = Recogniser.load(options.recogniser)
        self.phonemes = recogniser.phonemes
        self.studio = open_studio(options, recogniser.phonemes, with_word_lists=options.word_lists)
        self.left_out = list_left_out(options.systems, options.languages, self.studio)
        sampling = {
            "guidance_scale": options.guidance,
            "noise_scale": options.noise,
            "num_euler_steps": options.steps,
        }
        self.sampling = {name: value for name, value in sampling.items() if value is not None}
        self.narrator = Narrator(VoxtralTTS.from_pretrained(options.model, device="cpu"), self.sampling, options.seed)
        measures = open_measures()
        self.measure_names = [measure.name for measure in measures]
        distractors = {
            language: self.studio.distractors(language, avoid=read_sentences(options.split, language))
            for language in self._track(options.languages, "distractors")
        }
        has_sound = self.studio.has_sound
        lineups = [Lineup(measure, self.studio.enrolment) for measure in measures] if has_sound else []
        self.judge = Judge(recogniser, distractors, lineups)
        self.cases = self._make_cases(self.studio.preset_cases)
        self.held_out_cases = self._make_cases(self.studio.held_out_cases)
        self.measurements: list[Measurement] = []

    def _make_cases(self, make: Callable[[str, str, int | None], list[Case]]) -> list[Case]:
        options = self.options
        return [case for language in options.languages for case in make(options.split, language, options.limit)]

    def _track(self, items: Sequence[Any], name: str) -> Iterator[Any]:
        yield from self._progress.track(items, description=name)

    def run_system(self, name: str, cases: Sequence[Case], system: System) -> dict[str, Any]:
        """Let a system say all cases, and average."""
        found = [
            self.judge.judge(name, case, system(case), with_speakers=name in _WITH_SPEAKERS)
            for case in self._track(cases, name)
        ]
        self.measurements += found
        return summarise_system(found)

    def run_validity(self) -> dict[str, Any]:
        """Judge the recogniser on the teacher: plain, with noise, against other sentences, in held-out voices."""
        found: dict[str, list[Measurement]] = {}
        for case in self._track(self.cases, "validity"):
            for one in self.judge.validate(case):
                found.setdefault(one.system, []).append(one)
        self.measurements += [one for group in found.values() for one in group]
        systems = {name: summarise_system(group) for name, group in found.items()}
        systems["teacher"] = self.run_system("teacher", self.cases, speak_as_the_teacher)
        systems["teacher, held out"] = self.run_system("teacher, held out", self.held_out_cases, speak_as_the_teacher)
        return systems

    def run_systems(self) -> dict[str, Any]:
        """Run what was asked for."""
        wanted = [name for name in self.options.systems if self.studio.has_sound or name not in _OF_SOUND]
        systems = self.run_validity() if "teacher" in wanted else {}
        plain = {
            "codec": self.narrator.codec_copy,
            "semantic": self.narrator.semantic_copy,
            "nano": self.narrator.speak,
        }
        for name, system in plain.items():
            if name in wanted:
                systems[name] = self.run_system(name, self.cases, system)
        if "clone" in wanted:
            clones = clone_system(self.narrator, self.studio.reference)
            systems["clone"] = self.run_system("clone", self.held_out_cases, clones)
        return systems

    def run_controls(self) -> dict[str, Any]:
        """Run what must fail, on the first sentences of every language."""
        cases = [case for case in self.cases if case.number < _CONTROLS_PER_LANGUAGE]
        with tempfile.TemporaryDirectory() as folder:
            write_random_copy(self.options.model, Path(folder), self.options.seed)
            with VoxtralTTS.from_pretrained(folder, device="cpu") as random_tts:
                other = Narrator(random_tts, self.sampling, self.options.seed)
                reference, has_sound = self.studio.reference, self.studio.has_sound
                systems = control_systems(self.narrator, other, cases, reference, has_sound=has_sound)
                return {name: self.run_system(name, cases, system) for name, system in systems.items()}

    def run_long_texts(self) -> list[dict[str, Any]]:
        """Speak a minute of every language in its first preset."""
        results: list[dict[str, Any]] = []
        for language in self._track(self.options.languages, "60 s of text"):
            voice = self.studio.presets_of(language)[0]

            def say(text: str, language: str = language, voice: str = voice) -> tuple[int, list[int]]:
                take = self.studio.take(text, language, voice)
                return round(take.seconds * SAMPLE_RATE), self.phonemes.spell(take.phonemes, language)

            taken = collect_sentences(read_sentences(self.options.split, language), say)
            result = speak_long_text(
                self.narrator, self.judge, language, voice, taken, is_teacher_heard=self.studio.has_sound
            )
            results.append(result.to_dict())
        return results

    def run_stops(self) -> dict[str, Any]:
        """Speak random texts of all languages, each in the next of its language's presets."""
        texts = draw_texts([self.studio.texts(name) for name in self.options.languages], self.options.stops, _STOP_SEED)
        presets = {language: self.studio.presets_of(language) for language in self.options.languages}
        tracked = (
            (language, text, presets[language][number // len(presets) % len(presets[language])])
            for number, (language, text) in enumerate(self._track(texts, "stops"))
        )
        return count_stops(self.narrator, tracked).to_dict()

    def run_overlap(self) -> dict[str, Any]:
        """Compare the sentences with the training texts."""
        trained, source = read_training_texts(self.options.corpus, self.options.languages)
        found: dict[str, Any] = {"source": source}
        for language in self.options.languages:
            compared = overlap(read_sentences(self.options.split, language), trained[language])
            shares = {f"{size}-grams": share and round(share, 4) for size, share in compared.shares.items()}
            found[language] = shares | {"sentences": compared.num_sentences_seen, "of": compared.num_sentences}
        return found

    def measure_codebook(self) -> dict[str, Any]:
        """Count the semantic codes in use."""
        size = self.narrator.tts.config.codebooks.semantic_size
        found: dict[str, Any] = {"size": size}
        if self.narrator.used_codes:
            found["copies_use"] = round(len(self.narrator.used_codes) / size, 4)
        used = read_used_codes(self.options.codes)
        if used is not None:
            found["training_use"] = round(used / size, 4)
        return found

    def draw_pictures(self, folder: Path) -> None:
        """Draw the first sentence of every language: teacher, codec copy, nano, from top to bottom."""
        for case in self.cases:
            if case.number == 0 and self.studio.has_sound:
                said = (self.narrator.codec_copy(case), self.narrator.speak(case))
                write_picture(folder / f"{case.language}.png", [case.sound, *(spoken.samples for spoken in said)])


def speak_as_the_teacher(case: Case) -> Spoken:
    """The original."""
    return Spoken(case.sound)


def list_left_out(systems: Sequence[str], languages: Sequence[str], studio: Studio) -> list[str]:
    """Say what cannot be measured of what is asked for, and why."""
    if studio.has_sound:
        silent = [language for language in languages if not studio.strangers_of(language)]
        is_asked = {"teacher", "clone"} & set(systems)
        return [f"held-out voices in {', '.join(silent)}: none speaks it"] if silent and is_asked else []
    why = "the teachers cannot be heard (neither --teachers nor --takes)"
    left_out = [f"system {name}: {why}" for name in systems if name in _OF_SOUND]
    if "controls" in systems:
        left_out += [f"control {name}: {why}" for name in CONTROLS_OF_SOUND]
    return [*left_out, f"length ratios, mel-cepstral distances and speakers: {why}"]


def read_training_texts(corpus: Path, languages: Iterable[str]) -> tuple[dict[str, list[str]], str]:
    """Read the texts that training saw, by language, and say where they are from.

    Without a corpus the sentences and frames of the texts are all there is to compare with.
    """
    texts: dict[str, list[str]] = {language: [] for language in languages}
    parts = sorted(corpus.glob("items-*.jsonl")) or [
        corpus / "shards" / name / "items.jsonl" for name in list_shards(corpus)
    ]
    for path in parts:
        for line in path.read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            if item["language"] in texts:
                # Of a shard what the front-end made of the text, which is what is learned.
                texts[item["language"]].append(item.get("spoken", item["text"]))
    if parts:
        return texts, f"the {sum(map(len, texts.values()))} items of the corpus"
    for language in texts:
        source = load_texts(language)
        texts[language] = [*source.sentences, *source.frames]
    return texts, "own texts, sentences and frames (no corpus is here)"


def read_used_codes(folder: Path) -> int | None:
    """Count the semantic codes that occur in the training codes; None if there are none."""
    used: set[int] = set()
    for path in sorted(folder.glob("codes/*.safetensors")):
        with safe_open(path, framework="np") as file:
            used.update(np.unique(file.get_tensor("semantic")).tolist())
    return len(used) or None


def make_table(verdicts: Sequence[Verdict]) -> Table:
    """Lay out the bars."""
    table = Table("what", "value", "bar", "aim", "verdict", "note", title="Quality of nano")
    words = {True: "[green]pass[/]", False: "[red]FAIL[/]", None: "-"}
    for verdict in verdicts:
        value = "not measured" if verdict.value is None else f"{verdict.value:.3f}"
        table.add_row(verdict.what, value, verdict.bar, verdict.aim, words[verdict.passes], verdict.note)
    return table


def make_language_table(systems: dict[str, Any]) -> Table:
    """Lay out phoneme error rates by system and language."""
    languages = list(dict.fromkeys(name for system in systems.values() for name in system["by_language"]))
    table = Table("PER", "all", *languages, title="Phoneme error rates (all: without Japanese)")
    for name, system in systems.items():
        rates = (system["by_language"].get(language, {}).get("error_rate") for language in languages)
        cells = ("-" if rate is None else f"{rate:.3f}" for rate in rates)
        table.add_row(name, f"{system['all']['error_rate']:.3f}", *cells)
    return table


def evaluate(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], list[Measurement]]:
    """Run everything that was asked for and make the report."""
    started = time.perf_counter()
    evaluation = Evaluation(options, progress)
    report: dict[str, Any] = {
        "benchmark": "quality",
        "model": str(options.model),
        "recogniser": str(options.recogniser),
        "alphabet": evaluation.phonemes.alphabet,
        "left_out": evaluation.left_out,
        "split": options.split,
        "limit": options.limit,
        "seed": options.seed,
        "sampling": asdict(evaluation.narrator.tts.config.generation) | evaluation.sampling,
        "machine": describe_machine(),
        "threads": options.threads,
        "distractors": NUM_DISTRACTORS,
        "speaker_measures": evaluation.measure_names,
        "systems": evaluation.run_systems(),
    }
    wanted = options.systems
    if "codec" in wanted:
        report["codebook"] = evaluation.measure_codebook()
    if "controls" in wanted:
        report["controls"] = evaluation.run_controls()
    if "long" in wanted:
        report["long_text"] = evaluation.run_long_texts()
    if "overlap" in wanted:
        report["overlap"] = evaluation.run_overlap()
    if options.stops:
        report["stops"] = evaluation.run_stops()
    if options.pictures is not None:
        evaluation.draw_pictures(options.pictures)
    report["bars"] = [verdict.to_dict() for verdict in judge_all(report)]
    report["seconds"] = round(time.perf_counter() - started, 1)
    evaluation.narrator.tts.close()
    return report, evaluation.measurements


def short_line(report: dict[str, Any]) -> str:
    """Write the one line of JSON that ends every benchmark."""
    kept = ("benchmark", "model", "split", "limit", "seed", "sampling", "machine", "seconds")
    line = {name: report[name] for name in kept}
    bars = report["bars"]
    line["passed"] = sum(bar["passes"] is True for bar in bars)
    line["failed"] = [bar["what"] for bar in bars if bar["passes"] is False]
    line["values"] = {bar["what"]: bar["value"] for bar in bars if bar["value"] is not None}
    return json.dumps(line, ensure_ascii=False)


def main() -> None:
    """Measure and report."""
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    try:
        with Progress(console=Console(stderr=True)) as progress:
            report, measurements = evaluate(options, progress)
    except (CorpusError, TeacherError) as error:
        sys.exit(f"benchmarks.quality: {error}")
    console = Console(width=None if sys.stdout.isatty() else _REPORT_COLUMNS)
    if report["systems"]:
        console.print(make_language_table(report["systems"] | report.get("controls", {})))
    console.print(make_table([Verdict(**bar) for bar in report["bars"]]))
    if "resemblyzer" not in report["speaker_measures"]:
        console.print("Resemblyzer is not installed: skipped")
    for one in report["left_out"]:
        console.print(f"Left out: {one}")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.utterances is not None:
        lines = (json.dumps(asdict(one), ensure_ascii=False) for one in measurements)
        options.utterances.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    sys.stdout.write(short_line(report) + "\n")


if __name__ == "__main__":
    main()
