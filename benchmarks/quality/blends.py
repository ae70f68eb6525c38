"""Whether two voices can be blended, and how: python -m benchmarks.quality.blends.

    python -m benchmarks.quality.blends speak STATE mean concat      what is not there yet, for --seconds
    python -m benchmarks.quality.blends report STATE --json OUT

A way of blending makes the rows of one voice of those of two and a weight from 0 to 1. Each is spoken by nano for
pairs of presets: the two of a language, and two of the same sex in languages that follow each other, always with
sentences of the first one's language. Both parents speak the same sentences with the same seeds. What was heard tells
the share of wrong phonemes. Where a blend lies between its parents is the projection of its speaker vector
(`TimbreAndPitch`) on the line between theirs: 0 is the first parent, 1 the second; its distance from that line is given
in units of the parents' distance. Needs no teacher.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.acoustics import SAMPLE_RATE
from benchmarks.quality.judge import REPORTED_ONLY
from benchmarks.quality.options import add_model_option, add_recogniser_option
from benchmarks.quality.phonemes import error_rate
from benchmarks.quality.references import CHECK_TEXTS, read_check_texts, read_spellings
from benchmarks.quality.speakers import TimbreAndPitch
from benchmarks.report import find_commit
from train.recogniser import Recogniser
from train.texts import LANGUAGES
from voxtral.device import describe_machine
from voxtral.engine.options import EngineOptions
from voxtral.errors import GenerationError
from voxtral.tts import VoxtralTTS
from voxtral.voices.prompt import VoicePrompt

WEIGHTS = (0.25, 0.5, 0.75)
SEEDS = (1, 2)
OTHER_SEEDS = (11, 12)
_NUM_TEXTS = 2
_MAX_BATCH = 16

Way = Callable[[Tensor, Tensor, float], Tensor]
"""(body of the first voice [N, D], body of the second [M, D], weight of the second) to the body of the blend [L, D]."""


def _length(first: Tensor, second: Tensor, weight: float) -> int:
    return round((1 - weight) * len(first) + weight * len(second))


def _places(source: Tensor, length: int) -> Tensor:
    """For each of `length` rows, the row of `source` at the same share of the time, the nearest one."""
    return ((torch.arange(length) + 0.5) * len(source) / length).long()


def _concat(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Begin with the first voice and end with the second, each for its share."""
    kept, left_out = round((1 - weight) * len(first)), round((1 - weight) * len(second))
    return torch.cat([first[:kept], second[left_out:]])


def _concat_turned(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Begin with the second voice and end with the first."""
    return _concat(second, first, 1 - weight)


def _interleave(first: Tensor, second: Tensor, weight: float, run: int = 1) -> Tensor:
    """Take turns, `run` rows at a time, each voice for its share."""
    length = _length(first, second, weight)
    turns = torch.arange(length) // run
    is_second = ((turns + 1) * weight).floor() > (turns * weight).floor()
    return torch.where(is_second[:, None], second[_places(second, length)], first[_places(first, length)])


def _mean(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Average row by row; both are brought to one length by leaving rows out or saying them twice."""
    length = _length(first, second, weight)
    return (1 - weight) * first[_places(first, length)] + weight * second[_places(second, length)]


def _mean_rescaled(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Average, and give each row the length that rows of the parents have on average."""
    mean = _mean(first, second, weight)
    norms = _mean(first.norm(dim=1, keepdim=True), second.norm(dim=1, keepdim=True), weight)
    return mean * norms / mean.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _mean_cut(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Average as far as both go."""
    length = min(len(first), len(second))
    return (1 - weight) * first[:length] + weight * second[:length]


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "concat": _concat,
        "concat_turned": _concat_turned,
        "interleave": _interleave,
        "interleave_6": lambda first, second, weight: _interleave(first, second, weight, run=6),
        "mean": _mean,
        "mean_rescaled": _mean_rescaled,
        "mean_cut": _mean_cut,
    }
)


def blend(first: VoicePrompt, second: VoicePrompt, way: Way, weight: float) -> VoicePrompt:
    """Blend two voices; END_AUDIO, the closing row, is the same in both."""
    body = way(first.rows[:-1].float(), second.rows[:-1].float(), weight)
    rows = torch.cat([body, first.rows[-1:].float()]).to(first.rows.dtype)
    return VoicePrompt(name=f"{first.name}+{second.name}", rows=rows)


