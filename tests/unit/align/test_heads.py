"""Heads are judged by their own ways, all at once as one by one, and chosen by score and place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.align.heads import HeadFigures, HeadJudge, choose_heads, find_paths
from voxtral.align.path import find_path


@given(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_many_ways_are_the_single_ones(heads: int, frames: int, tokens: int, max_step: int, seed: int) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.full(tokens, 0.3), (heads, frames)).astype(np.float32)
    paths = find_paths(weights, max_step)
    for of_head, path in zip(weights, paths, strict=True):
        assert path.tolist() == find_path(of_head, max_step).tolist()


def test_a_head_that_follows_scores_more_than_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    follows = np.eye(30, dtype=np.float32) * 0.99 + 0.01 / 30
    wanders = rng.dirichlet(np.full(30, 0.3), 30).astype(np.float32)
    stays = np.zeros((30, 30), dtype=np.float32)
    stays[:, 3] = 1
    judge = HeadJudge(6)
    judge.add({(0, 0): wanders, (0, 1): follows, (1, 0): stays})
    figures = judge.figures()
    assert next(iter(figures)) == (0, 1)
    assert figures[0, 1].score == pytest.approx(0.99, abs=0.01)
    assert figures[0, 1].pace == pytest.approx(1, abs=0.05)
    assert figures[1, 0].score < 0.05
    assert figures[0, 0].score < 0.5
    assert choose_heads(figures) == ((0, 1),)


@pytest.mark.parametrize(
    ("heads", "without", "chosen"),
    [
        ({}, (), ()),
        ({(0, 0): (0.59, 20)}, (), ()),
        ({(0, 0): (0.95, 20), (1, 0): (0.9, 20.4), (2, 0): (0.94, 25)}, (), ((0, 0), (1, 0))),
        ({(0, 0): (0.95, 20), (1, 0): (0.9, 20.4)}, ((0, 0),), ((1, 0),)),
        ({(0, 0): (0.95, 20), (1, 0): (0.84, 20.4)}, (), ((0, 0),)),
        ({(0, 0): (0.95, 21), (1, 0): (0.92, 20)}, (), ((1, 0),)),
    ],
    ids=["none", "too weak", "the two latest", "masked", "second too weak", "second reads ahead"],
)
def test_choice(
    heads: dict[tuple[int, int], tuple[float, float]],
    without: tuple[tuple[int, int], ...],
    chosen: tuple[tuple[int, int], ...],
) -> None:
    figures = {head: HeadFigures(score, position, pace=1.2) for head, (score, position) in heads.items()}
    assert choose_heads(figures, without) == chosen
