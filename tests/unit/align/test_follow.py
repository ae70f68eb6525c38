"""What a follower decides, on attention that is written down: ends, stalls and tails."""

from collections.abc import Iterable

import numpy as np
import pytest

from voxtral.align.follow import Follower, FollowLimits
from voxtral.align.words import WordSpans, spoken_words, verbatim_sources
from voxtral.engine.following import Decision

TEXT = "Hello there, my ... friend, go home."
LIMITS = FollowLimits()


def words_of(text: str) -> WordSpans:
    pieces = [char.encode() for char in text]
    return spoken_words(text, text, verbatim_sources(0, len(text)), pieces)


def follow(frames: Iterable[tuple[int, bool]], text: str = TEXT, **options: bool) -> tuple[list[Decision], Follower]:
    """Show a follower where frames look, and whether the model says that they are the end."""
    follower = Follower(words_of(text), 6, LIMITS, **options)
    decisions: list[Decision] = []
    for place, says_end in frames:
        weights = np.full(len(text), 1e-4, dtype=np.float32)
        weights[place] = 1.0
        follower.see(weights / weights.sum())
        decisions.append(follower.decide(says_end=says_end))
        if decisions[-1] == "again":
            decisions.append(follower.decide(says_end=False))
        if decisions[-1] in ("end", "over", "lost"):
            break
    return decisions, follower


def through(start: int, stop: int, step: int = 2) -> list[tuple[int, bool]]:
    return [(place, False) for place in range(start, stop, step)]


def test_an_end_at_the_end_is_believed() -> None:
    decisions, _ = follow([*through(0, len(TEXT)), (len(TEXT) - 1, True)])
    assert decisions[-1] == "end"
    assert set(decisions[:-1]) == {"keep"}


def test_one_letter_that_the_path_misses_is_no_reason_to_go_on() -> None:
    last_but_one = TEXT.rindex("m")
    assert follow([*through(0, last_but_one), (last_but_one, True)])[0][-1] == "end"


def test_an_early_end_is_held_back_until_speech_goes_on() -> None:
    pause = TEXT.index("...")
    decisions, _ = follow([*through(0, pause), (pause, True), (pause, True), *through(pause, len(TEXT))])
    held = decisions[len(through(0, pause)) :]
    assert held[:4] == ["again", "wait", "again", "wait"]
    assert "lost" not in held
    assert held[-1] == "keep"


