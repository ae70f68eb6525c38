"""Pieces of which texts are made as people write them: numbers, dates, prices, units, abbreviations, marks, line ends.

Random strings hardly ever hold a date. Texts of these pieces do, and what stands beside each other in them is what
nobody thought of.
"""

from __future__ import annotations

from hypothesis import strategies as st

NUMBERS = (
    *("0", "1", "2", "5", "12", "21", "007", "100", "1984", "2024", "10000", "1,234", "1.234", "1 000", "3.14", "3,5"),
    *(
        "0,5",
        ".5",
        "-3",
        "+5",
        "±2",
        "1/2",
        "3/4",
        "1 1/2",
        "½",
        "5-10",
        "10–20",
        "1e9",
        "IV",
        "XIV",
        "II",
        "20%",
        "5 %",
    ),
    *("192.168.0.1", "1.2.3", "v2.0", "#7", "§ 5", "№ 3", "1:2", "3-2", "2x", "x²", "2+2=4", "00:00", "12:30", "24/7"),
    *("1234567", "+49 30 1234567", "(555) 123-4567", "4111 1111 1111 1111", "12.3.", "5.", "1)", "2nd", "1990s", "'99"),
)
UNITS = (
    "km",
    "kg",
    "m²",
    "°C",
    "%",
    "h",
    "min",
    "GB",
    "km/h",
    "€",
    "$",
    "£",
    "USD",
    "EUR",
    "Mio.",
    "m",
    "s",
    "K",
    "in",
)
MARKS = (
    ". ",
    ", ",
    "; ",
    ": ",
    "? ",
    "! ",
    " - ",
    " – ",
    "-",
    "–",
    "/",
    " / ",
    "(",
    ")",
    " & ",
    "...",
    "'",
    '"',
    "*",
    "_",
)
SPACES = (" ", " ", " ", " ", "\n", "\n\n", "\u00a0", "\t", "", "\n- ", "\n1. ", "\n# ", "| ", "\u202f", "  ")
ELSEWHERE = (
    *("info@example.com", "https://example.org/a?b=1", "/usr/bin", "a.txt", "B2B", "COVID-19", "A4", "U.S.A.", "J. R."),
    *("@home", "#tag", "<b>x</b>", "**x**", "`5`", "😀", "1️⃣", "C++", "R&D", "AT&T", "™", "→", "~5", "≥ 3", "<3", "a/b"),
)
WORDS = {
    "en": "Mr. Dr. etc. e.g. p.m. a.m. No. St. Jan. May 3rd Monday version Tue. page the and in Room BC o'clock",
    "de": "Dr. z. B. usw. Nr. Str. Hauptstr. 3. Mai v. Chr. Uhr am den Mo. Abs. S. Doktor Jan. der Kapitel ca. bis Jh.",
    "fr": "M. Mme etc. p. ex. n° 1er av. J.-C. 14h30 h le mai de siècle XIVe chap. art. lundi et en l'art. Mlle bd",
    "es": "Sr. Dra. etc. p. ej. n.º 1.º a. C. a.C. d.C. las el mayo de siglo pág. art. lunes y en Ud. EE. UU. h",
    "it": "Sig. Dott. ecc. p. es. n. 1º a.C. d.C. alle il maggio di secolo pag. art. lunedì e nel l'art. S.p.A. ore",
    "pt": "Sr. Dra. etc. p. ex. n.º 1.º a.C. d.C. às o maio de século pág. art. segunda e em R$ h Av.",
    "nl": "dhr. mevr. enz. bijv. nr. 1e v.Chr. om de mei van eeuw blz. art. maandag en in uur d.w.z. t/m",
    "ar": "د. م. إلخ ص م ق.م القرن الساعة مايو من في و رقم صفحة سنة سنوات كتب 5٪ ٢٠٢٤ ٣,٥ يوم الاثنين",
    "hi": "डॉ. आदि बजे मई को का में और रु. सन पृष्ठ सोमवार नं. वां ५ २०२४ ३.५ किमी लाख करोड़",
    "ja": "年 月 日 時 分 円 第 章 約 午前 (月) は の を 3時 5分の1 ％ 〜 。 、 「 」 ５ ４月１日 万 億",
}


def texts(language: str, max_size: int = 12) -> st.SearchStrategy[str]:
    """Make texts of a language of up to so many pieces."""
    pieces = (
        *NUMBERS,
        *UNITS,
        *MARKS,
        *SPACES,
        *SPACES,
        *SPACES,
        *ELSEWHERE,
        *WORDS[language].split(),
        *WORDS[language].split(),
    )
    return st.lists(st.sampled_from(pieces), min_size=1, max_size=max_size).map("".join)
