"""Everything computes where the weights are: no step mixes devices.

The meta device stands in for a GPU: it computes shapes only, and refuses to mix with the CPU.
"""

from __future__ import annotations

import pytest
import torch

from golden.judge import PagedSequence
from voxtral.config import ModelConfig
from voxtral.model.voxtral import VoxtralModel, init_tables


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_step_mixes_devices(tiny_model: VoxtralModel, dtype: torch.dtype) -> None:
    config: ModelConfig = tiny_model.config
    device = torch.device("meta")
    with device:
        model = VoxtralModel(config, has_encoder=True).to(dtype)
    init_tables(model, device)
    model.text_embeddings = torch.zeros(config.backbone.vocab_size, config.backbone.dim, dtype=torch.bfloat16)
    num_codebooks = config.codebooks.num_codebooks
    with torch.inference_mode():
        embeds = model.embed_text(torch.arange(20))
        sequence = PagedSequence(model, 40)
        hidden = sequence.extend(embeds)[-1:]
        schedule = model.acoustic_transformer.make_schedule(7)
        noise = torch.zeros(1, config.codebooks.num_acoustic, device=device)
        step = model.generate_frame(hidden, noise, torch.ones(1, device=device), schedule)
        hidden = sequence.extend(model.embed_frames(step.audio_tokens))
        fused = sequence.step(model.embed_frames(step.audio_tokens))
        state = model.init_codec_state()
        for num_frames in (1, 1, 2, 8):
            frames = torch.zeros(1, num_frames, num_codebooks, dtype=torch.int64, device=device)
            samples = model.decode_rows(frames, state)
            assert samples.shape == (1, num_frames * config.samples_per_frame)
            assert samples.dtype == torch.float32
        codes = model.encode_audio(torch.zeros(50_000))
        rows = model.embed_codes(codes)
    made = (embeds, hidden, fused, step.audio_tokens, codes, rows)
    assert {tensor.device for tensor in made} == {device}
    assert {embeds.dtype, hidden.dtype, fused.dtype, rows.dtype} == {dtype}
