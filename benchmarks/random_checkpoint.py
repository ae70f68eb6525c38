"""Write a checkpoint of random weights in the published shape: names, shapes and bytes of the 4B file.

    python -m benchmarks.random_checkpoint DIR              386 tensors, 8,004,706,784 bytes of data
    python -m benchmarks.random_checkpoint DIR --tiny       the sizes of the tests' tiny checkpoint
    python -m benchmarks.random_checkpoint DIR --codec-only the same file with holes where no codec needs data, 0.4 GB

It speaks noise. It is for load times, memory and speed, which do not depend on the values. Runs with
torch, numpy and safetensors alone.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from voxtral.config import END_AUDIO, ModelConfig
from voxtral.loading.files import PARAMS_FILE, TOKENIZER_FILE, VOICE_FOLDER, WEIGHTS_FILE
from voxtral.loading.inventory import AUDIO_EMBEDDINGS, CODEC_PREFIX, expected_tensors
from voxtral.loading.params import parse_config

TINY = Path(__file__).parents[1] / "tests" / "golden" / "tiny"

# Rows of the published presets (docs/MODEL.md, "Voices").
_PUBLISHED_VOICES = {
    "casual_female": 214,
    "casual_male": 147,
    "cheerful_female": 132,
    "neutral_female": 218,
    "neutral_male": 169,
    "pt_male": 144,
    "pt_female": 175,
    "nl_male": 138,
    "nl_female": 146,
    "it_male": 168,
    "it_female": 172,
    "fr_male": 97,
    "fr_female": 97,
    "es_male": 208,
    "es_female": 138,
    "de_male": 163,
    "de_female": 147,
    "ar_male": 67,
    "hi_male": 94,
    "hi_female": 86,
}


def published_params() -> dict[str, Any]:
    """Build the content of the published params.json (docs/MODEL.md)."""
    transformer = {"head_dim": 128, "hidden_dim": 9216, "n_heads": 32, "n_kv_heads": 8, "use_biases": False}
    acoustic = {"input_dim": 3072, "dim": 3072, "n_layers": 3, **transformer}
    acoustic |= {"rope_theta": 10000.0, "sigma": 1e-05, "sigma_max": 1.0}
    codec = {
        "channels": 1,
        "sampling_rate": 24000,
        "pretransform_patch_size": 240,
        "patch_proj_kernel_size": 7,
        "semantic_codebook_size": 8192,
        "semantic_dim": 256,
        "acoustic_codebook_size": 21,
        "acoustic_dim": 36,
        "conv_weight_norm": True,
        "causal": True,
        "attn_sliding_window_size": 16,
        "half_attn_window_upon_downsampling": True,
        "dim": 1024,
        "hidden_dim": 4096,
        "head_dim": 128,
        "n_heads": 8,
        "n_kv_heads": 8,
        "qk_norm": True,
        "qk_norm_eps": 1e-06,
        "use_biases": False,
        "norm_eps": 0.01,
        "layer_scale": True,
        "layer_scale_init": 0.01,
        "decoder_transformer_lengths_str": "2,2,2,2",
        "decoder_convs_kernels_str": "3,4,4,4",
        "decoder_convs_strides_str": "1,2,2,2",
        "voice": {name: index for index, name in enumerate(_PUBLISHED_VOICES)},
    }
    encoding = {"codebook_pattern": "parallel", "num_codebooks": 37, "sampling_rate": 24000, "frame_rate": 12.5}
    audio = {
        "semantic_codebook_size": 8192,
        "acoustic_codebook_size": 21,
        "n_acoustic_codebook": 36,
        "audio_encoding_args": encoding,
        "audio_token_id": 24,
        "begin_audio_token_id": 25,
        "input_embedding_concat_type": "sum",
        "acoustic_transformer_args": acoustic,
        "p_uncond": 0.0,
    }
    return {
        "dim": 3072,
        "n_layers": 26,
        **transformer,
        "rope_theta": 1000000.0,
        "norm_eps": 1e-05,
        "vocab_size": 131072,
        "model_parallel": 1,
        "tied_embeddings": True,
        "max_seq_len": 65536,
        "max_position_embeddings": 128000,
        "causal": True,
        "model_type": "voxtral_tts",
        "multimodal": {"bos_token_id": 1, "audio_model_args": audio, "audio_tokenizer_args": codec},
    }


def random_tensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw a tensor that keeps activations of order one, so that no step is a special case.

    It is on the generator's device.
    """
    device = generator.device
    if name.endswith(("norm.weight", "original0")):
        return torch.ones(shape, dtype=torch.bfloat16, device=device)
    if name.endswith("_scale"):
        return torch.full(shape, 0.1, dtype=torch.bfloat16, device=device)
    if name.endswith("cluster_usage"):
        return torch.full(shape, 10.0, dtype=torch.bfloat16, device=device)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 1
    scale = 0.5 if "embedding" in name else fan_in**-0.5
    return torch.randn(shape, generator=generator, device=device).mul_(scale).to(torch.bfloat16)


