"""The least time that a frame can take: bytes that must be read and products that must be made, by machine rates.

Pure functions of a checkpoint's sizes. Three parts of a frame come one after the other (backbone, flow, codec with the
rest), so the floor is the sum, over the parts, of the longer of reading and computing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxtral.config import ConvBlockConfig, ModelConfig


@dataclass(frozen=True)
class Precision:
    """Bytes that one stored weight takes, scales and zero points included.

    Attributes:
        backbone: of the language model's layers.
        flow: of the acoustic transformer's layers.
        head: of the semantic head.
        codec: of the codec decoder.
        cache: of one number in the KV cache; also of activations and of what is never quantised.
    """

    backbone: float
    flow: float
    head: float
    codec: float
    cache: float


_INT8 = 1 + 2 / 128  # a 16-bit scale for each 128 weights; one for each row takes less
_INT4 = 0.5 + 4 / 128  # a 16-bit scale and a zero point for each 128

PRECISIONS = {
    "float32": Precision(4, 4, 4, 4, 4),
    "bfloat16": Precision(2, 2, 2, 2, 2),
    "int8": Precision(_INT8, _INT8, _INT8, 2, 2),
    "int4": Precision(_INT4, _INT8, _INT8, 2, 2),
    "int4-all": Precision(_INT4, _INT4, _INT8, 2, 2),
}


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second.

    Attributes:
        bytes_per_s: read from where the weights are.
        flops_per_s: multiplications and additions of large matrix products in the dtype of the activations.
    """

    bytes_per_s: float
    flops_per_s: float


@dataclass(frozen=True)
class Part:
    """One part of a frame, for all streams together."""

    num_bytes: float
    flops: float

    def seconds(self, rates: Rates) -> float:
        """Return the longer of reading and computing."""
        return max(self.num_bytes / rates.bytes_per_s, self.flops / rates.flops_per_s)


@dataclass(frozen=True)
class FrameCost:
    """What one frame of all streams costs."""

    backbone: Part
    flow: Part
    rest: Part

    @property
    def num_bytes(self) -> float:
        """Bytes of all parts."""
        return self.backbone.num_bytes + self.flow.num_bytes + self.rest.num_bytes

    @property
    def flops(self) -> float:
        """Operations of all parts."""
        return self.backbone.flops + self.flow.flops + self.rest.flops

    def floor_s(self, rates: Rates) -> float:
        """Return the least seconds for one frame of all streams."""
        return sum(part.seconds(rates) for part in (self.backbone, self.flow, self.rest))


def layer_weights(dim: int, num_heads: int, num_kv_heads: int, head_dim: int, hidden_dim: int) -> int:
    """Count the weights of a transformer layer's matrices."""
    return dim * head_dim * (2 * num_heads + 2 * num_kv_heads) + 3 * dim * hidden_dim


def frame_cost(
    config: ModelConfig,
    precision: Precision,
    *,
    num_streams: int,
    context: int,
    num_euler_steps: int = 7,
    frames_per_codec_call: int = 1,
    is_folded: bool = True,
) -> FrameCost:
    """Count bytes and operations of one frame for each of `num_streams` streams.

    Args:
        config: sizes.
        precision: bytes of a weight.
        num_streams: rows of the batch; they share every weight that is read.
        context: positions in the cache of each stream.
        num_euler_steps: steps of the flow, two guided rows of three tokens each.
        frames_per_codec_call: frames that one reading of the codec's weights decodes.
        is_folded: whether what does not change between the steps of a frame is computed once, and what does not
            reach the result is not computed; the results are the same.
    """
    return FrameCost(
        _backbone(config, precision, num_streams, context),
        _flow(config, precision, num_streams, num_euler_steps, is_folded),
        _rest(config, precision, num_streams, frames_per_codec_call),
    )


def kv_bytes_per_position(config: ModelConfig, bytes_per_number: float) -> float:
    """Return the bytes that one position takes in the KV cache of all layers."""
    backbone = config.backbone
    return 2 * backbone.num_layers * backbone.num_kv_heads * backbone.head_dim * bytes_per_number


def _backbone(config: ModelConfig, precision: Precision, num_streams: int, context: int) -> Part:
    net = config.backbone
    weights = net.num_layers * layer_weights(net.dim, net.num_heads, net.num_kv_heads, net.head_dim, net.hidden_dim)
    cache_bytes = num_streams * context * kv_bytes_per_position(config, precision.cache)
    # Scores and weighted values, a multiplication and an addition each.
    attention_flops = 4 * net.num_layers * net.num_heads * net.head_dim * context
    return Part(weights * precision.backbone + cache_bytes, num_streams * (2 * weights + attention_flops))


def _flow(config: ModelConfig, precision: Precision, num_streams: int, num_steps: int, is_folded: bool) -> Part:
    net = config.acoustic
    layer = layer_weights(net.dim, net.num_heads, net.num_kv_heads, net.head_dim, net.hidden_dim)
    weights = net.num_layers * layer
    tokens = 2 * 3  # guided and unguided; state, time and hidden state
    products = num_steps * tokens * weights
    weights_read = num_steps * weights
    if is_folded:
        kv_width = 2 * net.num_kv_heads * net.head_dim
        qkv = net.dim * (net.num_heads * net.head_dim + kv_width)
        # First layer: only the state token changes between steps, and its projections fold into a small matrix; the
        # hidden state is projected once a frame, and nothing of the unguided one, which is zero.
        products -= num_steps * tokens * qkv - qkv
        weights_read -= (num_steps - 1) * qkv
        # Last layer: the state token alone needs more than keys and values.
        products -= num_steps * (tokens - 2) * (layer - net.dim * kv_width)
    return Part(weights_read * precision.flow, 2.0 * num_streams * products)


def _rest(config: ModelConfig, precision: Precision, num_streams: int, frames_per_codec_call: int) -> Part:
    net, books, codec = config.acoustic, config.codebooks, config.codec
    head = books.semantic_head_rows * net.dim
    projection = net.input_dim * net.dim
    embeddings = num_streams * books.num_codebooks * config.backbone.dim
    layer = layer_weights(codec.dim, codec.num_heads, codec.num_kv_heads, codec.head_dim, codec.hidden_dim)
    weights, products, steps = 0, 0, 1
    for block in codec.decoder_blocks:
        if isinstance(block, ConvBlockConfig):
            block_weights = block.in_channels * block.out_channels * block.kernel
            products += steps * block_weights
            steps *= block.stride
        else:
            block_weights = block.num_layers * layer
            products += steps * block_weights
        weights += block_weights
    # A spectral head writes two numbers for each frequency, a source-filter head those of its knots; their transforms
    # are left out.
    columns = codec.patch_size * codec.patch_kernel
    if codec.source_filter_head is not None:
        columns = codec.source_filter_head.outputs_per_step
    elif codec.spectral_head:
        columns = 2 * codec.num_bins
    output = codec.dim * columns
    weights, products = weights + output, products + steps * output
    num_bytes = head * precision.head + (projection + embeddings) * precision.cache
    num_bytes += weights * precision.codec / frames_per_codec_call
    return Part(num_bytes, 2.0 * num_streams * (head + projection + products))


def prefill_flops(config: ModelConfig, num_positions: int) -> float:
    """Count the operations of a prompt, attention to itself included."""
    net = config.backbone
    weights = net.num_layers * layer_weights(net.dim, net.num_heads, net.num_kv_heads, net.head_dim, net.hidden_dim)
    attention = 2 * net.num_layers * net.num_heads * net.head_dim * math.pow(num_positions, 2)
    return 2.0 * weights * num_positions + attention
