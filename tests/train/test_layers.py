"""Training runs on the lower layers of the runtime alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "train"
FILES = sorted(FOLDER.glob("*.py"))
# What speaks, and who calls it: nothing to train with.
FORBIDDEN = (
    "voxtral.engine",
    "voxtral.tts",
    "voxtral.speech",
    "voxtral.cli",
    "voxtral.doctor",
    "voxtral.loading.hub",
)


def imported_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stage_imports_no_engine(path: Path) -> None:
    names = list(imported_names(path))
    assert not [name for name in names if f"{name}.".startswith(tuple(f"{module}." for module in FORBIDDEN))]
    # `from voxtral import VoxtralTTS` would be another way in.
    assert not [name for name in names if name.startswith("voxtral.") and name.count(".") == 1 and name[8].isupper()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_stage_imports_no_benchmark_and_no_test(path: Path) -> None:
    assert not [name for name in imported_names(path) if name.split(".")[0] in ("benchmarks", "tests")]


def test_the_check_sees_what_it_is_for(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text("def f():\n    from voxtral.engine import engine\n    import voxtral.tts\n")
    assert list(imported_names(sample)) == ["voxtral.engine.engine", "voxtral.tts"]
    assert len(FILES) > 10
