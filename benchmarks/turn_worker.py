"""One side of `benchmarks.turn`: times turns of an engine whose model computes nothing, in whatever checkout it runs.

It is given to `python -c` with the checkout's `src` on the path, and imports nothing but the package. What it replaces
has had other names over time: `fake_as_now` and `fake_as_at_first` know them; other checkouts are refused.

What a GPU would do is done by nothing (replay, kernels, events, the codec) or, where the host does it, by its like in
ordinary memory: what would be page-locked is allocated and copied.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationRequest
from voxtral.text.prompt import Prompt
from voxtral.tts import VoxtralTTS

# A voice and a text as they usually are, so that block tables have some entries.
_PROMPT_POSITIONS = 250
_MOST_FRAMES = 1700  # together with the prompt within the usual width of block tables
_WARM_UP_TURNS = 48
_TURNS_PER_BLOCK = 8  # the usual chunk: each row hands one over in that many turns

_EVENT = SimpleNamespace(synchronize=lambda: None, record=lambda *_: None, query=lambda: True)


class Still:
    """The state of a codec's stream that nobody decodes."""

    shape = ()
    noise_key = (0, 0)

    def __init__(self, *_: Any) -> None:
        self.num_frames = 0

    @classmethod
    def stack(cls, states: list[Still]) -> Still:
        """Stand for them."""
        return cls()

    def take_row(self, stacked: Still, row: int, num_frames: int) -> None:
        """Go on."""
        self.num_frames += num_frames


