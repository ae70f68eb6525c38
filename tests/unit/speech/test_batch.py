"""The running of batches on handles that the test controls: bounds, failures, cancellation, seeds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from voxtral.errors import BatchError, CancelledError, OptionError, RequestError, TextError, VoiceError
from voxtral.speech.batch import Batch, BatchItem, ClonedVoices, ItemReader, as_finished, in_order, item_seed
from voxtral.types import SpeechRequest


class Handle:
    """A handle whose speech ends when the test says so."""

    def __init__(self, request: SpeechRequest) -> None:
        self.request = request
        self.may_end = threading.Event()
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True
        self.may_end.set()


class Speaker:
    """Takes requests as `VoxtralTTS.submit` does; `immediate` speech needs no leave to end."""

    def __init__(self, *, immediate: bool = True) -> None:
        self.handles: list[Handle] = []
        self.immediate = immediate

    def submit(self, request: SpeechRequest, *, hold_segments: bool = False) -> Any:
        assert hold_segments
        if "refused" in request.text:
            raise TextError("refused when its turn came")
        handle = Handle(request)
        self.handles.append(handle)
        if self.immediate:
            handle.may_end.set()
        return handle


def take(item: BatchItem, handle: Any) -> Any:
    assert handle.may_end.wait(10)
    if handle.is_cancelled:
        raise CancelledError("cancelled")
    if "fails" in item.request.text:
        raise VoiceError("failed while it was spoken")
    return item.request.text.upper()


def items(*texts: str) -> list[BatchItem]:
    return [BatchItem(index, str(index), SpeechRequest(text)) for index, text in enumerate(texts)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_no_more_than_asked_for_is_in_flight_and_input_is_read_no_further() -> None:
    speaker = Speaker(immediate=False)
    batch = Batch(speaker.submit, take, 3)
    given: list[int] = []

    def endless() -> Iterator[BatchItem]:
        for index in range(1000):
            given.append(index)
            yield BatchItem(index, str(index), SpeechRequest("a"))

    outcomes = batch.run(endless())
    threading.Thread(
        target=lambda: (until(lambda: len(speaker.handles) == 3), speaker.handles[1].may_end.set())
    ).start()
    item, outcome = next(outcomes)
    assert (item.index, outcome) == (1, "A")
    assert len(speaker.handles) == 3
    assert len(batch.in_flight) == 2
    # One more than is in flight: the item that waits for room.
    assert given == [0, 1, 2, 3]
    outcomes.close()
    assert [handle.is_cancelled for handle in speaker.handles] == [True, False, True]


def test_one_failure_hurts_no_other_and_the_rest_is_in_the_error() -> None:
    batch = Batch(Speaker().submit, take, 2)
    with pytest.raises(
        BatchError, match=r"2 of 5 items failed: item 1: failed while.*; item 3: refused when"
    ) as caught:
        in_order(batch, items("a", "fails", "b", "refused", "c"))
    first, failed, second, refused, third = caught.value.results
    assert (first, second, third) == ("A", "B", "C")
    assert (type(failed), type(refused)) == (VoiceError, TextError)


def test_a_fault_of_the_program_is_not_taken_for_a_failed_item() -> None:
    def broken(item: BatchItem, handle: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(Batch(Speaker().submit, broken, 2).run(items("a", "b")))


def test_cancelling_ends_what_is_in_flight_and_submits_nothing_more() -> None:
    speaker = Speaker(immediate=False)
    batch = Batch(speaker.submit, take, 2)

    def cancel() -> None:
        until(lambda: len(batch.in_flight) == 2)
        batch.cancel()

    threading.Thread(target=cancel).start()
    with pytest.raises(CancelledError):
        list(batch.run(items(*"abcdef")))
    assert [handle.is_cancelled for handle in speaker.handles] == [True, True]
    assert all(not thread.name.startswith("voxtral-batch") for thread in threading.enumerate())


def test_cancelled_at_the_last_moment_is_cancelled() -> None:
    batch = Batch(Speaker().submit, take, 2)
    outcomes = batch.run(items("a"))
    next(outcomes)
    batch.cancel()
    with pytest.raises(CancelledError):
        next(outcomes)


def reader(**common: Any) -> ItemReader:
    return ItemReader(common, 7, ClonedVoices(lambda clip: f"voice of {clip}"), lambda request: None)  # type: ignore[arg-type,return-value]


def test_items_take_common_options_unless_they_say_otherwise() -> None:
    plain, own, whole = reader(voice="a", speed=1.5).read_all(
        ["x", {"text": "y", "speed": 2.0, "voice": None, "name": "n"}, SpeechRequest("z", seed=3)]
    )
    assert (plain.request.voice, plain.request.speed, plain.request.seed) == ("a", 1.5, item_seed(7, "0"))
    assert (own.request.voice, own.request.speed, own.request.seed) == ("a", 2.0, item_seed(7, "n"))
    assert whole.request == SpeechRequest("z", seed=3)


def test_a_voice_of_an_item_replaces_a_common_clip_and_a_clip_a_common_voice() -> None:
    one, two = reader(reference_audio="c.wav").read_all([{"text": "x", "voice": "a"}, "y"])
    assert (one.request.voice, one.request.reference_audio) == ("a", None)
    assert (two.request.voice, two.request.reference_audio) == ("voice of c.wav", None)
    (three,) = reader(voice="a").read_all([{"text": "x", "reference_audio": "d.wav"}])
    assert three.request.voice == "voice of d.wav"


def test_each_clip_is_encoded_once() -> None:
    encoded: list[Any] = []
    voices = ClonedVoices(lambda clip: encoded.append(clip) or clip)  # type: ignore[arg-type,return-value]
    clip = ([0.0], 24000)
    for reference in ("a.wav", b"RIFF", clip, "a.wav", b"RIFF", clip):
        voices.resolve(SpeechRequest("x", reference_audio=reference))
    assert encoded == ["a.wav", b"RIFF", clip]


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(
        RequestError, match=r"4 of 5 items are refused: item 1: the text is a int.*item 2: .*missing.*item n: .*item 4"
    ):
        reader().read_all(["good", 5, {"voice": "a"}, {"text": "x", "sped": 2, "name": "n"}, {"text": "x", "name": 4}])


def test_common_options_are_refused_before_any_item_is_read() -> None:
    for common in ({"sped": 2}, {"speed": 9}, {"voice": "a", "reference_audio": "b"}):
        with pytest.raises(OptionError):
            reader(**common)
    with pytest.raises(OptionError):
        ItemReader({}, -1, ClonedVoices(lambda clip: clip), lambda request: None)


def test_results_as_they_finish_have_refused_items_among_them() -> None:
    batch = Batch(Speaker().submit, take, 2)
    results = {
        result.index: result for result in as_finished(batch, reader(), ["a", 5, "fails", {"text": "b", "name": "n"}])
    }
    assert [results[index].audio for index in range(4)] == ["A", None, None, "B"]
    assert [type(results[index].error) for index in range(4)] == [type(None), TextError, VoiceError, type(None)]
    assert results[3].name == "n"
