"""What is known of a take: words that were given, and those where the attention stopped being measured."""

from voxtral.speech.take import after
from voxtral.types import WordTime


def word(number: int, start_s: float, end_s: float) -> WordTime:
    return WordTime(4 * number, 4 * number + 3, start_s, end_s, 0.5)


def test_words_that_were_given_stay_and_the_others_come_after_them() -> None:
    given = (word(0, 0.0, 0.5), word(1, 0.6, 1.4))
    guessed = (word(0, 0.0, 0.4), word(1, 0.4, 0.9), word(2, 0.9, 1.3), word(3, 1.3, 1.9))
    assert after(given, guessed) == (word(2, 1.4, 1.4), word(3, 1.4, 1.9))
    assert after((), guessed) == guessed
    assert after(given, guessed[:2]) == ()
