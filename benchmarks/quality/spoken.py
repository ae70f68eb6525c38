"""How much of odd texts is said, and how much is lost without a word: python -m benchmarks.quality.spoken.

    python -m benchmarks.quality.spoken speak STATE --shard 1/8        a piece of the work; again for 2/8, 3/8, ...
    python -m benchmarks.quality.spoken report STATE --json OUT --markdown TABLE

`speak` sends each text through `VoxtralTTS.synthesize` as a program would, 16 at a time, with one seed after the other
in the presets of its language in turn, and writes what was heard into the folder STATE, a line an utterance. What is
there already is not spoken again, so a run that was stopped goes on. `report` aligns what was heard with the twins,
once with the letters that are spelled as gaps and once with them judged. Needs no teacher: what is to be heard is kept
beside the texts (`references.py`), in the alphabet of either recogniser.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality.coverage import compare
from benchmarks.quality.odd_texts import ODD_TEXTS, OddText, read_odd_texts
from benchmarks.quality.options import add_model_option, add_recogniser_option, describe_run, keep_settings
from benchmarks.quality.references import read_spellings
from benchmarks.quality.spoken_report import Outcome, summarise, write_markdown
from benchmarks.report import ROOT, find_commit
from train.corpus import MNEMONICS
from train.recogniser import Recogniser
from train.texts import LANGUAGES
from voxtral.device import describe_machine
from voxtral.engine.options import EngineOptions
from voxtral.errors import GenerationError, RequestError, VoxtralError, VoxtralWarning
from voxtral.speech.request import make_request
from voxtral.tts import VoxtralTTS
from voxtral.types import SegmentInfo

MAX_BATCH = 16
NUM_SEEDS = 5

_TOLD_BY_CHECK = ("suspect", "bad")

# Texts that a recogniser does not hear from its teacher either, by its alphabet.
_NOT_JUDGED = {MNEMONICS: ("hi-letters-2",)}


@dataclass(frozen=True)
class Utterance:
    """One text with one seed, and what became of it.

    Attributes:
        id: of the text.
        seed: it was spoken with.
        voice: who spoke.
        seconds: of speech.
        heard: numbers of phonemes.
        refused: why there is no speech: the name of the error; empty where there is.
        told: what the result says of a fault: verdicts of checks, or an end that was none.
        warned: remarks that were made before the text was spoken.
    """

    id: str
    seed: int
    voice: str
    seconds: float
    heard: tuple[int, ...]
    refused: str = ""
    told: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()


class Listener:
    """Speaks texts and hears them, many at once.

    Args:
        tts: speaks.
        recogniser: hears; one utterance at a time.
        options: keywords of `synthesize` for all.
        is_streamed: speak through `synthesize_stream` and join the chunks.
    """

    def __init__(
        self, tts: VoxtralTTS, recogniser: Recogniser, options: Mapping[str, Any], *, is_streamed: bool = False
    ) -> None:
        self._tts = tts
        self._recogniser = recogniser
        self._options = dict(options)
        self._is_streamed = is_streamed
        self._hearing = threading.Lock()

    def listen(self, jobs: Iterable[tuple[OddText, int]]) -> Iterator[Utterance]:
        """Speak texts with their seeds, as many at once as the engine takes, in order."""
        with ThreadPoolExecutor(self._tts.max_batch) as pool:
            yield from pool.map(lambda job: self.hear(*job), jobs)

    def hear(self, text: OddText, seed: int) -> Utterance:
        """Speak one text and hear it."""
        presets = [voice.name for voice in self._tts.voices if voice.language == text.language]
        voice = presets[seed % len(presets)]
        options = {"language": text.language, "voice": voice, "seed": seed} | self._options
        refused, told, warned = "", [], list[str]()
        samples = np.zeros(0, np.float32)
        try:
            self._tts.check(make_request(text.text, **options), warn=warned.append)
            samples, told = self._speak(text.text, options)
        except RequestError as error:
            refused = type(error).__name__
        except GenerationError as error:
            refused = error.finish_reason
        with self._hearing:
            heard = self._recogniser.transcribe(samples, text.language) if len(samples) else []
        seconds = round(len(samples) / self._tts.config.sample_rate, 3)
        return Utterance(text.id, seed, voice, seconds, tuple(heard), refused, tuple(told), tuple(warned))

    def _speak(self, text: str, options: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
        if not self._is_streamed:
            audio = self._tts.synthesize(text, **options)
            return audio.samples, find_told(audio.segments)
        stream = self._tts.synthesize_stream(text, **options)
        samples = np.concatenate([chunk.samples for chunk in stream])
        return samples, find_told(stream.handle.segments)


def find_told(segments: Iterable[SegmentInfo]) -> list[str]:
    """List what a caller is told of faults: a segment that ran out, or that a check calls suspect or bad."""
    told: list[str] = []
    for segment in segments:
        if segment.finish_reason not in ("end", "retried"):
            told.append(segment.finish_reason)
        verdict = getattr(getattr(segment, "check", None), "verdict", None)  # there where speech is checked
        if verdict in _TOLD_BY_CHECK:
            told.append(verdict)
    return told


def parse_option(given: str) -> tuple[str, Any]:
    """Read `key=value`; a value that is JSON is taken as such, any other is text.

    Raises:
        argparse.ArgumentTypeError: there is no key.

    >>> parse_option("normalize=auto"), parse_option("pause=0.5"), parse_option("timestamps=true")
    (('normalize', 'auto'), ('pause', 0.5), ('timestamps', True))
    """
    key, sign, value = given.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"{given!r} is no option; it must be key=value, such as normalize=auto")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def parse_shard(given: str) -> tuple[int, int]:
    """Read `i/n`, the i-th of n pieces, from 1.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    number, _, count = given.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{given!r} is no piece; it must be i/n with 1 <= i <= n, such as 1/8")
    return int(number), int(count)


