"""Sequences of phoneme numbers: edit distance to many at once, alignment; and n-grams of words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_PADDING = -1
MAX_ERROR_RATE = 1.5


@dataclass(frozen=True, eq=False)
class Candidates:
    """Sequences side by side, so that one pass finds the distance to all of them."""

    matrix: np.ndarray  # [N, M] int32, padded behind the end
    lengths: np.ndarray  # [N] int64


def pad_candidates(sequences: Sequence[Sequence[int]]) -> Candidates:
    """Put sequences side by side."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    matrix = np.full((len(sequences), int(lengths.max(initial=0))), _PADDING, np.int32)
    for row, sequence in enumerate(sequences):
        matrix[row, : len(sequence)] = sequence
    return Candidates(matrix, lengths)


def edit_distances(hypothesis: Sequence[int], candidates: Candidates) -> np.ndarray:
    """Count the insertions, deletions and substitutions that turn a sequence into each candidate: [N] int64.

    >>> edit_distances([1, 2, 3], pad_candidates([[1, 2, 3], [1, 3], [], [4, 5, 6, 7]])).tolist()
    [0, 1, 3, 4]
    """
    rows, width = candidates.matrix.shape
    columns = np.arange(width + 1, dtype=np.int32)
    distances = np.tile(columns, (rows, 1))
    for position, symbol in enumerate(hypothesis, start=1):
        best = np.empty_like(distances)
        best[:, 0] = position
        substituted = distances[:, :-1] + (candidates.matrix != symbol)
        best[:, 1:] = np.minimum(substituted, distances[:, 1:] + 1)
        # Steps along the row cost one for each column: a running minimum once that slope is taken out.
        distances = np.minimum.accumulate(best - columns, axis=1) + columns
    return distances[np.arange(rows), candidates.lengths].astype(np.int64)


def edit_distance(first: Sequence[int], second: Sequence[int]) -> int:
    """Count the insertions, deletions and substitutions between two sequences."""
    return int(edit_distances(first, pad_candidates([second]))[0])


def error_rate(hypothesis: Sequence[int], reference: Sequence[int]) -> float:
    """Divide the edit distance by the length of the reference, 1.5 at most, so that no utterance rules a mean."""
    return min(MAX_ERROR_RATE, edit_distance(hypothesis, reference) / max(1, len(reference)))


def is_retrieved(hypothesis: Sequence[int], reference: Sequence[int], distractors: Candidates) -> bool:
    """Tell whether the right sentence is strictly nearer than every distractor."""
    if not len(distractors.lengths):
        return True
    return edit_distance(hypothesis, reference) < int(edit_distances(hypothesis, distractors).min())


def cut_by_alignment(hypothesis: Sequence[int], references: Sequence[Sequence[int]]) -> list[list[int]]:
    """Cut what was heard into the pieces that best fit consecutive references.

    The whole of both is aligned by edit distance; what was inserted between two references goes to the later.

    >>> cut_by_alignment([1, 2, 9, 4], [[1, 2, 3], [4]])
    [[1, 2, 9], [4]]
    """
    reference = np.array([symbol for piece in references for symbol in piece], np.int32)
    columns = np.arange(len(reference) + 1, dtype=np.int32)
    table = np.empty((len(hypothesis) + 1, len(reference) + 1), np.int32)
    table[0] = columns
    for position, symbol in enumerate(hypothesis, start=1):
        best = np.empty_like(columns)
        best[0] = position
        best[1:] = np.minimum(table[position - 1, :-1] + (reference != symbol), table[position - 1, 1:] + 1)
        table[position] = np.minimum.accumulate(best - columns) + columns
    arrivals = _first_arrivals(table, hypothesis, reference)
    bounds = np.concatenate(([0], np.cumsum([len(piece) for piece in references]))).astype(int)
    cuts = [0, *(int(arrivals[bound]) for bound in bounds[1:-1]), len(hypothesis)]
    return [list(hypothesis[start:stop]) for start, stop in pairwise(cuts)]


def _first_arrivals(table: np.ndarray, hypothesis: Sequence[int], reference: np.ndarray) -> np.ndarray:
    """Follow the best path back; for each column, how much of the hypothesis it had used when it got there."""
    row, column = len(hypothesis), len(reference)
    arrivals = np.zeros(column + 1, int)
    arrivals[column] = row
    while row or column:
        here = table[row, column]
        is_pair = row and column and here == table[row - 1, column - 1] + (reference[column - 1] != hypothesis[row - 1])
        is_missing = column and here == table[row, column - 1] + 1
        if is_pair:
            row, column = row - 1, column - 1
        elif is_missing:
            column -= 1
        else:
            row -= 1
        arrivals[column] = row
    return arrivals


def words(text: str) -> tuple[str, ...]:
    """Split at spaces, without case, punctuation and symbols.

    >>> words("The cat, it's HERE!")
    ('the', 'cat', 'its', 'here')
    """
    kept = (" " if char.isspace() else char for char in text.casefold())
    return tuple("".join(char for char in kept if unicodedata.category(char)[0] not in "PSC").split())


@dataclass(frozen=True)
class Overlap:
    """How much of the test sentences occurs in training texts."""

    shares: dict[int, float | None]  # of the n-grams of n words that were seen; None: there are none
    num_sentences_seen: int
    num_sentences: int


def overlap(tested: Sequence[str], trained: Iterable[str], sizes: Sequence[int] = (1, 2, 3, 4)) -> Overlap:
    """Count the n-grams of the tested sentences, and the whole sentences, that occur in the training texts.

    Whole sentences are compared without spaces, since Japanese is trained with and without them.
    """
    wanted = {size: [gram for text in tested for gram in _ngrams(words(text), size)] for size in sizes}
    missing = {size: set(grams) for size, grams in wanted.items()}
    sentences = {"".join(words(text)) for text in tested}
    unseen = set(sentences)
    for text in trained:
        split = words(text)
        unseen.discard("".join(split))
        for size in sizes:
            missing[size].difference_update(_ngrams(split, size))
    shares = {
        size: (sum(gram not in missing[size] for gram in grams) / len(grams) if grams else None)
        for size, grams in wanted.items()
    }
    return Overlap(shares, len(sentences) - len(unseen), len(sentences))


def _ngrams(split: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return [split[start : start + size] for start in range(len(split) - size + 1)]
