"""One run over a folder of audio files: what is to be made, whether it can be, the making, and what became of it.

It prints nothing and reads no input: whatever a person should know is data here. The texts come from
`voxtral.jobs.inputs`, what is there already from `voxtral.jobs.manifest`; the command line and
`voxtral.jobs.synthesize` say it in their own words.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from voxtral.audio.file import AudioFileWriter
from voxtral.captions.formats import encode, render
from voxtral.errors import EngineStoppedError, RequestError, VoxtralError
from voxtral.jobs.digests import Digests
from voxtral.jobs.inputs import BatchFile, Problem, Split
from voxtral.jobs.manifest import Check, Manifest
from voxtral.speech.batch import Batch, BatchItem, ClonedVoices, default_in_flight
from voxtral.types import SegmentInfo, SpeechRequest, SpeechStats, SpokenLanguage, Verdict, worst_verdict

if TYPE_CHECKING:
    from voxtral.audio.source import AudioSource
    from voxtral.config import ModelConfig
    from voxtral.loading.checkpoint import Checkpoint
    from voxtral.speech.planner import Warn
    from voxtral.speech.utterance import SpeechHandle
    from voxtral.voices.presets import VoiceInfo
    from voxtral.voices.prompt import VoicePrompt


# So many files must be done before one speaks of the time that is left: the first one paid for the start as well.
_MIN_TELLING = 3


class LocalSpeaker(Protocol):
    """What a run needs of a model; `voxtral.tts.VoxtralTTS` has it."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Its files, which count for what a file was made from."""
        ...

    @property
    def config(self) -> ModelConfig:
        """Its sizes."""
        ...

    @property
    def max_batch(self) -> int:
        """How many utterances it computes together."""
        ...

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        ...

    @property
    def voices(self) -> tuple[VoiceInfo, ...]:
        """The preset voices."""
        ...

    def check(self, request: SpeechRequest, *, warn: Warn | None = None) -> None:
        """Refuse what `submit` would refuse."""
        ...

    def submit(self, request: SpeechRequest, *, hold_segments: bool = False, warn: Warn | None = None) -> SpeechHandle:
        """Start a request."""
        ...

    def create_voice(self, reference_audio: AudioSource, *, warn: Warn | None = None) -> VoicePrompt:
        """Clone a voice."""
        ...


@dataclass(frozen=True)
class MadeFile:
    """A file that was made.

    Attributes:
        file: its name in the folder.
        where: file and line of the text, or its place among items, for people.
        stats: what it took.
        language: that chose the voice, and what chose it.
        verdict: the worst of its segments; None where they were not checked.
    """

    file: str
    where: str
    stats: SpeechStats
    language: SpokenLanguage
    verdict: Verdict | None = None


@dataclass(frozen=True)
class FailedFile:
    """A file that could not be made; a later run tries it again.

    Attributes:
        file: its name in the folder.
        where: file and line of the text, or its place among items, for people.
        error: why.
    """

    file: str
    where: str
    error: VoxtralError


@dataclass(frozen=True)
class BatchProgress:
    """A moment of a run; what was there before does not count.

    Attributes:
        num_made: files that were made.
        num_failed: files that could not be made.
        num_files: files to make.
        fraction: of the texts, 0 to 1.
        made_s: seconds of audio made.
        elapsed_s: seconds since the start.
    """

    num_made: int
    num_failed: int
    num_files: int
    fraction: float
    made_s: float
    elapsed_s: float

    @property
    def left_s(self) -> float | None:
        """Seconds to go, by the characters that are left; None until a few files tell how long they take."""
        num_told = self.num_made + self.num_failed
        if num_told < min(_MIN_TELLING, self.num_files) or not self.fraction:
            return None
        return self.elapsed_s * (1.0 - self.fraction) / self.fraction


@dataclass(frozen=True)
class BatchReport:
    """What became of each file of a run.

    Attributes:
        folder: that they are in.
        made: files that were made, as they finished.
        skipped: names of files that were there already, made from the same, in the order of the texts.
        failed: files that could not be made, as they failed.
        left: names of files of earlier runs whose texts are not among those of this one.
        elapsed_s: seconds that the making took.
    """

    folder: Path
    made: tuple[MadeFile, ...]
    skipped: tuple[str, ...]
    failed: tuple[FailedFile, ...]
    left: tuple[str, ...]
    elapsed_s: float

    @property
    def duration_s(self) -> float:
        """Seconds of audio that were made."""
        return sum(made.stats.duration_s for made in self.made)


