"""What the engine is asked for, and the mutable record of one request inside it.

A GenerationRequest is one prompt: text, voices and segments have been dealt with before. The record
is owned by the engine thread; the handle is the caller's end. Read next: `voxtral.engine.engine`.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from voxtral.engine.process import BoundToProcess
from voxtral.errors import CancelledError, DeadlineError
from voxtral.text.prompt import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from voxtral.engine.following import TextFollower
    from voxtral.engine.noise import NoiseSource
    from voxtral.engine.protocol import RowProtocol
    from voxtral.model.codec_protocol import NoiseKey
    from voxtral.types import AudioChunk

Stop = Literal["end", "length", "over", "lost"]
"""The model said END_AUDIO; the frame budget ran out; the follower ended it, with its text said, or with text left."""


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """One prompt to be spoken; every value is resolved and checked.

    Attributes:
        prompt: token ids and the place of the voice.
        voice_rows: [N, D], one for each placeholder.
        noise: called with the index of each frame, in order.
        noise_key: seed and segment, for a codec that draws noise of its own.
        guidance_scale: weight of the conditional velocity.
        noise_scale: factor on the noise.
        num_euler_steps: steps of the flow.
        max_frames: frame budget.
        min_frames: END_AUDIO is not chosen before this many frames; officially 0.
        voice_key: equal for requests whose `voice_rows` are equal, so that the voice's part of the prompt is run
            once; None for a voice that is used once.
        is_voice_stored: whether the voice's part may be kept on disk (`EngineOptions.prefix_folder`); never for a voice
            that was sent along.
        max_buffered_frames: audio to make ahead of the reader; None takes the engine's.
        deadline_s: seconds from `submit` after which the request fails; infinity for no limit.
        follower: sees what each frame sees of the text, and decides about the end; where the engine has text heads.
    """

    prompt: Prompt
    voice_rows: Tensor
    noise: NoiseSource
    guidance_scale: float
    noise_scale: float
    num_euler_steps: int
    max_frames: int
    min_frames: int = 0
    noise_key: NoiseKey = (0, 0)
    voice_key: str | None = None
    is_voice_stored: bool = False
    max_buffered_frames: int | None = None
    deadline_s: float = math.inf
    follower: TextFollower | None = None

    @property
    def num_positions(self) -> int:
        """Positions that the request may fill: the last frame is not fed back."""
        return len(self.prompt.token_ids) - 1 + self.max_frames

    @property
    def prefix_key(self) -> tuple[object, ...] | None:
        """Equal for requests whose prompts begin the same, up to the end of the voice; None if nothing is shared."""
        # A prompt that ends with the voice has no position left to go on from.
        if self.voice_key is None or self.prompt.voice_stop >= len(self.prompt.token_ids):
            return None
        return self.voice_key, self.prompt.token_ids[: self.prompt.voice_stop]


@dataclass(eq=False)
class GenerationTrace:
    """Inner values of a generation, collected when a caller passes one to `submit`.

    The closing END_AUDIO frame is included.

    Attributes:
        hidden: [D] each.
        flow_states: [A] each, before clamping.
        audio_tokens: [K] each.
        is_brief: whether only the tokens are kept.
    """

    hidden: list[Tensor] = field(default_factory=list["Tensor"])
    flow_states: list[Tensor] = field(default_factory=list["Tensor"])
    audio_tokens: list[Tensor] = field(default_factory=list["Tensor"])
    is_brief: bool = False

    def add(self, hidden: Tensor, flow_states: Tensor, audio_tokens: Tensor, index: int) -> None:
        """Note a frame: row `index` of what a step made, [B, D], [B, A] and [B, K]."""
        # Tokens are so few that those of the other rows may live on with them.
        self.audio_tokens.append(audio_tokens[index])
        if not self.is_brief:
            self.hidden.append(hidden[index].clone())
            self.flow_states.append(flow_states[index].clone())

    def drop(self, num_frames: int, *, before_last: bool) -> None:
        """Forget the last frames, or those before the last one."""
        for values in (self.hidden, self.flow_states, self.audio_tokens):
            stop = len(values) - before_last
            del values[stop - num_frames : stop]


@dataclass
class GenerationStats:
    """What a generation took so far."""

    submitted_at: float = field(default_factory=time.perf_counter)
    first_chunk_at: float | None = None
    compute_s: float = 0.0
    num_frames: int = 0


class GenerationHandle(BoundToProcess):
    """The caller's end of a request: chunks out, cancellation in.

    Closing or dropping the iterator of `chunks` before its end cancels the request.

    Args:
        wakeup: what the engine waits on.
        arrival: what the reader waits on, with the same lock. Were it the same condition, each chunk would wake the
            readers of all streams: 256 of them cost a step of the engine 10 ms (docs/LOG.md, 2026-11-22).
    """

    def __init__(self, wakeup: threading.Condition, arrival: threading.Condition) -> None:
        super().__init__()
        self.stats = GenerationStats()
        self.stop: Stop | None = None
        self.is_done = False  # whether the engine is through with this request
        self._wakeup = wakeup
        self._arrival = arrival
        self._chunks: deque[AudioChunk] = deque()
        self._num_buffered = 0
        self._error: BaseException | None = None
        self._is_cancelled = False

    def chunks(self) -> Iterator[AudioChunk]:
        """Yield audio as it is made; to be called once.

        Yields:
            Chunks without gaps; `start` counts from the first sample of this generation.

        Raises:
            EngineError: the generation failed; what was yielded before is good audio.
            EngineStoppedError: a forked child reads what its parent asked for.
            CancelledError: `cancel` was called.
        """
        try:
            while True:
                self.check_process()
                with self._wakeup:
                    while not (self._chunks or self.is_done):
                        self._arrival.wait()
                    if not self._chunks:
                        break
                    chunk = self._chunks.popleft()
                    self._num_buffered -= len(chunk)
                    self._wakeup.notify_all()
                yield chunk
        finally:
            self.cancel()
        if self._error is not None:
            raise self._error

    def cancel(self) -> None:
        """Stop the generation before its next frame, and drop what was made and not taken yet."""
        if self.is_foreign:  # the parent's goes on
            return
        with self._wakeup:
            if self.is_done and not self._chunks:
                return
            self._chunks.clear()
            self._num_buffered = 0
            self._is_cancelled = True
            if self.is_done:
                self._error = _cancelled()
            self._wakeup.notify_all()

    # The rest is the engine's side; the caller of each holds the condition.

    def push(self, chunk: AudioChunk) -> None:
        """Hand over one chunk; nobody wants it after `cancel`."""
        if self._is_cancelled:
            return
        if self.stats.first_chunk_at is None:
            self.stats.first_chunk_at = time.perf_counter()
        self._chunks.append(chunk)
        self._num_buffered += len(chunk)
        self._arrival.notify_all()

    def finish(self, *, stop: Stop | None = None, error: BaseException | None = None) -> None:
        """Mark the end."""
        if self.is_done:
            return
        self.stop = stop
        # Also where the last frame was under way when the caller gave up: what it dropped must not pass for an end.
        is_broken_off = stop is None or self._is_cancelled
        self._error = _cancelled() if error is None and is_broken_off else error
        self.is_done = True
        self._arrival.notify_all()

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller gave up."""
        return self._is_cancelled

    @property
    def num_buffered(self) -> int:
        """Samples made and not yet taken."""
        return self._num_buffered


