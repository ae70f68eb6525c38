"""Texts in ten languages that give rules for numbers as much to do as may be, drawn at random but the same each time.

"dense" is what people write where they write many numbers: orders, appointments, addresses, in whole sentences with
some markup. The others are of nothing but one kind of thing, in a row, as nobody writes them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl", "ar", "hi", "ja")
DENSE = "dense"

_SENTENCES = {
    "en": (
        "On {d} {month} {y} at {h}:{m} Mr. J. R. Smith paid ${point} (about {n} %) for {k} kg of apples, {f} l of milk "
        "and {c} chairs. ",
        "Call ({a}) {b}-{e} or write to anna.{n}@example.com; see https://example.org/item/{n}?id={e} and "
        "**section {s}**. ",
        "Order no. {e}-{n}, {s}, v{k}.{n}, 24/7, {d}/{mm}/{y}, {h}:{m}–{h2}:{m}, {n}-{n2} °C, {d}th place, "
        "King Henry VIII., {b} km/h. ",
    ),
    "de": (
        "Am {d}. {month} {y} um {h}:{m} Uhr zahlte Dr. H. M. Müller {comma} € (ca. {n} %) für {kc} kg Äpfel, {f} l "
        "Milch und {c} Stühle. ",
        "Tel. 0{a} {e} oder anna.{n}@example.de; siehe https://example.org/artikel/{n}?id={e} und **Abschnitt {s}**. ",
        "Bestell-Nr. {e}-{n}, {s}, v{k}.{n}, 24/7, {d}.{mm}.{y}, {h}.{m}–{h2}.{m} Uhr, {n}-{n2} °C, z. B. der {d}. "
        "Platz, Heinrich VIII., {b} km/h. ",
    ),
    "fr": (
        "Le {d} {month} {y} à {h}h{m}, M. J.-P. Martin a payé {comma} € (env. {n} %) pour {kc} kg de pommes, {f} l de "
        "lait et {c} chaises. ",
        "Tél. 01 {p} {p} {p} {p} ou anna.{n}@example.fr ; voir https://example.org/art/{n}?id={e} et **section {s}**. ",
        "Commande n° {e}-{n}, {s}, v{k}.{n}, 24/7, {d}/{mm}/{y}, {h}h{m}-{h2}h{m}, {n}-{n2} °C, {d}e place, Louis XIV, "
        "{b} km/h. ",
    ),
    "es": (
        "El {d} de {month} de {y} a las {h}:{m} el Sr. J. R. García pagó {comma} € (aprox. {n} %) por {kc} kg de "
        "manzanas, {f} l de leche y {c} sillas. ",
        "Tel. 91 {b} {p} {p} o anna.{n}@example.es; véase https://example.org/art/{n}?id={e} y **sección {s}**. ",
        "Pedido n.º {e}-{n}, {s}, v{k}.{n}, 24/7, {d}/{mm}/{y}, {h}:{m}-{h2}:{m}, {n}-{n2} °C, {d}.º puesto, "
        "Felipe II, {b} km/h. ",
    ),
    "it": (
        "Il {d} {month} {y} alle {h}:{m} il Sig. G. R. Rossi ha pagato {comma} € (ca. {n} %) per {kc} kg di mele, {f} "
        "l di latte e {c} sedie. ",
        "Tel. 06 {b}{e} o anna.{n}@example.it; vedi https://example.org/art/{n}?id={e} e **sezione {s}**. ",
        "Ordine n. {e}-{n}, {s}, v{k}.{n}, 24/7, {d}/{mm}/{y}, {h}:{m}-{h2}:{m}, {n}-{n2} °C, {d}º posto, Luigi XIV, "
        "{b} km/h. ",
    ),
    "pt": (
        "Em {d} de {month} de {y} às {h}:{m} o Sr. J. R. Silva pagou R$ {comma} (cerca de {n} %) por {kc} kg de maçãs, "
        "{f} l de leite e {c} cadeiras. ",
        "Tel. (11) {e}-{e} ou anna.{n}@example.pt; veja https://example.org/art/{n}?id={e} e **secção {s}**. ",
        "Pedido n.º {e}-{n}, {s}, v{k}.{n}, 24/7, {d}/{mm}/{y}, {h}h{m}-{h2}h{m}, {n}-{n2} °C, {d}.º lugar, "
        "D. João VI, {b} km/h. ",
    ),
    "nl": (
        "Op {d} {month} {y} om {h}.{m} uur betaalde dhr. J. R. de Vries € {comma} (ca. {n} %) voor {kc} kg appels, {f} "
        "l melk en {c} stoelen. ",
        "Tel. 020-{b} {e} of anna.{n}@example.nl; zie https://example.org/art/{n}?id={e} en **sectie {s}**. ",
        "Bestelnr. {e}-{n}, {s}, v{k}.{n}, 24/7, {d}-{mm}-{y}, {h}.{m}-{h2}.{m} uur, {n}-{n2} °C, {d}e plaats, "
        "Willem III, {b} km/u. ",
    ),
    "ar": (
        "في {d} {month} {y} الساعة {h}:{m} دفع د. أحمد {point} دولار (حوالي {n}%) مقابل {k} كجم من التفاح "
        "و{f} لتر حليب و{c} كراسي. ",
        "هاتف +966 {p} {b} {e} أو anna.{n}@example.com، انظر https://example.org/item/{n}?id={e} و**القسم {s}**. ",
        "طلب رقم {e}-{n}، {s}، {d}/{mm}/{y}، {h}:{m}-{h2}:{m}، {n}-{n2} °م، المركز {d}، {b} كم/س. ",
    ),
    "hi": (
        "{d} {month} {y} को {h}:{m} बजे डॉ. शर्मा ने {k} किग्रा सेब, {f} लीटर दूध और {c} कुर्सियों के लिए "
        "₹{point} (लगभग {n}%) दिए। ",
        "फ़ोन +91 98765 4{e} या anna.{n}@example.com; देखें https://example.org/item/{n}?id={e} और **भाग {s}**। ",
        "ऑर्डर नं. {e}-{n}, {s}, {d}/{mm}/{y}, {h}:{m}-{h2}:{m}, {n}-{n2} °C, {d}वां स्थान, {b} किमी/घंटा। ",
    ),
    "ja": (
        "{y}年{mm}月{d}日{h}:{m}に山田さんはりんご{k}kg、牛乳{f}L、いす{c}脚に{e}円（約{n}%）を払いました。",
        "電話03-{e}-{e}、anna.{n}@example.com、https://example.org/item/{n}?id={e}、**第{s}節**を参照。",
        "注文番号{e}-{n}、{s}、v{k}.{n}、{y}/{mm}/{d}、{h}:{m}〜{h2}:{m}、{n}〜{n2}℃、第{d}位、時速{b}km。",
    ),
}
_MONTHS = {
    "en": "January March May October",
    "de": "Januar März Mai Oktober",
    "fr": "janvier mars mai octobre",
    "es": "enero marzo mayo octubre",
    "it": "gennaio marzo maggio ottobre",
    "pt": "janeiro março maio outubro",
    "nl": "januari maart mei oktober",
    "ar": "يناير مارس مايو أكتوبر",
    "hi": "जनवरी मार्च मई अक्टूबर",
    "ja": "1 3 5 10",
}
_WORDS = {
    "en": "the house was bought for and near many people in",
    "de": "das Haus wurde im Jahr für und viele Menschen in",
    "fr": "la maison a été achetée pour et les gens dans",
    "es": "la casa fue comprada por y cerca de mucha gente en",
    "it": "la casa è stata comprata per e vicino a molta gente in",
    "pt": "a casa foi comprada por e perto de muita gente em",
    "nl": "het huis werd gekocht voor en bij veel mensen in",
    "ar": "البيت تم شراؤه من أجل قرب كثير من الناس في",
    "hi": "घर खरीदा गया और पास के लिए बहुत लोग में",
    "ja": "家は 買われ ました そして 近くの 多くの 人々 が",
}
_ADDRESSES = {
    "en": "{n} Main Street, Springfield, IL {zip}. ",
    "de": "Hauptstraße {n}, {zip} Berlin. ",
    "fr": "{n} rue de la Paix, {zip} Paris. ",
    "es": "Calle Mayor {n}, {zip} Madrid. ",
    "it": "Via Roma {n}, {zip} Milano. ",
    "pt": "Rua Augusta {n}, {zip} Lisboa. ",
    "nl": "Dorpsstraat {n}, 1234 AB Utrecht. ",
    "ar": "شارع الملك {n}، {zip} الرياض. ",
    "hi": "{n} गांधी मार्ग, दिल्ली {zip}1. ",
    "ja": "東京都港区{n}-2-3 〒105-00{n}。 ",
}
_SIGNS = "&@#%/*+=<>°§$€£¥₹|_~^№×÷±≥≤™®.:,;-–()[]'\"!?"


def _dense(language: str, draw: random.Random) -> str:
    number = draw.randint
    tens = number(10, 59)
    values: dict[str, object] = {
        "d": number(2, 28),
        "month": draw.choice(_MONTHS[language].split()),
        "mm": number(1, 12),
        "y": number(1950, 2030),
        "h": number(8, 12),
        "h2": number(13, 23),
        "m": tens,
        "point": f"{number(1, 999)}.{number(10, 99)}",
        "comma": f"{number(1, 999)},{number(10, 99)}",
        "n": number(2, 99),
        "n2": number(100, 140),
        "k": f"{number(1, 9)}.{number(1, 9)}",
        "kc": f"{number(1, 9)},{number(1, 9)}",
        "f": draw.choice(("1/2", "3/4", "1 1/2", "½")),
        "c": number(2, 12),
        "a": number(201, 999),
        "b": number(200, 999),
        "e": number(1000, 9999),
        "s": f"{number(1, 9)}.{number(1, 9)}",
        "p": number(10, 99),
    }
    end = "\n\n" if draw.random() < 0.25 else ""
    return "".join(sentence.format_map(values) for sentence in _SENTENCES[language]) + end


def _kinds(language: str, draw: random.Random) -> dict[str, Callable[[], str]]:
    """List what makes a piece of each kind of text."""
    number, choice = draw.randint, draw.choice
    point = "." if language in {"en", "hi", "ja"} else ","
    words = _WORDS[language].split()
    space = "" if language == "ja" else " "
    signs = _SIGNS + "0123456789abcXYZ "
    year = "{}/{}/{} "
    return {
        DENSE: lambda: _dense(language, draw),
        "plain sentences": lambda: space.join(choice(words) for _ in range(number(5, 14))) + ". ",
        "a number in each sentence": lambda: f"{choice(words)} {number(0, 3000)} {choice(words)}. ",
        "abbreviations, Roman numerals": lambda: choice(
            ("Louis XIV ", "Henry VIII. ", "Dr. Smith ", "U.S.A. ", "No. 5 ")
        ),
        "addresses": lambda: _ADDRESSES[language].format(n=number(1, 99), zip=number(10000, 99999)),
        "numbers up to ten million": lambda: f"{number(1000, 9999999)} ",
        "numbers below 100": lambda: f"{number(0, 99)} ",
        "single digits": lambda: f"{number(0, 9)} ",
        "decimals": lambda: f"{number(0, 99)}{point}{number(0, 999)} ",
        "decimals, one a paragraph": lambda: f"{number(0, 999)}{point}{number(0, 9)}\n\n",
        "times": lambda: f"{number(0, 23)}:{number(0, 59):02} ",
        "dates with slashes": lambda: year.format(number(1, 28), number(1, 12), number(1900, 2030)),
        "dates of three forms": lambda: choice(("{}.{}.{} ", year, "{2}-{1:02}-{0:02} ")).format(
            number(1, 28), number(1, 12), number(1900, 2030)
        ),
        "prices": lambda: choice(
            (f"{choice('$€£')}{number(1, 999)}{point}{number(10, 99)} ", f"{number(1, 999)} {choice('$€£')} ")
        ),
        "addresses of mail": lambda: f"a{number(0, 99)}@b.com ",
        "ranges": lambda: f"{number(1, 50)}-{number(51, 99)} ",
        "measures": lambda: f"{number(0, 999)} {choice(('km', 'kg', 'm²', '°C', 'km/h', 'GB', '%', 'ml', 'cm'))} ",
        "letters and digits together": lambda: f"{choice('ABCX')}{number(1, 99)}-{number(1, 99)}b ",
        "telephone numbers": lambda: choice(
            (
                f"+49 {number(30, 99)} {number(100000, 999999)}, ",
                f"({number(200, 999)}) {number(200, 999)}-{number(1000, 9999)}, ",
                f"0{number(10, 99)} {number(1000, 9999)} {number(1000, 9999)}, ",
            )
        ),
        "fractions": lambda: f"{number(1, 9)}/{number(2, 9)} ",
        "signs at random": lambda: "".join(choice(signs) for _ in range(20)),
    }


KINDS = tuple(_kinds("en", random.Random(0)))


def text_of(kind: str, language: str, length: int, seed: int = 0) -> str:
    """Write a text.

    Args:
        kind: one of `KINDS`.
        language: one of `LANGUAGES`.
        length: in characters.
        seed: another one gives another text.
    """
    make = _kinds(language, random.Random(f"{kind} {language} {seed}"))[kind]
    pieces: list[str] = []
    size = 0
    while size < length:
        pieces.append(make())
        size += len(pieces[-1])
    return "".join(pieces)[:length]
