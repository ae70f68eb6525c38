"""The benchmark over HTTP runs from one end to the other, against a server of its own; no time is asserted."""

from __future__ import annotations

import json

import pytest

from benchmarks import http
from benchmarks.http import lowest_lead_s
from checkpoints import BRIEF
from voxtral.bench import StreamTiming, count_underruns


@pytest.mark.slow  # three seconds; the short form of a benchmark, for make soak
def test_the_server_is_timed_as_a_client_hears_it(capsys: pytest.CaptureFixture[str]) -> None:
    http.main(["--short", "--model", str(BRIEF), "--device", "cpu"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["is_complete"]
    first = [cell for cell in report["cells"] if cell["what"] == "first audio"]
    ways = [(cell["format"], cell["stream_format"]) for cell in first]
    assert ways == [("wav", "audio"), ("mp3", "audio"), ("pcm", "audio"), ("mp3", "sse")]
    for cell in first:
        assert 0 < cell["first_bytes_ms"]["low"] <= cell["first_audio_ms"]["low"]
    streams = [cell for cell in report["cells"] if cell["what"] == "streams"]
    assert [(cell["streams"], cell["heard"]) for cell in streams] == [(1, 1), (2, 2)]
    assert all(cell["audio_s_per_s"] > 0 for cell in streams)


@pytest.mark.parametrize("late_s", [-0.2, 0.2])
def test_a_player_ran_dry_where_its_lead_was_below_nothing(late_s: float) -> None:
    arrivals = ((1.0, 100), (1.5, 100), (3.0 + late_s, 100), (3.5, 100))
    timing = StreamTiming(0.0, arrivals)
    assert lowest_lead_s(timing, 100) == pytest.approx(-late_s)
    assert count_underruns(timing, 100).count == (late_s > 0)
