"""What the engine asks of a runner, and what passes between the two. No torch.

The engine decides who runs next and hands over audio; a runner computes. `voxtral.engine.runner` has the one that runs
the model, and tests put others in its place. Rows and steps are the runner's own: the engine asks them what is here,
and gives them back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from voxtral.engine.sequence import GenerationRequest, GenerationTrace, Stop
    from voxtral.types import AudioChunk


class RowOutput(NamedTuple):
    """What one frame of a row brought.

    Attributes:
        chunk: audio, if a chunk is complete; its `start` counts from the first sample of the generation.
        num_frames: frames of the row so far.
        stop: why the row has ended, if it has.
    """

    chunk: AudioChunk | None
    num_frames: int
    stop: Stop | None


@dataclass(frozen=True)
class Counts:
    """What a runner has given out."""

    free_slots: int
    slots: int
    free_blocks: int
    blocks: int
    prefix_blocks: int
    reserved_blocks: int


class RowProtocol(Protocol):
    """A sequence that has been admitted, as its runner keeps it. Equal only to itself."""

    @property
    def is_prefilled(self) -> bool:
        """Whether the prompt has been run, so that a frame may be asked for."""
        ...

    @property
    def is_exhausted(self) -> bool:
        """Whether every frame of the budget has been asked for."""
        ...


class StepProtocol(Protocol):
    """One frame of several rows, asked for and perhaps not there yet."""

    @property
    def num_rows(self) -> int:
        """Rows that `collect` will tell of; at least one."""
        ...


RowT = TypeVar("RowT", bound=RowProtocol)
StepT = TypeVar("StepT", bound=StepProtocol)


class RunnerProtocol(Protocol[RowT, StepT]):
    """Computes for the engine, on the engine's thread; `check` and the properties may be asked from any.

    What `admit`, `swap_in`, `swap_out`, `prefill` and `launch` raise ends the sequences that they were called for, what
    the others raise the engine.
    """

    @property
    def runs_ahead(self) -> bool:
        """Whether `launch` returns before the frame is made, so that a second may be asked for meanwhile."""
        ...

    @property
    def max_batch(self) -> int:
        """Rows that make frames side by side."""
        ...

    @property
    def counts(self) -> Counts | None:
        """What is given out; None before the first request."""
        ...

    def check(self, request: GenerationRequest) -> None:
        """Refuse what could never be admitted.

        Raises:
            OptionError: prompt and frame budget are longer than the whole KV cache, or a text that is to be followed
                is empty or too long for that.
        """
        ...

    def admit(self, request: GenerationRequest, trace: GenerationTrace | None) -> RowT | None:
        """Give a request all that it can ever need; None if there is no room now."""
        ...

    def is_prefix_awaited(self, request: GenerationRequest, rows: list[RowT]) -> bool:
        """Tell whether one of `rows` is about to make the prefix that this request could share."""
        ...

    def num_positions_of_part(self, row: RowT) -> int:
        """Count the positions that the next part of a prompt has."""
        ...

    def prefill(self, rows: list[RowT]) -> None:
        """Run the next part of the prompt of each row; none of them is prefilled."""
        ...

    def launch(self, rows: list[RowT]) -> StepT:
        """Ask for the next frame of each row; all of them are prefilled."""
        ...

    def wait(self, step: StepT) -> None:
        """Wait until the frames of a step are made."""
        ...

    def collect(self, step: StepT) -> Iterator[tuple[RowT, RowOutput | Exception]]:
        """Look at the frames of a step, and decode the chunks that they complete.

        Yields:
            Each row as soon as its audio is there; those whose first audio it is come first. Where audio is not waited
            for, a row comes without, and `hand_over` brings it later, with the row's end if this is it.
        """
        ...

    @property
    def has_audio(self) -> bool:
        """Whether audio is under way that `hand_over` will bring."""
        ...

    def hand_over(self, *, wait: bool) -> Iterator[tuple[RowT, RowOutput | Exception]]:
        """Hand over audio that was not there when its frame was looked at; with `wait`, all of it.

        Yields:
            Each row with its audio, also such as have ended meanwhile.
        """
        ...

    def swap_out(self, row: RowT) -> None:
        """Move a row to CPU memory, so that others can have its slot and blocks."""
        ...

    def swap_in(self, row: RowT) -> bool:
        """Bring a row back; False if there is no room now."""
        ...

    def release(self, row: RowT) -> None:
        """Take everything back; the row is not to be used any more."""
        ...

    def check_idle(self) -> str | None:
        """Say what is wrong if, with no row left, something is missing; None if all is well."""
        ...

    def warm_up(self, limit_s: float) -> str:
        """Do what the first requests would wait for, as far as the time allows; says what, in a few words."""
        ...

    def follow_text(self, heads: tuple[tuple[int, int], ...]) -> None:
        """Let other heads follow the texts from the next frame on; nothing may be under way on the device.

        Raises:
            OptionError: the model has no such heads; nothing was changed.
        """
        ...

    def reset(self) -> None:
        """Forget all device memory; nothing may be admitted. The next request makes it anew."""
        ...

    def weights_changed(self) -> None:
        """Forget what was computed from the weights; nothing may be admitted."""
        ...
