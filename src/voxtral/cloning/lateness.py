"""How late a decoder is: by how many samples a frame sounds after the place that its number says.

A decoder may have been trained with a delay, so that no frame has to guess the next. Codes that are to sound like a
clip must then be compared with the clip that much later.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.cloning.prior import as_levels
from voxtral.model.codec import CodecDecoder
from voxtral.model.mel import mel_filters

# In tenths of a frame's samples: what is tried, and how many steps of spectrum an encoder is taken to have heard.
_FIRST, _LAST, _STEPS_HEARD = -4, 8, 14
_BANDS, _FLOOR, _RIDGE = 40, 1e-3, 300.0
_HELD_OUT = 4  # one frame of so many
# Of the best of all shifts; those after the right one are as good, for they have heard all that matters.
_SHARE_OF_BEST = 0.95
# Below this share of the variance nothing can be said.
_LEAST_TOLD = 0.3


def find_lateness(
    codec: CodecDecoder, sequences: Sequence[Tensor], num_levels: int
) -> Generator[None, None, tuple[int, float]]:
    """Find by how many samples a decoder is late, from codes of speech; yields after each part of the work.

    Decodes the codes, and looks how much of them a linear map from a few steps of the spectrum that end some samples
    after the frame should can tell. The first shift that is as good as any is where a frame has sounded whole.

    Args:
        codec: the decoder.
        sequences: codes [K, T] int64, together some hundreds of frames.
        num_levels: of an acoustic code.

    Returns:
        Samples, a multiple of a patch, 0 where it cannot be told; and the share of the variance that was told there.
    """
    config = codec.config
    hop = config.patch_size
    window = 3 * hop
    shape = torch.hann_window(window, device=codec.quantizer.semantic_table.device)
    rate = config.sample_rate
    filters = mel_filters(_BANDS, window, sample_rate=rate, high=rate / 2).to(shape.device)
    before, after = (_STEPS_HEARD + 3 - _FIRST) * hop, (_LAST + 4) * hop
    heard: list[Tensor] = []
    levels: list[Tensor] = []
    for codes in sequences:
        with torch.no_grad():
            samples = codec.decode(codes[None].to(shape.device))
        spectrum = torch.stft(
            F.pad(samples, (before, after)), window, hop, window=shape, center=False, return_complex=True
        )
        heard.append((filters @ spectrum[0].abs()).clamp(min=_FLOOR).log())
        levels.append(as_levels(codes[1:], num_levels).T.to(shape.device))
        yield
    steps_per_frame = config.samples_per_frame // hop
    told: dict[int, float] = {}
    for shift in range(_FIRST, _LAST + 1):
        inputs = []
        for mel, wanted in zip(heard, levels, strict=True):
            ends = (torch.arange(1, len(wanted) + 1, device=shape.device) * steps_per_frame + shift) + before // hop
            # The last step of the spectrum that lies before the end as a whole.
            last = ends - window // hop
            inputs.append(mel[:, last[:, None] - torch.arange(_STEPS_HEARD, device=shape.device)].permute(1, 0, 2))
        told[shift * hop] = _told(torch.cat(inputs).flatten(1), torch.cat(levels))
        yield
    best = max(told.values())
    if not best >= _LEAST_TOLD:  # also where it is no number
        return 0, best
    lateness = min(shift for shift, share in told.items() if share >= _SHARE_OF_BEST * best)
    return lateness, told[lateness]


def _told(inputs: Tensor, wanted: Tensor) -> float:
    """Give the share of the variance of [N, A] that a linear map of [N, F] tells, on frames not used to fit it."""
    is_held = torch.arange(len(inputs), device=inputs.device) % _HELD_OUT == 0
    mean, scale = inputs[~is_held].mean(0), inputs[~is_held].std(0) + 1e-3
    inputs = F.pad((inputs - mean) / scale, (0, 1), value=1.0)
    known = inputs[~is_held]
    moments = known.T @ known + _RIDGE * torch.eye(known.shape[1], device=known.device)
    weights = torch.linalg.solve(moments, known.T @ wanted[~is_held])
    missed = (inputs[is_held] @ weights - wanted[is_held]).pow(2).sum()
    return 1 - float(missed / (wanted[is_held] - wanted[~is_held].mean(0)).pow(2).sum())
