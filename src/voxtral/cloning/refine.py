"""Codes whose sound is that of a clip, found through the frozen decoder: from nothing, or from those of an encoder.

The decoder has a gradient, so its input is moved until its output sounds like the clip: levels through tanh and
rounding, the semantic code as a free vector that stands for the nearest entry of the table; both pass the gradient on
as if nothing had been rounded. What is compared is always the sound of whole codes, so the best step can be kept; with
a source-filter head, their sound at the pitch of the clip, and the pitch that they tell beside it.

Everything runs in steps: the functions here are generators, which are advanced where the model may be used, such as
between two frames of somebody's speech. Read next: `voxtral.cloning.search`, which does that.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.cloning.options import RefineOptions
from voxtral.cloning.pitch import PitchCurve, measure_pitch, places_of_steps
from voxtral.cloning.prior import CodePrior, as_levels, start_codes
from voxtral.cloning.spectra import SpectralDistance, Spectrum, pitch_distance
from voxtral.errors import NumericsError
from voxtral.model.codec import FRAMES_PER_PASS, CodecDecoder
from voxtral.model.source import Pitch

# The rate of what stands for the semantic code, in spreads of the table for each unit of the rate of levels.
_SEMANTIC_RATE = 4.0
_BETAS = (0.9, 0.98)
_LAST_RATE = 0.05  # of the first, at the end of the cosine
_MAX_GRADIENT = 1.0
# Of the pitch that a source-filter head is told, in spectral distances: an octave, and a nat of voicing.
_PITCH_WEIGHT, _VOICING_WEIGHT = 1.0, 0.1
# Steps after which the best of several starts goes on, and without a better one after which a row is done.
_TRIAL_STEPS, _PATIENCE, _LEAST_GAIN = 60, 60, 0.005
# The largest level, of 1, that a search begins with: tanh has no gradient beyond.
_MAX_LEVEL = 0.98
# On a GPU operations cost as much as what they compute, so there are fewer and larger ones.
_FRAMES_PER_PASS_GPU = 250


@dataclass(frozen=True, eq=False)
class Speechlike:
    """What is known of a decoder from the codes of its presets.

    Attributes:
        sequences: codes [K, T] int64 of speech, to start from.
        prior: what codes of speech are like; None where there are none.
        lateness: samples by which the decoder is late.
        told: how sure that is, see `find_lateness`.
    """

    sequences: tuple[Tensor, ...]
    prior: CodePrior | None
    lateness: int
    told: float


@dataclass(frozen=True, eq=False)
class Refined:
    """What was found for one clip.

    Attributes:
        codes: [K, T] int64 in CPU memory.
        first: spectral distance of the codes that the search began with.
        distance: that of these codes.
        steps: how many were made.
    """

    codes: Tensor
    first: float
    distance: float
    steps: int


@dataclass(frozen=True, eq=False)
class _Job:
    """What does not change during a search; B rows."""

    codec: CodecDecoder
    distance: SpectralDistance
    target: list[Spectrum]
    lengths: Tensor  # [B] samples that count
    is_frame: Tensor  # [B, T]
    prior: CodePrior | None
    options: RefineOptions
    pitch: Pitch | None  # [B, steps] of the clips, for a head that has a source
    held: Tensor  # [B, K, T] codes of an encoder, whose semantic codes stay; without one empty
    anchor: Tensor | None  # [B, T, A] the levels of those

    def take(self, rows: Tensor) -> _Job:
        return _Job(
            self.codec,
            self.distance,
            [spectrum.take(rows.to(spectrum.magnitude.device)) for spectrum in self.target],
            self.lengths[rows],
            self.is_frame[rows],
            self.prior,
            self.options,
            None if self.pitch is None else Pitch(self.pitch.f0[rows], self.pitch.gate[rows]),
            self.held[rows] if len(self.held) else self.held,
            None if self.anchor is None else self.anchor[rows],
        )


class _Best:
    """The best codes of each row so far, and when they were found."""

    def __init__(self, codes: Tensor) -> None:
        num_rows, device = len(codes), codes.device
        self.codes = codes.clone()
        self.score = torch.full((num_rows,), torch.inf, device=device)
        self.distance = torch.full((num_rows,), torch.inf, device=device)
        self.first = torch.full((num_rows,), torch.inf, device=device)
        self.is_done = torch.zeros(num_rows, dtype=torch.bool, device=device)
        self.steps = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self._reference = self.score.clone()
        self._reference_step = self.steps.clone()

    def take(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        for name, value in vars(self).items():
            setattr(self, name, value[rows])

    def look(self, codes: Tensor, score: Tensor, distance: Tensor) -> None:
        """Keep what is better, and find out whose search is over: without a gain, or with a score that is no number."""
        self.steps += ~self.is_done
        self.first = torch.where(self.steps == 1, distance, self.first)
        is_better = (score < self.score) & ~self.is_done
        self.codes = torch.where(is_better[:, None, None], codes, self.codes)
        self.score = torch.where(is_better, score, self.score)
        self.distance = torch.where(is_better, distance, self.distance)
        has_gained = self.score < self._reference * (1 - _LEAST_GAIN)
        self._reference = torch.where(has_gained, self.score, self._reference)
        self._reference_step = torch.where(has_gained, self.steps, self._reference_step)
        self.is_done |= ~torch.isfinite(score) | (self.steps - self._reference_step >= _PATIENCE)


def refine_codes(
    codec: CodecDecoder,
    clips: Sequence[Tensor],
    speechlike: Speechlike,
    options: RefineOptions,
    steps: int,
    codes: Sequence[Tensor] | None = None,
    curves: Sequence[PitchCurve] | None = None,
) -> Generator[float, None, list[Refined]]:
    """Search for the codes of clips, side by side; a clip gets the same codes whatever lies beside it.

    To be advanced with gradients on and outside of inference mode. Yields after each step the mean distance of the best
    codes so far.

    Args:
        codec: the decoder; its weights stay as they are.
        clips: [S] float32 each, at the decoder's rate.
        speechlike: what is known of the decoder.
        options: rates and weights.
        steps: how many to make at most.
        codes: [K, T] of an encoder for each clip, to refine; None starts from nothing.
        curves: the pitch of each clip; None measures it, where the head has a source that it drives.

    Raises:
        NumericsError: the distance of a clip is no number from the first step on.
    """
    codec = _with_gradient(codec)
    job = _make_job(codec, clips, speechlike, options, codes, curves)
    starts = 1 if codes is not None else options.starts
    each = torch.arange(len(clips), device=job.lengths.device).repeat_interleave(starts)
    tried = job.take(each)
    levels, semantic = _beginning(tried, clips, speechlike, codes)
    best = _Best(_round(tried, levels, semantic)[0])
    first = min(_TRIAL_STEPS, steps) if starts > 1 else steps
    levels, semantic = yield from _optimise(tried, levels, semantic, best, range(first), steps)
    if starts > 1:
        winners = best.score.view(-1, starts).argmin(1) + torch.arange(len(clips), device=each.device) * starts
        best.take(winners)
        semantic = None if semantic is None else semantic[winners]
        yield from _optimise(job, levels[winners], semantic, best, range(first, steps), steps)
    if not bool(torch.isfinite(best.distance).all()):
        raise NumericsError("the distance of the clip is not finite; a clip must be plain audio; try another")
    return [
        Refined(
            best.codes[row, :, : int(job.is_frame[row].sum())].cpu(),
            float(best.first[row]),
            float(best.distance[row]),
            int(best.steps[row]),
        )
        for row in range(len(clips))
    ]


def _with_gradient(codec: CodecDecoder) -> CodecDecoder:
    """Give a decoder through which a gradient can go: itself, or a copy in float32.

    On a CPU a product in 16 bits rounds what it adds up; and weights that were made in inference mode can be kept for
    no gradient.
    """
    is_on_cpu = codec.quantizer.semantic_table.device.type == "cpu"
    tensors = (*codec.parameters(), *codec.buffers())
    if not any(tensor.is_inference() for tensor in tensors) and not (is_on_cpu and codec.dtype is not torch.float32):
        return codec
    dtype = torch.float32 if is_on_cpu else codec.dtype
    # What `deepcopy` finds in the memo it takes for the copy: modules are copied, tensors are made here.
    memo: dict[int, Any] = {id(buffer): buffer.detach().clone() for buffer in codec.buffers()}
    for parameter in codec.parameters():
        copied = parameter.detach().to(dtype, copy=True)
        memo[id(parameter)] = torch.nn.Parameter(copied, requires_grad=False)
    return copy.deepcopy(codec, memo)


def _make_job(
    codec: CodecDecoder,
    clips: Sequence[Tensor],
    speechlike: Speechlike,
    options: RefineOptions,
    codes: Sequence[Tensor] | None,
    curves: Sequence[PitchCurve] | None,
) -> _Job:
    config, device = codec.config, codec.quantizer.semantic_table.device
    frame = config.samples_per_frame
    num_frames = [-(-len(clip) // frame) for clip in clips]
    most = max(num_frames)
    target = torch.zeros(len(clips), most * frame)
    lengths = torch.zeros(len(clips), dtype=torch.int64)
    for row, (clip, count) in enumerate(zip(clips, num_frames, strict=True)):
        # The codes of an encoder say when the clip is heard; the decoder says it so much later.
        late = F.pad(clip.float(), (speechlike.lateness, 0))[: count * frame]
        target[row, : len(late)] = late
        lengths[row] = len(late)
    held, anchor = torch.zeros(0, dtype=torch.int64, device=device), None
    if codes is not None:
        held = torch.stack([F.pad(given, (0, most - given.shape[1])) for given in codes]).to(device)
        anchor = as_levels(held[:, 1:], codec.quantizer.codebooks.acoustic_size).transpose(1, 2)
    distance = SpectralDistance(config.sample_rate).to(device)
    with torch.no_grad():
        spectra = distance.spectra(target.to(device))
    is_frame = torch.arange(most) < torch.tensor(num_frames)[:, None]
    prior = None if speechlike.prior is None else speechlike.prior.to(device)
    pitch = None
    if config.source_filter_head is not None:
        known = curves or [measure_pitch(clip.float().cpu().numpy(), config.sample_rate) for clip in clips]
        places = places_of_steps(most * config.steps_per_frame, config.patch_size, speechlike.lateness)
        pitch = _read_pitch(known, places, device)
    return _Job(codec, distance, spectra, lengths.to(device), is_frame.to(device), prior, options, pitch, held, anchor)


def _read_pitch(curves: Sequence[PitchCurve], places: np.ndarray, device: torch.device) -> Pitch:
    read = [curve.at(places) for curve in curves]
    f0, gate = (torch.from_numpy(np.stack(column)).float().to(device) for column in zip(*read, strict=True))
    return Pitch(f0, gate)


def _beginning(
    job: _Job, clips: Sequence[Tensor], speechlike: Speechlike, codes: Sequence[Tensor] | None
) -> tuple[Tensor, Tensor | None]:
    """Choose where the search begins: [B, T, A] before tanh, and [B, T, C] for semantic codes that are free."""
    quantizer = job.codec.quantizer
    num_levels, device = quantizer.codebooks.acoustic_size, job.lengths.device
    if job.anchor is not None:
        return job.anchor.clamp(-_MAX_LEVEL, _MAX_LEVEL).atanh(), None
    num_rows, most = job.is_frame.shape
    starts = num_rows // len(clips)
    if not speechlike.sequences:
        # Nothing is known of speech: the middle of the levels, and entries at random.
        generator = torch.Generator().manual_seed(job.options.seed)
        drawn = torch.randint(quantizer.codebooks.semantic_size, (starts, 1, most), generator=generator)
        middle = torch.zeros(num_rows, most, quantizer.codebooks.num_acoustic, device=device)
        rows = drawn.repeat(len(clips), 1, 1)[:, 0].to(device)
        return middle, quantizer.semantic_table[rows].clone()
    begun: list[Tensor] = []
    for clip_frames in job.is_frame[::starts].sum(1).tolist():
        taken = start_codes(speechlike.sequences, clip_frames, starts, job.options.seed)
        begun.append(F.pad(taken, (0, most - clip_frames)))
    start = torch.cat(begun).to(device)
    levels = as_levels(start[:, 1:], num_levels).transpose(1, 2).clamp(-_MAX_LEVEL, _MAX_LEVEL).atanh()
    seen = torch.cat([as_levels(each[1:], num_levels) for each in speechlike.sequences], dim=1).mean(1).to(device)
    # Half-way to the mean: near enough to speech to be heard as such, and no voice of its own yet.
    levels = 0.5 * levels + 0.5 * seen.clamp(-_MAX_LEVEL, _MAX_LEVEL).atanh()
    return levels, quantizer.semantic_table[start[:, 0]].clone()


def _round(job: _Job, levels: Tensor, semantic: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Turn variables into codes [B, K, T], their latent [B, C, T], which passes a gradient on, and levels [B, T, A]."""
    quantizer = job.codec.quantizer
    scale = (quantizer.codebooks.acoustic_size - 1) / 2
    smooth = torch.tanh(levels)
    rounded = torch.round((smooth.detach() + 1) * scale)
    through = smooth + (rounded / scale - 1 - smooth).detach()
    table = quantizer.semantic_table
    if semantic is None:
        chosen = job.held[:, 0]
        entries = table[chosen]
    else:
        with torch.no_grad():
            chosen = (semantic @ table.T - 0.5 * table.pow(2).sum(1)).argmax(-1)
        entries = semantic + (table[chosen] - semantic).detach()
    codes = torch.cat((chosen[:, None], rounded.long().transpose(1, 2)), dim=1)
    return codes, torch.cat((entries, through), dim=-1).transpose(1, 2), smooth


