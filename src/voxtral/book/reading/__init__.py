"""Reading books: EPUB 2 and 3, Markdown, HTML and plain text. Read next: `voxtral.book.reading.epub`."""

from __future__ import annotations

from pathlib import Path

from voxtral.book.reading.chapters import Page, divide
from voxtral.book.reading.decode import decode
from voxtral.book.reading.document import ReadOptions, read_document
from voxtral.book.reading.epub import read_epub
from voxtral.book.reading.markdown import markdown_to_html, split_front
from voxtral.book.reading.plain import text_to_html
from voxtral.book.types import Book, BookLimits, CodeMode, NotesMode, RubyMode, TablesMode, count_letters
from voxtral.errors import BookError, quoted

__all__ = ["read_book"]

_PAGES, _MARKDOWN, _TEXTS = (".html", ".htm", ".xhtml"), (".md", ".markdown"), (".txt", ".text")
_ARCHIVE = b"PK\x03\x04"


def read_book(
    path: str | Path,
    *,
    ruby: RubyMode = "auto",
    notes: NotesMode = "skip",
    tables: TablesMode = "rows",
    code: CodeMode = "skip",
    depth: int | None = None,
    limits: BookLimits | None = None,
) -> Book:
    """Read a book; nothing of its text is lost, only put among what is left out.

    Args:
        path: an EPUB, a page of HTML, Markdown or plain text, by its ending and its first bytes.
        ruby: "base" says what readings stand above, "reading" the readings; "auto" takes readings in Japanese books.
        notes: left out, said behind the paragraph that calls them, or at the end of the chapter.
        tables: said row by row, or left out.
        code: program text is left out, or said.
        depth: levels of the table of contents that make chapters, from 1; None takes the most that leave at most 120
            chapters with a median of 1,500 characters.
        limits: what is refused.

    Raises:
        BookError: the file is missing, no book, protected, too large, or has no text.
    """
    path, limits = Path(path), limits or BookLimits()
    try:
        size = path.stat().st_size
        if size > limits.num_text_bytes:
            raise BookError(f"{quoted(path.name)} has {size} bytes; at most {limits.num_text_bytes} are read")
        data = path.read_bytes()
    except OSError as error:
        raise BookError(f"{quoted(str(path))} cannot be read ({error.strerror or error}); check the path") from error
    options = ReadOptions("reading" if ruby == "reading" else "base", tables, code, limits.depth)
    suffix = path.suffix.lower()
    if suffix == ".epub" or data.startswith(_ARCHIVE):
        ruby_reads = None if ruby == "auto" else ruby == "reading"
        return read_epub(data, options, notes, depth, limits, ruby_reads=ruby_reads)
    if suffix not in (*_PAGES, *_MARKDOWN, *_TEXTS):
        raise BookError(f"{quoted(path.name)} is no kind of book that is read; give an .epub, .md, .html or .txt")
    return _read_page(path.name, suffix, decode(data), options, notes, depth)


def _read_page(name: str, suffix: str, text: str, options: ReadOptions, notes: NotesMode, depth: int | None) -> Book:
    """Read a book that is one file."""
    front: dict[str, list[str]] = {}
    if suffix in _MARKDOWN:
        front, text = split_front(text)
        text = markdown_to_html(text)
    elif suffix in _TEXTS:
        text = text_to_html(text)
    document = read_document(name, text, options)
    if not any(count_letters(block.text) for block in document.blocks):
        raise BookError(f"{quoted(name)} has no text that could be read")
    warnings: list[str] = []
    division = divide([Page(name, document)], (), notes, depth, warnings)
    title = next(iter(front.get("title", ())), "") or document.title
    if not title and division.chapters:
        title = next((chapter.title for chapter in division.chapters if chapter.title), "")
    language = next(iter(front.get("lang", front.get("language", ()))), None)
    return Book(
        title=title,
        authors=tuple(front.get("author", front.get("authors", ()))),
        language=language,
        chapters=division.chapters,
        date=next(iter(front.get("date", ())), None),
        description=next(iter(front.get("description", ())), None),
        omissions=division.omissions,
        warnings=tuple(warnings),
    )
