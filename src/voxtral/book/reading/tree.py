"""The small XML files of an EPUB as a tree, however badly they are made: no tag that is missing stops it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

from voxtral.book.reading.decode import decode, without_doctype

_MOST_NODES = 200_000


@dataclass(eq=False)
class Node:
    """An element.

    Attributes:
        tag: in small letters, without prefix.
        attributes: with names in small letters and without prefix, but for "epub:type", which is "type".
        children: elements and texts in order.
    """

    tag: str
    attributes: dict[str, str] = field(default_factory=dict[str, str])
    children: list[Node | str] = field(default_factory=list["Node | str"])

    def walk(self) -> Iterator[Node]:
        """Give all elements below in the order in which they begin."""
        waiting = [child for child in reversed(self.children) if isinstance(child, Node)]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += [child for child in reversed(node.children) if isinstance(child, Node)]

    def all(self, *tags: str) -> Iterator[Node]:
        """Give the elements of some tags."""
        return (node for node in self.walk() if node.tag in tags)

    @property
    def text(self) -> str:
        """All text below, white space made plain."""
        pieces: list[str] = []
        waiting: list[Node | str] = [self]
        while waiting:
            each = waiting.pop()
            if isinstance(each, str):
                pieces.append(each)
            else:
                waiting += reversed(each.children)
        return " ".join("".join(pieces).split())


class _Builder(HTMLParser):
    def __init__(self, depth: int) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("")
        self._stack = [self.root]
        self._depth = depth
        self._num_nodes = 0

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> Node:
        named = {name.rpartition(":")[2]: value or "" for name, value in reversed(attrs)}
        node = Node(tag.rpartition(":")[2], named)
        self._num_nodes += 1
        if self._num_nodes <= _MOST_NODES:
            self._stack[-1].children.append(node)
        return node

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = self._add(tag, attrs)
        if len(self._stack) < self._depth:
            self._stack.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        for place in range(len(self._stack) - 1, 0, -1):
            if self._stack[place].tag == tag:
                del self._stack[place:]
                return

    def handle_data(self, data: str) -> None:
        self._stack[-1].children.append(data)


def parse_tree(data: bytes, depth: int) -> Node:
    """Read XML or HTML; elements deeper than `depth` are not nested any further."""
    builder = _Builder(depth)
    builder.feed(without_doctype(decode(data)))
    builder.close()
    return builder.root
