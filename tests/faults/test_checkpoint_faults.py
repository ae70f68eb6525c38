"""Checkpoints that are damaged: each is refused before or while it loads, by an error that names the damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from checkpoints import TINY
from voxtral.errors import CheckpointError, ConfigError
from voxtral.loading.checkpoint import TensorReader, open_checkpoint
from voxtral.loading.header import read_header
from voxtral.loading.inventory import TEXT_EMBEDDINGS
from voxtral.loading.load import load_model, open_tokenizer

WEIGHTS = "consolidated.safetensors"
WQ = "layers.1.attention.wq.weight"
CODEBOOK = "audio_tokenizer.quantizer.semantic_codebook"
CONV = "audio_tokenizer.decoder_blocks.2.conv.parametrizations.weight.original1"
ENCODER = ("audio_tokenizer.input_proj.", "audio_tokenizer.encoder_blocks.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of tiny, to be damaged."""
    for name in ("params.json", WEIGHTS):
        shutil.copyfile(TINY / name, tmp_path / name)
    return tmp_path


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(TINY / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def load(folder: Path, dtype: torch.dtype = torch.float32) -> None:
    load_model(open_checkpoint(folder), device=torch.device("cpu"), dtype=dtype, codec_dtype=torch.float32)


def assert_refused(folder: Path, *fragments: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(folder)
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


# Files.


def test_a_missing_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", "nowhere", "is no folder")


def test_a_file_in_place_of_the_folder(folder: Path) -> None:
    assert_refused(folder / WEIGHTS, "is no folder")


@pytest.mark.parametrize("name", ["params.json", WEIGHTS])
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_refused(folder, name, "is missing", "download")


def test_a_folder_in_place_of_the_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert_refused(folder, WEIGHTS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        (0).to_bytes(8, "little"),
        (2**63).to_bytes(8, "little") + b"{}",
        b"<!DOCTYPE html><html><body>404: not found</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 8004706784\n",
    ],
    ids=["empty", "7 bytes", "no header", "huge header", "web page", "lfs pointer"],
)
def test_weights_that_are_no_safetensors_file(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    assert_refused(folder, WEIGHTS, "no safetensors file", f"{len(content)} bytes")


def with_header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "text",
    [
        b"{" * 40,
        b"[]  ",
        b"\xff\xff\xff\xff",
        b'{"x": 3}',
        b'{"x": {"dtype": "BF16", "shape": [1]}}',
        b'{"x": {"dtype": "BF16", "shape": "one", "data_offsets": [0, 2]}}',
        b'{"x": {"dtype": "BF16", "shape": [1], "data_offsets": [0]}}',
        b'{"x": {"dtype": "BF16", "shape": [1], "data_offsets": "02"}}',
        b'{"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 2]}}',
        b'{"x": {"dtype": "BF16", "shape": [1], "data_offsets": [2, 0]}}',
    ],
    ids=[
        "not json",
        "list",
        "not text",
        "number",
        "no offsets",
        "shape as text",
        "one offset",
        "offsets as text",
        "too few bytes for the shape",
        "offsets swapped",
    ],
)
def test_a_header_that_makes_no_sense(folder: Path, text: bytes) -> None:
    (folder / WEIGHTS).write_bytes(with_header(text, bytes(2)))
    assert_refused(folder, WEIGHTS, "no safetensors file, or is damaged")


@pytest.mark.parametrize(
    ("offsets", "num_bytes"),
    [
        pytest.param([(0, 4), (6, 10)], 10, id="a hole"),
        pytest.param([(2, 6), (6, 10)], 10, id="a hole before the first"),
        pytest.param([(0, 4), (2, 6)], 6, id="an overlap"),
        pytest.param([(0, 4), (0, 4)], 4, id="the same place"),
        pytest.param([(0, 4), (4, 8)], 9, id="a byte after the last"),
    ],
)
def test_tensors_that_do_not_lie_end_to_end(folder: Path, offsets: list[tuple[int, int]], num_bytes: int) -> None:
    header = {f"x{n}": {"dtype": "F32", "shape": [1], "data_offsets": place} for n, place in enumerate(offsets)}
    (folder / WEIGHTS).write_bytes(with_header(json.dumps(header).encode(), bytes(num_bytes)))
    assert_refused(folder, WEIGHTS, "damaged or cut off", f"{8 + len(json.dumps(header)) + num_bytes} bytes")


@given(content=st.binary(max_size=200), honest_length=st.booleans())
def test_any_bytes_are_refused_politely(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, honest_length: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(with_header(content) if honest_length else content)
    try:
        entries = read_header(path)
    except CheckpointError:
        return
    assert entries == {}  # "{}" in some spelling: no tensors, which the inventory refuses


def test_a_flipped_bit_anywhere_in_the_header_is_seen(folder: Path) -> None:
    rewrite(folder, lambda tensors: None)
    content = (folder / WEIGHTS).read_bytes()
    stop = 8 + len(content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip())
    with (folder / WEIGHTS).open("r+b", buffering=0) as file:
        for position in range(0, stop, 61):
            file.seek(position)
            file.write(bytes([content[position] ^ 1]))
            with pytest.raises(CheckpointError):
                open_checkpoint(folder)
            file.seek(position)
            file.write(content[position : position + 1])
    open_checkpoint(folder)


# Cut off.


def test_a_file_cut_off_inside_its_header(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: 8 + int.from_bytes(content[:8], "little") // 2])
    assert_refused(folder, WEIGHTS, "cut off")


@pytest.mark.parametrize("position", [0, 1, 141, 283], ids=lambda n: f"tensor {n}")
def test_a_file_cut_off_inside_a_tensor(folder: Path, position: int) -> None:
    entry = sorted(read_header(folder / WEIGHTS).values(), key=lambda entry: entry.start)[position]
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(entry.stop - 1)
    assert_refused(folder, WEIGHTS, "cut off", f"{entry.stop - 1} bytes", "download")


def test_a_file_cut_off_between_opening_and_reading(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    with (folder / WEIGHTS).open("r+b") as file:
        file.truncate(checkpoint.tensors[WQ].stop - 1)
    with pytest.raises(CheckpointError, match=r"ended inside layers\.1\.attention\.wq\.weight"):
        TensorReader(checkpoint).read(WQ)


def test_a_file_that_vanishes_between_opening_and_reading(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        TensorReader(checkpoint).read(WQ)


# Inventory.


@pytest.mark.parametrize("name", [TEXT_EMBEDDINGS, WQ, "norm.weight", CONV, f"{CODEBOOK}.cluster_usage"])
def test_a_missing_tensor_is_named(folder: Path, name: str) -> None:
    rewrite(folder, lambda tensors: tensors.pop(name))
    assert_refused(folder, "lacks", name)


def test_many_missing_tensors_are_counted(folder: Path) -> None:
    rewrite(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("layers.1.")])
    assert_refused(folder, "lacks", "layers.1.attention.wk.weight", "and 6 more")


@pytest.mark.parametrize("name", ["output.weight", "layers.2.attention.wq.weight", "acoustic_transformer.extra"])
def test_an_extra_tensor_is_named(folder: Path, name: str) -> None:
    rewrite(folder, lambda tensors: tensors.update({name: torch.zeros(4)}))
    assert_refused(folder, "holds", name, "does not imply")


def test_a_partial_encoder_is_an_error_and_not_a_checkpoint_without_one(folder: Path) -> None:
    name = "audio_tokenizer.encoder_blocks.4.layers.1.attention.wo.weight"
    rewrite(folder, lambda tensors: tensors.pop(name))
    assert_refused(folder, "lacks", name)


def test_a_single_encoder_tensor_asks_for_the_other_113(folder: Path) -> None:
    keep = "audio_tokenizer.input_proj.conv.parametrizations.weight.original0"

    def drop_the_others(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(ENCODER) and name != keep]:
            del tensors[name]

    rewrite(folder, drop_the_others)
    assert_refused(folder, "lacks", "audio_tokenizer.encoder_blocks.0", "and 110 more")


def transposed(tensors: dict[str, Tensor]) -> None:
    tensors["layers.0.attention.wo.weight"] = tensors["layers.0.attention.wo.weight"].T.contiguous()


def test_a_tensor_of_another_shape_is_named_with_both_shapes(folder: Path) -> None:
    rewrite(folder, transposed)
    assert_refused(folder, "layers.0.attention.wo.weight", "[96, 64]", "[64, 96]")


@pytest.mark.parametrize(("dtype", "stored_as"), [(torch.int32, "I32"), (torch.float64, "F64"), (torch.int8, "I8")])
def test_a_tensor_of_another_dtype_is_named_with_it(folder: Path, dtype: torch.dtype, stored_as: str) -> None:
    rewrite(folder, lambda tensors: tensors.update({WQ: tensors[WQ].to(dtype)}))
    assert_refused(folder, WQ, f"stored as {stored_as}", "BF16, F16, F32")


def test_params_of_another_checkpoint(folder: Path) -> None:
    params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    params["n_layers"] = 3
    (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    assert_refused(folder, "lacks", "layers.2.attention.wk.weight", "params.json implies")


def test_broken_params_are_a_config_error(folder: Path) -> None:
    (folder / "params.json").write_text('{"dim": 64}', encoding="utf-8")
    with pytest.raises(ConfigError, match="multimodal"):
        open_checkpoint(folder)


# The tokenizer beside it.


@pytest.mark.parametrize(
    ("change", "said"),
    [({"audio_token_id": 23}, r"\[AUDIO\] at 24, params\.json at 23"), ({}, "has 4096 tokens, the model 4000")],
    ids=["another id", "too few rows"],
)
def test_a_tokenizer_of_another_checkpoint(change: dict[str, Any], said: str) -> None:
    checkpoint = open_checkpoint(TINY)
    config = replace(checkpoint.config, backbone=replace(checkpoint.config.backbone, vocab_size=4000), **change)
    with pytest.raises(CheckpointError, match=said):
        open_tokenizer(replace(checkpoint, config=config))


# Values.


def put(tensors: dict[str, Tensor], name: str, value: float) -> None:
    tensors[name].view(-1)[-1] = value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("name", "named"),
    [
        (WQ, WQ),
        ("norm.weight", "norm.weight"),
        ("acoustic_transformer.llm_projection.weight", "acoustic_transformer.llm_projection.weight"),
        ("audio_tokenizer.decoder_blocks.3.layers.0.ffn_scale", "decoder_blocks.3.layers.0.ffn_scale"),
        ("audio_tokenizer.encoder_blocks.6.layers.0.attention.k_norm.weight", "encoder_blocks.6.layers.0"),
        (CONV, "decoder_blocks.2.conv"),
        (f"{CODEBOOK}.embedding_sum", "semantic_codebook"),
    ],
)
def test_a_value_that_is_not_finite_is_named(folder: Path, name: str, named: str, value: float) -> None:
    rewrite(folder, lambda tensors: put(tensors, name, value))
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert named in str(caught.value)
    assert "not finite" in str(caught.value)


def test_two_infinities_that_cancel_are_seen(folder: Path) -> None:
    def damage(tensors: dict[str, Tensor]) -> None:
        tensors[WQ][0, 0], tensors[WQ][1, 1] = float("inf"), float("-inf")

    rewrite(folder, damage)
    with pytest.raises(CheckpointError, match="not finite"):
        load(folder)


def test_a_usage_that_is_not_a_number_is_seen(folder: Path) -> None:
    rewrite(folder, lambda tensors: put(tensors, f"{CODEBOOK}.cluster_usage", float("nan")))
    with pytest.raises(CheckpointError, match="semantic_codebook"):
        load(folder)


def test_a_convolution_without_direction_is_seen(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors[CONV][5].zero_())
    with pytest.raises(CheckpointError, match=r"decoder_blocks\.2\.conv"):
        load(folder)


def test_a_value_too_large_for_float16_is_named_with_the_dtype(folder: Path) -> None:
    rewrite(folder, lambda tensors: put(tensors, WQ, 70000.0))
    load(folder, torch.bfloat16)
    with pytest.raises(CheckpointError, match=r"layers\.1\.attention\.wq\.weight .* float16.* choose bfloat16"):
        load(folder, torch.float16)
