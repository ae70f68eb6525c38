"""What reading costs is measured on texts that hold what they are named for, the same each time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import normalize
from benchmarks.dense_texts import KINDS, LANGUAGES, text_of
from voxtral.text.normalize import read


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_the_same_each_time_and_say_what_rules_read(language: str) -> None:
    text = text_of("dense", language, 800)
    assert text == text_of("dense", language, 800)
    assert text != text_of("dense", language, 800, seed=1)
    kinds = {change.kind for change in read(text, language).claimed}
    assert {"url", "email", "phone", "measure"} <= kinds
    assert all(len(text_of(kind, language, 50)) == 50 for kind in KINDS)


def test_both_sides_read_the_same_texts_in_turn(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    words = ["--against", str(normalize.ROOT), "--language", "en", "--kind", "times", "--length", "300"]
    normalize.main([*words, "--rounds", "2", "--json", str(target)])
    [cell] = json.loads(target.read_text())["cells"]
    assert cell["language"] == "en"
    assert cell["kind"] == "times"
    assert cell["this_s_per_million"] > 0
    assert 0.1 < cell["ratio"] < 10
