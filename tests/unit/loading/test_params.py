"""params.json: what is read and what is refused."""

from __future__ import annotations

import contextlib
import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import tiny_params
from voxtral.config import (
    CodebookConfig,
    CodecConfig,
    ConvBlockConfig,
    GenerationDefaults,
    ModelConfig,
    SourceFilterConfig,
    TransformerBlockConfig,
)
from voxtral.errors import ConfigError
from voxtral.loading.params import load_config, parse_config

AUDIO = ("multimodal", "audio_model_args")
ACOUSTIC = (*AUDIO, "acoustic_transformer_args")
CODEC = ("multimodal", "audio_tokenizer_args")


def changed(*path: str, to: Any) -> dict[str, Any]:
    """tiny's params with one value replaced, or removed where `to` is None."""
    params = tiny_params()
    section = params
    for key in path[:-1]:
        section = section[key]
    if to is None:
        section.pop(path[-1], None)
    else:
        section[path[-1]] = to
    return params


def parse(*path: str, to: Any) -> ModelConfig:
    return parse_config(changed(*path, to=to))


def test_published_codec_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3]))
    from benchmarks.random_checkpoint import published_params

    codec = parse_config(published_params()).codec
    assert codec.decoder_blocks == (
        ConvBlockConfig(0, "conv", 292, 1024, 3, 1),
        TransformerBlockConfig(1, 2, 2),
        ConvBlockConfig(2, "transposed", 1024, 1024, 4, 2),
        TransformerBlockConfig(3, 2, 4),
        ConvBlockConfig(4, "transposed", 1024, 1024, 4, 2),
        TransformerBlockConfig(5, 2, 8),
        ConvBlockConfig(6, "transposed", 1024, 1024, 4, 2),
        TransformerBlockConfig(7, 2, 16),
    )
    assert codec.encoder_blocks == (
        TransformerBlockConfig(0, 2, 16),
        ConvBlockConfig(1, "conv", 1024, 1024, 4, 2),
        TransformerBlockConfig(2, 2, 8),
        ConvBlockConfig(3, "conv", 1024, 1024, 4, 2),
        TransformerBlockConfig(4, 2, 4),
        ConvBlockConfig(5, "conv", 1024, 1024, 4, 2),
        TransformerBlockConfig(6, 2, 2),
        ConvBlockConfig(7, "conv", 1024, 292, 3, 1),
    )


# What may be absent, null or unknown.


def test_unknown_keys_are_ignored() -> None:
    assert parse("something_new", to={"nested": [1, 2]}) == parse_config(tiny_params())


def test_a_missing_or_null_step_count_is_seven() -> None:
    params = tiny_params()
    params["multimodal"]["audio_model_args"]["acoustic_transformer_args"]["n_decoding_steps"] = None
    assert parse_config(params).generation.num_euler_steps == 7
    assert parse_config(tiny_params()).generation.num_euler_steps == 7


def test_a_step_count_of_the_file_is_used() -> None:
    assert parse(*ACOUSTIC, "n_decoding_steps", to=9).generation.num_euler_steps == 9


def test_the_file_may_bring_its_own_generation_defaults() -> None:
    own = {"guidance_scale": 1.5, "noise_scale": 0, "num_euler_steps": 3, "max_segment_chars": 160}
    assert parse("generation", to=own).generation == GenerationDefaults(1.5, 0.0, 3, 160)


def test_the_file_may_name_its_languages() -> None:
    assert parse("languages", to=["zh", "en"]).languages == ("zh", "en")


def test_encoder_lists_have_the_official_defaults_and_can_be_given() -> None:
    explicit = tiny_params()
    explicit["multimodal"]["audio_tokenizer_args"] |= {
        "encoder_transformer_lengths_str": "2,2,2,2",
        "encoder_convs_kernels_str": "4,4,4,3",
        "encoder_convs_strides_str": "2,2,2,1",
    }
    assert parse_config(explicit) == parse_config(tiny_params())


def test_legacy_codebook_sizes_replace_the_three_keys() -> None:
    params = tiny_params()
    audio = params["multimodal"]["audio_model_args"]
    for key in ("semantic_codebook_size", "acoustic_codebook_size", "n_acoustic_codebook"):
        del audio[key]
    audio["codebook_sizes"] = ",".join(["8192", *["21"] * 36])
    assert parse_config(params).codebooks == CodebookConfig(semantic_size=8192, acoustic_size=21, num_acoustic=36)