def too_late(deadline_s: float) -> DeadlineError:
    """Say that a deadline has passed."""
    return DeadlineError(
        f"the request was not done within its {deadline_s:g} s; give it more time, or ask when less is going on"
    )


def _cancelled() -> CancelledError:
    return CancelledError("the request was cancelled by its caller")


@dataclass(eq=False)
class Sequence:
    """A request inside the engine: its handle and the runner's record of it.

    Two sequences are equal only if they are one: equal values would compare tensors.
    """

    request: GenerationRequest
    handle: GenerationHandle
    trace: GenerationTrace | None
    max_buffered: int  # samples
    row: RowProtocol | None = None  # the runner's; None before it is admitted and after it has ended
    num_pushed: int = 0  # samples
    deadline: float = field(init=False)  # when it fails, on the clock of time.perf_counter

    def __post_init__(self) -> None:
        """Reckon once what every turn asks for."""
        self.deadline = self.handle.stats.submitted_at + self.request.deadline_s

    @property
    def admitted_row(self) -> RowProtocol:
        """The runner's record of a sequence that has been admitted."""
        if self.row is None:
            raise AssertionError("a sequence was asked for its row without having one")
        return self.row

    @property
    def is_prefilled(self) -> bool:
        """Whether it has a row whose prompt has been run."""
        return self.row is not None and self.row.is_prefilled

    @property
    def can_go_on(self) -> bool:
        """Whether its next frame may be asked for: its prompt is run, its budget not spent, and its reader keeps up."""
        row = self.row
        return row is not None and self.is_ready and row.is_prefilled and not row.is_exhausted

    @property
    def is_ready(self) -> bool:
        """Whether its reader keeps up."""
        return self.handle.num_buffered < self.max_buffered

    @property
    def is_ahead(self) -> bool:
        """Whether its reader is far behind what has been made."""
        return self.handle.num_buffered > self.max_buffered // 2

    def is_lost(self, now: float) -> bool:
        """Tell whether it was cancelled or is too late."""
        return self.handle.is_cancelled or self.deadline <= now

    def slack_s(self, now: float, sample_rate: int) -> float:
        """Seconds until a player that began with the first chunk runs dry; infinite before that."""
        first = self.handle.stats.first_chunk_at
        return math.inf if first is None else first + self.num_pushed / sample_rate - now

    def push(self, chunk: AudioChunk) -> None:
        """Hand a chunk over to the reader; the condition is held."""
        self.handle.push(chunk)
        self.num_pushed += len(chunk)
