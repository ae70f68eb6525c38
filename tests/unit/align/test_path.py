"""The way through a text is the best there is, frame by frame and at the end, and what is final stays."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.align.path import MonotonePath, find_path


def _weights(draw: st.DrawFn, num_frames: int, num_tokens: int) -> np.ndarray:
    seed = draw(st.integers(0, 2**32 - 1))
    rows = np.random.default_rng(seed).gamma(0.3, size=(num_frames, num_tokens)) + 1e-6
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Give weights [T, n] and the tokens that a frame may go on by."""
    num_frames, num_tokens = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    return _weights(draw, num_frames, num_tokens), draw(st.integers(1, 4))


def _value(weights: np.ndarray, path: tuple[int, ...]) -> float:
    """Score a way by the rule itself."""
    gains = sum(np.log(row[token] + 1e-3) for row, token in zip(weights, path, strict=True))
    return gains - 0.7 * path[0] - 0.7 * (weights.shape[1] - 1 - path[-1])


@given(cases())
def test_the_path_is_the_best_of_all_there_are(case: tuple[np.ndarray, int]) -> None:
    weights, max_step = case
    num_frames, num_tokens = weights.shape
    allowed = (
        path
        for path in itertools.product(range(num_tokens), repeat=num_frames)
        if all(0 <= later - earlier <= max_step for earlier, later in itertools.pairwise(path))
    )
    best = max(_value(weights, path) for path in allowed)
    found = tuple(int(token) for token in find_path(weights, max_step))
    assert all(0 <= later - earlier <= max_step for earlier, later in itertools.pairwise(found))
    assert _value(weights, found) == pytest.approx(best)


def test_a_sharp_diagonal_is_followed_and_soon_final() -> None:
    weights = np.full((40, 40), 0.01 / 39, dtype=np.float32)
    np.fill_diagonal(weights, 0.99)
    path = MonotonePath(40, 6)
    for row in weights:
        path.add(row)
        assert path.token == path.num_frames - 1
    assert path.trace().tolist() == list(range(40))
    assert path.num_final() >= 38


def test_what_is_final_is_part_of_the_whole_way() -> None:
    rng = np.random.default_rng(5)
    weights = np.full((60, 50), 0.002, dtype=np.float32)
    for frame, place in enumerate(np.sort(rng.uniform(0, 50, 60))):
        weights[frame] += np.exp(-((np.arange(50) - place) ** 2))
    weights /= weights.sum(axis=1, keepdims=True)
    path = MonotonePath(50, 6)
    early: list[np.ndarray] = []
    for row in weights:
        path.add(row)
        early.append(path.trace_final())
    whole = path.trace()
    assert len(early[-1]) > 45
    assert [len(part) for part in early] == sorted(len(part) for part in early)
    for part in early:
        assert (part == whole[: len(part)]).all()


@given(seed=st.integers(0, 10_000), num_tokens=st.integers(1, 20), sharpness=st.sampled_from([0.0, 2.0, 8.0]))
def test_where_the_outermost_ways_have_met_all_have(seed: int, num_tokens: int, sharpness: float) -> None:
    rng = np.random.default_rng(seed)
    path = MonotonePath(num_tokens, 3)
    given_out: list[int] = []
    for _ in range(12):
        row = np.exp(sharpness * rng.normal(size=num_tokens)).astype(np.float32)  # sharpness 0: all are alike
        path.add(row / row.sum())
        ways = np.flatnonzero(path._scores >= path._scores.max() - 8.0)
        num_final = path.num_frames
        while num_final and len(ways) > 1:
            num_final -= 1
            ways = np.unique(path._sources[num_final][ways])
        assert path.num_final() == num_final
        given_out += path.trace_final(len(given_out)).tolist()
        assert path.trace_final().tolist()[len(given_out) :] == []
        assert len(given_out) >= num_final


@given(seed=st.integers(0, 10_000), num_tokens=st.integers(1, 20))
def test_where_scores_are_kept_an_earlier_frame_says_what_it_said(seed: int, num_tokens: int) -> None:
    rng = np.random.default_rng(seed)
    path = MonotonePath(num_tokens, 3, keeps_scores=True)
    said: list[tuple[list[int], int, list[int]]] = []
    for frame in range(8):
        path.add(rng.dirichlet(np.full(num_tokens, 0.2)).astype(np.float32))
        said.append((path.trace().tolist(), path.num_final(), path.trace_final(frame // 2).tolist()))
    for frame, (trace, num_final, final) in enumerate(said):
        assert path.trace(frame + 1).tolist() == trace
        assert path.num_final(frame + 1) == num_final
        assert path.trace_final(frame // 2, frame + 1).tolist() == final


def test_what_was_not_kept_cannot_be_asked_for() -> None:
    path = MonotonePath(3, 2)
    for _ in range(2):
        path.add(np.full(3, 1 / 3, dtype=np.float32))
    with pytest.raises(AssertionError, match="1 of 2 frames, and no scores were kept"):
        path.trace(1)


def test_nothing_added_is_no_path() -> None:
    assert len(MonotonePath(3, 2).trace()) == 0
    assert MonotonePath(3, 2).num_final() == 0
