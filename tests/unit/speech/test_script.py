"""Parts of a text that are laid out anew: what is left, halves, and where both are in the text as given."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.locate import locate_model
from voxtral.speech.plan import PlannedSegment
from voxtral.speech.script import Script
from voxtral.text.clean import clean
from voxtral.text.edits import NormalizedText
from voxtral.text.language import is_speakable
from voxtral.text.normalize import normalize
from voxtral.text.tokenizer import SpeechTokenizer, load_tokenizer

TEXTS = st.text(alphabet="ab c.,!?é你好\u0915\u093f7-\n", min_size=1, max_size=40).filter(is_speakable)


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    # That of nano has a token for each letter, so that a place in the text is one among the tokens.
    return load_tokenizer(locate_model("nano", allow_download=False) / "tekken.json")


def script_of(checkpoint: Checkpoint, tokenizer: SpeechTokenizer, spoken: NormalizedText, source: str) -> Script:
    return Script(spoken, source, tokenizer, checkpoint.config, num_voice_rows=3, max_frames=None)


def tokens_of(segment: PlannedSegment) -> int:
    start, stop = segment.prompt.text_span
    return stop - start


def token_at(tokenizer: SpeechTokenizer, text: str, place: int) -> int:
    return len(tokenizer.encode(text[:place]))


def test_what_is_left_begins_with_the_word_that_was_not_said(
    tiny_checkpoint: Checkpoint, tokenizer: SpeechTokenizer
) -> None:
    text = "Hello there, my ... friend, go home."
    script = script_of(tiny_checkpoint, tokenizer, clean(text), text)
    whole = script.lay_out(0, len(text))

    def left(place: int, num_skipped: int = 0) -> str | None:
        rest = script.rest(whole, token_at(tokenizer, text, place), num_skipped=num_skipped)
        if rest is None:
            return None
        assert rest.text.text == text[rest.text.start : rest.text.end]
        assert rest.text.start == rest.spoken_start
        return rest.text.text

    assert left(text.index("...")) == "friend, go home."
    # Of "there" less than half was said, and then more.
    assert left(text.index("there") + 1) == "there, my ... friend, go home."
    assert left(text.index("there") + 4) == "my ... friend, go home."
    assert left(0) == text
    assert left(0, num_skipped=1) == "there, my ... friend, go home."
    assert left(text.index("home"), num_skipped=1) is None
    assert left(len(text) - 1) is None


def test_what_was_written_as_one_is_begun_anew(tiny_checkpoint: Checkpoint, tokenizer: SpeechTokenizer) -> None:
    source = "We have 1,200 cats here."
    spoken = normalize(source, "en")
    script = script_of(tiny_checkpoint, tokenizer, spoken, source)
    whole = script.lay_out(0, len(spoken.text))
    place = spoken.text.index("hundred") + 3
    rest = script.rest(whole, token_at(tokenizer, spoken.text, place))
    assert rest is not None
    assert rest.text.text.startswith("one thousand")
    assert source[rest.text.start : rest.text.end] == "1,200 cats here."


def test_what_is_written_as_one_with_a_word_goes_with_it(
    tiny_checkpoint: Checkpoint, tokenizer: SpeechTokenizer
) -> None:
    source = "One <b>two</b>.\n\n***\n\n\U0001f600 [Three](http://a.b), and **four** more."
    spoken = normalize(source, "en")
    script = script_of(tiny_checkpoint, tokenizer, spoken, source)
    whole = script.lay_out(0, len(spoken.text))
    for word, written in (("two", "<b>two"), ("Three", "[Three]"), ("four", "**four")):
        rest = script.rest(whole, token_at(tokenizer, spoken.text, spoken.text.index(word)))
        assert rest is not None
        assert rest.text.text.startswith(word)
        assert source[rest.text.start :].startswith(written)
        assert rest.word_range[0] == rest.text.start
    written = "Every visitor signs the book, <b>and</b> nobody leaves before noon."
    script = script_of(tiny_checkpoint, tokenizer, normalize(written, "en"), written)
    _, second = script.halves(script.lay_out(0, len(normalize(written, "en").text)))
    assert written[second.text.start :].startswith("<b>and")


def test_a_script_without_spaces_is_cut_between_graphemes(
    tiny_checkpoint: Checkpoint, tokenizer: SpeechTokenizer
) -> None:
    text = "あいうえお"
    script = script_of(tiny_checkpoint, tokenizer, clean(text), text)
    rest = script.rest(script.lay_out(0, 5), token_at(tokenizer, text, 2))
    assert rest is not None
    assert rest.text.text == "うえお"


@given(source=TEXTS, data=st.data())
def test_what_is_left_is_the_end_of_the_part_and_never_more(
    tiny_checkpoint: Checkpoint, tokenizer: SpeechTokenizer, source: str, data: st.DataObject
) -> None:
    spoken = clean(source)
    if not is_speakable(spoken.text):
        return
    script = script_of(tiny_checkpoint, tokenizer, spoken, source)
    whole = script.lay_out(0, len(spoken.text))
    previous = -1
    for token in sorted(data.draw(st.lists(st.integers(0, tokens_of(whole) - 1), min_size=1, max_size=4))):
        rest = script.rest(whole, token)
        if rest is None:
            previous = len(spoken.text)
            continue
        assert is_speakable(rest.text.text)
        assert spoken.text.endswith(rest.text.text)
        assert 0 <= rest.text.start <= rest.text.end == whole.text.end
        # The further speech has come, the less is left; no letter between is in neither part.
        assert rest.spoken_start >= previous
        previous = rest.spoken_start
        assert len(script.words(rest).words) <= len(script.words(whole).words)


@given(source=TEXTS)
def test_halves_are_the_whole(tiny_checkpoint: Checkpoint, tokenizer: SpeechTokenizer, source: str) -> None:
    spoken = clean(source)
    if not is_speakable(spoken.text):
        return
    script = script_of(tiny_checkpoint, tokenizer, spoken, source)
    whole = script.lay_out(0, len(spoken.text))
    parts = script.halves(whole)
    assert 1 <= len(parts) <= 2
    assert all(is_speakable(part.text.text) for part in parts)
    assert "".join("".join(part.text.text for part in parts).split()) == "".join(spoken.text.split())
    assert parts[0].text.start == whole.text.start
    assert parts[-1].text.end == whole.text.end
    assert all(before.text.end <= after.text.start for before, after in pairwise(parts))
    assert all(before.word_range[1] == after.word_range[0] for before, after in pairwise(parts))
    assert (parts[0].word_range[0], parts[-1].word_range[1]) == whole.word_range


def test_a_sentence_is_cut_at_its_clause(tiny_checkpoint: Checkpoint, tokenizer: SpeechTokenizer) -> None:
    text = "Every visitor must sign the book, and nobody may leave before noon today."
    script = script_of(tiny_checkpoint, tokenizer, clean(text), text)
    first, second = script.halves(script.lay_out(0, len(text)))
    assert (first.text.text, second.text.text) == (
        "Every visitor must sign the book,",
        "and nobody may leave before noon today.",
    )
