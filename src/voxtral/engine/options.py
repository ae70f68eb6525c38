"""Options for the life of an engine, and the schedule by which audio leaves it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxtral.config import BackboneConfig
from voxtral.errors import OptionError, quoted

FlowDtype = Literal["model", "float8"]
FLOW_DTYPES: tuple[FlowDtype, ...] = ("model", "float8")

Activations = Literal["exact", "int8"]
ACTIVATIONS: tuple[Activations, ...] = ("exact", "int8")

# Room for each sequence of a batch where nothing else is said: 500 characters with a long voice, or 2.5 minutes of
# speech (docs/MODEL.md, "Habits"). What a model needs of memory is planned with the same number.
POSITIONS_PER_SEQUENCE = 2048

# Tokens of a text that can be followed while it is spoken.
MAX_FOLLOWED_TOKENS = 512

_MAX_BATCH = {"cuda": 64}
_MAX_BATCH_ELSEWHERE = 16


def default_max_batch(device_type: str) -> int:
    """Return how many sequences make frames side by side where nothing else is said.

    >>> default_max_batch("cpu")
    16
    """
    return _MAX_BATCH.get(device_type, _MAX_BATCH_ELSEWHERE)


def check_text_heads(heads: Sequence[tuple[int, int]], config: BackboneConfig) -> None:
    """Refuse heads that a model does not have.

    Raises:
        OptionError: one of them.
    """
    for layer, head in heads:
        if not (0 <= layer < config.num_layers and 0 <= head < config.num_heads):
            raise OptionError(
                f"the text is to be followed by layer {layer}, head {head}; the model has layers 0 to "
                f"{config.num_layers - 1} of heads 0 to {config.num_heads - 1}; calibrate it, or leave the heads out"
            )


def parse_flow_dtype(text: str) -> FlowDtype:
    """Read the name of a dtype of the flow.

    Raises:
        OptionError: there is none of that name.
    """
    if text not in FLOW_DTYPES:
        raise OptionError(f"flow_dtype is {quoted(text)}; it must be one of {', '.join(FLOW_DTYPES)}")
    return text


def parse_activations(text: str) -> Activations:
    """Read how exactly the flow's products take their inputs.

    Raises:
        OptionError: there is no such way.
    """
    if text not in ACTIVATIONS:
        raise OptionError(f"activations is {quoted(text)}; it must be one of {', '.join(ACTIVATIONS)}")
    return text


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is set up with.

    Attributes:
        max_batch: sequences that make frames side by side; None takes 64 on a GPU and 16 on a CPU.
        kv_cache_bytes: memory for keys and values; None takes room for `max_batch` sequences of 2048 positions, on a
            GPU at most 60 % of what is free after loading. In CPU memory it is committed as it is used.
        block_size: positions in a block of the KV cache.
        prefill_positions: prompt positions in one pass; prompts are cut at its multiples, counted from the end of
            the voice.
        batch_invariant: make the samples of a request equal to the bit under any load: every step computes
            `max_batch` rows, each prompt has passes of its own, and the codec takes one stream at a time. Costs
            speed. Without it rounding may differ with the number of neighbours and flip a code near a bin edge.
        flow: "plain", the flow as the checkpoint has it, or "folded", the same algebra with everything that does not
            change computed once; they agree up to rounding.
        flow_dtype: "model", the dtype of the other weights, or "float8", which rounds the matrices of the flow's layers
            and what they multiply to 8 bits (E4M3), in place: fewer bytes and twice the multiplications a second on Ada
            and Hopper GPUs, at a cost in exactness. Unmeasured; refused on a GPU without float8.
        activations: "exact", or "int8", which rounds what the flow's matrices of few bits multiply to 8 bits, in groups
            of 64: faster on a CPU, at a cost in exactness (docs/QUANTIZATION.md). Refused where they have more bits.
        cuda_graphs: replay each frame as one CUDA graph; None does so on CUDA, unless VOXTRAL_CUDA_GRAPHS is 0. False
            runs the same static step without capture. True elsewhere does that too, which only tests want.
        max_buffered_frames: audio that a sequence may make ahead of its reader, in frames, unless its
            request says otherwise; a reader that falls behind pauses its own sequence only.
        chunk_frames: frames of the 1st, 2nd, ... chunk of a sequence; the last number repeats. Fixed
            for all requests, so that the same seed gives the same samples to the bit.
        prefix_folder: where the keys and values of stored voices are kept between processes; None keeps none.
        prefix_fingerprint: of the weights and their quantisation; files of another one are not used.
        triton: False computes without Triton kernels in the whole process, from loading on; None uses those that work
            on the GPU, unless VOXTRAL_TRITON is 0.
        warm_up: on a GPU, compile and capture before the first request; without it that happens as it is needed, which
            is quicker for one utterance.
        text_heads: layer and query head each of those that follow the text (`voxtral.align`); empty where none are
            known. Their attention is measured for requests with a follower. `Engine.follow_text` sets them later.
        num_threads: CPU threads for one operation of torch on the engine's thread; None leaves torch's choice.

    Raises:
        OptionError: `flow_dtype` or `activations` is none of its values.
    """

    max_batch: int | None = None
    kv_cache_bytes: int | None = None
    block_size: int = 64
    prefill_positions: int = 256
    batch_invariant: bool = False
    flow: Literal["plain", "folded"] = "folded"
    flow_dtype: FlowDtype = "model"
    activations: Activations = "exact"
    cuda_graphs: bool | None = None
    max_buffered_frames: int = 64
    # One frame first for the lowest TTFA; then slow growth, so that even at RTF 0.8 the next chunk is
    # there before the last has been played.
    chunk_frames: tuple[int, ...] = (1, 1, 2, 2, 3, 4, 6, 8)
    prefix_folder: Path | None = None
    prefix_fingerprint: str = ""
    text_heads: tuple[tuple[int, int], ...] = ()
    num_threads: int | None = None
    triton: bool | None = None
    warm_up: bool = True

    def __post_init__(self) -> None:
        parse_flow_dtype(self.flow_dtype)
        parse_activations(self.activations)

    def frames_in_chunk(self, index: int) -> int:
        """Return the frames of chunk `index`.

        >>> [EngineOptions().frames_in_chunk(n) for n in (0, 2, 99)]
        [1, 2, 8]
        """
        return self.chunk_frames[min(index, len(self.chunk_frames) - 1)]
