"""Schemes: what stands in a file is what the fitted weight holds."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from voxtral.config import Precision
from voxtral.loading.header import DTYPES
from voxtral.quantization.schemes import SCHEMES


def test_every_precision_has_a_scheme_whose_numbers_bear_its_name() -> None:
    assert list(SCHEMES) == list(get_args(Precision))
    assert all(next(iter(scheme.parts)) == name for name, scheme in SCHEMES.items())


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_parts_of_a_weight_are_those_of_the_file(precision: Precision) -> None:
    scheme = SCHEMES[precision]
    matrix = torch.randn(6, 96, generator=torch.Generator().manual_seed(0))
    weight = scheme.fit(matrix, 32)
    stored = [(DTYPES[part.dtype], part.shape(6, 96, 32)) for part in scheme.parts.values()]
    assert [(part.dtype, tuple(part.shape)) for part in weight.parts] == stored
    assert weight.shape == (6, 96)
    assert torch.equal(scheme.weight(*weight.parts).dense(), weight.dense())


@pytest.mark.parametrize("precision", get_args(Precision))
def test_groups_count_where_they_are_said_to(precision: Precision) -> None:
    scheme = SCHEMES[precision]
    matrix = torch.randn(4, 128, generator=torch.Generator().manual_seed(0))
    first, second = (scheme.fit(matrix, group_size).dense() for group_size in (32, 64))
    assert torch.equal(first, second) is not scheme.is_grouped