def list_jobs(texts: Sequence[OddText], num_seeds: int, shard: tuple[int, int]) -> list[tuple[OddText, int]]:
    """List the texts with their seeds that a piece has to speak: every n-th, so that pieces take equally long."""
    jobs = [(text, seed) for seed in range(num_seeds) for text in texts]
    return jobs[shard[0] - 1 :: shard[1]]


def read_state(folder: Path) -> list[Utterance]:
    """Read what pieces have written; a line that a kill cut off counts as not there."""
    found: dict[tuple[str, int], Utterance] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                fields = json.loads(line)
            except json.JSONDecodeError:
                continue
            lists = {name: tuple(fields[name]) for name in ("heard", "told", "warned")}
            found[fields["id"], fields["seed"]] = Utterance(**(fields | lists))
    return list(found.values())


def speak(options: argparse.Namespace) -> None:
    """Speak a piece of the work.

    Raises:
        ValueError: the folder is of a run with other settings.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    options.state.mkdir(parents=True, exist_ok=True)
    texts = read_odd_texts(options.languages)
    keywords = dict(options.option)
    recogniser = Recogniser.load(options.recogniser)
    settings = describe_run(options) | {"options": keywords, "stream": options.stream, "source": digest_source()}
    keep_settings(options.state / "settings.json", settings)
    done = {(one.id, one.seed) for one in read_state(options.state)}
    jobs = [job for job in list_jobs(texts, options.seeds, options.shard) if (job[0].id, job[1]) not in done]
    name = f"{options.shard[0]:03d}-of-{options.shard[1]:03d}.jsonl"
    engine = EngineOptions(max_batch=MAX_BATCH, batch_invariant=True, num_threads=1)
    with (
        VoxtralTTS.from_pretrained(options.model, device="cpu", options=engine) as tts,
        (options.state / name).open("a", encoding="utf-8") as file,
    ):
        listener = Listener(tts, recogniser, keywords, is_streamed=options.stream)
        for one in listener.listen(jobs):
            file.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
            file.flush()
    print(f"{len(jobs)} utterances spoken, {len(done)} were there")


def digest_source() -> str:
    """Name the state of the package's own files, so that a commit elsewhere does not part a run in two."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix in (".py", ".toml", ".safetensors", ".json"):
            found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def judge(
    texts: Sequence[OddText],
    utterances: Iterable[Utterance],
    options: argparse.Namespace,
    *,
    are_letters_judged: bool = False,
) -> list[Outcome]:
    """Compare what was heard with the references; a text of which nothing is judged has no outcome.

    Args:
        texts: that were spoken.
        utterances: what was heard of them.
        options: of the command line.
        are_letters_judged: letters that are spelled are to be said too.
    """
    phonemes = Recogniser.load(options.recogniser).phonemes
    names = {number: name for name, number in phonemes.ids.items()}
    spellings = read_spellings(ODD_TEXTS, phonemes.alphabet)
    by_id = {text.id: text for text in texts}
    outcomes: list[Outcome] = []
    for one in utterances:
        if (text := by_id.get(one.id)) is None or one.id in _NOT_JUDGED.get(phonemes.alphabet, ()):
            continue
        judged = range(len(text.parts)) if options.judge_gaps else text.letter_gaps if are_letters_judged else ()
        reference = spellings[one.id].reference(phonemes, judged=judged)
        if not reference.phonemes:
            continue
        coverage = compare(one.heard, reference)
        missing, extra = coverage.missing, coverage.extra
        outcomes.append(
            Outcome(
                id=one.id,
                language=text.language,
                kind=text.kind,
                seed=one.seed,
                voice=one.voice,
                seconds=one.seconds,
                expected_s=spellings[one.id].seconds,
                is_refused=bool(one.refused),
                is_lost=coverage.is_lost and not one.refused,
                is_dropped=coverage.is_lost and coverage.is_dropped and not one.refused,
                is_extended=coverage.is_extended,
                is_told=bool(one.told),
                is_warned=bool(one.warned),
                missing=" ".join(names[number] for number in reference.phonemes[missing.start : missing.stop]),
                extra=" ".join(names[number] for number in one.heard[extra.start : extra.stop]),
                matched=round(coverage.matched, 3),
            )
        )
    return outcomes


