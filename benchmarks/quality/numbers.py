"""How numbers, dates and money are said, with and without rules: python -m benchmarks.quality.numbers.

    python -m benchmarks.quality.numbers text                          what the rules make of them, without speech
    python -m benchmarks.quality.numbers speak STATE                   speaks, 1,000 sentences in each of three ways
    python -m benchmarks.quality.numbers report STATE --json OUT --markdown TABLE

`benchmarks/texts/numbers/LANGUAGE.txt` has 100 sentences, one a line, with what is written and how a careful speaker
says it: `{14:30|fourteen thirty|two thirty PM}`, where the nearest of several counts. nano speaks each as it is written
with `normalize` auto and off, and the words themselves, which is as well as it can be. What the recogniser hears is
compared with the phonemes of those words (`references.py` keeps them). Japanese needs the extra `ja`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.number_texts import NUMBER_TEXTS, Sentence, read_sentences
from benchmarks.quality.options import add_model_option, add_recogniser_option, describe_run, keep_settings
from benchmarks.quality.phonemes import error_rate, words
from benchmarks.quality.references import Spelling, read_spellings
from benchmarks.quality.spoken import MAX_BATCH, Listener, Utterance, digest_source, read_state, require_same_ears
from benchmarks.report import find_commit
from train.corpus import Phonemes
from train.recogniser import Recogniser
from train.texts import LANGUAGES
from voxtral.device import describe_machine
from voxtral.engine.options import EngineOptions
from voxtral.errors import TextError, VoxtralError, VoxtralWarning
from voxtral.text.normalize import normalize
from voxtral.tts import VoxtralTTS

WAYS = ("auto", "off", "words")
"""The written sentence by the rules and verbatim, and the words of the reference."""

# Figures are worth a look from here on.
_WORSE_BY = 0.1
_NUM_RESAMPLES = 10_000


def is_read_so(sentence: Sentence) -> bool:
    """Tell whether the rules make one of the readings of a sentence, but for case and punctuation."""
    said = normalize(sentence.written, sentence.language, in_kana=sentence.language == "ja").text
    return _plain(said) in map(_plain, sentence.readings)


def _plain(text: str) -> str:
    # Katakana and hiragana are the same sounds, and a line over a vowel stays.
    return "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in "".join(words(text)))


@dataclass(frozen=True)
class Rates:
    """Phoneme error rates of one way in one language.

    Attributes:
        mean: over the sentences.
        low: of the interval that holds the mean in 95 of 100 drawings of sentences.
        high: of it.
        refused: sentences that were not spoken; nothing was heard of them.
    """

    mean: float
    low: float
    high: float
    refused: int


def mean_with_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Average, with the bounds at 95 % by drawing sentences anew.

    >>> mean_with_interval([0.5, 0.5])
    (0.5, 0.5, 0.5)
    """
    given = np.asarray(values, float)
    drawn = np.random.default_rng(0).integers(len(given), size=(_NUM_RESAMPLES, len(given)))
    low, high = np.quantile(given[drawn].mean(1), [0.025, 0.975])
    return round(float(given.mean()), 4), round(float(low), 4), round(float(high), 4)


def judge(
    sentences: Sequence[Sentence],
    heard: Mapping[str, Utterance],
    spellings: Mapping[str, Spelling],
    phonemes: Phonemes,
) -> dict[str, float]:
    """Compare what was heard with the nearest reading: error rates by sentence."""
    rates: dict[str, float] = {}
    for sentence in sentences:
        if (one := heard.get(sentence.id)) is None:
            continue
        references = [spellings[text.id].reference(phonemes).phonemes for text in sentence.as_texts()]
        rates[sentence.id] = min(error_rate(one.heard, reference) for reference in references)
    return rates


