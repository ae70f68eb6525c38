"""The codec streams exactly: any cutting of the frames gives the samples of the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtral.config import CodebookConfig, CodecConfig, ConvBlockConfig, SourceFilterConfig, TransformerBlockConfig
from voxtral.model.codec import CodecDecoder, CodecState, ConvBlock
from voxtral.model.voxtral import VoxtralModel

NUM_FRAMES = 30


def random_codes(books: CodebookConfig, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    semantic = torch.randint(books.semantic_size, (1, 1, num_frames), generator=generator)
    acoustic = torch.randint(books.acoustic_size, (1, books.num_acoustic, num_frames), generator=generator)
    return torch.cat((semantic, acoustic), dim=1)


def stream(codec: CodecDecoder, codes: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    state = CodecState.fresh(codec)
    parts = codes.split(cuts, dim=-1)
    with torch.inference_mode():
        return torch.cat([codec(part, state, is_last=n == len(parts) - 1) for n, part in enumerate(parts)], dim=-1)[0]


def draw_cuts(data: st.DataObject, total: int) -> list[int]:
    cuts: list[int] = []
    while (left := total - sum(cuts)) > 0:
        cuts.append(data.draw(st.integers(1, left)))
    return cuts


@settings(max_examples=25)
@given(data=st.data())
def test_any_cutting_gives_the_whole(tiny_model: VoxtralModel, data: st.DataObject) -> None:
    codes = random_codes(tiny_model.config.codebooks, NUM_FRAMES)
    whole = stream(tiny_model.codec, codes, [NUM_FRAMES])
    assert whole.shape == (NUM_FRAMES * tiny_model.config.samples_per_frame,)
    pieces = stream(tiny_model.codec, codes, draw_cuts(data, NUM_FRAMES))
    assert torch.allclose(whole, pieces, atol=1e-5, rtol=0)


def test_one_fixed_step_is_bit_equal_run_after_run(tiny_model: VoxtralModel) -> None:
    codes = random_codes(tiny_model.config.codebooks, NUM_FRAMES)
    first, second = (stream(tiny_model.codec, codes, [4] * 7 + [2]) for _ in range(2))
    assert torch.equal(first, second)


def test_every_call_gives_its_samples_at_once(tiny_model: VoxtralModel) -> None:
    codes = random_codes(tiny_model.config.codebooks, 3)
    state = tiny_model.init_codec_state()
    hop = tiny_model.config.samples_per_frame
    with torch.inference_mode():
        assert [tiny_model.codec(codes[..., n : n + 1], state).shape[-1] for n in range(3)] == [hop] * 3


def test_a_changed_frame_changes_no_earlier_sample(tiny_model: VoxtralModel) -> None:
    codes = random_codes(tiny_model.config.codebooks, NUM_FRAMES)
    changed = codes.clone()
    changed[0, :, 12] = (changed[0, :, 12] + 1) % 20
    before, after = (stream(tiny_model.codec, x, [NUM_FRAMES]) for x in (codes, changed))
    edge = 12 * tiny_model.config.samples_per_frame
    assert torch.equal(before[:edge], after[:edge])
    assert not torch.equal(before[edge : edge + 240], after[edge : edge + 240])


def test_state_holds_a_window_whatever_the_length(tiny_model: VoxtralModel) -> None:
    def size(num_frames: int) -> int:
        state = tiny_model.init_codec_state()
        with torch.inference_mode():
            tiny_model.codec(random_codes(tiny_model.config.codebooks, num_frames), state)
        caches = [cache for block in state.layer_caches.values() for cache in block]
        tensors = [
            *state.conv_tails.values(),
            state.output_tail,
            *(c.keys for c in caches),
            *(c.values for c in caches),
        ]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors if tensor is not None)

    assert size(20) == size(200)


@pytest.fixture(scope="module", params=["patches", "spectra", "source"])
def short_frame_codec(request: pytest.FixtureRequest) -> tuple[CodecDecoder, CodebookConfig]:
    """A codec whose frame is shorter than the reflection at the start: 2 steps, reach 6."""
    blocks = (
        ConvBlockConfig(0, "conv", 7, 16, 3, 1),
        TransformerBlockConfig(1, 1, 2),
        ConvBlockConfig(2, "transposed", 16, 16, 5, 2),
        TransformerBlockConfig(3, 1, 4),
    )
    config = CodecConfig(
        sample_rate=8000,
        patch_size=10,
        patch_kernel=7,
        semantic_dim=4,
        acoustic_dim=3,
        dim=16,
        hidden_dim=24,
        head_dim=4,
        num_heads=4,
        num_kv_heads=2,
        norm_eps=1e-2,
        qk_norm=True,
        qk_norm_eps=1e-6,
        use_biases=False,
        layer_scale=True,
        conv_weight_norm=True,
        spectral_head=request.param == "spectra",
        decoder_blocks=blocks,
        encoder_blocks=(),
        source_filter_head=SourceFilterConfig(8, 6, pitch_dim=12) if request.param == "source" else None,
    )
    books = CodebookConfig(semantic_size=50, acoustic_size=5, num_acoustic=3)
    torch.manual_seed(0)
    codec = CodecDecoder(config, books)
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.normal_(codec.quantizer.semantic_table)
    return codec.requires_grad_(False), books


@settings(max_examples=40)
@given(data=st.data(), num_frames=st.integers(1, 12))
def test_frames_shorter_than_the_reflection_wait_and_lose_nothing(
    short_frame_codec: tuple[CodecDecoder, CodebookConfig], data: st.DataObject, num_frames: int
) -> None:
    codec, books = short_frame_codec
    codes = random_codes(books, num_frames)
    whole = stream(codec, codes, [num_frames])
    assert whole.shape == (num_frames * 20,)
    # Magnitudes are exponentials: random spectra are loud, and errors as much larger.
    loudness = 1.0 if isinstance(codec.output_proj, ConvBlock) else max(1.0, float(whole.abs().max()))
    assert torch.allclose(whole, stream(codec, codes, draw_cuts(data, num_frames)), atol=1e-5 * loudness, rtol=0)
