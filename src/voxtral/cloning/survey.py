"""What a checkpoint's own files and speech tell of how its voices can be cloned, before anything is made of them.

Each look is by itself and gives figures; `voxtral doctor --cloning` says what they mean. Nothing here needs a clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from voxtral.audio.condition import active_level, to_db
from voxtral.cloning.judge import Lineup
from voxtral.cloning.speakers import SpeakerMeasure
from voxtral.cloning.spectra import SpectralDistance
from voxtral.cloning.subjects import Preset, make_subjects, spread, take_apart
from voxtral.cloning.talk import Line, Talker, sentences_for
from voxtral.loading.checkpoint import Checkpoint, TensorReader
from voxtral.loading.inventory import CODEBOOK
from voxtral.model.voxtral import CodecModel
from voxtral.voices.prompt import VoicePrompt

# Entries of the semantic table that training used less were never given a place.
_LEAST_USAGE = 1e-3

# Voices and sentences of each by which the language model is tried, and what is done to their codes.
_TRIED_VOICES, _TRIED_SENTENCES = 4, 2
JITTERS = (0, 1, 2, 5)
RANDOM_SEMANTICS = "random semantics"


@dataclass(frozen=True)
class Rows:
    """The rows of a preset.

    Attributes:
        name: of the preset.
        frames: how many there are.
        share: of the frames that come apart into codes.
        residual: the largest relative length that is left of those.
        end: cosine of the last row and the row of END_AUDIO.
    """

    name: str
    frames: int
    share: float
    residual: float
    end: float


@dataclass(frozen=True)
class Level:
    """How loud speech is, in dB of full scale.

    Attributes:
        mean: of the voices, while they speak.
        lowest: of the most quiet one.
        highest: of the loudest.
        peak: the highest sample of all.
    """

    mean: float
    lowest: float
    highest: float
    peak: float


@dataclass(frozen=True)
class Entries:
    """Entries of the semantic table.

    Attributes:
        total: how many there are.
        unused: those that the training of the codec did not use.
        heard: those that occur in the codes at hand.
        frames: of these codes.
    """

    total: int
    unused: int
    heard: int
    frames: int


@dataclass(frozen=True)
class Tolerance:
    """What the language model makes of a voice whose codes were changed.

    Attributes:
        change: what was done to them.
        sentences: that were said.
        length: of them, beside that of the same with the codes unchanged.
        ended: share that ended by itself.
        same_minus_other: how much nearer they are to the voice than to the others.
    """

    change: str
    sentences: int
    length: float
    ended: float
    same_minus_other: float


def look_at_rows(model: CodecModel, voice: VoicePrompt) -> Rows:
    """Take the rows of a preset apart, and look at the last."""
    codes, share = take_apart(voice, lambda function: function(model))
    rows = voice.rows.to(model.device, torch.float32)
    end = model.embed_codes(torch.zeros(len(model.config.codebooks.offsets), 1, dtype=torch.int64, device=model.device))
    cosine = torch.nn.functional.cosine_similarity(rows[-1], end[-1].float(), dim=0)
    residual = 0.0
    if codes.shape[1]:
        rebuilt = model.embed_codes(codes.to(model.device))[:-1].float()
        # Frames that did not come apart were left out, so that each has to find its own.
        near = torch.cdist(rebuilt, rows[:-1]).min(dim=1).values / rebuilt.norm(dim=1).clamp(min=1e-9)
        residual = float(near.max())
    return Rows(voice.name, len(rows) - 1, share, residual, float(cosine))


def measure_level(presets: Sequence[Preset], sample_rate: int) -> Level:
    """Measure how loud the presets are."""
    levels = [active_level(preset.sound, sample_rate) for preset in presets]
    peak = max(float(np.abs(preset.sound).max()) for preset in presets)
    return Level(fmean(levels), min(levels), max(levels), to_db(peak**2))


def count_entries(checkpoint: Checkpoint, sequences: Sequence[Tensor]) -> Entries:
    """Count semantic entries that are used.

    Args:
        checkpoint: whose codec says how often its training used each.
        sequences: codes [K, T] of speech.

    Raises:
        CheckpointError: the table cannot be read.
    """
    usage = TensorReader(checkpoint).read(f"{CODEBOOK}cluster_usage").float()
    heard = {int(code) for codes in sequences for code in codes[0].unique()}
    frames = sum(codes.shape[1] for codes in sequences)
    return Entries(len(usage), int((usage < _LEAST_USAGE).sum()), len(heard), frames)


def weigh_semantics(model: CodecModel, presets: Sequence[Preset], seed: int = 0) -> float:
    """Compare what it changes to mix up semantic codes with what it changes to mix up acoustic ones.

    Returns:
        The spectral distance of the first, of that of the second.
    """
    generator = torch.Generator().manual_seed(seed)
    distance = SpectralDistance(model.config.sample_rate).to(model.device)
    changes: list[tuple[float, float]] = []
    for preset in presets:
        codes = preset.codes.to(model.device)
        order = torch.randperm(codes.shape[1], generator=generator).to(model.device)
        target = distance.spectra(model.decode_codes(codes).float()[None])
        off: list[float] = []
        for part in (slice(0, 1), slice(1, None)):
            mixed = codes.clone()
            mixed[part] = codes[part][:, order]
            off.append(float(distance(model.decode_codes(mixed).float()[None], target)[0]))
        changes.append((off[0], off[1]))
    return fmean(semantic for semantic, _ in changes) / max(fmean(acoustic for _, acoustic in changes), 1e-9)


def try_tolerance(
    talker: Talker,
    presets: Sequence[Preset],
    measure: SpeakerMeasure,
    on_said: Callable[[], None] = lambda: None,
) -> Iterator[tuple[Tolerance, list[Tensor]]]:
    """Let voices speak whose codes are off by some levels, or have semantic codes of nothing.

    Args:
        talker: says sentences.
        presets: of the model; four of them are tried, or all of fewer.
        measure: compares voices.
        on_said: called after each sentence.

    Yields:
        What came of each change, and the codes that were said; unchanged codes come first.

    Raises:
        EngineError: the engine failed.
    """
    chosen = [presets[place] for place in spread(_TRIED_VOICES, len(presets))]
    lineup = Lineup(make_subjects(chosen, talker, 0, on_said), [measure], talker.config.sample_rate)
    usual: list[float] = []
    for change in (*JITTERS, RANDOM_SEMANTICS):
        lines: list[Line] = []
        for number, preset in enumerate(chosen):
            voice = _changed(preset, change, talker, seed=number)
            texts = sentences_for(preset.language).said[:_TRIED_SENTENCES]
            lines += [Line(text, voice, place) for place, text in enumerate(texts)]
        said = talker.say(lines, on_said, with_codes=True)
        clones = [lineup.judge(line.voice.name, each) for line, each in zip(lines, said, strict=True)]
        usual = usual or [max(clone.seconds, 1e-9) for clone in clones]
        yield (
            Tolerance(
                change=change if isinstance(change, str) else f"{change} levels",
                sentences=len(clones),
                length=fmean(clone.seconds / length for clone, length in zip(clones, usual, strict=True)),
                ended=fmean(clone.ended for clone in clones),
                same_minus_other=fmean(clone.same[measure.name] - clone.other[measure.name] for clone in clones),
            ),
            [each.codes for each in said],
        )


def num_tried(num_presets: int) -> int:
    """Count the sentences that `try_tolerance` has said."""
    voices = min(_TRIED_VOICES, num_presets)
    return voices * (len(sentences_for("en").known) + _TRIED_SENTENCES * (len(JITTERS) + 1))


def _changed(preset: Preset, change: int | str, talker: Talker, *, seed: int) -> VoicePrompt:
    """Make a voice of the codes of a preset, some of which are others."""
    books, generator = talker.config.codebooks, torch.Generator().manual_seed(seed)
    codes = preset.codes.clone()
    if isinstance(change, str):
        codes[0] = torch.randint(books.semantic_size, codes[0].shape, generator=generator)
    else:
        off = torch.randint(-change, change + 1, codes[1:].shape, generator=generator)
        codes[1:] = (codes[1:] + off).clamp(0, books.acoustic_size - 1)
    rows = talker.engine.call(lambda model: model.embed_codes(codes.to(model.device)).cpu()).clone()
    return VoicePrompt(preset.name, rows)