def test_windows_stay_where_they_are_not_to_be_halved() -> None:
    codec = parse(*CODEC, "half_attn_window_upon_downsampling", to=False).codec
    blocks = (*codec.decoder_blocks, *codec.encoder_blocks)
    assert {block.window for block in blocks if isinstance(block, TransformerBlockConfig)} == {16}


def test_a_stage_may_have_no_layers_and_keeps_its_index() -> None:
    codec = parse(*CODEC, "decoder_transformer_lengths_str", to="2,0,2,2").codec
    assert codec.decoder_blocks[3] == TransformerBlockConfig(3, 0, 4)
    assert [block.index for block in codec.decoder_blocks] == list(range(8))


def test_a_stage_that_keeps_the_rate_has_no_convolution_and_takes_no_index() -> None:
    params = tiny_params()
    params["multimodal"]["audio_tokenizer_args"] |= {
        "decoder_convs_kernels_str": "3,1,4,4",
        "decoder_convs_strides_str": "1,1,2,2",
        "encoder_convs_kernels_str": "4,4,1,3",
        "encoder_convs_strides_str": "2,2,1,1",
        "attn_sliding_window_size": 8,
    }
    codec = parse_config(params).codec
    assert [type(block) for block in codec.decoder_blocks[:4]] == [
        ConvBlockConfig,
        TransformerBlockConfig,
        TransformerBlockConfig,
        ConvBlockConfig,
    ]
    assert [block.index for block in (*codec.decoder_blocks, *codec.encoder_blocks)] == [*range(7), *range(7)]


def test_a_null_flag_counts_as_false() -> None:
    params = tiny_params()
    params["multimodal"]["audio_tokenizer_args"]["layer_scale"] = None
    assert not parse_config(params).codec.layer_scale
    assert parse(*CODEC, "layer_scale", to=None).codec.layer_scale  # absent: the default


def test_the_codec_has_21_levels_unless_it_says_otherwise() -> None:
    params = tiny_params()
    params["multimodal"]["audio_model_args"]["acoustic_codebook_size"] = 15
    del params["multimodal"]["audio_tokenizer_args"]["acoustic_codebook_size"]
    with pytest.raises(ConfigError, match="21"):
        parse_config(params)


# What is refused; every message names the key.

QUANTIZED = {"format": "voxtral-1", "backbone": "int4", "acoustic": "int8", "semantic_head": "int8", "group_size": 32}

