"""The package document of an EPUB: what it is, its documents in order, its cover and what its parts are.

Source: EPUB 2.0.1 (OPF) and EPUB 3.3, as far as books keep to them.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from voxtral.book.reading.archive import Archive
from voxtral.book.reading.tree import Node, parse_tree
from voxtral.book.types import BookLimits
from voxtral.errors import BookError, quoted

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_DOCUMENTS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document", "text/xml")
_DOCUMENT_NAMES = (".xhtml", ".html", ".htm", ".xml")
_COVER_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{2,8})*")
_NO_LANGUAGES = ("und", "zxx", "mul", "mis")


@dataclass(frozen=True)
class Item:
    """A file of the manifest.

    Attributes:
        path: in the archive.
        media_type: as it is said to be.
        properties: of EPUB 3.
    """

    path: str
    media_type: str
    properties: tuple[str, ...]

    @property
    def is_document(self) -> bool:
        """Whether it holds text: by its type, or by its name where that says nothing."""
        is_known = "/" in self.media_type and self.media_type != "application/octet-stream"
        return self.media_type in _DOCUMENTS or (not is_known and self.path.lower().endswith(_DOCUMENT_NAMES))


@dataclass
class Package:
    """What a package document says.

    Attributes:
        metadata: values by the name of the element.
        items: of the manifest, by id.
        spine: documents in reading order, and whether each is part of that order.
        guide: what a document is, by its path; EPUB 2's guide, EPUB 3's landmarks come to it.
        contents_id: of the ncx.
        cover: path of the picture, if one is named.
    """

    metadata: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    items: dict[str, Item] = field(default_factory=dict[str, Item])
    spine: list[tuple[Item, bool]] = field(default_factory=list[tuple[Item, bool]])
    guide: dict[str, str] = field(default_factory=dict[str, str])
    contents_id: str = ""
    cover: str | None = None

    def first(self, name: str) -> str | None:
        """Give the first value of a kind of metadata."""
        return next(iter(self.metadata.get(name, ())), None)

    @property
    def language(self) -> str | None:
        """The language of the book, where it is one."""
        tag = (self.first("language") or "").strip().replace("_", "-")
        return tag if _LANGUAGE.fullmatch(tag) and tag.lower() not in _NO_LANGUAGES else None


def read_package(archive: Archive, limits: BookLimits) -> Package:
    """Find the package document and read it.

    Raises:
        BookError: there is none, or what it names is encrypted.
    """
    path = _find_package(archive, limits)
    data = archive.read(path)
    if data is None:
        raise BookError(f"the book names {quoted(path)} as its package document, which is not in it")
    root, base = parse_tree(data, limits.depth), posixpath.dirname(archive.find(path) or path)
    package = Package()
    covers: dict[str, str] = {}
    for node in root.walk():
        _take(node, package, covers, base)
    _read_spine(root, package, archive)
    _refuse_protected(archive, package, limits)
    named = next((item.path for item in package.items.values() if "cover-image" in item.properties), None)
    of_meta = package.items.get(covers.get("meta", ""))
    package.cover = named or (of_meta.path if of_meta is not None else covers.get("guide"))
    return package


def _take(node: Node, package: Package, covers: dict[str, str], base: str) -> None:
    attributes = node.attributes
    if node.tag in ("title", "creator", "language", "publisher", "date", "identifier", "rights", "description"):
        if text := node.text:
            package.metadata.setdefault(node.tag, []).append(text)
    elif node.tag == "item":
        path = resolve(base, attributes.get("href", ""))[0]
        media_type = attributes.get("media-type", "").strip().lower()
        package.items[attributes.get("id", path)] = Item(
            path, media_type, tuple(attributes.get("properties", "").split())
        )
    elif node.tag == "reference":
        path = resolve(base, attributes.get("href", ""))[0]
        kind = attributes.get("type", "").lower()
        package.guide.setdefault(path, kind)
        if kind == "cover" and not path.lower().endswith(_DOCUMENT_NAMES):
            covers["guide"] = path
    elif node.tag == "meta" and attributes.get("name") == "cover":
        covers["meta"] = attributes.get("content", "")
    elif node.tag == "spine":
        package.contents_id = attributes.get("toc", "")


def _read_spine(root: Node, package: Package, archive: Archive) -> None:
    for node in root.all("itemref"):
        name = node.attributes.get("idref", "")
        item = package.items.get(name)
        if item is None:
            archive.warnings.append(f"the spine names {quoted(name)}, which the manifest lacks; it was left out")
        elif not item.is_document:
            archive.warnings.append(f"{item.path} of the spine is {item.media_type}, no text; it was left out")
        else:
            package.spine.append((item, node.attributes.get("linear", "yes").lower() != "no"))
    if not package.spine:
        documents = [item for item in package.items.values() if item.is_document and "nav" not in item.properties]
        if not documents:
            names = [name for name in archive.names if name.lower().endswith((".xhtml", ".html", ".htm"))]
            documents = [Item(name, "application/xhtml+xml", ()) for name in names]
        if documents:
            archive.warnings.append("the book says no order of its documents; they were read as they are listed")
        package.spine = [(item, True) for item in documents]


def _find_package(archive: Archive, limits: BookLimits) -> str:
    container = archive.read(_CONTAINER)
    if container is not None:
        for node in parse_tree(container, limits.depth).all("rootfile"):
            path = node.attributes.get("full-path", "")
            if path and archive.find(path) is not None:
                return path
    candidates = sorted(name for name in archive.names if name.lower().endswith(".opf"))
    if not candidates:
        raise BookError("the archive is no EPUB: it has no package document (.opf)")
    archive.warnings.append(f"{_CONTAINER} is missing or wrong; {candidates[0]} was taken for the book")
    return candidates[0]


def _refuse_protected(archive: Archive, package: Package, limits: BookLimits) -> None:
    """Fonts may be obscured, which harms nobody; a book with an encrypted document only its seller's reader opens."""
    data = archive.read(_ENCRYPTION)
    if data is None:
        return
    documents = {archive.find(item.path) for item, _ in package.spine}
    for node in parse_tree(data, limits.depth).all("cipherreference"):
        path = archive.find(node.attributes.get("uri", "").lstrip("/"))
        if path is not None and (path in documents or path.lower().endswith((*_DOCUMENT_NAMES, ".opf", ".ncx"))):
            raise BookError(f"this book is protected: {quoted(path)} is encrypted; take a copy that is not")


def read_cover(archive: Archive, package: Package, limits: BookLimits) -> bytes | None:
    """Read the cover, if there is one that players show."""
    if package.cover is None:
        return None
    try:
        data = archive.read(package.cover, limits.num_cover_bytes)
    except BookError as error:
        archive.warnings.append(f"the cover was left out: {error}")
        return None
    if data is None:
        archive.warnings.append(f"the cover {package.cover} is missing")
        return None
    if not data.startswith(_COVER_BEGINNINGS):
        archive.warnings.append(f"the cover {package.cover} is neither JPEG nor PNG; it was left out")
        return None
    return data


def resolve(base: str, href: str) -> tuple[str, str | None]:
    """Say which file a reference means, from the folder it stands in, and which place in it.

    >>> resolve("OEBPS", "text/a%20b.xhtml#c")
    ('OEBPS/text/a b.xhtml', 'c')
    """
    path, _, fragment = href.strip().partition("#")
    return posixpath.normpath(posixpath.join(base, unquote(path))), unquote(fragment) or None
