"""The backbone agrees with itself: pieces equal the whole, and rows do not see each other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golden.judge import PagedSequence
from voxtral.engine.kv_cache import Span, SpanMemory, make_pages
from voxtral.model.voxtral import VoxtralModel

# float32 and a few dozen additions: pieces and whole differ by the order of reduction only.
TOLERANCE = 2e-5


def hidden_states(model: VoxtralModel, embeds: torch.Tensor, cuts: list[int]) -> torch.Tensor:
    sequence = PagedSequence(model, embeds.shape[0])
    with torch.inference_mode():
        return torch.cat([sequence.extend(part) for part in embeds.split(cuts)])


@pytest.fixture(scope="module")
def embeds(tiny_model: VoxtralModel) -> torch.Tensor:
    return tiny_model.embed_text(torch.arange(1000, 1040))


def test_prefill_then_one_step_equals_prefill_of_all(tiny_model: VoxtralModel, embeds: torch.Tensor) -> None:
    whole = hidden_states(tiny_model, embeds, [40])
    stepped = hidden_states(tiny_model, embeds, [39, 1])
    assert torch.allclose(whole, stepped, atol=TOLERANCE, rtol=0)


@given(data=st.data())
def test_chunked_prefill_equals_whole(tiny_model: VoxtralModel, embeds: torch.Tensor, data: st.DataObject) -> None:
    cuts: list[int] = []
    while (left := 40 - sum(cuts)) > 0:
        cuts.append(data.draw(st.integers(1, left)))
    assert torch.allclose(
        hidden_states(tiny_model, embeds, [40]), hidden_states(tiny_model, embeds, cuts), atol=TOLERANCE, rtol=0
    )


def test_a_later_position_does_not_change_an_earlier_one(tiny_model: VoxtralModel, embeds: torch.Tensor) -> None:
    changed = embeds.clone()
    changed[25] += 1
    before, after = (hidden_states(tiny_model, x, [40]) for x in (embeds, changed))
    assert torch.equal(before[:25], after[:25])
    assert not torch.allclose(before[25:], after[25:], atol=1e-2)


def test_rows_do_not_see_their_neighbours(tiny_model: VoxtralModel, embeds: torch.Tensor) -> None:
    def first_row(neighbour: torch.Tensor) -> torch.Tensor:
        batch = torch.cat((embeds, neighbour))
        pages = make_pages(tiny_model.config.backbone, 2, 40, device=batch.device, dtype=batch.dtype)
        spans = [Span(40 * row, 40 * row + 40, torch.tensor([row]), 40) for row in (0, 1)]
        memory = SpanMemory(pages, torch.arange(80), spans)
        with torch.inference_mode():
            return tiny_model.backbone.extend(batch, torch.arange(40).repeat(2), memory)[:40]

    assert torch.equal(first_row(embeds.flip(0)), first_row(embeds * 3))
