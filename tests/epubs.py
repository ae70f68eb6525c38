"""EPUBs made for tests, and a count of their letters that knows nothing of how they are read."""

from __future__ import annotations

import html
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from voxtral.book.types import Book, count_letters

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def page(body: str, *, title: str = "A title of the head", attributes: str = "") -> str:
    """A page of XHTML."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>{title}</title>'
        "<style>p { margin: 0 }</style></head>\n"
        f"<body{attributes}>{body}</body></html>"
    )


def contents(*entries: tuple[int, str, str]) -> str:
    """A navigation document: (level, title, href) each."""
    written, level = "<ol>", 0
    for place, (wanted, title, href) in enumerate(entries):
        if wanted > level:
            written += "<ol>" * (wanted - level)
        elif place:
            written += "</li>" + "</ol></li>" * (level - wanted)
        level = wanted
        written += f'<li><a href="{href}">{title}</a>'
    written += "</li>" + "</ol></li>" * level + "</ol>"
    return page(f'<nav epub:type="toc">{written}</nav>')


def epub(
    documents: Mapping[str, str],
    *,
    nav: str | None = None,
    language: str = "en",
    metadata: str = "",
    guide: str = "",
    extra: Mapping[str, str | bytes] | None = None,
    unlinear: Sequence[str] = (),
) -> bytes:
    """An EPUB of pages in their order."""
    items = "".join(
        f'<item id="d{number}" href="{name}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(documents)
    )
    spine = "".join(
        f'<itemref idref="d{number}"{" linear=" + chr(34) + "no" + chr(34) if name in unlinear else ""}/>'
        for number, name in enumerate(documents)
    )
    if nav is not None:
        items += '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>A Book</dc:title>'
        "<dc:creator>Ann Author</dc:creator>"
        f"<dc:language>{language}</dc:language>{metadata}</metadata><manifest>{items}</manifest><spine>{spine}</spine>"
        f"{guide}</package>"
    )
    files: dict[str, str | bytes] = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
    files["OEBPS/book.opf"] = package
    files |= {f"OEBPS/{name}": text for name, text in documents.items()}
    if nav is not None:
        files["OEBPS/nav.xhtml"] = nav
    return archive(files | dict(extra or {}))


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """A zip archive."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return data.getvalue()


def saved(folder: Path, data: bytes, name: str = "book.epub") -> Path:
    """A file with these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


def letters_of_page(text: str) -> int:
    """Count the letters that stand in a body."""
    text = re.sub(r"<!--.*?-->|<\?.*?\?>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!DOCTYPE[^>\[]*(?:\[.*?\]\s*)?>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"<(head|script|style)\b.*?</\1\s*>", "", text, flags=re.DOTALL | re.IGNORECASE)
    return count_letters(html.unescape(re.sub(r"<[^>]*>", "", text)))


def letters_of_book(book: Book) -> int:
    """Count the letters of the file that are said, or named among what is not."""
    said = sum(count_letters(block.text) - block.num_added for chapter in book.chapters for block in chapter.blocks)
    return said + sum(count_letters(omission.text) for omission in book.omissions)
