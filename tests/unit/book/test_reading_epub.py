"""EPUBs to chapters: what is found, where it is cut, what is left out and why, and what is refused."""

from __future__ import annotations

import io
import random
import re
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from epubs import CONTAINER, archive, contents, epub, letters_of_book, letters_of_page, page, saved
from voxtral.book.reading import read_book
from voxtral.book.types import Book, BookLimits
from voxtral.errors import BookError

LONG = "The quick brown fox jumps over the lazy dog near the river. " * 30


def read(folder: Path, data: bytes, **options: object) -> Book:
    return read_book(saved(folder, data), **options)  # type: ignore[arg-type]


def titles(book: Book) -> list[str]:
    return [chapter.title for chapter in book.chapters if chapter.is_spoken]


def left_out(book: Book) -> list[tuple[str, str]]:
    return [(chapter.title, chapter.why) for chapter in book.chapters if not chapter.is_spoken]


def test_what_a_book_says_of_itself(tmp_path: Path) -> None:
    png = b"\x89PNG\r\n\x1a\n" + bytes(20)
    metadata = (
        "<dc:creator>Bo Other</dc:creator><dc:publisher>P</dc:publisher><dc:date>1999</dc:date><dc:rights>R</dc:rights>"
        "<dc:identifier>urn:1</dc:identifier><dc:description>&lt;p&gt;Nice.&lt;/p&gt;</dc:description>"
        '<meta name="cover" content="c"/>'
    )
    data = epub({"a.xhtml": page(f"<h1>One</h1><p>{LONG}</p>")}, metadata=metadata, extra={"OEBPS/c.png": png})
    book = read(tmp_path, _with_manifest(data, '<item id="c" href="c.png" media-type="image/png"/>'))
    assert book.cover == png
    assert (book.title, book.authors, book.language) == ("A Book", ("Ann Author", "Bo Other"), "en")
    assert (book.publisher, book.date, book.rights, book.identifier) == ("P", "1999", "R", "urn:1")
    assert book.description == "Nice."


def test_chapters_are_cut_at_fragments_and_deeper_entries_are_marks(tmp_path: Path) -> None:
    body = "".join(
        f'<h2 id="c{number}">Part {number}</h2><p>{LONG}</p><p><a id="s{number}"/>Section. {LONG}</p>'
        for number in (1, 2)
    )
    nav = contents(
        (0, "Part 1", "a%20b.xhtml#c1"), (1, "Section", "a%20b.xhtml#s1"), (0, "Part 2", "a%20b.xhtml#c2"),
        (0, "Last", "B.XHTML"),
    )  # fmt: skip
    documents = {"a b.xhtml": page(f"<p>Before all.</p>{body}"), "b.xhtml": page(f"<p>{LONG}</p>")}
    book = read(tmp_path, epub(documents, nav=nav), depth=1)
    assert [chapter.title for chapter in book.chapters] == ["", "Part 1", "Part 2", "Last"]
    assert book.chapters[0].blocks[0].text == "Before all."
    assert [(mark.title, mark.block) for mark in book.chapters[1].marks] == [("Section", 2)]
    assert titles(read(tmp_path, epub(documents, nav=nav), depth=2)) == ["", "Part 1", "Section", "Part 2", "Last"]


def test_as_many_levels_are_taken_as_leave_chapters_of_some_length(tmp_path: Path) -> None:
    def book_with(size: int, count: int) -> Book:
        parts = "".join(
            f'<h1 id="p{part}">P{part}</h1><p>{LONG}</p>'
            + "".join(f'<h2 id="p{part}s{n}">S{n}</h2><p>{"word " * size}</p>' for n in range(count))
            for part in range(3)
        )
        entries: list[tuple[int, str, str]] = []
        for part in range(3):
            entries.append((0, f"P{part}", f"a.xhtml#p{part}"))
            entries += [(1, f"P{part} S{n}", f"a.xhtml#p{part}s{n}") for n in range(count)]
        return read(tmp_path, epub({"a.xhtml": page(parts)}, nav=contents(*entries)))

    assert len(book_with(400, 4).chapters) == 15
    assert len(book_with(20, 4).chapters) == 3  # too short
    assert len(book_with(400, 45).chapters) == 3  # too many


