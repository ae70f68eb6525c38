"""Opening checkpoints that are as they should be, reading them, and telling them apart."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from checkpoints import TINY, tiny_params, tiny_tensors, write_checkpoint
from voxtral.loading.checkpoint import TensorReader, fingerprint, open_checkpoint
from voxtral.loading.header import read_header


def test_tiny_opens_with_its_encoder() -> None:
    checkpoint = open_checkpoint(TINY)
    assert (len(checkpoint.tensors), checkpoint.has_encoder) == (284, True)
    assert checkpoint.data_bytes == 2 * checkpoint.num_parameters
    assert checkpoint.num_parameters == sum(tensor.numel() for tensor in tiny_tensors().values())


def test_metadata_of_the_header_is_no_tensor(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert set(read_header(tmp_path / "x.safetensors")) == {"x"}


def test_the_reader_returns_what_was_stored() -> None:
    reader, stored = TensorReader(open_checkpoint(TINY)), tiny_tensors()
    assert all(torch.equal(reader.read(name), tensor) for name, tensor in stored.items())


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "a", tiny_tensors())
    first, again = (fingerprint(open_checkpoint(folder)) for _ in range(2))
    tensors = tiny_tensors()
    tensors["norm.weight"] = tensors["norm.weight"] + 1
    other = fingerprint(open_checkpoint(write_checkpoint(folder, tensors)))
    params = fingerprint(open_checkpoint(write_checkpoint(folder, tensors, tiny_params() | {"x": 1})))
    assert first == again
    assert len({first, other, params}) == 3


def test_the_fingerprint_without_its_time_names_folders_of_users_and_stays() -> None:
    digest = "ff0a567c8fbb2c7e629d399c78dafde3a1a5ea2f186b389ba792f49cf4263d3a"
    assert fingerprint(open_checkpoint(TINY), with_time=False) == digest
