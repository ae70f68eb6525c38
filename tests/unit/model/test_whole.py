"""A step of the backbone and the flow of a frame in one call each: what the layers one by one compute, row by row."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from checkpoints import TINY
from cpu_forms import form_or_skip
from voxtral.engine.kv_cache import Span, SpanMemory, make_pages
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model
from voxtral.model import linear_kernel
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels.cpu.building import NoLibraryError
from voxtral.model.kernels.cpu.library import find_form
from voxtral.model.kernels.text import TextHeads
from voxtral.model.layers import last
from voxtral.model.linear_kernel import KernelChoice
from voxtral.model.voxtral import VoxtralModel, set_flow_activations
from voxtral.quantization.recipes import choose_recipe

PAGE = 4


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


@pytest.fixture(scope="module")
def model() -> Iterator[VoxtralModel]:
    """Tiny in int4 on the best form of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            form = find_form()
        except NoLibraryError:
            form = form_or_skip("avx2")
        patch.setattr(linear_kernel, "kernel_choice", lambda: KernelChoice(form, "chosen by a test"))
        checkpoint = open_checkpoint(TINY)
        yield load_model(
            checkpoint,
            device=torch.device("cpu"),
            dtype=torch.float32,
            codec_dtype=torch.float32,
            quantization=choose_recipe("int4", checkpoint.config),
            prepared=True,
        )


class Rows:
    """Sequences of different lengths in pages, and one new position of each."""

    def __init__(self, model: VoxtralModel, *, hears: bool = False) -> None:
        self.model = model
        config = model.config.backbone
        self.lengths = (1, 5, 9)
        self.tables = [torch.tensor([1, 2, 3]) + 3 * row for row in range(3)]
        self.pages = make_pages(config, 12, PAGE, device=model.device, dtype=torch.float32)
        self.pages.keys.copy_(randn(*self.pages.keys.shape, seed=1))
        self.pages.values.copy_(randn(*self.pages.values.shape, seed=2))
        self.embeds = randn(3, config.dim, seed=3)
        self.heads = (
            TextHeads.make(
                [(0, 1), (config.num_layers - 1, 0)],
                group=config.num_heads // config.num_kv_heads,
                width=8,
                page_size=PAGE,
                device=model.device,
            )
            if hears
            else None
        )

    def run(self, rows: tuple[int, ...], *, whole: bool) -> tuple[Tensor, SpanMemory]:
        """Run some of the rows."""
        positions = torch.tensor([self.lengths[row] - 1 for row in rows])
        slots = torch.tensor(
            [
                int(self.tables[row][place // PAGE]) * PAGE + place % PAGE
                for row, place in zip(rows, positions.tolist(), strict=True)
            ]
        )
        spans = [
            Span(number, number + 1, self.tables[row][: -(-self.lengths[row] // PAGE)], self.lengths[row], (0, 1))
            for number, row in enumerate(rows)
        ]
        memory = SpanMemory(self.pages, slots, spans, self.heads)
        if not whole:
            memory.single_positions = lambda: None  # type: ignore[method-assign]
        with torch.inference_mode():
            return self.model.backbone.extend(self.embeds[list(rows)], positions, memory), memory


def test_a_step_in_one_call_is_what_the_layers_give(model: VoxtralModel) -> None:
    whole, layers = Rows(model), Rows(model)
    found, expected = whole.run((0, 1, 2), whole=True)[0], layers.run((0, 1, 2), whole=False)[0]
    assert relative(found, expected) < 1e-3
    assert relative(whole.pages.keys, layers.pages.keys) < 1e-4
    assert relative(whole.pages.values, layers.pages.values) < 1e-4


def test_a_row_of_a_step_is_the_same_alone(model: VoxtralModel) -> None:
    together = Rows(model).run((0, 1, 2), whole=True)[0]
    for row in range(3):
        assert torch.equal(Rows(model).run((row,), whole=True)[0][0], together[row])


def test_a_step_in_one_call_hears_the_text(model: VoxtralModel) -> None:
    (found, heard), (plain, _) = (
        Rows(model, hears=True).run((0, 1, 2), whole=True),
        Rows(model).run((0, 1, 2), whole=True),
    )
    _, expected = Rows(model, hears=True).run((0, 1, 2), whole=False)
    assert torch.equal(found, plain)
    assert heard.text_weights is not None
    assert expected.text_weights is not None
    assert relative(heard.text_weights, expected.text_weights) < 1e-3


@pytest.mark.parametrize("num_bytes", [1, 2])
def test_the_flow_in_one_call_is_what_its_steps_give(num_bytes: int, model: VoxtralModel) -> None:
    set_flow_activations(model, 1 if num_bytes == 1 else 2)
    acoustic = model.acoustic_transformer
    flow, schedule = FoldedFlow.build(acoustic), acoustic.make_schedule(4)
    hidden, noise = randn(5, model.config.backbone.dim), randn(5, model.config.codebooks.num_acoustic, seed=1)
    guidance = torch.linspace(1, 2, 5)
    with torch.inference_mode():
        found, given = flow.end_state(hidden, noise, guidance, schedule), (hidden.clone(), noise.clone())
        expected = last(flow.flow_states(hidden, noise, guidance, schedule))
        assert not torch.equal(found, noise)
        assert relative(found, expected) < (1e-3 if num_bytes == 2 else 0.02)
        # Of as many rows, because torch's own small products around it round by their number.
        for row in range(5):
            others = torch.arange(5) != row
            hidden[others], noise[others] = randn(4, hidden.shape[1], seed=7), randn(4, noise.shape[1], seed=8)
            hidden[row], noise[row] = given[0][row], given[1][row]
            assert torch.equal(flow.end_state(hidden, noise, guidance, schedule)[row], found[row])


def test_what_is_in_another_form_goes_layer_by_layer(model: VoxtralModel, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, schedule = FoldedFlow.build(model.acoustic_transformer), model.acoustic_transformer.make_schedule(2)
    given = (
        randn(2, model.config.backbone.dim),
        randn(2, model.config.codebooks.num_acoustic),
        torch.ones(2),
        schedule,
    )
    w2 = model.acoustic_transformer.layers[1].feed_forward.w2
    dense = torch.nn.Linear(w2.quantized_weight.shape[1], w2.quantized_weight.shape[0], bias=False)
    dense.weight = torch.nn.Parameter(w2.dense_weight(), requires_grad=False)
    with torch.inference_mode():
        expected = flow.end_state(*given)
        monkeypatch.setattr(model.acoustic_transformer.layers[1].feed_forward, "w2", dense)
        assert relative(flow.end_state(*given), expected) < 1e-3