def test_without_a_table_headings_cut_and_without_headings_documents(tmp_path: Path) -> None:
    headed = {
        "a.xhtml": page(f"<h1>I</h1><h2>The house</h2><p>{LONG}</p><h1>II</h1><p>{LONG}</p>"),
        "b.xhtml": page("<p>More.</p>"),
    }
    book = read(tmp_path, epub(headed))
    assert titles(book) == ["I: The house", "II"]
    assert book.chapters[-1].blocks[-1].text == "More."
    bare = {"a.xhtml": page(f"<p>{LONG}</p>", title="First"), "b.xhtml": page(f"<p>{LONG}</p>", title="Second")}
    assert titles(read(tmp_path, epub(bare))) == ["First", "Second"]


def test_an_ncx_serves_epub_2(tmp_path: Path) -> None:
    ncx = (
        "<ncx><navMap><navPoint id='1'><navLabel><text>Uno</text></navLabel><content src='a.xhtml'/>"
        "<navPoint id='2'><navLabel><text>Due</text></navLabel><content src='a.xhtml#x'/></navPoint></navPoint>"
        "</navMap></ncx>"
    )
    item = '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    data = epub({"a.xhtml": page(f'<p>{LONG}</p><p id="x">{LONG}</p>')}, extra={"OEBPS/toc.ncx": ncx})
    book = read(tmp_path, _with_manifest(data, item), depth=2)
    assert titles(book) == ["Uno", "Due"]


def _with_manifest(data: bytes, item: str) -> bytes:
    packed = zipfile.ZipFile(io.BytesIO(data))
    files = {name: packed.read(name) for name in packed.namelist()}
    files["OEBPS/book.opf"] = files["OEBPS/book.opf"].replace(b"<manifest>", b"<manifest>" + item.encode())
    return archive(files)


@pytest.mark.parametrize(
    ("title", "why"),
    [
        ("Contents", "table of contents"), ("Inhalt", "table of contents"), ("Table des matières", "table of contents"),
        ("Índice", "table of contents"), ("目次", "table of contents"), ("فهرس", "table of contents"),
        ("विषय सूची", "table of contents"), ("Impressum", "imprint"), ("Colophon", "colophon"), ("Colofon", "colophon"),
        ("Copyright", "copyright"), ("奥付", "colophon"), ("Bibliografia", "bibliography"), ("Register", "index"),
        ("Titlepage", "title page"), ("Portada", "cover"),
    ],
)  # fmt: skip
def test_titles_say_what_is_no_text_in_ten_languages(tmp_path: Path, title: str, why: str) -> None:
    documents = {"a.xhtml": page(f"<p>{LONG}</p>"), "b.xhtml": page(f"<h1>{title}</h1><p>{LONG}</p>")}
    book = read(tmp_path, epub(documents, nav=contents((0, "One", "a.xhtml"), (0, title, "b.xhtml"))))
    assert left_out(book) == [(title, why)]
    assert titles(book) == ["One"]


def test_types_guide_and_order_say_it_too(tmp_path: Path) -> None:
    documents = {
        "t.xhtml": page("<p>A Book by Ann</p>", attributes=' epub:type="titlepage"'),
        "c.xhtml": page("<p>All rights reserved</p>"),
        "a.xhtml": page(f'<p>{LONG}</p><section epub:type="index"><p>fox, 1</p></section>'),
        "n.xhtml": page("<p>An advertisement</p>"),
    }
    guide = '<guide><reference type="copyright-page" href="c.xhtml"/></guide>'
    book = read(tmp_path, epub(documents, nav=contents((0, "One", "a.xhtml")), guide=guide, unlinear=["n.xhtml"]))
    assert titles(book) == ["One"]
    reasons = {why for _, why in left_out(book)} | {omission.why for omission in book.omissions}
    assert reasons == {"title page", "index", "not part of the reading order"}
    assert left_out(book) == [("title page", "title page")]
    assert letters_of_book(book) == sum(letters_of_page(text) for text in documents.values())


