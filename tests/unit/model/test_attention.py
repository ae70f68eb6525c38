"""Attention: who sees whom, which head reads which, and the scale."""

from __future__ import annotations

import math

import pytest
import torch

from voxtral.model.attention import attend, causal_mask


def heads(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def attend_slowly(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Head by head and query by query, in float64."""
    per_key_head = query.shape[1] // key.shape[1]
    rows = []
    for head in range(query.shape[1]):
        q, k, v = (
            query[0, head].double(),
            key[0, head // per_key_head].double(),
            value[0, head // per_key_head].double(),
        )
        scores = q @ k.T / math.sqrt(q.shape[-1]) + bias
        rows.append(scores.softmax(dim=-1) @ v)
    return torch.cat(rows, dim=-1)[None]


@pytest.mark.parametrize("num_key_heads", [1, 2, 3, 6])
def test_key_heads_serve_neighbours(num_key_heads: int) -> None:
    query, key, value = heads(1, 6, 4, 8), heads(1, num_key_heads, 5, 8, seed=1), heads(1, num_key_heads, 5, 8, seed=2)
    expected = attend_slowly(query, key, value, torch.zeros(4, 5, dtype=torch.float64))
    torch.testing.assert_close(attend(query, key, value).double(), expected, atol=1e-5, rtol=0)


def test_causal_and_masked_attention_agree() -> None:
    query, key, value = heads(1, 4, 7, 8), heads(1, 2, 7, 8, seed=1), heads(1, 2, 7, 8, seed=2)
    bias = torch.zeros(7, 7, dtype=torch.float64).masked_fill(torch.ones(7, 7).triu(1).bool(), -math.inf)
    expected = attend_slowly(query, key, value, bias)
    for output in (
        attend(query, key, value, is_causal=True),
        attend(query, key, value, mask=causal_mask(7, 7, query.device)),
        attend(query, key, value, mask=bias.float()),
    ):
        torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=0)


def test_the_last_positions_see_themselves_and_all_before() -> None:
    for num_queries, num_keys in ((1, 1), (1, 5), (2, 5), (5, 5)):
        mask = causal_mask(num_queries, num_keys, torch.device("cpu"))
        first = num_keys - num_queries
        assert mask.tolist() == [[key <= first + query for key in range(num_keys)] for query in range(num_queries)]