def write_checkpoint(
    folder: Path, params: dict[str, Any], voices: dict[str, int], *, is_codec_only: bool = False
) -> int:
    """Write params.json, weights, tokenizer and voices; returns the bytes of tensor data."""
    config = parse_config(params)
    (folder / VOICE_FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / PARAMS_FILE).write_text(json.dumps(params, indent=2), encoding="utf-8")
    shutil.copyfile(TINY / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    generator = torch.Generator().manual_seed(0)
    shapes = expected_tensors(config, with_encoder=False)
    table = torch.empty(0)
    with (folder / WEIGHTS_FILE).open("wb") as file:
        file.write(_header(shapes))
        # Written one by one: 8 GB never stand in memory at once.
        for name, shape in shapes.items():
            if is_codec_only and not name.startswith((CODEC_PREFIX, AUDIO_EMBEDDINGS)):
                file.seek(2 * math.prod(shape), 1)
                continue
            tensor = random_tensor(name, shape, generator)
            if name.endswith("audio_codebook_embeddings.embeddings.weight"):
                table = tensor
            file.write(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else b"")
        file.truncate(file.tell())
    for name, num_rows in voices.items():
        torch.save(random_voice(config, table, num_rows, generator), folder / VOICE_FOLDER / f"{name}.pt")
    return sum(2 * math.prod(shape) for shape in shapes.values())


def _header(shapes: dict[str, tuple[int, ...]]) -> bytes:
    entries: dict[str, Any] = {}
    position = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def random_voice(config: ModelConfig, table: Tensor, num_rows: int, generator: torch.Generator) -> Tensor:
    """Make a voice as the real ones are made: sums of the embeddings of random frames, then END_AUDIO.

    Args:
        config: sizes.
        table: [R, D], the audio embeddings, on the CPU.
        num_rows: N.
        generator: of the CPU.

    Returns:
        [N, D] bfloat16.
    """
    books = config.codebooks
    semantic = torch.randint(2, books.semantic_vocab, (num_rows, 1), generator=generator)
    acoustic = torch.randint(2, books.acoustic_vocab, (num_rows, books.num_acoustic), generator=generator)
    tokens = torch.cat((semantic, acoustic), dim=1)
    tokens[-1] = 0
    tokens[-1, 0] = END_AUDIO
    return table[tokens + torch.tensor(books.offsets)].sum(dim=1, dtype=torch.float32).to(torch.bfloat16)


def main() -> None:
    """Write and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--codec-only", action="store_true", help="for what does not speak")
    arguments = parser.parse_args()
    started = time.perf_counter()
    if arguments.tiny:
        text = (TINY / PARAMS_FILE).read_text(encoding="utf-8")
        num_bytes = write_checkpoint(arguments.folder, json.loads(text), {"casual_male": 7, "neutral_female": 12})
    else:
        num_bytes = write_checkpoint(
            arguments.folder, published_params(), _PUBLISHED_VOICES, is_codec_only=arguments.codec_only
        )
    seconds = round(time.perf_counter() - started, 1)
    sys.stdout.write(json.dumps({"benchmark": "random_checkpoint", "data_bytes": num_bytes, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main()
