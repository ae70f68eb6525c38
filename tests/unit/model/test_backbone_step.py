"""The fused step of the backbone computes what the plain pass computes; each test stands alone."""

from __future__ import annotations

import copy

import pytest
import torch

from checkpoints import TINY
from launches import as_on_gpu
from voxtral.engine.kv_cache import Span, SpanMemory, StepMemory, kv_slot, make_pages
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model
from voxtral.model import linear
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels import dispatch
from voxtral.model.layers import last
from voxtral.model.voxtral import VoxtralModel, prepare_for_inference

CPU = torch.device("cpu")
# Of three sequences: how many positions each has before the step, and its blocks of 4 positions.
SEEN = (5, 0, 11)
BLOCKS = ((1, 2), (3,), (6, 4, 5))
SCRATCH_ROW = 0


def load() -> VoxtralModel:
    return load_model(open_checkpoint(TINY), device=CPU, dtype=torch.float32, codec_dtype=torch.float32)


def three_sequences(model: VoxtralModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the same new positions by a plain pass and by a step: hidden states [3, D] of both."""
    config = model.config.backbone
    pages = make_pages(config, 7, 4, device=CPU, dtype=torch.float32)
    embeds = model.embed_text(torch.arange(1000, 1000 + sum(SEEN) + 3))
    first, rest = embeds[: sum(SEEN)], embeds[sum(SEEN) :]
    spans, slots, positions = [], [], []
    for seen, blocks in zip(SEEN, BLOCKS, strict=True):
        start = len(positions)
        positions += range(seen)
        slots += [kv_slot(blocks, position, 4) for position in range(seen)]
        if seen:
            spans.append(Span(start, len(positions), torch.tensor(blocks), seen))
    model.backbone.extend(first, torch.tensor(positions), SpanMemory(pages, torch.tensor(slots), spans))
    now = torch.tensor(SEEN)
    here = torch.tensor([kv_slot(blocks, seen, 4) for seen, blocks in zip(SEEN, BLOCKS, strict=True)])
    plain = model.backbone.extend(
        rest,
        now,
        SpanMemory(
            pages,
            here,
            [
                Span(row, row + 1, torch.tensor(blocks), seen + 1)
                for row, (seen, blocks) in enumerate(zip(SEEN, BLOCKS, strict=True))
            ],
        ),
    )
    # The step must write them itself.
    pages.keys.flatten(1, 2)[:, here] = torch.nan
    pages.values.flatten(1, 2)[:, here] = torch.nan
    tables = torch.zeros(4, 3, dtype=torch.int32)
    for row, blocks in enumerate(BLOCKS):
        tables[row, : len(blocks)] = torch.tensor(blocks)
    # A fourth row fills up the batch.
    memory = StepMemory(
        pages, torch.cat((here, torch.tensor([SCRATCH_ROW]))), tables, torch.tensor([*(n + 1 for n in SEEN), 1]).int()
    )
    padded = torch.cat((rest, torch.zeros(1, rest.shape[1])))
    step = model.backbone.step(padded, torch.cat((now, torch.tensor([0]))), memory)
    return plain, step[:3]


def test_a_step_computes_what_a_pass_computes() -> None:
    with torch.inference_mode():
        plain, step = three_sequences(load())
    assert torch.allclose(plain, step, atol=2e-5)


def test_a_joined_model_computes_the_same() -> None:
    model = load()
    joined = copy.deepcopy(model)
    prepare_for_inference(joined)
    with torch.inference_mode():
        plain, _ = three_sequences(model)
        _, step = three_sequences(joined)
    assert torch.allclose(plain, step, atol=2e-5)


@pytest.mark.skipif(
    not dispatch.has_triton() or torch.cuda.is_available(), reason="interpreted kernels need Triton and no GPU"
)
@pytest.mark.parametrize(
    "few_rows",
    [
        pytest.param(64, id="kernels multiply"),
        # tests/unit/model/test_linear.py has the product alone.
        pytest.param(0, id="the library multiplies", marks=pytest.mark.slow),
    ],
)
def test_the_ways_of_a_gpu_compute_the_same(few_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts, steps and the folded flow, each by interpreted kernels beside the plain forms."""
    monkeypatch.setattr(linear, "_FEW_ROWS", few_rows)
    model = load()
    prepare_for_inference(model)
    # Interpreted kernels are slow; one layer has all of them, and the flow a first and a last one.
    model.backbone.layers = model.backbone.layers[:1]
    head = model.acoustic_transformer
    torch.manual_seed(0)
    hidden, noise = torch.randn(2, head.config.input_dim), torch.randn(2, head.codebooks.num_acoustic)
    given = (hidden, noise, torch.tensor([1.2, 0.5]), head.make_schedule(1))
    with torch.no_grad():
        expected, _ = three_sequences(model)
        flow = last(FoldedFlow.build(head).flow_states(*given))
    with as_on_gpu():
        prompt, step = three_sequences(model)
        fused_flow = last(FoldedFlow.build(head).flow_states(*given))
    torch.testing.assert_close(prompt, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(step, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(fused_flow, flow, atol=2e-5, rtol=1e-5)
