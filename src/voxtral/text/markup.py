"""Markdown and HTML to plain text: what a reader would not say aloud goes, the words stay.

Knows nothing of numbers or emoji, and leaves alone whatever is not clearly markup. Code inside fences
keeps its content as it is, code spans lose their backticks only. Read `normalize.py` for the order of
the passes.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator

from voxtral.text.edits import Draft, Edit, join_drafts

# Every pattern is either bounded or stops at its own first character, so that no input takes more
# than linear time.
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^`\n]*)$", re.MULTILINE)
_LINE = re.compile(r"[^\n]+")
_QUOTE_PREFIX = re.compile(r"[ \t\u00a0\u202f]*(?:>[ \t]?)*[ \t\u00a0\u202f]*")
_HEADING = re.compile(r"#{1,6}[ \t]+")
_HEADING_TAIL = re.compile(r"(?<![ \t#])[ \t]+#+[ \t\r]*$")
_BULLET = re.compile(r"[-*+•‣◦][ \t\u00a0\u202f]+(?:\[[ xX]\][ \t]+)?")
_ORDERED = re.compile(r"\d{1,3}([.)])[ \t]+(?:\[[ xX]\][ \t]+)?")
_RULE = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|={3,}[ \t]*)")
_MARKS = "-*+•‣◦#|>~ \t\u00a0\u202f"
_TRAILING_PIPE = re.compile(r"(?<=[^\s|])[ \t\u00a0\u202f]+\|$")
_BEFORE_NUMBER = "+-−±№§$€£.#(~≥≤<>"
_PIPES = re.compile(r"\|[ \t|]*")
_SPACED_PIPE = re.compile(r"(?<![ \t\u00a0\u202f])[ \t\u00a0\u202f]+\|[ \t\u00a0\u202f]+")

_DESTINATION = r"""\((?:<[^<>\n]*>|(?:[^()\s<>]|\([^()\s]*\))*)(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)"""
_IMAGE = re.compile(r"!\[([^\[\]]*)\]" + _DESTINATION)
_LINK = re.compile(r"(?<!\\)\[([^\[\]]*)\]" + _DESTINATION)
_REFERENCE_LINK = re.compile(r"(?<![\w\\\]])\[([^\[\]^][^\[\]]*)\]\[[^\[\]]*\]")
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]{1,40}\]:?")
_INLINE = re.compile(
    r"(?P<escape>\\[!-/:-@\[-`{-~])|(?P<code>`+)"
    r"""|(?P<angle><(?:[^<>"']|"[^"<]*"|'[^'<]*')+>)"""
    r"|(?P<mark>\*+|_+|~~+)|(?P<gap>\n[^\S\n]*\n)"
)
_TAG = re.compile(r"/?([a-zA-Z][a-zA-Z0-9]*)(?:[\s/].*)?", re.DOTALL)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


_INLINE_TAGS = _words(
    "a abbr b bdi bdo big cite code data del dfn em font i ins kbd mark q rp rt ruby s samp small span strike strong "
    "sub sup time tt u var wbr"
)
_SPACE_TAGS = _words("br button dd dt hr img input label li option select td th tr")
# Tags that HTML lets stand alone. Others come in pairs: a lone "<q>" is a key, "<A>" a speaker, "<title>" a blank to
# fill in.
_LONE_TAGS = _words("wbr br dd dt hr li p td th tr rp rt")
_BLOCK_TAGS = _words(
    "article aside blockquote body caption center details div dl fieldset figcaption figure footer form h1 h2 h3 h4 "
    "h5 h6 head header html link main meta nav ol p pre script section style summary table tbody tfoot thead title ul"
)
_PAIRED_TAGS = (_INLINE_TAGS | _SPACE_TAGS | _BLOCK_TAGS) - _LONE_TAGS - _words("img input link meta")
_UNFINISHED_TAG = re.compile(r"</?[a-zA-Z][^<>]*\Z")
_ENDS_OF_PHRASES = ".!?…,;:—–-؟،؛।。！？、"


def strip_markup(draft: Draft, language: str) -> Draft:
    """Remove Markdown and HTML.

    Args:
        draft: the text; a line ends in a line feed.
        language: a code of `LANGUAGES`; in German "3. " may start a date, and only counts as a list
            marker beside another one.

    Returns:
        The text without headings' signs, bullets, quote markers, emphasis, link targets and tags. The number
        of an item stays. An item of a list and a row of a table get a comma or semicolon where another one follows and
        they end without punctuation, because their line break is lost in speech.
    """
    parts: list[Draft] = []
    for start, end, is_code in _regions(draft.text):
        part = draft[start:end]
        parts.append(part if is_code else _strip_prose(part, language))
    return join_drafts(parts)


def is_open(text: str) -> bool:
    """Tell whether markup begins in a text that what comes after it may end: emphasis, a code fence, a pair of tags.

    Args:
        text: the beginning of another; a line ends in a line feed.

    >>> is_open("**Hello. "), is_open("**Hello.** "), is_open("3 * 4. "), is_open("<b>Yes. ")
    (True, False, False, True)
    """
    *_, (start, _, is_code) = _regions(text)
    if is_code or text.rfind("<!--") > text.rfind("-->") or _UNFINISHED_TAG.search(text):
        return True
    prose = text[start:]
    tokens = list(_INLINE.finditer(prose))
    closers = _code_closers(tokens)
    emphasis = _Emphasis(prose)
    open_tags: set[str] = set()
    index = 0
    is_code = False
    while index < len(tokens):
        token = tokens[index]
        kind = token.lastgroup
        if kind == "gap":
            emphasis, is_code = _Emphasis(prose), False
        elif kind == "code" and index in closers:
            index = closers[index]
        elif kind == "code":
            is_code = True
        elif kind == "mark":
            emphasis.meet(token.start(), token.end())
        elif kind == "angle" and (tag := _TAG.fullmatch(token.group()[1:-1])):
            name = tag.group(1).lower()
            if token.group()[1] == "/":
                open_tags.discard(name)
            elif name in _PAIRED_TAGS and not token.group().endswith("/>"):
                open_tags.add(name)
        index += 1
    return is_code or bool(open_tags) or emphasis.is_open


def _regions(text: str) -> Iterator[tuple[int, int, bool]]:
    """Cut a text at its code fences, whose own lines are dropped: (start, end, is code)."""
    position, opener = 0, ""
    for fence in _FENCE.finditer(text):
        marker, info = fence.groups()
        if not opener:
            yield position, fence.start(), False
            position, opener = fence.end(), marker
        elif marker.startswith(opener) and not info.strip():
            yield position, fence.start(), True
            position, opener = fence.end(), ""
    yield position, len(text), bool(opener)


def _strip_prose(draft: Draft, language: str) -> Draft:
    if not draft.text or draft.text.isspace():
        return draft
    draft = draft.apply(_comment_edits(draft.text))
    draft = draft.apply(_line_edits(draft.text, language))
    draft = draft.apply(_bracket_edits(_IMAGE, draft.text))
    draft = draft.apply(_bracket_edits(_LINK, draft.text))
    draft = draft.apply(_bracket_edits(_REFERENCE_LINK, draft.text))
    draft = draft.apply(Edit(note.start(), note.end()) for note in _FOOTNOTE.finditer(draft.text))
    draft = draft.apply(_inline_edits(draft.text))
    return draft.apply(_entity_edits(draft.text))


def _comment_edits(text: str) -> Iterator[Edit]:
    start = text.find("<!--")
    while start >= 0:
        end = text.find("-->", start + 4)
        if end < 0:
            return
        yield Edit(start, end + 3, " ")
        start = text.find("<!--", end + 3)


# Lines ---------------------------------------------------------------------------------------------


def _line_edits(text: str, language: str) -> Iterator[Edit]:
    """Remove what marks whole lines, and separate list items and table rows."""
    lines = list(_LINE.finditer(text))
    kinds = [_line_kind(line.group()) for line in lines]
    in_table = False
    for index, (line, kind) in enumerate(zip(lines, kinds, strict=True)):
        next_kind = kinds[index + 1] if index + 1 < len(lines) and lines[index + 1].start() == line.end() + 1 else ""
        is_alone = "ordered" not in (kinds[index - 1] if index else "", next_kind)
        if kind == "ordered" and language == "de" and is_alone and ")" not in line.group()[:12]:
            kind = "text"
        # A rule with pipes stands below the names of columns and above their rows.
        is_next = index > 0 and lines[index - 1].end() + 1 == line.start()
        in_table = "|" in line.group() and (kind == "rule" or (in_table and is_next))
        is_head = next_kind == "rule" and "|" in lines[index + 1].group()
        if kind == "text" and (in_table or is_head):
            kind = "cells"
        mark = "," if language == "de" else "."
        yield from _one_line_edits(line.group(), line.start(), kind, next_kind, mark)


def _line_kind(line: str) -> str:
    content = line[_match_end(_QUOTE_PREFIX, line) :].rstrip()
    kind = "text"
    if content and not content.strip(_MARKS):
        return "rule"  # An item, a heading or a cell without words.
    if _RULE.fullmatch(content) or ("|" in content and "-" in content and not content.strip("|-: \t")):
        kind = "rule"
    elif _HEADING.match(content):
        kind = "heading"
    elif _BULLET.match(content):
        kind = "bullet"
    elif _ORDERED.match(content):
        kind = "ordered"
    elif content.startswith("|"):
        kind = "row"
    return kind


def _one_line_edits(line: str, offset: int, kind: str, next_kind: str, after_number: str) -> Iterator[Edit]:
    """List the edits of one line that starts at `offset`; `after_number` is for the number of an item."""
    start = _match_end(_QUOTE_PREFIX, line)
    end = len(line.rstrip())
    if kind == "rule":
        yield Edit(offset, offset + len(line))
        return
    start = _content_start(line, start, kind)
    trailing = _TRAILING_PIPE.search(line, start, end) if kind not in {"row", "cells"} else None
    if start and line[:start].strip():
        yield Edit(offset, offset + start)
    if kind == "heading":
        tail = _HEADING_TAIL.search(line, start)
        yield Edit(
            offset + (tail.start() if tail else trailing.start() if trailing else end),
            offset + len(line),
            "\n" if next_kind else "",
        )
    elif kind in {"bullet", "ordered"}:
        words_end = trailing.start() if trailing else end
        yield from _item_edits(line, offset, start, words_end, after_number if kind == "ordered" else "")
        mark = "," if next_kind in {"bullet", "ordered"} and _is_open(line[:words_end]) else ""
        if trailing or mark:
            yield Edit(offset + words_end, offset + end, mark)
    elif kind == "row":
        yield from _row_edits(line, offset, start, next_kind == "row")
    elif kind == "cells" or ("|" in line and trailing is None and _has_titles(line[start:end])):
        yield from _pipe_edits(line, offset, start, end)
    elif trailing is not None:
        yield Edit(offset + trailing.start(), offset + end)


def _content_start(line: str, start: int, kind: str) -> int:
    """Find where the words of a line begin, after the signs of a heading or of items in items."""
    if kind == "heading":
        start = _match_end(_HEADING, line, start)
    elif kind == "bullet":
        while (following := _match_end(_BULLET, line, start)) > start:
            start = following
    return _match_end(_PIPES, line, start) if kind in {"heading", "bullet"} else start


def _item_edits(line: str, offset: int, start: int, end: int, after_number: str) -> Iterator[Edit]:
    """Write the mark behind the number of an item, and commas for pipes between titles.

    "See step 2": the number is content. In German its point would make an ordinal of it.
    """
    number = _ORDERED.match(line, start) if after_number else None
    if number is None:
        return
    start = _match_end(_PIPES, line, number.end())
    yield Edit(offset + number.start(1), offset + start, after_number + " ")
    if _has_titles(line[start:end]):
        yield from _pipe_edits(line, offset, start, end)


def _pipe_edits(line: str, offset: int, start: int, end: int) -> Iterator[Edit]:
    for pipe in _SPACED_PIPE.finditer(line, start, end):
        yield Edit(offset + pipe.start(), offset + pipe.end(), ", ")


def _has_titles(line: str) -> bool:
    """Tell whether pipes part titles ("Home | About") and are not part of a command ("ls | wc")."""
    cells = [cell.lstrip("\"'“„«*_`([") for cell in _SPACED_PIPE.split(line)]
    return all(cell and not cell[0].islower() and (cell[0].isalnum() or cell[0] in _BEFORE_NUMBER) for cell in cells)


def _row_edits(line: str, offset: int, start: int, has_next: bool) -> Iterator[Edit]:
    """Write a comma between cells, nothing before the first and a semicolon after the last."""
    end = len(line.rstrip())
    for pipes in _PIPES.finditer(line, start, end):
        cell_end = len(line[start : pipes.start()].rstrip(" \t")) + start
        if pipes.start() == start:
            yield Edit(offset + start, offset + _match_end(_BULLET, line, pipes.end()))
        elif pipes.end() < end:
            yield Edit(offset + cell_end, offset + pipes.end(), ", ")
        else:
            yield Edit(offset + cell_end, offset + end, ";" if has_next and _is_open(line[start:cell_end]) else "")
        start = pipes.end()
    if start < end and has_next and _is_open(line[start:end]):
        yield Edit(offset + end, offset + end, ";")


def _is_open(phrase: str) -> bool:
    """Tell whether a phrase has words and no punctuation at its end."""
    words = phrase.rstrip().rstrip("*_~`")
    return bool(words) and words[-1] not in _ENDS_OF_PHRASES


def _match_end(pattern: re.Pattern[str], line: str, position: int = 0) -> int:
    found = pattern.match(line, position)
    return found.end() if found else position


# Inside of lines -----------------------------------------------------------------------------------


def _bracket_edits(pattern: re.Pattern[str], text: str) -> Iterator[Edit]:
    """Keep group 1 of each match and drop what is around it."""
    for found in pattern.finditer(text):
        yield Edit(found.start(), found.start(1))
        yield Edit(found.end(1), found.end())


def _entity_edits(text: str) -> Iterator[Edit]:
    for entity in _ENTITY.finditer(text):
        char = html.unescape(entity.group())
        if char != entity.group():
            yield Edit(entity.start(), entity.end(), char)


def _inline_edits(text: str) -> list[Edit]:
    """Remove escapes, code marks, tags and emphasis, paragraph by paragraph."""
    tokens = list(_INLINE.finditer(text))
    closers = _code_closers(tokens)
    paired = _paired_tags(tokens)
    emphasis = _Emphasis(text)
    edits: list[Edit] = []
    index = 0
    while index < len(tokens):
        token = tokens[index]
        kind = token.lastgroup
        if kind == "escape":
            edits.append(Edit(token.start(), token.start() + 1))
        elif kind == "code" and index in closers:
            closer = tokens[closers[index]]
            edits += (Edit(token.start(), token.end()), Edit(closer.start(), closer.end()))
            index = closers[index]
        elif kind == "angle":
            edits += _angle_edits(token.group(), token.start(), paired)
        elif kind == "mark":
            edits += emphasis.meet(token.start(), token.end())
        elif kind == "gap":
            emphasis = _Emphasis(text)
        index += 1
    # Emphasis is only known at its end, after edits in between.
    return sorted(edits, key=lambda edit: edit.start)


def _code_closers(tokens: list[re.Match[str]]) -> dict[int, int]:
    """Find, for each run of backticks, the next run of the same length in its paragraph."""
    closers: dict[int, int] = {}
    latest: dict[str, int] = {}
    for index in range(len(tokens) - 1, -1, -1):
        kind = tokens[index].lastgroup
        if kind == "gap":
            latest.clear()
        elif kind == "code":
            run = tokens[index].group()
            if run in latest:
                closers[index] = latest[run]
            latest[run] = index
    return closers


def _paired_tags(tokens: list[re.Match[str]]) -> set[str]:
    """List the names of tags that are opened and closed."""
    sides: dict[str, set[bool]] = {}
    for token in tokens:
        if token.lastgroup == "angle" and (tag := _TAG.fullmatch(token.group()[1:-1])):
            sides.setdefault(tag.group(1), set()).add(token.group()[1] == "/")
    return {name for name, found in sides.items() if len(found) == 2}


def _angle_edits(token: str, offset: int, paired: set[str]) -> Iterator[Edit]:
    """Remove a tag that HTML knows, or the brackets around an address; leave "<3" and "List<int>"."""
    inner = token[1:-1]
    end = offset + len(token)
    tag = _TAG.fullmatch(inner)
    name = tag.group(1).lower() if tag else ""
    is_paired = tag is not None and tag.group(1) in paired
    if not is_paired and name not in _LONE_TAGS and "=" not in inner and not inner.endswith("/"):
        name = ""
    if name in _INLINE_TAGS:
        yield Edit(offset, end)
    elif name in _SPACE_TAGS:
        yield Edit(offset, end, " ")
    elif name in _BLOCK_TAGS:
        yield Edit(offset, end, "\n\n")
    elif ("://" in inner or "@" in inner) and not any(char.isspace() for char in inner):
        yield Edit(offset, offset + 1)
        yield Edit(end - 1, end)


def _is_apart(char: str) -> bool:
    """Tell whether a character is no part of a word, as vowel signs are in Hindi."""
    return not (char.isalnum() or unicodedata.category(char)[0] == "M")


class _Emphasis:
    """The open emphasis of one paragraph; a closing run is met with the last open one of its character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._open: dict[str, list[tuple[int, int]]] = {"*": [], "_": [], "~": []}

    @property
    def is_open(self) -> bool:
        """Whether a run waits for its end."""
        return any(self._open.values())

    def meet(self, start: int, end: int) -> list[Edit]:
        """Take the next run of marks, and return the edits for what it closes."""
        mark = self._text[start]
        if mark == "~" and end - start != 2:
            return []
        can_open, can_close = self._sides(start, end)
        edits: list[Edit] = []
        waiting = self._open[mark]
        while can_close and waiting and start < end:
            open_start, open_end = waiting.pop()
            size = min(open_end - open_start, end - start)
            edits += (Edit(open_end - size, open_end), Edit(start, start + size))
            start += size
            if open_start < open_end - size:
                waiting.append((open_start, open_end - size))
        if can_open and start < end:
            waiting.append((start, end))
        return edits

    def _sides(self, start: int, end: int) -> tuple[bool, bool]:
        """Decide whether a run can open and can close emphasis. Source: CommonMark 0.31, section 6.2."""
        before = self._text[start - 1] if start else " "
        after = self._text[end] if end < len(self._text) else " "
        # Chinese and Japanese have no spaces between words.
        is_inside = max(before, after) < "\u3000" and not (_is_apart(before) or _is_apart(after))
        # "n**2" and "a*b*c" are arithmetic far more often than emphasis of a part of a word.
        if is_inside:
            return False, False
        left = not after.isspace() and (after.isalnum() or not before.isalnum())
        right = not before.isspace() and (before.isalnum() or not after.isalnum())
        if self._text[start] == "_" and is_inside:
            return False, False
        return left, right
