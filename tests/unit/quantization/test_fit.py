"""The fit of few bits: never worse than rounding, row by row, and recipes that say what they do."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from voxtral.config import QuantizationConfig
from voxtral.errors import OptionError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.quantization import fit
from voxtral.quantization.fit import choose_recipe, fit_int4, fit_int8, stored_precision

INT4 = QuantizationConfig("int4", "int8", "int8", 64)


def weights(num_rows: int, width: int, seed: int, tail: float) -> Tensor:
    """Numbers with outliers: the larger `tail`, the heavier."""
    normal = torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))
    return normal * normal.abs().pow(tail) * 0.02


def rounding_error(weight: Tensor, group_size: int) -> Tensor:
    """Squared error of each group when its range is cut into 15 equal steps."""
    groups = weight.unflatten(1, (-1, group_size))
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 15).bfloat16().float()
    zero = (7.5 - (low + high) / 2 / scale).half().float()
    rounded = ((groups / scale + zero).round().clamp(0, 15) - zero) * scale
    return (groups - rounded).square().sum(-1)


def squared_error(weight: Tensor, fitted: Tensor, group_size: int) -> Tensor:
    return (weight - fitted).unflatten(1, (-1, group_size)).square().sum(-1)


@given(st.integers(1, 4), st.sampled_from([32, 64, 128]), st.integers(0, 2**31), st.floats(0, 2))
def test_int4_is_never_worse_than_rounding(num_rows: int, group_size: int, seed: int, tail: float) -> None:
    weight = weights(num_rows, 2 * group_size, seed, tail)
    error = squared_error(weight, fit_int4(weight, group_size).dense(), group_size)
    assert (error <= rounding_error(weight, group_size) * 1.001).all()


def test_int4_is_clearly_better_than_rounding_on_the_whole() -> None:
    weight = weights(64, 512, 0, 0.0)
    fitted = squared_error(weight, fit_int4(weight, 64).dense(), 64).sum()
    assert fitted < 0.9 * rounding_error(weight, 64).sum()


@given(st.integers(0, 2**31), st.floats(-30, 30))
def test_fits_scale_with_the_weights(seed: int, exponent: float) -> None:
    weight = weights(2, 64, seed, 0.5)
    factor = 2.0 ** round(exponent)
    for fitted in (fit_int8, lambda weight: fit_int4(weight, 32)):
        torch.testing.assert_close(fitted(weight * factor).dense(), fitted(weight).dense() * factor, rtol=1e-5, atol=0)


def test_each_row_is_fitted_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = weights(40, 128, 0, 0.5)
    for fitted in (fit_int8, lambda weight: fit_int4(weight, 64)):
        whole = fitted(weight).dense()
        assert torch.equal(fitted(weight[7:9]).dense(), whole[7:9])
        assert torch.equal(fitted(weight.bfloat16()).dense(), fitted(weight.bfloat16().float()).dense())
        with monkeypatch.context() as patch:
            patch.setattr(fit, "_BLOCK_NUMBERS", 3 * 128)
            assert torch.equal(fitted(weight).dense(), whole)


def test_int8_is_off_by_at_most_half_a_step() -> None:
    weight = weights(16, 100, 0, 0.5)
    error = (fit_int8(weight).dense() - weight).abs().amax(1)
    assert (error <= weight.abs().amax(1) / 127 * 0.501).all()


def test_rows_without_a_range_stay_what_they_are() -> None:
    rows = torch.zeros(3, 64)
    rows[1] = 0.5
    rows[2] = -1e-30
    assert torch.equal(fit_int8(rows).dense()[0], rows[0])
    assert torch.equal(fit_int4(rows, 32).dense()[0], rows[0])
    torch.testing.assert_close(fit_int8(rows).dense(), rows, rtol=1e-6, atol=0)
    torch.testing.assert_close(fit_int4(rows, 32).dense(), rows, rtol=0.01, atol=0)


# Recipes.


def test_int4_spares_the_acoustic_transformer(tiny_checkpoint: Checkpoint) -> None:
    config = tiny_checkpoint.config
    assert choose_recipe("int8", config) == QuantizationConfig("int8", "int8", "int8", 64)
    # Widths 64, 96 and 160: groups of 64 do not fit.
    assert choose_recipe("int4", config) == QuantizationConfig("int4", "int8", "int8", 32)
    assert choose_recipe("int4-all", config) == QuantizationConfig("int4", "int4", "int8", 32)
    assert [choose_recipe(name, config).name for name in fit.RECIPES] == ["int8", "int4", "int4-all"]


@pytest.mark.parametrize(("name", "group_size", "said"), [("int3", None, "'int3'"), ("int4", 48, "48 inputs")])
def test_recipes_that_do_not_exist_or_fit_are_refused(
    tiny_checkpoint: Checkpoint, name: str, group_size: int | None, said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        choose_recipe(name, tiny_checkpoint.config, group_size)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("layers.0.attention.wq.weight", "int4"),
        ("layers.25.feed_forward.w2.weight", "int4"),
        ("acoustic_transformer.layers.2.attention.wo.weight", "int8"),
        ("acoustic_transformer.semantic_codebook_output.weight", "int8"),
        ("acoustic_transformer.semantic_codebook_output.bias", None),
        ("acoustic_transformer.llm_projection.weight", None),
        ("layers.0.attention_norm.weight", None),
        ("norm.weight", None),
        ("mm_audio_embeddings.tok_embeddings.weight", None),
        ("audio_tokenizer.decoder_blocks.1.layers.0.attention.wq.weight", None),
    ],
)
def test_only_what_a_frame_reads_is_quantised(name: str, precision: str | None) -> None:
    assert stored_precision(name, INT4) == precision
    assert stored_precision(name, None) is None
