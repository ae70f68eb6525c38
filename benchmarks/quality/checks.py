"""How often the checks of speech are right: python -m benchmarks.quality.checks.

    python -m benchmarks.quality.checks speak STATE judging --shard 1/4     a piece of a set; again for 2/4, ...
    python -m benchmarks.quality.checks report STATE --json OUT

Sets: `judging`, `judging-joined` and `long` for the report, which share no sentence with the calibration of the
checkpoint, whose thresholds are used; `calibration` and `calibration-joined` for thresholds of more sentences
(`--own-thresholds`). Speech is made with nothing that holds the model to its text, or its own faults would not occur.
What of it is lost is decided by the phoneme recogniser (`benchmarks.quality.coverage`), of either alphabet.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from benchmarks.quality.check_cases import (
    CheckCase,
    Job,
    Stage,
    case_path,
    list_jobs,
    list_joined,
    read_case,
    write_case,
)
from benchmarks.quality.coverage import Reference, compare
from benchmarks.quality.options import add_model_option, add_recogniser_option, describe_run, keep_settings
from benchmarks.quality.references import CHECK_SETS, CHECK_TEXTS, Spelling, read_spellings
from benchmarks.quality.spoken import parse_shard
from benchmarks.report import find_commit
from train.corpus import Phonemes
from train.recogniser import Recogniser
from train.texts import LANGUAGES
from voxtral.align.alignment import Alignment, Pace, read_alignment
from voxtral.align.checks import check_speech, measure_good_speech, thresholds_from
from voxtral.align.path import find_path
from voxtral.align.signals import SpokenSegment
from voxtral.align.times import word_times
from voxtral.align.words import spoken_words, verbatim_sources
from voxtral.config import ModelConfig
from voxtral.device import describe_machine
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import Stop
from voxtral.loading.files import ALIGNMENT_FILE
from voxtral.loading.load import open_tokenizer
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.tts import VoxtralTTS
from voxtral.types import SegmentCheck
from voxtral.voices.library import VoiceLibrary

MAX_BATCH = 16

_SETS: dict[str, Callable[[], list[Job]]] = {
    "calibration": lambda: list_jobs("calibration", 2, LANGUAGES),
    "calibration-joined": lambda: [
        job for job in list_joined("calibration", 1, LANGUAGES) if len(job.texts) <= _WHOLE_SENTENCES
    ],
    "judging": lambda: list_jobs("judging", 3, LANGUAGES, with_faults=True),
    "judging-joined": lambda: list_joined("judging", 2, LANGUAGES),
    "long": lambda: list_jobs("long", 3, LANGUAGES),
}
# Of more sentences nano does not say all.
_WHOLE_SENTENCES = 3
_SELF_MADE = ("long", "joined")
# Of the kinds with a bar: the least share that is flagged.
_BARS = {
    "skipped word": 0.90,
    "repeated phrase": 0.95,
    "invented word": 0.80,
    "end missing": 0.98,
    "cut off": 0.98,
    "loop": 0.98,
    "other text": 0.98,
}
_MOST_FALSE, _LEAST_SELF_MADE, _MOST_WHOLE = 0.05, 0.90, 0.15


@dataclass(frozen=True)
class Judged:
    """A case and what the check says of it.

    Attributes:
        case: without its arrays.
        check: of it.
        missing: phonemes in the longest run that the recogniser missed; None where it was not asked.
    """

    case: CheckCase
    check: SegmentCheck
    missing: float | None

    @property
    def is_flagged(self) -> bool:
        """Whether the check says anything."""
        return self.check.verdict != "ok"

    @property
    def is_lost(self) -> bool:
        """Whether the recogniser says that part of the text was not said."""
        return self.missing is not None and self.missing >= 8


def wilson(count: int, total: int) -> tuple[float, float]:
    """Give the 95 % interval of a share.

    >>> [round(bound, 3) for bound in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not total:
        return 0.0, 1.0
    z, share = 1.96, count / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def speak(options: argparse.Namespace) -> None:
    """Speak a piece of a set; what is there is not spoken again."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    folder = options.state / options.set
    folder.mkdir(parents=True, exist_ok=True)
    number, count = options.shard
    jobs = [
        job for job in _SETS[options.set]() if not all(case_path(folder, job, one).exists() for one in job.variants)
    ]
    engine = EngineOptions(max_batch=MAX_BATCH, num_threads=1, prefix_folder=None)
    recogniser = Recogniser.load(options.recogniser)
    keep_settings(options.state / "settings.json", describe_run(options))
    with VoxtralTTS.from_pretrained(options.model, device="cpu", options=engine) as tts:
        voices = VoiceLibrary(tts.checkpoint.folder, tts.config)
        heads = read_alignment(tts.checkpoint.folder / ALIGNMENT_FILE).heads
        stage = Stage(tts.engine, open_tokenizer(tts.checkpoint), voices, heads, recogniser)
        mine = jobs[number - 1 :: count]
        for first in range(0, len(mine), MAX_BATCH):
            for job, started in [(job, stage.start(job)) for job in mine[first : first + MAX_BATCH]]:
                for variant, case in zip(job.variants, stage.finish(job, *started), strict=True):
                    write_case(case_path(folder, job, variant), case)
    print(f"{len(mine)} utterances of {options.set} spoken")


def to_segment(case: CheckCase, tokenizer: SpeechTokenizer, config: ModelConfig, alignment: Alignment) -> SpokenSegment:
    """Lay out a case as the engine would hand it to the checks."""
    pieces = tokenizer.pieces(tokenizer.encode(case.text))
    words = spoken_words(case.text, case.text, verbatim_sources(0, len(case.text)), pieces)
    path = find_path(case.weights[: len(case.codes)], alignment.max_step)
    rate = config.frame_rate
    times = word_times(words, path, case.weights, case.samples, config.sample_rate, alignment, frame_rate=rate)
    stops: dict[str, Stop] = {"end": "end", "length": "length", "over": "over", "lost": "lost"}
    return SpokenSegment(
        spoken=case.text,
        words=words,
        times=times,
        weights=case.weights,
        path=path,
        samples=case.samples,
        sample_rate=config.sample_rate,
        frame_rate=rate,
        stop=stops.get(case.stop),
        language=case.language,
        codes=case.codes,
        no_end=case.no_end,
    )


def read_cases(folder: Path) -> Iterator[CheckCase]:
    """Read the cases of a set, in order of their names."""
    return map(read_case, sorted(folder.glob("*.npz")))


class Bench:
    """Judges cases by thresholds of good speech.

    Args:
        state: folder of what was spoken.
        model: that spoke it.
        phonemes: of the recogniser that heard it.
        has_own: take thresholds and pace from what was spoken for that, and not from the checkpoint.
    """

    def __init__(self, state: Path, model: str, phonemes: Phonemes, *, has_own: bool) -> None:
        self._state = state
        self._phonemes = phonemes
        with VoxtralTTS.from_pretrained(model, device="cpu", options=EngineOptions(prefix_folder=None)) as tts:
            self._config, self._tokenizer = tts.config, open_tokenizer(tts.checkpoint)
            alignment = read_alignment(tts.checkpoint.folder / ALIGNMENT_FILE)
        self._spellings: dict[str, Spelling] = {}
        for name in CHECK_SETS:
            self._spellings |= read_spellings(CHECK_TEXTS / name, self._phonemes.alphabet)
        self.alignment = self._calibrate(alignment) if has_own else alignment

    def _calibrate(self, alignment: Alignment) -> Alignment:
        good = [case for name in ("calibration", "calibration-joined") for case in read_cases(self._state / name)]
        paces: dict[str, list[float]] = {}
        for case in good:
            if len(case.texts) == 1:
                letters = sum(map(str.isalnum, case.text))
                paces.setdefault(case.language, []).append(math.log(len(case.codes) / letters))
        pace = {
            language: Pace(
                round(float(np.median(values)), 4), round(float(np.diff(np.percentile(values, (16, 84)))[0]) / 2, 4)
            )
            for language, values in paces.items()
        }
        alignment = replace(alignment, pace=MappingProxyType(pace))
        speech = [
            measure_good_speech(to_segment(case, self._tokenizer, self._config, alignment), alignment) for case in good
        ]
        return replace(alignment, thresholds=MappingProxyType(thresholds_from(speech)))

    def judge(self, name: str, *, is_end_known: bool = True) -> list[Judged]:
        """Judge all cases of a set.

        Args:
            name: of the set.
            is_end_known: whether the probability of END_AUDIO is given to the check.
        """
        judged: list[Judged] = []
        for case in read_cases(self._state / name):
            segment = to_segment(case, self._tokenizer, self._config, self.alignment)
            if not is_end_known:
                segment = replace(segment, no_end=None)
            missing = None
            if case.texts and case.kind in (*_SELF_MADE, "good"):
                parts = [self._spellings[text].reference(self._phonemes).phonemes for text in case.texts]
                missing = compare(
                    case.heard, Reference(tuple(number for part in parts for number in part))
                ).missing.score
            nothing = np.zeros((0, 0), np.float32)
            bare = replace(case, weights=nothing, codes=nothing, samples=nothing)
            judged.append(Judged(bare, check_speech(segment, self.alignment), missing))
        return judged


def count(judged: Iterable[Judged]) -> dict[str, Any]:
    """Count flags and verdicts."""
    listed = list(judged)
    num_flagged = sum(one.is_flagged for one in listed)
    kinds: dict[str, int] = {}
    for one in listed:
        for kind in {finding.kind for finding in one.check.findings}:
            kinds[kind] = kinds.get(kind, 0) + 1
    return {
        "cases": len(listed),
        "flagged": num_flagged,
        "share": round(num_flagged / max(1, len(listed)), 4),
        "interval": [round(bound, 4) for bound in wilson(num_flagged, len(listed))],
        "bad": sum(one.check.verdict == "bad" for one in listed),
        "findings": dict(sorted(kinds.items())),
    }


def write_report(options: argparse.Namespace) -> None:
    """Judge everything, and say which bars hold."""
    keep_settings(options.state / "settings.json", describe_run(options))
    phonemes = Recogniser.load(options.recogniser).phonemes
    bench = Bench(options.state, options.model, phonemes, has_own=options.own_thresholds)
    judging = bench.judge("judging")
    good = [one for one in judging if one.case.kind == "good"]
    self_made = [*bench.judge("long"), *bench.judge("judging-joined")]
    kinds = dict.fromkeys(one.case.kind for one in judging if one.case.kind != "good")
    injected = {kind: count(one for one in judging if one.case.kind == kind) for kind in kinds}
    without_end = [
        one for one in bench.judge("judging", is_end_known=False) if one.case.kind in ("cut off", "end missing")
    ]
    lost, whole = (count(one for one in self_made if one.is_lost == is_lost) for is_lost in (True, False))
    content: dict[str, Any] = {
        "benchmark": "checks",
        "commit": find_commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": describe_machine(),
        "model": options.model,
        "has_own_thresholds": options.own_thresholds,
        "thresholds": dict(bench.alignment.thresholds),
        "good": count(good) | {"lost_by_recogniser": sum(one.is_lost for one in good)},
        "good_by_language": {
            language: count(one for one in good if one.case.language == language) for language in LANGUAGES
        },
        "injected": injected,
        "without_probability_of_end": {
            kind: count(one for one in without_end if one.case.kind == kind) for kind in ("cut off", "end missing")
        },
        "self_made_lost": lost,
        "self_made_whole": whole,
        "self_made_by_letters": {
            f"{first}-{stop}": {
                name: count(one for one in self_made if one.is_lost == is_lost and first <= len(one.case.text) < stop)
                for name, is_lost in (("lost", True), ("whole", False))
            }
            for first, stop in ((0, 120), (120, 200), (200, 260), (260, 400))
        },
    }
    content["bars"] = {
        "good": content["good"]["share"] <= _MOST_FALSE,
        **{kind: injected[kind]["share"] >= bar for kind, bar in _BARS.items()},
        "self_made_lost": lost["share"] >= _LEAST_SELF_MADE,
        "self_made_whole": whole["share"] <= _MOST_WHOLE,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Speak a piece, or judge."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.quality.checks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    speaking = commands.add_parser("speak", help="speak a piece of a set")
    speaking.add_argument("state", type=Path, help="folder for what was spoken")
    speaking.add_argument("set", choices=list(_SETS))
    speaking.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="I/N", help="piece of the set")
    speaking.set_defaults(run=speak)
    reporting = commands.add_parser("report", help="judge all that was spoken")
    reporting.add_argument("state", type=Path, help="folder of what was spoken")
    reporting.add_argument("--json", type=Path, help="file for the report")
    reporting.add_argument("--own-thresholds", action="store_true", help="of the sets that were spoken for that")
    reporting.set_defaults(run=write_report)
    for command in (speaking, reporting):
        add_model_option(command)
        add_recogniser_option(command)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:  # another run's folder
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