def test_the_licence_of_project_gutenberg_is_left_out(tmp_path: Path) -> None:
    body = (
        "<p>This ebook is for the use of anyone.</p><p>*** START OF THIS PROJECT GUTENBERG EBOOK CANDIDE ***</p>"
        f"<h2>I</h2><p>{LONG}</p><h2>II</h2><p>{LONG}</p>"
        "<p>*** END OF THIS PROJECT GUTENBERG EBOOK CANDIDE ***</p><p>Updates.</p>"
    )
    book = read(tmp_path, epub({"a.xhtml": page(body)}))
    said = " ".join(block.text for chapter in book.chapters if chapter.is_spoken for block in chapter.blocks)
    assert "GUTENBERG" not in said
    assert "anyone" not in said
    assert "Updates" not in said
    assert said.count("fox") == 60
    assert letters_of_book(book) == letters_of_page(page(body))


NOTED = {
    "a.xhtml": page(
        '<p>Said<a epub:type="noteref" href="#n1">1</a> so<sup><a href="b.xhtml#n2">*</a></sup>.</p><p>After.</p>'
        '<aside epub:type="footnote" id="n1"><p>First note. <a role="doc-backlink" href="#r">back</a></p></aside>'
    ),
    "b.xhtml": page(
        '<section epub:type="endnotes"><ol><li id="n2" epub:type="endnote"><p>Second note.</p></li></ol></section>'
    ),
}


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ("skip", ["Said so.", "After."]),
        ("inline", ["Said so.", "First note.", "1. Second note.", "After."]),
        ("end", ["Said so.", "After.", "First note.", "1. Second note."]),
    ],
)
def test_notes_go_where_they_are_wanted_and_their_references_nowhere(
    tmp_path: Path, notes: str, said: list[str]
) -> None:
    book = read(tmp_path, epub(NOTED), notes=notes)
    blocks = [block.text for chapter in book.chapters if chapter.is_spoken for block in chapter.blocks]
    assert [text.removeprefix("1. ") for text in blocks] == [text.removeprefix("1. ") for text in said]
    assert letters_of_book(book) == sum(letters_of_page(text) for text in NOTED.values())


def test_readings_are_taken_in_japanese_books(tmp_path: Path) -> None:
    documents = {
        "a.xhtml": page("<p><ruby>漢字<rp>(</rp><rt>かんじ</rt><rp>)</rp></ruby>を<ruby>読<rt>よ</rt></ruby>む。</p>")
    }
    first = read(tmp_path, epub(documents, language="ja")).chapters[0].blocks[0].text
    assert first == "かんじをよむ。"
    assert read(tmp_path, epub(documents, language="en")).chapters[0].blocks[0].text == "漢字を読む。"
    assert read(tmp_path, epub(documents, language="ja"), ruby="base").chapters[0].blocks[0].text == "漢字を読む。"


# Files that are not as they should be.


def test_a_container_that_is_wrong_is_done_without(tmp_path: Path) -> None:
    data = epub(
        {"a.xhtml": page("<p>Some text.</p>")},
        extra={"META-INF/container.xml": CONTAINER.replace("book.opf", "no.opf")},
    )
    book = read(tmp_path, data)
    assert book.chapters[0].blocks[0].text == "Some text."
    assert "container.xml" in book.warnings[0]


def test_what_is_missing_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    nav = contents((0, "One", "a.xhtml"), (0, "Gone", "gone.xhtml"), (0, "Two", "b.xhtml#nowhere"))
    data = epub({"a.xhtml": page(f"<p>{LONG}</p>"), "b.xhtml": page(f"<p>{LONG}</p>"), "c.xhtml": ""}, nav=nav)
    book = read(tmp_path, _without(data, "OEBPS/c.xhtml"))
    assert titles(book) == ["One", "Two"]
    warnings = " ".join(book.warnings)
    assert all(name in warnings for name in ("gone.xhtml", "#nowhere", "c.xhtml is missing"))


