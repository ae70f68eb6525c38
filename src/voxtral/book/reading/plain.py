"""Plain text to pages: paragraphs between blank lines, chapters at form feeds, chapter words or lone numerals."""

from __future__ import annotations

import html
import re

from voxtral.book.reading.matter import GUTENBERG_END, GUTENBERG_START

_CHAPTER_WORDS = (
    "chapter|part|book|prologue|epilogue|introduction|preface|foreword|afterword|chapitre|partie|livre|préface|avant-propos|épilogue|"
    "kapitel|teil|buch|vorwort|nachwort|prolog|epilog|einleitung|capítulo|parte|libro|prólogo|epílogo|prefacio|capitolo|prologo|epilogo|"
    "prefazione|livro|prefácio|hoofdstuk|deel|boek|proloog|epiloog|voorwoord|الفصل|الباب|الجزء|مقدمة|خاتمة|अध्याय|भाग|खंड|प्रस्तावना|भूमिका"
)
_NUMERAL = r"[IVXLCDM]{1,8}|\d{1,3}"
_CHAPTER = re.compile(
    rf"(?:(?:{_CHAPTER_WORDS})\b[^\n]{{0,80}}|(?:the\s+)?(?:first|second|third)\s+(?:part|book)\b[^\n]{{0,60}}|"
    rf"第[〇一二三四五六七八九十百\d]+[章部話回巻][^\n]{{0,60}}|[^\n]{{0,30}}\s(?:kapitel|teil|buch)\b\.?)",
    re.IGNORECASE,
)
_LONE = re.compile(rf"(?:{_NUMERAL})\.?")
_SENTENCE = re.compile(r"[,;]\s*$|[.!?]\s+\w+(?:\s+\w+){3}")
_VERSE_CHARS, _LEAST_VERSE_LINES = 55, 3
_LEAST_LONE = 2


def text_to_html(text: str) -> str:
    """Write plain text as a page, with headings of the second level where chapters begin."""
    paragraphs: list[tuple[str, bool]] = []  # and whether a page begins there
    for number, page in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\f")):
        for index, each in enumerate(re.split(r"\n[ \t]*\n+", page)):
            if each.strip():
                paragraphs.append((each.strip("\n"), number > 0 and index == 0))
    lone = [each for each, _ in paragraphs if _LONE.fullmatch(each.strip())]
    written: list[str] = []
    for each, begins_page in paragraphs:
        line = each.strip()
        is_title = "\n" not in line and _CHAPTER.fullmatch(line) is not None and not _SENTENCE.search(line)
        is_title |= len(lone) >= _LEAST_LONE and _LONE.fullmatch(line) is not None
        is_title &= not GUTENBERG_START.search(line) and not GUTENBERG_END.match(line)
        if is_title or (begins_page and "\n" not in line and len(line) <= _VERSE_CHARS):
            written.append(f"<h2>{html.escape(line)}</h2>")
        else:
            written.append(_paragraph(each))
    return "\n".join(written)


def _paragraph(text: str) -> str:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    is_verse = len(lines) >= _LEAST_VERSE_LINES and max(map(len, lines)) <= _VERSE_CHARS
    if is_verse:
        return '<p class="verse">' + "<br/>".join(map(html.escape, lines)) + "</p>"
    return f"<p>{html.escape(' '.join(lines))}</p>"
