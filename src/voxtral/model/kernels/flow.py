"""The three tokens of the folded flow, attention between them, its guided step, and the frame at its end."""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral.config import EMPTY_AUDIO, END_AUDIO, NUM_SPECIAL_CODES
from voxtral.model.attention import attend
from voxtral.model.kernels.dispatch import attempt, uses_triton


def enter_layers(
    entered: Tensor,
    biases: Tensor,
    time: tuple[Tensor, Tensor],
    llm: tuple[Tensor, Tensor],
    eps: float,
    *,
    use_triton: bool | None = None,
) -> tuple[Tensor, Tensor]:
    """Lay the tokens of both branches side by side, each with its projections in the first layer.

    The state token's projections are divided by its root mean square and get their biases, all in float32, rounded
    once. See `voxtral.model.folded`.

    Args:
        entered: [B, D + W] float32, the state token and the product of its unnormed projections.
        biases: [W], in the dtype of the layers.
        time: token [D] and projections [W].
        llm: tokens [2 B, D] and projections [2 B, W], the conditional rows first.
        eps: of the norm.
        use_triton: see `uses_triton`.

    Returns:
        Tokens [2 B, 3, D] and projections [2 B, 3, W]: state, time, hidden state.
    """
    if use_triton or (entered.is_cuda and uses_triton("enter_layers", entered, use_triton)):
        from voxtral.model.kernels import flow_triton

        with attempt("enter_layers", entered, use_triton):
            return flow_triton.enter_layers(entered, biases, time, llm, eps)
    token, product = entered.split((llm[0].shape[1], biases.shape[0]), dim=-1)
    inverse_rms = torch.rsqrt(token.square().mean(dim=-1, keepdim=True) + eps)
    projected = product * inverse_rms + biases
    sides = []
    for state_side, time_side, llm_side in zip((token, projected), time, llm, strict=True):
        states = state_side.to(biases.dtype).repeat(2, 1)
        sides.append(torch.stack((states, time_side.expand_as(states), llm_side), dim=1))
    return sides[0], sides[1]


def attend_between_tokens(
    query: Tensor, key: Tensor, value: Tensor, head_dim: int, *, use_triton: bool | None = None
) -> Tensor:
    """Attend between a handful of tokens without mask or positions; everything but input and output is float32.

    Args:
        query: [R, Tq, H * Dh], heads side by side; only the last axis must be contiguous, so parts of a fused
            projection need no copy.
        key: [R, T, Hkv * Dh]; query head h reads key head h // (H / Hkv).
        value: the same.
        head_dim: Dh.
        use_triton: see `uses_triton`.

    Returns:
        [R, Tq, H * Dh].
    """
    if use_triton or (query.is_cuda and uses_triton("attend_between_tokens", query, use_triton)):
        from voxtral.model.kernels import flow_triton

        with attempt("attend_between_tokens", query, use_triton):
            return flow_triton.attend_between_tokens(query, key, value, head_dim)
    query, key, value = (part.unflatten(-1, (-1, head_dim)).transpose(1, 2) for part in (query, key, value))
    return attend(query, key, value)


def guided_step(
    state: Tensor, velocities: Tensor, guidance_scale: Tensor, step: Tensor, *, use_triton: bool | None = None
) -> Tensor:
    """Take one Euler step with v = g * conditional + (1 - g) * unconditional, in float32.

    Args:
        state: [B, A] float32.
        velocities: [2 B, A], the conditional rows first.
        guidance_scale: [B] float32.
        step: float32 scalar on the device.
        use_triton: see `uses_triton`.

    Returns:
        [B, A] float32.
    """
    if use_triton or (state.is_cuda and uses_triton("guided_step", state, use_triton)):
        from voxtral.model.kernels import flow_triton

        with attempt("guided_step", state, use_triton):
            return flow_triton.guided_step(state, velocities, guidance_scale, step)
    scale = guidance_scale[:, None]
    conditional, unconditional = velocities.float().chunk(2)
    return state + (scale * conditional + (1 - scale) * unconditional) * step


def round_to_codes(flow_state: Tensor, num_levels: int) -> Tensor:
    """Round values in [-1, 1] (clamped) to levels 0 .. num_levels - 1; ties go to the even level.

    >>> round_to_codes(torch.tensor([-2.0, 0.0, 0.025, 1.0]), 21).tolist()
    [0, 10, 10, 20]
    """
    scaled = (flow_state.clamp(-1, 1) + 1) / 2 * (num_levels - 1)
    return scaled.round().long()


def finish_frame(state: Tensor, semantic: Tensor, num_levels: int, *, use_triton: bool | None = None) -> Tensor:
    """Round the end of the flow to codes and write the audio tokens of the frame.

    An END_AUDIO row carries EMPTY_AUDIO shifted by the special ids in every acoustic codebook, as
    the official runtime writes it; it is never fed back.

    Args:
        state: [B, A] float32.
        semantic: [B] int64.
        num_levels: of an acoustic codebook.
        use_triton: see `uses_triton`.

    Returns:
        [B, 1 + A] int64.
    """
    if use_triton or (state.is_cuda and uses_triton("finish_frame", state, use_triton)):
        from voxtral.model.kernels import flow_triton

        with attempt("finish_frame", state, use_triton):
            return flow_triton.finish_frame(state, semantic, num_levels)
    codes = round_to_codes(state, num_levels)
    codes = torch.where(semantic[:, None] == END_AUDIO, EMPTY_AUDIO, codes)
    return torch.cat((semantic[:, None], codes + NUM_SPECIAL_CODES), dim=1)
