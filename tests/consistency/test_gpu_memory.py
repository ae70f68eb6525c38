"""What is planned for a GPU holds: the published shape on the meta device, every live byte counted.

Weights are loaded by `load_model` itself, then the flow is folded, keys and values are made, and a frame, a part of a
prompt and audio are computed: at once, as on a GPU, where a graph keeps the memory of its frame and the codec has a
stream of its own. The kernels take the shapes that they have on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.random_checkpoint import published_params
from fake_gpu import GB, FakeGpu
from live_memory import LiveMemory
from voxtral.config import ModelConfig, Precision
from voxtral.device import ComputePlan, plan_compute
from voxtral.engine import frame_maker, kv_cache
from voxtral.engine.frame import compute_frame
from voxtral.engine.inputs import FrameInputs
from voxtral.engine.kv_cache import Span, SpanMemory, StepMemory, make_pages
from voxtral.engine.memory import plan_blocks
from voxtral.engine.needs import DRIVER_BYTES, LONGEST_STATIC_POSITIONS, Needs
from voxtral.engine.options import POSITIONS_PER_SEQUENCE, EngineOptions
from voxtral.loading import load
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.header import DTYPES, TensorEntry
from voxtral.loading.inventory import expected_tensors, quantized_tensors
from voxtral.loading.memory import choose_quantization, parse_memory, plan_memory
from voxtral.loading.params import parse_config
from voxtral.loading.running import fill_in
from voxtral.model.folded import FoldedFlow
from voxtral.model.linear_weights import QuantizedWeight
from voxtral.model.voxtral import VoxtralModel
from voxtral.quantization import fit
from voxtral.quantization.recipes import choose_recipe
from voxtral.quantization.schemes import SCHEMES

META = torch.device("meta")
PUBLISHED = parse_config(published_params())
LARGE = 4_000_000_000


# The published widths with few layers, for tests that are run often.
SHALLOW = replace(PUBLISHED, backbone=replace(PUBLISHED.backbone, num_layers=2))

# What fitting a matrix holds at most beside its result; a test compares it with the fit itself.
FITTING = 150_000_000


def checkpoint_of(config: ModelConfig) -> Checkpoint:
    shapes = expected_tensors(config, with_encoder=False)
    tensors = {name: TensorEntry(name, "BF16", shape, 0, 0) for name, shape in shapes.items()}
    return Checkpoint(Path(), config, tensors, has_encoder=False)


class MetaReader:
    """Reads tensors without numbers."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._tensors = checkpoint.tensors

    def read(self, name: str) -> Tensor:
        return torch.empty(self._tensors[name].shape, dtype=torch.bfloat16, device=META)

    def map(self, name: str) -> Tensor:
        return torch.empty(self._tensors[name].shape, dtype=torch.bfloat16)