def _optimise(
    job: _Job, levels: Tensor, semantic: Tensor | None, best: _Best, steps: range, num_steps: int
) -> Generator[float, None, tuple[Tensor, Tensor | None]]:
    """Make some of the steps of a search; return where they led."""
    levels = levels.clone().requires_grad_(True)
    variables, rates = [levels], [job.options.learning_rate]
    if semantic is not None:
        semantic = semantic.clone().requires_grad_(True)
        variables.append(semantic)
        rates.append(job.options.learning_rate * _SEMANTIC_RATE * _spread(job.codec.quantizer.semantic_table))
    groups = [{"params": [each], "lr": rate} for each, rate in zip(variables, rates, strict=True)]
    optimiser = torch.optim.Adam(groups, betas=_BETAS)
    scale = (job.codec.quantizer.codebooks.acoustic_size - 1) / 2  # levels for each unit of tanh
    passes = FRAMES_PER_PASS if levels.device.type == "cpu" else _FRAMES_PER_PASS_GPU
    for step in steps:
        fall = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / num_steps))
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * fall
        codes, latent, smooth = _round(job, levels, semantic)
        # At the pitch of the clip: harmonics beside those of the clip would tell nothing of levels, and pulses pass no
        # gradient on. That the codes say this pitch is wanted besides.
        samples = job.codec.decode_latent(latent.to(job.codec.latent_dtype), frames_per_pass=passes, pitch=job.pitch)
        distance, _ = job.distance(samples, job.target, job.lengths)
        score = distance.to(levels.device) + _pitch_score(job, latent)
        if job.prior is not None:
            score = score + job.options.prior * job.prior.distance(smooth, job.is_frame)
        best.look(codes, score.detach(), distance.detach().to(levels.device))
        loss = score
        if job.anchor is not None:
            away = ((smooth - job.anchor) * scale).pow(2).mean(-1) * job.is_frame
            loss = loss + job.options.pull * away.sum(1) / job.is_frame.sum(1)
        optimiser.zero_grad()
        # The sum: what one row gains is no matter of how many there are.
        loss.sum().backward()
        _tame(variables, best.is_done)
        optimiser.step()
        yield float(best.distance.mean())
        if bool(best.is_done.all()):
            break
    return levels.detach(), None if semantic is None else semantic.detach()


