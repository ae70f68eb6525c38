"""The two codebooks of the codec: a table for the semantic code, levels for the acoustic codes.

Works on codes of the codec's alphabet (no special-id offset). Read next: `voxtral.model.codec`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.config import CodebookConfig, CodecConfig
from voxtral.errors import CodeRangeError
from voxtral.model.kernels.flow import round_to_codes

# Entries that training never used have almost no usage; the division is guarded as officially.
_USAGE_FLOOR = 1e-5


def semantic_table(embedding_sum: Tensor, cluster_usage: Tensor) -> Tensor:
    """Divide the running sums of the codebook by their usage: [V, C] and [V] to [V, C] float32.

    Source: docs/MODEL.md, "Quantizer"; golden entry codec/semantic_table_rows. The official server divides in
    bfloat16 (9e-4 on the waveform of the golden case); this divides in float32.
    """
    return embedding_sum.float() / cluster_usage.float().clamp(min=_USAGE_FLOOR)[:, None]


class Quantizer(nn.Module):
    """Codes to latent and latent to codes."""

    semantic_table: Tensor

    def __init__(self, codec: CodecConfig, codebooks: CodebookConfig) -> None:
        super().__init__()
        self.codebooks = codebooks
        self.semantic_dim = codec.semantic_dim
        # Float32 in every mode: 8 MB at the published size, and the nearest row depends on it.
        self.register_buffer("semantic_table", torch.zeros(codebooks.semantic_size, codec.semantic_dim))

    def codes_to_latent(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """Look up the latent that the codec decoder reads.

        Args:
            codes: [B, K, T] int64, codec alphabet; row 0 semantic, rows 1.. acoustic.
            dtype: of the result.

        Returns:
            [B, C, T], semantic channels first, then acoustic channels in [-1, 1].
        """
        semantic = F.embedding(codes[:, 0], self.semantic_table).transpose(1, 2)  # [B, C_sem, T]
        # In this order of operations, as officially: c * 0.1 - 1 is one float32 step off.
        acoustic = codes[:, 1:] * 2 / (self.codebooks.acoustic_size - 1) - 1
        return torch.cat((semantic.to(dtype), acoustic.to(dtype)), dim=1)

    def latent_to_codes(self, latent: Tensor) -> Tensor:
        """Find the nearest semantic entry (Euclidean) and the nearest acoustic levels of tanh.

        Args:
            latent: [B, C, T].

        Returns:
            [B, K, T] int64, codec alphabet.
        """
        latent = latent.float()
        semantic = latent[:, : self.semantic_dim].transpose(1, 2)  # [B, T, C_sem]
        # Exact distances: the matrix-product expansion moves near ties (golden facts, encode margins).
        distances = torch.cdist(semantic, self.semantic_table[None], compute_mode="donot_use_mm_for_euclid_dist")
        acoustic = round_to_codes(torch.tanh(latent[:, self.semantic_dim :]), self.codebooks.acoustic_size)
        return torch.cat((distances.argmin(dim=-1)[:, None], acoustic), dim=1)


def check_codes(codes: Tensor, codebooks: CodebookConfig) -> None:
    """Refuse codes that are no codec codes.

    Args:
        codes: [B, K, T], any integer dtype.
        codebooks: the alphabets.

    Raises:
        CodeRangeError: the number of codebooks is wrong, or a code is outside its codebook.
    """
    if codes.is_floating_point() or codes.is_complex() or codes.dtype is torch.bool:
        raise CodeRangeError(f"codes in {codes.dtype}; they must be whole numbers; use int64")
    if codes.ndim != 3 or codes.shape[1] != codebooks.num_codebooks:
        raise CodeRangeError(
            f"codes of shape {tuple(codes.shape)}; they must be [rows, {codebooks.num_codebooks}, frames]; "
            "encode them with a checkpoint of the same sizes"
        )
    sizes = torch.full((codebooks.num_codebooks, 1), codebooks.acoustic_size, device=codes.device)
    sizes[0] = codebooks.semantic_size
    bad = (codes < 0) | (codes >= sizes)
    if bad.any():
        row, codebook, frame = bad.nonzero()[0].tolist()
        raise CodeRangeError(
            f"code {int(codes[row, codebook, frame])} in codebook {codebook}, frame {frame}; it must be 0 .. "
            f"{int(sizes[codebook]) - 1}; subtract the special-id offset if these are audio tokens"
        )
