"""Paths: closed once, with one warning, and for good."""

from __future__ import annotations

import pytest

from voxtral.engine.paths import PATHS, Paths


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_closed_once_and_one_line_says_so(path: str, caplog: pytest.LogCaptureFixture) -> None:
    paths = Paths("NVIDIA L4")
    assert paths.is_open(path)
    for reason in ("it broke", "it broke again"):
        paths.close(path, reason)
    assert not paths.is_open(path)
    assert paths.closed == {path: "it broke"}
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("voxtral: ")
    assert "off on NVIDIA L4 (it broke);" in line
    assert 'run "voxtral doctor" and report its last block' in line
    assert "\n" not in line
    assert all(paths.is_open(other) for other in PATHS if other != path)


def test_what_is_closed_from_the_start_warns_nobody(caplog: pytest.LogCaptureFixture) -> None:
    paths = Paths("here", {"graphs": "as found before"})
    paths.close("graphs", "again")
    assert paths.closed == {"graphs": "as found before"}
    assert not caplog.records