REFUSED: list[tuple[tuple[str, ...], Any, str]] = [
    # Computations that this package does not have.
    (("model_type",), "voxtral_realtime", "model_type"),
    (("sliding_window",), 4096, "sliding_window"),
    (("rope_scaling",), {"factor": 2}, "rope_scaling"),
    (("yarn",), {"factor": 2}, "yarn"),
    (("llama_4_scaling",), {"beta": 0.1}, "llama_4_scaling"),
    (("moe",), {"num_experts": 8}, "moe"),
    (("quantization",), {"qformat_weight": "fp8"}, "voxtral quantize"),
    (("quantization",), [8], "quantization"),
    (("quantization",), QUANTIZED | {"format": "voxtral-2"}, "voxtral-1"),
    (("quantization",), QUANTIZED | {"backbone": "int2"}, "backbone is 'int2'"),
    (("quantization",), QUANTIZED | {"acoustic": None}, "acoustic is None"),
    (("quantization",), QUANTIZED | {"semantic_head": "int4"}, "semantic_head"),
    (("quantization",), QUANTIZED | {"group_size": 0}, "group_size"),
    (("quantization",), QUANTIZED | {"group_size": 48}, "multiples"),
    (("use_biases",), True, "use_biases"),
    (("causal",), False, "causal"),
    ((*AUDIO, "input_embedding_concat_type"), "concat", "input_embedding_concat_type"),
    ((*CODEC, "causal"), False, "audio_tokenizer_args: causal"),
    ((*CODEC, "channels"), 2, "channels"),
    ((*CODEC, "decoder_convs_strides_str"), "2,2,2,2", "first decoder stride"),
    ((*CODEC, "attn_sliding_window_size"), 4, "attn_sliding_window_size"),
    # Contradictions.
    (("dim",), 128, "dim 128"),
    ((*ACOUSTIC, "input_dim"), 128, "input_dim 128"),
    ((*ACOUSTIC, "dim"), 128, "acoustic dim 128"),
    ((*CODEC, "acoustic_dim"), 20, "acoustic_dim 20"),
    ((*AUDIO, "n_acoustic_codebook"), 20, "n_acoustic_codebook 20"),
    ((*CODEC, "semantic_codebook_size"), 4096, "4096"),
    ((*CODEC, "acoustic_codebook_size"), 15, "15"),
    ((*AUDIO, "audio_encoding_args", "sampling_rate"), 16000, "sampling_rate"),
    (("n_heads",), 5, "n_heads 5"),
    ((*ACOUSTIC, "n_kv_heads"), 4, "n_heads 6"),
    ((*CODEC, "n_kv_heads"), 3, "n_kv_heads 3"),
    (("head_dim",), 15, "head_dim is 15"),
    ((*CODEC, "decoder_transformer_lengths_str"), "2,2,2", "decoder lists"),
    ((*CODEC, "decoder_convs_kernels_str"), "3,4,4,1", "kernel 1 is smaller than its stride 2"),
    ((*CODEC, "encoder_convs_strides_str"), "2,2,1,1", "multiply to different numbers"),
    ((*CODEC, "decoder_convs_strides_str"), "1,2,2,4", "a stride is 4"),
    # Values of the wrong kind.
    (("dim",), "64", "dim is '64'"),
    (("dim",), True, "dim is True"),
    (("n_layers",), 0, "n_layers is 0"),
    (("n_layers",), 2.0, "n_layers is 2.0"),
    (("norm_eps",), 0.0, "norm_eps is 0.0"),
    (("norm_eps",), math.nan, "norm_eps is nan"),
    (("norm_eps",), "1e-5", "norm_eps is '1e-5'"),
    (("rope_theta",), math.inf, "rope_theta is inf"),
    (("use_biases",), "no", "use_biases is 'no'"),
    (("multimodal",), [], "multimodal is"),
    (AUDIO, "none", "audio_model_args is 'none'"),
    ((*AUDIO, "acoustic_codebook_size"), 1, "acoustic_codebook_size is 1"),
    ((*AUDIO, "codebook_sizes"), "8192", "codebook_sizes is '8192'"),
    ((*AUDIO, "codebook_sizes"), "8192,21,22", "codebook_sizes is '8192,21,22'"),
    ((*AUDIO, "codebook_sizes"), "8192,,21", "codebook_sizes is '8192,,21'"),
    ((*CODEC, "voice"), ["casual_male"], "voice is"),
    ((*CODEC, "decoder_transformer_lengths_str"), "2,two,2,2", "decoder_transformer_lengths_str is '2,two,2,2'"),
    ((*CODEC, "decoder_transformer_lengths_str"), "2,-1,2,2", "decoder_transformer_lengths_str is '2,-1,2,2'"),
    ((*CODEC, "decoder_convs_kernels_str"), "3,0,4,4", "decoder_convs_kernels_str is '3,0,4,4'"),
    ((*ACOUSTIC, "n_decoding_steps"), 0, "n_decoding_steps is 0"),
    (("generation",), {"guidance_scale": -1}, "guidance_scale is -1"),
    (("generation",), {"max_segment_chars": 0}, "max_segment_chars is 0"),
    (("generation",), {"noise_scale": "loud"}, "noise_scale is 'loud'"),
    (("languages",), "en", "languages is 'en'"),
    (("languages",), [], "languages is"),
    (("languages",), ["en", 1], "languages is"),
]


