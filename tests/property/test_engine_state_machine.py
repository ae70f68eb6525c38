"""Whatever its callers do in whatever order, an engine loses nothing and nobody hears anybody else.

The engine runs in the test's own thread, turn by turn, so that each example is the same each time. Memory is tight:
rows are swapped out, voices are shared, and go to make room.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from checkpoints import TINY
from generations import RequestMaker, collect, load_on_cpu, speak_alone
from voxtral.engine.audio_maker import AudioMaker
from voxtral.engine.blocks import SCRATCH_BLOCK
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.runner import Runner
from voxtral.engine.sequence import GenerationHandle, GenerationRequest
from voxtral.engine.vocoder import Due, Vocoder
from voxtral.errors import CancelledError, DeadlineError, EngineError, NumericsError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.model.voxtral import VoxtralModel
from voxtral.types import AudioChunk

BLOCK_SIZE, NUM_BLOCKS, MAX_FRAMES = 8, 20, 10
TEXTS = ("Hi.", "The rain stopped.", "Good morning to all of you.")
Kind = Literal["good", "noise fails", "not finite", "late"]
FAILURES: dict[Kind, type[Exception]] = {
    "noise fails": EngineError,
    "not finite": NumericsError,
    "late": DeadlineError,
}


@cache
def model() -> VoxtralModel:
    return load_on_cpu(open_checkpoint(TINY))


@cache
def maker() -> RequestMaker:
    return RequestMaker(open_checkpoint(TINY))


@cache
def options() -> EngineOptions:
    config = model().config.backbone
    block_bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4 * BLOCK_SIZE
    return EngineOptions(
        max_batch=3,
        batch_invariant=True,
        block_size=BLOCK_SIZE,
        prefill_positions=16,
        kv_cache_bytes=NUM_BLOCKS * block_bytes,
        max_buffered_frames=2,
    )


def make(number: int) -> GenerationRequest:
    return maker().request(
        TEXTS[number % 3],
        number % 2,
        seed=number,
        max_frames=MAX_FRAMES - number % 4,
        num_euler_steps=1 + number % 2,
    )


class PassingEvent:
    """A mark that has passed at the third question, or when it is waited for."""

    def __init__(self) -> None:
        self.num_asked = 0

    def query(self) -> bool:
        self.num_asked += 1
        return self.num_asked > 2

    def synchronize(self) -> None: ...


class LateVocoder(Vocoder):
    """Hands audio over when it is found made, as on a GPU."""

    is_late = True

    def _decode_static(self, maker: AudioMaker, members: list[Due]) -> Any:
        decoding = super()._decode_static(maker, members)
        return decoding if isinstance(decoding, list) else replace(decoding, made=PassingEvent())


class StaticAudioRunner(Runner):
    """Makes audio in static shapes, which elsewhere a GPU alone does."""

    def _make_vocoder(self) -> Vocoder:
        step, config = self.model.make_codec_step(), self.model.config
        assert step is not None
        audio = AudioMaker(step, self._options, self.model.device, self.max_batch, config.codebooks.num_codebooks)
        given = (self.model, self._options, self.model.device, self.model.dtype, config.sample_rate)
        return LateVocoder(*given, maker=audio)


@cache
def alone(number: int, *, in_static_shapes: bool) -> np.ndarray:
    with torch.inference_mode(False):
        if in_static_shapes:
            engine = Engine(model(), options(), runner=StaticAudioRunner(model(), options()))
            try:
                return collect(engine.submit(make(number)))
            finally:
                engine.close()
        return speak_alone(model(), options(), lambda: make(number))


class LateRunner:
    """Makes the engine look at frames one step late, as on a GPU; the runner itself waits for each, as on a CPU."""

    runs_ahead = True

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)


class ThreadlessEngine(Engine):
    """Takes a turn when the test says so."""

    def _start_thread(self) -> None: ...

    def turn(self) -> bool:
        """Take a turn if there is anything to do."""
        if not self._has_work():
            self._check_idle()
            return False
        with torch.inference_mode():
            return self._take_turn()


@dataclass
class Caller:
    """One request as its caller sees it."""

    number: int
    kind: Kind
    handle: GenerationHandle
    reader: Generator[AudioChunk, None, None]
    heard: list[np.ndarray] = field(default_factory=list)
    is_over: bool = False

    def can_read(self) -> bool:
        """Whether reading would not wait for the engine, which has no thread."""
        return bool(self.handle.num_buffered or self.handle.is_done)


class EngineMachine(RuleBasedStateMachine):
    """Callers who submit, read, dawdle, cancel, forget, fail and come too late."""

    runs_ahead = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = (StaticAudioRunner if self.runs_ahead else Runner)(model(), options())
        seen = LateRunner(self.runner) if self.runs_ahead else self.runner
        self.engine = ThreadlessEngine(model(), options(), runner=seen)
        self.callers: list[Caller] = []

    @rule(number=st.integers(0, 11), kind=st.sampled_from(["good", "good", "good", *FAILURES]), at=st.integers(0, 5))
    def submit(self, number: int, kind: Kind, at: int) -> None:
        request = make(number)
        if kind == "noise fails":
            request = replace(request, noise=_failing(request.noise, at))
        elif kind == "not finite":
            rows = torch.full_like(request.voice_rows, torch.nan)
            request = replace(request, voice_rows=rows, voice_key="not finite")
        elif kind == "late":
            request = replace(request, deadline_s=0.001 * at)
        handle = self.engine.submit(request)
        reader = handle.chunks()
        assert isinstance(reader, Generator)
        self.callers.append(Caller(number, kind, handle, reader))

    @rule(num_turns=st.integers(1, 6))
    def let_run(self, num_turns: int) -> None:
        for _ in range(num_turns):
            self.engine.turn()

    @precondition(lambda self: self.callers)
    @rule(data=st.data(), num_chunks=st.integers(1, 4))
    def read(self, data: st.DataObject, num_chunks: int) -> None:
        caller = data.draw(st.sampled_from(self.callers))
        for _ in range(num_chunks):
            if not caller.is_over and caller.can_read():
                self._take_chunk(caller)

    @precondition(lambda self: self.callers)
    @rule(data=st.data(), how=st.sampled_from(["cancel", "leave the loop"]))
    def give_up(self, data: st.DataObject, how: str) -> None:
        caller = self.callers.pop(data.draw(st.integers(0, len(self.callers) - 1)))
        if how == "leave the loop" and caller.can_read() and not caller.is_over:
            self._take_chunk(caller)
            caller.reader.close()
        else:
            caller.handle.cancel()

    @rule()
    def call(self) -> None:
        """Something else runs on the model between two frames; it finds no step and no audio under way."""
        future: Future[Any] = Future()
        self.engine._calls.append((lambda _: self.engine._in_flight or self.runner.has_audio, future))
        self.engine.turn()
        assert not future.result(0)

    @invariant()
    def slots_and_blocks_are_conserved(self) -> None:
        made, scheduler = self.runner._made, self.engine._scheduler
        if made is None:
            return
        rows: list[Any] = scheduler.rows
        slots = [row.slot for row in rows]
        assert sorted(slots + made.memory.free_slots) == [0, 1, 2]
        held = {block for row in rows for block in row.reservation.blocks}
        held |= {block for prefix in made.memory.pool._prefixes.values() for block in prefix.blocks}
        assert SCRATCH_BLOCK not in held
        pool = made.memory.pool
        assert len(held) + pool.num_free == NUM_BLOCKS
        assert pool.num_reserved == sum(row.reservation.num_reserved for row in rows) <= pool.num_free
        assert all(row.swapped is None for row in rows)
        swapped: list[Any] = [sequence.row for sequence in scheduler.swapped]
        assert all(row.swapped is not None for row in swapped)
        states = [row.audio_slot for row in rows if row.audio_slot is not None]
        assert len(set(states)) == len(states) == made.vocoder.num_slots
        assert all(row.audio_slot is None for row in swapped)

    @invariant()
    def outboxes_are_bounded(self) -> None:
        samples_per_frame = model().config.samples_per_frame
        # Two frames, and the chunk that reached them; on a GPU two more may be under way.
        most = (2 + (3 if self.runs_ahead else 2) * options().frames_in_chunk(99)) * samples_per_frame
        assert all(caller.handle.num_buffered <= most for caller in self.callers)

    def teardown(self) -> None:
        """Everybody who is left reads to the end; then all is free."""
        for _ in range(2000):
            if not any(not caller.is_over for caller in self.callers):
                break
            self.engine.turn()
            for caller in self.callers:
                if not caller.is_over and caller.can_read():
                    self._take_chunk(caller)
        assert all(caller.is_over for caller in self.callers), "somebody waits for ever"
        for _ in range(3):
            self.engine.turn()
        assert not self.engine._has_work()
        assert self.engine.num_unfinished == 0
        assert self.runner.check_idle() is None
        counts = self.engine.counts
        assert counts is None or counts.free_slots == counts.slots
        assert counts is None or counts.free_blocks + counts.prefix_blocks == counts.blocks

    def _take_chunk(self, caller: Caller) -> None:
        chunk, failure = None, None
        try:
            chunk = next(caller.reader, None)
        except EngineError as error:
            failure = error
        if chunk is not None:
            assert chunk.start == sum(map(len, caller.heard))
            caller.heard.append(chunk.samples)
        else:
            caller.is_over = True
        if failure is not None:
            assert caller.kind != "good", failure
            assert isinstance(failure, FAILURES[caller.kind])
            assert not isinstance(failure, CancelledError)
        elif caller.is_over:
            # The deadline may not have been reached, nor the frame without noise.
            assert caller.kind in ("good", "late", "noise fails")
            assert len(_joined(caller)) == len(self._alone(caller))
        # What was heard is the start of what it says alone, also of those who failed later.
        heard = _joined(caller)
        if len(heard):
            assert np.array_equal(heard, self._alone(caller)[: len(heard)])

    def _alone(self, caller: Caller) -> np.ndarray:
        return alone(caller.number, in_static_shapes=self.runs_ahead)


class RunningAheadMachine(EngineMachine):
    """The same with frames that are looked at one step late, and audio in static shapes that is handed over late."""

    runs_ahead = True


def _failing(noise: Callable[[int], np.ndarray], at: int) -> Callable[[int], np.ndarray]:
    def fail(frame: int) -> np.ndarray:
        if frame == at:
            raise RuntimeError("no noise today")
        return noise(frame)

    return fail


def _joined(caller: Caller) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *caller.heard])


@pytest.mark.parametrize("machine", [EngineMachine, RunningAheadMachine])
def test_an_engine_loses_nothing(machine: type[EngineMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=25, derandomize=True))


@pytest.mark.slow
@pytest.mark.parametrize("machine", [EngineMachine, RunningAheadMachine])
def test_an_engine_loses_nothing_for_long(machine: type[EngineMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=150, stateful_step_count=60))
