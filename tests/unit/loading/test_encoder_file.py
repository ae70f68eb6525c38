"""An encoder in a file of its own: the same codes, found where it should be, refused where it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import TINY, WEIGHTS, strip_encoder
from voxtral.errors import EncoderFileError, EncoderMismatchError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.convert import write_quantized
from voxtral.loading.encoder_file import (
    EncoderFacts,
    check_decoder,
    decoder_digest,
    find_encoder,
    name_tensors,
    own_encoder,
    read_encoder,
    stored_encoder,
    write_encoder,
)
from voxtral.loading.files import ENCODER_FILE
from voxtral.loading.load import load_codec, load_encoder, load_model
from voxtral.quantization.recipes import choose_recipe

CPU = torch.device("cpu")
FACTS = EncoderFacts(origin="distilled", steps=12, hours=0.5, licence="Apache-2.0")


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Tiny without its encoder."""
    return open_checkpoint(strip_encoder(TINY, tmp_path_factory.mktemp("stripped") / "tiny"))


@pytest.fixture(scope="module")
def encoder(stripped: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The encoder of tiny as a file."""
    path = tmp_path_factory.mktemp("encoder") / "any.safetensors"
    write_encoder(path, own_encoder(open_checkpoint(TINY)), stripped, FACTS)
    return path


@pytest.fixture(autouse=True)
def own_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No encoder of the person who runs the tests is found."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_codes_are_those_of_the_whole_checkpoint(stripped: Checkpoint, encoder: Path) -> None:
    whole = load_model(open_checkpoint(TINY), device=CPU, dtype=torch.float32, codec_dtype=torch.float32)
    parts = load_codec(stripped, device=CPU, dtype=torch.float32, codec_dtype=torch.float32)
    assert parts.codec_encoder is None
    file = find_encoder(stripped, encoder)
    assert file is not None
    assert replace(file.facts, version="") == replace(FACTS, version="")
    parts.codec_encoder = load_encoder(file, stripped, device=CPU, dtype=torch.float32)
    clip = 0.1 * torch.randn(30_000, generator=torch.Generator().manual_seed(0))
    codes = whole.encode_audio(clip)
    assert torch.equal(codes, parts.encode_audio(clip))
    assert torch.equal(whole.embed_codes(codes), parts.embed_codes(codes))
    assert torch.equal(whole.decode_codes(codes), parts.decode_codes(codes))


def test_an_encoder_in_memory_becomes_the_same_file(stripped: Checkpoint, encoder: Path, tmp_path: Path) -> None:
    file = find_encoder(stripped, encoder)
    assert file is not None
    network = load_encoder(file, stripped, device=CPU, dtype=torch.float32)
    write_encoder(tmp_path / "again.safetensors", name_tensors(network, torch.float32), stripped, FACTS)
    again = find_encoder(stripped, tmp_path / "again.safetensors")
    assert again is not None
    other = load_encoder(again, stripped, device=CPU, dtype=torch.float32)
    for mine, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


def test_the_digest_is_of_values(stripped: Checkpoint, tmp_path: Path) -> None:
    digest = decoder_digest(stripped)
    assert digest == decoder_digest(open_checkpoint(TINY))
    wide = strip_encoder(TINY, tmp_path / "wide")
    tensors = load_file(wide / WEIGHTS)
    save_file({name: value.float() for name, value in tensors.items()}, wide / WEIGHTS)
    assert digest == decoder_digest(open_checkpoint(wide))
    write_quantized(
        stripped,
        choose_recipe("int8", stripped.config),
        tmp_path / "small",
        device=CPU,
        on_progress=lambda done, total: None,
    )
    assert digest == decoder_digest(open_checkpoint(tmp_path / "small"))
    name = "audio_tokenizer.quantizer.semantic_codebook.embedding_sum"
    tensors[name] = tensors[name] + 1
    save_file(tensors, wide / WEIGHTS)
    assert digest != decoder_digest(open_checkpoint(wide))


def test_it_is_found_in_this_order(
    stripped: Checkpoint, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = strip_encoder(TINY, tmp_path / "model")
    mine = open_checkpoint(folder)
    assert find_encoder(mine) is None

    def found() -> Path:
        file = find_encoder(mine)
        assert file is not None
        return file.path

    stored = stored_encoder(mine)
    stored.parent.mkdir(parents=True)
    (stored.parent / "other.safetensors").write_bytes(b"")  # of another decoder, and not looked at
    assert find_encoder(mine) is None
    stored.write_bytes(encoder.read_bytes())
    assert found() == stored
    (folder / ENCODER_FILE).write_bytes(encoder.read_bytes())
    assert found() == folder / ENCODER_FILE
    named = tmp_path / "named.safetensors"
    named.write_bytes(encoder.read_bytes())
    monkeypatch.setenv("VOXTRAL_ENCODER", str(named))
    assert found() == named
    asked = find_encoder(mine, encoder)
    assert asked is not None
    assert asked.path == encoder
    # A checkpoint that holds one itself needs none beside it, and takes one that is named.
    assert find_encoder(open_checkpoint(TINY), encoder) is not None
    monkeypatch.delenv("VOXTRAL_ENCODER")
    assert find_encoder(open_checkpoint(TINY)) is None


def _edit(change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            header = file.metadata()
        tensors = load_file(path)
        change(tensors, header)
        save_file(tensors, path, header)

    return spoil


def _put(name: str, value: object) -> Callable[[dict[str, torch.Tensor], dict[str, str]], None]:
    return lambda tensors, header: (
        tensors.update({name: value}) if name in tensors else header.update({name: str(value)})
    )


_FIRST = "audio_tokenizer.encoder_blocks.0.layers.0.attention.wq.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged or cut off"),
        (lambda path: path.write_bytes(b"RIFF" * 100), "no safetensors file"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path: path.write_bytes((TINY / WEIGHTS).read_bytes()), "no encoder file"),
        (_edit(_put("format", "voxtral-encoder-9")), "its format is 'voxtral-encoder-9'"),
        (_edit(lambda tensors, header: tensors.pop(_FIRST)), f"lacks {_FIRST} of"),
        (_edit(lambda tensors, header: tensors.update(extra=torch.zeros(1))), "holds extra"),
        (_edit(_put(_FIRST, torch.zeros(3))), r"of shape \[3\]"),
        (_edit(_put(_FIRST, torch.zeros(1, dtype=torch.int8))), "as I8"),
        (_edit(_put("steps", "many")), "damaged header"),
        (_edit(_put("origin", "heaven")), "damaged header"),
        (_edit(lambda tensors, header: header.pop("decoder")), "damaged header"),
    ],
    ids=[
        "absent", "cut", "other", "folder", "weights", "format", "lacks", "extra", "shape", "dtype", "steps", "origin",
        "no digest",
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    stripped: Checkpoint, encoder: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(encoder.read_bytes())
    spoil(path)
    with pytest.raises(EncoderFileError, match=message) as caught:
        find_encoder(stripped, path)
    assert "\n" not in str(caught.value)
    assert "download" not in str(caught.value)


def test_another_decoders_is_refused(stripped: Checkpoint, encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(encoder.read_bytes())
    _edit(_put("decoder", "0" * 64))(path)
    with pytest.raises(EncoderMismatchError, match="made for the decoder 000000000000"):
        find_encoder(stripped, path)
    # What lies beside is compared when it is first used.
    folder = strip_encoder(TINY, tmp_path / "model")
    (folder / ENCODER_FILE).write_bytes(path.read_bytes())
    file = find_encoder(open_checkpoint(folder))
    assert file is not None
    with pytest.raises(EncoderMismatchError):
        check_decoder(file, stripped)


def test_values_that_are_no_numbers_are_refused(stripped: Checkpoint, encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "nan.safetensors"
    path.write_bytes(encoder.read_bytes())

    def spoil(tensors: dict[str, torch.Tensor], header: dict[str, str]) -> None:
        tensors[_FIRST].view(-1)[3] = torch.nan

    _edit(spoil)(path)
    file = find_encoder(stripped, path)
    assert file is not None
    with pytest.raises(EncoderFileError, match=_FIRST):
        read_encoder(file, stripped)
    tensors = own_encoder(open_checkpoint(TINY))
    spoil(tensors, {})
    with pytest.raises(EncoderFileError, match="nothing was written"):
        write_encoder(tmp_path / "new.safetensors", tensors, stripped, FACTS)
    assert not (tmp_path / "new.safetensors").exists()


def test_only_an_encoder_of_this_checkpoint_is_written(stripped: Checkpoint, tmp_path: Path) -> None:
    tensors = own_encoder(open_checkpoint(TINY))
    with pytest.raises(EncoderFileError, match=r"must end in \.safetensors"):
        write_encoder(tmp_path / "encoder.bin", tensors, stripped, FACTS)
    del tensors[_FIRST]
    with pytest.raises(EncoderFileError, match=_FIRST):
        write_encoder(tmp_path / "a.safetensors", tensors, stripped, FACTS)
    with pytest.raises(EncoderFileError, match="holds no encoder"):
        own_encoder(stripped)
    with pytest.raises(EncoderFileError, match="cannot be written"):
        write_encoder(tmp_path / "no" / "a.safetensors", own_encoder(open_checkpoint(TINY)), stripped, FACTS)
    assert json.loads((stripped.folder / "params.json").read_text())
