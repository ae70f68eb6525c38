"""Tags and text of a page: what each kind of markup is taken for, and that damage neither stops nor slows it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.book.reading.document import read_document
from voxtral.book.reading.tags import TagReader
from voxtral.book.reading.tree import parse_tree


class _Told(TagReader):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[object] = []
        self.spans: list[tuple[int, int]] = []

    def start(self, tag: str, attributes: dict[str, str], *, is_empty: bool) -> None:
        self.told.append((f"<{tag}/>" if is_empty else f"<{tag}>", attributes) if attributes else f"<{tag}>")
        self.spans.append((self.position, self.stop))

    def end(self, tag: str) -> None:
        self.told.append(f"</{tag}>")
        self.spans.append((self.position, self.stop))

    def text(self, data: str) -> None:
        self.told.append(data)
        self.spans.append((self.position, self.stop))


def told(page: str) -> list[object]:
    reader = _Told()
    reader.read(page)
    return reader.told


@pytest.mark.parametrize(
    ("page", "parts"),
    [
        ("<P>a &amp; b</P >", ["<p>", "a & b", "</p>"]),
        ("<opf:item ID='x' href=\"a&amp;b\" id='y'/>", [("<item/>", {"id": "x", "href": "a&b"})]),
        ("<img alt=\"a < b\" src=x>y", [("<img>", {"alt": "a < b", "src": "x"}), "y"]),
        ('<p class="x>He</p><p class="y">', [("<p>", {"class": ""}), "He", "</p>", ("<p>", {"class": "y"})]),
        ("<p\nclass = 'x'\n>a", [("<p>", {"class": "x"}), "a"]),
        ("a<!-- <p> -->b<!-- c", ["a", "b", " c"]),
        ("a<![CDATA[<b>&amp;]]>c", ["a", "<b>&amp;", "c"]),
        ("a<![foo[b]]>c<?php x ?>d", ["a", "c", "d"]),
        ("1 < 2 <3", ["1 ", "<", " 2 ", "<", "3"]),
        ("<style>p > a { }</style><i", ["<style>", "p > a { }", "</style>", "<i>"]),
        ("<style>no end", ["<style>", "no end"]),
        ('<!DOCTYPE x [<!ENTITY a "<b>"> <!ENTITY c "&a;&a;">]>&a;', ["&a;"]),
        ("<title/>a", ["<title>", "a"]),
    ],
)  # fmt: skip
def test_what_markup_is_taken_for(page: str, parts: list[object]) -> None:
    assert told(page) == parts


@given(st.text(alphabet="<>/!-?[]=\"'& aCDT;", max_size=60))
def test_nothing_stops_it_and_spans_go_forward(page: str) -> None:
    reader = _Told()
    reader.read(page)
    at = 0
    for start, stop in reader.spans:
        assert at <= start <= stop <= len(page)
        at = stop


@pytest.mark.parametrize(
    "unit", ["<a ", "<!--", "<![CDATA[", "<![x[", "<?x", '<a b="', "<style>", "<!DOCTYPE [", "</x", "<b>", "&#"]
)  # fmt: skip
def test_time_grows_with_the_size_alone(unit: str) -> None:
    # html.parser took 27 s for this many of the first; where the square of the size were needed, minutes would pass.
    page = unit * 20_000
    started = time.process_time()
    read_document("a.xhtml", page)
    parse_tree(page.encode(), 256)
    assert time.process_time() - started < 10
