"""The tree of exceptions, which documentation and programs rely on."""

from __future__ import annotations

import re

from voxtral import errors
from voxtral.errors import VoxtralError

KINDS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, VoxtralError)]


def test_the_tree_that_is_drawn_is_the_tree_that_is_there() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for branch, name in re.findall(r"^    ((?:[│ ]   )*[├└]── |)(\w+Error)\b", errors.__doc__ or "", re.MULTILINE):
        depth = len(branch) // 4
        path[depth:] = [name]
        drawn[name] = path[depth - 1] if depth else "Exception"
    assert drawn == {
        kind.__name__: next(base.__name__ for base in kind.__bases__ if issubclass(base, Exception)) for kind in KINDS
    }


def test_every_error_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
