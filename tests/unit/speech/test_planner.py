"""Requests turned into plans, without an engine: what is refused, what is warned of, what the model will be asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.errors import DeadlineError, DictionaryError, LanguageError, OptionError, SsmlError, TextError, VoiceError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.speech.feed import TextFeed
from voxtral.speech.plan import SpeechPlan, generation_request
from voxtral.speech.planner import Planner
from voxtral.speech.stretches import SegmentsOfFeed
from voxtral.text.clean import clean
from voxtral.text.dictionary import dictionary_of
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import load_tokenizer
from voxtral.types import SamplingOptions, SpeechRequest, VoiceBlend
from voxtral.voices.library import VoiceLibrary
from voxtral.voices.prompt import VoicePrompt

CHECKPOINT = open_checkpoint(TINY)
CONFIG = CHECKPOINT.config
TOKENIZER = load_tokenizer(TINY / "tekken.json")
VOICES = VoiceLibrary(TINY, CONFIG)


def no_clone(reference_audio: object, *, warn: Callable[[str], None]) -> VoicePrompt:
    raise AssertionError("nothing was to be cloned")


def plan(request: SpeechRequest, *, hold: bool = False, clone: Any = no_clone, **parts: Any) -> SpeechPlan:
    known = parts.get("known")
    planner = Planner(parts.get("config", CONFIG), TOKENIZER, parts.get("voices", VOICES), clone, known)
    return planner.plan(request, hold_segments=hold, warn=parts.get("warnings", []).append)


def test_a_plan_is_data_that_makes_the_same_request_again() -> None:
    planned = plan(SpeechRequest("Hello there.", seed=7, sampling=SamplingOptions(guidance_scale=2.0, max_frames=9)))
    (segment,) = planned.segments
    first, again = (generation_request(planned, segment, 0, 0, deadline_s=1.0) for _ in range(2))
    assert first.prompt is again.prompt
    assert (first.noise(3) == again.noise(3)).all()
    assert (first.guidance_scale, first.max_frames, first.min_frames, first.deadline_s) == (2.0, 9, 0, 1.0)
    assert (first.noise_scale, first.num_euler_steps) == (
        CONFIG.generation.noise_scale,
        CONFIG.generation.num_euler_steps,
    )
    assert first.is_voice_stored


def test_a_second_attempt_has_other_noise_and_no_end_at_once() -> None:
    planned = plan(SpeechRequest("Hello there.", seed=7))
    (segment,) = planned.segments
    first, second = (generation_request(planned, segment, 0, attempt, deadline_s=1.0) for attempt in range(2))
    assert (first.noise(0) != second.noise(0)).any()
    assert (first.min_frames, second.min_frames) == (0, 1)


def test_what_is_held_may_be_made_without_a_reader() -> None:
    request = SpeechRequest("Hello there.", seed=7)
    for hold in (False, True):
        planned = plan(request, hold=hold)
        (segment,) = planned.segments
        made = generation_request(planned, segment, 0, 0, deadline_s=1.0)
        assert made.max_buffered_frames == (segment.max_frames if hold else None)


_PARTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=2000),
    st.lists(st.sampled_from(["59.4 %", "$1,234.56", "9" * 30, "and so on", "In May.", "10-20"]), max_size=300).map(
        " ".join
    ),
)


@given(_PARTS)
def test_parts_lie_in_the_text_as_given(text: str) -> None:
    try:
        planned = plan(SpeechRequest(text, seed=1, normalize="auto"))
    except TextError:
        return
    end = told = 0
    for segment in planned.segments:
        assert end <= segment.text.start < segment.text.end <= len(text)
        end = segment.text.end
        # What is not spoken is told of with one of them.
        first, last = segment.word_range
        assert first == told <= segment.text.start
        assert end <= last
        told = last
    assert told == len(text)


TWIN = "Hello there. My friend, the train leaves at noon."
TWINS = {
    "no-break space": TWIN.replace(". ", ".\u00a0"),
    "narrow spaces": TWIN.replace(" ", "\u202f"),
    "tabs": TWIN.replace(" ", "\t"),
    "runs": TWIN.replace(" ", "   "),
    "edges": f"\u3000 {TWIN}\r\n\t",
    "zero width": "\ufeff" + TWIN.replace("e", "e\u200b"),
    "soft hyphens": TWIN.replace("e", "\u00ade"),
    "direction": f"\u202a{TWIN}\u202c",
    "full width": TWIN.translate({code: code + 0xFEE0 for code in range(33, 127)}),
    "mathematical": TWIN.translate({ord(char): ord(char) + 0x1D41A - ord("a") for char in "abcdefgilmnoprst"}),
}


def prompts(text: str, **options: Any) -> list[tuple[int, ...]]:
    return [segment.prompt.token_ids for segment in plan(SpeechRequest(text, seed=1, **options)).segments]


@pytest.mark.parametrize("kind", TWINS)
def test_a_text_that_looks_the_same_has_the_same_prompts(kind: str) -> None:
    odd, long_odd, long_twin = TWINS[kind], " \r\n\r\n".join([TWINS[kind]] * 20), "\n\n".join([TWIN] * 20)
    assert prompts(odd) == prompts(TWIN) == prompts(TWIN, normalize="off")
    assert prompts(long_odd) == prompts(long_twin) == prompts(long_twin, normalize="off")
    assert len(prompts(long_odd)) > 1
    # Verbatim is what the official code does, byte for byte.
    assert prompts(odd, normalize="off") == [
        build_prompt(TOKENIZER, odd, len(VOICES.load("neutral_female").rows)).token_ids
    ]
    assert prompts(odd, normalize="off") != prompts(TWIN)
    segments = [segment.text for segment in plan(SpeechRequest(long_odd, seed=1)).segments]
    assert segments[0].start == long_odd.find(odd.strip("\u3000\u202a\ufeff \r\n\t"))
    for before, after in pairwise(segments):
        assert before.start < before.end <= after.start < after.end <= len(long_odd)
        assert clean(long_odd[before.start : before.end]).text == before.text


def test_line_ends_and_composed_letters_are_those_of_their_twins() -> None:
    for line_end in ("\r\n", "\r", "\x85", "\u2028"):
        assert prompts(f"One.{line_end}Two.") == prompts("One.\nTwo.") == prompts("One.\nTwo.", normalize="off")
    assert prompts("Le cafe\u0301.") == prompts("Le café.")
    assert prompts("Le cafe\u0301.", normalize="off") != prompts("Le café.")


@given(_PARTS)
def test_a_text_is_cut_as_its_plain_twin(text: str) -> None:
    plain = clean(text).text
    try:
        planned = plan(SpeechRequest(text, seed=1))
    except TextError:
        with pytest.raises(TextError):
            plan(SpeechRequest(plain, seed=1, normalize="off"))
        return
    segments = [segment.text for segment in planned.segments]
    twins = [segment.text for segment in plan(SpeechRequest(plain, seed=1, normalize="off")).segments]
    assert [segment.text for segment in segments] == [twin.text for twin in twins]
    end = 0
    for segment in segments:
        assert end <= segment.start < segment.end <= len(text)
        end = segment.end


def test_a_letter_that_becomes_many_lies_in_one_part() -> None:
    # U+FDFA is four words, and is cut inside where nothing else can be.
    short = replace(CONFIG, generation=replace(CONFIG.generation, max_segment_chars=7))
    segments = [part.text for part in plan(SpeechRequest("ﷺ" * 9, seed=1), config=short).segments]
    assert all(before.end <= after.start for before, after in pairwise(segments))
    assert (segments[0].start, segments[-1].end) == (0, 9)


def test_a_voice_that_leaves_no_room_is_refused_when_its_part_is_planned() -> None:
    rows = torch.zeros(CONFIG.backbone.max_seq_len, CONFIG.backbone.dim)
    narrow = replace(CONFIG, backbone=replace(CONFIG.backbone, max_seq_len=16))
    planned = plan(SpeechRequest("Hello there.", voice=VoicePrompt("long", rows[:16])), config=narrow)
    with pytest.raises(TextError, match="the model takes 16"):
        next(planned.segments)


def test_the_language_of_a_voice_is_that_of_its_name_or_of_its_metadata() -> None:
    planner = Planner(CONFIG, TOKENIZER, VOICES, no_clone)
    rows = VOICES.load("casual_male").rows
    assert planner._language_of("fr_male") == "fr"
    assert planner._language_of(None) == "en"
    assert planner._language_of(VoicePrompt("mine", rows, metadata={"language": "fr"})) == "fr"
    assert planner._language_of(VoicePrompt("mine", rows, metadata={"language": "tlh"})) == "en"


GERMAN = "Der Zug nach Köln hatte wieder Verspätung, und niemand wusste, wann er um 7 Uhr kommen würde."


def chosen(text: str, **options: Any) -> tuple[str, str, str, list[str]]:
    config = replace(CONFIG, languages=options.pop("languages", ("en", "de", "fr")))
    warnings: list[str] = []
    planned = plan(SpeechRequest(text, seed=1, **options), config=config, warnings=warnings)
    (segment,) = planned.segments
    return planned.language.code, planned.language.source, segment.text.text, warnings


def test_the_language_of_a_sure_text_chooses_what_is_not_named() -> None:
    code, source, spoken, (warning,) = chosen(GERMAN, normalize="auto")
    assert (code, source) == ("de", "text")
    assert "sieben Uhr" in spoken
    assert "no de voice" in warning
    assert chosen("Hamburg 7", normalize="auto")[:3] == ("en", "default", "Hamburg seven")


def test_the_language_is_that_of_the_cleaned_text() -> None:
    for odd in ("\u00ad".join(GERMAN), GERMAN.translate({code: code + 0xFEE0 for code in range(33, 127)})):
        assert chosen(odd)[:3] == ("de", "text", GERMAN)
        assert chosen(odd, normalize="auto")[1] == "text"
        assert chosen(odd, normalize="off")[1] == "default"


def test_what_is_named_goes_before_the_text() -> None:
    assert chosen(GERMAN, language="fr", normalize="auto")[:2] == ("fr", "given")
    code, source, spoken, warnings = chosen(GERMAN, voice="casual_male", normalize="auto")
    assert (code, source, warnings) == ("en", "voice", [])
    assert "seven Uhr" in spoken
    rows = VOICES.load("casual_male").rows
    assert chosen(GERMAN, voice=VoicePrompt("mine", rows, metadata={"language": "fr"}))[:2] == ("fr", "voice")
    # A voice that does not say what it speaks leaves the numbers to the text.
    assert chosen(GERMAN, voice=VoicePrompt("mine", rows), normalize="auto")[:2] == ("de", "text")


def test_a_language_that_the_checkpoint_does_not_speak_is_told_and_not_chosen() -> None:
    code, source, _, (warning,) = chosen(GERMAN, languages=("en", "fr"))
    assert (code, source) == ("en", "default")
    assert "German" in warning
    assert "en, fr" in warning


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("人人生而自由，在尊严和权利上一律平等。", "Han"),
        ("Все люди рождаются свободными.", "Cyrillic"),
        ("こんにちは、これがわたしのこえです。", "Hiragana"),
        ("Όλοι οι άνθρωποι γεννιούνται ελεύθεροι.", "Greek"),
        ("כל בני האדם נולדו בני חורין.", "Hebrew"),
        ("มนุษย์ทั้งหลายเกิดมามีอิสระ", "Thai"),
        ("모든 인간은 태어날 때부터 자유롭다.", "Hangul"),
        ("Բոլոր մարդիկ ծնվում են ազատ։", "Armenian"),
    ],
)
def test_a_script_of_no_language_of_the_checkpoint_is_warned_of(text: str, script: str) -> None:
    for options in ({}, {"voice": "casual_male"}):
        code, _, _, (warning,) = chosen(text, **options)
        assert code == "en"
        assert script in warning
        assert "unusable" in warning
    with_kana = chosen(text, languages=("en", "ja"))[3] if script != "Hiragana" else []
    assert bool(with_kana) == (script != "Hiragana")


def test_a_clip_is_cloned_once_and_last() -> None:
    cloned: list[object] = []

    def clone(reference_audio: object, *, warn: Callable[[str], None]) -> VoicePrompt:
        cloned.append(reference_audio)
        warn("it is short")
        return VOICES.load("casual_male")

    warnings: list[str] = []
    planned = plan(SpeechRequest("Hello.", reference_audio=b"clip"), clone=clone, warnings=warnings)
    assert (cloned, warnings) == ([b"clip"], ["it is short"])
    assert planned.template.voice is VOICES.load("casual_male")
    with pytest.raises(TextError):
        plan(SpeechRequest("...", reference_audio=b"clip"), clone=clone)
    assert len(cloned) == 1


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (SpeechRequest(b"Hello."), TextError),  # type: ignore[arg-type]
        (SpeechRequest(" "), TextError),
        (SpeechRequest("Hello.", language="tlh"), LanguageError),
        (SpeechRequest("Hello.", voice="nobody"), VoiceError),
        (SpeechRequest("Hello.", voice=7), VoiceError),  # type: ignore[arg-type]
        (SpeechRequest("Hello.", speed=9), OptionError),
        (SpeechRequest("Hello.", sampling=SamplingOptions(max_frames=10**6)), OptionError),
        (SpeechRequest("Hello.", voice="casual_male", reference_audio=b"clip"), OptionError),
    ],
)
def test_what_breaks_a_rule_is_refused_without_an_engine(request_: SpeechRequest, error: type[Exception]) -> None:
    with pytest.raises(error):
        plan(request_)


def test_a_checkpoint_without_presets_takes_a_voice_at_hand_alone(tmp_path: Path) -> None:
    empty = VoiceLibrary(tmp_path, CONFIG)
    with pytest.raises(VoiceError, match="no preset voices"):
        plan(SpeechRequest("Hello."), voices=empty)
    planned = plan(SpeechRequest("Hello.", voice=VOICES.load("casual_male")), voices=empty)
    assert not planned.template.is_voice_stored


def test_a_blend_speaks_the_language_of_its_first_voice_and_shares_its_part_of_the_prompt() -> None:
    first, second = VOICES.names[:2]
    french = VoicePrompt("me", VOICES.load(second).rows, metadata={"language": "fr"})
    planned = plan(SpeechRequest("Hello there.", voice=VoiceBlend(((french, 1), (first, 3)))))
    assert (planned.language.code, planned.language.source) == ("fr", "voice")
    by_name = [
        plan(SpeechRequest("Hello there.", voice=f"{first}:3+{second}:{weight}")).template for weight in (1, 1, 3)
    ]
    assert by_name[0].voice.key == by_name[1].voice.key != by_name[2].voice.key
    assert not by_name[0].is_voice_stored


# SSML and dictionaries.


def spoken(request: SpeechRequest, **parts: Any) -> list[str]:
    return [segment.text.text for segment in plan(request, **parts).segments]


def test_breaks_part_the_text_and_stand_before_what_follows() -> None:
    document = (
        "<speak><break time='1s'/>One, <break time='500ms'/><break time='250ms'/>two.<p>Three</p>... "
        "<break strength='x-weak'/>four<break time='2s'/> !<break/></speak>"
    )
    planned = plan(SpeechRequest(document))
    segments = list(planned.segments)
    assert [(segment.text.text, segment.pause_s) for segment in segments] == [
        ("One,", 1.0),
        ("two.\n\nThree\n\n...", 0.75),
        ("four", 0.1),
    ]
    assert planned.end_pause_s == 2.4
    assert [document[segment.text.start :][:3] for segment in segments] == ["One", "two", "fou"]


def test_breaks_add_up_to_no_more_than_one_may_have() -> None:
    planned = plan(SpeechRequest("<speak>" + "<break time='9s'/>" * 3 + "a" + "<break time='9s'/>" * 3 + "</speak>"))
    (segment,) = planned.segments
    assert (segment.pause_s, planned.end_pause_s) == (10.0, 10.0)


def test_a_document_says_its_language_unless_the_caller_does() -> None:
    document = "<speak xml:lang='fr-CA'>80</speak>"
    assert plan(SpeechRequest(document)).language.code == "fr"
    assert spoken(SpeechRequest(document, normalize="auto")) == ["quatre-vingts"]
    assert spoken(SpeechRequest(document, normalize="auto", language="en")) == ["eighty"]


def test_text_is_taken_for_ssml_by_its_beginning_or_by_the_option() -> None:
    assert spoken(SpeechRequest("<sub alias='b'>a</sub>", ssml=True)) == ["b"]
    assert spoken(SpeechRequest("<sub alias='b'>a</sub>")) == ["<sub alias='b'>a</sub>"]
    with pytest.raises(SsmlError, match="<prosody>"):
        plan(SpeechRequest("<speak><prosody rate='fast'>a</prosody></speak>"))
    with pytest.raises(TextError, match="speech needs words"):
        plan(SpeechRequest("<speak><break/></speak>"))


def test_the_words_of_a_request_come_before_those_for_all(tmp_path: Path) -> None:
    file = tmp_path / "words.csv"
    file.write_text("written,spoken\nGIF,jiff\n")
    common = {"GIF": "gif", "B2B": "B two B"}

    def says(request: SpeechRequest) -> list[str]:
        planner = Planner(CONFIG, TOKENIZER, VOICES, no_clone, dictionary=dictionary_of(common))
        planned = planner.plan(request, hold_segments=False, warn=[].append)
        return [segment.text.text for segment in planned.segments]

    assert says(SpeechRequest("A GIF, B2B.")) == ["A gif, B two B."]
    assert says(SpeechRequest("A GIF, B2B.", dictionary=file)) == ["A jiff, B two B."]
    file.write_text("written,spoken\nGIF,other word\n")
    assert says(SpeechRequest("A GIF, B2B.", dictionary=str(file), normalize="off")) == ["A other word, B two B."]
    for wrong in (tmp_path / "none.csv", {"a": ""}, 5):
        with pytest.raises(DictionaryError):
            says(SpeechRequest("A.", dictionary=wrong))  # pyright: ignore[reportArgumentType]


LOUD = "  He cried DO NOT CROSS THE LINE."
SMALL = "He cried do not cross the line."


@pytest.mark.parametrize(
    ("reads", "options", "spoken"),
    [
        (False, {}, SMALL),
        (False, {"normalize": "auto", "keep_to_text": False}, SMALL),
        (False, {"keep_to_text": False}, LOUD.strip()),
        (False, {"normalize": "off"}, LOUD),
        (True, {"normalize": "auto"}, LOUD.strip()),
    ],
)
def test_capitals_are_small_for_weights_that_cannot_read_them_and_that_is_told(
    reads: bool, options: dict[str, Any], spoken: str
) -> None:
    warnings: list[str] = []
    known = SimpleNamespace(alignment=None, reads_capitals=reads)
    planned = plan(SpeechRequest(LOUD, language="en", seed=1, **options), known=known, warnings=warnings)
    (segment,) = planned.segments
    assert segment.text.text.strip() == spoken.strip()
    # Where nothing was done before, offsets are those of the text as given.
    assert LOUD[segment.text.start : segment.text.end].casefold().strip() == spoken.casefold().strip()
    assert any("capitals" in warning for warning in warnings) == (spoken == SMALL)


def feed_of(*pieces: str) -> TextFeed:
    feed = TextFeed()
    for piece in pieces:
        feed.push(piece)
    feed.close()
    return feed


def plan_feed(request: SpeechRequest, feed: TextFeed, **parts: Any) -> SpeechPlan:
    planner = Planner(CONFIG, TOKENIZER, VOICES, no_clone)
    return planner.plan(request, hold_segments=False, warn=parts.get("warnings", []).append, feed=feed)


def test_a_text_in_pieces_is_planned_as_it_comes() -> None:
    text = "Pay $5 to Dr. Lee. He said: \U0001f600 Go at 14:30. Bye"
    feed = TextFeed()
    feed.push(text[:25])
    planned = plan_feed(SpeechRequest("", "en", normalize="auto"), feed)
    segments = planned.segments
    first = next(segments)
    assert (first.offset, first.text.text) == (0, "Pay five dollars to Doctor Lee.")
    assert isinstance(segments, SegmentsOfFeed)
    assert not segments.is_ready
    with pytest.raises(TimeoutError):
        segments.wait(0)
    feed.push(text[25:])
    feed.close()
    rest = list(segments)
    assert feed.text == text
    assert [text[part.offset + part.text.start : part.offset + part.text.end].split()[-1] for part in rest] == [
        "14:30.",
        "Bye",
    ]
    assert segments.is_ready


def test_where_a_text_in_pieces_is_cut_hangs_on_the_text_alone() -> None:
    text = "Pay $5 now. Come at 14:30. Bye"
    plans = [plan_feed(SpeechRequest("", seed=1), feed_of(*pieces)) for pieces in ([text], list(text))]
    one, other = ([(part.offset, part.text) for part in planned.segments] for planned in plans)
    assert one == other
    assert plans[0].language == plans[1].language


def test_the_language_of_a_text_in_pieces_is_that_of_its_beginning() -> None:
    planned = plan_feed(
        SpeechRequest(""), feed_of("Je ne sais pas encore ce que nous allons manger ce soir. ", "Yes. No.")
    )
    assert (planned.language.code, planned.language.source) == ("fr", "text")


def test_a_remark_on_a_text_in_pieces_is_made_once() -> None:
    warnings: list[str] = []
    planned = plan_feed(SpeechRequest("", "en"), feed_of("Привет всем. Привет всем. Привет."), warnings=warnings)
    assert len(list(planned.segments)) == 3
    assert len(warnings) == 1


@pytest.mark.parametrize(
    ("pieces", "options", "error", "match"),
    [
        ([], {}, TextError, "empty"),
        ([" ", "\n"], {}, TextError, "only whitespace"),
        (["*", "**"], {"normalize": "auto"}, TextError, "only whitespace"),
        (["<speak>Hi</speak>"], {}, SsmlError, "one document"),
        (["Hi."], {"ssml": True}, OptionError, "one document"),
        (["Hi."], {"text": "Ho."}, TextError, "one text"),
        (["Hi."], {"speed": 9}, OptionError, "speed"),
        (["Hi. Now \x07. And"], {}, TextError, "U\\+0007 at offset 8"),
    ],
    ids=["nothing", "blank", "silent", "document", "ssml", "both", "option", "control"],
)
def test_what_is_wrong_with_a_text_in_pieces_is_said(
    pieces: list[str], options: dict[str, Any], error: type[Exception], match: str
) -> None:
    request = SpeechRequest(options.pop("text", ""), **options)
    with pytest.raises(error, match=match):
        list(plan_feed(request, feed_of(*pieces)).segments)


def test_a_text_that_does_not_come_in_time_is_too_late() -> None:
    with pytest.raises(DeadlineError):
        plan_feed(SpeechRequest("", deadline_s=0.01), TextFeed())
