"""The first minutes on a GPU: which path computes what the plain one does, and where the time of a frame goes.

    python -m benchmarks.first --model 4b-random > first.jsonl
    python -m benchmarks.first --model tiny-random --device cpu --short

Needs torch, numpy and safetensors alone. One JSON object a line, each as soon as it is known; every part is guarded, so
that a failure is one line and the next part runs; the last line is a summary. Parts that would begin after `--seconds`
are left out, and named.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.subjects import config_of, random_model
from voxtral.config import QuantizationConfig
from voxtral.device import codec_dtype_for, describe_machine, dtype_name, plan_compute
from voxtral.engine.audio_maker import AudioMaker, Part
from voxtral.engine.frame import FrameOutputs, compute_frame
from voxtral.engine.frame_maker import Padding, StaticStep, make_text_heads
from voxtral.engine.graphs import CudaRecorder, FrameGraphs
from voxtral.engine.inputs import FrameInputs, RowInput, gather_inputs
from voxtral.engine.kernel_trials import TRIALS, Draw, difference
from voxtral.engine.kv_cache import KVPages, Span, SpanMemory, kv_slot, make_pages
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.rig import ModelRig
from voxtral.engine.row import FrameTokens
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels.dispatch import KERNELS, USES_DOT
from voxtral.model.linear import QuantizedLinear, describe_products
from voxtral.model.voxtral import VoxtralModel
from voxtral.quantization.recipes import choose_recipe

_BLOCK_SIZE = 64
_CHUNKS = (1, 1, 2, 2, 3, 4, 6, 8, 3)
_PRODUCT_ROWS = (1, 6, 24, 192)
_DEAREST = 14
_TEXT = (190, 305)


@dataclass
class Log:
    """Says what is found, a line each, and remembers what the summary needs.

    Attributes:
        limit_s: parts that would begin later are left out.
        failed: names of the parts that raised something; left_out: of those that were not begun.
        worst: the largest difference of each path.
        figures: what a reader looks for first.
    """

    limit_s: float
    failed: list[str] = field(default_factory=list[str])
    left_out: list[str] = field(default_factory=list[str])
    worst: dict[str, float] = field(default_factory=dict[str, float])
    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    _started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started

    def say(self, **facts: Any) -> None:
        """Write a line."""
        print(json.dumps({"t": round(self.seconds, 1), **facts}, default=str), flush=True)

    def note(self, path: str, off: float) -> None:
        """Remember how far a path is off."""
        self.worst[path] = max(off, self.worst.get(path, 0.0))

    def part(self, name: str, work: Callable[[], dict[str, Any] | None]) -> bool:
        """Do a part; tells whether it was done."""
        if self.seconds > self.limit_s:
            self.left_out.append(name)
            return False
        started = time.perf_counter()
        try:
            facts = work() or {}
        except Exception as error:  # noqa: BLE001 - whatever it is, the next part may work
            self.failed.append(name)
            at = traceback.format_exc()[-400:]
            self.say(part=name, ok=False, error=f"{type(error).__name__}: {str(error)[:300]}", at=at)
            return False
        self.say(part=name, ok=True, **facts, s=round(time.perf_counter() - started, 2))
        return True

    def summarise(self) -> None:
        """Write the last line."""
        self.say(
            part="summary",
            ok=not self.failed,
            failed=self.failed,
            left_out=self.left_out,
            worst={path: float(f"{off:.2g}") for path, off in self.worst.items()},
            **self.figures,
        )


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    context: int
    rows: tuple[int, ...]
    rounds: int
    is_profiled: bool


@dataclass(eq=False)
class Place:
    """A model with a cache of random keys, the same for every path."""

    model: VoxtralModel
    sizes: Sizes
    num_rows: int

    def __post_init__(self) -> None:
        config, device = self.model.config, self.model.device
        self.blocks = -(-(self.sizes.context + 1) // _BLOCK_SIZE)
        num_blocks = 1 + self.num_rows * self.blocks
        generator = torch.Generator(device).manual_seed(0)
        self.pages: KVPages = make_pages(
            config.backbone, num_blocks, _BLOCK_SIZE, device=device, dtype=self.model.dtype
        )
        for part in (self.pages.keys, self.pages.values):
            part.normal_(generator=generator)
        shape = (self.num_rows + 1, config.backbone.dim)
        self.home = torch.randn(shape, generator=generator, device=device).mul_(0.05).to(self.model.dtype)
        self.schedule = self.model.acoustic_transformer.make_schedule(config.generation.num_euler_steps)
        self.padding = Padding(self.num_rows, _BLOCK_SIZE, config.codebooks.num_acoustic)
        # Where a sentence is behind a voice, and two heads that are far from each other.
        self.text = _TEXT if self.sizes.context > _TEXT[1] else (1, self.sizes.context)
        pairs = ((0, 0), (config.backbone.num_layers - 1, config.backbone.num_heads - 1))
        self.text_heads = make_text_heads(self.model, self.pages, pairs)
        rows = [self.row(row) for row in range(self.num_rows)]
        self.inputs = gather_inputs(rows, num_blocks=self.blocks, has_texts=True, pin=device.type == "cuda")

    def row(self, number: int) -> RowInput:
        """Make the input of a row's next frame."""
        blocks = list(range(1 + number * self.blocks, 1 + (number + 1) * self.blocks))
        place = kv_slot(blocks, self.sizes.context, _BLOCK_SIZE)
        noise = SeededNoise(number, 0, self.model.config.codebooks.num_acoustic)(0)
        return RowInput(number, self.sizes.context, place, blocks, noise, 1.2, True, self.text)

    def plain(self) -> FrameOutputs:
        """Compute the frame by spans, plain operations and the plain flow: the measure of all."""
        there = self.inputs.to(self.model.device)
        spans = [
            Span(row, row + 1, there.block_tables[row].long(), self.sizes.context + 1, self.text)
            for row in range(self.num_rows)
        ]
        with KERNELS.without(USES_DOT, self.model.device):
            memory = SpanMemory(self.pages, there.slot_mapping, spans, self.text_heads)
            return compute_frame(self.model, self.home.clone(), memory, there, self.schedule).clone()

    def step(self, carried: Tensor, flow: FoldedFlow | None) -> StaticStep:
        """Give the frame in static shapes."""
        return StaticStep(self.model, self.pages, carried, self.schedule, flow, self.text_heads)

    def seen_of_text(self, outputs: FrameOutputs) -> Tensor:
        """Take what was seen of the text: [rows, tokens]."""
        if outputs.text_weights is None:
            raise RuntimeError("the text was not weighed")
        start, stop = self.text
        return outputs.text_weights[: self.num_rows, : stop - start]


