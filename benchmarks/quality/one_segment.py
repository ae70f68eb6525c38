"""Speech that goes wrong by itself, and speech that is right, for whoever checks speech.

Faults that are put into speech by hand are not those that a model makes. nano makes its own where a text is too long
for one segment: `WholeSpeaker` gives it such a text (`benchmarks/texts/checks/long`, or any other) without cutting it,
and says what was lost. The sentences of `calibration` are for thresholds, those of `judging` for what they are worth.

    python -m benchmarks.quality.one_segment STATE --set long --seeds 1 --shard 1/2

writes codes and verdicts into the folder STATE and prints how many are lost. Of the long texts hardly one is said
whole; `--set judging --join 4` makes texts of which some are and some are not.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.coverage import Coverage, compare
from benchmarks.quality.odd_texts import OddText
from benchmarks.quality.options import add_model_option, add_recogniser_option
from benchmarks.quality.references import CHECK_SETS, CHECK_TEXTS, Spelling, digest, read_check_texts, read_spellings
from benchmarks.quality.spoken import MAX_BATCH, list_jobs, parse_shard
from benchmarks.quality.spoken_report import rate
from train.recogniser import Recogniser
from voxtral.config import END_AUDIO
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationRequest, GenerationTrace
from voxtral.errors import VoxtralWarning
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import open_tokenizer
from voxtral.loading.locate import locate_model
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.tts import VoxtralTTS

# The recogniser was trained on at most 6 s; more is heard in pieces.
_PIECE_SECONDS = 8
# Frames for a character; nano needs one for each, and what runs away is cut off.
_MAX_FRAMES_PER_CHAR, _MAX_FRAMES_PER_KANA, _BASE_FRAMES = 2, 4, 75


@dataclass(frozen=True, eq=False)
class WholeSegment:
    """A text as one segment.

    Attributes:
        text: what was spoken.
        seed: it was spoken with.
        voice: who spoke.
        codes: [T, K] int64, without the end.
        samples: [S] float32 at the model's rate.
        stop: why it ended, "end" or "length".
        coverage: the verdict of the recogniser; `is_lost` is the truth that checks are held to.
    """

    text: OddText
    seed: int
    voice: str
    codes: Tensor
    samples: np.ndarray
    stop: str
    coverage: Coverage


class WholeSpeaker:
    """Speaks texts as one segment each, several at once.

    Args:
        tts: speaks; with room for 2048 positions a text.
        tokenizer: of the same checkpoint.
        recogniser: judges.
        spellings: the references of the texts, by id (`read_spellings(CHECK_TEXTS / name)`, `join_sentences`).
    """

    def __init__(
        self, tts: VoxtralTTS, tokenizer: SpeechTokenizer, recogniser: Recogniser, spellings: Mapping[str, Spelling]
    ) -> None:
        self._tts = tts
        self._tokenizer = tokenizer
        self._recogniser = recogniser
        self._spellings = spellings

    def speak_all(self, jobs: Iterable[tuple[OddText, int]]) -> Iterator[WholeSegment]:
        """Speak texts with their seeds, as many at once as the engine takes, in order."""
        with ThreadPoolExecutor(self._tts.max_batch) as pool:
            for text, seed, voice, codes, samples, stop in pool.map(lambda job: self._generate(*job), jobs):
                coverage = self.judge(text, samples)
                yield WholeSegment(text, seed, voice, codes, samples, stop, coverage)

    def judge(self, text: OddText, samples: np.ndarray) -> Coverage:
        """Say what of a text is in samples [S]."""
        size = _PIECE_SECONDS * self._tts.config.sample_rate
        heard: list[int] = []
        for start in range(0, len(samples), size):
            heard += self._recogniser.transcribe(samples[start : start + size], text.language)
        return compare(heard, self._spellings[text.id].reference(self._recogniser.phonemes))

    def _generate(self, text: OddText, seed: int) -> tuple[OddText, int, str, Tensor, np.ndarray, str]:
        presets = [voice.name for voice in self._tts.voices if voice.language == text.language]
        name = presets[seed % len(presets)]
        voice, config = self._tts.load_voice(name), self._tts.config
        per_char = _MAX_FRAMES_PER_KANA if text.language == "ja" else _MAX_FRAMES_PER_CHAR
        max_frames = _BASE_FRAMES + per_char * len(text.text)
        request = GenerationRequest(
            prompt=build_prompt(self._tokenizer, text.text, voice.rows.shape[0]),
            voice_rows=voice.rows,
            noise=SeededNoise(seed, 0, config.codebooks.num_acoustic),
            noise_key=(seed, 0),
            guidance_scale=config.generation.guidance_scale,
            noise_scale=config.generation.noise_scale,
            num_euler_steps=config.generation.num_euler_steps,
            max_frames=max_frames,
            voice_key=voice.key,
            max_buffered_frames=max_frames,
        )
        trace = GenerationTrace()
        handle = self._tts.engine.submit(request, trace=trace)
        parts = [chunk.samples for chunk in handle.chunks()]
        codes = torch.stack(trace.audio_tokens).cpu().long()
        if int(codes[-1, 0]) == END_AUDIO:
            codes = codes[:-1]
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        return text, seed, name, codes, samples, str(handle.stop)


def join_sentences(
    texts: Sequence[OddText], spellings: Mapping[str, Spelling], count: int
) -> tuple[list[OddText], dict[str, Spelling]]:
    """Join every `count` sentences of a language to one text; those that are left over are left out.

    Args:
        texts: plain sentences, those of a language together.
        spellings: their references.
        count: sentences in a text.

    Returns:
        The texts, and their references.
    """
    joined: list[OddText] = []
    found: dict[str, Spelling] = {}
    for _, group in groupby(texts, lambda text: text.language):
        for some in batched(group, count):
            text = " ".join(one.text for one in some)
            name = f"{some[0].id}+{len(some) - 1}"
            joined.append(replace(some[0], id=name, text=text, plain=text))
            phonemes = tuple(name for one in some for part in spellings[one.id].parts for name in part)
            seconds = sum(spellings[one.id].seconds for one in some)
            found[name] = Spelling(name, digest([text]), (phonemes,), seconds)
    return joined, found


def batched(items: Iterable[OddText], count: int) -> Iterator[tuple[OddText, ...]]:
    """Take `count` at a time, and leave out an incomplete rest."""
    return zip(*[iter(items)] * count, strict=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Speak one of the sets, and keep codes and verdicts."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.quality.one_segment", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("state", type=Path, help="folder for codes and verdicts")
    add_model_option(parser)
    add_recogniser_option(parser)
    parser.add_argument("--set", choices=CHECK_SETS, default="long")
    parser.add_argument("--join", type=int, default=1, metavar="N", help="say N sentences as one text")
    parser.add_argument("--seeds", type=int, default=1, help="of each text")
    parser.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="I/N", help="piece of the work")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    folder = options.state / (options.set if options.join == 1 else f"{options.set}-{options.join}")
    folder.mkdir(parents=True, exist_ok=True)
    recogniser = Recogniser.load(options.recogniser)
    texts = read_check_texts(options.set)
    spellings = read_spellings(CHECK_TEXTS / options.set, recogniser.phonemes.alphabet)
    if options.join > 1:
        texts, spellings = join_sentences(texts, spellings, options.join)
    jobs = list_jobs(texts, options.seeds, options.shard)
    engine = EngineOptions(max_batch=MAX_BATCH, batch_invariant=True, num_threads=1)
    verdicts: list[bool] = []
    lines: list[str] = []
    with VoxtralTTS.from_pretrained(options.model, device="cpu", options=engine) as tts:
        tokenizer = open_tokenizer(open_checkpoint(locate_model(options.model, allow_download=False)))
        speaker = WholeSpeaker(tts, tokenizer, recogniser, spellings)
        for one in speaker.speak_all(jobs):
            np.save(folder / f"{one.text.id}-{one.seed}.npy", one.codes.numpy().astype(np.int16))
            coverage = one.coverage
            verdicts.append(coverage.is_lost)
            found = {
                "id": one.text.id, "seed": one.seed, "voice": one.voice, "num_frames": len(one.codes),
                "stop": one.stop, "is_lost": coverage.is_lost, "is_dropped": coverage.is_dropped,
                "is_extended": coverage.is_extended, "missing": coverage.missing.score,
                "extra": coverage.extra.score, "matched": round(coverage.matched, 3),
            }  # fmt: skip
            lines.append(json.dumps(found) + "\n")
    (folder / f"{options.shard[0]}-of-{options.shard[1]}.jsonl").write_text("".join(lines), encoding="utf-8")
    print(json.dumps(rate(sum(verdicts), len(verdicts))))


if __name__ == "__main__":
    main()
