"""The house itself: files of one idea, and a facade that stays one."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "voxtral"

_MAX_LINES = 500
_MAX_FACADE_LINES = 300


def test_a_long_file_says_why_it_is_one_idea() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > _MAX_LINES:
            assert "one idea" in (ast.get_docstring(ast.parse(text)) or ""), f"{path.name} is long and does not say why"


def test_the_facade_stays_a_facade() -> None:
    tree = ast.parse((SOURCE / "tts.py").read_text(encoding="utf-8"))
    (facade,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "VoxtralTTS")
    assert facade.end_lineno is not None
    assert facade.end_lineno - facade.lineno < _MAX_FACADE_LINES
