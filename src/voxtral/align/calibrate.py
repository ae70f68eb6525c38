"""Calibration: which heads of a checkpoint follow its text, and by how much they mislead. Run once for a checkpoint.

The model says sentences that this package brings along, and its own attention is measured; no heads are known
beforehand, and no other model judges. docs/ALIGN.md explains the rules. Read next: `voxtral.align.heads`.
"""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from voxtral.align.alignment import Alignment, Head, Pace, find_alignment, keep_alignment
from voxtral.align.attention import text_attention
from voxtral.align.heads import HeadFigures, HeadJudge, choose_heads
from voxtral.align.measures import lag_of, lead_of, leads, pause_depth
from voxtral.align.path import find_path
from voxtral.align.times import Track
from voxtral.align.words import WordSpans, spoken_words, verbatim_sources
from voxtral.config import ModelConfig
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.loading.checkpoint import Checkpoint, shared_fingerprint
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import Prompt, build_prompt
from voxtral.text.tokenizer import SpeechTokenizer
from voxtral.types import Voice
from voxtral.voices.presets import VoiceInfo
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Weights = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

T = TypeVar("T")

_SEED = 20
# Frames that a sentence may take: generous, for what goes on longer follows no text.
_BASE_S, _PER_CHAR_S = 3.0, 0.25
_MIN_FRAMES = 4
# An utterance that runs away says nothing of the heads; a checkpoint whose utterances mostly do is not judged.
_MIN_USABLE = 0.5

# A checkpoint whose first sentences come to no end is not listened to any longer.
_FIRST, _MIN_FIRST = 16, 0.25

# Quieter by this, in dB, it is where the path has a pause than inside of words; else the path is of something else.
_MIN_DEPTH_DB = 6.0

_LAG_CLIPS = 6


class SpeakingEngine(Protocol):
    """What is asked of `voxtral.engine.engine.Engine`."""

    @property
    def max_batch(self) -> int:
        """Sequences that make frames side by side."""
        ...

    def submit(self, request: GenerationRequest, *, trace: GenerationTrace | None = None) -> GenerationHandle:
        """Start a request."""
        ...

    def call(self, function: Callable[[VoxtralModel], T]) -> T:
        """Run a function of the model between two frames."""
        ...


class Voices(Protocol):
    """What is asked of `voxtral.voices.library.VoiceLibrary`."""

    def describe(self) -> tuple[VoiceInfo, ...]:
        """List the presets."""
        ...

    def load(self, voice: Voice) -> VoicePrompt:
        """Find a preset by name."""
        ...


@dataclass(frozen=True, eq=False)
class Speaking:
    """The parts of a loaded model that a calibration needs.

    Attributes:
        checkpoint: that it was loaded from.
        tokenizer: of the checkpoint.
        voices: of the checkpoint.
        engine: that speaks.
    """

    checkpoint: Checkpoint
    tokenizer: SpeechTokenizer
    voices: Voices
    engine: SpeakingEngine

    @property
    def config(self) -> ModelConfig:
        """Sizes of the checkpoint."""
        return self.checkpoint.config


@dataclass(frozen=True)
class Sentence:
    """A text to be said in a preset.

    Attributes:
        text: with nothing in it that would be normalised.
        language: of the text.
        voice: name of a preset.
        seed: of the noise.
        is_list: whether each word is followed by a pause.
    """

    text: str
    language: str
    voice: str
    seed: int
    is_list: bool = False


@dataclass(frozen=True, eq=False)
class SpokenSentence:
    """A sentence as the model said it.

    Attributes:
        sentence: what was to be said.
        prompt: of the text.
        audio_tokens: [T, K] int64, without the end.
        samples: [S] float32.
    """

    sentence: Sentence
    prompt: Prompt
    audio_tokens: Tensor
    samples: Samples


@dataclass(frozen=True, eq=False)
class AlignedSentence:
    """A sentence that was said, and where the chosen heads looked meanwhile.

    Attributes:
        spoken: the sentence.
        weights: [T + 1, n], their mean; the last row is that of the end.
        path: [T].
    """

    spoken: SpokenSentence
    weights: Weights
    path: Ints


