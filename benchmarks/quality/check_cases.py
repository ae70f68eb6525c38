"""Speech for the bars of the checks: good sentences, faults that are put in, and texts that are too long for the model.

What was put in is another text, or a change of the frames; the check is given the text that should have been said.
Faults of the model's own come of texts of 260 to 380 characters, and of several sentences, that are spoken as one
segment, with nothing that holds the model to its text. `benchmarks.quality.checks` judges what comes of it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.quality.odd_texts import OddText
from benchmarks.quality.references import read_check_texts
from train.recogniser import Recogniser
from voxtral.align.attention import listen
from voxtral.config import NUM_SPECIAL_CODES
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.text.normalize import write_in_kana
from voxtral.text.prompt import Prompt, build_prompt
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.voices.library import VoiceLibrary

Edit = Literal["none", "cut off", "stuck", "loop"]

# Frames that a segment may take: the usual budget at 0.25 s a character would let babble go on for a minute.
_BASE_FRAMES, _FRAMES_PER_CHAR = 60, 2.0
_STUCK_FRAMES = 12
_LONG_WORD = 4
# What is left of speech that is cut off.
_CUT_TO = 0.8
_PIECE_S = 8.0
# Sentences of a segment.
_JOINED = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Variant:
    """One way to judge what was spoken.

    Attributes:
        kind: what is wrong with it.
        text: that it is judged by.
        edit: done to the frames.
    """

    kind: str
    text: str
    edit: Edit = "none"


@dataclass(frozen=True)
class Job:
    """A text to be spoken once, and the ways to judge it.

    Attributes:
        id: of the speech.
        language: of the text.
        given: what the model is given.
        voice: preset.
        seed: of the noise.
        variants: see Variant.
        texts: ids of the texts that it is made of, where the recogniser is to hear it.
    """

    id: str
    language: str
    given: str
    voice: str
    seed: int
    variants: tuple[Variant, ...]
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class CheckCase:
    """Speech and the text that it should say.

    Attributes:
        id: of the speech.
        kind: what is wrong with it.
        language: of the text.
        voice: preset.
        seed: of the noise.
        text: that should be said, as the model would be given it.
        stop: how the engine stopped.
        no_end: -log of the probability of END_AUDIO after the last frame.
        texts: ids of the texts that it is made of, where the recogniser heard it.
        heard: phonemes.
        weights: [T + 1, n] float32.
        codes: [T, K] int16.
        samples: [S] float32.
    """

    id: str
    kind: str
    language: str
    voice: str
    seed: int
    text: str
    stop: str
    no_end: float
    texts: tuple[str, ...]
    heard: tuple[int, ...]
    weights: np.ndarray
    codes: np.ndarray
    samples: np.ndarray


class Stage:
    """The parts of a loaded model that speak here.

    Args:
        engine: without a follower nothing holds it to a text.
        tokenizer: of the checkpoint.
        voices: of the checkpoint.
        heads: whose attention is kept.
        recogniser: hears.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: SpeechTokenizer,
        voices: VoiceLibrary,
        heads: tuple[tuple[int, int], ...],
        recogniser: Recogniser,
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._voices = voices
        self._heads = heads
        self._recogniser = recogniser
        self.config, self.sample_rate = engine.call(lambda model: (model.config, model.config.sample_rate))

    def start(self, job: Job) -> tuple[GenerationHandle, GenerationTrace]:
        """Begin to speak."""
        prompt, generation = self._prompt(job.given, job.voice), self.config.generation
        voice = self._voices.load(job.voice)
        max_frames = int(_BASE_FRAMES + _FRAMES_PER_CHAR * len(job.given))
        request = GenerationRequest(
            prompt=prompt,
            voice_rows=voice.rows,
            noise=SeededNoise(job.seed, 0, self.config.codebooks.num_acoustic),
            noise_key=(job.seed, 0),
            guidance_scale=generation.guidance_scale,
            noise_scale=generation.noise_scale,
            num_euler_steps=generation.num_euler_steps,
            max_frames=min(max_frames, self.config.backbone.max_seq_len - len(prompt.token_ids)),
            voice_key=voice.key,
            max_buffered_frames=max_frames,
        )
        trace = GenerationTrace()
        return self._engine.submit(request, trace=trace), trace

    def finish(self, job: Job, handle: GenerationHandle, trace: GenerationTrace) -> Iterator[CheckCase]:
        """Take what was spoken, and make all variants of it."""
        samples = np.concatenate([chunk.samples for chunk in handle.chunks()])
        frames = torch.stack(trace.audio_tokens)[: handle.stats.num_frames]
        heard = self._hear(samples, job.language) if job.texts else ()
        rows = self._voices.load(job.voice).rows
        for variant in job.variants:
            edited, sound = self._edit(variant.edit, frames, samples)
            prompt = self._prompt(variant.text, job.voice)
            found = self._engine.call(lambda model, p=prompt, f=edited: listen(model, p, rows, f, self._heads))
            weights = torch.stack([found.weights[head] for head in self._heads]).mean(0).cpu().numpy()
            yield CheckCase(
                id=job.id,
                kind=variant.kind,
                language=job.language,
                voice=job.voice,
                seed=job.seed,
                text=variant.text,
                stop=str(handle.stop),
                no_end=found.no_end,
                texts=job.texts,
                heard=heard,
                weights=weights,
                codes=(edited - NUM_SPECIAL_CODES).cpu().numpy().astype(np.int16),
                samples=sound,
            )

    def _prompt(self, text: str, voice: str) -> Prompt:
        return build_prompt(self._tokenizer, text, self._voices.load(voice).rows.shape[0])

    def _hear(self, samples: np.ndarray, language: str) -> tuple[int, ...]:
        heard: list[int] = []
        for start in range(0, len(samples), round(_PIECE_S * self.sample_rate)):
            heard += self._recogniser.transcribe(samples[start : start + round(_PIECE_S * self.sample_rate)], language)
        return tuple(heard)

    def _edit(self, edit: Edit, frames: Tensor, samples: np.ndarray) -> tuple[Tensor, np.ndarray]:
        if edit == "none":
            return frames, samples
        num_frames, middle = len(frames), len(frames) // 2
        if edit == "cut off":
            kept = max(1, int(num_frames * _CUT_TO))
            return frames[:kept], samples[: kept * (len(samples) // num_frames)]
        if edit == "stuck":
            more = frames[middle - 1 : middle].repeat(_STUCK_FRAMES, 1)
        else:
            length = min(middle, 5 + num_frames % 4)
            more = frames[middle - length : middle].repeat(2, 1)
        edited = torch.cat([frames[:middle], more, frames[middle:]])
        codes = (edited - NUM_SPECIAL_CODES).T.contiguous()
        return edited, self._engine.call(lambda model: model.decode_codes(codes)).float().cpu().numpy()


def list_jobs(name: str, num_seeds: int, languages: Sequence[str], *, with_faults: bool = False) -> list[Job]:
    """List what is to be spoken of one of the sets.

    Args:
        name: calibration, judging or long.
        num_seeds: of each text.
        languages: codes.
        with_faults: put faults into the sentences, too.
    """
    texts = [_in_kana(text) for text in read_check_texts(name, languages)]
    jobs: list[Job] = []
    for number, text in enumerate(texts):
        others = [other for other in texts if other.language == text.language and other.id != text.id]
        other = others[number % len(others)].text
        for seed in range(num_seeds):
            variants = [Variant("long" if name == "long" else "good", text.text)]
            if with_faults and seed == 0:
                variants.append(Variant("other text", other))
                variants += [Variant(edit, text.text, edit) for edit in ("cut off", "stuck", "loop")]
            voice = _voice(text.language, number + seed)
            jobs.append(Job(f"{text.id}-{seed}", text.language, text.text, voice, seed, tuple(variants), (text.id,)))
        if with_faults:
            jobs += _faulty(text, other, _voice(text.language, number), number)
    return jobs


def list_joined(name: str, num_seeds: int, languages: Sequence[str]) -> list[Job]:
    """List segments of several sentences each, some of which the model gets through and some of which it does not."""
    jobs: list[Job] = []
    for language in languages:
        texts = [_in_kana(text) for text in read_check_texts(name, [language])]
        for number, (size, start) in enumerate(product(_JOINED, (0, len(texts) // 2))):
            members = [texts[(start + offset) % len(texts)] for offset in range(size)]
            text = " ".join(member.text for member in members)
            for seed in range(num_seeds):
                job_id = f"{language}-joined-{name}-{size}-{start}-{seed}"
                ids = tuple(member.id for member in members)
                voice = _voice(language, number + seed)
                jobs.append(Job(job_id, language, text, voice, seed, (Variant("joined", text),), ids))
    return jobs


def _voice(language: str, number: int) -> str:
    return f"{language}_{'fm'[number % 2]}1"


def _in_kana(text: OddText) -> OddText:
    if text.language != "ja":
        return text
    spoken = write_in_kana(text.text).text
    return OddText(text.id, text.language, text.kind, spoken, spoken)


def _faulty(text: OddText, other: str, voice: str, number: int) -> Iterator[Job]:
    """Give other texts to be said in place of one, a seed of its own each."""
    rng = random.Random(text.id)
    words = text.text.split()
    foreign = [word.strip(".,;:!?¿¡।؟،。、？") for word in other.split()]
    foreign = [word for word in foreign if len(word) >= _LONG_WORD] or foreign
    inner = range(1, len(words) - 1)
    long = [place for place in inner if len(word := words[place].strip(".,;:!?¿¡।؟،。、？")) >= _LONG_WORD and word]
    short = [place for place in inner if place not in long]
    given: dict[str, list[str]] = {}
    if long:
        place = rng.choice(long)
        given["skipped word"] = words[:place] + words[place + 1 :]
        place = rng.choice(long)
        given["other word"] = [*words[:place], rng.choice(foreign), *words[place + 1 :]]
    if short:
        place = rng.choice(short)
        given["skipped short word"] = words[:place] + words[place + 1 :]
    if len(words) >= 3:
        place = rng.randrange(len(words) - 2)
        given["repeated phrase"] = [*words[: place + 2], *words[place : place + 2], *words[place + 2 :]]
        place = rng.choice(inner)
        given["invented word"] = [*words[:place], rng.choice(foreign), *words[place:]]
        given["end missing"] = [*words[:-3], words[-3].rstrip(",;:") + "."]
        given["babble after the end"] = [*words, *other.split()[:3]]
    for offset, (kind, said) in enumerate(given.items()):
        job_id = f"{text.id}-{kind.replace(' ', '_')}"
        yield Job(
            job_id, text.language, " ".join(said), voice, 100 + number + 1000 * offset, (Variant(kind, text.text),)
        )


def case_path(folder: Path, job: Job, variant: Variant) -> Path:
    """Say where a case is kept."""
    return folder / f"{job.id}.{variant.kind.replace(' ', '_')}.npz"


def write_case(path: Path, case: CheckCase) -> None:
    """Keep a case; arrays are rounded to what the checks can tell apart."""
    facts: dict[str, Any] = asdict(case)
    weights, codes, samples = (facts.pop(name) for name in ("weights", "codes", "samples"))
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(
            file,
            facts=np.array(json.dumps(facts)),
            weights=weights.astype(np.float16),
            codes=codes,
            samples=np.round(np.clip(samples, -1, 1) * 32767).astype(np.int16),
        )
    partial.replace(path)


def read_case(path: Path) -> CheckCase:
    """Read what `write_case` wrote."""
    with np.load(path) as data:
        facts = json.loads(str(data["facts"]))
        facts |= {name: tuple(facts.get(name, ())) for name in ("texts", "heard")}
        weights, samples = data["weights"].astype(np.float32), data["samples"].astype(np.float32) / 32767
        return CheckCase(**facts, weights=weights, codes=data["codes"], samples=samples)
