"""Opening and loading checkpoints that are as they should be."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkpoints import TINY
from voxtral.config import ModelConfig
from voxtral.loading.checkpoint import (
    TEXT_EMBEDDINGS,
    TensorReader,
    backbone_parameter_count,
    expected_tensors,
    fingerprint,
    load_model,
    open_checkpoint,
    read_header,
)
from voxtral.loading.params import parse_config
from voxtral.model.voxtral import VoxtralModel

WEIGHTS = "consolidated.safetensors"
TIME_TABLE = "acoustic_transformer.time_embedding.inv_freq"
ENCODER = ("audio_tokenizer.input_proj.", "audio_tokenizer.encoder_blocks.")


def write_checkpoint(folder: Path, tensors: dict[str, Tensor], params: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    if params is None:
        shutil.copyfile(TINY / "params.json", folder / "params.json")
    else:
        (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS)
    return folder


def tiny_tensors() -> dict[str, Tensor]:
    return load_file(TINY / WEIGHTS)


def tiny_params() -> dict[str, Any]:
    return json.loads((TINY / "params.json").read_text(encoding="utf-8"))


def load(folder: Path, dtype: torch.dtype = torch.float32, codec_dtype: torch.dtype | None = None) -> VoxtralModel:
    checkpoint = open_checkpoint(folder)
    return load_model(checkpoint, device=torch.device("cpu"), dtype=dtype, codec_dtype=codec_dtype or dtype)


def assert_same_weights(left: VoxtralModel, right: VoxtralModel) -> None:
    mine, theirs = dict(left.named_parameters()), dict(right.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert torch.equal(left.codec.quantizer.semantic_table, right.codec.quantizer.semantic_table)
    assert torch.equal(left.text_embeddings, right.text_embeddings.to(left.text_embeddings.dtype))


@pytest.fixture(scope="module")
def tiny_model() -> VoxtralModel:
    return load(TINY)


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
    assert all(name.startswith(ENCODER) for name in added)


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


def test_a_decode_step_reads_the_layers_and_the_norm(published: ModelConfig) -> None:
    assert backbone_parameter_count(published.backbone) == 26 * 116_398_080 + 3072


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


# Opening.


def test_tiny_opens_with_its_encoder() -> None:
    checkpoint = open_checkpoint(TINY)
    assert (len(checkpoint.tensors), checkpoint.has_encoder) == (284, True)
    assert checkpoint.data_bytes == 2 * checkpoint.num_parameters
    assert checkpoint.num_parameters == sum(tensor.numel() for tensor in tiny_tensors().values())


def test_tiny_without_encoder_opens_and_loads(tmp_path: Path) -> None:
    public = {name: tensor for name, tensor in tiny_tensors().items() if not name.startswith(ENCODER)}
    folder = write_checkpoint(tmp_path / "public", public)
    checkpoint = open_checkpoint(folder)
    assert (len(checkpoint.tensors), checkpoint.has_encoder) == (170, False)
    assert load(folder).codec_encoder is None


def test_metadata_of_the_header_is_no_tensor(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert set(read_header(tmp_path / "x.safetensors")) == {"x"}


def test_the_reader_returns_what_was_stored() -> None:
    reader, stored = TensorReader(open_checkpoint(TINY)), tiny_tensors()
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in stored.items())


# Loading.


def test_every_parameter_comes_from_the_file(tiny_model: VoxtralModel) -> None:
    stored = tiny_tensors()
    weights = dict(tiny_model.named_parameters())
    for ours, theirs in (
        ("audio_embeddings.weight", "mm_audio_embeddings.audio_codebook_embeddings.embeddings.weight"),
        ("backbone.norm.weight", "norm.weight"),
        ("backbone.layers.1.feed_forward.w3.weight", "layers.1.feed_forward.w3.weight"),
        ("acoustic_transformer.layers.2.attention.wk.weight", "acoustic_transformer.layers.2.attention.wk.weight"),
        ("codec.decoder_blocks.5.layers.1.ffn_scale", "audio_tokenizer.decoder_blocks.5.layers.1.ffn_scale"),
        (
            "codec_encoder.encoder_blocks.6.layers.0.attention.wv.weight",
            "audio_tokenizer.encoder_blocks.6.layers.0.attention.wv.weight",
        ),
    ):
        assert torch.equal(weights[ours], stored[theirs].float())
    assert torch.equal(tiny_model.text_embeddings, stored[TEXT_EMBEDDINGS])
    assert not any(parameter.is_meta or parameter.requires_grad for parameter in weights.values())
    assert not any(buffer.is_meta for buffer in tiny_model.buffers())
    assert not tiny_model.training


@pytest.mark.parametrize("block", [0, 2, 4, 6])
def test_folded_convolutions_have_the_norm_that_their_gain_says(tiny_model: VoxtralModel, block: int) -> None:
    stored = tiny_tensors()
    stem = f"audio_tokenizer.decoder_blocks.{block}.conv.parametrizations.weight.original"
    folded = tiny_model.get_parameter(f"codec.decoder_blocks.{block}.conv.weight")
    torch.testing.assert_close(folded.flatten(1).norm(dim=1), stored[f"{stem}0"].float().abs().flatten())
    direction = stored[f"{stem}1"].float() * stored[f"{stem}0"].float().sign()
    assert torch.nn.functional.cosine_similarity(folded.flatten(1), direction.flatten(1)).min() > 0.99999


def test_a_gain_that_is_zero_makes_a_channel_of_zeros(tmp_path: Path) -> None:
    tensors = tiny_tensors()
    tensors["audio_tokenizer.decoder_blocks.0.conv.parametrizations.weight.original0"][3] = 0
    model = load(write_checkpoint(tmp_path / "zero", tensors))
    assert not model.get_parameter("codec.decoder_blocks.0.conv.weight")[3].any()


def test_dtypes_are_those_asked_for_and_tables_stay_float32() -> None:
    model = load(TINY, torch.bfloat16, codec_dtype=torch.float32)
    for name, parameter in model.named_parameters():
        assert parameter.dtype is (torch.float32 if name.startswith("codec") else torch.bfloat16), name
    floats = {name: buffer.dtype for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    assert set(floats.values()) == {torch.float32}
    assert (model.dtype, model.codec.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("stored_as", [torch.float32, torch.float16])
def test_other_stored_dtypes_give_the_same_model(
    tmp_path: Path, tiny_model: VoxtralModel, stored_as: torch.dtype
) -> None:
    tensors = {name: tensor.to(stored_as) for name, tensor in tiny_tensors().items()}
    # float16 keeps more digits than bfloat16 but not its small numbers: flush those in both.
    exact = {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
    expected = tiny_model if stored_as is torch.float32 else load(write_checkpoint(tmp_path / "exact", exact))
    assert_same_weights(load(write_checkpoint(tmp_path / "other", tensors)), expected)


def test_a_stored_time_table_is_accepted_and_not_used(tmp_path: Path, tiny_model: VoxtralModel) -> None:
    tensors = tiny_tensors() | {TIME_TABLE: torch.full((32,), 7.0)}
    model = load(write_checkpoint(tmp_path / "old", tensors))
    assert_same_weights(model, tiny_model)
    assert torch.equal(
        model.acoustic_transformer.inverse_frequencies, tiny_model.acoustic_transformer.inverse_frequencies
    )


def test_a_text_head_is_needed_where_it_is_stated_and_not_kept(tmp_path: Path, tiny_model: VoxtralModel) -> None:
    params = tiny_params() | {"tied_embeddings": False}
    tensors = tiny_tensors() | {"output.weight": torch.ones(4096, 64, dtype=torch.bfloat16)}
    assert_same_weights(load(write_checkpoint(tmp_path / "untied", tensors, params)), tiny_model)


def test_data_that_is_not_aligned_is_read_all_the_same(tmp_path: Path, tiny_model: VoxtralModel) -> None:
    folder = write_checkpoint(tmp_path / "odd", tiny_tensors())
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    odd = (length + 1).to_bytes(8, "little") + content[8 : 8 + length] + b" " + content[8 + length :]
    (folder / WEIGHTS).write_bytes(odd)
    assert_same_weights(load(folder), tiny_model)


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "a", tiny_tensors())
    first, again = (fingerprint(open_checkpoint(folder)) for _ in range(2))
    tensors = tiny_tensors()
    tensors["norm.weight"] = tensors["norm.weight"] + 1
    other = fingerprint(open_checkpoint(write_checkpoint(folder, tensors)))
    params = fingerprint(open_checkpoint(write_checkpoint(folder, tensors, tiny_params() | {"x": 1})))
    assert first == again
    assert len({first, other, params}) == 3
