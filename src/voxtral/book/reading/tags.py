"""Tags and text of HTML and XML, however damaged: each character is looked at a few times, and none is refused.

Not `html.parser`: of a page of 48 kB with tags that never end it makes half a minute, of `<![x[` an error, and what it
takes for text differs from one Python to the next. What a tag means is said by those who build on this.
"""

from __future__ import annotations

import html
import re

_NAME = re.compile(r"[A-Za-z_][^\s/><]*")
# Behind the quote that ends a value the tag goes on: one that is missing must not take text up to the next with it.
_ATTRIBUTE = re.compile(
    r"""[\s/]*([^\s=/><"'][^\s=/><]*)"""
    r"""(?:\s*=\s*(?:"([^"]*)"(?=[\s/>])|'([^']*)'(?=[\s/>])|([^\s>"'<][^\s><]*)|["'][^\s><"']*)?)?"""
)
_TO_END = re.compile(r"[^><]*")
# What is text until its own end tag, where that comes.
_RAW = ("script", "style")
_DECLARATION = re.compile(r"<!DOCTYPE\b[^>\[<]*(?:\[(?:[^\]\"']|\"[^\"]*\"|'[^']*')*\]\s*)?>", re.IGNORECASE)


class TagReader:
    """Calls `start`, `end` and `text` for what a page is made of, in order.

    Attributes:
        position: offset in the page of what is being told.
        stop: offset behind it.
        page: that is being read.
    """

    def __init__(self) -> None:
        self.position = 0
        self.stop = 0
        self.page = ""
        self._absent: set[str] = set()
        self._is_declared = False

    def start(self, tag: str, attributes: dict[str, str], *, is_empty: bool) -> None:
        """Take a tag that begins: its name in small letters without prefix, its first attributes of each name."""

    def end(self, tag: str) -> None:
        """Take a tag that ends."""

    def text(self, data: str) -> None:
        """Take text, references resolved."""

    def read(self, page: str) -> None:
        """Read a page to its end."""
        self.page = page
        at = 0
        while at < len(page):
            opened = page.find("<", at)
            if opened != at:
                opened = opened if opened >= 0 else len(page)
                self._tell(page[at:opened], at, opened)
                at = opened
            else:
                at = self._markup(page, at)

    def _tell(self, text: str, at: int, stop: int) -> None:
        self.position, self.stop = at, stop
        if text:
            self.text(html.unescape(text) if "&" in text else text)

    def _markup(self, page: str, at: int) -> int:
        """Read what begins with "<"; give the offset behind it."""
        after = page[at + 1 : at + 2]
        if after == "/":
            return self._end(page, at)
        if after == "!":
            return self._declaration(page, at)
        if after == "?":
            return self._past(page, at, ">", 1)
        if found := _NAME.match(page, at + 1):
            return self._start(page, at, found)
        self._tell("<", at, at + 1)
        return at + 1

    def _past(self, page: str, at: int, end: str, length: int) -> int:
        """Give the offset behind `end`; only behind what began where it never ends."""
        stop = -1 if end in self._absent else page.find(end, at + length)
        if stop < 0:
            self._absent.add(end)  # not to be looked for again from each place
            return min(len(page), at + length)
        return stop + len(end)

    def _declaration(self, page: str, at: int) -> int:
        if page.startswith("<!--", at):
            return self._past(page, at, "-->", 4)
        if page.startswith("<![CDATA[", at):
            stop = self._past(page, at, "]]>", 9)
            self.position, self.stop = at + 9, stop
            if data := page[at + 9 : stop - 3]:
                self.text(data)
            return stop
        found = None if self._is_declared else _DECLARATION.match(page, at)
        self._is_declared = True
        return found.end() if found else self._past(page, at, ">", 2)

    def _end(self, page: str, at: int) -> int:
        found = _NAME.match(page, at + 2)
        if found is None:
            return self._past(page, at, ">", 2)
        stop = _end_of_tag(page, found.end())
        self.position, self.stop = at, stop
        self.end(found.group().rpartition(":")[2].lower())
        return stop

    def _start(self, page: str, at: int, name: re.Match[str]) -> int:
        stop = name.end()
        attributes: dict[str, str] = {}
        while (found := _ATTRIBUTE.match(page, stop)) is not None:
            key = found.group(1).lower()
            value = next((each for each in found.groups()[1:] if each is not None), "")
            attributes.setdefault(key, html.unescape(value) if "&" in value else value)
            stop = found.end()
        filled = stop
        stop = _end_of_tag(page, stop)
        is_empty = page[filled:stop].rstrip(">").endswith("/")
        tag = name.group().rpartition(":")[2].lower()
        self.position, self.stop = at, stop
        self.start(tag, attributes, is_empty=is_empty)
        return stop if is_empty or tag not in _RAW else self._raw(page, stop, tag)

    def _raw(self, page: str, at: int, tag: str) -> int:
        """Read up to the end tag; where there is none, nothing is raw."""
        if tag in self._absent:
            return at
        found = re.compile(rf"</{tag}[\s>/]", re.IGNORECASE).search(page, at)
        if found is None:
            self._absent.add(tag)
            return at
        self._tell(page[at : found.start()], at, found.start())
        return found.start()


def _end_of_tag(page: str, at: int) -> int:
    """Give the offset behind the ">" of a tag, or before the next one where that is missing."""
    found = _TO_END.match(page, at)
    stop = found.end() if found else at
    return stop + 1 if page.startswith(">", stop) else stop
