"""Many texts: the batch against the guide's loop, and the command against one `voxtral speak` for each text.

    python -m benchmarks.batch --model nano --in-flight 1,4,8,16,32 --json FILE

    loop       synthesize and save, one text after the other, in one process: what the users' guide does
    batch      synthesize_batch_iter and save, so many in flight, in the same process; rounds take turns with the loop
    commands   `voxtral batch` as a process, and `voxtral speak` as a process for each of a few texts

All of them speak the same texts with the same seeds into WAV files.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.options import make_parser, read_numbers
from benchmarks.report import ROOT, Report
from voxtral.bench import round_figure
from voxtral.errors import VoxtralWarning
from voxtral.speech.batch import item_seed
from voxtral.tts import VoxtralTTS

_TEXTS = ROOT / "benchmarks" / "texts" / "test" / "en.txt"


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--in-flight", type=read_numbers, default=(1, 4, 8, 16))
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--speak", type=int, default=3, help="texts that `voxtral speak` is timed on; 0 for no commands"
    )
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.in_flight, arguments.texts, arguments.rounds = (1, 2), 4, 1
        arguments.speak = min(1, arguments.speak)
    texts = _TEXTS.read_text(encoding="utf-8").splitlines()[: arguments.texts]
    report = Report("batch", arguments)
    report.note(num_texts=len(texts), num_characters=sum(map(len, texts)))
    with (
        tempfile.TemporaryDirectory() as folder,
        VoxtralTTS.from_pretrained(arguments.model, device=arguments.device, dtype=arguments.precision) as model,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", VoxtralWarning)
        compare_in_process(report, model, texts, Path(folder), arguments.in_flight, arguments.rounds)
        model.close()
        if arguments.speak:
            compare_commands(report, arguments, texts, Path(folder))
    report.finish()


def compare_in_process(
    report: Report, model: VoxtralTTS, texts: list[str], folder: Path, sizes: tuple[int, ...], num_rounds: int
) -> None:
    """Time the loop and batches of each size in turn; a short round of each that does not count comes first."""
    ways: dict[str, Callable[[list[str]], float]] = {"loop": lambda some: speak_in_a_loop(model, some, folder)}
    for size in sizes:
        ways[f"batch {size}"] = lambda some, size=size: speak_in_a_batch(model, some, folder, size)
    for way in ways.values():
        way(texts[: max(sizes)])
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    audio_s = 0.0
    for _ in range(num_rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            audio_s = way(texts)
            seconds[name].append(time.perf_counter() - started)
    loop_s = statistics.median(seconds["loop"])
    for name, found in seconds.items():
        median = statistics.median(found)
        report.add(what=name, **figures(median, audio_s, texts), times_the_loop=round_figure(loop_s / median))


def figures(seconds: float, audio_s: float, texts: list[str]) -> dict[str, float]:
    """Turn a time into what is compared."""
    return {
        "seconds": round_figure(seconds),
        "audio_s": round_figure(audio_s),
        "rtf": round_figure(seconds / audio_s),
        "characters_per_s": round_figure(sum(map(len, texts)) / seconds),
    }


def speak_in_a_loop(model: VoxtralTTS, texts: list[str], folder: Path) -> float:
    """Speak and save one after the other; returns the seconds of audio."""
    audio_s = 0.0
    for index, text in enumerate(texts):
        audio = model.synthesize(text=text, language="en", seed=item_seed(0, str(index)))
        audio.save(folder / f"loop_part{index:04d}.wav")
        audio_s += audio.duration
    return audio_s


def speak_in_a_batch(model: VoxtralTTS, texts: list[str], folder: Path, size: int) -> float:
    """Speak and save side by side; returns the seconds of audio."""
    audio_s = 0.0
    for result in model.synthesize_batch_iter(texts, "en", seed=0, max_in_flight=size):
        if result.audio is None:
            raise result.error or AssertionError("a result has neither audio nor error")
        result.audio.save(folder / f"batch_part{result.index:04d}.wav")
        audio_s += result.audio.duration
    return audio_s


def compare_commands(report: Report, arguments: Any, texts: list[str], folder: Path) -> None:
    """Time the commands as a person at a shell sees them, loading included."""
    source = folder / "texts.txt"
    source.write_text("\n".join(texts), encoding="utf-8")
    common = ["--model", arguments.model, "--device", arguments.device, "--dtype", arguments.precision]
    batch_s = time_command("batch", str(source), "-o", str(folder / "out"), "--language", "en", *common)
    each = [
        time_command("speak", "--text", text, "-o", str(folder / "one.wav"), "--language", "en", *common)
        for text in texts[: arguments.speak]
    ]
    speak_s = statistics.median(each)
    report.add(
        what="commands",
        batch_s=round_figure(batch_s),
        batch_s_per_text=round_figure(batch_s / len(texts)),
        speak_s_per_text=round_figure(speak_s),
        times_one_by_one=round_figure(speak_s * len(texts) / batch_s),
    )


def time_command(*words: str) -> float:
    """Run `voxtral` and return how many seconds it took."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "voxtral", *words], check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
