"""Facts that lie between the networks: embeddings, positions of frames, epsilons, and moving it all."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from checkpoints import TINY
from golden.judge import PagedSequence
from voxtral.engine.engine import Engine
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.errors import CodeRangeError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model
from voxtral.loading.params import parse_config
from voxtral.model.layers import RMSNorm
from voxtral.model.voxtral import VoxtralModel, move_model
from voxtral.text.prompt import prompt_from_ids

PROMPT = [1, 25, 24, 24, 24, 36, 1072, 1101, 35, 25]


def tiny_model() -> VoxtralModel:
    return load_model(open_checkpoint(TINY), device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)


@pytest.fixture(scope="module")
def model() -> VoxtralModel:
    return tiny_model()


def voice_rows() -> torch.Tensor:
    return torch.randn(3, 64, generator=torch.Generator().manual_seed(0))


def generate(
    model: VoxtralModel, max_frames: int, min_frames: int = 0
) -> tuple[GenerationHandle, GenerationTrace, int]:
    trace = GenerationTrace()
    request = GenerationRequest(
        prompt=prompt_from_ids(PROMPT, 24),
        voice_rows=voice_rows(),
        noise=lambda frame: np.full(36, 0.1 * frame, dtype=np.float32),
        guidance_scale=1.2,
        noise_scale=1.0,
        num_euler_steps=7,
        max_frames=max_frames,
        min_frames=min_frames,
    )
    engine = Engine(model)
    try:
        handle = engine.submit(request, trace=trace)
        num_samples = sum(len(chunk) for chunk in handle.chunks())
    finally:
        engine.close()
    return handle, trace, num_samples


def model_that_ends_at_once() -> VoxtralModel:
    model = tiny_model()
    with torch.inference_mode():
        hidden = PagedSequence(model, len(PROMPT)).extend(model.embed_prompt(torch.tensor(PROMPT), voice_rows()))
    model.acoustic_transformer.semantic_codebook_output.weight[1] = 10 * hidden[-1].clone()
    return model


def test_each_norm_has_the_epsilon_of_its_network() -> None:
    config = parse_config(json.loads((TINY / "params.json").read_text(encoding="utf-8")))
    with torch.device("meta"):
        model = VoxtralModel(config, has_encoder=True)
    found: dict[str, set[float]] = {}
    for name, module in model.named_modules():
        if isinstance(module, RMSNorm):
            kind = "codec.qk" if name.endswith(("q_norm", "k_norm")) else name.split(".")[0]
            found.setdefault(kind, set()).add(module.eps)
    assert found == {
        "backbone": {1e-5},
        "acoustic_transformer": {1e-5},
        "codec": {1e-2},
        "codec_encoder": {1e-2},
        "codec.qk": {1e-6},
    }


def test_end_audio_may_be_the_very_first_frame() -> None:
    handle, trace, num_samples = generate(model_that_ends_at_once(), max_frames=4)
    assert handle.stop == "end"
    assert [frame.tolist() for frame in trace.audio_tokens] == [[1, *[2] * 36]]
    assert (handle.stats.num_frames, num_samples) == (0, 0)


def test_end_audio_can_be_held_back_for_some_frames() -> None:
    handle, trace, num_samples = generate(model_that_ends_at_once(), max_frames=4, min_frames=1)
    assert trace.audio_tokens[0][0] >= 2
    assert num_samples == 1920 * handle.stats.num_frames >= 1920


def test_the_first_frame_is_made_of_the_last_prompt_position(model: VoxtralModel) -> None:
    _, trace, _ = generate(model, max_frames=2)
    embeds = model.embed_prompt(torch.tensor(PROMPT), voice_rows())
    with torch.inference_mode():
        sequence = PagedSequence(model, len(PROMPT) + 1)
        hidden = sequence.extend(embeds)
        assert torch.allclose(trace.hidden[0], hidden[-1], atol=1e-5)
        # Frame 0 is fed back at the position after the prompt.
        following = sequence.extend(model.embed_frames(trace.audio_tokens[0][None]))
    assert torch.allclose(trace.hidden[1], following[0], atol=1e-5)


# Embeddings.


def test_a_frame_is_the_sum_of_37_rows(model: VoxtralModel) -> None:
    frame = torch.arange(37) % 23
    frame[0] = 8193
    table = model.audio_embeddings.weight
    expected = table[8193].double() + sum(table[8194 + 23 * k + int(frame[1 + k])].double() for k in range(36))
    torch.testing.assert_close(model.embed_frames(frame[None])[0].double(), expected, atol=1e-5, rtol=0)


def test_a_reference_closes_with_end_audio_and_empty_audio(model: VoxtralModel) -> None:
    codes = torch.zeros(37, 2, dtype=torch.int64)
    rows = model.embed_codes(codes)
    assert torch.equal(rows[:2], model.embed_frames(torch.full((2, 37), 2)))
    assert torch.equal(rows[2], model.embed_frames(torch.tensor([[1, *[0] * 36]]))[0])


def test_voice_rows_take_the_place_of_the_placeholders(model: VoxtralModel) -> None:
    ids = torch.tensor(PROMPT)
    embeds = model.embed_prompt(ids, voice_rows())
    assert torch.equal(embeds[2:5], voice_rows())
    assert torch.equal(embeds[[0, 1, 5, 6, 7, 8, 9]], model.embed_text(ids[[0, 1, 5, 6, 7, 8, 9]]))


@pytest.mark.parametrize("num_rows", [2, 4])
def test_rows_and_placeholders_must_be_as_many(model: VoxtralModel, num_rows: int) -> None:
    with pytest.raises(AssertionError, match=f"3 placeholders, {num_rows} rows"):
        model.embed_prompt(torch.tensor(PROMPT), torch.zeros(num_rows, 64))


# Audio.


def test_audio_tokens_are_codes_shifted_by_two(model: VoxtralModel) -> None:
    codes = torch.randint(21, (37, 4), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        samples = model.decode_rows(codes.T[None] + 2, model.init_codec_state(), is_last=True)
        assert torch.equal(samples[0], model.decode_codes(codes))


def test_audio_tokens_given_as_codes_are_refused(model: VoxtralModel) -> None:
    with pytest.raises(CodeRangeError, match="special-id offset"):
        model.decode_codes(torch.full((37, 4), 22))


# Moving.


def test_moving_there_and_back_keeps_tables_float32() -> None:
    model = tiny_model()
    table, text = model.codec.quantizer.semantic_table, model.text_embeddings
    move_model(model, device=torch.device("cpu"), dtype=torch.bfloat16, codec_dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in model.buffers() if buffer.is_floating_point()} == {torch.float32}
    assert torch.equal(model.codec.quantizer.semantic_table, table)
    assert model.text_embeddings is text
    # The weights came as bfloat16, so that only folded convolutions have lost anything.
    move_model(model, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)
    for name, parameter in tiny_model().named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)) or ".conv." in name, name


def test_a_moved_model_computes_like_one_loaded_there() -> None:
    moved = tiny_model()
    move_model(moved, device=torch.device("cpu"), dtype=torch.bfloat16, codec_dtype=torch.float32)
    loaded = load_model(
        open_checkpoint(TINY), device=torch.device("cpu"), dtype=torch.bfloat16, codec_dtype=torch.float32
    )
    frames = [generate(model, max_frames=3)[1].audio_tokens for model in (moved, loaded)]
    assert torch.equal(torch.stack(frames[0]), torch.stack(frames[1]))
