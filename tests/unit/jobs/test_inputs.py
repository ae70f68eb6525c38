"""Items of Python as entries, and what is told of the faults of many texts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from voxtral.errors import TextError
from voxtral.jobs.inputs import (
    Problem,
    Split,
    check_name,
    choose_split,
    describe_problems,
    list_entries,
    name_files,
    plan_files,
    read_entries,
)
from voxtral.speech.batch import item_seed
from voxtral.types import SpeechRequest


def test_items_are_called_what_they_say_or_by_their_place() -> None:
    entries, problems = list_entries(
        ["a", {"text": "b", "name": "own"}, SpeechRequest("c"), {"text": "d", "name": None}]
    )
    assert problems == []
    assert [entry.name for entry in entries] == ["part0001", "own", "part0003", "part0004"]
    assert [entry.where for entry in entries] == [f"item {index}" for index in range(4)]


def test_all_that_is_wrong_with_items_is_told_with_its_place() -> None:
    entries, problems = list_entries(["good", 5, {"voice": "a"}, {"text": "x", "name": 4}, {"text": "x", 3: "y"}])
    assert [entry.where for entry in entries] == ["item 0"]
    assert [problem.where for problem in problems] == ["item 1", "item 2", "item 3", "item 4"]
    assert ["a int" in problems[0].message, "missing" in problems[1].message] == [True, True]
    assert "name is 4" in problems[2].message
    assert "named by str" in problems[3].message


def test_a_whole_request_takes_a_seed_and_no_other_common_option() -> None:
    entries, _ = list_entries([SpeechRequest("a", speed=2.0), SpeechRequest("b", seed=3), "c"])
    (first, second, third), problems = plan_files(entries, {"voice": "v", "speed": 1.5}, 7, "wav")
    assert problems == []
    assert first.item.request == SpeechRequest("a", speed=2.0, seed=item_seed(7, "part0001"))
    assert second.item.request == SpeechRequest("b", seed=3)
    assert (third.item.request.voice, third.item.request.speed) == ("v", 1.5)
    assert [planned.file for planned in (first, second, third)] == ["part0001.wav", "part0002.wav", "part0003.wav"]


def test_a_name_that_is_taken_or_no_file_name_is_refused() -> None:
    entries, _ = list_entries(["a", {"text": "b", "name": "PART0001"}, {"text": "c", "name": "../up"}])
    _, problems = plan_files(entries, {}, 0, "wav")
    assert [problem.where for problem in problems] == ["item 1", "item 2"]
    assert "taken by item 0" in problems[0].message
    assert "holds '/'" in problems[1].message


@pytest.mark.parametrize("clip", [b"RIFF", bytearray(b"RIFF"), (np.zeros(8), 8000), None])
def test_a_clip_that_a_later_run_can_compare_is_taken(clip: Any) -> None:
    _, problems = plan_files(list_entries([{"text": "a", "reference_audio": clip}])[0], {}, 0, "wav")
    assert problems == []


def test_a_clip_that_is_not_there_or_read_once_is_refused(tmp_path: Path) -> None:
    given = [{"text": "a", "reference_audio": clip} for clip in (tmp_path / "no.wav", io.BytesIO(b"RIFF"), 3)]
    _, problems = plan_files(list_entries(given)[0], {}, 0, "wav")
    assert "does not exist" in problems[0].message
    assert "a BytesIO; it must be a path, bytes or (samples, rate)" in problems[1].message
    assert "a int" in problems[2].message


def test_values_of_the_wrong_kind_are_left_to_the_model() -> None:
    entries, _ = list_entries([SpeechRequest(5), SpeechRequest("a", language=5)])  # type: ignore[arg-type]
    planned, problems = plan_files(entries, {}, 0, "wav")
    assert (len(planned), problems) == (2, [])


def test_a_line_says_by_itself_whether_it_wants_times_and_checks(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text(
        '{"text": "a", "timestamps": true, "verify": "retry", "max_attempts": 5, "keep_to_text": false}\n'
        '{"text": "b"}\n'
        '{"text": "c", "timestamps": "yes"}\n{"text": "d", "keep_to_text": 1}\n{"text": "e", "verify": true}\n'
    )
    entries, problems = read_entries(source, None)
    assert [problem.message for problem in problems] == ["verify is True; it must be a string"]
    planned, problems = plan_files(entries, {}, 0, "wav", ["srt"])
    first, second = (file.item.request for file in planned)
    assert (first.verify, first.max_attempts, first.keep_to_text) == ("retry", 5, False)
    assert (second.verify, second.max_attempts, second.keep_to_text) == ("off", 3, True)
    assert [(file.captions, file.item.request.timestamps) for file in planned] == [
        (("srt", "json"), True),
        (("srt",), True),
    ]
    assert [problem.message for problem in problems] == [
        "timestamps is 'yes'; it must be true or false",
        "keep_to_text is 1; it must be true or false",
    ]


def test_no_message_grows_without_end() -> None:
    lines = describe_problems(Problem(f"line {number}", f"fault {number // 2}") for number in range(60))
    assert lines[:2] == ["line 0 and 1 more: fault 0", "line 2 and 1 more: fault 1"]
    assert (len(lines), lines[-1]) == (21, "and 10 more faults")
    assert name_files([str(number) for number in range(21)]).endswith("18, 19, ...")


@pytest.mark.parametrize("name", ["\u3164", "a\u115f", "\u2800", "a\ufe0f", "a\u202eb", "a\u200b", "a\U000e0100"])
def test_a_name_that_nobody_sees_is_refused(name: str) -> None:
    assert check_name(name, "wav") is not None


WRAPPED = """It was a dark night, and the wind had
been howling around the house since
the early evening.

Nobody was there, or so it seemed to
the old man who opened the door."""


@pytest.mark.parametrize(
    ("text", "split", "num_files", "words"),
    [
        (WRAPPED, Split.PARAGRAPHS, 2, "5 lines in 2 paragraphs: each paragraph"),
        (WRAPPED.replace("\n", "\r\n"), Split.PARAGRAPHS, 2, "5 lines in 2 paragraphs: each paragraph"),
        (WRAPPED.replace("\n\n", "\n"), Split.LINES, 5, "warning: b.txt has 5 lines, and most end inside"),
        ("One.\nTwo.\n\nThree.\n", Split.LINES, 3, "3 lines in 2 paragraphs: each line"),
        ("One.\nTwo.\nThree.", Split.LINES, 3, None),
        ("\n\nOne.\n\n \nTwo\n\n\n", Split.LINES, 2, None),
        ("", Split.LINES, 0, None),
    ],
)
def test_wrapped_text_is_cut_at_its_blank_lines_and_told(
    tmp_path: Path, text: str, split: Split, num_files: int, words: str | None
) -> None:
    source = tmp_path / "b.txt"
    source.write_bytes(text.encode())
    chosen, note = choose_split(source, None)
    assert chosen is split
    assert (words in note) if words is not None and note is not None else note is words
    entries, problems = read_entries(source, None)
    assert (len(entries), problems) == (num_files, [])
    # Whoever says it is not told.
    for said in Split:
        assert choose_split(source, said) == (said, None)
    assert choose_split(tmp_path, None) == (Split.NONE, None)


def test_what_cannot_be_read_is_told_when_it_is_read(tmp_path: Path) -> None:
    source = tmp_path / "b.txt"
    source.write_bytes(b"\xff\xfe")
    assert choose_split(source, None) == (Split.LINES, None)
    with pytest.raises(TextError, match="UTF-8"):
        read_entries(source, None)
