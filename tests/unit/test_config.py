"""The values of a model: what follows from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.config import CodebookConfig, CodecConfig, GenerationDefaults
from voxtral.loading.params import load_config, parse_config


def codec_config() -> CodecConfig:
    return load_config(TINY / "params.json").codec


# What follows from the published file.


def test_published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks.random_checkpoint import published_params

    config = parse_config(published_params())
    assert (config.sample_rate, config.samples_per_frame, config.frame_rate) == (24000, 1920, 12.5)
    assert config.codec.latent_dim == 292
    assert config.codebooks.num_codebooks == 37
    assert config.codebooks.semantic_head_rows == 8320
    assert config.codebooks.embedding_rows == 9088
    assert (config.bos_token_id, config.audio_token_id, config.begin_audio_token_id) == (1, 24, 25)
    assert len(config.voices) == 20
    assert config.languages == ("en", "fr", "es", "de", "it", "pt", "nl", "ar", "hi")


def test_published_offsets_are_unpadded_and_fit_the_table() -> None:
    books = CodebookConfig(semantic_size=8192, acoustic_size=21, num_acoustic=36)
    assert books.offsets == (0, *range(8194, 9000, 23))
    assert books.offsets[-1] == 8999
    assert books.offsets[-1] + books.acoustic_vocab == 9022 <= books.embedding_rows


@given(st.integers(1, 20000), st.integers(2, 64), st.integers(1, 64))
def test_codebooks_lie_side_by_side_in_the_table(semantic: int, acoustic: int, count: int) -> None:
    books = CodebookConfig(semantic_size=semantic, acoustic_size=acoustic, num_acoustic=count)
    sizes = [books.semantic_vocab, *[books.acoustic_vocab] * count]
    assert books.offsets == tuple(sum(sizes[:k]) for k in range(count + 1))
    assert books.embedding_rows % 128 == books.semantic_head_rows % 128 == 0
    assert sum(sizes) <= books.embedding_rows < sum(sizes) + 128
    assert semantic + 2 <= books.semantic_head_rows < semantic + 2 + 128


def test_alibi_slopes_start_at_one() -> None:
    assert codec_config().alibi_slopes == tuple(2.0**-head for head in range(8))


def test_alibi_slopes_of_a_head_count_between_powers_of_two() -> None:
    codec = codec_config()
    # Eight heads as ever, then every other slope of sixteen heads.
    expected = (*codec.alibi_slopes, *(2.0 ** (-0.5 * head) for head in (0, 2, 4, 6)))
    assert replace(codec, num_heads=12).alibi_slopes == pytest.approx(expected)


def test_generation_defaults_are_the_official_ones() -> None:
    defaults = GenerationDefaults()
    assert (defaults.guidance_scale, defaults.noise_scale, defaults.num_euler_steps) == (1.2, 1.0, 7)


# Frames of a clip.


def test_exact_multiples_of_a_frame_have_no_frame_more() -> None:
    codec = codec_config()
    assert all(codec.num_frames(1920 * frames) == frames for frames in range(1, 400))


@given(st.integers(1, 10**12))
def test_partial_frames_count_as_whole(num_samples: int) -> None:
    codec = codec_config()
    frames = codec.num_frames(num_samples)
    assert (frames - 1) * codec.samples_per_frame < num_samples <= frames * codec.samples_per_frame
