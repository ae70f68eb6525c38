"""The table of contents of an EPUB: of EPUB 3, else of EPUB 2, else none.

Source: EPUB 3.3, 5.4 (navigation document); DAISY/NISO Z39.86-2005, 8 (ncx).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from voxtral.book.reading.archive import Archive
from voxtral.book.reading.package import Package, resolve
from voxtral.book.reading.tree import Node, parse_tree
from voxtral.book.types import BookLimits

_NCX = "application/x-dtbncx+xml"


@dataclass(frozen=True)
class Entry:
    """An entry of a table of contents.

    Attributes:
        title: as it is written.
        level: 0 for the outermost.
        path: of the document; None for a heading of the table alone.
        fragment: the place in it; None for its beginning.
    """

    title: str
    level: int
    path: str | None
    fragment: str | None


def read_contents(archive: Archive, package: Package, limits: BookLimits) -> tuple[Entry, ...]:
    """Read the table of contents, and what its landmarks say of documents into the package's guide."""
    entries: tuple[Entry, ...] = ()
    for item in package.items.values():
        if "nav" not in item.properties:
            continue
        data = archive.read(item.path)
        if data is None:
            archive.warnings.append(f"the table of contents {item.path} is missing")
            continue
        root, base = parse_tree(data, limits.depth), posixpath.dirname(item.path)
        for nav in root.all("nav"):
            kinds = nav.attributes.get("type", "").split()
            if "landmarks" in kinds:
                for link in nav.all("a"):
                    path = resolve(base, link.attributes.get("href", ""))[0]
                    package.guide.setdefault(path, link.attributes.get("type", "").lower())
            elif "toc" in kinds or nav.attributes.get("role") == "doc-toc":
                entries = entries or tuple(_of_lists(nav, item.path))
        entries = entries or tuple(_of_lists(root, item.path))
    return entries or _of_ncx(archive, package, limits)


def _of_lists(nav: Node, path: str) -> Iterator[Entry]:
    """Give the entries of nested lists, whatever stands around their links."""
    base = posixpath.dirname(path)
    waiting: list[tuple[Node, int]] = [(nav, -1)]
    while waiting:
        node, level = waiting.pop()
        if node.tag in ("a", "span") and level >= 0:
            href = node.attributes.get("href")
            target, fragment = (None, None) if not href else resolve(base, href)
            if target == base and href is not None and href.startswith("#"):
                target = path
            if title := node.text:
                yield Entry(title, level, target, fragment)
            continue
        inner = level + (node.tag in ("ol", "ul"))
        waiting += [(child, inner) for child in reversed(node.children) if isinstance(child, Node)]


def _of_ncx(archive: Archive, package: Package, limits: BookLimits) -> tuple[Entry, ...]:
    named = package.items.get(package.contents_id)
    items = [item for item in package.items.values() if item.media_type == _NCX]
    for item in ([named] if named is not None else []) + items:
        data = archive.read(item.path)
        if data is None:
            archive.warnings.append(f"the table of contents {item.path} is missing")
            continue
        entries = tuple(_of_points(parse_tree(data, limits.depth), posixpath.dirname(item.path)))
        if entries:
            return entries
    return ()


def _of_points(root: Node, base: str) -> Iterator[Entry]:
    waiting: list[tuple[Node, int]] = [(root, -1)]
    while waiting:
        node, level = waiting.pop()
        if node.tag in ("pagelist", "navlist"):
            continue
        if node.tag == "navpoint":
            level += 1
            own = [child for child in node.children if isinstance(child, Node)]
            title = next((child.text for child in own if child.tag == "navlabel"), "")
            source = next((child.attributes.get("src", "") for child in own if child.tag == "content"), "")
            path, fragment = resolve(base, source) if source else (None, None)
            if title or path:
                yield Entry(title, level, path, fragment)
        waiting += [(child, level) for child in reversed(node.children) if isinstance(child, Node)]
