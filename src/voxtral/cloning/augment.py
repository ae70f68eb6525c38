"""Speech made unlike what a model says: codes of voices that no preset has, and sound as microphones bring it.

What is done to codes is done to what an encoder has to find, too. What is done to sound is not: the same codes are to
be found in noise, in a room, through a telephone. Everything is drawn from a seed, so that a step can be made again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Codes. A voice that no preset has: an offset of each acoustic dimension, with a standard deviation of up to so many
# levels; two of them in one crop teach that a frame is told by what is near; and levels that are off by one.
_OFFSET_SHARE, _OFFSET_LEVELS = 0.65, 3.0
_TWO_VOICES_SHARE, _JITTER_SHARE = 0.15, 0.30

# Sound. Signal to noise in dB, of white and pink noise; gain, which codes carry, only a little.
_NOISE_SHARE, _NOISE_DB = 0.5, (10.0, 60.0)
_GAIN_DB = 1.5
_SHELF_SHARE, _SHELF_DB, _SHELF_HZ = 0.3, 6.0, (150.0, 6000.0)
_LOW_PASS_SHARE, _LOW_PASS_HZ = 0.1, (3400.0, 8000.0)
_ROOM_SHARE, _ROOM_S, _ROOM_DB = 0.2, (0.1, 0.3), (-20.0, -6.0)
_HUM_SHARE, _HUM_LEVEL = 0.05, 0.01


def vary_codes(codes: Tensor, num_levels: int, draw: np.random.Generator) -> Tensor:
    """Give codes other voices.

    Args:
        codes: [B, K, T] int64.
        num_levels: of an acoustic code.
        draw: where chance comes from.
    """
    num_rows, num_books, num_frames = codes.shape
    shape = (num_rows, num_books - 1, 1)
    strength = _OFFSET_LEVELS * draw.random((num_rows, 1, 1)) * (draw.random((num_rows, 1, 1)) < _OFFSET_SHARE)
    first, second = (np.rint(draw.standard_normal(shape) * strength) for _ in range(2))
    changes = np.where(draw.random((num_rows, 1, 1)) < _TWO_VOICES_SHARE, num_frames // 2, num_frames)
    offsets = np.where(np.arange(num_frames) < changes, first, second)
    jitter = draw.integers(-1, 2, (num_rows, num_books - 1, num_frames))
    offsets += jitter * (draw.random((num_rows, 1, 1)) < _JITTER_SHARE)
    varied = codes.clone()
    varied[:, 1:] = (codes[:, 1:] + torch.from_numpy(offsets).long()).clamp(0, num_levels - 1)
    return varied


@dataclass(frozen=True, eq=False)
class Disturbance:
    """What is done to the sound of B rows.

    Attributes:
        response: [B, F] complex, a gain of each frequency that is heard; None where all are left as they are.
        length: samples of the transform that F is of.
        gain: [B, 1].
        noise: [B, 1], its level relative to the sound; 0 for none.
        is_pink: [B, 1], whether it falls by 3 dB an octave.
        hum: [B, 1] amplitude of what the mains leave, with a little DC.
        hum_hz: [B, 1].
        seed: of the noise.
    """

    response: Tensor | None
    length: int
    gain: Tensor
    noise: Tensor
    is_pink: Tensor
    hum: Tensor
    hum_hz: Tensor
    seed: int

    def take(self, rows: slice) -> Disturbance:
        """Take some of the rows."""
        return Disturbance(
            None if self.response is None else self.response[rows],
            self.length,
            self.gain[rows],
            self.noise[rows],
            self.is_pink[rows],
            self.hum[rows],
            self.hum_hz[rows],
            self.seed + rows.start,
        )

    def apply(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Disturb samples [B, S] float32, S as it was drawn for."""
        device, size = samples.device, samples.shape[-1]
        level = samples.pow(2).mean(-1, keepdim=True).sqrt()
        if self.response is not None:
            heard = torch.fft.rfft(samples, self.length) * self.response.to(device)
            samples = torch.fft.irfft(heard, self.length)[:, :size]
        generator = torch.Generator(device).manual_seed(self.seed)
        noise = torch.randn(samples.shape, generator=generator, device=device)
        is_pink = self.is_pink.to(device)
        if bool(self.is_pink.any()):
            noise = torch.where(is_pink, _pink(noise), noise)
        time = torch.arange(size, device=device) / sample_rate
        hum = self.hum.to(device) * (0.3 + torch.sin(2 * math.pi * self.hum_hz.to(device) * time))
        return (samples + noise * level * self.noise.to(device) + hum) * self.gain.to(device)


