"""The tree of exceptions: as it is drawn, with a code for each."""

from __future__ import annotations

import inspect

import pytest

from voxtral import errors
from voxtral.errors import CodeRangeError, JapaneseReaderMissingError, TokenizerMissingError, VoxtralError


def _classes() -> list[type[VoxtralError]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return [kind for _, kind in found if issubclass(kind, VoxtralError)]


def _drawn() -> dict[str, str]:
    """Read each class and its base from the drawing in the docstring."""
    bases: dict[str, str] = {}
    path: list[str] = []
    for line in inspect.getdoc(errors).splitlines():
        found = line.lstrip(" │├└─")
        name = found.split(" ")[0]
        if name.endswith("Error") and line.startswith("    "):
            depth = (len(line) - len(found) - 4) // 4
            path = [*path[:depth], name]
            bases[name] = path[depth - 1] if depth else ""
    return bases


def test_the_drawing_is_the_tree() -> None:
    assert _drawn() == {
        kind.__name__: "" if kind is VoxtralError else kind.__bases__[0].__name__ for kind in _classes()
    }


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in _classes()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (CodeRangeError, "code_out_of_range"),
        (JapaneseReaderMissingError, "japanese_reader_missing"),
        (TokenizerMissingError, "tokenizer_missing"),
    ],
)
def test_codes_stay(kind: type[VoxtralError], code: str) -> None:
    assert kind.code == code