def _without(data: bytes, name: str) -> bytes:
    packed = zipfile.ZipFile(io.BytesIO(data))
    return archive({each: packed.read(each) for each in packed.namelist() if each != name})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"nothing of a zip", "no zip archive"),
        (archive({"a.txt": "x"}), "no package document"),
        (epub({"a.xhtml": page('<img src="a.png" alt="A page"/>')}), "holds pictures"),
        (epub({"a.xhtml": page("<p> </p>")}), "no text"),
        (
            epub(
                {"a.xhtml": page("<p>x</p>")},
                extra={
                    "META-INF/encryption.xml": '<encryption><e><CipherReference URI="OEBPS/a.xhtml"/></e></encryption>'
                },
            ),
            "protected",
        ),
        (epub({"a.xhtml": page("<p>x</p>")}, extra={"../evil": "x"}), "outside"),
        (epub({"a.xhtml": page("<p>" + " " * 3_000_000 + "x</p>")}), "times"),
    ],
    ids=["no zip", "no package", "pictures", "empty", "protected", "outside", "bomb"],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(BookError, match=says):
        read(tmp_path, data)


def test_obscured_fonts_protect_nothing(tmp_path: Path) -> None:
    encryption = '<encryption><CipherReference URI="OEBPS/font.otf"/></encryption>'
    extra = {"META-INF/encryption.xml": encryption, "OEBPS/font.otf": b"font"}
    assert titles(read(tmp_path, epub({"a.xhtml": page("<p>Text.</p>", title="T")}, extra=extra))) == ["T"]


def test_limits_of_files_and_of_all_text(tmp_path: Path) -> None:
    data = epub({f"{number}.xhtml": page(f"<p>{LONG}</p>") for number in range(5)})
    with pytest.raises(BookError, match="files"):
        read(tmp_path, data, limits=BookLimits(num_members=4))
    with pytest.raises(BookError, match="bytes"):
        read(tmp_path, data, limits=BookLimits(num_text_bytes=6000))


MUTATED = epub(
    {
        "a.xhtml": page(f'<h1 id="a">One</h1><p>{LONG}<br/>x<i>y</i></p><ol><li>a</li><li>b</li></ol>'),
        "b.xhtml": page(
            "<table><tr><th>K</th><th>V</th></tr><tr><td>a</td><td>b</td></tr></table><ruby>x<rt>y</rt></ruby>"
        ),
        **NOTED,
    },
    nav=contents((0, "One", "a.xhtml#a"), (1, "Two", "b.xhtml"), (0, "Three", "x.xhtml")),
)


@pytest.mark.parametrize("seed", range(50))
def test_a_truncated_archive_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    cut = random.Random(seed).randrange(len(MUTATED))
    try:
        book = read(tmp_path, MUTATED[:cut])
    except BookError:
        return
    assert book.warnings


