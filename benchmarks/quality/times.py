"""How near word times are, and whether a calibration finds what it should: the bars of docs/ALIGN.md.

    python -m benchmarks.quality.times --json benchmarks/results/times-DATE.json

Needs the teacher's speech: espeak-ng, or what the teachers of shards said (--takes). Two truths: the teacher's own word
times, on its audio given to the model as codes; and a forced alignment of the teacher's phonemes by the recogniser, on
what the model says. The recogniser's bias is measured on the teacher's audio and taken off.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.cases import MOST_TIMED, Studio, list_lines, list_long_lines
from benchmarks.quality.options import (
    add_model_option,
    add_recogniser_option,
    add_teacher_options,
    open_studio,
    require_sound,
)
from benchmarks.quality.teachers import Take
from train.corpus import CorpusError
from train.recogniser import Recogniser
from train.teacher import TeacherError
from voxtral.align.alignment import Alignment, Head, find_alignment
from voxtral.align.attention import text_attention
from voxtral.align.calibrate import Sentence, Speaking, calibrate, say_sentences
from voxtral.align.path import find_path
from voxtral.align.proportional import proportional_times
from voxtral.align.times import WordClock, word_times
from voxtral.align.words import WordSpans, spoken_words, verbatim_sources
from voxtral.config import NUM_SPECIAL_CODES
from voxtral.device import describe_machine
from voxtral.loading.checkpoint import shared_fingerprint
from voxtral.loading.load import open_tokenizer
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import build_prompt
from voxtral.tts import VoxtralTTS
from voxtral.types import WordTime
from voxtral.voices.library import VoiceLibrary

_FINAL_WITHIN_S = 0.6
_RESAMPLES = 400

Starts = dict[int, float]
"""Seconds at which the word at an offset of the text begins."""


@dataclass(frozen=True, eq=False)
class Case:
    """A text in a voice as somebody says it.

    Attributes:
        text: one segment.
        language: of the text.
        weights: of all heads, [T, n] each.
        samples: [S] float32.
        words: of the text.
        truth: when words begin.
        guess: when the forced alignment says so, on the teacher's audio.
    """

    text: str
    language: str
    weights: dict[Head, np.ndarray]
    samples: np.ndarray
    words: WordSpans
    truth: Starts
    guess: Starts


class Stage:
    """Makes cases with the model and its teacher.

    Args:
        speaking: the loaded model.
        recogniser: hears phonemes.
        studio: has the teacher.
    """

    def __init__(self, speaking: Speaking, recogniser: Recogniser, studio: Studio) -> None:
        self.speaking = speaking
        self._recogniser = recogniser
        self._studio = studio

    def taught(self, text: str, language: str, voice: str) -> Case:
        """Let the teacher speak, and give its audio to the model as codes."""
        take = self._studio.take(text, language, voice)
        samples = np.asarray(take.samples, np.float32)

        def encode(model: VoxtralModel) -> torch.Tensor:
            return (model.encode_audio(torch.from_numpy(samples)) + NUM_SPECIAL_CODES).T

        tokens = self.speaking.engine.call(encode)
        guess = force(self._recogniser, samples, language, take)
        truth = {first: start for start, first, _ in take.words}
        return self._case(text, language, voice, tokens, samples, truth, guess)

    def own(self, text: str, language: str, voice: str, seed: int) -> Case | None:
        """Let the model speak; None where it comes to no end."""
        spoken = say_sentences(self.speaking, [Sentence(text, language, voice, seed)])
        if not spoken:
            return None
        said = spoken[0]
        truth = force(self._recogniser, said.samples, language, self._studio.take(text, language, voice))
        return self._case(text, language, voice, said.audio_tokens, said.samples, truth, {})

    def _case(
        self,
        text: str,
        language: str,
        voice: str,
        tokens: torch.Tensor,
        samples: np.ndarray,
        truth: Starts,
        guess: Starts,
    ) -> Case:
        speaking = self.speaking
        rows = speaking.voices.load(voice).rows
        prompt = build_prompt(speaking.tokenizer, text, rows.shape[0])
        weights = speaking.engine.call(lambda model: text_attention(model, prompt, rows, tokens))
        pieces = speaking.tokenizer.pieces(speaking.tokenizer.encode(text))
        words = spoken_words(text, text, verbatim_sources(0, len(text)), pieces)
        heads = {head: of_head[:-1].cpu().numpy() for head, of_head in weights.items()}
        return Case(text, language, heads, samples, words, truth, guess)


@torch.inference_mode()
def force(recogniser: Recogniser, samples: np.ndarray, language: str, take: Take) -> Starts:
    """Align the phonemes of a take with samples of the same text, and give the start of each word's first one."""
    events = take.words
    scores = recogniser.log_probabilities(samples, language)  # [T, classes] every 20 ms
    symbols: list[int] = []
    owners: list[int] = []
    word = 0
    for start, name in recogniser.phonemes.time(take.phonemes, language):
        while word + 1 < len(events) and events[word + 1][0] <= start + 1e-4:
            word += 1
        number = recogniser.phonemes.ids.get(name, 0)
        if number:
            symbols.append(number)
            owners.append(word)
    # Silence may stand before, between and after phonemes: states 0, 2, 4, ...
    states = np.zeros(2 * len(symbols) + 1, dtype=np.int64)
    states[1::2] = symbols
    emitted = scores[:, states]
    best = np.full(len(states), -np.inf)
    best[:2] = emitted[0, :2]
    may_skip = np.arange(len(states)) % 2 == 1
    steps = np.zeros(emitted.shape, dtype=np.int64)
    for frame in range(1, len(emitted)):
        one = np.concatenate(([-np.inf], best[:-1]))
        two = np.where(may_skip, np.concatenate(([-np.inf, -np.inf], best[:-2])), -np.inf)
        ways = np.stack((best, one, two))
        steps[frame] = ways.argmax(axis=0)
        best = ways.max(axis=0) + emitted[frame]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    starts: Starts = {}
    for frame in range(len(emitted) - 1, -1, -1):
        if state % 2:
            starts[events[owners[state // 2]][1]] = frame * 0.02
        state -= int(steps[frame, state])
    return starts


# Figures.


def errors_of(case: Case, times: Sequence[WordTime]) -> list[float]:
    """Give the seconds by which each word with a truth begins too late."""
    found = {time.text_start: time.start_s for time in times}
    return [found[first] - start for first, start in case.truth.items() if first in found]


def times_of(case: Case, alignment: Alignment, config: Any) -> tuple[WordTime, ...]:
    """Time a case as a finished segment is timed."""
    weights = np.mean([case.weights[head] for head in alignment.heads], axis=0)
    path = find_path(weights, alignment.max_step)
    rate = config.sample_rate
    return word_times(case.words, path, weights, case.samples, rate, alignment, frame_rate=config.frame_rate)


def stream(case: Case, alignment: Alignment, config: Any, step: int = 1) -> tuple[list[WordTime], list[float]]:
    """Time a case as its frames come, a few at a time: its words, and how long after its end each was final."""
    weights = np.mean([case.weights[head] for head in alignment.heads], axis=0)
    clock = WordClock(case.words, alignment, frame_rate=config.frame_rate, sample_rate=config.sample_rate)
    size = config.samples_per_frame
    times: list[WordTime] = []
    delays: list[float] = []
    for first in range(0, len(weights), step):
        rows = weights[first : first + step]
        clock.add_samples(case.samples[first * size : (first + step) * size])
        new = clock.add_frames(rows)
        if first + step >= len(weights):
            new += clock.end()
        delays += [(first + len(rows)) / config.frame_rate - time.end_s for time in new]
        times += new
    return times, delays


@dataclass(frozen=True)
class Bar:
    """A figure against its bar.

    Attributes:
        what: that was measured.
        value: the figure.
        low: of the 95 % interval by resampling utterances.
        high: of the same.
        bar: what it must not exceed; at least, where `is_least`.
        num_utterances: that it stands on.
        num_words: the same.
        is_least: whether more is better.
    """

    what: str
    value: float
    low: float
    high: float
    bar: float | None
    num_utterances: int
    num_words: int
    is_least: bool = False

    @property
    def passes(self) -> bool | None:
        """Whether the figure keeps to the bar; None without one."""
        if self.bar is None:
            return None
        return self.value >= self.bar if self.is_least else self.value <= self.bar


def judge(
    what: str, groups: Sequence[Sequence[float]], figure: Callable[[np.ndarray], float], bar: float | None, **more: bool
) -> Bar:
    """Take a figure of all words of all utterances, with its interval."""
    kept = [np.asarray(group) for group in groups if len(group)]
    rng = np.random.default_rng(1)
    drawn = [
        figure(np.concatenate([kept[index] for index in rng.integers(0, len(kept), len(kept))]))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    every = np.concatenate(kept)
    return Bar(what, figure(every), float(low), float(high), bar, len(kept), len(every), **more)


def median_ms(errors: np.ndarray) -> float:
    """Take the median of what is too late or too early."""
    return 1000 * float(np.median(np.abs(errors)))


def p90_ms(errors: np.ndarray) -> float:
    """Take the 90th percentile of the same."""
    return 1000 * float(np.percentile(np.abs(errors), 90))


def bias_ms(errors: np.ndarray) -> float:
    """Take the median of what is too late."""
    return 1000 * float(np.median(errors))


def accuracy(name: str, groups: Sequence[Sequence[float]], median: float | None, p90: float | None) -> list[Bar]:
    """Judge median, 90th percentile and bias of a kind of case."""
    return [
        judge(f"{name}, median", groups, median_ms, median),
        judge(f"{name}, 90th percentile", groups, p90_ms, p90),
        judge(f"{name}, bias", groups, bias_ms, None),
    ]


def measure(stage: Stage, alignment: Alignment, split: str, limit: int) -> list[Bar]:
    """Judge the times of the teacher's and the model's own speech."""
    config = stage.speaking.config
    taught = [
        stage.taught(text, language, voice)
        for language in config.languages
        for text, voice, _ in list_lines(split, language, limit)
    ]
    # The teacher's audio has not been through the codec.
    dry = replace(alignment, codec_lag_s=0.0)
    bars = accuracy(
        "teacher-forced against the teacher's word times",
        [errors_of(case, times_of(case, dry, config)) for case in taught],
        15,
        45,
    )
    off = [case.guess[first] - start for case in taught for first, start in case.truth.items() if first in case.guess]
    bias = float(np.median(off))
    bars += accuracy(
        "the forced alignment itself, teacher's audio",
        [[case.guess[f] - s for f, s in case.truth.items() if f in case.guess] for case in taught],
        None,
        None,
    )

    def corrected(case: Case | None) -> Iterator[Case]:
        if case is not None:
            yield replace(case, truth={first: start - bias for first, start in case.truth.items()})

    own = [
        case
        for language in config.languages
        for text, voice, seed in list_lines(split, language, limit)
        for case in corrected(stage.own(text, language, voice, seed))
    ]
    bars += accuracy("own speech", [errors_of(case, times_of(case, alignment, config)) for case in own], 25, 70)
    for language in config.languages:
        groups = [errors_of(case, times_of(case, alignment, config)) for case in own if case.language == language]
        bars.append(judge(f"own speech, {language}, median", groups, median_ms, 35))
    long = [
        case
        for language in config.languages
        for text, voice, seed in list_long_lines(split, language, limit)
        for case in corrected(stage.own(text, language, voice, seed))
    ]
    bars += accuracy(
        "own speech, 100 to 110 characters",
        [errors_of(case, times_of(case, alignment, config)) for case in long],
        25,
        70,
    )
    bars += accuracy(
        "own speech, proportional", [errors_of(case, proportional(case, config)) for case in own], None, None
    )
    streamed = [(case, *stream(case, alignment, config)) for case in [*own, *long]]
    bars.append(
        judge(
            f"streams, words final within {_FINAL_WITHIN_S} s of their end, share",
            [delays for *_, delays in streamed],
            lambda delays: float(np.mean(delays <= _FINAL_WITHIN_S)),
            0.95,
            is_least=True,
        )
    )
    bars.append(
        judge(
            "streams of 1 frame and of 5, times equal, share",
            [[float(times == stream(case, alignment, config, 5)[0])] for case, times, _ in streamed],
            lambda same: float(np.mean(same)),
            1.0,
            is_least=True,
        )
    )
    apart = [
        [abs(one.start_s - other.start_s) for one, other in zip(times, times_of(case, alignment, config), strict=True)]
        for case, times, _ in streamed
    ]
    bars.append(
        judge(
            "streams, words within 1 ms of the finished segment's, share",
            apart,
            lambda all_apart: float(np.mean(all_apart < 1e-3)),
            0.99,
            is_least=True,
        )
    )
    return bars


def proportional(case: Case, config: Any) -> tuple[WordTime, ...]:
    """Time a case without the model."""
    sources = verbatim_sources(0, len(case.text))
    return proportional_times(case.text, case.text, sources, case.samples, config.sample_rate)


# Calibration.


def spoil(model: VoxtralModel, how: str) -> None:
    """Take from a model what aligns it, in place: its heads, or its knowledge of letters."""
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        if how == "shuffled text embeddings":
            rows = torch.arange(64, len(model.text_embeddings))  # what stands before are special tokens
            shuffled = model.text_embeddings.clone()
            shuffled[rows] = model.text_embeddings[rows[torch.randperm(len(rows), generator=generator)]]
            model.text_embeddings = shuffled
            return
        for layer in model.backbone.layers:
            for parameter in layer.attention.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.std())


def calibrate_all(model: str, guided: Sequence[Head]) -> dict[str, Any]:
    """Calibrate a model, without its best heads, and spoiled."""
    found: dict[str, Any] = {}
    for how in ("as it is", "best heads masked", "shuffled text embeddings", "random heads"):
        with VoxtralTTS.from_pretrained(model, device="cpu") as tts:
            speaking = speaking_of(tts)
            if how in ("shuffled text embeddings", "random heads"):
                speaking.engine.call(lambda weights, how=how: spoil(weights, how))
            started = time.perf_counter()
            alignment = calibrate(speaking, without=guided if how == "best heads masked" else ()).alignment
            found[how] = {
                "heads": alignment.heads,
                "head_lead_s": alignment.head_lead_s,
                "codec_lag_s": alignment.codec_lag_s,
                "figures": dict(alignment.figures),
                "seconds": round(time.perf_counter() - started, 1),
            }
    return found


def speaking_of(tts: VoxtralTTS) -> Speaking:
    """Give the parts of a loaded model."""
    checkpoint = tts.checkpoint
    voices = VoiceLibrary(checkpoint.folder, checkpoint.config)
    return Speaking(checkpoint, open_tokenizer(checkpoint), voices, tts.engine)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add_model_option(parser)
    add_recogniser_option(parser)
    add_teacher_options(parser)
    parser.add_argument("--split", default="test", choices=("test", "dev"))
    parser.add_argument("--limit", type=int, default=MOST_TIMED, help="sentences of each language")
    parser.add_argument("--calibration", action="store_true", help="calibrate too, as it is and spoiled")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    recogniser = Recogniser.load(options.recogniser)
    try:
        studio = open_studio(options, recogniser.phonemes, with_word_lists=False)
        require_sound(studio, "timing words")
    except (CorpusError, TeacherError) as error:
        parser.exit(2, f"{error}\n")
    with VoxtralTTS.from_pretrained(options.model, device="cpu") as tts:
        speaking = speaking_of(tts)
        backbone, fingerprint = tts.config.backbone, shared_fingerprint(tts.checkpoint)
        alignment = find_alignment(tts.checkpoint.folder, fingerprint, backbone, print)
        if alignment is None or not alignment.has_aligner:
            raise SystemExit(f"{options.model} has no alignment; run voxtral align calibrate first")
        bars = measure(Stage(speaking, recogniser, studio), alignment, options.split, options.limit)
    report: dict[str, Any] = {
        "benchmark": "times",
        "model": options.model,
        "alphabet": recogniser.phonemes.alphabet,
        "split": options.split,
        "limit": options.limit,
        "heads": alignment.heads,
        "machine": describe_machine(),
        "bars": [{**vars(bar), "passes": bar.passes} for bar in bars],
    }
    if options.calibration:
        report["calibration"] = calibrate_all(options.model, alignment.heads)
    report["seconds"] = round(time.perf_counter() - started, 1)
    for bar in bars:
        word = {True: "pass", False: "FAIL", None: "-"}[bar.passes]
        rule = "" if bar.bar is None else f", bar {bar.bar:g}: {word}"
        print(f"{bar.what:56} {bar.value:8.3g} ({bar.low:.3g} to {bar.high:.3g}){rule}; {bar.num_words} words")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