@dataclass(frozen=True, eq=False)
class Calibration:
    """What came of a calibration.

    Attributes:
        alignment: to be kept.
        figures: of all heads, the best first.
        sentences: those that were said to their end, as the chosen heads see them; empty without an aligner.
    """

    alignment: Alignment
    figures: Mapping[Head, HeadFigures]
    sentences: tuple[AlignedSentence, ...]


Thresholds = Callable[[Speaking, Alignment, Sequence[AlignedSentence]], Mapping[str, float]]
"""Makes the thresholds of the checks of good speech; the alignment that it is given has none yet."""


def alignment_for(
    speaking: Speaking, announce: Callable[[str], None], *, thresholds: Thresholds | None = None
) -> Alignment:
    """Give what is known of a checkpoint, and find it out first where nothing is.

    Args:
        speaking: the loaded model; it computes.
        announce: gets lines for a person: of a file that cannot be used, of a calibration, and of a checkpoint without
            an aligner.
        thresholds: see `calibrate`.

    Raises:
        EngineError: the engine failed.
    """
    checkpoint = speaking.checkpoint
    backbone = checkpoint.config.backbone
    found = find_alignment(checkpoint.folder, shared_fingerprint(checkpoint), backbone, announce)
    if found is not None:
        return found
    announce("finding out which heads of this model follow the text (once), about a minute")
    alignment = calibrate(speaking, thresholds=thresholds).alignment
    keep_alignment(alignment)
    if not alignment.has_aligner:
        announce(
            "no head of this model follows the text: times of words are estimated from their letters, and nothing is "
            "checked"
        )
    return alignment


