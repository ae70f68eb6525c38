"""Looking at frames that have been made: what their followers decide, and what of them becomes audio.

A row's frame is nearly always kept, and perhaps completes a chunk. Where a follower says otherwise it is kept back, or
dropped, or the row is taken back to make it again. Read next: `voxtral.engine.following`, `voxtral.engine.vocoder`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from voxtral.config import END_AUDIO
from voxtral.engine.following import Decision
from voxtral.engine.frame import FrameOutputs
from voxtral.engine.memory import DeviceMemory
from voxtral.engine.protocol import RowOutput
from voxtral.engine.row import FrameTokens, Row
from voxtral.engine.vocoder import Due, Outcome, Vocoder, not_finite
from voxtral.model.voxtral import VoxtralModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of one step that share a flow schedule and a kind (`FrameMaker.kinds_of`)."""

    rows: list[Row]
    rewinds: list[int]  # of each row when the frame was asked for; one that was rewound since wants another
    outputs: FrameOutputs  # on the device
    semantic: Tensor  # [rows] int64 in CPU memory
    is_finite: Tensor  # [rows] bool in CPU memory
    text_weights: Tensor | None  # [rows, tokens] float32 in CPU memory; those up to the last row that is followed

    @cached_property
    def says_end(self) -> list[bool]:
        """Whether each row chose END_AUDIO; in one call, once the step is made."""
        return (self.semantic.numpy() == END_AUDIO).tolist()

    @cached_property
    def seen(self) -> npt.NDArray[np.float32]:
        """The text weights, of a group that has some."""
        if self.text_weights is None:
            raise AssertionError("no row of the group is followed")
        return self.text_weights.numpy()

    @cached_property
    def finite(self) -> list[bool]:
        """Whether all values of each row are finite."""
        return self.is_finite.numpy().tolist()


@dataclass(frozen=True, eq=False)
class Step:
    """One frame of several rows, asked for and perhaps not there yet."""

    groups: list[Group]
    failures: list[tuple[Row, Exception]]  # rows that could not take part
    made: torch.cuda.Event | None = None  # None where `launch` has waited

    @property
    def num_rows(self) -> int:
        """See StepProtocol."""
        return len(self.failures) + sum(len(group.rows) for group in self.groups)


class FrameReader:
    """Looks at the frames of steps.

    Args:
        model: that made them.
        memory: of the rows.
        vocoder: makes the audio.
    """

    def __init__(self, model: VoxtralModel, memory: DeviceMemory, vocoder: Vocoder) -> None:
        self._model = model
        self._memory = memory
        self._vocoder = vocoder

    def read(self, step: Step) -> Iterator[Outcome]:
        """Look at all frames of a step; see `RunnerProtocol.collect`."""
        vocoder = self._vocoder
        for row, error in step.failures:
            row.has_ended = True
            if not vocoder.follow((row, error)):
                yield row, error
        looks = {row: self._look_at(group, index) for group in step.groups for index, row in enumerate(group.rows)}
        # Nearly always one round: only frames that a follower kept back become several chunks at once.
        while looks:
            due: list[Due] = []
            for row, output in [(row, next(look, None)) for row, look in looks.items()]:
                if output is None:
                    del looks[row]
                    continue
                row.has_ended = isinstance(output, Exception) or output.stop is not None
                if isinstance(output, Due):
                    due.append(output)
                elif not row.has_ended or not vocoder.follow((row, output)):
                    yield row, output
                    continue
                if vocoder.is_late:
                    yield row, RowOutput(None, row.num_frames, None)
            if vocoder.is_late:
                vocoder.start(due)
            else:
                yield from vocoder.decode(due)
        if vocoder.is_late:
            yield from vocoder.hand_over(wait=False)

    def _look_at(self, group: Group, index: int) -> Iterator[RowOutput | Due | Exception]:
        """Take one row's frame; say what is to be decoded now, if anything, and after that."""
        row, outputs = group.rows[index], group.outputs
        if row.has_ended:
            return
        if row.num_rewinds != group.rewinds[index]:
            yield RowOutput(None, row.num_frames, None)
            return
        if not group.finite[index]:
            yield not_finite("frame", row.num_frames, self._model.dtype)
            return
        says_end = group.says_end[index]
        try:
            decision = _decide(row, group, index, says_end=says_end)
        # The follower comes from the request; whatever is wrong with it concerns that row alone.
        except Exception as error:  # noqa: BLE001
            yield error
            return
        if decision == "again":
            self._rewind(row)
            yield RowOutput(None, row.num_frames, None)
            return
        row.num_seen += 1
        if row.trace is not None:
            row.trace.add(outputs.hidden, outputs.flow_state, outputs.audio_tokens, index)
        frame = FrameTokens(outputs.audio_tokens, index)
        if decision in ("keep", "wait"):
            row.waiting.append(frame)
            row.last = None if row.request.follower is None else frame
            if decision == "wait" and row.num_seen < row.request.max_frames:
                yield RowOutput(None, row.num_frames, None)
                return
        elif decision in ("over", "lost"):
            row.drop_waiting(is_end=says_end)
        for waiting in row.take_waiting():
            yield self._vocoder.add(row, waiting)
        if decision in ("end", "over", "lost"):
            yield self._vocoder.end(row, decision)

    def _rewind(self, row: Row) -> None:
        """Let the frame that was looked at be made again, and without END_AUDIO."""
        row.num_rewinds += 1
        row.num_launched = row.num_seen
        row.may_end_from = row.num_seen + 1
        if row.last is None:
            last_token = torch.tensor(row.request.prompt.token_ids[-1:])
            self._memory.carried[row.slot] = self._model.embed_text(last_token)[0].to(self._memory.carried)
        else:
            self._memory.carried[row.slot] = self._model.embed_frames(row.last.tokens[None])[0]


def _decide(row: Row, group: Group, index: int, *, says_end: bool) -> Decision:
    """Ask the row's follower about its frame; a frame that is made again has been shown to it before."""
    follower = row.request.follower
    if follower is None or group.text_weights is None or row.num_followed < row.num_seen:
        return "end" if says_end else "keep"
    if row.num_followed == row.num_seen:
        start, stop = row.request.prompt.text_span
        follower.see(group.seen[index, : stop - start])
        row.num_followed += 1
    return follower.decide(says_end=says_end)
