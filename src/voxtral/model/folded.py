"""The flow of the acoustic transformer with everything that does not change computed once.

The same algebra as `AcousticTransformer.flow_states`, in another order of operations:

- The state enters through a matrix of A columns, so the state token's queries, keys and values in the first layer
  are that matrix times the state. The norm in between divides by a number that its residual gives.
- The other two tokens enter the first layer unchanged at each step: their queries, keys and values are computed
  once a frame, for all steps. The unconditional token is zero, and what remains of it is the biases.
- The last layer is read at the state token alone: only that one asks and goes through the feed-forward.

At the published size that saves a quarter of the multiplications of a frame and a twentieth of the bytes that it reads.
Sums are rounded in another order, so results agree with the plain path up to rounding, not to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.model.acoustic import AcousticLayer, AcousticTransformer, FlowSchedule
from voxtral.model.by_kernel import layers_for_kernel, sizes_of
from voxtral.model.kernels.cpu.whole import FlowInputs, run_flow
from voxtral.model.kernels.flow import attend_between_tokens, enter_layers, guided_step
from voxtral.model.layers import last
from voxtral.model.linear import QuantizedLinear, product
from voxtral.model.linear_weights import ROWS_PER_BLOCK


@dataclass(frozen=True, eq=False)
class FoldedFlow:
    """A `Flow`; build it with `FoldedFlow.build` after the weights have their device, dtype and quantisation.

    Float32 whatever the dtype of the weights, as the state is: the table is small.
    """

    acoustic: AcousticTransformer
    state_table: Tensor  # [D + W, A] float32; W = (H + 2 Hkv) * Dh
    projection_biases: Tensor  # [W], what the first layer's projections make of a zero token

    @classmethod
    @torch.no_grad()
    def build(cls, acoustic: AcousticTransformer) -> FoldedFlow:
        """Multiply the first layer's projections with its norm weight and the input projection."""
        first = cast(AcousticLayer, acoustic.layers[0])
        enter = dense_weight(acoustic.input_projection).float()  # [D, A]
        normed = first.attention_norm.weight.float()[:, None] * enter
        # In blocks: what is left of a GPU's memory beside the weights may be less than one matrix in float32.
        projections = [rows @ normed for part in first.attention.projections for rows in dense_blocks(part)]
        zero_token = enter.new_zeros(1, 1, enter.shape[0], dtype=first.attention_norm.weight.dtype)
        return cls(
            acoustic=acoustic,
            state_table=torch.cat((enter, *projections)),
            projection_biases=torch.cat(first.attention.project(zero_token), dim=-1)[0, 0],
        )

    def flow_states(
        self, hidden: Tensor, noise: Tensor, guidance_scale: Tensor, schedule: FlowSchedule
    ) -> Iterator[Tensor]:
        """Integrate the guided flow; arguments and results as in `AcousticTransformer.flow_states`."""
        llm_token = self.acoustic.llm_projection(hidden)
        llm_tokens = torch.cat((llm_token, torch.zeros_like(llm_token)))
        llm_projected, time_projected = self._project_fixed(llm_token, schedule.time_tokens)
        state = noise.float()
        for number, step in enumerate(schedule.steps):
            yield state
            entered = F.linear(state, self.state_table)
            time = (schedule.time_tokens[number], time_projected[number])
            tokens, projected = enter_layers(
                entered, self.projection_biases, time, (llm_tokens, llm_projected), self.acoustic.config.norm_eps
            )
            velocities = self._velocity(tokens, projected)
            state = guided_step(state, velocities, guidance_scale, step)
        yield state

    def end_state(self, hidden: Tensor, noise: Tensor, guidance_scale: Tensor, schedule: FlowSchedule) -> Tensor:
        """See Flow; in one call of our own C where it multiplies all matrices of the layers."""
        acoustic = self.acoustic
        sizes = sizes_of(acoustic.config)
        layers, num_bytes = layers_for_kernel(acoustic.layers, sizes) if hidden.device.type == "cpu" else (None, None)
        if layers is None or num_bytes is None:
            return last(self.flow_states(hidden, noise, guidance_scale, schedule))
        llm_token = acoustic.llm_projection(hidden)
        llm_projected, time_projected = self._project_fixed(llm_token, schedule.time_tokens)
        inputs = FlowInputs(
            state_table=self.state_table,
            biases=self.projection_biases.float(),
            time_tokens=schedule.time_tokens.float().contiguous(),
            time_projected=time_projected.float().contiguous(),
            llm_tokens=torch.cat((llm_token, torch.zeros_like(llm_token))).float(),
            llm_projected=llm_projected.float().contiguous(),
            output=dense_weight(acoustic.acoustic_codebook_output).float().contiguous(),
            step_sizes=schedule.steps.contiguous(),
            guidance=guidance_scale.float().contiguous(),
        )
        return run_flow(layers, sizes, acoustic.norm.weight, noise, inputs, num_bytes)

    def _project_fixed(self, llm_token: Tensor, time_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Project what no step changes: [B, D] and [n, D] to [2 B, W] and [n, W]."""
        first = cast(AcousticLayer, self.acoustic.layers[0])
        # In one product, so that the weights are read once.
        tokens = first.attention_norm(torch.cat((llm_token, time_tokens)))[:, None]
        projected = torch.cat(first.attention.project(tokens), dim=-1)[:, 0]
        num_rows = llm_token.shape[0]
        zero_rows = self.projection_biases.expand(num_rows, -1)
        return torch.cat((projected[:num_rows], zero_rows)), projected[num_rows:]

    def _velocity(self, tokens: Tensor, projected: Tensor) -> Tensor:
        """Run the layers on [2 B, 3, D], given the projections [2 B, 3, W] of the first: [2 B, A]."""
        config = self.acoustic.config
        query_width, key_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        layers = cast("list[AcousticLayer]", self.acoustic.layers)
        final = config.num_layers - 1
        x = tokens
        for number, layer in enumerate(layers):
            # Of the last layer only the state token is read.
            num_queries = 1 if number == final else None
            if number == 0:
                query, key, value = projected.split((query_width, key_width, key_width), dim=-1)
                query = query[:, :num_queries]
            else:
                query, key, value = layer.attention.project(x, num_queries=num_queries, norm=layer.attention_norm)
            mixed = attend_between_tokens(query, key, value, config.head_dim)
            x = product(layer.attention.wo, mixed, residual=x[:, :num_queries])
            x = layer.feed_forward.add_to(x, layer.ffn_norm)
        return product(self.acoustic.acoustic_codebook_output, x[:, 0], norm=self.acoustic.norm.parts)


def dense_weight(linear: nn.Module) -> Tensor:
    """Give the matrix [N, K] of a linear module, dequantised where it is quantised."""
    return linear.dense_weight() if isinstance(linear, QuantizedLinear) else cast(nn.Linear, linear).weight


def dense_blocks(linear: nn.Module) -> Iterator[Tensor]:
    """Give the matrix in float32, some rows at a time: [n, K] each."""
    if isinstance(linear, QuantizedLinear):
        yield from linear.dense_blocks()
    else:
        yield from (rows.float() for rows in cast(nn.Linear, linear).weight.split(ROWS_PER_BLOCK))