@pytest.fixture
def shapes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load without numbers, and compute as the kernels do: what they allocate, and nothing else."""
    monkeypatch.setattr(load, "TensorReader", MetaReader)
    monkeypatch.setattr(load, "check_finite", lambda name, value: None)
    monkeypatch.setattr(load, "_read_codebook", lambda reader: torch.empty(8192, 256))
    monkeypatch.setattr(
        load, "SCHEMES", {name: replace(scheme, fit=fit_like(name)) for name, scheme in SCHEMES.items()}
    )


def fit_like(precision: Precision) -> Callable[[Tensor, int], QuantizedWeight]:
    """Allocate what a fit allocates, in one piece: the fit itself is a hundred thousand operations."""

    def allocate(weight: Tensor, group_size: int) -> QuantizedWeight:
        stored = quantized_tensors("", tuple(weight.shape), precision, group_size)
        parts = [weight.new_empty(part.shape, dtype=DTYPES[part.dtype]) for part in stored.values()]
        torch.empty(FITTING, dtype=torch.uint8, device=META)
        return SCHEMES[precision].weight(*parts)

    return allocate


def attend_as_kernel(
    projections: tuple[Tensor, Tensor, Tensor],
    rotation: tuple[Tensor, Tensor],
    slot_mapping: Tensor,
    pages: tuple[Tensor, Tensor],
    tables: Tensor,
    lengths: Tensor,
) -> Tensor:
    query, (keys, _) = projections[0], pages
    num_rows, head_dim = query.shape[0], keys.shape[3]
    num_parts = -(-tables.shape[1] * keys.shape[1] // 128)
    parts = torch.empty(num_rows, query.shape[1] // head_dim, num_parts, head_dim + 2, device=query.device)
    assert parts.dtype is torch.float32
    return query.new_empty(num_rows, query.shape[1])


def multiply_as_kernel(weight: QuantizedWeight, x: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0])


@contextmanager
def kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kv_cache, "attend_rotating", attend_as_kernel)
        patch.setattr(QuantizedWeight, "matmul", multiply_as_kernel)
        yield


def frame_inputs(num_rows: int, num_positions: int) -> FrameInputs:
    return FrameInputs.blank(num_rows, num_positions // 64, 36, device=META)


def peak_of(work: Any) -> int:
    with LiveMemory() as live:
        work()
    return live.peak


def frame_peak(model: VoxtralModel, pages: Any, flow: FoldedFlow, num_rows: int, num_positions: int) -> int:
    schedule = model.acoustic_transformer.make_schedule(7)
    inputs = frame_inputs(num_rows, num_positions)
    carried = torch.empty(num_rows + 1, PUBLISHED.backbone.dim, dtype=torch.bfloat16, device=META)
    memory = StepMemory(pages, inputs.slot_mapping, inputs.block_tables, inputs.lengths)
    return peak_of(lambda: compute_frame(model, carried, memory, inputs, schedule, flow))


def prompt_peak(model: VoxtralModel, pages: Any) -> int:
    num_new, num_seen = EngineOptions.prefill_positions, POSITIONS_PER_SEQUENCE
    places = torch.empty(num_new, dtype=torch.int64, device=META)
    span = Span(0, num_new, torch.empty(num_seen // 64, dtype=torch.int64, device=META), num_seen)
    embeds = torch.empty(num_new, PUBLISHED.backbone.dim, dtype=torch.bfloat16, device=META)
    return peak_of(lambda: model.backbone.extend(embeds, places, SpanMemory(pages, places, [span])))


def audio_peak(model: VoxtralModel, num_rows: int) -> int:
    def decode() -> None:
        states = [model.init_codec_state() for _ in range(num_rows)]
        tokens = torch.empty(num_rows, 8, 37, dtype=torch.int64, device=META)
        for state in states:
            model.decode_rows(tokens[:1], state)
        together = type(states[0]).stack(states)
        model.decode_rows(tokens, together)
        for row, state in enumerate(states):
            state.take_row(together, row, 8)

    return peak_of(decode)


def load_counted(checkpoint: Checkpoint, compute: ComputePlan, live: LiveMemory) -> VoxtralModel:
    with META:
        blank = VoxtralModel(checkpoint.config, has_encoder=False)  # on the meta device wherever it is loaded to
    with pytest.MonkeyPatch.context() as patch, live:
        patch.setattr(load, "VoxtralModel", lambda *args, **options: blank)
        return load.load_model(
            checkpoint,
            device=META,
            dtype=compute.dtype,
            codec_dtype=compute.codec_dtype,
            quantization=compute.quantization,
            dequantized=compute.is_dequantized,
            prepared=True,
        )


def speaking_peak(model: VoxtralModel, weights: int, num_blocks: int, num_rows: int) -> int:
    """Count what an engine holds at most, its frames, prompts and audio at once."""
    with torch.inference_mode(), kernels():
        with LiveMemory() as live:
            flow = FoldedFlow.build(model.acoustic_transformer)
            folding = live.peak
            pages = make_pages(model.config.backbone, num_blocks, 64, device=META, dtype=torch.bfloat16)
            kept = live.held
        frame = frame_peak(model, pages, flow, num_rows, LONGEST_STATIC_POSITIONS)
        speaking = kept + frame + prompt_peak(model, pages) + audio_peak(model, num_rows)
    assert folding <= speaking
    return weights + speaking


def check_plan(card: FakeGpu, config: ModelConfig, quantize: str | None, max_memory: str | int | None) -> ComputePlan:
    """Plan, load and speak in shapes alone; what is held must fit what there is."""
    checkpoint = checkpoint_of(config)
    compute = choose_quantization(checkpoint, plan_compute("auto", num_parameters=LARGE), quantize, max_memory)
    options = fill_in(EngineOptions(), compute)
    num_rows = options.max_batch or 64

    live = LiveMemory()
    model = load_counted(checkpoint, compute, live)
    weights = live.held
    limit = card.free - DRIVER_BYTES if max_memory is None else parse_memory(max_memory)
    # The driver sees what is loaded.
    card.allocated = card.reserved = weights
    card.free -= weights
    on_gpu = type("OnGpu", (), {"config": config, "device": compute.device, "dtype": compute.dtype})()
    on_gpu.codec = type("Codec", (), {"dtype": compute.codec_dtype})()
    num_blocks = plan_blocks(on_gpu, options, num_rows)
    speaking = speaking_peak(model, weights, num_blocks, num_rows)

    reserve = 185_000_000  # for rounding, workspaces, and the block that nobody owns
    assert live.peak <= limit - reserve // 2  # while it is loaded
    assert speaking <= limit - reserve
    assert (num_blocks - 1) * 64 >= POSITIONS_PER_SEQUENCE  # and one stream of two minutes fits
    return compute


def card(total: float, free: float) -> FakeGpu:
    return FakeGpu(total=int(total * GB), free=int(free * GB))


@pytest.mark.slow
@pytest.mark.usefixtures("shapes_alone")
@pytest.mark.parametrize(
    ("given", "quantize", "max_memory", "chosen"),
    [
        (card(25.3, 24.6), None, None, None),
        (card(12.6, 11.9), None, None, None),
        (card(12.6, 11.9), "int8", None, "int8"),
        (card(8.2, 7.6), None, None, "int8"),
        (card(4.2, 3.6), None, None, "int4"),
        (card(12.6, 11.9), None, "3GB", "int4"),
        (card(8.2, 7.6), "int4-all", "2.85GB", "int4-all"),
        (card(8.2, 7.6), None, "5GB", "int8"),
        (card(12.6, 11.9), "none", "9GB", None),
    ],
    ids=lambda given: f"{given.total // GB} GB" if isinstance(given, FakeGpu) else str(given),
)
def test_a_plan_holds_by_the_live_bytes(
    given: FakeGpu, quantize: str | None, max_memory: str | None, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = check_plan(replace(given).install(monkeypatch), PUBLISHED, quantize, max_memory)
    assert (compute.quantization.name if compute.quantization else None) == chosen


@pytest.mark.usefixtures("shapes_alone")
@pytest.mark.parametrize("recipe", ["none", "int4"])
def test_a_budget_of_just_what_is_needed_holds(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The widths are the published ones, the layers few. Before, keys and values took what frames need."""
    given = card(12.6, 11.9).install(monkeypatch)
    quantization = None if recipe == "none" else choose_recipe(recipe, SHALLOW)
    sizes = {"has_encoder": False, "dtype": torch.bfloat16, "codec_dtype": torch.bfloat16}
    plan = plan_memory(SHALLOW, **sizes, quantization=quantization, device_type="cuda")
    compute = check_plan(given, SHALLOW, recipe, plan.total)
    assert compute.max_batch == 1
    assert compute.kv_cache_bytes == plan.parts["keys and values"]


