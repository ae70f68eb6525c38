"""A step of learning: what is compared with what, in any number of rows at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from checkpoints import TINY
from voxtral.cloning.distil import Distiller, Pairs, StepInput, draw_step
from voxtral.cloning.start import start_encoder
from voxtral.errors import TrainingError
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.load import load_codec
from voxtral.model.voxtral import CodecModel

FRAMES = 6


@pytest.fixture(scope="module")
def model() -> CodecModel:
    return load_codec(open_checkpoint(TINY), device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)


@pytest.fixture(scope="module")
def pairs(model: CodecModel) -> Pairs:
    books, generator = model.config.codebooks, torch.Generator().manual_seed(0)
    drawn = torch.randint(books.acoustic_size, (books.num_codebooks, 40), generator=generator)
    return Pairs([drawn[:, :15], drawn[:, 15:18], drawn[:, 18:]])


def make(model: CodecModel, *, lateness: int = 480, usage: Tensor | None = None) -> Distiller:
    usage = torch.ones(model.config.codebooks.semantic_size) if usage is None else usage
    return Distiller(model.config, model.codec, usage, lateness, is_half=False)


def step_of(distiller: Distiller, pairs: Pairs, *, sounds: bool = True, num_speech: int = 0) -> StepInput:
    drawn = draw_step(
        pairs,
        distiller.config,
        np.random.default_rng(0),
        rows=4,
        frames=FRAMES,
        extra=distiller.num_extra,
        sounds=sounds,
        num_speech=num_speech,
    )
    # Noise is drawn for rows side by side.
    return replace(drawn, disturbance=replace(drawn.disturbance, noise=torch.zeros(4, 1)))


def test_an_encoder_hears_late_sound_in_time(model: CodecModel, pairs: Pairs) -> None:
    distiller = make(model)
    codes = pairs.draw(2, FRAMES + distiller.num_extra, np.random.default_rng(0))
    heard, late = distiller.sound(codes)
    with torch.no_grad():
        whole = model.codec.decode(codes)
    assert distiller.num_extra == 1
    assert torch.equal(heard, whole[:, 480 : 480 + FRAMES * 1920])
    assert torch.equal(late, whole[:, : FRAMES * 1920])
    assert make(model, lateness=0).num_extra == 0


def test_gradients_do_not_depend_on_the_rows_at_a_time(model: CodecModel, pairs: Pairs) -> None:
    distiller = make(model)
    start_encoder(distiller.encoder, torch.randn(4, 9600) * 0.1, 24000)
    speech = torch.randn(2, FRAMES * 1920, generator=torch.Generator().manual_seed(1)) * 0.1
    step = replace(step_of(distiller, pairs, num_speech=2), speech=speech)
    found: list[list[Tensor]] = []
    results = []
    for at_once in (4, 3, 1):
        distiller.zero_grad()
        results.append(distiller.add_gradients(step, at_once))
        found.append([each.grad.clone() for each in distiller.trained if each.grad is not None])
    assert len(found[0]) == len(distiller.trained)
    assert all(each.requires_grad is False for each in model.codec.parameters())
    for other, result in zip(found[1:], results[1:], strict=True):
        scale = max(float(each.abs().max()) for each in found[0])
        assert all(torch.allclose(*each, atol=2e-4 * scale) for each in zip(other, found[0], strict=True))
        assert vars(result) == pytest.approx(vars(results[0]), rel=1e-3)
    assert results[0].sound > 0


def test_a_source_filter_head_is_learned_from_at_the_pitch_of_the_codes(
    source_filter_checkpoint: Checkpoint, pairs: Pairs
) -> None:
    dtype = torch.float32
    model = load_codec(source_filter_checkpoint, device=torch.device("cpu"), dtype=dtype, codec_dtype=dtype)
    distiller = make(model)
    codes = pairs.draw(2, FRAMES, np.random.default_rng(0))
    pitch = distiller.pitch_of_codes(codes, FRAMES - 2)
    assert pitch is not None
    said = model.codec.predict_pitch(model.codec.quantizer.codes_to_latent(codes, torch.float32))
    assert said is not None
    assert torch.equal(pitch.f0, said.resolve().f0[:, : 8 * (FRAMES - 2)])
    # True codes sound as they should, and say the pitch that they have.
    late = distiller.decode(model.codec.quantizer.codes_to_latent(codes, torch.float32))
    measured = distiller.pitch_of_sound(late)
    assert measured is not None
    assert measured.f0.shape == (2, 8 * FRAMES)
    torch.manual_seed(0)
    start_encoder(distiller.encoder, 0.1 * torch.randn(4, 24000), 24000)
    step = step_of(distiller, pairs, num_speech=1)
    step = replace(step, speech=late[:1, : FRAMES * 1920])
    result = distiller.add_gradients(step, rows_at_once=2)
    assert np.isfinite(result.loss)
    assert result.sound > 0
    gradients = [parameter.grad for parameter in distiller.encoder.parameters()]
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients)


def test_sound_is_compared_only_where_it_is_wanted(model: CodecModel, pairs: Pairs) -> None:
    distiller = make(model)
    assert step_of(distiller, pairs, sounds=False).num_sounding == 0
    assert distiller.add_gradients(step_of(distiller, pairs, sounds=False), 4).sound == 0


def test_entries_that_the_codec_never_used_are_not_learned(model: CodecModel, pairs: Pairs) -> None:
    usage = torch.ones(model.config.codebooks.semantic_size)
    usage[:21] = 0  # all that the pairs have
    distiller = make(model, usage=usage)
    result = distiller.add_gradients(step_of(distiller, pairs, sounds=False), 4)
    assert np.isfinite(result.loss)
    assert result.entropy == 0
    assert result.semantic == 0


def test_crops_begin_where_items_do_half_of_the_time(pairs: Pairs) -> None:
    draw = np.random.default_rng(0)
    first = pairs.draw(1, pairs.num_frames, np.random.default_rng(1))
    assert first.shape == (1, 37, 40)
    drawn = pairs.draw(400, 5, draw)
    starts = torch.stack([pairs._codes[:, at : at + 5] for at in (0, 15, 18)])
    share = float((drawn[:, None] == starts).all(3).all(2).any(1).float().mean())
    assert 0.45 < share < 0.62


def test_no_pairs_are_refused() -> None:
    with pytest.raises(TrainingError, match="--phase generate"):
        Pairs([])