def require_same_ears(settings: Mapping[str, Any], recogniser: Path) -> None:
    """Refuse to read what another recogniser has heard, whose numbers mean something else.

    Raises:
        ValueError: it is another one.
    """
    digest = hashlib.sha256(recogniser.read_bytes()).hexdigest()[:12]
    if settings.get("recogniser", digest) != digest:
        raise ValueError(
            f"what is there was heard by the recogniser {settings['recogniser']}, {recogniser} is {digest}; their "
            "numbers would be mixed up; give the one that heard it"
        )


def report(options: argparse.Namespace) -> None:
    """Count, and write what was asked for."""
    texts = read_odd_texts(options.languages)
    utterances = read_state(options.state)
    outcomes = judge(texts, utterances, options)
    settings = json.loads((options.state / "settings.json").read_text(encoding="utf-8"))
    require_same_ears(settings, options.recogniser)
    alphabet = Recogniser.load(options.recogniser).phonemes.alphabet
    content: dict[str, Any] = {
        "benchmark": "spoken",
        "commit": find_commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": describe_machine(),
        **settings,
        "judge_gaps": options.judge_gaps,
        "not_judged": list(_NOT_JUDGED.get(alphabet, ())),
        "num_texts": len({one.id for one in outcomes}),
        **summarise(outcomes),
        "letters_judged": summarise(judge(texts, utterances, options, are_letters_judged=True)),
    }
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table = write_markdown(content)
    if options.markdown is not None:
        options.markdown.write_text(table + "\n", encoding="utf-8")
    print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Speak a piece, or report."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.quality.spoken", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    speaking = commands.add_parser("speak", help="speak a piece of the work")
    speaking.set_defaults(run=speak)
    add_model_option(speaking)
    speaking.add_argument("--seeds", type=int, default=NUM_SEEDS, help="of each text")
    speaking.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="I/N", help="piece of the work")
    speaking.add_argument("--stream", action="store_true", help="through synthesize_stream")
    speaking.add_argument(
        "--option", type=parse_option, action="append", default=[], metavar="KEY=VALUE", help="of synthesize"
    )
    reporting = commands.add_parser("report", help="count what is there")
    reporting.set_defaults(run=report)
    reporting.add_argument("--judge-gaps", action="store_true", help="the words of gaps are to be said too")
    reporting.add_argument("--json", type=Path, help="file for the report")
    reporting.add_argument("--markdown", type=Path, help="file for the table")
    for command in (speaking, reporting):
        command.add_argument("state", type=Path, help="folder for what was heard")
        command.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
        add_recogniser_option(command)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, VoxtralError) as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
