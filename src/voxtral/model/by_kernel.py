"""Whether layers can go through our own C as a whole, and what it needs to know of them.

Only where every matrix of every layer is in the form of the C: the checkpoint is quantised, and this is a CPU. Anything
else goes the way that `voxtral.model.backbone` and `voxtral.model.folded` write down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from torch import Tensor, nn

from voxtral.config import AcousticConfig, BackboneConfig
from voxtral.model.kernels.cpu.products import NumBytes
from voxtral.model.kernels.cpu.whole import LayerParts, Sizes
from voxtral.model.layers import AttentionProjections, FeedForward, RMSNorm
from voxtral.model.linear import QuantizedLinear
from voxtral.model.linear_kernel import KernelWeight


def sizes_of(config: BackboneConfig | AcousticConfig) -> Sizes:
    """Give the sizes of a stack of layers."""
    return Sizes(config.dim, config.hidden_dim, config.num_heads, config.num_kv_heads, config.head_dim, config.norm_eps)


def layers_for_kernel(
    layers: Iterable[nn.Module], sizes: Sizes
) -> tuple[list[LayerParts], NumBytes] | tuple[None, None]:
    """Give the parts of layers, and the bytes of their activations, if all of them are in the form of our own C.

    Args:
        layers: each has attention, feed_forward, attention_norm and ffn_norm.
        sizes: of the layers.
    """
    if not sizes.fit:
        return None, None
    parts: list[LayerParts] = []
    num_bytes: set[NumBytes] = set()
    for layer in layers:
        attention = cast(AttentionProjections, layer.attention)
        feed_forward = cast(FeedForward, layer.feed_forward)
        linears = (attention.wqkv, attention.wo, feed_forward.w13, feed_forward.w2)
        weights = _weights(linears)
        if weights is None:
            return None, None
        num_bytes |= {weight.num_bytes_of_activation for weight in weights}
        norms = (cast(RMSNorm, layer.attention_norm).weight, cast(RMSNorm, layer.ffn_norm).weight)
        biases = tuple(cast("Tensor | None", cast(QuantizedLinear, linear).bias) for linear in linears)
        wqkv, wo, w13, w2 = (weight.matrix for weight in weights)
        parts.append(LayerParts((wqkv, wo, w13, w2), biases, norms))
    return (parts, num_bytes.pop()) if len(num_bytes) == 1 else (None, None)


def _weights(linears: Sequence[nn.Module | None]) -> list[KernelWeight] | None:
    weights: list[KernelWeight] = []
    for linear in linears:
        weight = linear.quantized_weight if isinstance(linear, QuantizedLinear) else None
        if not isinstance(weight, KernelWeight):
            return None
        weights.append(weight)
    return weights