@pytest.mark.parametrize(("path", "value", "named"), REFUSED, ids=[f"{path[-1]}={value}" for path, value, _ in REFUSED])
def test_what_is_not_supported_is_refused_by_name(path: tuple[str, ...], value: Any, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(*path, to=value)
    assert named in str(caught.value)


@pytest.mark.parametrize(("patch", "kernel"), [(15, 3), (240, 1)])
def test_a_spectral_head_needs_whole_halves_of_a_window(patch: int, kernel: int) -> None:
    params = tiny_params()
    codec = params["multimodal"]["audio_tokenizer_args"]
    codec |= {"spectral_head": True, "pretransform_patch_size": patch, "patch_proj_kernel_size": kernel}
    with pytest.raises(ConfigError, match=f"{kernel} patches of {patch}"):
        parse_config(params)


# Of a source-filter head and a mel input, the extensions for nano.

HEAD = {"harmonic_knots": 24, "noise_knots": 12}


def parse_extended(**keys: Any) -> CodecConfig:
    params = tiny_params()
    params["multimodal"]["audio_tokenizer_args"] |= keys
    return parse_config(params).codec


def test_absent_extensions_are_the_published_computation() -> None:
    for codec in (parse_extended(), parse_extended(source_filter_head=None, mel_input=None, spectral_head=None)):
        assert (codec.source_filter_head, codec.mel_bands, codec.spectral_head) == (None, None, False)


def test_a_source_filter_head_has_its_sizes_and_two_that_may_be_left_out() -> None:
    codec = parse_extended(source_filter_head=HEAD, mel_input=80)
    assert codec.source_filter_head == SourceFilterConfig(24, 12, pitch_frames=3, pitch_dim=256)
    assert codec.source_filter_head.outputs_per_step == 2 * 36
    assert codec.mel_bands == 80
    codec = parse_extended(source_filter_head=HEAD | {"pitch_frames": 1, "pitch_dim": 8})
    assert codec.source_filter_head == SourceFilterConfig(24, 12, 1, 8)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"source_filter_head": HEAD, "spectral_head": True}, "spectral_head and source_filter_head"),
        ({"source_filter_head": True}, "source_filter_head is True; it must be an object"),
        ({"source_filter_head": [72, 40]}, "source_filter_head is [72, 40]"),
        ({"source_filter_head": {"harmonic_knots": 24}}, "noise_knots is None"),
        ({"source_filter_head": HEAD | {"noise_knots": 1}}, "noise_knots is 1"),
        ({"source_filter_head": HEAD | {"harmonic_knots": 2.5}}, "harmonic_knots is 2.5"),
        ({"source_filter_head": HEAD | {"harmonic_knots": 10**6}}, "harmonic_knots is 1000000"),
        ({"source_filter_head": HEAD | {"pitch_dim": 0}}, "pitch_dim is 0"),
        ({"source_filter_head": HEAD | {"pitch_frames": -1}}, "pitch_frames is -1"),
        ({"source_filter_head": HEAD | {"knots": 3}}, "'knots' is no key; there are harmonic_knots"),
        ({"source_filter_head": HEAD, "pretransform_patch_size": 241}, "patches of 241 samples"),
        ({"source_filter_head": HEAD, "pretransform_patch_size": 4096}, "at most 1024"),
        ({"mel_input": 0}, "mel_input is 0"),
        ({"mel_input": True}, "mel_input is True"),
        ({"mel_input": 80, "pretransform_patch_size": 241}, "mel_input with 7 patches of 241"),
        ({"mel_input": 80, "pretransform_patch_size": 10**6}, "mel_input with 7 patches"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_extensions_that_contradict_themselves_are_refused_by_name(keys: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_extended(**keys)
    assert named in str(caught.value)


def test_an_odd_width_is_refused() -> None:
    params = tiny_params()
    acoustic = params["multimodal"]["audio_model_args"]["acoustic_transformer_args"]
    params["dim"] = acoustic["dim"] = acoustic["input_dim"] = 63
    with pytest.raises(ConfigError, match="dim is 63"):
        parse_config(params)


@pytest.mark.parametrize(
    "path",
    [
        ("dim",),
        ("n_layers",),
        ("n_heads",),
        ("n_kv_heads",),
        ("head_dim",),
        ("hidden_dim",),
        ("vocab_size",),
        ("norm_eps",),
        ("rope_theta",),
        ("multimodal",),
        AUDIO,
        ACOUSTIC,
        CODEC,
        (*AUDIO, "semantic_codebook_size"),
        (*AUDIO, "acoustic_codebook_size"),
        (*AUDIO, "n_acoustic_codebook"),
        (*ACOUSTIC, "input_dim"),
    ],
    ids=lambda path: path[-1],
)
def test_a_missing_key_is_named(path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=path[-1]):
        parse(*path, to=None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def all_paths(section: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths: list[tuple[str, ...]] = []
    for key, value in section.items():
        paths.append((*above, key))
        if isinstance(value, dict):
            paths.extend(all_paths(value, (*above, key)))
    return paths


@given(path=st.sampled_from(all_paths(tiny_params())), value=JSON)
def test_any_value_anywhere_is_taken_or_refused(path: tuple[str, ...], value: Any) -> None:
    params = copy.deepcopy(tiny_params())
    section = params
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    # Nothing but a ConfigError may come out, and no sizes that make no sense.
    with contextlib.suppress(ConfigError):
        assert parse_config(params).samples_per_frame >= 1


# The file itself.


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.json is missing"):
        load_config(tmp_path / "params.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"not json"], ids=["empty", "cut", "no utf-8", "text"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read as JSON"):
        load_config(path)


@pytest.mark.parametrize("content", ["[]", "null", "3"])
def test_a_file_that_holds_no_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "params.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="JSON object"):
        load_config(path)


def test_the_config_keeps_what_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "params.json"
    path.write_text(json.dumps(tiny_params()), encoding="utf-8")
    assert load_config(path).raw == tiny_params()
