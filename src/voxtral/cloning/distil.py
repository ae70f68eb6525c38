"""What an encoder learns from: sound whose codes are known, and sound that has to come out of the frozen decoder again.

A step is drawn on the CPU from its number alone, so that a training that goes on makes the same one again; the
Distiller turns it into gradients, a few rows at a time where memory is short. Read next: `voxtral.cloning.trainer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.cloning.augment import Disturbance, draw_disturbance, vary_codes
from voxtral.cloning.pitch import measure_pitch, places_of_steps
from voxtral.cloning.prior import as_levels
from voxtral.cloning.spectra import SpectralDistance, pitch_distance
from voxtral.config import ModelConfig
from voxtral.errors import TrainingError
from voxtral.model.codec import CodecDecoder
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.source import Pitch

_CE_WEIGHT, _COMMITMENT_WEIGHT, _LEVEL_WEIGHT, _SOUND_WEIGHT = 0.3, 0.3, 6.0, 0.3
_LEVEL_BETA = 0.1
# Of the pitch that a source-filter head is told, in spectral distances: an octave, and a nat of voicing.
_PITCH_WEIGHT, _VOICING_WEIGHT = 1.0, 0.1
# How sharply entries are told apart at first, in units of the spread of the table.
_SHARPNESS = 8.0
# Entries that were used less in the codec's own training may lie anywhere.
_LEAST_USAGE = 1e-3
# Half of the crops begin where an item does, for an encoder hears nothing before its first sample.
_START_SHARE = 0.5
# Rows whose sound is compared, too, in the last part of a training; and those of unlabelled speech.
SOUND_SHARE, SPEECH_SHARE = 0.25, 0.25
# Levels go through the decoder rounded, beside their place by up to half a step, or as they are.
_ROUNDED, _BESIDE = 0.5, 0.75


class Pairs:
    """Codes of many items, one behind the other, and crops of them.

    Args:
        items: [K, T] int64 each.

    Raises:
        TrainingError: there is nothing.
    """

    def __init__(self, items: Sequence[Tensor]) -> None:
        if not items:
            raise TrainingError("there are no pairs to learn from; make some: voxtral train-encoder --phase generate")
        self._starts = np.cumsum([0, *(each.shape[1] for each in items[:-1])])
        self._codes = torch.cat(list(items), dim=1)

    @property
    def num_frames(self) -> int:
        """Frames of all items."""
        return self._codes.shape[1]

    def draw(self, count: int, num_frames: int, draw: np.random.Generator) -> Tensor:
        """Cut [count, K, num_frames]; what is longer than an item goes on with the next."""
        firsts = np.where(
            draw.random(count) < _START_SHARE,
            draw.choice(self._starts, count),
            draw.integers(self.num_frames, size=count),
        )
        places = torch.from_numpy((firsts[:, None] + np.arange(num_frames)) % self.num_frames)
        return self._codes[:, places].transpose(0, 1)


@dataclass(frozen=True, eq=False)
class StepInput:
    """What a step computes with, in CPU memory; B rows of pairs, R of speech.

    Attributes:
        codes: [B, K, T] int64, with frames more than are encoded, for a decoder that is late.
        disturbance: what is done to their sound.
        num_sounding: of these rows, how many are compared by sound, too: the first.
        speech: [R, S] float32, unlabelled.
        kinds: [num_sounding + R, 1, 1], 0 to 1, what is done to their levels on the way through the decoder.
        beside: of these rows, [..., T, A], -1/2 to 1/2.
    """

    codes: Tensor
    disturbance: Disturbance
    num_sounding: int
    speech: Tensor
    kinds: Tensor
    beside: Tensor


@dataclass(frozen=True)
class StepResult:
    """What a step measured, averaged over its rows.

    Attributes:
        loss: all of it.
        entropy: nats, of the semantic code.
        semantic: share of semantic codes that are right.
        levels: mean distance of acoustic codes, in levels.
        sound: spectral distance; 0 where none was compared.
    """

    loss: float
    entropy: float
    semantic: float
    levels: float
    sound: float


class Distiller(nn.Module):
    """An encoder, the decoder that it learns from, and what the two are compared by.

    Args:
        config: sizes.
        decoder: its weights stay as they are; on its device everything runs.
        usage: [V] of the entries of the semantic table.
        lateness: samples by which the decoder is late.
        is_half: compute the encoder in bfloat16 where that is exact enough; its weights are in float32.
    """

    def __init__(
        self, config: ModelConfig, decoder: CodecDecoder, usage: Tensor, lateness: int, *, is_half: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.decoder = decoder.requires_grad_(False)
        self.encoder = CodecEncoder(config.codec)
        self.log_sharpness = nn.Parameter(torch.zeros(()))
        self.lateness = lateness
        self.distance = SpectralDistance(config.sample_rate)
        self._is_half = is_half
        table = decoder.quantizer.semantic_table
        self._is_used = (usage >= _LEAST_USAGE).to(table.device) & torch.isfinite(table).all(1)
        used = table[self._is_used]
        self._spread = float((used - used.mean(0)).pow(2).sum(-1).mean().clamp(min=1e-9))
        self.to(table.device)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.log_sharpness.device

    @property
    def num_extra(self) -> int:
        """Frames that are decoded beyond those that are encoded."""
        return -(-self.lateness // self.config.samples_per_frame)

    @property
    def trained(self) -> list[nn.Parameter]:
        """What is learned: the encoder, and how sharply entries are told apart."""
        return [*self.encoder.parameters(), self.log_sharpness]

    @torch.no_grad()
    def sound(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Decode codes [B, K, T + num_extra].

        Returns:
            What an encoder hears of T frames, [B, S], and the same where the decoder says it, late, [B, S].
        """
        late = self.decode(self.decoder.quantizer.codes_to_latent(codes.to(self.device), self.decoder.latent_dtype))
        size = (codes.shape[-1] - self.num_extra) * self.config.samples_per_frame
        return late[:, self.lateness : self.lateness + size], late[:, :size]

    def decode(self, latent: Tensor, pitch: Pitch | None = None) -> Tensor:
        """Decode a latent [B, C, T] at once; a pitch drives a source-filter head in place of its own."""
        latent = latent.to(self.decoder.latent_dtype)
        return self.decoder.decode_latent(latent, frames_per_pass=latent.shape[-1], pitch=pitch)

    @torch.no_grad()
    def pitch_of_codes(self, codes: Tensor, num_frames: int) -> Pitch | None:
        """Tell the pitch of codes [B, K, T], of their first frames; None where the head has no source."""
        said = self.decoder.predict_pitch(self.decoder.quantizer.codes_to_latent(codes.to(self.device), torch.float32))
        return None if said is None else said.resolve().split(num_frames * self.config.codec.steps_per_frame)[0]

    def pitch_of_sound(self, late: Tensor) -> Pitch | None:
        """Measure the pitch of sound as the decoder is to say it, [B, S]; None where the head has no source."""
        codec = self.config.codec
        if codec.source_filter_head is None:
            return None
        places = places_of_steps(late.shape[-1] // codec.patch_size, codec.patch_size)
        read = [measure_pitch(row.cpu().numpy(), codec.sample_rate).at(places) for row in late]
        f0, gate = (torch.from_numpy(np.stack(column)).float() for column in zip(*read, strict=True))
        return Pitch(f0.to(self.device), gate.to(self.device))

    def encode(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Encode [B, S] to what stands for the semantic code, [B, T, C], and levels in (-1, 1), [B, T, A]; float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_half):
            latent = self.encoder(samples)
        latent = latent.float().transpose(1, 2)
        size = self.config.codec.semantic_dim
        return latent[..., :size], torch.tanh(latent[..., size:])

    def add_gradients(self, step: StepInput, rows_at_once: int) -> StepResult:
        """Compute a step and add to the gradients.

        Args:
            step: all of it.
            rows_at_once: more take more memory, and no other result but for rounding.
        """
        totals = torch.zeros(5, device=self.device)
        num_rows, num_sounding = len(step.codes), step.num_sounding + len(step.speech)
        for rows in _slices(num_rows, rows_at_once):
            measured, semantic, levels, late = self._pair_losses(step, rows)
            loss = measured[0] / num_rows
            count = max(0, min(rows.stop, step.num_sounding) - rows.start)
            if count:
                sounding = slice(rows.start, rows.start + count)
                pitch = self.pitch_of_codes(step.codes[sounding], semantic.shape[1])
                distance = self._sound_loss(step, sounding, semantic[:count], levels[:count], late[:count], pitch)
                loss = loss + _SOUND_WEIGHT * distance / num_sounding
                totals[4] += distance.detach() / num_sounding
            loss.backward()
            totals[0] += loss.detach()
            totals[1:4] += measured[1:].detach() / num_rows
        for rows in _slices(len(step.speech), rows_at_once):
            samples = step.speech[rows].to(self.device)
            late = F.pad(samples, (self.lateness, 0))[:, : samples.shape[-1]]
            behind = slice(rows.start + step.num_sounding, rows.stop + step.num_sounding)
            distance = self._sound_loss(step, behind, *self.encode(samples), late, self.pitch_of_sound(late))
            loss = _SOUND_WEIGHT * distance / num_sounding
            loss.backward()
            totals[0] += loss.detach()
            totals[4] += distance.detach() / num_sounding
        return StepResult(*totals.tolist())

    def _pair_losses(self, step: StepInput, rows: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compare some rows with their codes: sums over rows of loss, entropy, right codes and levels; and the rest."""
        codes = step.codes[rows].to(self.device)
        heard, late = self.sound(codes)
        heard = step.disturbance.take(rows).apply(heard, self.config.sample_rate)
        semantic, levels = self.encode(heard)
        wanted = codes[:, :, : semantic.shape[1]].transpose(1, 2)  # [B, T, K]
        table = self.decoder.quantizer.semantic_table
        # Of all entries by their distance, as the product chooses one; by angle the length would be left free.
        distances = semantic.pow(2).sum(-1, keepdim=True) - 2 * semantic @ table.T + table.pow(2).sum(-1)
        logits = -distances / self._spread * _SHARPNESS * self.log_sharpness.exp()
        is_known = self._is_used[wanted[..., 0]]
        logits = logits.masked_fill(~self._is_used, -torch.inf)
        right = wanted[..., 0].masked_fill(~is_known, -100)
        entropy = F.cross_entropy(logits.flatten(0, 1), right.flatten(), reduction="sum") / semantic.shape[1]
        off = (semantic - table[wanted[..., 0]]).pow(2).sum(-1) / self._spread
        commitment = (off * is_known).mean(1).sum()
        target = as_levels(wanted[..., 1:], self.config.codebooks.acoustic_size)
        away = F.smooth_l1_loss(levels, target, beta=_LEVEL_BETA, reduction="none").mean((1, 2)).sum()
        loss = _CE_WEIGHT * entropy + _COMMITMENT_WEIGHT * commitment + _LEVEL_WEIGHT * away
        with torch.no_grad():
            is_right = (logits.argmax(-1) == wanted[..., 0]).float().mean(1).sum()
            num_levels = (levels - target).abs().mean((1, 2)).sum() * (self.config.codebooks.acoustic_size - 1) / 2
        return torch.stack((loss, entropy, is_right, num_levels)), semantic, levels, late

    def _sound_loss(
        self, step: StepInput, rows: slice, semantic: Tensor, levels: Tensor, late: Tensor, pitch: Pitch | None
    ) -> Tensor:
        """Compare the sound of what was found with what was heard, summed over rows; semantic codes get no gradient.

        A source-filter head sounds at the pitch that was heard, and that the codes tell it is wanted besides.
        """
        half = (self.config.codebooks.acoustic_size - 1) / 2
        table = self.decoder.quantizer.semantic_table
        with torch.no_grad():
            entries = table[(semantic @ table.T - 0.5 * table.pow(2).sum(-1)).argmax(-1)]
        kinds = step.kinds[rows].to(self.device)
        rounded = levels + (torch.round(levels * half) / half - levels).detach()
        beside = levels + step.beside[rows].to(self.device) / half
        levels = torch.where(kinds < _ROUNDED, rounded, torch.where(kinds < _BESIDE, beside, levels))
        latent = torch.cat((entries, levels), dim=-1).transpose(1, 2)
        made = self.decode(latent, pitch)
        with torch.no_grad():
            wanted = self.distance.spectra(late)
        distance, _ = self.distance(made, wanted)
        said = self.decoder.predict_pitch(latent)
        if said is None or pitch is None:
            return distance.sum()
        octaves, voicing = pitch_distance(said, pitch, torch.ones_like(pitch.gate, dtype=torch.bool))
        return (distance + _PITCH_WEIGHT * octaves + _VOICING_WEIGHT * voicing).sum()


def draw_step(
    pairs: Pairs,
    config: ModelConfig,
    draw: np.random.Generator,
    *,
    rows: int,
    frames: int,
    extra: int,
    sounds: bool,
    num_speech: int = 0,
) -> StepInput:
    """Draw what a step computes with.

    Args:
        pairs: to cut from.
        config: sizes.
        draw: where chance comes from.
        rows: B.
        frames: that are encoded.
        extra: that are decoded beyond.
        sounds: whether sound is compared.
        num_speech: rows of speech besides, which whoever has some puts into the result.
    """
    codes = vary_codes(pairs.draw(rows, frames + extra, draw), config.codebooks.acoustic_size, draw)
    disturbance = draw_disturbance(rows, frames * config.samples_per_frame, config.sample_rate, draw)
    num_sounding = max(1, round(SOUND_SHARE * rows)) if sounds else 0
    num_heard = num_sounding + num_speech
    beside = draw.random((num_heard, frames, config.codebooks.num_acoustic), np.float32) - 0.5
    return StepInput(
        codes,
        disturbance,
        num_sounding,
        torch.zeros(0, frames * config.samples_per_frame),
        torch.from_numpy(draw.random((num_heard, 1, 1), np.float32)),
        torch.from_numpy(beside),
    )


def _slices(num_rows: int, at_once: int) -> Iterator[slice]:
    for start in range(0, num_rows, at_once):
        yield slice(start, min(start + at_once, num_rows))
