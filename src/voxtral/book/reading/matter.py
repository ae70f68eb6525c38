"""What stands in a book and is no text of it: cover, title page, contents, copyright, index and their like.

Told by types (EPUB 3 Structural Semantics, DPUB-ARIA, EPUB 2 guide), else by the words of a heading in ten languages.
"""

from __future__ import annotations

import re
import unicodedata

# What is left out, by what it is called in types of EPUB; and which part of the book that is.
_TYPES = {
    "cover": "cover", "doc-cover": "cover", "titlepage": "title page", "halftitlepage": "title page",
    "title-page": "title page", "toc": "table of contents", "doc-toc": "table of contents",
    "toc-brief": "table of contents", "landmarks": "table of contents", "page-list": "list of pages",
    "doc-pagelist": "list of pages", "loi": "list of illustrations", "lot": "list of tables", "loa": "list of sounds",
    "lov": "list of films", "copyright-page": "copyright", "imprint": "imprint", "imprimatur": "imprint",
    "colophon": "colophon", "doc-colophon": "colophon", "index": "index", "doc-index": "index",
    "bibliography": "bibliography", "doc-bibliography": "bibliography", "other-credits": "credits",
    "doc-credits": "credits", "copyright": "copyright",
}  # fmt: skip
_BACK = frozenset(("colophon", "index", "bibliography", "credits"))

# Headings that say the same, each the whole heading, in small letters and without marks and digits.
_WORDS = {
    "cover": "cover|couverture|umschlag|cubierta|portada|copertina|capa|omslag|الغلاف|غلاف|आवरण|表紙",
    "title page": "title page|titlepage|half title|page de titre|titelseite|titelblatt|frontispizio|folha de rosto|"
    "titelpagina|portadilla|صفحة العنوان|मुखपृष्ठ|शीर्षक पृष्ठ|扉",
    "table of contents": "contents|table of contents|toc|table des matieres|sommaire|inhalt|inhaltsverzeichnis|indice|"
    "indice general|contenido|tabla de contenido|sommario|sumario|conteudo|inhoud|inhoudsopgave|المحتويات|الفهرس|فهرس|"
    "विषय सूची|विषयसूची|अनुक्रम|अनुक्रमणिका|目次|もくじ",
    "copyright": "copyright|copyright page|copyright notice|mentions legales|droits d auteur|urheberrecht|"
    "derechos de autor|creditos|diritti d autore|direitos autorais|auteursrecht|حقوق النشر|حقوق الطبع محفوظة|कॉपीराइट|"
    "著作権",
    "imprint": "imprint|impressum|uncopyright|ficha catalografica",
    "colophon": "colophon|achever d imprimer|kolophon|colofon|colofao|奥付",
    "index": "index|register|stichwortverzeichnis|indice analitico|indice remissivo|indice alfabetico|"
    "indice onomastico|कोश|索引",
    "bibliography": "bibliography|works cited|bibliographie|literaturverzeichnis|quellenverzeichnis|bibliografia|"
    "literatuurlijst|bibliografie|المراجع|المصادر|संदर्भ ग्रंथ सूची|参考文献",
}  # fmt: skip
_NOTES = re.compile(
    "notes|footnotes|endnotes|end notes|notes de bas de page|anmerkungen|fussnoten|endnoten|notas|notas al pie|note|"
    "note a pie di pagina|notas de rodape|noten|voetnoten|eindnoten|الحواشي|الهوامش|टिप्पणियाँ|注|脚注|注釈|註"
)
_PATTERNS = {why: re.compile(words) for why, words in _WORDS.items()}

GUTENBERG_START = re.compile(r"\*{3}\s*START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*", re.IGNORECASE)
GUTENBERG_END = re.compile(
    r"\*{3}\s*END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*|End of (?:the )?Project Gutenberg(?:'s|’s)? .*",
    re.IGNORECASE,
)
# Who typed it, said below the line where the book begins.
GUTENBERG_MAKERS = re.compile(
    r"(?:Produced by|E-?text (?:prepared|produced) by|Transcribed (?:by|from)|This e-?(?:text|book) was)\b.{0,400}",
    re.IGNORECASE | re.DOTALL,
)
GUTENBERG_WHY = "Project Gutenberg's licence"


def matter_of_types(types: frozenset[str]) -> str:
    """Say why a part with these types is left out; "" if it is not."""
    return next((_TYPES[each] for each in sorted(types) if each in _TYPES), "")


def matter_of_title(title: str) -> str:
    """Say why a part of such a heading is left out; "" if it is not.

    >>> matter_of_title("Table des matières")
    'table of contents'
    """
    plain = _plain(title)
    return next((why for why, pattern in _PATTERNS.items() if pattern.fullmatch(plain)), "")


def is_of_notes(title: str) -> bool:
    """Tell whether a heading says that notes follow."""
    return _NOTES.fullmatch(_plain(title)) is not None


def is_back(why: str) -> bool:
    """Tell whether what is left out for a reason stands at the end of a book."""
    return why in _BACK


def _plain(title: str) -> str:
    """Reduce a heading to small letters: no accents on Latin ones, no marks, no digits."""
    decomposed = unicodedata.normalize("NFD", title.casefold())
    latin = re.sub(r"(?<=[a-z])[\u0300-\u036f]+", "", decomposed)
    return " ".join(re.sub(r"[^\w\s\u0900-\u097f]|[\d_]", " ", unicodedata.normalize("NFC", latin)).split())