def _pitch_score(job: _Job, latent: Tensor) -> Tensor | float:
    """Judge the pitch that a latent [B, C, T] says, [B]; 0 where the head has none."""
    made = job.codec.predict_pitch(latent)
    if made is None or job.pitch is None:
        return 0.0
    counts = job.is_frame.repeat_interleave(job.codec.config.steps_per_frame, dim=1)
    octaves, voicing = pitch_distance(made, job.pitch, counts)
    return _PITCH_WEIGHT * octaves + _VOICING_WEIGHT * voicing


def _tame(variables: Sequence[Tensor], is_done: Tensor) -> None:
    """Bound the gradient of each row, and stop the rows whose search is over."""
    gradients = [variable.grad for variable in variables if variable.grad is not None]
    norms = torch.stack([gradient.pow(2).sum((1, 2)) for gradient in gradients]).sum(0).sqrt()
    scale = (_MAX_GRADIENT / (norms + 1e-6)).clamp(max=1.0)[:, None, None]
    for gradient in gradients:
        gradient.mul_(scale)
        gradient[is_done | ~torch.isfinite(norms)] = 0.0


def _spread(table: Tensor) -> float:
    """Measure how far entries lie around their middle; entries that were never used lie anywhere, and count little."""
    return 1.4826 * float((table - table.median(0).values).abs().median())
