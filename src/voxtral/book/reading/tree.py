"""The small XML files of an EPUB as a tree, however badly they are made: no tag that is missing stops it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from voxtral.book.reading.decode import decode
from voxtral.book.reading.tags import TagReader

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


class _Builder(TagReader):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.root = Node("")
        self._stack = [self.root]
        self._depth = depth
        self._num_nodes = 0

    def start(self, tag: str, attributes: dict[str, str], *, is_empty: bool) -> None:
        named = {name.rpartition(":")[2]: value for name, value in reversed(attributes.items())}
        node = Node(tag, named)
        self._num_nodes += 1
        if self._num_nodes <= _MOST_NODES:
            self._stack[-1].children.append(node)
        if not is_empty and len(self._stack) < self._depth:
            self._stack.append(node)

    def end(self, tag: str) -> None:
        for place in range(len(self._stack) - 1, 0, -1):
            if self._stack[place].tag == tag:
                del self._stack[place:]
                return

    def text(self, data: str) -> None:
        self._stack[-1].children.append(data)


def parse_tree(data: bytes, depth: int) -> Node:
    """Read XML or HTML; elements deeper than `depth` are not nested any further."""
    builder = _Builder(depth)
    builder.read(decode(data))
    return builder.root
