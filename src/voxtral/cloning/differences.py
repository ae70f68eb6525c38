"""Which differences mean something: paired over voices, for it is voices that others will be unlike. No torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

# Of a normal distribution: a difference beyond it comes about by chance once in twenty.
_NORMAL = 1.959964


@dataclass(frozen=True)
class Difference:
    """How one row differs from another.

    Attributes:
        mean: of the differences of the voices.
        least: what it must exceed to mean something; infinity for fewer than two voices.
    """

    mean: float
    least: float

    @property
    def tells(self) -> bool:
        """Whether it means something."""
        return abs(self.mean) > self.least


# For each voice its values, in the order of the sentences.
Values = Mapping[str, Sequence[float]]


def compare(first: Values, second: Values) -> Difference:
    """Compare two rows on the voices that both have, sentence by sentence.

    The least difference is the half-width of the 95 % interval of Student's t over the means of the voices: sentences
    of one voice are not independent of each other, voices are.

    >>> near = compare({"a": [0.1, 0.3], "b": [0.2, 0.2]}, {"a": [0.1, 0.2], "b": [0.2, 0.2]})
    >>> round(near.mean, 3), near.tells
    (0.025, False)
    """
    voices = [voice for voice in first if voice in second]
    means = [fmean(one - other for one, other in zip(first[voice], second[voice], strict=True)) for voice in voices]
    if len(means) < 2:
        return Difference(fmean(means) if means else 0.0, math.inf)
    return Difference(fmean(means), student_t(len(means) - 1) * stdev(means) / math.sqrt(len(means)))


def least_difference(rows: Mapping[str, Values]) -> float | None:
    """Give what a difference of two rows must be to mean something, as the median over all pairs; None without any."""
    pairs = [compare(first, second) for first, second in itertools.combinations(rows.values(), 2)]
    finite = [pair.least for pair in pairs if math.isfinite(pair.least)]
    return median(finite) if finite else None


def not_told_from(base: str, rows: Mapping[str, Values]) -> list[str]:
    """Name the rows that cannot be told from one of them."""
    return [name for name, values in rows.items() if name != base and not compare(values, rows[base]).tells]


def student_t(freedom: int) -> float:
    """Give the two-sided 95 % quantile of Student's t, to 1 % from three degrees of freedom on.

    Source: the expansion of Cornish and Fisher in 1 / freedom (Abramowitz and Stegun, 26.7.5).

    >>> [round(student_t(freedom), 2) for freedom in (3, 6, 19)]
    [3.16, 2.45, 2.09]
    """
    if freedom < 3:
        return {1: 12.706, 2: 4.303}[freedom]
    z = _NORMAL
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))
