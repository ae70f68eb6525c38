"""An EPUB to a book. Read next: `voxtral.book.reading.package`, `contents`, `document` and `chapters`."""

from __future__ import annotations

import re

from voxtral.book.reading.archive import Archive
from voxtral.book.reading.chapters import Page, divide
from voxtral.book.reading.contents import read_contents
from voxtral.book.reading.decode import decode
from voxtral.book.reading.document import ReadOptions, read_document
from voxtral.book.reading.matter import matter_of_types
from voxtral.book.reading.package import read_cover, read_package
from voxtral.book.types import Book, BookLimits, NotesMode, count_letters
from voxtral.errors import BookError


def read_epub(
    data: bytes,
    options: ReadOptions,
    notes: NotesMode,
    depth: int | None,
    limits: BookLimits,
    *,
    ruby_reads: bool | None,
) -> Book:
    """Read an EPUB.

    Args:
        data: of the archive.
        options: of its documents.
        notes: what becomes of notes.
        depth: levels of its table of contents that make chapters.
        limits: see there.
        ruby_reads: whether readings take the place of what they stand above; None: where the language is Japanese.

    Raises:
        BookError: it is no EPUB, is protected, breaks a limit, or has no text.
    """
    archive = Archive(data, limits)
    package = read_package(archive, limits)
    entries = read_contents(archive, package, limits)
    is_japanese = (package.language or "").lower().startswith("ja")
    if is_japanese if ruby_reads is None else ruby_reads:
        options = ReadOptions("reading", options.tables, options.code, options.depth)
    pages: list[Page] = []
    for item, is_linear in package.spine:
        content = archive.read(item.path)
        if content is None:
            archive.warnings.append(f"{item.path} is missing; what it held is not in the book")
            continue
        path = archive.find(item.path) or item.path
        why = matter_of_types(frozenset(package.guide.get(item.path, "").removeprefix("other.").split()))
        if "nav" in item.properties:
            why = why or "table of contents"
        if not is_linear:
            why = why or "not part of the reading order"
        pages.append(Page(item.path, read_document(path, decode(content), options), why))
    num_letters = sum(count_letters(block.text) for page in pages for block in page.document.blocks)
    num_left_out = sum(count_letters(omission.text) for page in pages for omission in page.document.omissions)
    if not num_letters:
        if any(page.document.num_pictures for page in pages) and not num_left_out:
            raise BookError("this book holds pictures, no text; make text of them first (OCR)")
        raise BookError("this book has no text that could be read")
    division = divide(pages, entries, notes, depth, archive.warnings, package.first("title") or "")
    cover = read_cover(archive, package, limits)
    return Book(
        title=package.first("title") or "",
        authors=tuple(package.metadata.get("creator", ())),
        language=package.language,
        chapters=division.chapters,
        publisher=package.first("publisher"),
        date=package.first("date"),
        identifier=package.first("identifier"),
        rights=package.first("rights"),
        description=_without_tags(package.first("description")),
        cover=cover,
        omissions=division.omissions,
        warnings=tuple(dict.fromkeys(archive.warnings)),
    )


def _without_tags(text: str | None) -> str | None:
    return None if text is None else " ".join(re.sub(r"<[^<>]*>", " ", text).split())
