"""Loading checkpoints that are as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import TINY, WEIGHTS, tiny_params, tiny_tensors, write_checkpoint, write_source_filter
from voxtral.errors import CheckpointError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.inventory import ENCODER_PREFIXES, TEXT_EMBEDDINGS, TIME_TABLE
from voxtral.loading.load import load_model
from voxtral.loading.locate import locate_model
from voxtral.model.voxtral import VoxtralModel


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


def test_tiny_without_encoder_opens_and_loads(tmp_path: Path) -> None:
    public = {name: tensor for name, tensor in tiny_tensors().items() if not name.startswith(ENCODER_PREFIXES)}
    folder = write_checkpoint(tmp_path / "public", public)
    checkpoint = open_checkpoint(folder)
    assert (len(checkpoint.tensors), checkpoint.has_encoder) == (170, False)
    assert load(folder).codec_encoder is None


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


# The extensions for nano.


def test_a_source_filter_head_and_a_mel_input_are_loaded_whole(tmp_path: Path) -> None:
    folder = write_source_filter(tmp_path / "source")
    stored = load_file(folder / WEIGHTS)
    for codec_dtype in (torch.float32, torch.bfloat16):
        model = load(folder, codec_dtype=codec_dtype)
        weights = dict(model.named_parameters())
        for name in ("output_proj.linear.weight", "output_proj.pitch_in.weight", "output_proj.pitch_out.bias"):
            assert torch.equal(weights[f"codec.{name}"].float(), stored[f"audio_tokenizer.{name}"].float())
        assert torch.equal(
            weights["codec_encoder.input_proj.linear.bias"].float(),
            stored["audio_tokenizer.input_proj.linear.bias"].float(),
        )
        # Tables are computed, float32 whatever the weights are, and nowhere in the file.
        assert {value.dtype for value in model.buffers() if value.is_floating_point()} == {torch.float32}
        assert not any(buffer.is_meta for buffer in model.buffers())
        codes = model.encode_audio(0.1 * torch.randn(5000, generator=torch.Generator().manual_seed(0)))
        assert torch.isfinite(model.decode_codes(codes)).all()


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("output_proj.pitch_in.weight", None, "lacks audio_tokenizer.output_proj.pitch_in.weight"),
        ("output_proj.linear.weight", (7, 64), "output_proj.linear.weight has shape"),
        ("input_proj.linear.weight", (64, 21), "input_proj.linear.weight has shape"),
        ("output_proj.conv.weight", (3,), "holds audio_tokenizer.output_proj.conv.weight"),
    ],
)
def test_tensors_of_another_head_are_refused_by_name(
    tmp_path: Path, name: str, change: tuple[int, ...] | None, told: str
) -> None:
    folder = write_source_filter(tmp_path / "source")
    tensors = load_file(folder / WEIGHTS)
    if change is None:
        del tensors[f"audio_tokenizer.{name}"]
    else:
        tensors[f"audio_tokenizer.{name}"] = torch.zeros(change)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert told in str(caught.value)


def test_a_pitch_that_is_no_number_is_refused(tmp_path: Path) -> None:
    folder = write_source_filter(tmp_path / "source")
    tensors = load_file(folder / WEIGHTS)
    tensors["audio_tokenizer.output_proj.pitch_out.bias"][0] = torch.nan
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"output_proj\.pitch_out\.bias"):
        load(folder)


def test_the_nano_that_the_package_ships_still_loads() -> None:
    model = load(locate_model("nano", allow_download=False))
    assert model.codec_encoder is not None
    assert torch.isfinite(model.decode_codes(torch.zeros(37, 3, dtype=torch.int64))).all()
