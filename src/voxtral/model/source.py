"""What the source-filter head filters: a pulse train at the pitch of a voice, and noise.

Both depend on where a stream is and on nothing else: phases are whole numbers, which add up to the same however they
are cut, and noise is made of the number of its sample. Read next: `voxtral.model.source_filter`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voxtral.model.codec_protocol import NoiseKey

# Hz. The pitch output is in octaves from the middle; what lies outside the range is taken for its end.
MIDDLE_PITCH, LOWEST_PITCH, HIGHEST_PITCH = 150.0, 50.0, 600.0

# A period of the pulse train in steps of its phase.
_PERIOD = 1 << 32
# Nearer to the middle of a pulse the quotient of two sines is no number.
_PULSE_MIDDLE = 1e-6

# Philox makes blocks of four words of 64 bits, and a word makes four samples of noise.
_SAMPLES_PER_BLOCK, _WORDS_PER_BLOCK = 16, 4
# Tells this noise from that of the flow, which has the same key and 0 in this word of the counter.
_COUNTER = 1


@dataclass(frozen=True)
class NoisePlace:
    """Where a stream is in its noise.

    Attributes:
        key: of the stream.
        frame: that comes next.
    """

    key: NoiseKey = (0, 0)
    frame: int = 0

    def after(self, num_frames: int) -> NoisePlace:
        """Go on by some frames."""
        return NoisePlace(self.key, self.frame + num_frames)


@dataclass(frozen=True, eq=False)
class Pitch:
    """The pitch at the end of each of T steps.

    Attributes:
        f0: [B, T] float32, Hz.
        gate: [B, T] float32, 0 to 1, how loud the pulses are.
    """

    f0: Tensor
    gate: Tensor

    def split(self, num_steps: int) -> list[Pitch]:
        """Cut after every so many steps."""
        parts = zip(self.f0.split(num_steps, dim=1), self.gate.split(num_steps, dim=1), strict=True)
        return [Pitch(f0, gate) for f0, gate in parts]


def wide_dtype(device: torch.device) -> torch.dtype:
    """Give the dtype of what must not depend on rounding; MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def draw_source_noise(places: Sequence[NoisePlace], num_frames: int, samples_per_frame: int) -> Tensor:
    """Make the noise of the next frames: of mean 0 and variance 1, uniform, each sample by itself.

    Sample n of a frame is made of key, frame and n alone, in integers: the same bits on any machine.

    Args:
        places: of each row.
        num_frames: T.
        samples_per_frame: of each frame.

    Returns:
        [B, T * samples_per_frame] float32 in CPU memory.
    """
    blocks = -(-samples_per_frame // _SAMPLES_PER_BLOCK)
    rows: list[np.ndarray] = []
    for place in places:
        key, counter = (np.array(part, np.uint64) for part in (place.key, (place.frame * blocks, 0, _COUNTER, 0)))
        words = np.random.Philox(key=key, counter=counter).random_raw(num_frames * blocks * _WORDS_PER_BLOCK)
        rows.append(words.astype("<u8").view("<u2").reshape(num_frames, -1)[:, :samples_per_frame].reshape(-1))
    # Steps of 2**-16 around 0, scaled to unit variance.
    noise = (np.stack(rows).astype(np.float32) - np.float32(32767.5)) * np.float32(math.sqrt(12) * 2.0**-16)
    return torch.from_numpy(noise)


def pulse_train(f0: Tensor, gate: Tensor, phase: Tensor, *, patch: int, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Make a band-limited pulse train with the spectral density of white noise of unit variance.

    Equal cosines of all harmonics below half the sample rate; the next higher one fades in as the pitch falls, so that
    the train depends on the pitch without jumps. Within a step pitch and gate go in a line.

    Args:
        f0: [B, T + 1] float32 in Hz, at the ends of the last step of the call before and of each step; 0 in the first
            place where the stream begins.
        gate: [B, T + 1] float32.
        phase: [B] int64, at the last sample of the call before, in 2**-32 of a period.
        patch: samples of a step.
        sample_rate: in Hz.

    Returns:
        [B, T * patch] float32, and the phase at its last sample [B] int64.
    """
    begin = torch.where(f0[:, :1] > 0, f0[:, :1], f0[:, 1:2])
    wide = torch.cat((begin, f0[:, 1:]), dim=1).to(wide_dtype(f0.device))
    ramp = torch.arange(1, patch + 1, device=f0.device, dtype=wide.dtype) / patch
    pitch = (wide[:, :-1, None] + (wide[:, 1:] - wide[:, :-1])[..., None] * ramp).flatten(1)
    level = (gate[:, :-1, None] + (gate[:, 1:] - gate[:, :-1])[..., None] * ramp.float()).flatten(1)
    steps = (pitch * (_PERIOD / sample_rate)).round().long()
    phases = (phase[:, None] + steps.cumsum(1)) & (_PERIOD - 1)
    # From the middle of a pulse, where float32 is finest.
    angle = (phases - (phases & (_PERIOD // 2)) * 2).float() * (2 * math.pi / _PERIOD)
    harmonics = sample_rate / 2 / pitch
    count = harmonics.floor()
    share, count = (harmonics - count).float(), count.float()
    half = torch.sin(angle / 2)
    is_middle = half.abs() < _PULSE_MIDDLE
    train = torch.sin((count + 0.5) * angle) / (2 * torch.where(is_middle, 1.0, half)) - 0.5
    train = torch.where(is_middle, count, train) + share * torch.cos((count + 1) * angle)
    return train * (pitch.float() * (4 / sample_rate)).sqrt() * level, phases[:, -1]
