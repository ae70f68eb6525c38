"""Markdown and HTML to plain text."""

from __future__ import annotations

import pytest

from voxtral.text.edits import Draft
from voxtral.text.markup import strip_markup


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        # Lines.
        ("### Title\n- item one\n- item two", "Title\n\nitem one,\nitem two"),
        ("# A #\nbody", "A\n\nbody"),
        ("#hashtag and C# stay", "#hashtag and C# stay"),
        ("* a.\n* b;\n+ c\n\ntext", "a.\nb;\nc\n\ntext"),
        ("- [x] done **now**\n- [ ] todo", "done now,\ntodo"),
        ("1. Open\n2. Close\n10) Go", "1. Open,\n2. Close,\n10. Go"),
        ("1. Open\n2. Close: 8) - [ ] x", "1. Open,\n2. Close: 8) - [ ] x"),
        ("1. [x] done", "1. done"),
        ("1984. A year", "1984. A year"),
        ("-5 degrees", "-5 degrees"),
        ("> quoted\n> > deeper", "quoted\ndeeper"),
        ("a\n\n***\n\nb\n- - -\nc", "a\n\n\n\nb\n\nc"),
        ("Setext\n======\ntext", "Setext\n\ntext"),
        # Tables.
        ("| A | B |\n|---|:-:|\n| 1 | 2 |\n| 3 |  |", "A, B\n\n1, 2;\n3"),
        ("  | q | r\n  | s | t", "  q, r;\n  s, t"),
        ("A | B\n---|---\na | b\nc | d\n\nls | wc", "A, B\n\na, b\nc, d\n\nls | wc"),
        ("Home | About, but |x| and a||b", "Home, About, but |x| and a||b"),
        ("getent passwd | grep root", "getent passwd | grep root"),
        # Emphasis and code.
        ("**bold** *it* ***both*** __b__ _i_ ~~s~~", "bold it both b i s"),
        ("***a** b* and **c *d***", "a b and c d"),
        ("snake_case_name __init__", "snake_case_name init"),
        ("2*3*4 a * b 5* *x", "2*3*4 a * b 5* *x"),
        ("*open\n\nclosed*", "*open\n\nclosed*"),
        ("`code *x*` and ``a ` b`` and ` alone", "code *x* and a ` b and ` alone"),
        ("太字**です**よ", "太字ですよ"),
        (r"\*not\* \# \\", r"*not* # " + "\\"),
        # Links.
        ('[text](https://x.y/a_b "title") and [p](u(v))', "text and p"),
        ("![alt](a.png) [![badge](b.svg)](c)", "alt badge"),
        ("[ref][1], foot[^1], a[1][2], [alone]", "ref, foot, a[1][2], [alone]"),
        ("<https://x.y> <me@x.y>", "https://x.y me@x.y"),
        # Fences keep what is in them.
        ("a\n```py\nx = *y*\n# c\n```\nb **c**", "a\n\nx = *y*\n# c\n\nb c"),
        ("~~~\n- *a*\n~~~", "\n- *a*\n"),
        ("```\nunclosed *x*", "\nunclosed *x*"),
        # HTML.
        ("<p>Hi <b>you</b><br/>there</p>", "\n\nHi you there\n\n"),
        ('<a href="x > y">z</a><!-- <b> -->!', "z !"),
        ("1 < 2 > 0, I <3 List<String>, <unknown>", "1 < 2 > 0, I <3 List<String>, <unknown>"),
        ("a <!-- open", "a <!-- open"),
        ("press <q>, <A> says, mv <input> <title>", "press <q>, <A> says, mv <input> <title>"),
        ("<q>so</q> <Q>", "so <Q>"),
        ("a<br>b<wbr>c<input/>d", "a bc d"),
        ("AT&amp;T &lt;b&gt; &#233; &bogus; &", "AT&T <b> é &bogus; &"),
    ],
)
def test_what_is_not_spoken_goes(written: str, plain: str) -> None:
    assert strip_markup(Draft.of(written), "en").text == plain


def test_a_german_date_at_the_start_of_a_line_is_no_list() -> None:
    assert strip_markup(Draft.of("3. Mai war schön"), "de").text == "3. Mai war schön"
    assert strip_markup(Draft.of("1. Eins\n2. Zwei"), "de").text == "1, Eins,\n2, Zwei"


def test_words_lead_back_to_their_place_in_the_source() -> None:
    source = "# A\n- **bold** [link](url) &amp;"
    draft = strip_markup(Draft.of(source), "en")
    for word in ("bold", "link"):
        place = draft.text.index(word)
        assert draft.source_span(place, place + 1)[0] == source.index(word)
    ampersand = draft.text.index("&")
    assert source[slice(*draft.source_span(ampersand, ampersand + 1))] == "&amp;"


@pytest.mark.parametrize("line", ["{}", "- {}", "* [x] {}", "> {}", "# {}"])
def test_a_pipe_that_ends_a_line_of_any_kind_is_not_read(line: str) -> None:
    with_pipe, without = (strip_markup(Draft.of(line.format(words)), "en").text for words in ("Bread |", "Bread"))
    assert with_pipe == without