@pytest.mark.usefixtures("shapes_alone")
def test_the_bounds_of_each_part_are_above_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu().install(monkeypatch)
    model = load_counted(checkpoint_of(SHALLOW), plan_compute("auto", num_parameters=LARGE), LiveMemory())
    pages = make_pages(SHALLOW.backbone, 40, 64, device=META, dtype=torch.bfloat16)
    num_rows = 8
    with torch.inference_mode():
        flow = FoldedFlow.build(model.acoustic_transformer)
        for has_kernels in (True, False):
            needs = Needs(SHALLOW, torch.bfloat16, torch.bfloat16, "cuda", has_kernels)
            with pytest.MonkeyPatch.context() as patch:
                if has_kernels:
                    patch.setattr(kv_cache, "attend_rotating", attend_as_kernel)
                held = frame_peak(model, pages, flow, num_rows, LONGEST_STATIC_POSITIONS)
                assert held <= needs._frame(num_rows) <= 3 * held
        held = audio_peak(model, num_rows)
        assert held <= needs._audio(num_rows) <= 3 * held
        held = prompt_peak(model, pages)
        assert held <= needs._prompt(2) + needs._seen() <= 3 * held


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_fit_holds_no_more_than_is_counted(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "_BLOCK_NUMBERS", fit._BLOCK_NUMBERS_OF_GPU)
    weight = torch.empty(2 * fit._BLOCK_NUMBERS // 3072, 3072, dtype=torch.bfloat16, device=META)
    with LiveMemory() as live:
        SCHEMES[precision].fit(weight, 64)
    assert 0.5 * FITTING < live.peak <= FITTING


def test_static_steps_are_as_wide_as_is_planned() -> None:
    assert frame_maker._WIDE * POSITIONS_PER_SEQUENCE == LONGEST_STATIC_POSITIONS
