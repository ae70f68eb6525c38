"""How good the recogniser itself is, on its teachers' own speech: python -m benchmarks.quality.validity FILE.

    python -m benchmarks.quality.validity build/nano/recogniser.safetensors --data build/nano4/data --json OUT

Of a corpus of shards it was not trained on one part of each language, and not on some voices (its file names them). So:
presets saying what it has not heard, as they are, in noise and against another sentence; and voices that it has not
heard. Needs no teacher; the bars are those of docs/QUALITY.md.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.bars import judge_recogniser
from benchmarks.quality.judge import Measurement, Recogniser, add_noise, summarise_system
from benchmarks.quality.phonemes import error_rate
from train.data import SAMPLE_RATE
from train.hearing import Heard, held_voices, read_utterances
from train.recogniser import Recogniser as TrainedRecogniser
from train.shards import open_shards
from train.speech import ShardedSpeech
from train.texts import LANGUAGES
from voxtral.device import describe_machine

_MAX_SECONDS = 9.0  # as in training
_LIMIT = 25


@dataclass(frozen=True, eq=False)
class HeldSpeech:
    """What a recogniser has not heard, by language.

    Attributes:
        presets: known voices saying what it has not heard.
        strangers: voices that it has not heard.
        voices: names of all voices.
    """

    presets: dict[str, list[Heard]]
    strangers: dict[str, list[Heard]]
    voices: list[str]


def collect(recogniser: TrainedRecogniser, data: Path, limit: int) -> HeldSpeech:
    """Read what was kept from training, so many utterances of each language and kind.

    Raises:
        ShardError: it is no corpus of shards.
    """
    corpus = open_shards(data)
    speech, held = ShardedSpeech(corpus), recogniser.held
    presets = {number for number, voice in enumerate(corpus.voices) if voice.split == "preset"}
    strange = held_voices(speech, held)
    known: dict[str, list[Heard]] = defaultdict(list)
    unknown: dict[str, list[Heard]] = defaultdict(list)
    # Natural parts come first.
    for name in speech.names:
        for one in read_utterances(speech, recogniser.phonemes, [name]):
            group = known if name in held.parts and one.voice in presets else unknown if one.voice in strange else None
            is_fit = len(one.sequence) and len(one.samples) <= _MAX_SECONDS * SAMPLE_RATE
            if group is not None and is_fit and len(group[one.language]) < limit:
                group[one.language].append(one)
    return HeldSpeech(dict(known), dict(unknown), [voice.name for voice in corpus.voices])


def judge(recogniser: Recogniser, speech: HeldSpeech) -> Iterator[Measurement]:
    """Hear everything: presets, with noise, against the next one's phonemes, and strangers."""

    def measure(system: str, number: int, one: Heard, samples: np.ndarray, wanted: np.ndarray) -> Measurement:
        heard = recogniser.transcribe(samples, one.language)
        return Measurement(system, one.language, speech.voices[one.voice], number, error_rate(heard, wanted.tolist()))

    for language in LANGUAGES:
        spoken = speech.presets.get(language, [])
        for number, one in enumerate(spoken):
            samples = one.samples.astype(np.float32) / 32768
            other = spoken[(number + 1) % len(spoken)]
            yield measure("teacher", number, one, samples, one.sequence)
            yield measure("teacher, 20 dB noise", number, one, add_noise(samples, number), one.sequence)
            yield measure("teacher, mismatched", number, one, samples, other.sequence)
        for number, one in enumerate(speech.strangers.get(language, [])):
            yield measure("teacher, held out", number, one, one.samples.astype(np.float32) / 32768, one.sequence)


def report(recogniser: TrainedRecogniser, data: Path, limit: int) -> dict[str, Any]:
    """Hear everything and average; the systems are named as in a report of `python -m benchmarks.quality`."""
    speech = collect(recogniser, data, limit)
    groups: dict[str, list[Measurement]] = defaultdict(list)
    for one in judge(recogniser, speech):
        groups[one.system].append(one)
    systems = {name: summarise_system(group) for name, group in groups.items()}
    return {
        "benchmark": "validity",
        "alphabet": recogniser.phonemes.alphabet,
        "held": {"parts": list(recogniser.held.parts), "voices": list(recogniser.held.voices)},
        "no_stranger_speaks": [language for language in LANGUAGES if language not in speech.strangers],
        "systems": systems,
        "bars": [verdict.to_dict() for verdict in judge_recogniser(systems)],
        "machine": describe_machine(),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge a recogniser and report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("recogniser", type=Path, help="made by train.recogniser")
    parser.add_argument("--data", type=Path, required=True, help="the corpus of shards that it was made of")
    parser.add_argument("--limit", type=int, default=_LIMIT, help="utterances of a language and kind")
    parser.add_argument("--json", type=Path, help="file for the report")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    recogniser = TrainedRecogniser.load(options.recogniser)
    if not recogniser.held.parts:
        parser.exit(
            0,
            f"{options.recogniser} was trained on all there was; python -m benchmarks.quality judges it, with its "
            "teacher\n",
        )
    found = report(recogniser, options.data, options.limit)
    for name, system in found["systems"].items():
        rates = [f"{code} {figures['error_rate']:.3f}" for code, figures in system["by_language"].items()]
        print(f"{name:22} {system['all']['error_rate']:.3f}  {'  '.join(rates)}")
    for bar in found["bars"]:
        word = {True: "met", False: "missed", None: "not measured"}[bar["passes"]]
        print(f"{bar['what']:45} {bar['bar']:8} {word}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
