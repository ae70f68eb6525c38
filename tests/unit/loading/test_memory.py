"""What a model needs, what fits, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral import device
from voxtral.config import BackboneConfig, ModelConfig
from voxtral.device import ComputePlan, plan_compute
from voxtral.engine.blocks import SCRATCH_BLOCK
from voxtral.engine.memory import DeviceMemory
from voxtral.engine.options import POSITIONS_PER_SEQUENCE, EngineOptions
from voxtral.errors import DeviceError, OptionError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.load import load_model
from voxtral.loading.memory import choose_quantization, parse_memory, plan_memory
from voxtral.loading.params import parse_config
from voxtral.model.linear import QuantizedLinear
from voxtral.model.voxtral import VoxtralModel
from voxtral.quantization.recipes import choose_recipe
from voxtral.tts import VoxtralTTS

CPU = torch.device("cpu")
KINDS = ("none", "int8", "int4")


def total(config: ModelConfig, recipe: str, dtype: torch.dtype = torch.bfloat16) -> int:
    quantization = None if recipe == "none" else choose_recipe(recipe, config)
    plan = plan_memory(config, has_encoder=False, dtype=dtype, codec_dtype=dtype, quantization=quantization)
    assert plan.total == sum(plan.parts.values())
    assert all(size > 0 for size in plan.parts.values())
    return plan.total


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3), st.sampled_from([32, 64, 128]))
def test_fewer_bits_need_less_whatever_the_sizes(
    num_layers: int, width: int, hidden: int, num_kv_heads: int, head_dim: int
) -> None:
    base = parse_config(json.loads((TINY / "params.json").read_text(encoding="utf-8")))
    backbone = BackboneConfig(
        **{**vars(base.backbone), "num_layers": num_layers, "dim": 64 * width, "hidden_dim": 64 * width * hidden}
        | {"num_heads": 2 * num_kv_heads, "num_kv_heads": num_kv_heads, "head_dim": head_dim}
    )
    config = replace(base, backbone=backbone)
    needs = [total(config, recipe) for recipe in KINDS]
    assert needs == sorted(needs, reverse=True)
    assert total(config, "none", torch.float32) > needs[0]
    assert total(replace(config, backbone=replace(backbone, num_layers=num_layers + 1)), "int4") > needs[2]


@pytest.mark.parametrize("recipe", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_take_what_was_planned(tiny_checkpoint: Checkpoint, recipe: str, dtype: torch.dtype) -> None:
    quantization = None if recipe == "none" else choose_recipe(recipe, tiny_checkpoint.config)
    plan = plan_memory(
        tiny_checkpoint.config, has_encoder=True, dtype=dtype, codec_dtype=dtype, quantization=quantization
    )
    model = load_model(tiny_checkpoint, device=CPU, dtype=dtype, codec_dtype=dtype, quantization=quantization)
    held = sum(parameter.nbytes for parameter in model.parameters())
    held += sum(part.quantized_weight.num_bytes for part in model.modules() if isinstance(part, QuantizedLinear))
    held += model.codec.quantizer.semantic_table.nbytes
    planned = plan.total - plan.parts["keys and values"] - plan.parts["activations"]
    # Within a hundredth: the codec's gains are folded, and its codebook is kept in float32.
    assert planned == pytest.approx(held, rel=0.01)


def test_the_published_size_fits_three_gigabytes_in_int4_alone() -> None:
    from benchmarks.random_checkpoint import published_params

    config = parse_config(published_params())
    assert total(config, "int4") < 2.85e9
    assert total(config, "int4-all") < 2.70e9
    assert total(config, "int8") > 3e9


def compute_for(checkpoint: Checkpoint) -> ComputePlan:
    return plan_compute("cpu", "float32", num_parameters=checkpoint.num_parameters)


def choose(checkpoint: Checkpoint, quantize: str | None, max_memory: str | int | None) -> ComputePlan:
    return choose_quantization(checkpoint, compute_for(checkpoint), quantize, max_memory)


def needed(checkpoint: Checkpoint, recipe: str) -> int:
    quantization = None if recipe == "none" else choose_recipe(recipe, checkpoint.config)
    plan = plan_memory(
        checkpoint.config,
        has_encoder=checkpoint.has_encoder,
        dtype=torch.float32,
        codec_dtype=torch.float32,
        quantization=quantization,
    )
    return plan.total


def test_a_budget_takes_the_widest_weights_that_fit(tiny_checkpoint: Checkpoint) -> None:
    for recipe in KINDS:
        chosen = choose(tiny_checkpoint, None, needed(tiny_checkpoint, recipe))
        assert (chosen.quantization.name if chosen.quantization else "none") == recipe
        # Exactly what one stream needs is left.
        assert chosen.kv_cache_bytes == 2048 * 2 * 2 * 2 * 16 * 4
    more = choose(tiny_checkpoint, None, needed(tiny_checkpoint, "none") + 1000)
    assert more.kv_cache_bytes == 2048 * 2 * 2 * 2 * 16 * 4 + 1000
    assert "MB" in more.quantization_reason


def test_what_does_not_fit_is_refused_with_its_parts(tiny_checkpoint: Checkpoint) -> None:
    too_little = needed(tiny_checkpoint, "int4") - 1
    with pytest.raises(DeviceError, match=r"max_memory is .* int4 needs more: backbone .* together .* allow"):
        choose(tiny_checkpoint, None, too_little)
    with pytest.raises(DeviceError, match="float32 needs more"):
        choose(tiny_checkpoint, "none", needed(tiny_checkpoint, "none") - 1)
    with pytest.raises(DeviceError, match="int8 needs more"):
        choose(tiny_checkpoint, "int8", needed(tiny_checkpoint, "int8") - 1)


def test_auto_looks_at_what_is_free(tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_free(size: int | None) -> ComputePlan:
        monkeypatch.setattr(device, "available_memory", lambda: None if size is None else (size, 2 * size))
        return choose(tiny_checkpoint, "auto", None)

    assert with_free(10**12).quantization is None
    assert with_free(None).quantization is None
    tight = with_free(int(needed(tiny_checkpoint, "int8") / 0.9) + 10)
    assert tight.quantization is not None
    assert tight.quantization.name == "int8"
    assert tight.quantization_reason.startswith("float32 needs")
    assert tight.kv_cache_bytes is None
    with pytest.raises(DeviceError, match="are free"):
        with_free(1000)
    # Without a word about memory, nothing is decided by it.
    assert choose(tiny_checkpoint, None, None).quantization is None


@pytest.mark.parametrize("amount", ["", "3 apples", "-1GB", "0GB", 0, -5, True, "1e3GB", "12", " 3.5 ", "800000"])
def test_amounts_that_are_none_are_refused(amount: str | int) -> None:
    with pytest.raises(OptionError, match="max_memory"):
        parse_memory(amount)


# The public call.


def test_a_model_of_few_bits_speaks_and_stays_where_it_is(tiny_folder: Path) -> None:
    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu", quantize="int8") as model:
        assert model.compute.quantization is not None
        assert model.synthesize("Hello.", max_frames=3, seed=1).samples.any()
        model.float()  # it is float32 already
        for change in (model.half, model.bfloat16):
            with pytest.raises(DeviceError, match="load it again"):
                change()


def test_a_budget_limits_the_cache_of_the_engine(tiny_folder: Path) -> None:
    budget = needed(open_checkpoint(tiny_folder), "int8")
    with VoxtralTTS.from_pretrained(tiny_folder, device="cpu", dtype="float32", max_memory=budget) as model:
        assert model.engine.options.kv_cache_bytes == model.compute.kv_cache_bytes
        assert model.compute.quantization is not None


@pytest.mark.parametrize(("quantize", "max_memory"), [("int2", None), (None, "much"), ("4", "3GB")])
def test_unknown_options_are_refused_before_a_model_is_looked_for(quantize: str | None, max_memory: str | None) -> None:
    with pytest.raises(OptionError):
        VoxtralTTS.from_pretrained("no/such-model", quantize=quantize, max_memory=max_memory)


# What is planned is what the engine takes.


def planned_for_a_stream(model: VoxtralModel) -> int:
    dtype = torch.float32
    plan = plan_memory(model.config, has_encoder=True, dtype=dtype, codec_dtype=dtype, quantization=None)
    return plan.parts["keys and values"]


def test_an_engine_has_the_planned_room_for_each_stream(tiny_model: VoxtralModel) -> None:
    num_streams = 64  # so many that together they have more positions than one request may have
    pages = DeviceMemory(tiny_model, EngineOptions(), num_streams, None).pages
    scratch = sum(part[:, SCRATCH_BLOCK].nbytes for part in (pages.keys, pages.values))
    assert pages.keys.nbytes + pages.values.nbytes - scratch == num_streams * planned_for_a_stream(tiny_model)


def test_an_engine_that_gets_what_is_planned_holds_one_stream(tiny_model: VoxtralModel) -> None:
    options = EngineOptions(kv_cache_bytes=planned_for_a_stream(tiny_model))
    assert DeviceMemory(tiny_model, options, 1, None).pool.capacity == POSITIONS_PER_SEQUENCE