class BatchRun:
    """One run over a folder. `check` it, then `make` the files; `progress` and `cancel` are for any thread.

    Args:
        speaker: the model.
        manifest: of the folder, open until the run has ended.
        files: all files that the folder is to have, planned without a problem.
        format: of the files.
        split: how the texts were cut; None where they were not.
        overwrite: make every file again, whatever is there.
        max_in_flight: texts under way at a time; a few more than the engine computes together by default.

    Attributes:
        num_changed: files that are there and are to be made again.
        num_cleaned: those of them whose text has not changed, and was spoken before texts were cleaned.
        replaced: those of them that an earlier run has finished from texts that were cut another way: its files have
            the same names and say something else.
    """

    def __init__(
        self,
        speaker: LocalSpeaker,
        manifest: Manifest,
        files: list[BatchFile],
        format: str,
        *,
        split: Split | None = None,
        overwrite: bool = False,
        max_in_flight: int | None = None,
    ) -> None:
        self._speaker = speaker
        self._manifest = manifest
        self._format = format
        self._files = {planned.item.index: planned for planned in files}
        # What `submit` warns of was told by `check` already.
        self._warned = _Warned()
        self._voices = ClonedVoices(partial(speaker.create_voice, warn=self._warned))
        size = max_in_flight or default_in_flight(speaker.max_batch)
        self._batch = Batch(partial(speaker.submit, warn=self._warned), self._write, size)
        self._to_make: list[BatchFile] = []
        self._digests: dict[str, str] = {}
        self.num_changed = self.num_cleaned = 0
        self.replaced: list[str] = []
        self._split = split
        is_cut_anew = _is_cut_anew(manifest, split)
        digests = Digests(speaker.checkpoint.folder, (voice.name for voice in speaker.voices), format)
        for planned in files:
            digest = digests.of(planned.item.request)
            is_checked = planned.item.request.verify != "off"
            state = manifest.state(planned.file, digest, captions=planned.captions, is_checked=is_checked)
            if overwrite or state != "done":
                self.num_changed += state != "new"
                if state == "changed" and not overwrite:
                    before = digests.before_cleaning(planned.item.request)
                    self.num_cleaned += manifest.state(planned.file, before) == "done"
                if is_cut_anew and state == "changed" and manifest.is_finished(planned.file):
                    self.replaced.append(planned.file)
                self._to_make.append(planned)
                self._digests[planned.file] = digest
        # Written by the threads of the batch: after a cancellation it is true even of what was not handed out.
        self._made: list[MadeFile] = []
        self._failed: list[FailedFile] = []
        # Sums over what was handed out, for the progress.
        self._num_made = 0
        self._num_chars = 0
        self._num_chars_to_make = sum(len(planned.item.request.text) for planned in self._to_make)
        self._made_s = 0.0
        self._started_at: float | None = None
        self._elapsed_s: float | None = None

    def check(self) -> tuple[list[Problem], list[Problem]]:
        """Check with the model whatever is to be made, and speak nothing.

        Raises:
            CancelledError: `cancel` was called.

        Returns:
            All that is wrong, and all that should be known and stops nothing, the latter each once with the first
            text that causes it. If anything is wrong, `make` is not to be called.
        """
        problems: list[Problem] = []
        for planned in self._to_make:
            self._batch.check_cancelled()  # a clip to clone takes a while
            self._warned.where = planned.where
            try:
                self._speaker.check(self._voices.resolve(planned.item.request), warn=self._warned)
            except RequestError as error:
                problems.append(Problem(planned.where, str(error)))
        return problems, [Problem(where, message) for message, where in self._warned.told.items()]

    def make(self) -> Generator[MadeFile | FailedFile]:
        """Make what is to be made, and yield what became of each file, in whatever order they finish.

        Leaving the loop cancels what is in flight. Files appear whole or not at all, and what is finished is kept.

        Raises:
            AudioError: the disk refuses; the rest would fail in the same way.
            EngineStoppedError: the engine is gone.
            CancelledError: `cancel` was called.
        """
        self._started_at = time.perf_counter()
        refused: deque[FailedFile] = deque()
        try:
            self._manifest.begin((planned.file for planned in self._files.values()), self._split)
            self._manifest.claim({planned.file: planned.captions for planned in self._to_make})
            with closing(self._batch.run(self._items(refused))) as outcomes:
                for item, outcome in outcomes:
                    while refused:
                        yield refused.popleft()
                    yield self._hand_out(self._files[item.index], outcome)
            yield from refused
        finally:
            self._elapsed_s = time.perf_counter() - self._started_at

    def cancel(self) -> None:
        """End what is in flight before its next frame and begin nothing more; safe in a signal handler."""
        self._batch.cancel()

    @property
    def num_files(self) -> int:
        """Files that the folder is to have, those that are there already included."""
        return len(self._files)

    @property
    def progress(self) -> BatchProgress:
        """How far the making is; what is in flight counts in part."""
        num_chars, made_s = float(self._num_chars), self._made_s
        # A text under way counts by its audio: its segments count only when they are whole.
        chars_per_s = self._num_chars / self._made_s if self._made_s else 0.0
        for item, handle in self._batch.in_flight:
            segments = handle.segments
            under_way_s = handle.stats.num_frames / (self._speaker.config.frame_rate * item.request.speed)
            by_audio = min(under_way_s * chars_per_s, 0.95 * len(item.request.text))
            num_chars += max(segments[-1].text_end if segments else 0, by_audio)
            made_s += under_way_s
        return BatchProgress(
            num_made=self._num_made,
            num_failed=len(self._failed),
            num_files=len(self._to_make),
            fraction=min(1.0, num_chars / max(1, self._num_chars_to_make)),
            made_s=made_s,
            elapsed_s=self._seconds(),
        )

    def report(self) -> BatchReport:
        """What has become of the files so far; also after an interruption."""
        return BatchReport(
            folder=self._manifest.folder,
            made=tuple(self._made),
            skipped=tuple(planned.file for planned in self._files.values() if planned.file not in self._digests),
            failed=tuple(self._failed),
            left=tuple(self._manifest.others(planned.file for planned in self._files.values())),
            elapsed_s=self._seconds(),
        )

    def _items(self, refused: deque[FailedFile]) -> Iterator[BatchItem]:
        for planned in self._to_make:
            try:
                yield replace(planned.item, request=self._voices.resolve(planned.item.request))
            except RequestError as error:  # its clip was there when it was checked
                refused.append(self._fail(planned, error))

    def _write(self, item: BatchItem, handle: SpeechHandle) -> MadeFile:
        """Make one file; runs in a thread of the batch."""
        planned = self._files[item.index]
        with AudioFileWriter(self._manifest.part(planned.file), self._speaker.sample_rate, format=self._format) as file:
            for chunk in handle.chunks():
                file.write(chunk.samples)
        stats, segments = handle.stats, handle.segments
        for format in planned.captions:
            document = render(format, item.request.text, segments, stats.duration_s)
            self._manifest.write_captions(planned.file, format, encode(document))
        self._manifest.commit(
            planned.file,
            self._digests[planned.file],
            seed=stats.seed,
            duration_s=stats.duration_s,
            captions=planned.captions,
            check=_check_of(segments),
        )
        made = MadeFile(planned.file, planned.where, stats, handle.language, worst_verdict(segments))
        self._made.append(made)
        return made

    def _hand_out(self, planned: BatchFile, outcome: MadeFile | VoxtralError) -> MadeFile | FailedFile:
        if isinstance(outcome, VoxtralError):
            return self._fail(planned, outcome)
        self._num_made += 1
        self._num_chars += len(planned.item.request.text)
        self._made_s += outcome.stats.duration_s
        return outcome

    def _fail(self, planned: BatchFile, error: VoxtralError) -> FailedFile:
        # Where the disk or the engine is gone, the rest would fail in the same way.
        if isinstance(error, EngineStoppedError) or isinstance(error.__cause__, OSError):
            raise error
        self._manifest.check_there()
        self._manifest.fail(planned.file, planned.item.request.seed, error)
        failed = FailedFile(planned.file, planned.where, error)
        self._failed.append(failed)
        self._num_chars += len(planned.item.request.text)
        return failed

    def _seconds(self) -> float:
        if self._elapsed_s is not None:
            return self._elapsed_s
        return 0.0 if self._started_at is None else time.perf_counter() - self._started_at


def describe_cleaned(num_cleaned: int) -> str:
    """Say why files are made again though their texts are the same."""
    return (
        f"{num_cleaned} of them because odd white space, invisible characters and dressed letters of their texts are "
        "made plain now, which an earlier version spoke as they stood"
    )


def _check_of(segments: Sequence[SegmentInfo]) -> Check:
    """Gather what the journal keeps of checks."""
    verdict = worst_verdict(segments)
    checks = [segment.check for segment in segments if segment.check is not None]
    return None if verdict is None else (verdict, [found.to_dict() for check in checks for found in check.findings])


def _is_cut_anew(manifest: Manifest, split: Split | None) -> bool:
    """Tell whether the texts are cut in another way than in the last run over the folder."""
    last = manifest.last_run
    # Before it was written down, lines were what a file was cut into.
    before = last.split if last is not None else Split.LINES if split is Split.PARAGRAPHS else split
    return split is not None and before is not None and split != before


class _Warned:
    """Keeps each warning with the first text that causes it.

    Attributes:
        where: the text that is looked at.
        told: places by message.
    """

    def __init__(self) -> None:
        self.where = ""
        self.told: dict[str, str] = {}

    def __call__(self, message: str) -> None:
        self.told.setdefault(message, self.where)
