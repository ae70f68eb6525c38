"""The flow in float8: the same numbers everywhere, near those of its weights, and refused where it cannot be."""

from __future__ import annotations

import copy

import pytest
import torch

from voxtral import VoxtralTTS
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.errors import DeviceError, OptionError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.load import load_model
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels import dispatch, float8
from voxtral.model.kernels.float8 import LARGEST, check_float8, quantize_rows
from voxtral.model.layers import last
from voxtral.model.linear_weights import Float8Weight
from voxtral.model.voxtral import VoxtralModel, prepare_for_inference, round_flow_to_float8
from voxtral.quantization.recipes import choose_recipe

FLOAT8 = EngineOptions(flow_dtype="float8")


def test_a_row_is_rounded_to_steps_of_its_largest_value() -> None:
    x = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 0.51], [896.0, 70.0, -1.9]])
    values, scales = quantize_rows(x)
    assert scales[1:].tolist() == [pytest.approx(2 / LARGEST), 2.0]
    # 4 significant bits: 114.24 of 448 is 112, 35 is 36 or 34 and goes to the even one.
    assert (values.float() * scales[:, None])[0].tolist() == [0.0, 0.0, 0.0]
    assert values.float()[1].tolist() == [224.0, -448.0, 112.0]
    assert values.float()[2].tolist() == [448.0, 36.0, -0.9375]


def test_a_matrix_is_rounded_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(70, 33, generator=torch.Generator().manual_seed(0))
    whole = Float8Weight.round(weight)
    monkeypatch.setattr("voxtral.model.linear_weights.ROWS_PER_BLOCK", 32)
    parts = Float8Weight.round(weight)
    assert torch.equal(whole.dense(), parts.dense())
    assert whole.shape == (70, 33)
    assert float((whole.dense() - weight).abs().max() / weight.abs().max()) <= 2**-4
    # Exactly what the rounded numbers give.
    x = torch.randn(3, 33, generator=torch.Generator().manual_seed(1))
    values, scales = quantize_rows(x)
    torch.testing.assert_close(whole.matmul(x), values.float() * scales[:, None] @ whole.dense().T)


@pytest.mark.parametrize("is_prepared", [False, True])
def test_the_flow_is_near_that_of_its_weights(tiny_model: VoxtralModel, *, is_prepared: bool) -> None:
    model = copy.deepcopy(tiny_model)
    if is_prepared:
        prepare_for_inference(model)
    torch.manual_seed(0)
    head = model.acoustic_transformer
    hidden, noise = torch.randn(16, head.config.input_dim), torch.randn(16, head.codebooks.num_acoustic)
    given = (hidden, noise, torch.full((16,), 1.2), head.make_schedule(7))
    exact = last(head.flow_states(*given))
    round_flow_to_float8(model)
    plain, folded = last(head.flow_states(*given)), last(FoldedFlow.build(head).flow_states(*given))
    for rounded in (plain, folded):
        error = float((rounded - exact).norm() / exact.norm())
        assert 0 < error < 0.1
    # Rounding once more changes nothing.
    round_flow_to_float8(model)
    assert torch.equal(last(head.flow_states(*given)), plain)


def test_an_engine_rounds_the_flow_alone(tiny_model: VoxtralModel) -> None:
    model = copy.deepcopy(tiny_model)
    Engine(model, FLOAT8).close()
    kinds = {
        name: type(getattr(module, "quantized_weight", None))
        for name, module in model.named_modules()
        if name.endswith((".wo", ".w2", "codebook_output"))
    }
    assert {name for name, kind in kinds.items() if kind is Float8Weight} == {
        name for name in kinds if name.startswith("acoustic_transformer.layers")
    }


def test_a_flow_that_is_quantised_is_not_rounded_again(tiny_checkpoint: Checkpoint) -> None:
    recipe, cpu = choose_recipe("int8", tiny_checkpoint.config), torch.device("cpu")
    model = load_model(tiny_checkpoint, device=cpu, dtype=torch.float32, codec_dtype=torch.float32, quantization=recipe)
    with pytest.raises(OptionError, match=r"int8 .*quantize='none'"):
        Engine(model, FLOAT8)


@pytest.mark.parametrize(
    ("capability", "has_triton", "problem"),
    [((8, 6), True, "NVIDIA Faked, of 8.6"), ((7, 5), True, "of 7.5"), ((9, 0), False, "Triton is not installed")],
)
def test_a_gpu_without_float8_is_refused(
    capability: tuple[int, int], problem: str, monkeypatch: pytest.MonkeyPatch, *, has_triton: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Faked")
    monkeypatch.setattr(float8, "has_triton", lambda: has_triton)
    with pytest.raises(DeviceError, match=problem) as raised:
        check_float8(torch.device("cuda", 0))
    assert "8.9" in str(raised.value)
    assert "leave flow_dtype out" in str(raised.value)


@pytest.mark.skipif(not dispatch.has_triton(), reason="float8 on a GPU needs Triton")
@pytest.mark.parametrize("capability", [(8, 9), (9, 0), (12, 0)])
def test_a_gpu_with_float8_is_taken(capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    check_float8(torch.device("cuda", 0))


def test_it_is_refused_before_anything_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(device: torch.device) -> None:
        raise DeviceError(f"no float8 on {device}")

    monkeypatch.setattr("voxtral.loading.load.check_float8", refuse)
    with pytest.raises(DeviceError, match="no float8 on cpu"):
        VoxtralTTS.from_pretrained("nobody/has-this-model", device="cpu", options=FLOAT8)
