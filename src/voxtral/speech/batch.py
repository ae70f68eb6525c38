"""Many utterances at once: a bounded number in flight, outcomes as they finish, one failure hurts no other.

`Batch` runs items; `submit` comes from the caller (`VoxtralTTS.submit`), and so does `take`, which makes something of
a handle: audio in memory, or a file. `ItemReader` makes items of what Python callers give. docs/BATCH.md is the page
for users; read next: `voxtral.tts` for the Python API, `voxtral.jobs.run` for files.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from voxtral.errors import BatchError, CancelledError, OptionError, RequestError, TextError, VoxtralError, quoted
from voxtral.options import MAX_SEED, SEED
from voxtral.speech.request import check_option, check_options, make_request
from voxtral.types import SpeechRequest

if TYPE_CHECKING:
    from voxtral.speech.result import Audio
    from voxtral.speech.utterance import SpeechHandle
    from voxtral.voices.prompt import VoicePrompt

T = TypeVar("T")

MAX_IN_FLIGHT = 512
"""Each utterance in flight has a thread that reads it and, in the engine, its cache."""

# How long a signal may go unheard while something is waited for.
_LISTEN_S = 0.5

# How many items one message names.
_MAX_NAMED = 10

# Voices of clips that are kept; a lazily read batch may name any number of clips.
_MAX_CLONED_VOICES = 64


@dataclass(frozen=True)
class BatchItem:
    """One utterance of a batch.

    Attributes:
        index: its place in the input.
        name: what it is called; with the common seed it decides the item's own.
        request: what to speak; its seed is set.
    """

    index: int
    name: str
    request: SpeechRequest


@dataclass(frozen=True, eq=False)
class BatchResult:
    """What became of one item of `VoxtralTTS.synthesize_batch_iter`: either audio or an error.

    Attributes:
        index: its place in the input.
        name: the item's own, or its index as text.
        audio: the speech, or None.
        error: why there is none, or None.
    """

    index: int
    name: str
    audio: Audio | None = None
    error: VoxtralError | None = None


class Submit(Protocol):
    """`VoxtralTTS.submit`."""

    def __call__(self, request: SpeechRequest, *, hold_segments: bool = False) -> SpeechHandle:
        """Start a request."""
        ...


class Batch(Generic[T]):
    """Speaks items with a bounded number in flight. Made for one run.

    Requests are submitted by the thread that iterates over `run`; each handle is read by a thread of its own, so
    that a slow `take` holds up its own utterance only.

    Args:
        submit: starts a request.
        take: reads a handle to its end, in a thread of the batch, and returns what is wanted of it.
        max_in_flight: utterances under way at a time.
    """

    def __init__(self, submit: Submit, take: Callable[[BatchItem, SpeechHandle], T], max_in_flight: int) -> None:
        self._submit = submit
        self._take = take
        self._max_in_flight = max_in_flight
        self._open: dict[Future[T], tuple[BatchItem, SpeechHandle]] = {}
        self._is_cancelled = False

    def run(self, items: Iterable[BatchItem]) -> Generator[tuple[BatchItem, T | VoxtralError], None, None]:
        """Yield each item with what `take` returned or the error that ended it, as they finish.

        Items are read no further ahead than there is room for. Leaving the loop cancels what is in flight.

        Raises:
            CancelledError: `cancel` was called; `take` may have finished items that are not yielded.
        """
        with ThreadPoolExecutor(self._max_in_flight, thread_name_prefix="voxtral-batch") as pool:
            try:
                for item in items:
                    if len(self._open) >= self._max_in_flight:
                        yield from self._finished()
                    self.check_cancelled()
                    try:
                        handle = self._submit(item.request, hold_segments=True)
                    except VoxtralError as error:
                        yield item, error
                        continue
                    self._open[pool.submit(self._take, item, handle)] = (item, handle)
                while self._open:
                    yield from self._finished()
                self.check_cancelled()
            finally:
                # Before the pool waits for its threads.
                self.cancel()

    def cancel(self) -> None:
        """End what is in flight before its next frame, and submit nothing more; safe in a signal handler."""
        self._is_cancelled = True
        for _, handle in self.in_flight:
            handle.cancel()

    @property
    def in_flight(self) -> list[tuple[BatchItem, SpeechHandle]]:
        """Items under way."""
        return list(self._open.values())

    def _finished(self) -> Iterator[tuple[BatchItem, T | VoxtralError]]:
        """Wait until something is done, and yield it."""
        self.check_cancelled()
        # A signal that comes just before a wait begins does not end it, and its handler runs only between two waits.
        while not (done := wait(list(self._open), _LISTEN_S, FIRST_COMPLETED).done):
            pass
        for future in done:
            item, _ = self._open.pop(future)
            try:
                outcome: T | VoxtralError = future.result()
            except VoxtralError as error:
                outcome = error
            if isinstance(outcome, CancelledError):
                self.check_cancelled()
            yield item, outcome

    def check_cancelled(self) -> None:
        """Go on only if nobody has called `cancel`.

        Raises:
            CancelledError: somebody has.
        """
        if self._is_cancelled:
            self.cancel()  # also what was submitted while the first call looked at what was there
            raise CancelledError("the batch was cancelled by its caller")


def default_in_flight(max_batch: int) -> int:
    """Choose how many utterances are under way: a few more than the engine computes together.

    So one is waiting when another ends, and no row is empty while its audio is written.

    >>> default_in_flight(16)
    20
    """
    return max_batch + max(1, max_batch // 4)


def item_seed(seed: int, name: str) -> int:
    """Derive the seed of an item from the common one and its name, so that neither its place nor a neighbour matters.

    >>> item_seed(0, "chapter1") == item_seed(0, "chapter1") != item_seed(0, "chapter2")
    True
    """
    digest = hashlib.sha256(f"batch/{seed}/{name}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") & MAX_SEED


def merge_options(common: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Join the options of a batch with those of an item; the item's own win, and None stands for not given.

    A voice of the item replaces a common reference clip, and the other way round.

    >>> merge_options({"voice": "a", "speed": 1.5}, {"reference_audio": "clip.wav", "speed": None})
    {'speed': 1.5, 'reference_audio': 'clip.wav'}
    """
    given = {key: value for key, value in own.items() if value is not None}
    merged = dict(common)
    if "voice" in given or "reference_audio" in given:
        merged.pop("voice", None)
        merged.pop("reference_audio", None)
    return merged | given