def main(words: Sequence[str] | None = None) -> None:
    """Do all parts, in the order of worth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="4b-random", help="4b-random or tiny-random")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seconds", type=float, default=240, help="parts that would begin later are left out")
    parser.add_argument("--recipes", default="none,int8,int4", help="with commas between")
    parser.add_argument("--short", action="store_true", help="small sizes and no profile, to see that it runs")
    arguments = parser.parse_args(words)
    device = plan_compute(arguments.device).device
    sizes = Sizes(20, (1, 4), 1, is_profiled=False) if arguments.short else Sizes(600, (1, 4, 32), 30, is_profiled=True)
    log = Log(arguments.seconds)
    with torch.inference_mode():
        log.part("machine", lambda: describe_place(device))
        for recipe in arguments.recipes.split(","):
            run_recipe(log, arguments.model, device, None if recipe == "none" else recipe, sizes)
            if device.type == "cuda":
                torch.cuda.empty_cache()
        log.summarise()


def describe_place(device: torch.device) -> dict[str, Any]:
    """Say what the machine is, and what torch and Triton say of it."""
    facts: dict[str, Any] = {**describe_machine(), "device": str(device), "cuda": torch.version.cuda}
    try:
        import triton

        facts["triton"] = triton.__version__
    except ImportError:
        facts["triton"] = None
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {"sm": f"{properties.major}{properties.minor}", "num_sms": properties.multi_processor_count}
        facts["bfloat16_is_native"] = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = plan_compute(device).dtype
        facts["products"] = describe_products(device, dtype)
        facts["kernels"] = {name: KERNELS.problem(name, device, dtype) or "on" for name in USES_DOT}
    return facts


def run_recipe(log: Log, name: str, device: torch.device, recipe: str | None, sizes: Sizes) -> None:
    """Make the model in one precision, and try everything on it; where it cannot be made, nothing."""
    config = config_of(name)
    dtype = plan_compute(device).dtype if device.type == "cuda" else torch.float32
    label = recipe or dtype_name(dtype)
    made: list[VoxtralModel] = []

    def make() -> dict[str, Any]:
        quantization: QuantizationConfig | None = None if recipe is None else choose_recipe(recipe, config)
        made.append(random_model(config, device, dtype, quantization))
        return {"codec": dtype_name(codec_dtype_for(device, dtype)[0]), "reserved_gb": _reserved(device) / 1e9}

    if not log.part(f"model {label}", make):
        return
    model = made.pop()
    if recipe is None:
        if device.type == "cuda":
            for kernel in TRIALS:
                log.part(f"kernel {kernel}", lambda kernel=kernel: try_kernel(log, model, kernel))
    else:
        log.part(f"products {label}", lambda: try_products(log, model, label))
    for num_rows in sizes.rows:
        is_profiled = sizes.is_profiled and recipe is None and num_rows != 4
        run_rows(log, model, sizes, num_rows, label, is_profiled=is_profiled)
    if recipe is None:
        log.part("codec", lambda: try_codec(log, model, sizes))
        log.part("codec in static shapes", lambda: try_codec_step(log, model, sizes))


def run_rows(log: Log, model: VoxtralModel, sizes: Sizes, num_rows: int, label: str, *, is_profiled: bool) -> None:
    """Compare the paths of a frame of so many rows, and time them."""
    kept: list[tuple[FrameGraphs, FrameInputs]] = []
    log.part(f"paths {label} {num_rows} rows", lambda: try_paths(log, Place(model, sizes, num_rows), label, kept))
    if kept and is_profiled:
        log.part(f"profile {label} {num_rows} rows", lambda: profile(log, model.device, *kept[0]))


def try_kernel(log: Log, model: VoxtralModel, name: str) -> dict[str, Any]:
    """Run one kernel beside its plain form."""
    trial = TRIALS[name](Draw(model.config, model.device, model.dtype, model.codec.dtype))
    off = max(difference(kernel, plain) for kernel, plain in zip(trial(True), trial(False), strict=True))
    log.note(f"kernel {name}", off)
    return {"off": round(off, 6)}


def try_products(log: Log, model: VoxtralModel, label: str) -> dict[str, Any]:
    """Multiply with each kind of matrix of few bits, for a few numbers of rows."""
    kinds = {module.quantized_weight.name: module for module in model.modules() if isinstance(module, QuantizedLinear)}
    found: dict[str, float] = {}
    for kind, module in kinds.items():
        weight = module.quantized_weight
        dense = weight.dense()
        for rows in _PRODUCT_ROWS:
            generator = torch.Generator(model.device).manual_seed(0)
            x = torch.randn(rows, weight.shape[1], generator=generator, device=model.device).to(model.dtype)
            found[f"{kind}, {rows} rows"] = round(difference(weight.matmul(x), x.float() @ dense.T), 5)
    log.note(f"products {label}", max(found.values()))
    return {"off": found}


def try_paths(log: Log, place: Place, label: str, kept: list[tuple[FrameGraphs, FrameInputs]]) -> dict[str, Any]:
    """Compute the same frame by every path, then time the graph and the launches."""
    model, device = place.model, place.model.device
    is_cuda = device.type == "cuda"
    there, folded = place.inputs.to(device), FoldedFlow.build(model.acoustic_transformer)
    plain = place.plain()
    made: dict[str, FrameOutputs] = {}
    with KERNELS.without(USES_DOT, device):
        made["static, plain operations"] = place.step(place.home.clone(), None)(there).clone()
        made["static, folded, plain operations"] = place.step(place.home.clone(), folded)(there).clone()
    if is_cuda:
        made["static, kernels"] = place.step(place.home.clone(), None)(there).clone()
        made["static, folded, kernels"] = place.step(place.home.clone(), folded)(there).clone()
    carried = place.home.clone()
    problems: list[str] = []
    recorder = CudaRecorder(device) if is_cuda else None
    blank = partial(place.padding.blank, has_texts=True)
    graphs = FrameGraphs(place.step(carried, folded), blank, device, recorder, problems.append)
    before, started = _reserved(device), time.perf_counter()
    graphs.prepare(place.num_rows, place.blocks)
    facts: dict[str, Any] = {
        "capture_s": round(time.perf_counter() - started, 2),
        "graph_mb": round((_reserved(device) - before) / 1e6),
        "capture_problem": problems[0] if problems else None,
    }
    for name in ("graph", "graph again"):
        carried.copy_(place.home)
        made[name] = graphs.run(place.inputs)
    facts["replays_are_equal"] = torch.equal(made["graph"].hidden, made["graph again"].hidden)
    for name, outputs in made.items():
        off = {
            "hidden_off": round(difference(outputs.hidden, plain.hidden), 6),
            "flow_off": round(difference(outputs.flow_state, plain.flow_state), 6),
            "text_off": round(difference(place.seen_of_text(outputs), place.seen_of_text(plain)), 6),
        }
        same = float((outputs.audio_tokens == plain.audio_tokens).float().mean())
        log.note(f"{label}, {name}", max(off.values()))
        log.say(
            path=name,
            precision=label,
            rows=place.num_rows,
            **off,
            same_codes=round(same, 4),
            is_finite=bool(outputs.is_finite.all()),
        )
    frame_ms = 1e3 * model.config.samples_per_frame / model.config.sample_rate
    timed = _time(lambda: graphs.run(place.inputs), device, place.sizes.rounds)
    eager = _time(lambda: place.step(carried, folded)(there), device, max(1, place.sizes.rounds // 6))
    log.figures[f"{label}, {place.num_rows} rows, ms"] = timed["ms"]
    log.figures[f"{label}, {place.num_rows} rows, RTF without codec"] = round(timed["ms"] / frame_ms, 4)
    if place.num_rows == 1:
        facts["unfollowed_ms"] = _time_unfollowed(place, folded, recorder)
    kept.append((graphs, place.inputs))
    return {**facts, **timed, "eager_ms": eager["ms"], "eager_host_ms": eager["host_ms"]}


def _time_unfollowed(place: Place, folded: FoldedFlow, recorder: CudaRecorder | None) -> float:
    """Time the graph of a frame in which nobody follows the text: in ms."""
    device = place.model.device
    step = replace(place.step(place.home.clone(), folded), text_heads=None)
    graphs = FrameGraphs(step, place.padding.blank, device, recorder)
    rows = gather_inputs([place.row(0)], num_blocks=place.blocks, pin=device.type == "cuda")
    return _time(lambda: graphs.run(rows), device, place.sizes.rounds)["ms"]


def try_codec(log: Log, model: VoxtralModel, sizes: Sizes) -> dict[str, Any]:
    """Decode 30 frames in the chunks of a stream, on a stream of its own, beside one pass; and time each size."""
    device, books = model.device, model.config.codebooks
    num_frames = sum(_CHUNKS)
    draw = Draw(model.config, device, model.dtype, model.codec.dtype)
    tokens = draw.integers(2, books.acoustic_vocab, 1, num_frames, books.num_codebooks)
    whole = model.decode_rows(tokens, model.init_codec_state(), is_last=True)
    state, parts, start = model.init_codec_state(), [], 0
    stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
    _wait(device)
    with torch.cuda.stream(stream):
        for size in _CHUNKS:
            stop, started = start + size, time.perf_counter()
            parts.append(model.decode_rows(tokens[:, start:stop], state, is_last=stop == num_frames))
            host = time.perf_counter() - started
            _wait(device)
            ms = round((time.perf_counter() - started) * 1e3, 2)
            log.say(codec_frames=size, host_ms=round(host * 1e3, 2), ms=ms)
            start = stop
    off = difference(torch.cat(parts, dim=1), whole)
    log.note("codec in chunks", off)
    going_on = model.init_codec_state()
    timed = _time(lambda: model.decode_rows(tokens[:, :8], going_on), device, max(1, sizes.rounds // 3))
    log.figures["codec, 8 frames, ms"] = timed["ms"]
    return {"off": round(off, 6), **timed}


def try_codec_step(log: Log, model: VoxtralModel, sizes: Sizes) -> dict[str, Any]:
    """Decode in static shapes, captured and not, beside one pass; and time 8 frames at some numbers of rows."""
    device, num_codebooks = model.device, model.config.codebooks.num_codebooks
    rig = ModelRig(model)
    off = rig.codec_step([])
    log.note("codec in static shapes", off)
    step = model.make_codec_step()
    facts: dict[str, Any] = {"off": round(off, 6)}
    if step is None:
        return facts
    for num_rows in (1, 4, 32):
        for way in ("graph", "eager"):
            recorder = CudaRecorder(device) if way == "graph" and device.type == "cuda" else None
            maker = AudioMaker(step, EngineOptions(), device, num_rows, num_codebooks, recorder=recorder)
            tokens = torch.full((num_rows, num_codebooks), 2, device=device)
            frames = [[FrameTokens(tokens, row)] * 8 for row in range(num_rows)]
            parts = [Part(maker.take_slot(), 8, frames[row]) for row in range(num_rows)]
            timed = _time(lambda made=maker, given=parts: made.make(given), device, max(1, sizes.rounds // 3))
            facts[f"{way}, {num_rows} rows"] = {**timed, "is_captured": maker.sizes.get((8, num_rows))}
            log.figures[f"codec step, {way}, {num_rows} rows, 8 frames, ms"] = timed["ms"]
    return facts


def profile(log: Log, device: torch.device, graphs: FrameGraphs, inputs: FrameInputs) -> None:
    """Say which operations of a frame take longest."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as watch

    is_cuda = device.type == "cuda"
    num_frames = 5 if is_cuda else 1
    with watch(activities=[ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU]) as seen:
        for _ in range(num_frames):
            graphs.run(inputs)
        _wait(device)
    key = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    for event in sorted(seen.key_averages(), key=lambda event: -getattr(event, key))[:_DEAREST]:
        log.say(
            operation=event.key[:70],
            a_frame=round(event.count / num_frames, 1),
            us_a_frame=round(getattr(event, key) / num_frames, 1),
        )


def _time(work: Callable[[], object], device: torch.device, rounds: int) -> dict[str, float]:
    """Time some work: with the device, and what of it the host needs alone."""
    work()
    _wait(device)
    started = time.perf_counter()
    for _ in range(rounds):
        work()
    host = time.perf_counter() - started
    _wait(device)
    total = time.perf_counter() - started
    return {"ms": round(total / rounds * 1e3, 3), "host_ms": round(host / rounds * 1e3, 3)}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _reserved(device: torch.device) -> int:
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


if __name__ == "__main__":
    main()
    sys.exit(0)
