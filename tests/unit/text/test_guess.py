"""Languages guessed by the text: right, or not at all. The sentences are those that nano was trained on."""

from __future__ import annotations

import time
from itertools import combinations
from pathlib import Path

import pytest

from voxtral.text.guess import guess_language
from voxtral.text.language import LANGUAGES, sample_sentence
from voxtral.text.language_data import load_language, load_neighbours

TEXTS = Path(__file__).parents[3] / "src" / "voxtral" / "cloning" / "texts"


def sentences(code: str) -> list[str]:
    section = ""
    found: list[str] = []
    for line in (TEXTS / f"{code}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#") and "sentence" in section:
            found.append(line)
    assert len(found) > 100
    return found


SENTENCES = {code: sentences(code) for code in LANGUAGES}

PARAGRAPHS = {
    "en": "The old house at the end of the street had been empty for years, and nobody knew who it belonged to.",
    "de": "Der Zug nach Köln hatte wieder einmal Verspätung, und niemand konnte sagen, wann er endlich kommen würde.",
    "fr": "Elle avait oublié de fermer la porte, mais ce n'est pas pour cela que le chat est parti dans la nuit.",
    "es": "Cuando llegamos a la estación ya no había nadie, pero el tren todavía estaba allí y pudimos subir.",
    "it": "Quando siamo arrivati alla stazione non c'era più nessuno, ma il treno era ancora lì e siamo saliti.",
    "pt": "Quando chegamos à estação já não havia ninguém, mas o trem ainda estava lá e nós conseguimos embarcar.",
    "nl": "Toen we op het station aankwamen was er niemand meer, maar de trein stond er nog en we konden instappen.",
    "ar": "عندما وصلنا إلى المحطة لم يكن هناك أحد، لكن القطار كان لا يزال في مكانه.",
    "hi": "जब हम स्टेशन पहुँचे तो वहाँ कोई नहीं था, लेकिन ट्रेन अभी भी खड़ी थी।",
    "ja": "駅に着いたときにはもう誰もいませんでしたが、電車はまだそこにありました。",
}

OTHERS = [
    "Alle mennesker er født frie og like i verd og rettigheter. De er utstyrt med fornuft og samvittighet.",
    "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och samvete.",
    "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og samvittighed.",
    "Alle menslike wesens word vry, met gelyke waardigheid en regte, gebore. Hulle het rede en gewete.",
    "Tots els éssers humans neixen lliures i iguals en dignitat i en drets. Són dotats de raó i de consciència.",
    "Tódolos seres humanos nacen libres e iguais en dignidade e dereitos e, dotados como están de razón, deben ser",
    "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Ele sunt înzestrate cu rațiune.",
    "Omnes homines liberi aequique dignitate atque iuribus nascuntur. Ratione conscientiaque praediti sunt.",
    "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "Všichni lidé se rodí svobodní a sobě rovní co do důstojnosti a práv.",
    "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
    "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama.",
    "Minden emberi lény szabadon születik és egyenlő méltósága és joga van.",
    "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền.",
    "تمام افراد بشر آزاد به دنیا می‌آیند و از لحاظ حیثیت و حقوق با هم برابرند.",
    "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔",
    "सर्व मानवी व्यक्ती जन्मतःच स्वतंत्र आहेत व त्यांना समान प्रतिष्ठा व समान अधिकार आहेत.",
    "सबै व्यक्तिहरू जन्मजात स्वतन्त्र हुन् ती सबैको समान अधिकार र महत्व छ।",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "人人生而自由，在尊严和权利上一律平等。",
    "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
]

SHORT_OR_MIXED = [
    *("", " ", "...", "123", "Hamburg", "OK", "Angela Merkel", "Die", "no", "a", "Madrid, Paris, Roma", "ChatGPT 4o"),
    *("Der Spiegel", "La Traviata", "C'est la vie", "Nouvelle Vague", "El Niño", "São Paulo", "の", "中文の書"),
    "Das ist ein Satz. This is a sentence.",
    "He said: “Das ist der Mann, und er ist nicht hier.” That was all that she had of it.",
    "Je ne sais pas. No lo sé. Non lo so.",
    "print(x) if x else y",
    "https://www.example.com/die/der/das/und/ist",
]


def test_a_paragraph_of_each_language_is_known() -> None:
    for code, text in PARAGRAPHS.items():
        for written in (text, text.upper(), f"{text}\n\n{text}", text.replace(" ", "\n"), f"1. {text} 25 %"):
            assert guess_language(written) == code, written


@pytest.mark.parametrize("code", SENTENCES)
def test_no_sentence_is_taken_for_another_language(code: str) -> None:
    assert {guess_language(sentence) for sentence in SENTENCES[code]} <= {code, None}
    assert guess_language(sample_sentence(code)) in {code, None}


@pytest.mark.parametrize("code", SENTENCES)
def test_some_sentences_together_are_mostly_known(code: str) -> None:
    groups = [" ".join(SENTENCES[code][start : start + 6]) for start in range(0, 120, 6)]
    guesses = [guess_language(group) for group in groups]
    assert set(guesses) <= {code, None}
    assert guesses.count(code) >= 0.75 * len(guesses)


def test_what_is_half_in_one_language_and_half_in_another_is_left_open() -> None:
    for one, other in combinations(PARAGRAPHS, 2):
        assert guess_language(f"{PARAGRAPHS[one]} {PARAGRAPHS[other]}") is None, (one, other)
        halves = [" ".join(SENTENCES[code][:30]) for code in (one, other)]
        assert guess_language(" ".join(halves)) is None, (one, other)


@pytest.mark.parametrize("text", OTHERS)
def test_no_other_language_is_taken_for_ours(text: str) -> None:
    assert guess_language(text) is None


@pytest.mark.parametrize("text", SHORT_OR_MIXED)
def test_what_is_short_or_mixed_is_left_open(text: str) -> None:
    assert guess_language(text) is None


def test_a_quotation_does_not_change_the_language_of_a_book() -> None:
    book = " ".join(SENTENCES["de"]) + " " + PARAGRAPHS["en"]
    assert guess_language(book) == "de"


def test_a_long_text_costs_as_little_as_a_page() -> None:
    text = " ".join(SENTENCES["fr"] * 40)[:100_000]
    guess_language(text)
    start = time.process_time()
    assert guess_language(text) == "fr"
    assert time.process_time() - start < 0.05


def test_a_neighbour_has_words_of_its_own() -> None:
    ours = {word for code in LANGUAGES if (found := load_language(code).recognition) for word in found.stop_words}
    for name, neighbour in load_neighbours().items():
        assert neighbour.stop_words - ours, name