@dataclass(frozen=True)
class Job:
    """One utterance to be made: in a blend, or in a parent where `way` is empty and the weight 0 or 1."""

    language: str
    first: str
    second: str
    way: str
    weight: float
    text: str  # its id
    seed: int

    @property
    def pair(self) -> str:
        """Both parents."""
        return f"{self.first}+{self.second}"


@dataclass(frozen=True)
class Heard:
    """What became of a job; the vector is empty where nothing was said."""

    job: Job
    error_rate: float
    vector: tuple[float, ...]
    seconds: float
    num_retries: int
    has_failed: bool


def find_pairs(voices: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Pair presets: (language, first, second).

    Args:
        voices: language of each preset.
    """
    languages = [code for code in LANGUAGES if code in voices.values() and code not in REPORTED_ONLY]
    pairs: list[tuple[str, str, str]] = []
    for number, language in enumerate(languages):
        other = languages[(number + 1) % len(languages)]
        pairs += [
            (language, f"{language}_f1", f"{language}_m1"),
            (language, f"{language}_f1", f"{other}_f1"),
            (language, f"{language}_m1", f"{other}_m1"),
        ]
    return pairs


def find_jobs(voices: Mapping[str, str], ways: Iterable[str]) -> list[Job]:
    """List what is to be spoken: the parents, the parents with other seeds, the blends."""
    cells = [("", 0.0, SEEDS), ("", 1.0, SEEDS), ("", 0.0, OTHER_SEEDS), ("", 1.0, OTHER_SEEDS)]
    cells += [(way, weight, SEEDS) for way in ways for weight in WEIGHTS]
    pairs = find_pairs(voices)
    return [
        Job(language, first, second, way, weight, f"{language}-judging-{2 + 3 * number}", seed)
        for way, weight, seeds in cells
        for language, first, second in pairs
        for number in range(_NUM_TEXTS)
        for seed in seeds
    ]


class Booth:
    """Speaks jobs and hears them."""

    def __init__(self, tts: VoxtralTTS, recogniser: Recogniser) -> None:
        self._tts = tts
        self._recogniser = recogniser
        self._measure = TimbreAndPitch()
        self._texts = {text.id: text.text for text in read_check_texts("judging")}
        spellings = read_spellings(CHECK_TEXTS / "judging", recogniser.phonemes.alphabet)
        self._right = {name: spelling.reference(recogniser.phonemes) for name, spelling in spellings.items()}
        self._hearing = threading.Lock()

    def hear(self, job: Job) -> Heard:
        """Speak one job and take its figures."""
        first, second = self._tts.load_voice(job.first), self._tts.load_voice(job.second)
        voice = blend(first, second, WAYS[job.way], job.weight) if job.way else (second if job.weight else first)
        retries, has_failed = 0, False
        try:
            audio = self._tts.synthesize(self._texts[job.text], job.language, voice=voice, seed=job.seed)
            samples, retries = audio.samples, audio.stats.num_retries if audio.stats else 0
        except GenerationError as error:
            samples, has_failed = np.zeros(0, np.float32) if error.audio is None else error.audio, True
        with self._hearing:
            numbers = self._recogniser.transcribe(samples, job.language) if len(samples) else []
            vector = self._measure.embed(samples).tolist() if len(samples) > SAMPLE_RATE // 10 else []
        rate = error_rate(numbers, list(self._right[job.text].phonemes))
        return Heard(job, rate, tuple(vector), len(samples) / SAMPLE_RATE, retries, has_failed)


def read_state(path: Path) -> list[Heard]:
    """Read what was heard before."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.is_file() else ()
    return [Heard(**line | {"job": Job(**line["job"]), "vector": tuple(line["vector"])}) for line in lines]


def speak(state: Path, ways: Sequence[str], seconds: float, model: str, recogniser: Path) -> None:
    """Speak what is missing, for so long."""
    deadline = time.monotonic() + seconds
    known = {heard.job for heard in read_state(state)}
    with VoxtralTTS.from_pretrained(model, device="cpu", options=EngineOptions(max_batch=_MAX_BATCH)) as tts:
        booth = Booth(tts, Recogniser.load(recogniser))
        jobs = [
            job for job in find_jobs({voice.name: voice.language for voice in tts.voices}, ways) if job not in known
        ]
        with state.open("a", encoding="utf-8") as file, ThreadPoolExecutor(_MAX_BATCH) as pool:
            done = 0
            for start in range(0, len(jobs), 2 * _MAX_BATCH):
                if time.monotonic() > deadline:
                    break
                for heard in pool.map(booth.hear, jobs[start : start + 2 * _MAX_BATCH]):
                    file.write(json.dumps(asdict(heard)) + "\n")
                    done += 1
            print(f"{done} spoken, {len(jobs) - done} to go")


def _sexes(pair: str) -> str:
    """Tell the sexes of a pair of nano's presets: ff, mm or fm."""
    return "".join(name.split("_")[1][0] for name in pair.split("+"))


def _place(heard: Heard, first: Heard, second: Heard) -> tuple[float, float]:
    """Find where an utterance lies between its parents', and how far from their line; NaN where nothing was said."""
    if not (heard.vector and first.vector and second.vector):
        return (float("nan"), float("nan"))
    start, way = np.array(first.vector), np.array(second.vector) - np.array(first.vector)
    place = float((np.array(heard.vector) - start) @ way / (way @ way))
    distance = np.linalg.norm(np.array(heard.vector) - start - place * way) / np.linalg.norm(way)
    return place, float(distance)


def summarise(all_heard: Sequence[Heard]) -> list[dict[str, Any]]:
    """Average by way, weight and the sexes of the pair; the parents with other seeds are the control."""
    parents = {(one.job.pair, one.job.text, one.job.seed, one.job.weight): one for one in all_heard if not one.job.way}
    cells: dict[tuple[str, float, str], list[Heard]] = defaultdict(list)
    for one in all_heard:
        if one.job.way in WAYS or (not one.job.way and one.job.seed in OTHER_SEEDS):
            cells[one.job.way or "parent, other seeds", one.job.weight, _sexes(one.job.pair)].append(one)

    def own_rate(pair: str) -> float:
        """Take the rate of the parent that is understood worse."""
        rates = {
            weight: [one.error_rate for key, one in parents.items() if key[0] == pair and key[2:] in wanted]
            for weight in (0.0, 1.0)
            for wanted in [{(seed, weight) for seed in SEEDS}]
        }
        return max(float(np.mean(rate)) for rate in rates.values())

    rows: list[dict[str, Any]] = []
    for (way, weight, sexes), cell in sorted(cells.items()):
        pairs = sorted({one.job.pair for one in cell})
        excess = [np.mean([one.error_rate for one in cell if one.job.pair == pair]) - own_rate(pair) for pair in pairs]
        by_pair: dict[str, list[float]] = defaultdict(list)
        distances: list[float] = []
        for one in cell:
            seed = one.job.seed if one.job.way else SEEDS[OTHER_SEEDS.index(one.job.seed)]
            first, second = (parents[one.job.pair, one.job.text, seed, end] for end in (0.0, 1.0))
            place, distance = _place(one, first, second)
            by_pair[one.job.pair].append(place)
            distances.append(distance)
        places = np.array([place for found in by_pair.values() for place in found])
        figures = {
            "error_rate": np.mean([one.error_rate for one in cell]),
            "worse_parent": np.mean([own_rate(pair) for pair in pairs]),
            "worst_pair_excess": max(excess),
            "place": np.nanmean(places),
            "place_median": np.nanmedian(places),
            "between_quarters": np.mean((places >= 0.25) & (places <= 0.75)),
            "spread_in_pair": np.mean([np.nanstd(found, ddof=1) for found in by_pair.values()]),
            "off_the_line": np.nanmedian(distances),
        }
        rounded = {name: round(float(value), 3) for name, value in figures.items()}
        failed = sum(one.has_failed for one in cell)
        rows.append({"way": way, "weight": weight, "sexes": sexes, "n": len(cell), "failed": failed} | rounded)
    return rows


def report(state: Path, target: Path, model: str) -> None:
    """Write the figures."""
    rows = summarise(read_state(state))
    facts = {"machine": describe_machine(), "commit": find_commit(), "model": model, "cells": rows}
    target.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(json.dumps(row))


def main() -> None:
    """Speak or report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("action", choices=("speak", "report"))
    parser.add_argument("state", type=Path)
    parser.add_argument("ways", nargs="*")
    add_model_option(parser)
    add_recogniser_option(parser)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--json", type=Path, help="where report writes")
    options = parser.parse_args()
    torch.set_num_threads(2)
    if options.action == "speak":
        speak(options.state, options.ways, options.seconds, options.model, options.recogniser)
    elif options.json is None:
        parser.error("report needs --json FILE")
    else:
        report(options.state, options.json, options.model)


if __name__ == "__main__":
    main()