class ClonedVoices:
    """Turns reference clips into voices, each clip once.

    Args:
        create_voice: `VoxtralTTS.create_voice`.
    """

    def __init__(self, create_voice: Callable[[Any], VoicePrompt]) -> None:
        self._create_voice = create_voice
        # With the clip, so that an address that serves as a key is not given to another.
        self._made: dict[Any, tuple[Any, VoicePrompt]] = {}

    def resolve(self, request: SpeechRequest) -> SpeechRequest:
        """Give the request the voice of its clip, if it has one.

        Raises:
            RequestError: as `VoxtralTTS.create_voice`.
        """
        clip = request.reference_audio
        if clip is None:
            return request
        key = os.fspath(clip) if isinstance(clip, str | os.PathLike) else clip if isinstance(clip, bytes) else id(clip)
        if key not in self._made:
            voice = self._create_voice(clip)
            if len(self._made) >= _MAX_CLONED_VOICES:
                self._made.pop(next(iter(self._made)))
            self._made[key] = (clip, voice)
        return replace(request, reference_audio=None, voice=self._made[key][1])


class ItemReader:
    """Makes checked items of texts, dicts and requests.

    Args:
        common: keywords of `synthesize` for items that do not say otherwise.
        seed: of the batch; see `item_seed`.
        voices: makes voices of the clips that items name.
        check: refuses what the model would refuse, `VoxtralTTS.check`.

    Raises:
        RequestError: a common option is unknown, outside its range, or excludes another, or its clip cannot be used.
    """

    def __init__(
        self, common: Mapping[str, Any], seed: int, voices: ClonedVoices, check: Callable[[SpeechRequest], None]
    ) -> None:
        check_option(SEED, seed)
        request = make_request("", **common)
        check_options(request)
        self._common = dict(common)
        if request.reference_audio is not None:
            # Now, so that a bad clip is refused once and not by every item.
            self._common |= {"reference_audio": None, "voice": voices.resolve(request).voice}
        self._seed = seed
        self._voices = voices
        self._check = check

    def read(self, index: int, given: object) -> BatchItem:
        """Make one item.

        Args:
            index: its place in the input.
            given: a str, a dict or a SpeechRequest.

        Raises:
            RequestError: it breaks a rule.
        """
        name = item_name(index, given)
        if isinstance(given, SpeechRequest):
            request = given
        else:
            request = make_request(**merge_options(self._common, item_options(given)))
        check_options(request)
        if request.seed is None:
            request = replace(request, seed=item_seed(self._seed, name))
        request = self._voices.resolve(request)
        self._check(request)
        return BatchItem(index, name, request)

    def read_all(self, givens: Iterable[object]) -> list[BatchItem]:
        """Make all items, or none.

        Raises:
            RequestError: items break a rule; the message names them.
        """
        items: list[BatchItem] = []
        refused: list[tuple[str, VoxtralError]] = []
        for index, given in enumerate(givens):
            try:
                items.append(self.read(index, given))
            except RequestError as error:
                refused.append((_label(index, given), error))
        if refused:
            raise RequestError(
                f"{len(refused)} of {len(items) + len(refused)} items are refused: {_name(refused)}; nothing was "
                "spoken; correct them and call again"
            )
        return items