def summarise(sentences: Sequence[Sentence], rates: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Average by language, with the difference that the rules make sentence by sentence."""
    table: dict[str, Any] = {}
    for language in dict.fromkeys(sentence.language for sentence in sentences):
        ids = [one.id for one in sentences if one.language == language and all(one.id in by for by in rates.values())]
        if not ids:
            continue
        table[language] = {"sentences": len(ids)}
        for way, by in rates.items():
            table[language][way] = mean_with_interval([by[id] for id in ids])
        if {"auto", "off"} <= rates.keys():
            gains = [rates["off"][id] - rates["auto"][id] for id in ids]
            table[language]["off - auto"] = mean_with_interval(gains)
    return table


def write_markdown(table: Mapping[str, Any]) -> str:
    """Lay the averages out as a table: per cent, with their bounds."""
    ways = [way for way in (*WAYS, "off - auto") if all(way in row for row in table.values())]
    lines = [f"| | {' | '.join(ways)} |", "|---" * (len(ways) + 1) + "|"]
    for language, row in table.items():
        cells = [f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})" for mean, low, high in map(row.get, ways)]
        lines.append(f"| {language} | {' | '.join(cells)} |")
    return "\n".join(lines)


def text(options: argparse.Namespace) -> None:
    """Say how many sentences the rules read as the reference does, and which they do not."""
    for language in options.languages:
        sentences = read_sentences([language])
        others = [one for one in sentences if not is_read_so(one)]
        print(f"{language}: {len(sentences) - len(others)} of {len(sentences)} as a reading has it")
        for one in others:
            said = normalize(one.written, language, in_kana=language == "ja").text
            print(f"  {one.id}: {one.written}\n    said {said}\n    not  {one.readings[0]}")


def speak(options: argparse.Namespace) -> None:
    """Speak all sentences in all ways, but for what is there."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    options.state.mkdir(parents=True, exist_ok=True)
    recogniser = Recogniser.load(options.recogniser)
    keep_settings(options.state / "settings.json", describe_run(options) | {"source": digest_source()})
    engine = EngineOptions(max_batch=MAX_BATCH, batch_invariant=True, num_threads=1)
    with VoxtralTTS.from_pretrained(options.model, device="cpu", options=engine) as tts:
        for language, way in product(options.languages, options.ways):
            folder = options.state / way
            folder.mkdir(exist_ok=True)
            done = {one.id for one in read_state(folder)}
            listener = Listener(tts, recogniser, {"normalize": "off" if way == "words" else way})
            # In both presets of the language in turn, and with the same seed in every way.
            jobs = [(one.text_for(way), number) for number, one in enumerate(read_sentences([language]))]
            with (folder / f"{language}.jsonl").open("a", encoding="utf-8") as file:
                for one in listener.listen([job for job in jobs if job[0].id not in done]):
                    file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
                    file.flush()


def report(options: argparse.Namespace) -> None:
    """Compare, and write what was asked for."""
    sentences = read_sentences(options.languages)
    settings = json.loads((options.state / "settings.json").read_text(encoding="utf-8"))
    require_same_ears(settings, options.recogniser)
    phonemes = Recogniser.load(options.recogniser).phonemes
    spellings = read_spellings(NUMBER_TEXTS, phonemes.alphabet)
    heard = {way: {one.id: one for one in read_state(options.state / way)} for way in options.ways}
    rates = {way: judge(sentences, heard[way], spellings, phonemes) for way in options.ways}
    table = summarise(sentences, rates)
    content: dict[str, Any] = {
        "benchmark": "numbers",
        "commit": find_commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": describe_machine(),
        **settings,
        "error_rates": table,
        "refused": {way: sum(bool(one.refused) for one in heard[way].values()) for way in options.ways},
        "utterances": {
            one.id: {way: round(rates[way][one.id], 3) for way in options.ways if one.id in rates[way]}
            for one in sentences
        },
    }
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(write_markdown(table) + "\n", encoding="utf-8")
    print(write_markdown(table))
    auto, off = rates.get("auto", {}), rates.get("off", {})
    worse = [one for one in sentences if auto.get(one.id, 0) > off.get(one.id, 2) + _WORSE_BY]
    for one in worse:
        said = _said(one)
        print(f"{one.id} worse with rules, {auto[one.id]:.2f} against {off[one.id]:.2f}: {one.written} -> {said}")


def _said(sentence: Sentence) -> str:
    try:
        return normalize(sentence.written, sentence.language, in_kana=sentence.language == "ja").text
    except TextError as error:
        return str(error)


def main(arguments: Sequence[str] | None = None) -> None:
    """Look at the text, speak, or report."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.quality.numbers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    reading = commands.add_parser("text", help="what the rules make of the sentences")
    reading.set_defaults(run=text)
    speaking = commands.add_parser("speak", help="speak the sentences")
    speaking.set_defaults(run=speak)
    add_model_option(speaking)
    reporting = commands.add_parser("report", help="compare what was heard")
    reporting.set_defaults(run=report)
    reporting.add_argument("--json", type=Path, help="file for the report")
    reporting.add_argument("--markdown", type=Path, help="file for the table")
    for command in (speaking, reporting):
        command.add_argument("state", type=Path, help="folder for what was heard")
        command.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
        add_recogniser_option(command)
    for command in (reading, speaking, reporting):
        command.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, VoxtralError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
