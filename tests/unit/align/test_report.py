"""Checks as a table and as plain values: the worst verdict counts, and each finding names its phrase."""

from __future__ import annotations

import json

from voxtral.align.report import check_report, check_table, worst_verdict
from voxtral.types import Finding, SegmentCheck, WordTime

TEXT = "One two\nthree."
TIMES = (WordTime(0, 3, 0.0, 0.4, 0.9), WordTime(4, 7, 0.4, 0.8, 0.8), WordTime(8, 14, 0.8, 0.8, 0.0))
GOOD = SegmentCheck("ok", 0.3, (), 1)
BAD = SegmentCheck("bad", 20.5, (Finding("skipped", 4, 14, 0.4, 0.8, 2.25),), 2)


def test_the_worst_verdict_counts() -> None:
    assert worst_verdict([GOOD, BAD]) == "bad"
    assert worst_verdict([GOOD, SegmentCheck("unchecked", 0.0, (), 1)]) == "ok"
    assert worst_verdict([]) == "unchecked"


def test_the_table_marks_words_and_names_the_phrase_on_one_line() -> None:
    lines = check_table(TEXT, TIMES, [BAD]).split("\n")
    assert len(lines) == 1 + 3 + 1 + 1
    assert [line.endswith("<- skipped") for line in lines[1:4]] == [False, True, True]
    assert '"two three."' in lines[4]
    assert lines[-1].startswith("verdict: bad")


def test_the_report_is_json_with_phrases() -> None:
    report = json.loads(json.dumps(check_report(TEXT, TIMES, [GOOD, BAD])))
    assert report["verdict"] == "bad"
    assert report["segments"][1]["findings"][0]["phrase"] == "two\nthree."
    assert report["segments"][1]["attempts"] == 2
    assert [word["word"] for word in report["words"]] == ["One", "two", "three."]
