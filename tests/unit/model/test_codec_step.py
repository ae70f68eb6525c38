"""The codec in static shapes beside the reference: streams of any age side by side, and convolutions as products."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtral.config import CodebookConfig, CodecConfig, ConvBlockConfig, SourceFilterConfig, TransformerBlockConfig
from voxtral.model.codec import CodecDecoder, CodecState, ConvBlock
from voxtral.model.codec_step import CodecStep, pack_source, unpack_source
from voxtral.model.source_filter import SourceFilterProjection, SourceState

BOOKS = CodebookConfig(semantic_size=50, acoustic_size=5, num_acoustic=3)
CONFIG = CodecConfig(
    sample_rate=8000,
    patch_size=10,
    patch_kernel=4,
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
    spectral_head=False,
    decoder_blocks=(
        ConvBlockConfig(0, "conv", 7, 16, 3, 1),
        TransformerBlockConfig(1, 1, 5),
        ConvBlockConfig(2, "transposed", 16, 16, 5, 2),  # a kernel that is no multiple of the stride
        TransformerBlockConfig(3, 2, 4),
        ConvBlockConfig(4, "transposed", 16, 16, 2, 2),  # nothing overlaps
        TransformerBlockConfig(5, 1, 9),
    ),
    encoder_blocks=(),
)
VARIANTS = {
    "patches": CONFIG,
    "spectra": replace(CONFIG, spectral_head=True),
    "source": replace(CONFIG, source_filter_head=SourceFilterConfig(8, 6, pitch_frames=3, pitch_dim=12)),
    "bare": replace(CONFIG, qk_norm=False, layer_scale=False, use_biases=True, patch_kernel=1),
}


def make_codec(config: CodecConfig) -> CodecDecoder:
    torch.manual_seed(0)
    codec = CodecDecoder(config, BOOKS)
    for parameter in codec.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.nn.init.normal_(codec.quantizer.semantic_table)
    return codec.requires_grad_(False)


@pytest.fixture(scope="module", params=VARIANTS)
def codec(request: pytest.FixtureRequest) -> CodecDecoder:
    return make_codec(VARIANTS[request.param])


def draw_tokens(num_rows: int, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    semantic = torch.randint(2, 2 + BOOKS.semantic_size, (num_rows, num_frames, 1), generator=generator)
    acoustic = torch.randint(2, 2 + BOOKS.acoustic_size, (num_rows, num_frames, 3), generator=generator)
    return torch.cat((semantic, acoustic), dim=-1)


KEYS = ((5, 1), (7, 0))


def decode(
    codec: CodecDecoder, tokens: torch.Tensor, state: CodecState | None = None, *, key: tuple[int, int] = KEYS[0]
) -> torch.Tensor:
    """Decode the rest of a stream in one pass, as the reference does."""
    return codec((tokens - 2).transpose(1, 2), state or CodecState.fresh(codec, key), is_last=True)


def assert_near(made: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(made, expected, atol=2e-5 * max(1.0, float(expected.abs().max())), rtol=0)


@settings(max_examples=6)
@given(chunks=st.lists(st.integers(1, 6), min_size=2, max_size=6))
@pytest.mark.parametrize("is_fused", [False, True])
def test_streams_of_any_age_side_by_side_are_those_of_one_pass(
    codec: CodecDecoder, chunks: list[int], *, is_fused: bool
) -> None:
    used = codec
    if is_fused:
        used = copy.deepcopy(codec)
        used.fuse()
    step = CodecStep(used)
    late = chunks[0]
    tokens = draw_tokens(2, sum(chunks))
    packed, parts, start = torch.zeros(2, step.width), [], 0
    for size in chunks:
        # The second stream begins with the second chunk.
        before = torch.tensor([start, max(0, start - late)])
        if start == late:
            packed[1] = 0
        second = max(0, start - late)
        given_tokens = torch.stack((tokens[0, start : start + size], tokens[1, second : second + size]))
        noise = step.draw_noise(list(zip(KEYS, before.tolist(), strict=True)), size)
        samples, packed = step(given_tokens, packed, before, noise)
        parts.append(samples)
        start += size
    made = torch.cat(parts, dim=1)
    assert_near(made[:1], decode(codec, tokens[:1]))
    hop = codec.config.samples_per_frame
    assert_near(made[1:, late * hop :], decode(codec, tokens[1:, : start - late], key=KEYS[1]))


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("num_before", [0, 1, 2, 7])
def test_a_stream_goes_on_by_itself(codec: CodecDecoder, num_before: int, *, is_fused: bool) -> None:
    used = codec
    if is_fused:
        used = copy.deepcopy(codec)
        used.fuse()
    step, tokens = CodecStep(used), draw_tokens(1, num_before + 5)
    packed = torch.zeros(1, step.width)
    for number in range(num_before):
        noise = step.draw_noise([(KEYS[0], number)], 1)
        _, packed = step(tokens[:, number : number + 1], packed, torch.tensor([number]), noise)
    state = step.unpack(packed[0], num_before, KEYS[0])
    assert (state.num_frames, state.noise_key) == (num_before, KEYS[0])
    rest = decode(used, tokens[:, num_before:], state)
    assert_near(rest, decode(codec, tokens)[:, num_before * codec.config.samples_per_frame :])


def test_a_codec_whose_frames_wait_for_others_cannot_step() -> None:
    assert CodecStep.can_step(make_codec(CONFIG))
    # Four steps a frame, and a reflection of four, for which the fifth is needed.
    assert not CodecStep.can_step(make_codec(replace(CONFIG, patch_kernel=5)))
    assert CodecStep.can_step(make_codec(replace(VARIANTS["source"], patch_kernel=5)))


def test_a_packed_source_keeps_every_bit_in_numbers_of_any_size() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        codec = make_codec(VARIANTS["source"])
        for parameter in codec.parameters():
            parameter.data = parameter.data.to(dtype)
        step, tokens = CodecStep(codec), draw_tokens(2, 6)
        noise = step.draw_noise([(key, 0) for key in KEYS], 6)
        zeros = torch.zeros(2, step.width, dtype=dtype)
        _, packed = step(tokens, zeros, torch.zeros(2, dtype=torch.int64), noise)
        head = codec.output_proj
        assert isinstance(head, SourceFilterProjection)
        sources = [step.unpack(row, 6, key).source for row, key in zip(packed, KEYS, strict=True)]
        both = SourceState.stack([source for source in sources if source is not None])
        again = unpack_source(pack_source(both).view(dtype), head)
        for made, kept in zip(again.tensors(), both.tensors(), strict=True):
            assert torch.equal(made, kept)
        assert int(both.phase.max()) >= 2**31  # a number whose sign would be lost


@given(kernel=st.integers(1, 7), stride=st.integers(1, 4), channels=st.integers(1, 4), length=st.integers(1, 9))
@settings(max_examples=30)
def test_a_convolution_is_a_product(kernel: int, stride: int, channels: int, length: int) -> None:
    torch.manual_seed(kernel + 10 * stride)
    for transposed in (False, True):
        if transposed and stride > kernel:
            continue
        block = ConvBlock(channels, 3, kernel, stride, transposed=transposed)
        torch.nn.init.normal_(block.conv.weight)
        block.requires_grad_(False)
        fused = copy.deepcopy(block)
        fused.fuse()
        assert [name for name, _ in fused.named_parameters()] == ["matrix"]
        x = torch.randn(2, channels, length if transposed else length + kernel - 1)
        if transposed:
            tail = torch.randn(2, 3, kernel - stride)
            for made, expected in zip(fused.transpose(x, tail), block.transpose(x, tail), strict=True):
                torch.testing.assert_close(made, expected)
        else:
            torch.testing.assert_close(fused(x), block(x))
