"""The runner's record of an admitted sequence. Read next: `voxtral.engine.runner`, which makes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from voxtral.engine.blocks import Reservation
from voxtral.engine.sequence import GenerationRequest, GenerationTrace
from voxtral.model.codec_protocol import StreamState
from voxtral.model.kernels.text import TextKeys


@dataclass(frozen=True, eq=False)
class SwappedOut:
    """What a row had on the device, in CPU memory."""

    keys: Tensor  # [L, blocks, block size, Hkv, Dh]
    values: Tensor  # [L, blocks, block size, Hkv, Dh]
    carried: Tensor  # [D], embedding of its last frame


@dataclass(frozen=True, eq=False)
class FrameTokens:
    """The audio tokens of a row's frame, among those of its step."""

    step: Tensor  # [rows, K] int64 on the device
    index: int

    @property
    def tokens(self) -> Tensor:
        """Audio tokens [K]."""
        return self.step[self.index]


@dataclass(eq=False)
class Row:
    """Everything that an admitted sequence holds on the device, and how far it is."""

    request: GenerationRequest
    trace: GenerationTrace | None
    reservation: Reservation
    slot: int
    codec_state: StreamState
    prompt: Tensor  # [P, D] embeddings on the device; emptied when they have been run
    num_prefilled: int = 0
    num_launched: int = 0  # frames that were asked for
    num_seen: int = 0  # frames that have been looked at and stand
    num_followed: int = 0  # frames that the follower has been shown
    num_frames: int = 0  # frames that are speech for certain
    num_chunks: int = 0
    num_samples: int = 0  # of audio that has been made
    num_rewinds: int = 0  # times that frames were taken back, so that those under way are told from their successors
    may_end_from: int = 0  # END_AUDIO is not chosen before this frame
    last: FrameTokens | None = None  # the latest frame that stands, where a follower may want the next one made again
    waiting: list[FrameTokens] = field(default_factory=list[FrameTokens])  # frames that stay or go, nobody knows yet
    pending: list[FrameTokens] = field(default_factory=list[FrameTokens])  # frames that are not audio yet
    audio_slot: int | None = (
        None  # of its packed codec state (`voxtral.engine.audio_maker`); None: `codec_state` has it
    )
    audio_state: Tensor | None = None  # the packed state in CPU memory, of a row that was swapped out
    swapped: SwappedOut | None = None
    text_keys: TextKeys = field(default_factory=dict[int, Any])  # what has been read of its text; see Span
    has_ended: bool = False  # its end was seen, or it was given up; what is still made of it is in vain
    num_prompt: int = field(init=False)  # P, the positions of the prompt

    def __post_init__(self) -> None:
        """Count once what every turn asks for."""
        self.num_prompt = len(self.request.prompt.token_ids)

    @property
    def is_prefilled(self) -> bool:
        """Whether all of the prompt but its last position has been run; that one makes the first frame."""
        return self.num_prefilled == self.num_prompt - 1

    @property
    def is_exhausted(self) -> bool:
        """Whether no further frame is to be asked for."""
        return self.has_ended or self.num_launched == self.request.max_frames

    @property
    def is_followed(self) -> bool:
        """Whether a follower has seen every frame that stands: one that has missed any is shown no more."""
        return self.request.follower is not None and self.num_followed >= self.num_seen

    def take_waiting(self) -> list[FrameTokens]:
        """Take the frames that were kept back."""
        frames, self.waiting = self.waiting, []
        return frames

    def drop_waiting(self, *, is_end: bool) -> None:
        """Drop them, and the frame that was looked at last unless it is END_AUDIO: they are no speech.

        Args:
            is_end: whether it is.
        """
        num_dropped = len(self.take_waiting()) + (not is_end)
        if self.trace is not None:
            self.trace.drop(num_dropped, before_last=is_end)

    def take_pending(self) -> list[FrameTokens]:
        """Take the frames that are not audio yet."""
        frames, self.pending = self.pending, []
        return frames
