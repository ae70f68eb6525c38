"""One side of `benchmarks.turn`: times turns of an engine whose model computes nothing, in whatever checkout it runs.

It is given to `python -c` with the checkout's `src` on the path, and imports nothing but the package. What is patched
has had other names over time; each is looked up, and a checkout where it is nowhere is refused.

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
_PROMPT_POSITIONS = 300
_MOST_FRAMES = 1700  # together with the prompt within the usual width of block tables
_WARM_UP_TURNS = 48
_TURNS_PER_BLOCK = 8  # the usual chunk: each row hands one over in that many turns


class Still:
    """The state of a codec's stream that nobody decodes."""

    def __init__(self) -> None:
        self.num_frames = 0
        self.shape = ()

    @classmethod
    def stack(cls, states: list[Still]) -> Still:
        """Stand for them."""
        return states[0]

    def take_row(self, stacked: Still, row: int, num_frames: int) -> None:
        """Go on."""
        self.num_frames += num_frames


class Clock:
    """Seconds that were spent within functions that it was put around."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count a function's time."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def main(words: list[str]) -> None:
    """Time turns of each number of rows, and print microseconds: `{rows: [turn, codec]}`."""
    num_turns, *sizes = map(int, words)
    torch.set_num_threads(1)
    model = load_model()
    found = {rows: measure(model, rows, num_turns) for rows in sizes}
    print(json.dumps(found))


def load_model() -> Any:
    """Load nano, and let it compute nothing."""
    tts = VoxtralTTS.from_pretrained("nano", device="cpu")
    model: Any = tts._engine._model if hasattr(tts, "_engine") else tts.engine._model
    model.init_codec_state = Still
    model.backbone.extend = lambda *_: None

    def decode_rows(audio_tokens: torch.Tensor, state: Still, *, is_last: bool = False) -> torch.Tensor:
        num_rows, num_frames, _ = audio_tokens.shape
        state.num_frames += num_frames if num_rows == 1 else 0
        return torch.zeros(num_rows, num_frames * model.config.samples_per_frame)

    model.decode_rows = decode_rows
    return model


def measure(model: Any, num_rows: int, num_turns: int) -> tuple[float, float]:
    """Time a turn of so many rows: microseconds of the host without the codec, and of the codec's part."""
    codec = fake_device(model, num_rows)
    options = EngineOptions(max_batch=num_rows, cuda_graphs=True, flow="plain", max_buffered_frames=10**6)
    engine = Engine(model, options)
    patch(engine, "_start_thread", lambda: None)
    patch(engine, "_fail", fail)
    books = model.config.codebooks
    for number in range(num_rows):
        engine.submit(
            GenerationRequest(
                prompt=Prompt((1,) * _PROMPT_POSITIONS, 0, 0),
                voice_rows=torch.zeros(0, model.config.backbone.dim),
                noise=SeededNoise(number, 0, books.num_acoustic),
                guidance_scale=1.2,
                noise_scale=1.0,
                num_euler_steps=model.config.generation.num_euler_steps,
                max_frames=_MOST_FRAMES,
            )
        )
    take_turn: Callable[[], bool] = engine._take_turn
    with torch.inference_mode():
        rows: list[Any] = []
        while len(rows) < num_rows or not all(sequence.row.is_prefilled for sequence in rows):
            take_turn()
            rows = list(getattr(engine._scheduler, "running", None) or engine._scheduler.active)
        for _ in range(_WARM_UP_TURNS):
            take_turn()
        blocks: list[tuple[float, float]] = []
        before = [sequence.row.num_launched for sequence in rows]
        for _ in range(num_turns // _TURNS_PER_BLOCK):
            codec.seconds = 0.0
            started = time.perf_counter()
            for _ in range(_TURNS_PER_BLOCK):
                take_turn()
            whole = time.perf_counter() - started
            blocks.append((whole - codec.seconds, codec.seconds))
        num_made = num_turns // _TURNS_PER_BLOCK * _TURNS_PER_BLOCK
        if [sequence.row.num_launched - made for sequence, made in zip(rows, before, strict=True)] != [num_made] * len(
            rows
        ):
            raise RuntimeError("not every row made a frame in each turn")
    middle = sorted(blocks)[len(blocks) // 2]
    return (middle[0] / _TURNS_PER_BLOCK * 1e6, middle[1] / _TURNS_PER_BLOCK * 1e6)


def fake_device(model: Any, num_rows: int) -> Clock:
    """Let the engine take its ways of a GPU; the clock counts what the codec's part takes."""
    runner = importlib.import_module("voxtral.engine.runner")
    graphs = importlib.import_module("voxtral.engine.graphs")
    codec = Clock()
    books, sizes = model.config.codebooks, model.config.backbone
    tokens = torch.full((num_rows, books.num_codebooks), 2)
    outputs = runner.FrameOutputs(
        tokens,
        torch.ones(num_rows, dtype=torch.bool),
        torch.zeros(num_rows, sizes.dim),
        torch.zeros(num_rows, books.num_acoustic),
    )
    event = SimpleNamespace(synchronize=lambda: None, record=lambda *_: None, query=lambda: True)
    patch(torch.Tensor, "pin_memory", torch.Tensor.clone)
    patch(torch.Tensor, "record_stream", lambda *_: None)
    patch(torch.cuda, "current_stream", lambda *_: None)

    def to_host(values: torch.Tensor) -> torch.Tensor:
        return torch.empty(values.shape, dtype=values.dtype).copy_(values, non_blocking=True)

    runner.Runner.runs_ahead = True
    if hasattr(runner.Runner, "_fetch"):
        runner.Runner._fetch = lambda _, values: to_host(values)
        runner.Runner._mark = lambda _: event
        runner.Runner._start_decoding = codec.around(_unwrapped(runner.Runner, "_start_decoding"))
        patch(runner, "compute_frame", lambda *_: outputs)
        patch(runner, "CodecState", Still)
        run = _unwrapped(graphs.FrameGraphs, "run")

        def run_captured(self: Any, inputs: Any) -> Any:
            made = run(self, inputs)
            for frame in self._frames.values():
                frame.outputs, frame.graph = outputs, SimpleNamespace(replay=lambda: None)
            self.run = lambda inputs: run(self, inputs)
            return made

        graphs.FrameGraphs.run = run_captured
    else:
        makers, vocoder = (importlib.import_module(f"voxtral.engine.{name}") for name in ("frame_maker", "vocoder"))
        recording = graphs.Recording(lambda: None, outputs)
        patch(makers.FrameMaker, "_usual_recorder", lambda _: SimpleNamespace(record=lambda _: recording))
        for module in (runner, vocoder):
            patch(module, "to_host", to_host)
            patch(module, "mark", lambda _: event)
        patch(vocoder.Vocoder, "_start", codec.around(_unwrapped(vocoder.Vocoder, "_start")))
        try:
            patch(importlib.import_module("voxtral.engine.inputs"), "mark", lambda _: event)
        except ModuleNotFoundError:  # inputs were pinned one by one, each step anew
            gather = _unwrapped(makers, "gather_inputs")
            patch(
                makers,
                "gather_inputs",
                lambda rows, *, num_blocks, pin=False: gather(rows, num_blocks=num_blocks, pin=True),
            )
    return codec


def fail(sequence: Any, error: Exception) -> None:
    """Let nothing go on that fails."""
    raise error


_ORIGINALS: dict[tuple[Any, str], Any] = {}


def _unwrapped(owner: Any, name: str) -> Any:
    return _ORIGINALS.setdefault((owner, name), getattr(owner, name))


def patch(owner: Any, name: str, replacement: Any) -> None:
    """Replace what is there."""
    if not hasattr(owner, name):
        raise RuntimeError(f"this checkout has no {name}")
    setattr(owner, name, replacement)


if __name__ == "__main__":
    main(sys.argv[1:])
