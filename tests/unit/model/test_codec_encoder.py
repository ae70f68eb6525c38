"""Facts of the codec encoder: how many frames, what completes a clip, and that passes do not show."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.cloning.start import start_encoder
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model
from voxtral.model import codec_encoder
from voxtral.model.codec_encoder import CodecEncoder, MelProjection
from voxtral.model.voxtral import VoxtralModel


@pytest.fixture(scope="module")
def model() -> VoxtralModel:
    checkpoint = open_checkpoint(TINY)
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)


def clip(num_samples: int) -> torch.Tensor:
    return 0.3 * torch.randn(num_samples, generator=torch.Generator().manual_seed(0))


def latent(model: VoxtralModel, samples: torch.Tensor) -> torch.Tensor:
    assert model.codec_encoder is not None
    with torch.inference_mode():
        return model.codec_encoder(samples[None])[0]


@settings(max_examples=20)
@given(num_samples=st.integers(1, 12000))
def test_frames_are_those_that_the_config_counts(model: VoxtralModel, num_samples: int) -> None:
    with torch.inference_mode():
        codes = model.encode_audio(clip(num_samples))
    assert codes.shape == (37, model.config.codec.num_frames(num_samples))
    assert codes.dtype is torch.int64
    assert codes.min() >= 0
    assert codes[0].max() < 8192
    assert codes[1:].max() <= 20


def test_zeros_complete_the_last_patch(model: VoxtralModel) -> None:
    samples = clip(1920 * 2 - 100)
    assert torch.equal(latent(model, samples), latent(model, torch.cat((samples, torch.zeros(100)))))


def test_whole_frames_do_not_depend_on_what_follows(model: VoxtralModel) -> None:
    long = clip(1920 * 6)
    torch.testing.assert_close(latent(model, long[: 1920 * 4]), latent(model, long)[:, :4], atol=1e-5, rtol=0)


def test_a_patch_is_a_row_of_neighbouring_samples(model: VoxtralModel) -> None:
    encoder = model.codec_encoder
    assert encoder is not None
    silence = torch.zeros(240 * 20)
    spike = silence.clone()
    spike[240 * 10 + 3] = 1.0
    with torch.inference_mode():
        quiet, heard = (next(encoder.block_outputs(samples[None]))[0] for samples in (silence, spike))
    # Channel 3 of step 10, which a kernel of 7 carries into the 6 steps that follow.
    weight = encoder.input_proj.conv.weight
    assert (quiet != heard).any(dim=0).nonzero()[:, 0].tolist() == list(range(10, 17))
    torch.testing.assert_close((heard - quiet)[:, 10], weight[:, 3, -1], atol=1e-6, rtol=0)


def test_passes_do_not_show(model: VoxtralModel, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = clip(1920 * 8)
    whole = latent(model, samples)
    monkeypatch.setattr(codec_encoder, "_STEPS_PER_PASS", 5)
    torch.testing.assert_close(latent(model, samples), whole, atol=1e-5, rtol=0)


# A mel input, the extension for nano.


def entry_of(model: VoxtralModel) -> MelProjection:
    assert model.codec_encoder is not None
    assert isinstance(model.codec_encoder.input_proj, MelProjection)
    return model.codec_encoder.input_proj


def patches_of(samples: torch.Tensor) -> torch.Tensor:
    return samples[None].unflatten(1, (-1, 240)).transpose(1, 2)


@settings(max_examples=12)
@given(num_samples=st.integers(1, 9000))
def test_a_mel_input_makes_the_same_frames(source_filter_model: VoxtralModel, num_samples: int) -> None:
    with torch.inference_mode():
        codes = source_filter_model.encode_audio(clip(num_samples))
    assert codes.shape == (37, source_filter_model.config.codec.num_frames(num_samples))


def test_a_mel_input_hears_the_past_alone_and_silence_before_the_first_sample(
    source_filter_model: VoxtralModel,
) -> None:
    samples = clip(240 * 20)
    entry = entry_of(source_filter_model)
    with torch.inference_mode():
        bands = entry.bands(patches_of(samples))
        changed = samples.clone()
        changed[240 * 12 :] = 0
        # Seven patches are heard at a time.
        assert torch.equal(entry.bands(patches_of(changed))[:, :12], bands[:, :12])
        assert not torch.equal(entry.bands(patches_of(changed))[:, 12], bands[:, 12])
        after_silence = entry.bands(patches_of(torch.cat((torch.zeros(240 * 6), samples))))
    torch.testing.assert_close(after_silence[:, 6:], bands, atol=1e-5, rtol=0)


def test_bands_are_log_energies_of_their_frequencies(source_filter_model: VoxtralModel) -> None:
    entry = entry_of(source_filter_model)
    time = torch.arange(240 * 30) / 24000
    quiet = entry.bands(patches_of(torch.zeros(240 * 10)))
    assert torch.allclose(quiet, torch.tensor(math.log(1e-3) + 2))
    tone = entry.bands(patches_of(0.1 * torch.sin(2 * math.pi * 1000 * time)))[0, 15:]
    loud = entry.bands(patches_of(0.2 * torch.sin(2 * math.pi * 1000 * time)))[0, 15:]
    strongest = tone.mean(0).argmax()
    centre = entry.filters[:, strongest].argmax() * 12000 / (len(entry.filters) - 1)
    assert float(centre) == pytest.approx(1000, abs=100)
    assert float((loud - tone)[:, strongest].mean()) == pytest.approx(math.log(2), abs=1e-3)


def test_a_mel_input_is_trained_from_bands_of_mean_0_and_variance_1(source_filter_model: VoxtralModel) -> None:
    encoder = CodecEncoder(source_filter_model.config.codec)
    torch.manual_seed(0)
    heard = clip(24000).expand(2, -1) * torch.linspace(0.01, 1, 24000)
    start_encoder(encoder, heard, 24000)
    with torch.no_grad():
        first = next(encoder.block_outputs(heard))
    assert first.abs().mean() < 2
    assert first.std() == pytest.approx(1, abs=0.5)
