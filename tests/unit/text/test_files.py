"""Texts in files: what has no end is refused, by a file, by a device, by standard input."""

from __future__ import annotations

from pathlib import Path

import pytest

from voxtral.errors import TextError
from voxtral.text import files
from voxtral.text.files import read_text


def test_a_text_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 1000)
    (tmp_path / "whole.txt").write_text("x" * 1000)
    (tmp_path / "long.txt").write_text("x" * 1001)
    assert len(read_text(tmp_path / "whole.txt")) == 1000
    for path in (tmp_path / "long.txt", Path("/dev/zero")):
        with pytest.raises(TextError, match="more than 1000 bytes"):
            read_text(path)
