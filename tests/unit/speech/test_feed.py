"""A text that is pushed on one side and taken on the other: order, ends, errors, and nobody waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from voxtral.errors import CancelledError, TextError
from voxtral.speech.feed import TextFeed, feed_from

PATIENCE_S = 20.0


def rest_of(feed: TextFeed) -> list[str]:
    found: list[str] = []
    while (stretch := feed.take(PATIENCE_S)) is not None:
        found.append(stretch.text)
    return found


def test_stretches_come_in_order_and_the_text_is_kept() -> None:
    feed = TextFeed()
    feed.push("Hello there. How are")
    assert feed.is_ready
    first = feed.take()
    assert first is not None
    assert (first.text, first.start, first.end) == ("Hello there. ", 0, 13)
    assert not feed.is_ready
    assert not feed.wait(0)
    with pytest.raises(TimeoutError):
        feed.take(0)
    feed.flush()
    feed.push(" you?")
    feed.close()
    feed.close()
    assert rest_of(feed) == ["How are", " you?"]
    assert feed.text == "Hello there. How are you?"
    assert feed.take() is None
    with pytest.raises(TextError, match="was closed"):
        feed.push("more")


def test_what_was_finished_comes_before_the_error_that_ended_the_text() -> None:
    def pieces() -> Iterator[str]:
        yield "Hello there. And so"
        raise KeyError("lost")

    feed = TextFeed()
    feed_from(pieces(), feed).join(PATIENCE_S)
    first = feed.take(PATIENCE_S)
    assert first is not None
    assert first.text == "Hello there. "
    with pytest.raises(KeyError, match="lost"):
        feed.take(PATIENCE_S)


def test_a_piece_that_is_no_str_is_told_to_the_reader() -> None:
    feed = TextFeed()
    feed_from([b"bytes"], feed).join(PATIENCE_S)  # type: ignore[list-item]
    with pytest.raises(TextError, match="must be a str"):
        feed.take(PATIENCE_S)


def test_a_reader_that_leaves_stops_the_writer_and_wakes_who_waits() -> None:
    feed = TextFeed()
    pushed: list[str] = []

    def pieces() -> Iterator[str]:
        while True:
            pushed.append("x")
            yield "x. "

    woken = threading.Event()

    def wait() -> None:
        with pytest.raises(CancelledError):
            rest_of(feed)
        woken.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    writer = feed_from(pieces(), feed)
    feed.cancel()
    writer.join(PATIENCE_S)
    waiting.join(PATIENCE_S)
    assert not writer.is_alive()
    assert woken.is_set()
    with pytest.raises(CancelledError, match="reader has left"):
        feed.push("more")


def test_a_writer_waits_while_too_much_of_the_text_waits() -> None:
    feed = TextFeed(max_waiting=20)
    done = threading.Event()

    def write() -> None:
        for _ in range(10):
            feed.push("One more. ")
        feed.close()
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not done.wait(0.05)
    assert rest_of(feed) == ["One more. "] * 10
    writer.join(PATIENCE_S)
    assert done.is_set()


def test_the_language_holds_from_when_it_is_known() -> None:
    feed = TextFeed()
    feed.push("1. Make tea. Good.\n2. Drink it.")
    assert not feed.is_ready  # it might be German
    feed.read_as("en")
    assert feed.is_ready
