"""Voices kept on disk: the next process skips their part of the prompt and speaks the same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from generations import collect
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.runner import Runner
from voxtral.engine.sequence import GenerationRequest
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import Prompt

VOICE_ROWS = 11


def make_request(**changes: Any) -> GenerationRequest:
    ids = (1, 25, *(24,) * VOICE_ROWS, 36, 1072, 1073, 35, 25)
    rows = torch.randn(VOICE_ROWS, 64, generator=torch.Generator().manual_seed(3))
    settings: dict[str, Any] = {"voice_key": "a voice", "is_voice_stored": True}
    return GenerationRequest(
        prompt=Prompt(token_ids=ids, voice_start=2, voice_stop=2 + VOICE_ROWS),
        voice_rows=rows,
        noise=SeededNoise(5, 0, 36),
        guidance_scale=1.2,
        noise_scale=1.0,
        num_euler_steps=3,
        max_frames=4,
        min_frames=4,
        **(settings | changes),
    )


def speak(
    model: VoxtralModel,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    fingerprint: str = "these weights",
    **changes: Any,
) -> tuple[np.ndarray, int]:
    """Speak with a new engine; also tell how many prompt positions it ran."""
    num_run = 0
    extend = type(model.backbone).extend

    def counting(self: Any, embeds: torch.Tensor, *arguments: Any) -> torch.Tensor:
        nonlocal num_run
        num_run += len(embeds)
        return extend(self, embeds, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(model.backbone), "extend", counting)
        engine = Engine(model, EngineOptions(block_size=4, prefix_folder=folder, prefix_fingerprint=fingerprint))
        try:
            samples = collect(engine.submit(make_request(**changes)))
        finally:
            engine.close()
    return samples, num_run - 4  # the frames


def test_a_stored_voice_is_not_run_again(tiny_model: VoxtralModel, tmp_path: Path, monkeypatch: Any) -> None:
    first, num_first = speak(tiny_model, tmp_path, monkeypatch)
    second, num_second = speak(tiny_model, tmp_path, monkeypatch)
    assert num_first - num_second == 2 + VOICE_ROWS
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    ("changes", "fingerprint"),
    [({"is_voice_stored": False}, "these weights"), ({"voice_key": "another"}, "these weights"), ({}, "other weights")],
)
def test_it_serves_that_voice_and_those_weights_alone(
    tiny_model: VoxtralModel, tmp_path: Path, monkeypatch: Any, changes: dict[str, Any], fingerprint: str
) -> None:
    _, num_first = speak(tiny_model, tmp_path, monkeypatch)
    _, num_other = speak(tiny_model, tmp_path, monkeypatch, fingerprint, **changes)
    assert num_other == num_first


def test_a_voice_that_was_sent_along_is_not_written(tiny_model: VoxtralModel, tmp_path: Path, monkeypatch: Any) -> None:
    speak(tiny_model, tmp_path, monkeypatch, is_voice_stored=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "text", "nan", "shape"])
def test_a_damaged_file_is_made_anew(tiny_model: VoxtralModel, tmp_path: Path, monkeypatch: Any, damage: str) -> None:
    from safetensors.torch import load, save

    first, num_first = speak(tiny_model, tmp_path, monkeypatch)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    tensors = load(whole)
    broken = {
        "cut": whole[: len(whole) // 2],
        "text": b"no tensors here",
        "nan": save(tensors | {"keys": tensors["keys"] * torch.nan}),
        "shape": save(tensors | {"keys": tensors["keys"][:, 1:].contiguous()}),
    }
    path.write_bytes(broken[damage])
    again, num_again = speak(tiny_model, tmp_path, monkeypatch)
    assert num_again == num_first
    assert np.array_equal(first, again)
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_costs_time_only(
    tiny_model: VoxtralModel, tmp_path: Path, monkeypatch: Any
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    samples, _ = speak(tiny_model, blocked / "voices", monkeypatch)
    assert len(samples) == 4 * 1920


def test_old_files_make_room(tiny_model: VoxtralModel, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("voxtral.engine.prefix_store._MAX_BYTES", 1)
    speak(tiny_model, tmp_path, monkeypatch, voice_key="first")
    (first,) = tmp_path.iterdir()
    speak(tiny_model, tmp_path, monkeypatch, voice_key="second")
    (second,) = tmp_path.iterdir()
    assert first != second


def test_the_shared_start_is_the_voice(tiny_model: VoxtralModel) -> None:
    runner = Runner(tiny_model, EngineOptions(block_size=4, max_batch=2))
    with torch.inference_mode():
        row = runner.admit(make_request(), None)
        assert row is not None
        while not row.is_prefilled:
            runner.prefill([row])
        other = runner.admit(make_request(), None)
        assert other is not None
        assert other.num_prefilled == 2 + VOICE_ROWS
        # Three full blocks are one and the same; the fourth, with one position of the voice, is a copy.
        assert other.reservation.blocks[:3] == row.reservation.blocks[:3]
        assert other.reservation.blocks[3] != row.reservation.blocks[3]
    runner.release(row)
    runner.release(other)
    assert runner.check_idle() is None