class Clock:
    """Seconds that were spent within functions that it was put around, which may call each other."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count a function's time."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            self._depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += time.perf_counter() - started

        return timed


def main(words: list[str]) -> None:
    """Time turns of each number of rows, and print microseconds: `{rows: [turn, codec]}`."""
    num_turns, *sizes = map(int, words)
    torch.set_num_threads(1)
    model, codec = load_model(), Clock()
    fake_device(model, codec)
    print(json.dumps({rows: measure(model, codec, rows, num_turns) for rows in sizes}))


def load_model() -> Any:
    """Load nano, and let it compute nothing."""
    model: Any = VoxtralTTS.from_pretrained("nano", device="cpu").engine._model  # pyright: ignore[reportPrivateUsage]
    samples_per_frame: int = model.config.samples_per_frame

    def decode_rows(audio_tokens: torch.Tensor, state: Still, *, is_last: bool = False) -> torch.Tensor:
        num_rows, num_frames, _ = audio_tokens.shape
        state.num_frames += num_frames
        return torch.zeros(num_rows, num_frames * samples_per_frame)

    patch(model, "init_codec_state", Still)
    patch(model, "decode_rows", decode_rows)
    patch(model.backbone, "extend", lambda *_: None)
    return model


def measure(model: Any, codec: Clock, num_rows: int, num_turns: int) -> tuple[float, float]:
    """Time a turn of so many rows: microseconds of the host without the codec, and of the codec's part."""
    options = EngineOptions(max_batch=num_rows, cuda_graphs=True, flow="plain", max_buffered_frames=10**6)
    engine: Any = Engine(model, options)
    patch(engine, "_start_thread", lambda: None)
    patch(engine, "_fail", fail)
    for number in range(num_rows):
        engine.submit(make_request(model.config, number))
    scheduler, take_turn = engine._scheduler, engine._take_turn
    rows: list[Any] = []
    with torch.inference_mode():
        while len(rows) < num_rows or not all(sequence.row.is_prefilled for sequence in rows):
            take_turn()
            rows = list(scheduler.running if hasattr(scheduler, "running") else scheduler.active)
        for _ in range(_WARM_UP_TURNS):
            take_turn()
        before = [sequence.row.num_launched for sequence in rows]
        blocks: list[tuple[float, float]] = []
        for _ in range(num_turns // _TURNS_PER_BLOCK):
            codec.seconds = 0.0
            started = time.perf_counter()
            for _ in range(_TURNS_PER_BLOCK):
                take_turn()
            blocks.append((time.perf_counter() - started - codec.seconds, codec.seconds))
    num_made = len(blocks) * _TURNS_PER_BLOCK
    if any(sequence.row.num_launched - first != num_made for sequence, first in zip(rows, before, strict=True)):
        raise RuntimeError("not every row made a frame in each turn")
    turn, audio = (sorted(times)[len(times) // 2] / _TURNS_PER_BLOCK * 1e6 for times in zip(*blocks, strict=True))
    return turn, audio


def make_request(config: Any, number: int) -> GenerationRequest:
    """Ask for a stream that lasts."""
    return GenerationRequest(
        prompt=Prompt((1,) * _PROMPT_POSITIONS, 0, 0),
        voice_rows=torch.zeros(0, config.backbone.dim),
        noise=SeededNoise(number, 0, config.codebooks.num_acoustic),
        guidance_scale=1.2,
        noise_scale=1.0,
        num_euler_steps=config.generation.num_euler_steps,
        max_frames=_MOST_FRAMES,
    )


def fake_device(model: Any, codec: Clock) -> None:
    """Let engines take their ways of a GPU, and the clock count what the codec's part takes."""
    patch(torch.Tensor, "pin_memory", torch.Tensor.clone)
    patch(torch.Tensor, "record_stream", lambda *_: None)
    patch(torch.cuda, "current_stream", lambda *_: None)
    runner: Any = importlib.import_module("voxtral.engine.runner")
    patch(runner.Runner, "runs_ahead", True)
    if hasattr(runner, "NoiseMaker"):
        fake_as_now(model, codec, runner)
    elif hasattr(runner.Runner, "_fetch"):
        fake_as_at_first(model, codec, runner)
    else:
        raise RuntimeError("this checkout is neither as it is now nor as it was at first")


def fake_as_now(model: Any, codec: Clock, runner: Any) -> None:
    """Replace what this checkout has."""
    inputs, frame_maker, graphs, vocoder = (
        importlib.import_module(f"voxtral.engine.{name}") for name in ("inputs", "frame_maker", "graphs", "vocoder")
    )

    class Recorder:
        def record(self, compute: Any) -> Any:
            num_rows = compute.args[0].num_rows
            return graphs.Recording(lambda: None, make_outputs(model, runner, num_rows))

    patch(frame_maker.FrameMaker, "_usual_recorder", lambda _: Recorder())
    for module in (runner, vocoder):
        patch(module, "to_host", copy_to_host)
    for module in (runner, vocoder, inputs):
        patch(module, "mark", lambda _: _EVENT)
    patch(vocoder.Vocoder, "_start", codec.around(vocoder.Vocoder._start))


def fake_as_at_first(model: Any, codec: Clock, runner: Any) -> None:
    """Replace what the commit 5bcc680 has."""
    graphs: Any = importlib.import_module("voxtral.engine.graphs")
    run = graphs.FrameGraphs.run

    def run_captured(self: Any, inputs: Any) -> Any:
        made = run(self, inputs)
        for frame in self._frames.values():
            frame.outputs, frame.graph = made, SimpleNamespace(replay=lambda: None)
        self.run = lambda inputs: run(self, inputs)
        return made

    def compute_frame(model_: Any, carried: Any, memory: Any, inputs: Any, *_: Any) -> Any:
        return make_outputs(model, runner, inputs.num_rows)

    patch(graphs.FrameGraphs, "run", run_captured)
    patch(runner, "compute_frame", compute_frame)
    patch(runner, "CodecState", Still)
    patch(runner.Runner, "_fetch", lambda _, values: copy_to_host(values))
    patch(runner.Runner, "_mark", lambda _: _EVENT)
    patch(runner.Runner, "_start_decoding", codec.around(runner.Runner._start_decoding))


def make_outputs(model: Any, runner: Any, num_rows: int) -> Any:
    """Make what a frame would have made; nobody ends."""
    books = model.config.codebooks
    owner = runner if hasattr(runner, "FrameOutputs") else importlib.import_module("voxtral.engine.frame")
    return owner.FrameOutputs(
        torch.full((num_rows, books.num_codebooks), 2),
        torch.ones(num_rows, dtype=torch.bool),
        torch.zeros(num_rows, model.config.backbone.dim),
        torch.zeros(num_rows, books.num_acoustic),
    )


def copy_to_host(values: torch.Tensor) -> torch.Tensor:
    """Copy into new memory, as from a GPU."""
    return torch.empty(values.shape, dtype=values.dtype).copy_(values, non_blocking=True)


def fail(sequence: Any, error: Exception) -> None:
    """Let nothing go on that fails."""
    raise error


def patch(owner: Any, name: str, replacement: Any) -> None:
    """Replace what is there, and nothing else."""
    if not hasattr(owner, name):
        raise RuntimeError(f"this checkout has no {name}")
    setattr(owner, name, replacement)


if __name__ == "__main__":
    main(sys.argv[1:])