def draw_disturbance(num_rows: int, num_samples: int, sample_rate: int, draw: np.random.Generator) -> Disturbance:
    """Choose what is done to the sound of some rows.

    Args:
        num_rows: B.
        num_samples: S of each.
        sample_rate: in Hz.
        draw: where chance comes from.
    """
    length = _good_length(num_samples + round(_ROOM_S[1] * sample_rate))
    response = _draw_response(num_rows, length, sample_rate, draw)
    snr = draw.uniform(*_NOISE_DB, (num_rows, 1))
    noise = 10 ** (-snr / 20) * (draw.random((num_rows, 1)) < _NOISE_SHARE)
    hum = _HUM_LEVEL * draw.random((num_rows, 1)) * (draw.random((num_rows, 1)) < _HUM_SHARE)
    return Disturbance(
        response,
        length,
        _single(10 ** (draw.uniform(-_GAIN_DB, _GAIN_DB, (num_rows, 1)) / 20)),
        _single(noise),
        torch.from_numpy(draw.random((num_rows, 1)) < 0.5),
        _single(hum),
        _single(draw.choice((50.0, 60.0), (num_rows, 1))),
        int(draw.integers(2**62)),
    )


def _draw_response(num_rows: int, length: int, sample_rate: int, draw: np.random.Generator) -> Tensor | None:
    """Choose shelves, the end of the band, and a room."""
    octaves = np.log2(np.fft.rfftfreq(length, 1 / sample_rate).clip(1.0))[None]
    decibels = np.zeros((num_rows, octaves.shape[1]))
    has_shelves = draw.random((num_rows, 1)) < _SHELF_SHARE
    for side in (-1.0, 1.0):
        gain = draw.uniform(-_SHELF_DB, _SHELF_DB, (num_rows, 1)) * has_shelves
        corner = draw.uniform(math.log2(_SHELF_HZ[0]), math.log2(_SHELF_HZ[1]), (num_rows, 1))
        decibels += gain / (1 + np.exp(-4.0 * side * (octaves - corner)))
    is_narrow = draw.random((num_rows, 1)) < _LOW_PASS_SHARE
    end = np.log2(draw.uniform(*_LOW_PASS_HZ, (num_rows, 1)))
    decibels -= np.where(is_narrow, 60.0 / (1 + np.exp(-40.0 * (octaves - end))), 0.0)
    response = 10 ** (decibels / 20) + 0j
    is_room = draw.random(num_rows) < _ROOM_SHARE
    size = round(_ROOM_S[1] * sample_rate)
    for row in range(num_rows):
        seconds, level = draw.uniform(*_ROOM_S), 10 ** (draw.uniform(*_ROOM_DB) / 20)
        if is_room[row]:
            time = np.arange(size) / sample_rate
            tail = draw.standard_normal(size) * 10 ** (-3 * time / seconds)
            tail *= level / np.sqrt(np.square(tail).sum())
            tail[0] = 1.0
            response[row] *= np.fft.rfft(tail, length)
    if not (has_shelves.any() or is_narrow.any() or is_room.any()):
        return None
    return torch.from_numpy(response).to(torch.complex64)


def _pink(noise: Tensor) -> Tensor:
    """Let white noise [B, S] fall by 3 dB an octave, at the level that it had."""
    size = noise.shape[-1]
    length = _good_length(size)
    weights = torch.arange(length // 2 + 1, device=noise.device).clamp(min=1).rsqrt()
    weights = weights / weights.pow(2).mean().sqrt()
    return torch.fft.irfft(torch.fft.rfft(noise, length) * weights, length)[:, :size]


def _good_length(size: int) -> int:
    """Round up to a length whose only large factor is below 16, for the transform."""
    unit = 1 << max(0, size.bit_length() - 4)
    return -(-size // unit) * unit


def _single(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
