"""Recipes say which matrices get how many bits, and refuse what does not fit."""

from __future__ import annotations

import pytest

from voxtral.config import QuantizationConfig
from voxtral.errors import OptionError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.quantization.recipes import RECIPES, choose_recipe, stored_precision

INT4 = QuantizationConfig("int4", "int8", "int8", 64)


def test_int4_spares_the_acoustic_transformer(tiny_checkpoint: Checkpoint) -> None:
    config = tiny_checkpoint.config
    assert choose_recipe("int8", config) == QuantizationConfig("int8", "int8", "int8", 64)
    # Widths 64, 96 and 160: groups of 64 do not fit.
    assert choose_recipe("int4", config) == QuantizationConfig("int4", "int8", "int8", 32)
    assert choose_recipe("int4-all", config) == QuantizationConfig("int4", "int4", "int8", 32)
    assert [choose_recipe(name, config).name for name in RECIPES] == ["int8", "int4", "int4-all"]


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
