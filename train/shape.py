"""The sizes of nano: its params.json, in the format of the published checkpoint.

Every key is one that the runtime reads for the 4B file too. Read next: `train.export`.
"""

from __future__ import annotations

from typing import Any

from train.texts import LANGUAGES
from voxtral.config import ModelConfig
from voxtral.loading.params import parse_config

NUM_SPECIAL_TOKENS = 64
DIM = 256


def make_params(vocab_size: int, voices: dict[str, int]) -> dict[str, Any]:
    """Write params.json of nano.

    Args:
        vocab_size: rows of the text embeddings, special tokens included.
        voices: the presets; the numbers are never used, as officially.
    """
    return {
        "dim": DIM,
        "n_layers": 6,
        "head_dim": 64,
        "hidden_dim": 576,
        "n_heads": 4,
        "n_kv_heads": 2,
        "use_biases": False,
        "causal": True,
        "rope_theta": 10000.0,
        "norm_eps": 1e-05,
        "vocab_size": vocab_size,
        "model_parallel": 1,
        "tied_embeddings": True,
        "multimodal": {
            "bos_token_id": 1,
            "audio_model_args": {
                "semantic_codebook_size": 1024,
                "acoustic_codebook_size": 21,
                "n_acoustic_codebook": 36,
                "audio_encoding_args": {
                    "codebook_pattern": "parallel",
                    "num_codebooks": 37,
                    "sampling_rate": 24000,
                    "frame_rate": 12.5,
                },
                "audio_token_id": 24,
                "begin_audio_token_id": 25,
                "input_embedding_concat_type": "sum",
                "acoustic_transformer_args": {
                    "input_dim": DIM,
                    "dim": DIM,
                    "n_layers": 3,
                    "head_dim": 64,
                    "hidden_dim": 384,
                    "n_heads": 4,
                    "n_kv_heads": 2,
                    "use_biases": False,
                    "rope_theta": 10000.0,
                    "sigma": 1e-05,
                    "sigma_max": 1.0,
                },
                "p_uncond": 0.0,
                "text_feature_bugged": False,
                "condition_dropped_token_id": 42,
            },
            "audio_tokenizer_args": {
                "channels": 1,
                "sampling_rate": 24000,
                "pretransform_patch_size": 240,
                "patch_proj_kernel_size": 4,
                "semantic_codebook_size": 1024,
                "semantic_dim": 64,
                "acoustic_codebook_size": 21,
                "acoustic_dim": 36,
                "conv_weight_norm": True,
                # The keys that change the computation: docs/MODEL.md, "Source-filter head" and "Mel input".
                "source_filter_head": {"harmonic_knots": 72, "noise_knots": 40, "pitch_frames": 3, "pitch_dim": 256},
                "mel_input": 80,
                "causal": True,
                "attn_sliding_window_size": 16,
                "half_attn_window_upon_downsampling": True,
                "dim": 256,
                "hidden_dim": 384,
                "head_dim": 32,
                "n_heads": 4,
                "n_kv_heads": 4,
                "qk_norm_eps": 1e-06,
                "qk_norm": True,
                "use_biases": False,
                "norm_eps": 0.01,
                "layer_scale": True,
                "layer_scale_init": 0.01,
                "encoder_transformer_lengths_str": "1,1,1,0",
                "encoder_convs_kernels_str": "2,2,2,1",
                "encoder_convs_strides_str": "2,2,2,1",
                "decoder_transformer_lengths_str": "1,1,1,3",
                "decoder_convs_kernels_str": "1,2,2,2",
                "decoder_convs_strides_str": "1,2,2,2",
                "voice": voices,
            },
        },
        "max_seq_len": 4096,
        "model_type": "voxtral_tts",
        "max_position_embeddings": 4096,
        # Keys of this project: what the published file leaves to the runtime.
        "generation": {"guidance_scale": 1.8, "noise_scale": 0.3, "num_euler_steps": 7, "max_segment_chars": 110},
        "languages": list(LANGUAGES),
    }


def nano_config(vocab_size: int = 1024) -> ModelConfig:
    """Parse nano's params.json; the codec's sizes do not depend on the vocabulary."""
    return parse_config(make_params(vocab_size, {"en_f1": 0}))
