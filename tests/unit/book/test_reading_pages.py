"""A page to blocks: what each kind of tag becomes, and that no letter gets lost whatever tags there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epubs import letters_of_book, letters_of_page, page
from voxtral.book.reading import read_book
from voxtral.book.reading.decode import decode
from voxtral.book.reading.document import Document, ReadOptions, read_document
from voxtral.book.types import count_letters
from voxtral.errors import BookError


def read(body: str, **options: object) -> Document:
    return read_document("a.xhtml", page(body), ReadOptions(**options))  # type: ignore[arg-type]


def kinds(body: str, **options: object) -> list[tuple[str, str]]:
    return [(block.kind, block.text) for block in read(body, **options).blocks]


@pytest.mark.parametrize(
    ("body", "blocks"),
    [
        ("<h2>Title <i>two</i></h2><p>Some\n  text.</p>", [("heading", "Title two"), ("paragraph", "Some text.")]),
        ("<p>one<p>two<div>three</div>four", [("paragraph", each) for each in ("one", "two", "three", "four")]),
        ("<blockquote><p>Said.</p></blockquote>", [("quote", "Said.")]),
        ("<p>a</p><hr/><p>* * *</p><p>b</p>", [("paragraph", "a"), ("break", ""), ("break", ""), ("paragraph", "b")]),
        ("<ol start='3'><li>x<li><p>y</p></ol>", [("item", "3. x"), ("item", "4. y")]),
        ("<ol type='a'><li>x</li></ol><ul><li>y</li></ul>", [("item", "a. x"), ("item", "y")]),
        ("<ol reversed start='2'><li>x</li><li value='9'>y</li></ol>", [("item", "2. x"), ("item", "9. y")]),
        (
            "<div class='poem'><p>No mark<br/>A mark;<br/>the end</p></div>",
            [("verse", "No mark, A mark; the end")],
        ),
        ("<p>One line<br>another<br>a third</p>", [("verse", "One line, another, a third")]),
        ("<p>12 High Street<br/>Town</p>", [("paragraph", "12 High Street Town")]),
        (
            "<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>9</td></tr><tr><td>Bo</td><td></td></tr></table>",
            [("row", "Name; Age"), ("row", "Name: Ann; Age: 9"), ("paragraph", "Name: Bo")],
        ),
        (
            "<table><tr><td><table><tr><td>in</td><td>side</td></tr></table> out</td><td>b</td></tr></table>",
            [("row", "in; side out; b")],
        ),
        ("<figure><img alt='one two three four'/><figcaption>Caption</figcaption></figure>", [("caption", "Caption")]),
        ("<img alt='a picture of four words'/>", [("caption", "a picture of four words")]),
        ("<img alt='a dog'/>x", [("paragraph", "x")]),
        ("<p>a<span class='pagenum'>[Pg 12]</span>b</p>", [("paragraph", "ab")]),
        ("<p>a<span class='pagenum'>twelve men</span></p>", [("paragraph", "atwelve men")]),
        ("<p>x<sup>2</sup> and<a href='#n'><sup>2</sup></a></p>", [("paragraph", "x2 and")]),
        ("<p>H<sub>2</sub>O&nbsp;&amp;&mdash;&#8230;</p>", [("paragraph", "H2O &—…")]),
        ("<level1><p>a<pagenum>xii</pagenum>b<noteref idref='n'>1</noteref></p></level1>", [("paragraph", "ab")]),
        ("<note id='n'><p>A note.</p></note>", [("note", "A note.")]),
        ("<p>x<![CDATA[y]]></p><svg><text>z</text></svg>", [("paragraph", "xy")]),
        ("<p hidden>no</p><p style='display: none'>no</p><p>yes</p>", [("paragraph", "yes")]),
    ],
)
def test_what_tags_become(body: str, blocks: list[tuple[str, str]]) -> None:
    assert kinds(body) == blocks


def test_program_text_and_tables_as_they_are_wanted() -> None:
    body = "<pre><code>if x:\n  y</code></pre><table><tr><td>a</td></tr></table>"
    assert kinds(body) == [("paragraph", "a")]
    assert kinds(body, code="read", tables="skip") == [("code", "if x:\n  y")]
    assert [omission.why for omission in read(body, tables="skip").omissions] == ["program text", "table"]


def test_what_is_set_as_typed_is_text_unless_it_is_said_to_be_a_program() -> None:
    body = "<pre>Dear Ann,\nI am well.\n\nYours, Bob</pre><pre class='programlisting'>x = 1</pre>"
    assert kinds(body) == [("paragraph", "Dear Ann, I am well."), ("paragraph", "Yours, Bob")]
    assert kinds(body, code="read")[2] == ("code", "x = 1")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<ruby>食<rt>た</rt>べ<rt></rt></ruby>た", "たべた"),
        ("<ruby>強調<rt>・・</rt></ruby>する", "強調する"),
        ("<ruby><rb>東</rb><rb>京</rb><rt>とう</rt><rt>きょう</rt></ruby>へ", "とうきょうへ"),
    ],
)
def test_what_has_no_reading_is_said_as_it_is_written(body: str, text: str) -> None:
    assert kinds(f"<p>{body}</p>", ruby="reading") == [("paragraph", text)]


def test_a_painted_initial_is_a_letter_of_its_word() -> None:
    (block,) = read('<p><img alt="O" src="o.png"/>nce upon a time.</p>').blocks
    assert (block.text, block.num_added) == ("Once upon a time.", 1)


def test_of_a_switch_the_form_for_all_readers_is_said() -> None:
    forms = '<epub:case required-namespace="x">HHO</epub:case><epub:default>b</epub:default>'
    assert kinds(f"<p>a <epub:switch>{forms}</epub:switch></p>") == [("paragraph", "a b")]


def test_languages_places_and_ids_are_kept() -> None:
    text = page('<p id="a">one</p><div xml:lang="fr"><p>deux<a id="b"></a></p></div><p lang="de">drei</p>')
    document = read_document("a.xhtml", text)
    assert [block.language for block in document.blocks] == [None, "fr", "de"]
    assert document.ids == {"a": 0, "b": 1}
    first = document.blocks[0].source
    assert (text[first.start : first.end], first.fragment, first.file) == ("one", "a", "a.xhtml")


_TAGS = (
    "p /p div /div i /i h2 h1 /h2 ol li /ol /li table tr td /td th /table /tr ruby rt /rt rp /rp /ruby sup /sup a /a "
    "br/ hr pre /pre svg /svg math /math blockquote /blockquote aside/ /section figure figcaption /figure body /body "
    "/html span/ caption title/"
)
_PIECES = st.sampled_from(
    [
        *(f"<{tag}>" for tag in _TAGS.split(" ")),
        *(
            "word",
            "zwei",
            "три",
            "四",
            "12",
            ", ",
            " ",
            "\n",
            "&amp;",
            "*",
            "<!-- c -->",
            "<p hidden>",
            "<p lang='fr'>",
        ),
        *("<img alt='one two three four'>", "<p class='poem'>", "<span class='pagenum'>", "<ol type='i' start='4'>"),
        *("<a epub:type='noteref' href='#n'>", "<aside epub:type='footnote' id='n'>", "<section epub:type='toc'>"),
    ]
)


@given(st.lists(_PIECES, max_size=40), st.sampled_from(["base", "reading"]), st.sampled_from(["rows", "skip"]))
def test_no_letter_is_lost_whatever_tags_there_are(pieces: list[str], ruby: str, tables: str) -> None:
    text = page("".join(pieces))
    document = read_document("a.xhtml", text, ReadOptions(ruby, tables, "skip"))  # type: ignore[arg-type]
    said = sum(count_letters(block.text) - block.num_added for block in document.blocks)
    assert said + sum(count_letters(omission.text) for omission in document.omissions) == letters_of_page(text)
    assert len(document.blocks) == len(document.note_ids) == len(document.matters)
    assert all(0 <= index <= len(document.blocks) for index in document.ids.values())


def test_tags_without_end_nest_no_deeper_than_the_limit() -> None:
    document = read_document("a.xhtml", page("<i>x" * 20_000), ReadOptions(depth=256))
    assert count_letters(document.blocks[0].text) == 20_000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("é".encode(), "é"),
        ("\ufeffé".encode("utf-16-le"), "é"),
        ("\ufeffé".encode(), "é"),
        (b'<?xml version="1.0" encoding="iso-8859-1"?>\x93\xe9', '<?xml version="1.0" encoding="iso-8859-1"?>“é'),
        ('<meta charset="windows-1251">ж'.encode("cp1251"), '<meta charset="windows-1251">ж'),
        (b'<?xml encoding="latin-1"?>' + "é".encode(), '<?xml encoding="latin-1"?>é'),
        ('<?xml encoding="nonsense"?>\xe9'.encode("latin-1"), '<?xml encoding="nonsense"?>é'),
        (("é" * 300).encode() + b"\xff", "é" * 300 + "\ufffd"),
    ],
)
def test_encodings(data: bytes, text: str) -> None:
    assert decode(data) == text


@given(st.binary(max_size=300))
def test_no_bytes_fail_to_decode(data: bytes) -> None:
    decode(data)


# Other kinds of files.


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_markdown_with_metadata(tmp_path: Path) -> None:
    front = '---\ntitle: "My Book"\nauthor:\n  - Ann\n  - Bo\nlang: de\n---\n'
    text = front + "# Eins\n\nText *hier*.\n\n1. a\n2. b\n\n# Zwei\n\n> Zitat\n"
    book = read_book(written(tmp_path, "b.md", text))
    assert (book.title, book.authors, book.language) == ("My Book", ("Ann", "Bo"), "de")
    assert [(chapter.title, [block.text for block in chapter.blocks]) for chapter in book.chapters] == [
        ("Eins", ["Eins", "Text hier.", "1. a", "2. b"]),
        ("Zwei", ["Zwei", "Zitat"]),
    ]


def test_a_page_of_html(tmp_path: Path) -> None:
    text = page("<h1>One</h1><p>a</p><h1>Two</h1><p>b</p>", title="Name")
    book = read_book(written(tmp_path, "b.html", text))
    assert (book.title, [chapter.title for chapter in book.chapters]) == ("Name", ["One", "Two"])
    assert letters_of_book(book) == letters_of_page(text)


@pytest.mark.parametrize(
    ("headings", "chapters"),
    [
        (("CHAPTER I", "Chapter 2. The house"), 2),
        (("Erstes Kapitel", "Zweites Kapitel"), 2),
        (("Capítulo primero", "Capítulo segundo"), 2),
        (("Hoofdstuk 1", "Hoofdstuk 2"), 2),
        (("الفصل الأول", "الفصل الثاني"), 2),
        (("अध्याय 1", "अध्याय 2"), 2),
        (("第一章 はじまり", "第二章"), 2),
        (("I", "II."), 2),
        (("A line like any other", "Chapter and verse were quoted, and then he left. He never came back."), 1),
    ],
)
def test_plain_text_is_cut_where_chapters_begin(tmp_path: Path, headings: tuple[str, str], chapters: int) -> None:
    text = "\n\n".join(f"{heading}\n\nA paragraph that\nis wrapped." for heading in headings)
    book = read_book(written(tmp_path, "b.txt", text))
    assert len(book.chapters) == chapters
    assert "A paragraph that is wrapped." in [block.text for block in book.chapters[0].blocks]
    assert letters_of_book(book) == count_letters(text)


def test_form_feeds_and_verse_of_plain_text(tmp_path: Path) -> None:
    text = "First\n\nText.\n\fSecond\n\nRoses are red\nViolets are blue\nThe end\n"
    book = read_book(written(tmp_path, "b.txt", text))
    assert [block.kind for chapter in book.chapters for block in chapter.blocks][-1] == "verse"
    assert book.chapters[-1].title == "Second" or len(book.chapters) == 1


@pytest.mark.parametrize("name", ["b.pdf", "b.docx", "b"])
def test_other_kinds_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(BookError, match="no kind of book"):
        read_book(written(tmp_path, name, "text"))


def test_a_missing_or_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="cannot be read"):
        read_book(tmp_path / "none.epub")
    with pytest.raises(BookError, match="no text"):
        read_book(written(tmp_path, "b.txt", " \n"))
