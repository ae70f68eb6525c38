"""How many kernels a frame and a part of a prompt are on a GPU, counted without one at the published shape."""

from __future__ import annotations

import copy
from collections import Counter
from functools import partial

import pytest
import torch

from benchmarks.subjects import config_of
from launches import ATTENTION, PRODUCTS, count_launches
from voxtral.engine.frame_maker import StaticStep, make_text_heads
from voxtral.engine.inputs import FrameInputs
from voxtral.engine.kv_cache import KVPages, Span, SpanMemory
from voxtral.model.acoustic import FlowSchedule
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels import dispatch
from voxtral.model.linear import round_to_float8
from voxtral.model.voxtral import VoxtralModel, prepare_for_inference

pytestmark = pytest.mark.skipif(not dispatch.has_triton(), reason="counting launches needs Triton")

CONFIG = config_of("4b-random")
LAYERS, DIM = CONFIG.backbone.num_layers, CONFIG.backbone.dim
NUMBERS = partial(torch.empty, device="meta", dtype=torch.bfloat16)
EXACT = partial(torch.empty, device="meta", dtype=torch.float32)
SHORT = partial(torch.empty, device="meta", dtype=torch.int32)
LONG = partial(torch.empty, device="meta", dtype=torch.int64)


@pytest.fixture(scope="module")
def model() -> VoxtralModel:
    """Make the published model without numbers."""
    with torch.device("meta"):
        model = VoxtralModel(CONFIG, has_encoder=False).bfloat16().requires_grad_(False)
    for module in model.modules():
        for name, table in module.named_buffers(recurse=False):
            setattr(module, name, table.to("meta"))
    prepare_for_inference(model)
    return model


def make_pages() -> KVPages:
    net = CONFIG.backbone
    return KVPages(*(NUMBERS(LAYERS, 40, 64, net.num_kv_heads, net.head_dim) for _ in range(2)))


def count_frame(
    model: VoxtralModel, num_rows: int, pairs: tuple[tuple[int, int], ...] = (), *, off: tuple[str, ...] = ()
) -> Counter[str]:
    num_acoustic, has_texts = CONFIG.codebooks.num_acoustic, bool(pairs)
    inputs = FrameInputs.blank(num_rows, 32, num_acoustic, has_texts=has_texts, device="meta")
    schedule = FlowSchedule(EXACT(8), EXACT(7), NUMBERS(7, DIM))
    flow, carried, pages = FoldedFlow.build(model.acoustic_transformer), NUMBERS(65, DIM), make_pages()
    step = StaticStep(model, pages, carried, schedule, flow, make_text_heads(model, pages, pairs))

    def compute() -> None:
        for kernel in off:
            dispatch.KERNELS.turn_off(kernel, carried.device, "off for a test")
        made = step(inputs)
        assert (made.text_weights is not None) is has_texts

    return count_launches(compute)


def num_others(counts: Counter[str]) -> int:
    return counts.total() - sum(counts[name] for name in PRODUCTS | ATTENTION)


@pytest.fixture(scope="module")
def of_one_row(model: VoxtralModel) -> Counter[str]:
    return count_frame(model, 1)


def check_static_frame(counts: Counter[str]) -> None:
    assert counts.total() <= 340, counts
    assert num_others(counts) <= 130, counts
    # One launch of attention for each layer: nothing is rotated, stored or joined beside it.
    assert counts["_attend_rotating"] == LAYERS
    assert "_rotate_and_store" not in counts


def test_a_static_frame_is_few_kernels(of_one_row: Counter[str]) -> None:
    check_static_frame(of_one_row)
    # The first layer of the flow has its projections once a frame, and one more product follows the last.
    assert of_one_row["_multiply"] == 4 * LAYERS + 7 * 4 * CONFIG.acoustic.num_layers + 1
    # Everything between two products is part of one: norms are left after the backbone, and once a frame for the tokens
    # of the flow that no step changes.
    assert "_silu_multiply" not in of_one_row
    assert of_one_row["rms_norm"] == 2


def test_a_static_frame_of_many_rows_is_few_kernels(model: VoxtralModel) -> None:
    check_static_frame(count_frame(model, 32))


# Counters of a device are made by the first launch that wants them.
ONCE = {"zeros"}

# In one layer, in two, and more of them than anybody wants.
PAIRS = [((3, 0), (3, 1)), ((3, 0), (9, 31)), ((1, 0), (2, 5), (2, 6), (20, 1))]


@pytest.mark.parametrize("pairs", PAIRS, ids=["one layer", "two layers", "four heads"])
def test_following_the_text_is_one_kernel_and_one_that_gathers_queries(
    model: VoxtralModel, of_one_row: Counter[str], pairs: tuple[tuple[int, int], ...]
) -> None:
    counts = count_frame(model, 1, pairs)
    assert counts - of_one_row == Counter({"_weigh_text": 1, "stack": 1})
    assert set(of_one_row - counts) <= ONCE


@pytest.mark.parametrize("pairs", PAIRS, ids=["one layer", "two layers", "four heads"])
def test_without_triton_it_is_sixteen_kernels_for_all_layers_together(
    model: VoxtralModel, of_one_row: Counter[str], pairs: tuple[tuple[int, int], ...]
) -> None:
    counts = count_frame(model, 1, pairs, off=("weigh_text",))
    assert "_weigh_text" not in counts
    assert (counts - of_one_row).total() <= 16, counts - of_one_row


def test_without_heads_nothing_is_launched_or_copied_for_texts(model: VoxtralModel, of_one_row: Counter[str]) -> None:
    for counts, expected in ((of_one_row, 289), (count_frame(model, 32), 331)):
        assert counts.total() - sum(counts[name] for name in ONCE) == expected, counts
    plain, with_texts = (FrameInputs.blank(3, 4, 5, has_texts=has_texts) for has_texts in (False, True))
    assert plain.packed.nbytes == with_texts.packed.nbytes - 2 * 64
    assert plain.text_starts.nbytes == plain.text_lengths.nbytes == 0


def test_float8_adds_no_more_than_rounding_the_activations(model: VoxtralModel, of_one_row: Counter[str]) -> None:
    narrow = copy.deepcopy(model)
    round_to_float8(narrow.acoustic_transformer.layers)
    counts = count_frame(narrow, 1)
    # Each product of a layer rounds what it multiplies; the first layer's projections are made once a frame.
    assert counts["_quantize_rows"] == 7 * (4 * CONFIG.acoustic.num_layers - 1) + 1
    assert counts.total() <= of_one_row.total() + counts["_quantize_rows"]


@pytest.mark.parametrize("num_spans", [1, 3])
def test_a_part_of_a_prompt_is_few_kernels(model: VoxtralModel, num_spans: int) -> None:
    num_each = 150 // num_spans
    # Behind a voice of as many positions.
    num_seen = 150 + num_each
    spans = [Span(start, start + num_each, LONG(-(-num_seen // 64)), num_seen) for start in range(0, 150, num_each)]
    pages, embeds, positions, slots = make_pages(), NUMBERS(150, DIM), LONG(150), LONG(150)
    counts = count_launches(lambda: model.backbone.extend(embeds, positions, SpanMemory(pages, slots, spans)))
    assert counts.total() <= 600, counts
    # However many prompts share the pass.
    assert counts["_attend_spans"] == LAYERS
