"""Which tensors a config implies."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from checkpoints import source_filter_params, tiny_params
from voxtral.config import ModelConfig
from voxtral.loading.inventory import ENCODER_PREFIXES, expected_tensors
from voxtral.loading.params import parse_config

# The published inventory.


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    from benchmarks.random_checkpoint import published_params

    return parse_config(published_params())


def test_the_published_file_has_386_tensors_of_8004706784_bytes(published: ModelConfig) -> None:
    shapes = expected_tensors(published, with_encoder=False)
    assert len(shapes) == 386
    assert 2 * sum(math.prod(shape) for shape in shapes.values()) == 8_004_706_784


def test_the_three_networks_have_their_published_shares(published: ModelConfig) -> None:
    shares = {"backbone": [0, 0], "acoustic_transformer": [0, 0], "audio_tokenizer": [0, 0]}
    for name, shape in expected_tensors(published, with_encoder=False).items():
        share = shares[prefix if (prefix := name.split(".")[0]) in shares else "backbone"]
        share[0] += 1
        share[1] += math.prod(shape)
    assert shares == {
        "backbone": [237, 3_456_924_672],
        "acoustic_transformer": [33, 393_851_904],
        "audio_tokenizer": [116, 151_576_816],
    }


def test_the_encoder_adds_114_tensors(published: ModelConfig) -> None:
    without, with_encoder = (expected_tensors(published, with_encoder=flag) for flag in (False, True))
    added = {name: shape for name, shape in with_encoder.items() if name not in without}
    assert without.items() <= with_encoder.items()
    assert (len(with_encoder), len(added)) == (500, 114)
    assert sum(math.prod(shape) for shape in added.values()) == 149_471_524
    assert all(name.startswith(ENCODER_PREFIXES) for name in added)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mm_audio_embeddings.tok_embeddings.weight", (131072, 3072)),
        ("mm_audio_embeddings.audio_codebook_embeddings.embeddings.weight", (9088, 3072)),
        ("layers.25.attention.wq.weight", (4096, 3072)),
        ("layers.0.attention.wk.weight", (1024, 3072)),
        ("layers.0.attention.wo.weight", (3072, 4096)),
        ("layers.0.feed_forward.w2.weight", (3072, 9216)),
        ("acoustic_transformer.input_projection.weight", (3072, 36)),
        ("acoustic_transformer.semantic_codebook_output.weight", (8320, 3072)),
        ("acoustic_transformer.acoustic_codebook_output.weight", (36, 3072)),
        ("audio_tokenizer.decoder_blocks.0.conv.parametrizations.weight.original0", (1024, 1, 1)),
        ("audio_tokenizer.decoder_blocks.0.conv.parametrizations.weight.original1", (1024, 292, 3)),
        ("audio_tokenizer.decoder_blocks.2.conv.parametrizations.weight.original1", (1024, 1024, 4)),
        ("audio_tokenizer.decoder_blocks.7.layers.1.attention.q_norm.weight", (1024,)),
        ("audio_tokenizer.decoder_blocks.7.layers.1.attention_scale", (1024,)),
        ("audio_tokenizer.output_proj.conv.parametrizations.weight.original0", (240, 1, 1)),
        ("audio_tokenizer.output_proj.conv.parametrizations.weight.original1", (240, 1024, 7)),
        ("audio_tokenizer.quantizer.semantic_codebook.embedding_sum", (8192, 256)),
        ("audio_tokenizer.quantizer.semantic_codebook.cluster_usage", (8192,)),
        ("audio_tokenizer.input_proj.conv.parametrizations.weight.original1", (1024, 240, 7)),
        ("audio_tokenizer.encoder_blocks.7.conv.parametrizations.weight.original0", (292, 1, 1)),
        ("audio_tokenizer.encoder_blocks.7.conv.parametrizations.weight.original1", (292, 1024, 3)),
    ],
)
def test_published_shapes(published: ModelConfig, name: str, shape: tuple[int, ...]) -> None:
    assert expected_tensors(published, with_encoder=True)[name] == shape


# Switches.


def names_without(**flags: bool) -> set[str]:
    params = tiny_params()
    params["multimodal"]["audio_tokenizer_args"] |= flags
    config = parse_config(params)
    return set(expected_tensors(parse_config(tiny_params()), with_encoder=True)) - set(
        expected_tensors(config, with_encoder=True)
    )


def test_switches_of_the_codec_take_their_tensors_with_them() -> None:
    assert len(names_without(layer_scale=False)) == 16 * 2
    assert len(names_without(qk_norm=False)) == 16 * 2
    # Only the two projections heed this one; blocks are always weight-normed.
    assert names_without(conv_weight_norm=False) == {
        f"audio_tokenizer.{name}_proj.conv.parametrizations.weight.original{part}"
        for name in ("input", "output")
        for part in (0, 1)
    }
    assert names_without(spectral_head=True) == {
        f"audio_tokenizer.output_proj.conv.parametrizations.weight.original{part}" for part in (0, 1)
    }


def test_a_spectral_head_has_two_numbers_for_each_frequency() -> None:
    params = tiny_params()
    params["multimodal"]["audio_tokenizer_args"] |= {"spectral_head": True, "patch_proj_kernel_size": 4}
    shapes = expected_tensors(parse_config(params), with_encoder=False)
    dim = params["multimodal"]["audio_tokenizer_args"]["dim"]
    assert shapes["audio_tokenizer.output_proj.linear.weight"] == (2 * 481, dim)
    assert shapes["audio_tokenizer.output_proj.linear.bias"] == (2 * 481,)


def test_a_source_filter_head_and_a_mel_input_take_the_place_of_the_two_projections() -> None:
    plain = expected_tensors(parse_config(tiny_params()), with_encoder=True)
    extended = expected_tensors(parse_config(source_filter_params()), with_encoder=True)
    parts = ("input_proj", "output_proj")
    assert {name for name in plain if name not in extended} == {
        f"audio_tokenizer.{part}.conv.parametrizations.weight.original{number}" for part in parts for number in (0, 1)
    }
    codec = parse_config(source_filter_params()).codec
    assert {name: shape for name, shape in extended.items() if name not in plain} == {
        "audio_tokenizer.input_proj.linear.weight": (codec.dim, 20),
        "audio_tokenizer.input_proj.linear.bias": (codec.dim,),
        "audio_tokenizer.output_proj.linear.weight": (2 * (24 + 12), codec.dim),
        "audio_tokenizer.output_proj.linear.bias": (2 * (24 + 12),),
        "audio_tokenizer.output_proj.pitch_in.weight": (32, 3 * codec.latent_dim),
        "audio_tokenizer.output_proj.pitch_in.bias": (32,),
        "audio_tokenizer.output_proj.pitch_out.weight": (2 * 8, 32),
        "audio_tokenizer.output_proj.pitch_out.bias": (2 * 8,),
    }
    assert expected_tensors(parse_config(source_filter_params()), with_encoder=False).keys() & {
        "audio_tokenizer.output_proj.pitch_in.weight",
        "audio_tokenizer.input_proj.linear.weight",
    } == {"audio_tokenizer.output_proj.pitch_in.weight"}
