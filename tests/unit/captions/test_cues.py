"""Where cues are cut, and when they are seen."""

from __future__ import annotations

from voxtral.captions.cues import cut_cues
from voxtral.types import SegmentInfo
from word_times import segment_of

LONG = (
    "Dr. Smith saw the whole of the harbour from there. The U.S. economy grew by 3.5 percent in the last quarter, and "
    "nobody in the government was surprised about it at all! A sentence without any comma that goes on and on until "
    "its reader has quite forgotten how it once began."
)


def lines_of(text: str, *segments: SegmentInfo) -> list[tuple[str, ...]]:
    return [cue.texts for cue in cut_cues(text, segments or (segment_of(text),))]


def test_cuts_are_at_sentences_then_clauses_then_words() -> None:
    assert lines_of(LONG) == [
        ("Dr. Smith saw the whole", "of the harbour from there."),
        ("The U.S. economy grew by 3.5", "percent in the last quarter,"),
        ("and nobody in the government", "was surprised about it at all!"),
        ("A sentence without any comma", "that goes on and on until"),
        ("its reader has quite", "forgotten how it once began."),
    ]


def test_a_sentence_that_is_too_short_to_be_read_shares_a_cue() -> None:
    assert lines_of("No. I will not go there today.") == [("No. I will not go there today.",)]
    # A pause gives it time enough.
    text = "No. I will not go there today."
    parts = (segment_of(text, stop=3), segment_of(text, start=4, start_s=2.0))
    assert lines_of(text, *parts) == [("No.",), ("I will not go there today.",)]


def test_wide_letters_take_twice_the_room() -> None:
    text = (
        "今日は天気がいいですね。散歩に行きましょう、と彼は言った。それから長い長い道を歩いて町の図書館まで行きました。"
    )
    cues = lines_of(text, SegmentInfo(0, len(text), 0.0, 14.0, 1, "end", 0))
    assert cues == [
        ("今日は天気がいいですね。",),
        ("散歩に行きましょう、と彼は言った。",),
        ("それから長い長い道を歩いて町の図書館まで", "行きました。"),
    ]


def test_a_word_that_is_longer_than_a_line_is_cut_and_its_time_shared() -> None:
    text = f"See {'x' * 100}."
    cues = cut_cues(text, (segment_of(text),))
    assert "".join(line for cue in cues for line in cue.texts).replace(" ", "") == text.replace(" ", "")
    assert [cue.start_ms for cue in cues] == sorted({cue.start_ms for cue in cues})
    assert all(len(line) <= 42 for cue in cues for line in cue.texts)


def test_cues_are_seen_for_a_second_at_least_and_keep_a_distance() -> None:
    text = "Yes! No! Stay! Go! Perhaps. " * 3
    fast = SegmentInfo(0, len(text), 2.0, 2.5, 1, "end", 0)
    cues = cut_cues(text, (fast,))
    assert [(cue.start_ms, cue.end_ms) for cue in cues] == [(2000, 3000)]
    # More than a cue holds in half a second: the second one comes late.
    text *= 2
    first, second, *_ = cut_cues(text, (SegmentInfo(0, len(text), 2.0, 2.5, 1, "end", 0),))
    assert (first.start_ms, first.end_ms, second.start_ms) == (2000, 3000, 3080)


def test_a_word_that_is_heard_for_long_is_seen_for_seven_seconds() -> None:
    (cue,) = cut_cues("Aaah", (SegmentInfo(0, 4, 1.0, 31.0, 1, "end", 0),))
    assert (cue.start_ms, cue.end_ms) == (1000, 8000)


def test_a_pause_ends_a_cue_where_a_sentence_goes_on() -> None:
    text = "He waited and then he left"
    parts = (segment_of(text, stop=9), segment_of(text, start=10, start_s=4.0))
    assert lines_of(text, *parts) == [("He waited",), ("and then he left",)]


def test_blank_lines_and_controls_are_no_part_of_a_cue() -> None:
    text = "One\n\n\ttwo\x00\u2028three.\n\n"
    assert lines_of(text) == [("One two three.",)]


def test_a_text_without_speech_has_no_cue() -> None:
    assert cut_cues("", ()) == []
    assert cut_cues(" \n", (SegmentInfo(0, 2, 0.0, 1.0, 1, "end", 0),)) == []