def check_texts(texts: object) -> None:
    """Refuse one text where many are wanted: it would be spoken letter by letter.

    Raises:
        TextError: it is a str, bytes, a dict or a request, or cannot be iterated over.
    """
    kind = type(texts).__name__
    if isinstance(texts, str | bytes | Mapping | SpeechRequest) or not isinstance(texts, Iterable):
        raise TextError(f"the texts are a {kind}; a batch takes an iterable of items; put it in a list")


def item_options(given: object) -> dict[str, Any]:
    """Give the keywords of `synthesize` that a str or a dict stands for, the text among them and the name not.

    Raises:
        TextError: it is of another kind, or has no text.
        OptionError: a key is no str.
    """
    mapping = _as_mapping(given)
    own: dict[Any, Any] = {"text": given} if mapping is None else dict(mapping)
    own.pop("name", None)
    if not isinstance(own.get("text"), str):
        kind = "missing" if "text" not in own else f"a {type(own['text']).__name__}"
        raise TextError(f"the text is {kind}; an item is a str, a dict with the str `text`, or a SpeechRequest")
    if odd := [key for key in own if not isinstance(key, str)]:
        raise OptionError(f"option {quoted(odd[0])} is unknown; options are named by str; check the spelling")
    return own


def item_name(index: int, given: object) -> str:
    """Name an item: its own name, else its index.

    Raises:
        OptionError: the name is no str.
    """
    name = own_name(given)
    return str(index) if name is None else name


def own_name(given: object) -> str | None:
    """Give the name that a dict brings along, if it is one and does.

    Raises:
        OptionError: the name is no str.
    """
    mapping = _as_mapping(given)
    name = None if mapping is None else mapping.get("name")
    if name is not None and not isinstance(name, str):
        raise OptionError(f"name is {quoted(name)}; it must be a str")
    return name


def _as_mapping(given: object) -> Mapping[Any, Any] | None:
    return cast("Mapping[Any, Any]", given) if isinstance(given, Mapping) else None


def in_order(batch: Batch[Audio], items: list[BatchItem]) -> list[Audio]:
    """Run a batch and return its audio in the order of the items.

    Raises:
        BatchError: items failed.
    """
    outcomes: dict[int, Audio | VoxtralError] = {item.index: outcome for item, outcome in batch.run(items)}
    results = [outcomes[item.index] for item in items]
    failed = [(item.name, found) for item in items if isinstance(found := outcomes[item.index], VoxtralError)]
    if failed:
        raise BatchError(
            f"{len(failed)} of {len(items)} items failed: {_name(failed)}; the others are in `results`", results
        )
    return [audio for audio in results if not isinstance(audio, VoxtralError)]


def as_finished(batch: Batch[Audio], reader: ItemReader, givens: Iterable[object]) -> Iterator[BatchResult]:
    """Read items as there is room for them, and yield what became of each; a refused item is a result, too."""
    refused: deque[BatchResult] = deque()

    def items() -> Iterator[BatchItem]:
        for index, given in enumerate(givens):
            try:
                yield reader.read(index, given)
            except RequestError as error:
                refused.append(BatchResult(index, _label(index, given), error=error))

    def drain() -> Iterator[BatchResult]:
        while refused:
            yield refused.popleft()

    with closing(batch.run(items())) as outcomes:
        for item, outcome in outcomes:
            yield from drain()
            if isinstance(outcome, VoxtralError):
                yield BatchResult(item.index, item.name, error=outcome)
            else:
                yield BatchResult(item.index, item.name, audio=outcome)
    yield from drain()


def _label(index: int, given: object) -> str:
    try:
        return item_name(index, given)
    except OptionError:
        return str(index)


def _name(some: list[tuple[str, VoxtralError]]) -> str:
    named = "; ".join(f"item {name}: {error}" for name, error in some[:_MAX_NAMED])
    return named + (f"; and {len(some) - _MAX_NAMED} more" if len(some) > _MAX_NAMED else "")
