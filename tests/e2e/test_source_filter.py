"""A checkpoint with a source-filter head and a mel input behind the public API: streams, seeds, codes, voices, bits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from checkpoints import WEIGHTS, write_source_filter
from spoken_clips import spoken
from voxtral import VoxtralTTS
from voxtral.engine.options import EngineOptions
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.convert import write_quantized
from voxtral.quantization.recipes import choose_recipe

ASKED = {"language": "en", "voice": "neutral_female", "max_frames": 9}
TEXT = "Hello there."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_source_filter(tmp_path_factory.mktemp("extended") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[VoxtralTTS]:
    options = EngineOptions(batch_invariant=True, max_batch=2)
    with VoxtralTTS.from_pretrained(folder, device="cpu", options=options) as tts:
        yield tts


def test_a_stream_is_the_whole_and_a_seed_the_same_samples(model: VoxtralTTS) -> None:
    whole = model.synthesize(TEXT, seed=3, **ASKED).numpy()
    parts = [chunk.samples for chunk in model.synthesize_stream(TEXT, seed=3, **ASKED)]
    assert len(parts) > 1
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.isfinite(whole).all()
    assert not np.array_equal(model.synthesize(TEXT, seed=4, **ASKED).numpy(), whole)


def test_a_clip_becomes_codes_a_voice_and_sound_again(model: VoxtralTTS) -> None:
    clip = spoken(3.1)
    codes = model.encode((clip, 24_000))
    assert codes.shape == (37, 39)
    heard = model.decode(codes).numpy()
    assert heard.shape == (39 * 1920,)
    assert np.array_equal(model.decode(codes).numpy(), heard)
    voice = model.create_voice((clip, 24_000), "me")
    said = model.synthesize(TEXT, seed=1, **(ASKED | {"voice": voice})).numpy()
    assert np.isfinite(said).all()


def test_few_bits_leave_the_codec_as_it_is(folder: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(folder)
    target = tmp_path / "int8"
    write_quantized(
        checkpoint,
        choose_recipe("int8", checkpoint.config),
        target,
        device=torch.device("cpu"),
        on_progress=lambda done, total: None,
    )
    before, after = load_file(folder / WEIGHTS), load_file(target / WEIGHTS)
    codec = {name for name in before if name.startswith("audio_tokenizer.")}
    assert codec == {name for name in after if name.startswith("audio_tokenizer.")}
    assert all(torch.equal(before[name], after[name]) for name in codec)
    again = open_checkpoint(target).config.codec
    assert (again.source_filter_head, again.mel_bands) == (checkpoint.config.codec.source_filter_head, 20)
