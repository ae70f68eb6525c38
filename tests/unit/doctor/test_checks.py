"""What the doctor finds in a checkpoint: its inventory, the codes of its voices, its codec, its speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.config import CodebookConfig
from voxtral.doctor.checks import (
    Check,
    RowDecomposer,
    check_codec,
    check_model,
    check_speech,
    check_tensors,
    check_voices,
    end_row,
)
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.load import load_model
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.tokenizer import load_tokenizer

BOOKS = CodebookConfig(semantic_size=50, acoustic_size=5, num_acoustic=6)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(TINY)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> VoxtralModel:
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)


def with_voices(checkpoint: Checkpoint, folder: Path, voices: dict[str, torch.Tensor | bytes]) -> Checkpoint:
    (folder / "voice_embedding").mkdir()
    for name, content in voices.items():
        path = folder / "voice_embedding" / f"{name}.pt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
    return replace(checkpoint, folder=folder)


# Codes of voices.


def make_table(books: CodebookConfig, dim: int, num_rows: int | None = None) -> torch.Tensor:
    return torch.randn(num_rows or books.embedding_rows, dim, generator=torch.Generator().manual_seed(0))


def sums(table: torch.Tensor, tokens: torch.Tensor, books: CodebookConfig) -> torch.Tensor:
    return table[tokens + torch.tensor(books.offsets)].sum(dim=1)


TOKENS = st.tuples(st.integers(0, 51), st.lists(st.integers(0, 6), min_size=6, max_size=6))


@given(st.lists(TOKENS, min_size=1, max_size=8))
def test_any_sum_of_rows_is_taken_apart(frames: list[tuple[int, list[int]]]) -> None:
    table = make_table(BOOKS, dim=48)
    tokens = torch.tensor([[semantic, *acoustic] for semantic, acoustic in frames])
    found, residual = RowDecomposer(table, BOOKS).solve(sums(table, tokens, BOOKS))
    assert torch.equal(found, tokens)
    assert residual.max() < 1e-4


def test_voices_of_the_published_alphabet_are_taken_apart_and_a_foreign_row_stands_out() -> None:
    books = CodebookConfig(semantic_size=8192, acoustic_size=21, num_acoustic=36)
    table = make_table(books, dim=900)  # more than 23 * 36 acoustic rows
    generator = torch.Generator().manual_seed(1)
    acoustic = torch.randint(2, 23, (9, 36), generator=generator)
    tokens = torch.cat((torch.randint(2, 8194, (9, 1), generator=generator), acoustic), dim=1)
    rows = sums(table, tokens, books).bfloat16().float()  # as a preset stores them
    rows[4] += 0.1 * rows[4].norm() / 30 * torch.randn(900, generator=generator)
    found, residual = RowDecomposer(table, books).solve(rows)
    assert torch.equal(found, tokens)
    assert residual[4] > 0.05
    assert residual[torch.arange(9) != 4].max() < 0.005


def test_the_end_row_is_end_audio_and_then_empty_audio() -> None:
    table = make_table(BOOKS, dim=4)
    expected = table[1] + sum(table[52 + 7 * k] for k in range(6))
    torch.testing.assert_close(end_row(table, BOOKS), expected)


# Checks of a checkpoint.


def test_a_sound_checkpoint_passes_every_check(checkpoint: Checkpoint, model: VoxtralModel) -> None:
    with torch.inference_mode():
        checks = {check.name: check for check in check_model(checkpoint, model)}
    assert set(checks) == {"tensors", "tokenizer", "voice casual_male", "voice neutral_female", "codec", "speech"}
    # Random weights neither end nor pace their speech like a trained model; that is a warning.
    assert checks.pop("speech").status in ("ok", "warning")
    assert {check.status for check in checks.values()} == {"ok"}
    assert "closes with END_AUDIO" in checks["voice casual_male"].detail


def test_a_checkpoint_with_the_extensions_passes_and_says_so(
    source_filter_checkpoint: Checkpoint, source_filter_model: VoxtralModel
) -> None:
    with torch.inference_mode():
        assert check_tensors(source_filter_checkpoint).status == "ok"
        found = check_codec(source_filter_model)
    assert found.status == "ok"
    assert "source-filter head" in found.detail


def test_the_inventory_is_stated(checkpoint: Checkpoint) -> None:
    assert "284 as params.json implies" in check_tensors(checkpoint).detail
    assert "not the sizes of the published 4B, with codec encoder" in check_tensors(checkpoint).detail
    assert "presets only" in check_tensors(replace(checkpoint, has_encoder=False)).detail


def voices_of(checkpoint: Checkpoint, model: VoxtralModel) -> dict[str, Check]:
    tokenizer = load_tokenizer(TINY / "tekken.json")
    return {check.name: check for check in check_voices(checkpoint, model, tokenizer)}


def test_voices_that_are_listed_and_not_there_are_named(
    checkpoint: Checkpoint, model: VoxtralModel, tmp_path: Path
) -> None:
    checks = list(check_voices(replace(checkpoint, folder=tmp_path), model, None))
    assert [check.status for check in checks] == ["warning", "warning"]
    assert "casual_male, neutral_female" in checks[0].detail


def test_a_damaged_voice_fails_and_an_odd_one_is_noted(
    checkpoint: Checkpoint, model: VoxtralModel, tmp_path: Path
) -> None:
    good = torch.load(TINY / "voice_embedding" / "casual_male.pt", weights_only=True)
    voices: dict[str, torch.Tensor | bytes] = {
        "casual_male": good[1:],
        "neutral_female": b"no voice",
        "other": torch.cat((good[:-1], good[:1])),
    }
    checks = voices_of(with_voices(checkpoint, tmp_path, voices), model)
    assert checks["voice casual_male"].status == "warning"
    assert "6 rows, the tokenizer states 7" in checks["voice casual_male"].detail
    assert checks["voice neutral_female"].status == "failed"
    assert checks["voice other"].status == "warning"
    assert "the last row is not END_AUDIO" in checks["voice other"].detail


def test_a_codec_that_overflows_fails(checkpoint: Checkpoint) -> None:
    broken = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)
    assert check_codec(broken).status == "ok"
    broken.codec.output_proj.conv.weight[0, 0, 0] = float("inf")
    assert check_codec(broken).status == "failed"


def test_speech_without_voices_is_skipped_with_the_reason(
    checkpoint: Checkpoint, model: VoxtralModel, tmp_path: Path
) -> None:
    check = check_speech(replace(checkpoint, folder=tmp_path), model, load_tokenizer(TINY / "tekken.json"))
    assert (check.status, check.name) == ("skipped", "speech")
    assert "no preset voices" in check.detail
