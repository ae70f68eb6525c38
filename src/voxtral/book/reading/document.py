"""A page of HTML to blocks: what is said, in order, and what is not, with the reason. Every letter goes to one of both.

Tags need not be closed, known or nested as they should be. Source: EPUB 3 Structural Semantics Vocabulary and DPUB-ARIA
for what notes, their references and page numbers are called. The file is one idea: each tag does something to the one
state that a text comes into. Read next: `voxtral.book.reading.chapters`.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import Literal

from voxtral.book.reading.matter import matter_of_types
from voxtral.book.reading.tags import TagReader
from voxtral.book.types import Block, BlockKind, CodeMode, Omission, SourceRef, TablesMode, count_letters

Ruby = Literal["base", "reading"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BLOCKS = _words(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre section summary "
    "table tbody td tfoot th thead tr ul"
)
_VOID = _words("area base basefont br col embed frame hr img image input link meta param source track wbr")
# What a browser does not show as text, and what stands for a picture or a sound.
_UNSEEN = {
    "script": "", "style": "", "head": "", "template": "template", "rp": "mark of a reading", "math": "formula",
    "svg": "picture", "audio": "sound", "video": "film", "canvas": "picture", "object": "picture", "iframe": "frame",
    "noscript": "for other readers",
}  # fmt: skip
_NOTE_TYPES = _words(
    "footnote footnotes endnote endnotes rearnote rearnotes doc-footnote doc-endnote doc-endnotes note"
)
_NOTE_CLASSES = _words("footnote footnotes footnotetext endnote endnotes rearnote rearnotes")
_NOTE_TAGS = _words("aside blockquote dd div dl dt li ol p section td ul")
_REFERENCE_CLASSES = _words(
    "fnanchor fnref noteref note-ref footnote-ref footnoteref footnote footnote-anchor endnote-ref"
)
_CODE_CLASSES = _words(
    "code programlisting listing sourcecode source-code prettyprint highlight computer-code screen src"
)
_REFERENCE_TYPES, _PAGE_TYPES = frozenset(("noteref", "doc-noteref")), frozenset(("pagebreak", "doc-pagebreak"))
_BACK_TYPES = frozenset(("backlink", "doc-backlink"))
_PAGE_CLASSES = _words("pagenum pageno page-number pagenumber page_number page-num page-no newpage pagebreak")
_PAGE_NUMBER = re.compile(
    r"[\[({]?\s*(?:p(?:g|age|\.)?\.?\s*)?(?:\d{1,4}[a-z]?|[ivxlcdm]{1,8})\s*[\])}]?", re.IGNORECASE
)
# Of what stands in a link that is raised: a number, a letter or a sign, in brackets or not.
_REFERENCE = re.compile(r"[\[({]?\s*(?:\d{1,4}|[A-Za-z]|[ivxlc]{1,6}|[*†‡§¶#]+)\s*[\])}]?\.?")
# A link to a place that says no more than a number or a sign: one in brackets, or a sign, is a reference anywhere.
_LINK_TEXT = re.compile(
    r"(?:<(?:span|sup|small|b|i|em)\b[^<>]{0,99}>){0,3}([^<>]{1,12})(?:</(?:span|sup|small|b|i|em)>){0,3}</a",
    re.IGNORECASE,
)
_BRACKETED = re.compile(r"\s*(?:[\[({]\s*(?:\d{1,4}|[A-Za-z]|[ivxlc]{1,6}|[*†‡§¶#]+)\s*[\])}]|[*†‡§¶]+)\s*")
_BLANK_LINES = re.compile(r"\n[ \t\r]*(?:\n[ \t\r]*)+")
_VERSE_WORDS = _words("verse poem poetry stanza strophe canto lg linegroup poem-line verseline z3998:verse")
_VERSE_LINE_CHARS, _LEAST_VERSE_LINES = 60, 2
_BREAK = re.compile(r"[\W_]*")
_SPACE = re.compile(r"[ \t\r\n\f\u200b]+")
_LEAST_ALT_WORDS = 4
_ENDS = re.compile(r"[^\w\s]\s*$")


@dataclass
class Document:
    """A page that has been read.

    Attributes:
        blocks: in order; notes among them.
        note_ids: of each block the id of the note that it belongs to; None for what is none.
        matters: of each block why it is no text of the book, such as "title page"; "" for what is.
        ids: of each id the index of the block that it stands at or before.
        calls: of a block, by its index, the notes that it refers to: file and fragment, as they are written.
        omissions: what is not said.
        title: of the head.
        num_pictures: on it.
    """

    blocks: list[Block] = field(default_factory=list[Block])
    note_ids: list[str | None] = field(default_factory=list["str | None"])
    matters: list[str] = field(default_factory=list[str])
    ids: dict[str, int] = field(default_factory=dict[str, int])
    calls: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    omissions: list[Omission] = field(default_factory=list[Omission])
    title: str = ""
    num_pictures: int = 0


@dataclass
class _Element:
    """An open tag and what holds within it.

    Attributes:
        omit: why its text is not said; "" says that nobody wants to know; None: it is said.
        note: the id of the note that it is, "" without one; None outside of notes.
    """

    tag: str
    omit: str | None
    note: str | None
    matter: str
    language: str | None
    is_verse: bool
    is_code: bool = False
    counter: list[int] | None = None  # of an ordered list: the next number, and the step to the one after it
    marker: str = "1"


@dataclass
class _Table:
    headers: list[str] = field(default_factory=list[str])
    cells: list[str] = field(default_factory=list[str])
    are_headers: list[bool] = field(default_factory=list[bool])
    cell: list[str] | None = None
    start: int = 0
    num_added: int = 0


@dataclass(frozen=True)
class ReadOptions:
    """How a page is read; see `voxtral.book.read_book`."""

    ruby: Ruby = "base"
    tables: TablesMode = "rows"
    code: CodeMode = "skip"
    depth: int = 256


class _Reader(TagReader):
    """Takes a page as its tags and texts come."""

    def __init__(self, file: str, options: ReadOptions) -> None:
        super().__init__()
        self.document = Document()
        self._file, self._options = file, options
        self._stack: list[_Element] = [_Element("", None, None, "", None, False)]
        self._pieces: list[str] = []
        self._span = (0, 0)
        self._marker = ""  # of an item that has begun, until it says something
        self._last_id: str | None = None
        self._omitted: list[str] = []
        self._omitted_span = (0, 0)
        self._why = ""
        self._tables: list[_Table] = []
        self._ruby_base: list[str] | None = None
        self._reading_at = 0
        self._num_initials = 0
        self._title: list[str] | None = None
        self._reference = ""
        self._last_call: list[str] = []

    # Places.

    def _source(self, span: tuple[int, int]) -> SourceRef:
        return SourceRef(self._file, self._last_id, *span)

    # Tags.

    def start(self, tag: str, attributes: dict[str, str], *, is_empty: bool) -> None:
        self._close_before(tag)
        for name in ("id", "name", "xml:id"):
            if attributes.get(name) and (name != "name" or tag == "a"):
                self._last_id = attributes[name]
                self.document.ids.setdefault(attributes[name], len(self.document.blocks))
                if tag == "a":
                    self._name_note(attributes[name])
        types = frozenset(f"{attributes.get('epub:type', '')} {attributes.get('role', '')}".lower().split())
        classes = frozenset(attributes.get("class", "").lower().split())
        element = self._element(tag, attributes, types, classes)
        if tag == "title" and not is_empty and any(each.tag == "head" for each in self._stack):
            self._title = []
        elif tag in ("img", "image"):
            self._picture(attributes, element)
        elif element.omit is None:
            self._begin(tag, attributes, is_empty=is_empty)
        if not is_empty and tag not in _VOID and len(self._stack) < self._options.depth:
            self._stack.append(element)

    def _name_note(self, name: str) -> None:
        """Name the note that stands open without an id by the first place in it."""
        for element in self._stack:
            element.note = name if element.note == "" else element.note

    def _close_before(self, tag: str) -> None:
        """Close what cannot go on where a tag begins."""
        if tag in _BLOCKS and tag != "html":
            self._leave_head_and_pictures()
        if tag == "p":
            self._close_implied("p")
        elif tag in ("li", "dt", "dd", "tr", "td", "th"):
            self._close_within(tag)
        if tag in _BLOCKS:
            self._flush()

    def _begin(self, tag: str, attributes: dict[str, str], *, is_empty: bool) -> None:
        """Do what some tags want besides holding text."""
        if tag == "br":
            self._pieces.append("\n")
        elif tag == "hr":
            self._add(Block("break", "", self._source((self.position, self.position))))
        elif tag == "a":
            self._reference = attributes.get("href", "")
        elif tag == "li":
            self._number(attributes)
        elif tag == "rt":
            self._reading_at = len(self._pieces)
        elif tag == "ruby":
            self._say_base()
            self._ruby_base = []
        elif tag == "table" and not is_empty:
            self._tables.append(_Table())
        elif tag in ("td", "th", "tr") and self._tables:
            table = self._tables[-1]
            if tag == "tr":
                table.start = self.position
            else:
                self._end_cell()  # one that could not be closed
                table.cell = []
                table.are_headers.append(tag == "th")

    def _element(
        self, tag: str, attributes: dict[str, str], types: frozenset[str], classes: frozenset[str]
    ) -> _Element:
        top = self._stack[-1]
        omit, note = top.omit, top.note
        if omit is None:
            omit = self._reason(tag, attributes, types, classes)
        is_note = tag == "note" or (bool(types & _NOTE_TYPES) and tag not in ("a", "sup", "span"))
        is_note = is_note or (bool(classes & _NOTE_CLASSES) and tag in _NOTE_TAGS)
        if is_note and (note is None or attributes.get("id")):
            note = attributes.get("id", "")
        language = attributes.get("xml:lang") or attributes.get("lang") or top.language
        is_verse = top.is_verse or bool((types | classes) & _VERSE_WORDS)
        is_code = top.is_code or _is_code(tag, classes, self._stack)
        if is_code and top.tag == "pre" and not any(map(str.strip, self._pieces)):
            top.is_code = True
        element = _Element(tag, omit, note, top.matter or matter_of_types(types), language, is_verse, is_code)
        if tag == "ol":
            element.counter = [_number_of(attributes.get("start"), 1), -1 if "reversed" in attributes else 1]
            element.marker = attributes.get("type", "1")
        return element

    def _reason(
        self, tag: str, attributes: dict[str, str], types: frozenset[str], classes: frozenset[str]
    ) -> str | None:
        if tag in _UNSEEN:
            return _UNSEEN[tag]
        # The tags are those of DTBook, an elder of EPUB that it still allows.
        if types & _PAGE_TYPES or tag == "pagenum":
            return "page number"
        if types & _REFERENCE_TYPES or tag == "noteref":
            self._call(attributes.get("href", "") or attributes.get("idref", ""))
            return "note reference"
        if types & _BACK_TYPES:
            return "link back from a note"
        if tag == "rt":
            return "reading" if self._options.ruby == "base" else None
        if hidden := _hidden(tag, attributes):
            return hidden
        if classes & _PAGE_CLASSES:
            return "page number?"
        is_link_raised = tag in ("sup", "a") and any(
            each.tag == ("a" if tag == "sup" else "sup") for each in self._stack
        )
        if is_link_raised:
            self._call(attributes.get("href", "") or self._reference)
            return "note reference?"
        if tag == "a" and self._is_reference(attributes.get("href", ""), classes):
            self._call(attributes["href"])
            return "note reference"
        if self._options.code == "skip" and _is_code(tag, classes, self._stack):
            return "program text"
        if tag == "table" and self._options.tables == "skip":
            return "table"
        return None

    def _is_reference(self, href: str, classes: frozenset[str]) -> bool:
        """Tell whether a link that begins is a reference to a note, by what it says."""
        said = _LINK_TEXT.match(self.page, self.stop) if "#" in href else None
        if said is None:
            return False
        pattern = _REFERENCE if classes & _REFERENCE_CLASSES else _BRACKETED
        return pattern.fullmatch(html.unescape(said.group(1))) is not None

    def end(self, tag: str) -> None:
        if tag == "title" and self._title is not None:
            self.document.title = self.document.title or " ".join("".join(self._title).split())
            self._title = None
        if not any(element.tag == tag for element in self._stack[1:]):
            return
        while len(self._stack) > 1:
            closed = self._pop()
            if closed == tag:
                break

    def _pop(self) -> str:
        element = self._stack[-1]
        if element.tag in _BLOCKS:
            self._flush()
        if element.tag == "rt" and element.omit is None:
            self._end_reading()
        self._stack.pop()
        if element.tag == "li":
            self._marker = ""
        if element.omit is not None and self._stack[-1].omit is None:
            self._end_omission()
        if element.tag == "ruby" and self._stack[-1].omit is None:
            self._say_base()
        if self._tables and element.omit is None:
            if element.tag in ("td", "th"):
                self._end_cell()
            elif element.tag == "tr":
                self._end_row()
            elif element.tag == "table":
                self._end_cell()
                self._end_row()
                self._tables.pop()
        return element.tag

    def _leave_head_and_pictures(self) -> None:
        """Close a head, picture or formula that was left open: no paragraph stands in one."""
        for place, element in enumerate(self._stack):
            if element.tag in ("head", "svg", "math"):
                while len(self._stack) > place:
                    self._pop()
                return

    def _close_implied(self, tag: str) -> None:
        """Close a paragraph that was left open, as a browser does where another begins."""
        for place in range(len(self._stack) - 1, 0, -1):
            if self._stack[place].tag == tag:
                while len(self._stack) > place:
                    self._pop()
                return
            if self._stack[place].tag in _BLOCKS:
                return

    def _close_within(self, tag: str) -> None:
        """Close an item, row or cell that was left open, within its own list or table."""
        closes = {"td": ("td", "th"), "th": ("td", "th"), "tr": ("tr",), "li": ("li",)}.get(tag, ("dt", "dd"))
        for place in range(len(self._stack) - 1, 0, -1):
            if self._stack[place].tag in closes:
                while len(self._stack) > place:
                    self._pop()
                return
            if self._stack[place].tag in ("ul", "ol", "dl", "menu", "table", "body", "html"):
                return

    # Text.

    def text(self, data: str) -> None:
        if self._title is not None:
            self._title.append(data)
        element = self._stack[-1]
        if element.omit is not None:
            if element.omit and data.strip():
                if not self._omitted:
                    self._omitted_span = (self.position, self.stop)
                self._omitted_span = (self._omitted_span[0], self.stop)
            if element.omit:
                self._omitted.append(data)
                self._why = element.omit
            return
        if self._ruby_base is not None and element.tag != "rt":
            self._ruby_base.append(data)
            self._widen(data)
            return
        is_set = not element.is_code and any(each.tag == "pre" for each in self._stack)
        parts = _BLANK_LINES.split(data) if is_set else [data]
        for place, part in enumerate(parts):
            if place:
                self._flush()
            self._widen(part)
            self._say(part)

    def _widen(self, data: str) -> None:
        if data.strip():
            start = self._span[0] if self._span != (0, 0) or any(map(str.strip, self._pieces)) else self.position
            self._span = (start, self.stop)

    def _say(self, data: str) -> None:
        """Take text as one line: only `br` ends lines, but for program text."""
        is_plain = any(element.tag == "pre" for element in self._stack)
        self._pieces.append(data if is_plain else _SPACE.sub(" ", data))

    def _say_base(self) -> None:
        """Say what stands in a `ruby` without a reading."""
        base, self._ruby_base = self._ruby_base, None
        if base:
            self._say("".join(base))

    def _end_reading(self) -> None:
        """Leave out what is written below a reading; what has none, or only dots beside it, is said as it is."""
        base = self._ruby_base
        if base and not any(map(str.isalpha, "".join(self._pieces[self._reading_at :]))):
            del self._pieces[self._reading_at :]
            self._say_base()
            self._ruby_base = []
            return
        if base is not None:
            self._ruby_base = []
        if base and (text := "".join(base).strip()):
            self.document.omissions.append(Omission(text, "written form of a reading", self._source(self._span)))

    def _end_omission(self) -> None:
        text, self._omitted = _SPACE.sub(" ", "".join(self._omitted)).strip(), []
        why, is_unsure = self._why.removesuffix("?"), self._why.endswith("?")
        if not text:
            return
        pattern = _PAGE_NUMBER if why == "page number" else _REFERENCE
        if is_unsure and not pattern.fullmatch(text):
            self._say(text)
            self._span = (self._span[0] or self._omitted_span[0], self._omitted_span[1])
            if why == "note reference":
                self._last_call.pop()
            return
        if why:
            self.document.omissions.append(Omission(text, why, self._source(self._omitted_span)))

    def _call(self, href: str) -> None:
        self._last_call = self.document.calls.setdefault(len(self.document.blocks), [])
        self._last_call.append(href)

    def _picture(self, attributes: dict[str, str], element: _Element) -> None:
        self.document.num_pictures += 1
        shown = " ".join(attributes.get("alt", "").split())
        if element.omit is None and len(shown) == 1 and shown.isalpha() and not any(map(str.strip, self._pieces)):
            self._pieces.append(shown)  # a painted initial
            self._num_initials += 1
            return
        has_caption = any(each.tag == "figure" for each in self._stack)
        if element.omit is None and not has_caption and len(shown.split()) >= _LEAST_ALT_WORDS and not self._tables:
            self._flush()
            source = self._source((self.position, self.position))
            self._add(Block("caption", shown, source, num_added=count_letters(shown)))

    def _number(self, attributes: dict[str, str]) -> None:
        """Begin an item of a list that is numbered with its number."""
        holder = next((each for each in reversed(self._stack) if each.tag in ("ol", "ul", "menu")), None)
        if holder is None or holder.counter is None:
            return
        number, step = holder.counter
        number = _number_of(attributes.get("value"), number)
        holder.counter[0] = number + step
        marker = f"{number}"
        if holder.marker in ("a", "A") and 1 <= number <= 26:
            marker = chr(ord(holder.marker) + number - 1)
        elif holder.marker in ("i", "I") and 1 <= number < 4000:
            marker = _roman(number) if holder.marker == "I" else _roman(number).lower()
        self._marker = f"{marker}. "

    # Blocks.

    def _flush(self) -> None:
        """End a block; within a cell of a table only a line."""
        self._say_base()
        pieces, self._pieces = self._pieces, []
        span, self._span = self._span, (0, 0)
        text = "".join(pieces)
        num_added, self._num_initials = self._num_initials, 0
        if text.strip() and self._marker:
            marker, self._marker = self._marker, ""
            text, num_added = marker + text.lstrip(), num_added + count_letters(marker)
        if self._tables and self._tables[-1].cell is not None:
            if text.strip():
                self._tables[-1].cell.append(_one_line(text))
                self._tables[-1].num_added += num_added
            return
        if not text.strip():
            return
        element = self._stack[-1]
        kind, level = self._kind(text)
        if kind == "code":
            text = text.strip("\n").rstrip()
        elif kind == "verse":
            text = _verse(text)
        else:
            text = _one_line(text)
        if not any(map(str.isalnum, text)) and kind not in ("code", "heading") and _BREAK.fullmatch(text):
            self._add(Block("break", "", self._source(span)))
            return
        self._add(Block(kind, text, self._source(span), level, element.language, num_added))

    def _kind(self, text: str) -> tuple[BlockKind, int]:
        for element in reversed(self._stack):
            if re.fullmatch("h[1-6]", element.tag):
                return "heading", int(element.tag[1])
            if element.tag == "hgroup":  # what stands below a heading in it belongs to that
                last = self.document.blocks[-1] if self.document.blocks else None
                return "heading", last.level if last is not None and last.kind == "heading" else 2
        top = self._stack[-1]
        if top.note is not None:
            return "note", 0
        tags = {element.tag for element in self._stack}
        if top.is_code:
            return "code", 0
        if "figcaption" in tags or "caption" in tags:
            return "caption", 0
        lines = [line for line in text.split("\n") if line.strip()]
        is_broken = len(lines) > _LEAST_VERSE_LINES and max(map(len, lines)) <= _VERSE_LINE_CHARS
        if top.is_verse or is_broken:
            return "verse", 0
        if tags & {"li", "dd", "dt"}:
            return "item", 0
        return ("quote", 0) if "blockquote" in tags else ("paragraph", 0)

    def _add(self, block: Block) -> None:
        element = self._stack[-1]
        self.document.blocks.append(block)
        self.document.note_ids.append(element.note)
        self.document.matters.append(element.matter)

    def _end_cell(self) -> None:
        table = self._tables[-1]
        if table.cell is None:
            return
        self._flush()
        table.cells.append(" ".join(table.cell))
        table.cell = None

    def _end_row(self) -> None:
        """Say a row as "header: cell"; of one that is all headers only these."""
        table = self._tables[-1]
        cells, are_headers = table.cells, table.are_headers
        table.cells, table.are_headers = [], []
        num_added, table.num_added = table.num_added, 0
        if not any(cell.strip() for cell in cells):
            return
        is_head = all(are_headers[: len(cells)])
        if is_head and not table.headers and len(cells) > 1:
            table.headers = cells
            said = [cell for cell in cells if cell]
        else:
            said = []
            for place, cell in enumerate(cells):
                header = table.headers[place] if place < len(table.headers) else ""
                if cell and header and not (place < len(are_headers) and are_headers[place]):
                    num_added += count_letters(header)
                    said.append(f"{header.rstrip(':')}: {cell}")
                elif cell:
                    said.append(cell)
        text = "; ".join(said)
        outer = self._tables[-2] if len(self._tables) > 1 else None
        if outer is not None and outer.cell is not None:
            outer.cell.append(text)
            outer.num_added += num_added
            return
        kind: BlockKind = "row" if len(said) > 1 else "paragraph"
        element = self._stack[-1]
        if element.note is not None:
            kind = "note"
        source = self._source((table.start, self.position))
        self._add(Block(kind, text, source, 0, element.language, num_added))

    def finish(self) -> Document:
        """Close what is open, and give what was read."""
        while len(self._stack) > 1:
            self._pop()
        self._end_omission()
        self._flush()
        return self.document


def read_document(file: str, text: str, options: ReadOptions | None = None) -> Document:
    """Read a page.

    Args:
        file: its name, for sources.
        text: decoded.
        options: how.
    """
    reader = _Reader(file, options or ReadOptions())
    reader.read(text)
    return reader.finish()


def _is_code(tag: str, classes: frozenset[str], around: list[_Element]) -> bool:
    """Tell whether program text begins: what is only set as it was typed may be a letter, a list or a poem."""
    if tag == "pre":
        return bool(classes & _CODE_CLASSES) or any(each.startswith("language-") for each in classes)
    return tag in ("code", "samp", "kbd") and any(element.tag == "pre" for element in around)


def _hidden(tag: str, attributes: dict[str, str]) -> str:
    """Say why a reader would not show an element; "" if it would."""
    if tag == "case" and "required-namespace" in attributes:
        return "form for other readers"
    style = attributes.get("style", "").replace(" ", "").lower()
    return "hidden" if "hidden" in attributes or "display:none" in style else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _verse(text: str) -> str:
    """Join lines; one that ends without a mark gets a comma, so that it is heard to end."""
    lines = [_one_line(line) for line in text.split("\n")]
    lines = [line for line in lines if line]
    return " ".join(
        line if _ENDS.search(line) or place + 1 == len(lines) else f"{line}," for place, line in enumerate(lines)
    )


def _number_of(text: str | None, otherwise: int) -> int:
    return int(text) if text is not None and re.fullmatch(r"-?\d{1,6}", text.strip()) else otherwise


def _roman(number: int) -> str:
    signs = (
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
    )
    said = ""
    for value, sign in (*signs, (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        while number >= value:
            said, number = said + sign, number - value
    return said


def block_at(document: Document, fragment: str | None) -> int:
    """Say before which block a place of the document is; 0 without or with an unknown one."""
    return document.ids.get(fragment, 0) if fragment else 0
