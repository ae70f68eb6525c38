"""The source-filter head: hidden states to samples through filters of a pulse train and of noise, causal.

Stands in the place of the convolution `output_proj` where params.json has `source_filter_head`. The pitch is told from
the codes themselves by a small network of its own, in float64: phases add up what the pitch is off by, so the last
bits of the decoder, which depend on how the frames are cut, must not reach it. All else is float32.
Source: this project's extension for nano (docs/MODEL.md, "Source-filter head"), where the sizes are explained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.config import CodecConfig
from voxtral.model.mel import mel_interpolation
from voxtral.model.source import HIGHEST_PITCH, LOWEST_PITCH, MIDDLE_PITCH, Pitch, pulse_train, wide_dtype

# Far louder than full scale and far below hearing, so that a wild hidden state becomes no infinity.
_MAX_LOG_MAGNITUDE, _MIN_LOG_MAGNITUDE = 8.0, -16.0


@dataclass(frozen=True, eq=False)
class PitchOutput:
    """What the pitch network says of T steps.

    Attributes:
        octaves: [B, T], from the middle pitch.
        voicing: [B, T], pulses sound where it is above 0.
    """

    octaves: Tensor
    voicing: Tensor

    def resolve(self) -> Pitch:
        """Decide."""
        f0 = (MIDDLE_PITCH * torch.exp2(self.octaves)).clamp(LOWEST_PITCH, HIGHEST_PITCH)
        return Pitch(f0.float(), (self.voicing > 0).float())


@dataclass(eq=False)
class SourceState:
    """What the head remembers of B streams between two calls; all zeros are streams that have not begun."""

    latents: Tensor  # [B, C, frames - 1] float32, of the last frames
    phase: Tensor  # [B] int64, of the pulse train, in 2**-32 of a period
    f0: Tensor  # [B] float32, Hz at the end of the last step
    gate: Tensor  # [B] float32
    sources: Tensor  # [B, 2, hop] float32, the last half step of pulses and of noise
    tail: Tensor  # [B, reach, hop] float32, what answers add to the half steps to come

    def tensors(self) -> list[Tensor]:
        """List all of it, rows first."""
        return [getattr(self, field.name) for field in fields(self)]

    @classmethod
    def stack(cls, states: Sequence[SourceState]) -> SourceState:
        """Put streams side by side, as rows."""
        return cls(*(torch.cat(parts) for parts in zip(*(state.tensors() for state in states), strict=True)))

    def row(self, number: int) -> SourceState:
        """Copy one row."""
        return SourceState(*(tensor[number : number + 1].clone() for tensor in self.tensors()))


class SourceFilterProjection(nn.Module):
    """Makes the samples of steps from hidden states, from the codes that tell the pitch, and from noise.

    A step writes, for each of its halves, the log magnitudes of two filters at frequencies that are even on the mel
    scale: that of the pulses and that of the noise. Both are of minimum phase. Samples leave half a step after their
    source.
    """

    window: Tensor
    harmonic_table: Tensor
    noise_table: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        head = config.source_filter_head
        assert head is not None, "the config has no source_filter_head"
        self.config = config
        self.head = head
        self.linear = nn.Linear(config.dim, head.outputs_per_step)
        self.pitch_in = nn.Linear(head.pitch_frames * config.latent_dim, head.pitch_dim)
        self.pitch_out = nn.Linear(head.pitch_dim, 2 * config.steps_per_frame)
        self.hop = config.patch_size // 2
        # A power of two that leaves an answer at least as much room as its source took.
        self.fft_size = 1 << (4 * self.hop - 1).bit_length()
        self.num_bins = self.fft_size // 2 + 1
        self.reach = -(-self.fft_size // self.hop) - 1  # half steps that an answer sounds in after its first
        self.init_tables(torch.device("cpu"))

    def init_tables(self, device: torch.device) -> None:
        """Compute what is no weight, float32: the window, and log magnitudes and phases of bins by those of knots."""
        window = torch.hann_window(2 * self.hop, dtype=torch.float32, device=device)
        self.register_buffer("window", window, persistent=False)
        phases = minimum_phase(self.fft_size)
        for name, knots in (("harmonic", self.head.harmonic_knots), ("noise", self.head.noise_knots)):
            levels = mel_interpolation(knots, self.num_bins, self.config.sample_rate)
            table = torch.cat((levels, levels @ phases), dim=1).float().to(device)
            self.register_buffer(f"{name}_table", table, persistent=False)

    def fresh(self, num_rows: int) -> SourceState:
        """Make the state of streams that have not begun."""
        make = self.window.new_zeros
        return SourceState(
            make(num_rows, self.config.latent_dim, self.head.pitch_frames - 1),
            make(num_rows, dtype=torch.int64),
            make(num_rows),
            make(num_rows),
            make(num_rows, 2, self.hop),
            make(num_rows, self.reach, self.hop),
        )

    def predict_pitch(self, latent: Tensor, past: Tensor | None = None) -> PitchOutput:
        """Tell the pitch of the steps of frames from their latent and that of the frames before.

        Args:
            latent: [B, C, T] float32.
            past: [B, C, frames - 1] float32; None where the stream begins.
        """
        num_before = self.head.pitch_frames - 1
        if past is None:
            past = latent.new_zeros(*latent.shape[:2], num_before)
        wide = wide_dtype(latent.device)
        seen = torch.cat((past, latent), dim=-1).to(wide).transpose(1, 2)  # [B, T + frames - 1, C]
        windows = seen.unfold(1, self.head.pitch_frames, 1).transpose(2, 3).flatten(2)  # the oldest frame first
        inner = F.silu(F.linear(windows, self.pitch_in.weight.to(wide), self.pitch_in.bias.to(wide)))
        outputs = F.linear(inner, self.pitch_out.weight.to(wide), self.pitch_out.bias.to(wide))
        octaves, voicing = outputs.chunk(2, dim=-1)
        return PitchOutput(octaves.flatten(1), voicing.flatten(1))

    def forward(
        self, hidden: Tensor, latent: Tensor, noise: Tensor, state: SourceState, pitch: Pitch | None = None
    ) -> tuple[Tensor, SourceState]:
        """Make the samples of the next frames.

        Args:
            hidden: [B, D, T] of the T steps of these frames.
            latent: [B, C, frames] float32.
            noise: [B or 1, T * patch] float32, of `draw_source_noise`.
            state: of the streams; stays as it is.
            pitch: drives the pulses in the place of the codes' own.

        Returns:
            Samples [B, T * patch] float32, and the state after these frames. A gradient goes through the filters alone.
        """
        knots = F.linear(hidden.transpose(1, 2).float(), self.linear.weight.float(), self.linear.bias.float())
        with torch.no_grad():
            latents = torch.cat((state.latents, latent.float()), dim=-1)
            given = self.predict_pitch(latent.float(), state.latents).resolve() if pitch is None else pitch
            pulses, phase = pulse_train(
                torch.cat((state.f0[:, None], given.f0), dim=1),
                torch.cat((state.gate[:, None], given.gate), dim=1),
                state.phase,
                patch=self.config.patch_size,
                sample_rate=self.config.sample_rate,
            )
            made = torch.stack((pulses, noise.expand_as(pulses)), dim=1)
            sources = torch.cat((state.sources, made), dim=2)
        answers = self._filter(sources, knots.unflatten(-1, (2, -1)).flatten(1, 2))
        samples, tail = self._add_up(answers, state.tail)
        kept = latents[..., latents.shape[-1] - self.head.pitch_frames + 1 :]
        renewed = (kept, phase, given.f0[:, -1], given.gate[:, -1], sources[..., -self.hop :], tail)
        return samples, SourceState(*(tensor.clone() for tensor in renewed))

    def _filter(self, sources: Tensor, knots: Tensor) -> Tensor:
        """Filter windows of the sources, a half step apart: [B, 2, (N + 1) * hop] to [B, N, fft_size]."""
        with torch.no_grad():
            segments = sources.unfold(2, 2 * self.hop, self.hop) * self.window  # [B, 2, N, 2 * hop]
            spectra = torch.fft.rfft(segments, n=self.fft_size)
        knots = knots.clamp(_MIN_LOG_MAGNITUDE, _MAX_LOG_MAGNITUDE)
        harmonic, noise = knots.split((self.head.harmonic_knots, self.head.noise_knots), dim=-1)
        shaped = [
            spectra[:, number] * torch.polar(level.exp(), phase)
            for number, (level, phase) in enumerate(
                (part @ table).chunk(2, dim=-1)
                for part, table in ((harmonic, self.harmonic_table), (noise, self.noise_table))
            )
        ]
        return torch.fft.irfft(shaped[0] + shaped[1], n=self.fft_size)

    def _add_up(self, answers: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Let each answer begin a half step after the last: [B, N, fft_size] to [B, N * hop] and what is left over."""
        num_parts, num_steps = self.reach + 1, answers.shape[1]
        parts = F.pad(answers, (0, num_parts * self.hop - self.fft_size)).unflatten(-1, (num_parts, self.hop))
        total = F.pad(tail, (0, 0, 0, num_steps))
        for number in range(num_parts):
            # Part i of an answer sounds i half steps after its first.
            total = total + F.pad(parts[:, :, number], (0, 0, number, self.reach - number))
        return total[:, :num_steps].flatten(1), total[:, num_steps:]


def minimum_phase(fft_size: int) -> Tensor:
    """Make the table that turns log magnitudes of bins into the phases of the filter of minimum phase.

    Source: the folded cepstrum, as in Oppenheim and Schafer, Discrete-Time Signal Processing, chapter 13.

    Returns:
        [bins, bins] float64.
    """
    cpu = torch.device("cpu")
    cepstra = torch.fft.irfft(torch.eye(fft_size // 2 + 1, dtype=torch.float64, device=cpu), n=fft_size)
    fold = torch.zeros(fft_size, dtype=torch.float64, device=cpu)
    fold[0] = fold[fft_size // 2] = 1
    fold[1 : fft_size // 2] = 2
    return torch.fft.rfft(cepstra * fold).imag
