"""Stand-ins of a few lines: a runner that does what a test tells it, and requests for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.protocol import Counts, RowOutput, RunnerProtocol
from voxtral.engine.sequence import GenerationRequest, GenerationTrace, Stop
from voxtral.text.prompt import Prompt
from voxtral.types import AudioChunk

SAMPLES_PER_FRAME = 10
SAMPLE_RATE = 1000
FAKE_MODEL: Any = SimpleNamespace(config=SimpleNamespace(samples_per_frame=SAMPLES_PER_FRAME, sample_rate=SAMPLE_RATE))


def fake_request(label: int = 0, max_frames: int = 5) -> GenerationRequest:
    """A request that a FakeRunner tells apart by `label`."""
    return GenerationRequest(
        prompt=Prompt(token_ids=(label,), voice_start=0, voice_stop=0),
        voice_rows=torch.zeros(0, 1),
        noise=lambda frame: np.zeros(1, dtype=np.float32),
        guidance_scale=1.0,
        noise_scale=1.0,
        num_euler_steps=1,
        max_frames=max_frames,
    )


def frame_samples(label: int, frame: int) -> np.ndarray:
    """The audio that a FakeRunner makes: loud, and different for each label and frame."""
    return np.full(SAMPLES_PER_FRAME, 0.1 + 0.01 * label + 0.001 * frame, dtype=np.float32)


@dataclass(eq=False)
class FakeRow:
    """A row of a fake runner."""

    request: GenerationRequest
    is_prefilled: bool = False
    num_launched: int = 0
    frame: int = 0
    num_samples: int = 0
    is_swapped: bool = False

    @property
    def is_exhausted(self) -> bool:
        return self.num_launched == self.request.max_frames

    def output(self, samples: np.ndarray, stop: Stop | None = None) -> RowOutput:
        """Give out the row's next samples."""
        chunk = AudioChunk(samples, SAMPLE_RATE, start=self.num_samples)
        self.num_samples += len(samples)
        return RowOutput(chunk, self.frame, stop)


@dataclass(eq=False)
class FakeStep:
    """A step of a fake runner."""

    rows: list[FakeRow]

    @property
    def num_rows(self) -> int:
        return len(self.rows)


class BareRunner:
    """What the engine asks of any runner; a subclass says what a row's next frame brings."""

    runs_ahead = False
    max_batch = 1000
    counts: Counts | None = None

    def __init__(self, num_slots: int = 1000) -> None:
        self.num_slots = num_slots
        self.num_free = num_slots
        self.prompts: list[list[int]] = []  # labels of each pass
        self.num_swapped_out = 0

    def advance(self, row: FakeRow) -> RowOutput:
        """Make one frame."""
        raise NotImplementedError

    def check(self, request: GenerationRequest) -> None: ...

    def admit(self, request: GenerationRequest, trace: GenerationTrace | None) -> FakeRow | None:
        if not self.num_free:
            return None
        self.num_free -= 1
        return FakeRow(request)

    def num_positions_of_part(self, row: FakeRow) -> int:
        return 1

    def prefill(self, rows: list[FakeRow]) -> None:
        self.prompts.append([row.request.prompt.token_ids[0] for row in rows])
        for row in rows:
            row.is_prefilled = True

    def launch(self, rows: list[FakeRow]) -> FakeStep:
        for row in rows:
            row.num_launched += 1
        return FakeStep(rows)

    def wait(self, step: FakeStep) -> None: ...

    def collect(self, step: FakeStep) -> Iterator[tuple[FakeRow, RowOutput | Exception]]:
        for row in step.rows:
            yield row, self._outcome(row)

    def _outcome(self, row: FakeRow) -> RowOutput | Exception:
        try:
            return self.advance(row)
        except Exception as error:  # noqa: BLE001
            return error

    has_audio = False

    def hand_over(self, *, wait: bool) -> Iterator[tuple[FakeRow, RowOutput | Exception]]:
        yield from ()

    def release(self, row: FakeRow) -> None:
        self.num_free += not row.is_swapped

    def swap_out(self, row: FakeRow) -> None:
        row.is_swapped = True
        self.num_free += 1
        self.num_swapped_out += 1

    def swap_in(self, row: FakeRow) -> bool:
        if not self.num_free:
            return False
        row.is_swapped = False
        self.num_free -= 1
        return True

    def is_prefix_awaited(self, request: GenerationRequest, rows: list[FakeRow]) -> bool:
        return False

    def check_idle(self) -> str | None:
        return None if self.num_free == self.num_slots else f"{self.num_slots - self.num_free} slots are lost"

    def warm_up(self, limit_s: float) -> str:
        return "nothing"

    def reset(self) -> None:
        self.num_free = self.num_slots

    def weights_changed(self) -> None: ...

    def follow_text(self, heads: tuple[tuple[int, int], ...]) -> None: ...


def fake_engine(runner: BareRunner, **options: Any) -> Engine:
    """An engine that a fake runner computes for."""
    checked: RunnerProtocol[FakeRow, FakeStep] = runner  # pyright holds the fake to what the engine asks
    return Engine(FAKE_MODEL, EngineOptions(**options), runner=checked)


class FakeRunner(BareRunner):
    """Makes one frame a step; `before_step` may block or raise; ends after `ends_after` frames."""

    def __init__(
        self,
        before_step: Callable[[int, int], object] = lambda label, frame: None,
        ends_after: int | None = None,
        num_slots: int = 1000,
    ) -> None:
        super().__init__(num_slots)
        self.before_step = before_step
        self.ends_after = ends_after
        self.steps: list[tuple[int, int]] = []

    def advance(self, row: FakeRow) -> RowOutput:
        label, frame = row.request.prompt.token_ids[0], row.frame
        self.before_step(label, frame)
        self.steps.append((label, frame))
        if self.ends_after is not None and frame >= self.ends_after:
            return RowOutput(None, frame, "end")
        row.frame += 1
        return row.output(frame_samples(label, frame), "length" if row.frame == row.request.max_frames else None)


class RunAheadRunner(FakeRunner):
    """A runner whose frames are looked at one step late, as on a GPU."""

    runs_ahead = True
