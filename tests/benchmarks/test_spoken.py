"""The measure of what is said: it finds what is cut out, forgives what a recogniser mishears, and counts right.

Phonemes are numbers here, and nobody speaks but in the slow test.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality import one_segment, spoken
from benchmarks.quality.coverage import BAR, Reference, compare, join_parts
from benchmarks.quality.odd_texts import ODD_TEXTS, OddText, read_odd_texts
from benchmarks.quality.references import (
    CHECK_SETS,
    Spelling,
    digest,
    list_sets,
    read_check_texts,
    read_spellings,
    spell,
    use_espeak,
    write_spellings,
)
from benchmarks.quality.spoken import Listener, Utterance, find_told, list_jobs, parse_option, parse_shard, read_state
from benchmarks.quality.spoken_report import Outcome, summarise, wilson, write_markdown
from benchmarks.quality.teachers import Take
from benchmarks.report import ROOT
from train.corpus import CorpusError, Phonemes
from train.phonemes import SYMBOLS
from train.recogniser import Recogniser
from train.sounds import IPA, SOUNDS, Sounds
from train.teacher import SilentTextError
from train.texts import LANGUAGES
from voxtral.errors import GenerationError, TextError

_SENTENCE = tuple(range(1, 41))
RECOGNISER = Path(spoken.__file__).with_name("recogniser.safetensors")
_LONG = range(260, 381)
_LONG_IN_KANA = range(130, 191)  # a kana counts as two letters, as where texts are cut


@given(start=st.integers(0, 32), length=st.integers(BAR, 40))
def test_a_span_that_is_cut_out_is_lost_wherever_it_stood(start: int, length: int) -> None:
    heard = _SENTENCE[:start] + _SENTENCE[start + length :]
    found = compare(heard, Reference(_SENTENCE))
    assert found.is_lost
    assert found.is_dropped
    assert not found.is_extended
    assert (found.missing.start, found.missing.stop) == (start, min(start + length, 40))


@given(place=st.integers(0, 40), length=st.integers(BAR, 20))
def test_speech_that_is_in_no_text_is_extra(place: int, length: int) -> None:
    heard = _SENTENCE[:place] + tuple(range(100, 100 + length)) + _SENTENCE[place:]
    found = compare(heard, Reference(_SENTENCE))
    assert found.is_extended
    assert not found.is_lost
    assert found.matched == 1


@given(every=st.integers(2, 7), change=st.sampled_from(["swap", "drop", "add"]))
def test_errors_that_stand_alone_are_forgiven(every: int, change: str) -> None:
    heard: list[int] = []
    for place, phoneme in enumerate(_SENTENCE):
        is_hit = place % every == every - 1
        heard += [phoneme] if not is_hit else {"swap": [99], "drop": [], "add": [phoneme, 99]}[change]
    found = compare(heard, Reference(_SENTENCE))
    assert not found.is_lost
    assert not found.is_extended


def test_what_is_mumbled_is_lost_but_not_dropped() -> None:
    found = compare((*_SENTENCE[:10], *range(100, 112), *_SENTENCE[22:]), Reference(_SENTENCE))
    assert found.is_lost
    assert not found.is_dropped
    assert found.is_extended


def test_one_phoneme_of_a_lost_run_may_fit_by_chance() -> None:
    heard = (*_SENTENCE[:10], _SENTENCE[14], *_SENTENCE[19:])
    assert compare(heard, Reference(_SENTENCE)).is_lost


def test_a_run_below_the_bar_is_not_lost() -> None:
    assert not compare((*_SENTENCE[:10], *_SENTENCE[16:]), Reference(_SENTENCE)).is_lost


@pytest.mark.parametrize(("heard", "is_lost"), [((), True), ((7,), False), ((9,), False), ((1, 2), False)])
def test_of_a_short_text_all_must_be_missing(heard: tuple[int, ...], is_lost: bool) -> None:
    assert compare(heard, Reference((1, 2)[: max(1, len(heard))])).is_lost is is_lost


def test_nothing_heard_of_a_sentence_is_all_of_it() -> None:
    found = compare((), Reference(_SENTENCE))
    assert (found.missing.score, found.matched, found.is_lost) == (40, 0, True)


def test_in_a_gap_anything_may_be_said_and_around_it_everything_must() -> None:
    reference = join_parts([_SENTENCE[:20], [], _SENTENCE[20:]])
    babble = tuple(range(100, 130))
    whole = compare(_SENTENCE[:20] + babble + _SENTENCE[20:], reference)
    assert not whole.is_lost
    assert not whole.is_extended
    assert compare(_SENTENCE[:20] + babble, reference).is_lost
    assert compare(_SENTENCE[:5] + babble + _SENTENCE[5:], reference).is_extended


def test_words_of_a_gap_are_judged_only_where_that_is_asked() -> None:
    parts = [_SENTENCE[:10], _SENTENCE[10:20], _SENTENCE[20:]]
    heard = _SENTENCE[:10] + _SENTENCE[20:]
    assert not compare(heard, join_parts(parts)).is_lost
    assert compare(heard, join_parts(parts, judged={1})).is_lost


@given(
    heard=st.lists(st.integers(1, 4), max_size=14),
    reference=st.lists(st.integers(1, 4), max_size=14),
    gaps=st.sets(st.integers(0, 14), max_size=3),
)
def test_any_two_sequences_can_be_compared(heard: list[int], reference: list[int], gaps: set[int]) -> None:
    found = compare(heard, Reference(tuple(reference), frozenset(gap for gap in gaps if gap <= len(reference))))
    assert 0 <= found.dropped.score <= found.missing.score <= len(reference)
    assert 0 <= found.extra.score <= len(heard)
    assert 0 <= found.matched <= 1


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 220, 0, 0.0172), (220, 220, 0.9828, 1), (10, 40, 0.1419, 0.4019), (0, 0, 0, 1)],
)
def test_wilson_bounds_are_those_of_the_tables(hits: int, count: int, low: float, high: float) -> None:
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-4)


def _outcome(number: int, **facts: object) -> Outcome:
    plain = {
        "id": f"en-short-{number}", "language": "en", "kind": "short", "seed": 0, "voice": "en_f1", "seconds": 1.0,
        "expected_s": 1.0, "is_refused": False, "is_lost": False, "is_dropped": False, "is_extended": False,
        "is_told": False, "is_warned": False, "missing": "", "extra": "", "matched": 1.0,
    }  # fmt: skip
    return Outcome(**(plain | facts))  # pyright: ignore[reportArgumentType]


def test_a_report_counts_the_lost_apart_from_the_refused_and_the_told() -> None:
    outcomes = [
        _outcome(1, is_lost=True, is_dropped=True, missing="a b"),
        _outcome(1, seed=1, is_lost=True, is_told=True),
        _outcome(2, is_extended=True, extra="c"),
        _outcome(3, is_refused=True),
    ]
    report = summarise(outcomes)
    report["letters_judged"] = summarise(outcomes[:2])
    counts = report["all"]
    assert (counts["lost"]["hits"], counts["lost"]["of"], counts["refused"]) == (2, 3, 1)
    assert (counts["dropped"]["hits"], counts["lost_untold"]["hits"]) == (1, 1)
    assert (counts["texts_lost"]["hits"], counts["texts_lost"]["of"]) == (1, 2)
    assert [one["id"] for one in report["lost"]] == ["en-short-1", "en-short-1"]
    assert report["lost"][0]["missing"] == "a b"
    assert report["refused"] == {"en-short-3": 1}
    table = write_markdown(report)
    assert "| all | 3 | 2 (66.7 %) | 20.8 % to 93.8 % | 1 | 1 | 1 of 2 | 1 | 1 |" in table
    assert "| all, letters judged | 2 | 2 (100.0 %) |" in table


def test_letters_that_are_spelled_are_judged_only_where_that_is_asked() -> None:
    texts = read_odd_texts(["en"])
    only, among = (next(text for text in texts if text.id == one) for one in ("en-letters-1", "en-initials-1"))
    phonemes = Recogniser.load(RECOGNISER).phonemes
    spelled = read_spellings(ODD_TEXTS, phonemes.alphabet)
    silence = [Utterance(text.id, 0, "en_f1", 0.1, ()) for text in (only, among)]
    options = argparse.Namespace(recogniser=RECOGNISER, judge_gaps=False)
    [outcome] = spoken.judge(texts, silence, options)  # of the other nothing is judged
    assert outcome.id == among.id
    assert len(outcome.missing.split()) == len(spelled[among.id].reference(phonemes).phonemes)
    assert [one.id for one in spoken.judge(texts, silence, options, are_letters_judged=True)] == [only.id, among.id]


def test_pieces_are_all_of_the_work_and_share_nothing() -> None:
    texts = [OddText(str(number), "en", "short", "a", "a") for number in range(7)]
    pieces = [list_jobs(texts, 3, (number, 4)) for number in (1, 2, 3, 4)]
    assert len([job for piece in pieces for job in piece]) == 21
    assert {job for piece in pieces for job in piece} == set(list_jobs(texts, 3, (1, 1)))


@pytest.mark.parametrize("given_", ["0/3", "4/3", "1", "a/b", "-1/2"])
def test_a_piece_that_is_none_is_refused(given_: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="1 <= i <= n"):
        parse_shard(given_)


@pytest.mark.parametrize("given_", ["normalize", "=auto", ""])
def test_an_option_without_a_key_is_refused(given_: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="key=value"):
        parse_option(given_)


def test_a_line_that_was_cut_off_is_spoken_again(tmp_path: Path) -> None:
    line = json.dumps(
        {"id": "a", "seed": 0, "voice": "v", "seconds": 1, "heard": [1], "refused": "", "told": [], "warned": []}
    )
    (tmp_path / "1.jsonl").write_text(f"{line}\n{line[:20]}", encoding="utf-8")
    assert read_state(tmp_path) == [Utterance("a", 0, "v", 1, (1,))]


def test_a_caller_is_told_by_verdicts_and_by_ends_that_are_none() -> None:
    segments = [
        SimpleNamespace(finish_reason="end"),
        SimpleNamespace(finish_reason="retried", check=SimpleNamespace(verdict="ok")),
        SimpleNamespace(finish_reason="end", check=SimpleNamespace(verdict="suspect")),
        SimpleNamespace(finish_reason="length", check=None),
    ]
    assert find_told(segments) == ["suspect", "length"]  # pyright: ignore[reportArgumentType]


class _Voice:
    """Speaks one sample for each letter; refuses and fails when it is told to."""

    max_batch = 2
    voices = (SimpleNamespace(name="en_f1", language="en"), SimpleNamespace(name="en_m1", language="en"))
    config = SimpleNamespace(sample_rate=10)

    def check(self, request: SimpleNamespace, *, warn: object) -> None:
        if request.text == "?":
            raise TextError("no letter; a text needs some; write one")
        if request.text == "odd":
            warn("an odd text")  # pyright: ignore[reportCallIssue, reportGeneralTypeIssues]

    def synthesize(self, text: str, **options: object) -> SimpleNamespace:
        if text == "fails":
            raise GenerationError("no end; speech must end; try again", finish_reason="runaway", seeds=(1,))
        assert options["language"] == "en"
        return SimpleNamespace(samples=np.ones(len(text), np.float32), segments=())


def test_a_listener_tells_what_was_refused_from_what_was_heard() -> None:
    recogniser = SimpleNamespace(transcribe=lambda samples, language: [5] * len(samples))
    listener = Listener(_Voice(), recogniser, {"speed": 1.0})  # pyright: ignore[reportArgumentType]
    texts = [OddText(text, "en", "short", text, text) for text in ("odd", "?", "fails", "good")]
    odd, question, fails, good = listener.listen([(text, number) for number, text in enumerate(texts)])
    assert (odd.heard, odd.warned, odd.voice, odd.seconds) == ((5, 5, 5), ("an odd text",), "en_f1", 0.3)
    assert (question.refused, question.heard, question.voice) == ("TextError", (), "en_m1")
    assert fails.refused == "runaway"
    assert (good.refused, len(good.heard)) == ("", 4)


@pytest.mark.parametrize(
    ("folder", "texts", "alphabet"),
    [
        pytest.param(folder, texts, alphabet, id=f"{folder.name}-{alphabet}")
        for folder, texts, alphabets in list_sets()
        for alphabet in alphabets
    ],
)
def test_every_text_has_a_reference_that_is_not_stale(folder: Path, texts: list[OddText], alphabet: str) -> None:
    spellings = read_spellings(folder, alphabet)
    assert {text.id: digest(text.parts) for text in texts} == {one.id: one.digest for one in spellings.values()}
    assert all(len(spellings[text.id].parts) == len(text.parts) for text in texts)
    assert all(any(spellings[text.id].parts[::2]) or text.letter_gaps for text in texts)
    assert all(spellings[text.id].language == text.language for text in texts)
    # Nothing in them that a recogniser of that alphabet would not know by name.
    phonemes = Sounds(SOUNDS, {}) if alphabet == IPA else Recogniser.load(RECOGNISER).phonemes
    if phonemes.alphabet == alphabet:
        assert all(any(one.numbers(phonemes)) for one in spellings.values())
    if alphabet == IPA:
        assert {name for one in spellings.values() for part in one.parts for name in part} <= SYMBOLS.keys()


def test_a_teacher_spells_each_part_and_a_silent_one_as_nothing(tmp_path: Path) -> None:
    def say(text: str, language: str, voice: str) -> Take:
        if text == ",":
            raise SilentTextError("no sound; a text needs some; write one")
        return Take(None, 1.0, [(0.0, "_:"), (0.1, "a"), (0.2, "b"), (0.3, "b"), (0.4, "_")])

    teacher = SimpleNamespace(voices=[SimpleNamespace(language="en", name="en_f1", split="preset")], say=say)
    text = OddText("en-digits-1", "en", "digits", "9, ok", "{nine} , {} ok")
    [spelled] = spell([text], *use_espeak(teacher))  # pyright: ignore[reportArgumentType]
    assert spelled.parts == ((), ("a", "b"), (), (), ("a", "b"))
    write_spellings([spelled], tmp_path)
    assert read_spellings(tmp_path) == {text.id: spelled}
    phonemes = Phonemes({"a": 1, "b": 2}, {})
    assert spelled.reference(phonemes) == Reference((1, 2), frozenset({0}))
    assert spelled.reference(phonemes, judged=range(5)) == Reference((1, 2, 1, 2), frozenset({2}))


def test_references_in_ipa_are_kept_symbol_by_symbol(tmp_path: Path) -> None:
    kept = Spelling("en-short-1", "0", (("h", "ə", "l", "ˈ", "O", "!"), ()), 1.0)
    write_spellings([kept], tmp_path, IPA)
    assert read_spellings(tmp_path, IPA) == {kept.id: kept}
    assert kept.numbers(Sounds(SOUNDS, {})) == [[SOUNDS[sound] for sound in ("h", "ə", "l", "o", "ʊ")], []]
    with pytest.raises(CorpusError, match=r"references\.jsonl is missing"):
        read_spellings(tmp_path)


def test_what_another_recogniser_heard_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    spoken.require_same_ears({"recogniser": hashlib.sha256(b"1").hexdigest()[:12]}, tmp_path / "one")
    spoken.require_same_ears({}, tmp_path / "one")  # of a run that did not write it down
    with pytest.raises(ValueError, match="mixed up"):
        spoken.require_same_ears({"recogniser": "0" * 12}, tmp_path / "one")


@pytest.mark.parametrize(("name", "count"), [("calibration", 120), ("judging", 170), ("long", 70)])
def test_there_are_texts_enough_for_the_checks(name: str, count: int) -> None:
    texts = read_check_texts(name)
    assert len(texts) >= count
    assert len({text.text for text in texts}) == len(texts)
    for text in texts:
        limits = range(20, 201) if name != "long" else _LONG
        if text.language == "ja":
            limits = range(10, 101) if name != "long" else _LONG_IN_KANA
        assert len(text.text) in limits, text


def test_texts_of_the_checks_are_nowhere_else() -> None:
    sets = [{(text.language, text.text) for text in read_check_texts(name)} for name in CHECK_SETS]
    assert not sets[0] & sets[1]
    for language in LANGUAGES:
        learnt = ROOT / "src" / "voxtral" / "cloning" / "texts"
        paths = [learnt, *(ROOT / "benchmarks" / "texts" / split for split in ("dev", "test"))]
        known = "\n".join((path / f"{language}.txt").read_text(encoding="utf-8") for path in paths)
        assert not [text for code, text in set[tuple[str, str]]().union(*sets) if code == language and text in known]


@pytest.mark.slow  # nano speaks: a short sentence, twice
def test_a_piece_is_spoken_once_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    piece = ["speak", str(tmp_path), "--languages", "it", "--seeds", "1", "--shard", "31/36"]
    for expected in ("1 utterances spoken, 0 were there", "0 utterances spoken, 1 were there"):
        spoken.main(piece)
        assert expected in capsys.readouterr().out
    spoken.main(["report", str(tmp_path), "--json", str(tmp_path / "out.json")])
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert report["all"]["lost"]["of"] + report["all"]["refused"] == 1
    with pytest.raises(SystemExit):
        spoken.main([*piece, "--stream"])
    assert "results of both would be mixed" in capsys.readouterr().err


@pytest.mark.slow  # nano speaks a text of 300 characters
def test_a_long_text_is_one_segment(tmp_path: Path) -> None:
    one_segment.main([str(tmp_path), "--shard", "70/70"])
    [line] = (tmp_path / "long" / "70-of-70.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line)
    codes = np.load(tmp_path / "long" / f"{found['id']}-0.npy")
    assert codes.shape == (found["num_frames"], 37)
