"""Names of files that every system takes, and what files say of themselves."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from book_output import png
from voxtral.book.output.names import Entry, numbered_name, playlist, safe_name
from voxtral.book.output.tags import BookTags, Cover, one_line
from voxtral.errors import BookError


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Loomings", "Loomings"),
        ("Chapter 1: The Carpet-Bag", "Chapter 1 - The Carpet-Bag"),
        ('AC/DC "live"?', "AC-DC 'live'"),
        ("..\\..\\etc/passwd", "etc-passwd"),
        ("  dots...  ", "dots"),
        ("con", "con_"),
        ("COM1.txt", "COM1.txt_"),
        ("Console", "Console"),
        ("a\x00b\nc", "a b c"),
        ("فصل اول", "فصل اول"),
        ("第一章　始まり", "第一章 始まり"),
        ("e\u0301te\u0301", "été"),
        ("a\u202eb\u200b", "ab"),
        ("👩\u200d👧", "👩\u200d👧"),
        ("*?", ""),
    ],
)
def test_safe_names(title: str, name: str) -> None:
    assert safe_name(title) == name


@given(st.text(max_size=400))
def test_any_title_makes_a_safe_name(title: str) -> None:
    name = safe_name(title)
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f\x7f]', name)
    assert len(name.encode("utf-8")) <= 161
    assert name == name.strip(" .")
    assert safe_name(name) in (name, f"{name}_")


def test_long_names_are_cut_between_characters() -> None:
    name = numbered_name(1, 2, "が" * 300, "opus")
    assert name.startswith("01 - がが")
    assert 150 < len(name.encode("utf-8")) < 180
    assert set(safe_name("e\u0301\u0323" * 200)) == set(safe_name("e\u0301\u0323"))


def test_numbers_sort_as_texts() -> None:
    names = [numbered_name(number, 120, "x", "mp3") for number in (1, 20, 119)]
    assert names == sorted(names) == ["001 - x.mp3", "020 - x.mp3", "119 - x.mp3"]


def test_a_playlist() -> None:
    text = playlist("Book\n2", "An Author", [Entry("01 - a.mp3", "A\nB", 61.6)])
    assert text == "#EXTM3U\n#PLAYLIST:Book 2\n#EXTINF:62,An Author - A B\n01 - a.mp3\n"


def test_covers() -> None:
    assert (Cover.of(png(5, 4)).width, Cover.of(png(5, 4)).height) == (5, 4)
    frame = b"\xff\xc0\x00\x11\x08\x01\x02\x03\x04" + bytes(12)
    jpeg = Cover.of(b"\xff\xd8" + b"\xff\xe0\x00\x10" + bytes(14) + frame)
    assert (jpeg.kind, jpeg.width, jpeg.height, jpeg.media_type, jpeg.extension) == (
        *("jpeg", 0x304, 0x102),
        *("image/jpeg", "jpg"),
    )
    assert Cover.of(b"\xff\xd8\xff").width == 0
    with pytest.raises(BookError, match="neither JPEG nor PNG"):
        Cover.of(b"GIF89a")


@given(st.binary(max_size=60))
def test_a_damaged_jpeg_has_no_size_and_does_no_harm(rest: bytes) -> None:
    assert Cover.of(b"\xff\xd8\xff" + rest).width >= 0


def test_texts_of_tags() -> None:
    assert one_line("half \ud800 pair") == "half ? pair"
    tags = BookTags("T", ("A", "", "B"), language="pt_BR")
    assert (tags.artist, tags.language_code) == ("A, B", "por")
    assert tags.comment.startswith("Synthetic speech")
