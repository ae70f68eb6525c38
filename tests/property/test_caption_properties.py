"""The rules of captions hold for every text and for all times."""

from __future__ import annotations

import json
import re
import unicodedata
from itertools import pairwise

import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from caption_readers import read_lrc, read_srt, read_vtt
from voxtral.captions.alignment import align_characters
from voxtral.captions.cues import GAP_MS, MAX_MS, MIN_MS, cut_cues
from voxtral.captions.formats import encode, render
from voxtral.captions.words import timed_words
from voxtral.types import SegmentInfo, WordTime

# What breaks files of captions, and what breaks lines.
_HOSTILE = (
    "-->",
    "00:00:01,000 --> 00:00:02,000",
    "[00:01.00]",
    "<00:01.00>",
    "<i>",
    "</b>",
    "<",
    "&",
    "&amp;",
    "&#60;",
    "{\\an8}",
    "NOTE",
    "WEBVTT",
    "42",
    "\0",
    "\x0b",
    "\x1e",
    "\u2028",
    "\ufeff",
    "\u200f\u0627\u0644\u0633\u0644\u0627\u0645",
    "\u202e",
    "e\u0301" * 9,
    "\u0301",
    "👩‍👩‍👧‍👦",
    "🇩🇪🇫🇷",
    "今日は、いい天気ですね。",
    "。」",
    "नमस्ते",
    "x" * 200,
    "長" * 90,
    "Dr.",
    "\ud800",
)
_TOKENS = st.one_of(st.sampled_from(_HOSTILE), st.text(min_size=1, max_size=12), st.from_regex(r"[a-z]{1,9}[.,]?"))
_SPACES = st.sampled_from((" ", " ", " ", "", "\n", "\n\n", "\t", "\u00a0", "\r\n"))
_TEXTS = st.lists(st.tuples(_TOKENS, _SPACES), min_size=1, max_size=40).map(
    lambda pairs: "".join(token + space for token, space in pairs)
)
_TIMES = st.one_of(st.sampled_from((0.0, 0.001, 0.05, 0.3, 9.0)), st.floats(0, 3))


@st.composite
def spoken(draw: st.DrawFn) -> tuple[str, tuple[SegmentInfo, ...]]:
    """A text and its segments; some have words, and some words are left out or have no length."""
    text = draw(_TEXTS)
    edges = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=2))})
    now = draw(st.sampled_from((0.0, 1.5, 363_000.0)))
    segments = []
    for start, stop in pairwise(edges):
        begin, words = now, []
        is_timed = draw(st.booleans())
        for found in re.compile(r"\S+").finditer(text, start, stop):
            now += draw(_TIMES)
            begun, now = now, now + draw(_TIMES)
            if is_timed and draw(st.integers(0, 9)):
                words.append(WordTime(*found.span(), begun, now, 0.5))
        segments.append(SegmentInfo(start, stop, begin, now, 1, "end", 0, tuple(words), "attention"))
    return text, tuple(segments)


def letters(text: str) -> str:
    """What must be read again: all but whitespace, controls and what only keeps things apart."""
    kept = (character for character in text if unicodedata.category(character) != "Cc" and not character.isspace())
    return "".join(kept).replace("\ud800", "\ufffd").replace("\u2060", "")


def width(line: str) -> int:
    """In 840ths of a line: 42 characters as they are seen, or 20 wide ones."""
    seen = regex.findall(r"\p{Regional_Indicator}{2}\p{M}*|\X", line)
    return sum(42 if any(unicodedata.east_asian_width(c) in "WF" for c in one) else 20 for one in seen)


_SILENT = ("word " * 300, (SegmentInfo(0, 1500, 3.0, 3.0, 1, "end", 0),))


@settings(max_examples=50)
@given(spoken())
@example(_SILENT)
def test_cues_keep_the_rules(speech: tuple[str, tuple[SegmentInfo, ...]]) -> None:
    text, segments = speech
    cues = cut_cues(text, segments)
    assert "".join(letters(line) for cue in cues for line in cue.texts) == letters(text)
    free_ms = 0
    for cue in cues:
        assert MIN_MS <= cue.end_ms - cue.start_ms <= MAX_MS
        assert cue.start_ms >= free_ms
        free_ms = cue.end_ms + GAP_MS
        assert 1 <= len(cue.lines) <= 2
        for line in cue.texts:
            assert line == line.strip(" ")
            assert line
            assert width(line) <= 840


@settings(max_examples=50)
@given(spoken())
@example(_SILENT)
def test_every_file_is_read_back(speech: tuple[str, tuple[SegmentInfo, ...]]) -> None:
    text, segments = speech
    times = [(cue.start_ms, cue.end_ms) for cue in cut_cues(text, segments)]
    for read, written in (
        (read_srt, render("srt", text, segments, 1.0)),
        (read_vtt, render("vtt", text, segments, 1.0)),
        (read_vtt, render("vtt", text, segments, 1.0, "karaoke")),
    ):
        assert encode(written).decode() == written
        cues = read(written)
        assert [(cue.start_ms, cue.end_ms) for cue in cues] == times
        assert "".join(letters(line) for cue in cues for line in cue.lines) == letters(text)
    lines = read_lrc(render("lrc", text, segments, 1.0))
    assert "".join(letters(line) for _, line in lines) == letters(text)
    assert [at for at, _ in lines] == sorted(at for at, _ in lines)
    document = json.loads(encode(render("json", text, segments, 1.0)))
    assert [len(segment["words"]) for segment in document["segments"]] == [len(segment.words) for segment in segments]


@settings(max_examples=50)
@given(spoken())
def test_every_character_has_a_time(speech: tuple[str, tuple[SegmentInfo, ...]]) -> None:
    text, segments = speech
    found = align_characters(text, segments)
    assert "".join(found.characters) == text
    assert len(found.characters) == len(found.start_times_s) == len(found.end_times_s)
    edges = [edge for pair in zip(found.start_times_s, found.end_times_s, strict=True) for edge in pair]
    assert edges == sorted(edges)
    blank = [end - start for char, start, end in zip(text, found.start_times_s, found.end_times_s, strict=True)]
    assert not any(length for char, length in zip(text, blank, strict=True) if char.isspace())


@settings(max_examples=50)
@given(spoken())
def test_each_word_keeps_its_time_where_times_are_in_order(speech: tuple[str, tuple[SegmentInfo, ...]]) -> None:
    text, segments = speech
    words = timed_words(text, segments)
    visible = {index for index, character in enumerate(text) if not character.isspace()}
    covered = [index for word in words for index in range(word.text_start, word.text_end)]
    assert len(covered) == len(set(covered))
    assert set(covered) == visible
    known = {(word.start_s, word.end_s) for segment in segments for word in segment.words}
    assert known <= {(word.start_s, word.end_s) for word in words}
