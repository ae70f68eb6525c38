"""What runs a stream asks of a codec: a state for each stream, frames in, samples out, streams side by side.

`voxtral.model.voxtral.VoxtralModel` is such a codec, with the state of `voxtral.model.codec`; another codec needs no
other engine.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

# Seed and number of a segment: what a codec that draws noise makes it of, with the number of each sample.
NoiseKey = tuple[int, int]


class StreamState(Protocol):
    """What a codec remembers of one stream, or of several whose rows advance together."""

    num_frames: int

    @property
    def noise_key(self) -> NoiseKey:
        """What the state of a single stream was begun with."""
        ...

    @property
    def shape(self) -> Hashable:
        """Equal for states whose streams can be decoded side by side."""
        ...

    @classmethod
    def stack(cls, states: Sequence[Self]) -> Self:
        """Put streams of the same shape side by side, as rows; the states themselves stay as they are."""
        ...

    def take_row(self, stacked: Self, row: int, num_frames: int) -> None:
        """Go on from one row of streams that were decoded side by side, `num_frames` further."""
        ...


StateT = TypeVar("StateT", bound=StreamState)


class StaticCodec(Protocol):
    """A codec that decodes in static shapes: launches and sizes depend on rows and frames alone.

    The state of a stream is a row of numbers; all zeros is a stream that has not begun.
    """

    width: int
    dtype: torch.dtype

    @property
    def noise_per_frame(self) -> int:
        """Samples of noise that a frame takes; 0 where none is drawn."""
        ...

    def draw_noise(self, streams: Sequence[tuple[NoiseKey, int]], num_frames: int) -> Tensor:
        """Make the noise of the next frames of streams, in CPU memory, from the key of each and its frames so far.

        Returns:
            [B, T * noise_per_frame] float32.
        """
        ...

    def __call__(self, audio_tokens: Tensor, packed: Tensor, before: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Decode T frames of each of B streams, without waiting for the device.

        Args:
            audio_tokens: [B, T, K] int64, no END_AUDIO.
            packed: [B, width], the states.
            before: [B] int64, frames that each stream has had.
            noise: [B, T * noise_per_frame] float32, of `draw_noise`.

        Returns:
            Samples [B, S] float32, and the states after these frames.
        """
        ...

    def unpack(self, packed: Tensor, num_frames: int, noise_key: NoiseKey) -> StreamState:
        """Make the state that `StreamingCodec.decode_rows` goes on from, of one stream [width] after some frames."""
        ...


class StreamingCodec(Protocol[StateT]):
    """Audio tokens to samples, exactly streaming: any cutting of the frames gives the samples of the whole."""

    def init_codec_state(self, noise_key: NoiseKey = (0, 0)) -> StateT:
        """Make the state of a stream that has not begun; a codec that draws noise makes it of the key."""
        ...

    def decode_rows(self, audio_tokens: Tensor, state: StateT, *, is_last: bool = False) -> Tensor:
        """Decode T frames of each of B streams side by side: [B, T, K], no END_AUDIO, to [B, S] float32 samples.

        Args:
            audio_tokens: of the frames that follow those that `state` has seen.
            state: of the streams; advanced.
            is_last: no frame follows, so no sample needs to wait for one.
        """
        ...

    def flush_codec(self, state: StateT) -> Tensor:
        """End a stream: return the samples that still waited for frames to come, if any, [S] float32."""
        ...