def test_what_does_not_go_on_is_lost_and_says_where() -> None:
    pause = TEXT.index("...")
    decisions, follower = follow([*through(0, pause), *[(pause, True)] * 20])
    held = decisions[len(through(0, pause)) :]
    assert held[-1] == "lost"
    assert held[:-1] == ["again", "wait"] * ((len(held) - 1) // 2)
    # The frame of the first end got on, to the pause.
    assert LIMITS.hold_frames <= len(held[:-1]) / 2 <= LIMITS.hold_frames + 1
    assert follower.token == TEXT.index("friend")


def test_speech_that_stands_still_is_kept_back_and_then_given_up() -> None:
    place = TEXT.index("friend")
    decisions, _ = follow([*through(0, place), *[(place, False)] * 60])
    lost = decisions.index("lost")
    assert decisions[lost - LIMITS.stall_frames : lost] == ["wait"] * LIMITS.stall_frames
    assert "keep" not in decisions[lost - LIMITS.stall_frames : lost]


def test_what_stood_still_and_goes_on_is_speech() -> None:
    place = TEXT.index("friend")
    decisions, _ = follow([*through(0, place), *[(place, False)] * 30, *through(place + 2, len(TEXT))])
    assert "wait" in decisions
    assert "lost" not in decisions
    assert decisions[-1] == "keep"


def test_speech_after_the_last_word_is_kept_back_and_dropped() -> None:
    decisions, _ = follow([*through(0, len(TEXT)), *[(len(TEXT) - 1, False)] * 30])
    over = decisions.index("over")
    assert decisions[over - LIMITS.over_frames : over] == ["wait"] * LIMITS.over_frames


def test_a_late_end_after_a_long_tail_keeps_everything() -> None:
    tail = LIMITS.tail_frames + LIMITS.over_frames - 2
    decisions, _ = follow([*through(0, len(TEXT)), *[(len(TEXT) - 1, False)] * tail, (len(TEXT) - 1, True)])
    assert decisions[-1] == "end"
    assert "over" not in decisions


@pytest.mark.parametrize("says_end", [False, True])
def test_one_that_only_watches_changes_nothing(says_end: bool) -> None:
    decisions, follower = follow([(3, False)] * 60 + [(3, says_end)], is_strict=False)
    assert decisions == ["keep"] * 60 + ["end" if says_end else "keep"]
    assert len(follower.weights) == 61


def test_words_that_are_passed_over_are_gone_back_to_before_what_follows_is_heard() -> None:
    text = "We saw the big red house there."
    big, house = text.index("big"), text.index("house")
    frames = [*through(0, big), *through(house, len(text))]
    decisions, follower = follow(frames, text)
    at = len(through(0, big))
    assert decisions[: at + LIMITS.skip_frames] == ["keep"] * at + ["wait"] * (LIMITS.skip_frames - 1) + ["lost"]
    assert follower.token == big


def test_a_glance_ahead_is_no_skip() -> None:
    text = "We saw the big red house there."
    big, house = text.index("big"), text.index("house")
    decisions, _ = follow([*through(0, big), (house, False), *through(big, len(text)), (len(text) - 1, True)], text)
    assert "lost" not in decisions
    assert decisions[-1] == "end"


def test_an_end_for_which_the_path_jumped_to_the_last_mark_is_not_believed() -> None:
    text = "A. B. C. D. E. F. G. H."
    last = len(text) - 1
    decisions, follower = follow([*through(0, text.index("D")), *[(last, False)] * 3, *[(last, True)] * 9], text)
    assert decisions[-1] == "lost"
    assert "end" not in decisions
    assert text[follower.token] == "D"


ELISION = "une page après l'autre."


def test_an_end_while_attention_rests_on_an_apostrophe_is_believed_once_the_word_had_its_time() -> None:
    mark, word = ELISION.index("'"), ELISION.index("l'")
    needed = LIMITS.token_frames * len("l'autre.") + LIMITS.pause_frames
    start = [*through(0, word), (word, False)]
    slow, _ = follow([*start, *[(mark, False)] * round(needed), (mark, True)], ELISION)
    assert slow[-1] == "end"
    assert set(slow[:-1]) == {"keep"}
    hasty, _ = follow([*start, (mark, False), (mark, True)], ELISION)
    assert "end" not in hasty


@pytest.mark.parametrize("place", ["a", "u"])
def test_a_letter_of_the_last_word_is_no_mark_to_rest_on(place: str) -> None:
    rest = ELISION.rindex(place)
    decisions, _ = follow([*through(0, rest), *[(rest, False)] * 12, (rest, True)], ELISION)
    assert "end" not in decisions


def test_a_mark_of_another_word_than_the_last_is_none_to_end_at() -> None:
    text = "après l'autre une page."
    mark = text.index("'")
    decisions, _ = follow([*through(0, mark), *[(mark, False)] * 15, (mark, True)], text)
    assert "end" not in decisions


REPEAT = "We saw a boat on the sand, and a bird. Nobody came."


def test_what_is_said_again_is_given_up_where_it_began_and_the_rest_is_left() -> None:
    again, until = REPEAT.index("boat"), REPEAT.index("Nobody")
    decisions, follower = follow([*through(0, until), *through(again, len(REPEAT))], REPEAT)
    at = len(through(0, until))
    assert decisions[at:] == ["keep", "wait", "lost"]
    assert until - 3 <= follower.token <= until


def test_what_is_said_again_after_all_was_said_is_dropped() -> None:
    decisions, _ = follow([*through(0, len(REPEAT)), *through(REPEAT.index("boat"), len(REPEAT))], REPEAT)
    assert decisions[-1] == "over"


@pytest.mark.parametrize("glances", [[4] * 6, [4, 6], [8, 4, 8, 4]], ids=["rest", "two", "restless"])
def test_a_look_back_that_does_not_get_on_is_let_be(glances: list[int]) -> None:
    until = REPEAT.index("Nobody")
    frames = [*through(0, until), *[(place, False) for place in glances], *through(until, len(REPEAT))]
    decisions, _ = follow([*frames, (len(REPEAT) - 1, True)], REPEAT)
    assert "lost" not in decisions
    assert decisions[-1] == "end"


@pytest.mark.parametrize(
    ("text", "passed", "is_lost"), [("すなのうえにだれもいません", 3, True), ("We saw big red ox", 3, False)]
)
def test_a_kana_that_is_passed_over_counts_twice(text: str, passed: int, is_lost: bool) -> None:
    place = 6 if is_lost else 7
    after = text.index("red") if not is_lost else place + passed
    decisions, _ = follow([*through(0, place, 1), *through(after, len(text), 1)], text)
    assert ("lost" in decisions) is is_lost


def test_a_glance_at_one_of_the_words_that_are_passed_over_does_not_hide_the_others() -> None:
    text = "We saw the extraordinary red evening house there."
    start, glance, house = (text.index(word) for word in ("extraordinary", "red", "house"))
    decisions, follower = follow([*through(0, start), (glance, False), *through(house, len(text))], text)
    assert "lost" in decisions
    assert text[follower.token :].startswith(("extraordinary", "evening"))


def test_words_that_were_said_before_attention_was_sure_do_not_hide_one_that_was_passed_over() -> None:
    text = "We saw extraordinary old barns there."
    start, barns = text.index("extraordinary"), text.index("barns")
    follower = Follower(words_of(text), 6, LIMITS)
    decisions: list[Decision] = []
    for place, share in [(0, 1.0), (3, 1.0), (21, 0.45), (22, 0.45), (23, 0.45), (barns, 1.0), (barns + 2, 1.0)]:
        weights = np.full(len(text), (1 - share) / len(text), dtype=np.float32)
        weights[place] += share
        follower.see(weights)
        decisions.append(follower.decide(says_end=False))
    assert decisions[-1] == "lost"
    assert follower.token == start


def test_a_word_that_had_a_quarter_of_the_attention_that_letters_need_was_not_said() -> None:
    text = "Per la zuppa servono porri bianchi."
    start, after = text.index("porri"), text.index("bianchi")
    frames = [*through(0, start), (start, False), *through(after + 1, len(text))]
    decisions, follower = follow(frames, text)
    assert ("lost" in decisions, follower.token) == (False, follower.path.token)  # five letters are let be
    longer = text.replace("porri", "carciofi")
    frames = [*through(0, start), *[(start, False)] * 2, *through(longer.index("bianchi"), len(longer))]
    decisions, follower = follow(frames, longer)
    assert "lost" in decisions
    assert follower.token == start