def calibrate(
    speaking: Speaking,
    *,
    without: Collection[Head] = (),
    thresholds: Thresholds | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Find the heads that follow the text, their lead, the codec's lag and the pace of each language.

    Args:
        speaking: the loaded model; it computes for about a minute.
        without: heads that are not to be chosen.
        thresholds: makes those of the checks, of twice as many sentences; they stay empty without.
        on_progress: called with the sentences that were said, and all.

    Raises:
        EngineError: the engine failed.
    """
    config = speaking.config
    sentences = list(sentences_for(config.languages, speaking.voices.describe(), 1 if thresholds is None else 2))
    spoken = _say_all(speaking, sentences, on_progress)
    codec_lag_s = _codec_lag(speaking, spoken)
    figures: Mapping[Head, HeadFigures] = {}
    max_step = max_step_for(spoken)
    if spoken:
        figures = judge_heads(speaking, spoken, max_step)
    heads = choose_heads(figures, without)
    aligned = tuple(align_sentence(speaking, said, heads, max_step) for said in spoken) if heads else ()
    lists = [one for one in aligned if one.spoken.sentence.is_list]
    depth_db = float(np.mean([_depth(speaking, one, codec_lag_s) for one in lists])) if lists else 0.0
    if depth_db < _MIN_DEPTH_DB:
        heads, aligned = (), ()
    found = [lead for one in lists for lead in _leads(speaking, one)]
    measured = {
        "sentences": len(sentences),
        "said_to_the_end": len(spoken),
        "best_score": max((one.score for one in figures.values()), default=0.0),
        "pause_depth_db": depth_db,
        "onsets": len(found),
        "lead_after_pauses_s": float(np.median(found)) if found else 0.0,
    }
    alignment = Alignment(
        fingerprint=shared_fingerprint(speaking.checkpoint),
        heads=heads,
        max_step=max_step,
        codec_lag_s=round(codec_lag_s, 3),
        head_lead_s=round(lead_of(found, codec_lag_s), 3) if heads else 0.0,
        pace=MappingProxyType(_paces(aligned)),
        figures=MappingProxyType({name: round(float(value), 4) for name, value in measured.items()}),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
    )
    if heads and thresholds is not None:
        alignment = replace(alignment, thresholds=MappingProxyType(dict(thresholds(speaking, alignment, aligned))))
    return Calibration(alignment, figures, aligned)


def sentences_for(languages: Collection[str], presets: Sequence[VoiceInfo], rounds: int) -> Iterator[Sentence]:
    """List what is to be said: the built-in sentences of a checkpoint's languages, in its own presets in turn.

    Args:
        languages: of the checkpoint.
        presets: of the checkpoint; without any there is nothing to be said.
        rounds: times that each sentence is said, with another seed, and in another preset where there are more.
    """
    texts = tomllib.loads(files("voxtral.align").joinpath("data", "sentences.toml").read_text(encoding="utf-8"))
    parts = {
        language: [(text, False) for text in texts[language]["sentences"]]
        + [(text, True) for text in texts[language]["lists"]]
        for language in languages
        if language in texts and presets
    }
    seed = _SEED
    # All languages in turn, so that the first few are of many.
    for number in range(rounds * max(map(len, parts.values()), default=0)):
        for language, of_language in parts.items():
            # A preset of another language does as well as none.
            names = [preset.name for preset in presets if preset.language == language] or [presets[0].name]
            turn, index = divmod(number, len(of_language))
            text, is_list = of_language[index]
            yield Sentence(text, language, names[(index + turn) % len(names)], seed, is_list)
            seed += 1


def _say_all(
    speaking: Speaking, sentences: Sequence[Sentence], on_progress: Callable[[int, int], None]
) -> list[SpokenSentence]:
    """Say sentences; none is given out where most come to no end."""
    spoken: list[SpokenSentence] = []
    for number, said in enumerate(_say(speaking, sentences), 1):
        spoken += [] if said is None else [said]
        on_progress(number, len(sentences))
        if number == _FIRST and len(spoken) < _MIN_FIRST * number:
            return []
    return spoken if len(spoken) >= _MIN_USABLE * len(sentences) else []


def say_sentences(speaking: Speaking, sentences: Sequence[Sentence]) -> list[SpokenSentence]:
    """Say sentences; those that come to no end within their budget are left out."""
    return [said for said in _say(speaking, sentences) if said is not None]


def _say(speaking: Speaking, sentences: Sequence[Sentence]) -> Iterator[SpokenSentence | None]:
    """Say sentences, some side by side; None for one that comes to no end."""
    # Half of what the engine does at a time leaves room for whoever else wants to speak.
    size = max(1, min(_FIRST, speaking.engine.max_batch // 2))
    for first in range(0, len(sentences), size):
        started = [(sentence, *_submit(speaking, sentence)) for sentence in sentences[first : first + size]]
        for sentence, prompt, handle, trace in started:
            parts = [chunk.samples for chunk in handle.chunks()]
            tokens = trace.audio_tokens[:-1] if handle.stop == "end" else []
            if len(tokens) < _MIN_FRAMES:
                yield None
                continue
            yield SpokenSentence(sentence, prompt, torch.stack(tokens).cpu(), np.concatenate(parts))


def _submit(speaking: Speaking, sentence: Sentence) -> tuple[Prompt, GenerationHandle, GenerationTrace]:
    config = speaking.config
    voice = speaking.voices.load(sentence.voice)
    prompt = build_prompt(speaking.tokenizer, sentence.text, voice.rows.shape[0])
    max_frames = math.ceil((_BASE_S + _PER_CHAR_S * len(sentence.text)) * config.frame_rate)
    generation, trace = config.generation, GenerationTrace()
    request = GenerationRequest(
        prompt=prompt,
        voice_rows=voice.rows,
        noise=SeededNoise(sentence.seed, 0, config.codebooks.num_acoustic),
        noise_key=(sentence.seed, 0),
        guidance_scale=generation.guidance_scale,
        noise_scale=generation.noise_scale,
        num_euler_steps=generation.num_euler_steps,
        max_frames=min(max_frames, config.backbone.max_seq_len - len(prompt.token_ids)),
        voice_key=voice.key,
        max_buffered_frames=max_frames,
    )
    return prompt, speaking.engine.submit(request, trace=trace), trace


def max_step_for(spoken: Sequence[SpokenSentence]) -> int:
    """Choose how many tokens a frame may go on by: three times as many as it does on average, and two."""
    if not spoken:
        return 1
    paces = [(said.prompt.text_span[1] - said.prompt.text_span[0]) / len(said.audio_tokens) for said in spoken]
    return math.ceil(3 * float(np.mean(paces))) + 2


def judge_heads(speaking: Speaking, spoken: Sequence[SpokenSentence], max_step: int) -> Mapping[Head, HeadFigures]:
    """Measure how well each head of a model follows the text."""
    judge = HeadJudge(max_step)
    for said in spoken:
        judge.add({head: weights[:-1] for head, weights in _attention(speaking, said, None).items()})
    return judge.figures()


def _attention(speaking: Speaking, said: SpokenSentence, heads: tuple[Head, ...] | None) -> dict[Head, Weights]:
    rows = speaking.voices.load(said.sentence.voice).rows
    measured = speaking.engine.call(
        lambda model: {
            head: weights.cpu()
            for head, weights in text_attention(model, said.prompt, rows, said.audio_tokens, heads).items()
        }
    )
    return {head: weights.numpy() for head, weights in measured.items()}


def align_sentence(speaking: Speaking, said: SpokenSentence, heads: tuple[Head, ...], max_step: int) -> AlignedSentence:
    """Measure where chosen heads look while a sentence is said, and find the way."""
    weights: Weights = np.stack(list(_attention(speaking, said, heads).values())).mean(axis=0)
    return AlignedSentence(said, weights, find_path(weights[:-1], max_step))


def _depth(speaking: Speaking, one: AlignedSentence, codec_lag_s: float) -> float:
    words, track = _words_and_track(speaking, one)
    return pause_depth(words, track, one.spoken.samples, speaking.config.sample_rate, codec_lag_s)


def _leads(speaking: Speaking, one: AlignedSentence) -> list[float]:
    words, track = _words_and_track(speaking, one)
    return leads(words, track, one.spoken.samples, speaking.config.sample_rate)


def _words_and_track(speaking: Speaking, one: AlignedSentence) -> tuple[WordSpans, Track]:
    text, prompt = one.spoken.sentence.text, one.spoken.prompt
    pieces = speaking.tokenizer.pieces(prompt.token_ids[slice(*prompt.text_span)])
    track = Track(speaking.config.frame_rate)
    track.extend(one.path, one.weights)
    return spoken_words(text, text, verbatim_sources(0, len(text)), pieces), track


def _paces(aligned: Sequence[AlignedSentence]) -> dict[str, Pace]:
    by_language: dict[str, list[float]] = {}
    for one in aligned:
        sentence = one.spoken.sentence
        letters = sum(map(str.isalnum, sentence.text))
        if letters and not sentence.is_list:
            by_language.setdefault(sentence.language, []).append(math.log(len(one.path) / letters))
    return {
        language: Pace(
            round(float(np.median(paces)), 4),
            round(float(np.percentile(paces, 84) - np.percentile(paces, 16)) / 2, 4),
        )
        for language, paces in by_language.items()
    }


def _codec_lag(speaking: Speaking, spoken: Sequence[SpokenSentence]) -> float:
    """Measure how much later a clip comes back from the codec, or, without an encoder, take it from its sizes."""
    config = speaking.config
    clips = [said.samples for said in spoken[:: max(1, len(spoken) // _LAG_CLIPS)]][:_LAG_CLIPS]
    if not speaking.checkpoint.has_encoder or not clips:
        # The first convolution sees the patches before its own; what it hears lies half of them back.
        codec = config.codec
        return (codec.patch_kernel - 1) / 2 * codec.patch_size / config.sample_rate
    lags: list[float] = []
    for clip in clips:

        def there_and_back(model: VoxtralModel, clip: Samples = clip) -> Samples:
            return model.decode_codes(model.encode_audio(torch.from_numpy(clip))).float().cpu().numpy()

        lags.append(lag_of(clip, speaking.engine.call(there_and_back), config.sample_rate))
    return float(np.median(lags))
