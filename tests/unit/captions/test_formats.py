"""Captions as files: what stands in them, and what FFmpeg reads out of them."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from caption_readers import read_lrc, read_srt, read_vtt
from voxtral.captions.formats import FORMATS, check_style, format_for_path, render
from voxtral.errors import AudioError, OptionError
from voxtral.speech.result import Audio
from voxtral.types import SegmentInfo, WordTime
from word_times import check_of, segment_of

TEXT = "Hello there, my friend. The U.S. economy <b>grew</b> by 3 % --> & more."
SPEECH = (segment_of(TEXT, stop=23), segment_of(TEXT, start=24, start_s=1.6))


def audio_of(text: str = TEXT, segments: tuple[SegmentInfo, ...] = SPEECH) -> Audio:
    return Audio(np.zeros(24000, np.float32), 24000, segments, text=text)


def test_srt_is_written_as_players_read_it() -> None:
    assert render("srt", TEXT, SPEECH, 6.0) == (
        "1\n00:00:00,000 --> 00:00:01,200\nHello there, my friend.\n\n"
        "2\n00:00:01,600 --> 00:00:03,880\nThe U.S. economy <\u2060b>grew<\u2060/b>\nby 3 % --\u2060> & more.\n\n"
    )


def test_vtt_has_escapes_and_on_demand_the_time_of_each_word() -> None:
    assert render("vtt", TEXT, SPEECH, 6.0).endswith("economy &lt;b&gt;grew&lt;/b&gt;\nby 3 % --&gt; &amp; more.\n\n")
    karaoke = render("vtt", TEXT, SPEECH, 6.0, "karaoke")
    assert karaoke.startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.200\nHello <00:00:00.300>there, <00:00:00.660>my <00:00:00.780>friend.\n\n"
    )
    plain = [cue.lines for cue in read_vtt(render("vtt", TEXT, SPEECH, 6.0))]
    assert [cue.lines for cue in read_vtt(karaoke)] == plain


def test_lrc_has_a_line_for_each_cue_and_takes_away_what_is_over() -> None:
    speech = (segment_of(TEXT, stop=23), segment_of(TEXT, start=24, start_s=5999.5))
    assert read_lrc(render("lrc", TEXT, speech, 6.0)) == [
        (0, "Hello there, my friend."),
        (1200, ""),
        (5_999_500, "The U.S. economy <b>grew</b> by 3 % --> & more."),
        (6_001_780, ""),
    ]
    assert "[99:59.50]The" in render("lrc", TEXT, speech, 6.0)


def test_json_says_what_is_known_and_makes_up_nothing() -> None:
    checked = SegmentInfo(0, 5, 0.1, 0.5, 5, "end", 7, (WordTime(0, 5, 0.12345, 0.5, 0.75),), "attention", check_of())
    silent = SegmentInfo(6, 12, 0.75, 1.0, 3, "end", 7)
    found = json.loads(render("json", "Hello there.", (checked, silent), 1.23456))
    assert found == {
        "version": 1,
        "duration": 1.2346,
        "segments": [
            {
                "text": "Hello",
                "text_start": 0,
                "text_end": 5,
                "start": 0.1,
                "end": 0.5,
                "timing": "attention",
                "words": [
                    {"text": "Hello", "text_start": 0, "text_end": 5, "start": 0.1235, "end": 0.5, "confidence": 0.75}
                ],
                "check": check_of().to_dict(),
            },
            {
                "text": "there.",
                "text_start": 6,
                "text_end": 12,
                "start": 0.75,
                "end": 1.0,
                "timing": "none",
                "words": [],
            },
        ],
    }


def test_json_for_elevenlabs_has_the_time_of_each_character() -> None:
    found = json.loads(render("json", "Hi  you", (segment_of("Hi  you"),), 1.0, "elevenlabs"))
    assert found == {
        "characters": ["H", "i", " ", " ", "y", "o", "u"],
        "character_start_times_seconds": [0.0, 0.06, 0.12, 0.12, 0.12, 0.18, 0.24],
        "character_end_times_seconds": [0.06, 0.12, 0.12, 0.12, 0.18, 0.24, 0.3],
    }


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_ffmpeg_reads_the_same(format: str, tmp_path: Path) -> None:
    audio_of().save_captions(tmp_path / f"a.{format}")
    own = {"srt": read_srt, "vtt": read_vtt}[format]((tmp_path / f"a.{format}").read_text("utf-8"))
    with av.open(str(tmp_path / f"a.{format}")) as container:
        stream = container.streams.subtitles[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert [round(1000 * float(packet.pts * packet.time_base)) for packet in packets] == [cue.start_ms for cue in own]
    lengths = [round(1000 * float(packet.duration * packet.time_base)) for packet in packets]
    assert lengths == [cue.end_ms - cue.start_ms for cue in own]
    assert b"grew" in bytes(packets[1])


def test_a_text_that_is_not_ascii_is_utf_8_with_line_feeds(tmp_path: Path) -> None:
    text = "Grüße, 你好!"
    for format in FORMATS:
        audio_of(text, (segment_of(text),)).save_captions(tmp_path / f"a.{format.upper()}")
        data = (tmp_path / f"a.{format.upper()}").read_bytes()
        assert "Grüße, 你好!" in data.decode("utf-8")
        assert b"\r" not in data
        assert data.endswith(b"\n")


def test_what_cannot_be_captions_is_refused(tmp_path: Path) -> None:
    audio = audio_of()
    for name in ("a.txt", "a", ".srt", "srt"):
        with pytest.raises(AudioError, match="must be one of srt, vtt, json, lrc"):
            audio.save_captions(tmp_path / name)
    with pytest.raises(OptionError, match="srt has no style but the plain one"):
        audio.save_captions(tmp_path / "a.srt", style="karaoke")
    with pytest.raises(OptionError, match="style is 'shouted'; vtt has \"karaoke\""):
        audio.save_captions(tmp_path / "a.vtt", style="shouted")
    with pytest.raises(OptionError, match="format is 'ass'"):
        check_style("ass", None)
    with pytest.raises(OptionError, match="timestamps=True"):
        audio_of(segments=(SegmentInfo(0, 5, 0.0, 1.0, 1, "end", 0),)).save_captions(tmp_path / "a.srt")
    with pytest.raises(AudioError, match="cannot be written"):
        audio.save_captions(tmp_path / "nowhere" / "a.srt")
    assert list(tmp_path.iterdir()) == []


def test_captions_that_cannot_be_finished_leave_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.srt"
    target.write_text("old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(AudioError, match="No space left on device"):
        audio_of().save_captions(target)
    assert [path.name for path in tmp_path.iterdir()] == ["a.srt"]
    assert target.read_text() == "old"


def test_audio_knows_its_words() -> None:
    audio = audio_of()
    assert [TEXT[word.text_start : word.text_end] for word in audio.words] == TEXT.split()
    assert Audio(np.zeros(1, np.float32), 24000).words == ()


def test_the_format_is_that_of_the_extension() -> None:
    assert [format_for_path(name) for name in ("a.SRT", "b.c.vtt", "/x/y.json", "z.lrc")] == [
        "srt",
        "vtt",
        "json",
        "lrc",
    ]