@pytest.mark.parametrize("seed", range(40))
def test_missing_tags_stop_nothing(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    packed = zipfile.ZipFile(io.BytesIO(MUTATED))
    files = {name: packed.read(name).decode() for name in packed.namelist()}
    for _ in range(5):
        name = draw.choice([name for name in files if name.endswith(("xhtml", "opf"))])
        tags = [found.span() for found in re.finditer(r"<(?!/?(?:head|title|style)\b)[^>]*>", files[name])]
        start, stop = draw.choice(tags)
        files[name] = files[name][:start] + files[name][stop:]
    with suppress(BookError):
        read(tmp_path, archive(files), notes=draw.choice(["skip", "inline", "end"]))


def test_a_large_book_is_read_in_little_memory(tmp_path: Path) -> None:
    paragraph = "<p>" + "Twenty words of plain text that nobody will ever want to hear, and so on and on. " * 5 + "</p>"
    documents = {f"c{number}.xhtml": page(f"<h2>{number}</h2>" + paragraph * 20) for number in range(140)}
    path = saved(tmp_path, epub(documents, nav=contents(*((0, f"C {n}", f"c{n}.xhtml") for n in range(140)))))
    tracemalloc.start()
    book = read_book(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(book.chapters) == 140
    assert sum(chapter.num_chars for chapter in book.chapters) > 1_100_000
    assert peak < 60_000_000
    assert letters_of_book(book) == sum(letters_of_page(text) for text in documents.values())


def test_notes_of_books_that_say_so_by_classes_alone(tmp_path: Path) -> None:
    # As Project Gutenberg makes them: neither types nor roles.
    text = (
        f'<h2>I</h2><p>He came<a name="r1" id="r1"></a><a href="#f1" class="fnanchor">[1]</a> home. {LONG}</p>'
        f'<h2>II</h2><p>See <a href="#r1">the first</a>, and<a href="#f2">*</a> this. {LONG}</p><h2>FOOTNOTES:</h2>'
        '<div class="footnote"><p><a id="f1" href="#r1"><span class="label">[1]</span></a> Late.</p></div>'
        '<div class="footnote"><p><a id="f2" href="#r2">*</a> Early.</p></div>'
    )
    data = epub({"a.xhtml": page(text)})
    skipped, inline = read(tmp_path, data), read(tmp_path, data, notes="inline")
    assert [chapter.is_spoken for chapter in skipped.chapters] == [True, True, False]
    assert skipped.chapters[0].blocks[1].text.startswith("He came home.")
    assert skipped.chapters[1].blocks[1].text.startswith("See the first, and this.")
    assert [omission.text for omission in skipped.omissions if omission.why == "note"] == ["Late.", "Early."]
    assert [block.text for block in inline.chapters[0].blocks[2:]] == ["Late."]
    assert [block.text for block in inline.chapters[1].blocks[2:]] == ["Early."]
    assert letters_of_book(skipped) == letters_of_book(inline) == letters_of_page(page(text))


def test_a_chapter_of_notes_alone_is_listed_as_one(tmp_path: Path) -> None:
    nav = contents((0, "One", "a.xhtml"), (0, "Notes", "n.xhtml"))
    notes = '<section epub:type="endnotes"><h2>Notes</h2><p>1. Late.</p></section>'
    book = read(tmp_path, epub({"a.xhtml": page(f"<p>{LONG}</p>"), "n.xhtml": page(notes)}, nav=nav))
    assert [(each.title, each.role, each.is_spoken, each.why) for each in book.chapters] == [
        ("One", "body", True, ""),
        ("Notes", "notes", False, "notes"),
    ]


def test_a_short_first_page_with_the_title_is_the_title_page(tmp_path: Path) -> None:
    documents = {"t.xhtml": page("<h1>A Book</h1><p>by Ann Author</p>"), "a.xhtml": page(f"<p>{LONG}</p>")}
    book = read(tmp_path, epub(documents, nav=contents((0, "One", "a.xhtml"))))
    assert [(each.is_spoken, each.why) for each in book.chapters] == [(False, "title page"), (True, "")]


def test_what_stands_below_a_heading_in_its_group_is_its_title(tmp_path: Path) -> None:
    group = "<hgroup><h2>{}</h2><p>{}</p></hgroup>"
    documents = {f"{n}.xhtml": page(group.format(n, t) + f"<p>{LONG}</p>") for n, t in (("I", "Home"), ("II", "Out"))}
    book = read(tmp_path, epub(documents))
    assert titles(book) == ["I: Home", "II: Out"]
    assert [block.kind for block in book.chapters[0].blocks] == ["heading", "heading", "paragraph"]


def test_who_typed_a_book_of_project_gutenberg_is_part_of_its_licence(tmp_path: Path) -> None:
    frame = (
        "<pre>The Project Gutenberg EBook\n\nLicence.\n\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\n\n\n"
        f"Produced by Ann and the\nTeam.\n</pre><h2>I</h2><p>{LONG}</p><h2>II</h2><p>{LONG}</p>"
        "<pre>\nEnd of Project Gutenberg's X, by Y\n\n*** END OF THIS PROJECT GUTENBERG EBOOK X ***\n\nMore.</pre>"
    )
    book = read(tmp_path, epub({"a.xhtml": page(frame)}))
    assert [each.title for each in book.chapters if each.is_spoken] == ["I", "II"]
    assert letters_of_book(book) == letters_of_page(page(frame))
