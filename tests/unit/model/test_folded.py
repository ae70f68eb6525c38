"""The folded flow is the plain flow: for any sizes, biases and norms, and in the dtypes that speak."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtral.config import AcousticConfig, CodebookConfig
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.load import load_model
from voxtral.model.acoustic import AcousticTransformer
from voxtral.model.folded import FoldedFlow
from voxtral.model.layers import last
from voxtral.model.voxtral import VoxtralModel, prepare_for_inference
from voxtral.quantization.recipes import choose_recipe

BOOKS = CodebookConfig(semantic_size=50, acoustic_size=5, num_acoustic=6)


@st.composite
def heads(draw: st.DrawFn) -> AcousticTransformer:
    num_kv_heads, head_dim = draw(st.integers(1, 3)), draw(st.sampled_from([4, 6, 8]))
    dim = 2 * draw(st.integers(4, 12))
    config = AcousticConfig(
        input_dim=draw(st.integers(4, 20)),
        dim=dim,
        num_layers=draw(st.integers(1, 3)),
        num_heads=num_kv_heads * draw(st.integers(1, 3)),
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        hidden_dim=draw(st.integers(4, 30)),
        norm_eps=draw(st.sampled_from([1e-5, 1e-2, 1.0])),
        use_biases=draw(st.booleans()),
    )
    torch.manual_seed(draw(st.integers(0, 1000)))
    head = AcousticTransformer(config, BOOKS)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=draw(st.sampled_from([0.1, 0.4])))
    head.requires_grad_(False)
    if draw(st.booleans()):
        prepare_for_inference(head)
    return head


@settings(max_examples=40)
@given(heads(), st.integers(1, 4), st.integers(1, 8))
def test_every_state_of_the_flow_is_that_of_the_plain_path(
    head: AcousticTransformer, num_rows: int, num_steps: int
) -> None:
    hidden, noise = torch.randn(num_rows, head.config.input_dim), torch.randn(num_rows, 6)
    given_ = (hidden, noise, torch.linspace(0.5, 2, num_rows), head.make_schedule(num_steps))
    plain = torch.stack(list(head.flow_states(*given_)))
    folded = torch.stack(list(FoldedFlow.build(head).flow_states(*given_)))
    assert folded.shape == (num_steps + 1, num_rows, 6)
    torch.testing.assert_close(folded, plain, atol=2e-4, rtol=2e-4)


def test_a_frame_is_made_with_the_flow_that_is_given(tiny_model: VoxtralModel) -> None:
    head = tiny_model.acoustic_transformer
    torch.manual_seed(0)
    hidden, noise = torch.randn(3, head.config.input_dim), torch.randn(3, head.codebooks.num_acoustic)
    given_ = (hidden, noise, torch.tensor([1.0, 1.2, 0.0]), head.make_schedule(7))
    folding = FoldedFlow.build(head)
    plain, folded = tiny_model.generate_frame(*given_), tiny_model.generate_frame(*given_, flow=folding)
    assert torch.equal(folded.audio_tokens, plain.audio_tokens)
    assert torch.equal(folded.flow_state, last(folding.flow_states(*given_)))


def test_weights_of_16_bits_lose_nothing_by_folding(tiny_model: VoxtralModel) -> None:
    exact = tiny_model.acoustic_transformer
    head = AcousticTransformer(exact.config, exact.codebooks).requires_grad_(False)
    head.load_state_dict(exact.state_dict())
    head.bfloat16().init_tables(torch.device("cpu"))
    # The same rounded weights, computed with in float32, say what each path should have found.
    wide = AcousticTransformer(exact.config, exact.codebooks).requires_grad_(False)
    wide.load_state_dict({name: value.float() for name, value in head.state_dict().items()})
    torch.manual_seed(0)
    hidden, noise = torch.randn(64, exact.config.input_dim).bfloat16(), torch.randn(64, exact.codebooks.num_acoustic)
    guidance = torch.full((64,), 1.2)
    truth = last(wide.flow_states(hidden.float(), noise, guidance, wide.make_schedule(7)))
    folding = FoldedFlow.build(head)
    plain, folded = (last(f.flow_states(hidden, noise, guidance, head.make_schedule(7))) for f in (head, folding))
    errors = [float((state - truth).square().mean().sqrt()) for state in (plain, folded)]
    assert folding.state_table.dtype is torch.float32
    assert errors[1] <= 1.05 * errors[0]


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_quantised_matrices_are_folded_as_they_are(tiny_checkpoint: Checkpoint, recipe: str, prepared: bool) -> None:
    quantization = choose_recipe(recipe, tiny_checkpoint.config)
    cpu, exact = torch.device("cpu"), torch.float32
    model = load_model(tiny_checkpoint, device=cpu, dtype=exact, codec_dtype=exact, quantization=quantization)
    if prepared:
        prepare_for_inference(model)
    head = model.acoustic_transformer
    torch.manual_seed(0)
    hidden, noise = torch.randn(3, head.config.input_dim), torch.randn(3, head.codebooks.num_acoustic)
    given_ = (hidden, noise, torch.tensor([1.2, 1.0, 0.5]), head.make_schedule(7))
    plain, folded = (last(way.flow_states(*given_)) for way in (head, FoldedFlow.build(head)))
    # Fast products round activations to two bytes; the folded layer does not.
    assert float((folded - plain).abs().max() / plain.abs().max()) < (1e-3 if prepared else 1e-5)


@pytest.mark.parametrize("num_steps", [1, 7])
def test_folding_multiplies_less(tiny_model: VoxtralModel, num_steps: int) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    head = tiny_model.acoustic_transformer
    given_ = (
        torch.zeros(4, head.config.input_dim),
        torch.zeros(4, head.codebooks.num_acoustic),
        torch.ones(4),
        head.make_schedule(num_steps),
    )
    counts = []
    for way in (head, FoldedFlow.build(head)):
        with FlopCounterMode(display=False) as counter:
            last(way.flow_states(*given_))
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.8 * counts[0]
