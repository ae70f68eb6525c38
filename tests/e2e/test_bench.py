"""`voxtral bench` as its users know it, on the tiny model; its times are never asserted."""

from __future__ import annotations

import json

import pytest

from checkpoints import BRIEF
from voxtral.cli.main import run

QUICK = ("bench", "--model", str(BRIEF), "--device", "cpu", "--seconds", "0.4", "--rounds", "2")


def test_json_has_one_stream_several_memory_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--streams", "3", "--price-per-hour", "2", "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert "round 2 of 2, 3 streams" in captured.err
    assert [one["streams"] for one in report["streams"]] == [1, 3]
    assert report["seconds_of_each_stream"] == pytest.approx(0.4)
    best = max(one["chars_per_s"] for one in report["streams"])
    assert best == pytest.approx(12.5 * max(one["audio_s_per_s"] for one in report["streams"]), rel=1e-3)
    assert report["cost"]["per_million_chars"] == pytest.approx(2 / 3600 / best * 1e6, rel=1e-3)


def test_the_table_says_what_ran_where(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--streams", "1", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith(f"{BRIEF} on cpu, float32\nmachine ")
    assert "1 stream     RTF " in captured.out
    assert "per million" not in captured.out


@pytest.mark.parametrize(
    ("option", "value"),
    [("--streams", "0"), ("--seconds", "nan"), ("--rounds", "-1"), ("--price-per-hour", "-2")],
)
def test_bad_numbers_are_refused_before_a_model_is_loaded(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--model", "no-such-model", option, value]) == 1
    assert f"error: {option} is " in capsys.readouterr().err


def test_more_streams_than_the_engine_computes_at_once_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--streams", "17", "--seconds", "0.08", "--rounds", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert "17 streams: the engine computes 16 side by side, the others wait" in captured.err
    assert json.loads(captured.out)["streams"][1]["ttfa_ms"]["count"] == 17
