"""Clips for the judge from outside: who said which sentence, in files that another environment can read.

    python -m benchmarks.quality.clips OUT --model src/voxtral/data/nano --system nano
    python -m benchmarks.quality.clips OUT --teachers build/nano4/teachers --system teacher
    python -m benchmarks.quality.clips OUT --takes build/nano4/takes --system teacher
    python -m benchmarks.quality.clips OUT --espeak --system espeak-ng

The first runs where the product is installed, the second and the last in the environment of the teachers, what they
said before in either; all write 24 kHz wave files and a line for each into OUT/SYSTEM.jsonl. Presets of a language
speak in turn. With `--controls`, clips that a judge must not understand are made of a model's: see `CONTROLS`. Read
next: `outside.py`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

SAMPLE_RATE = 24000
LANGUAGES = ("en", "fr", "de", "es", "it", "pt", "nl", "ar", "hi", "ja")
_TEXTS = Path(__file__).parents[1] / "texts"
_FRAME = 1920  # samples
_SEED = 1

# What a judge must not understand, or he judges something else: those of docs/QUALITY.md that need no codec, and two
# that a bad clip is most like.
CONTROLS = {
    "shuffled text": "the words of the sentence in another order, spoken by the model",
    "constant text": "always the language's first sentence, spoken by the model",
    "frames in another order": "the model's clip, its frames of 80 ms shuffled",
    "reference echoed": "another sentence of the same voice in place of this one",
    "noise": "noise with the envelope of the model's clip",
}
_CONTROL_LANGUAGES, _CONTROL_SENTENCES = ("en", "es", "it", "pt"), 5


@dataclass(frozen=True)
class Clip:
    """One sentence that was said.

    Attributes:
        system: who is judged.
        language: of the text.
        number: of the sentence in its file.
        text: what a listener is to hear.
        voice: who said it.
        path: of the wave file, from the folder of the clips.
        seconds: it lasts.
        cpu_seconds: it took, 0 if that is not known.
    """

    system: str
    language: str
    number: int
    text: str
    voice: str
    path: str
    seconds: float
    cpu_seconds: float


Say = Callable[[str, str, str, int], np.ndarray]


def read_sentences(split: str, language: str) -> list[str]:
    """Read the sentences that are kept from training; as `cases.read_sentences`, without the teacher and torch."""
    lines = (_TEXTS / split / f"{language}.txt").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def write_clips(
    folder: Path, system: str, say: Say, *, split: str, languages: Sequence[str], limit: int | None
) -> list[Clip]:
    """Speak the sentences of a split and write them; what is there already stays.

    Args:
        folder: of the clips.
        system: the name to judge under.
        say: text, language, voice ("f1" or "m1") and seed to samples at 24 kHz.
        split: test or dev.
        languages: codes.
        limit: of sentences in a language.
    """
    manifest = folder / f"{system}.jsonl"
    known = {(clip.language, clip.number): clip for clip in read_clips(manifest)}
    (folder / system).mkdir(parents=True, exist_ok=True)
    with manifest.open("a", encoding="utf-8") as lines:
        for language in languages:
            for number, text in enumerate(read_sentences(split, language)[:limit]):
                if (language, number) in known:
                    continue
                voice = f"{language}_{('f1', 'm1')[number % 2]}"
                begun = time.process_time()
                samples = say(text, language, voice, _SEED + number)
                spent = time.process_time() - begun
                path = f"{system}/{language}_{number:02d}.wav"
                soundfile.write(folder / path, samples, SAMPLE_RATE)
                clip = Clip(system, language, number, text, voice, path, len(samples) / SAMPLE_RATE, spent)
                lines.write(json.dumps(asdict(clip), ensure_ascii=False) + "\n")
                lines.flush()
                known[language, number] = clip
    return list(known.values())


def write_controls(folder: Path, clips: Sequence[Clip], say: Say) -> None:
    """Write the clips that must not be understood, a few sentences of some languages."""
    chosen = [clip for clip in clips if clip.language in _CONTROL_LANGUAGES and clip.number < _CONTROL_SENTENCES]
    by_place = {(clip.language, clip.number): clip for clip in chosen}
    for name in CONTROLS:
        system = f"control {name}"
        (folder / system).mkdir(parents=True, exist_ok=True)
        with (folder / f"{system}.jsonl").open("w", encoding="utf-8") as lines:
            for clip in chosen:
                samples = _control(name, folder, clip, by_place, say)
                path = f"{system}/{clip.language}_{clip.number:02d}.wav"
                soundfile.write(folder / path, samples, SAMPLE_RATE)
                seconds = len(samples) / SAMPLE_RATE
                made = replace(clip, system=system, path=path, seconds=seconds, cpu_seconds=0.0)
                lines.write(json.dumps(asdict(made), ensure_ascii=False) + "\n")


def _control(name: str, folder: Path, clip: Clip, clips: dict[tuple[str, int], Clip], say: Say) -> np.ndarray:
    rng = random.Random(f"{name}-{clip.language}-{clip.number}")
    if name == "shuffled text":
        # Words of the neighbour too, or a short sentence would stay half of what it was.
        other = clips[clip.language, (clip.number + 1) % _CONTROL_SENTENCES]
        words = [word.strip(".,!?¿¡") for word in other.text.split()]
        rng.shuffle(words)
        return say(" ".join(words) + ".", clip.language, clip.voice, _SEED)
    if name == "constant text":
        text = read_sentences("dev", clip.language)[0]
        return say(text, clip.language, clip.voice, _SEED)
    if name == "reference echoed":
        return read_samples(folder, clips[clip.language, (clip.number + 2) % _CONTROL_SENTENCES])
    samples = read_samples(folder, clip)
    if name == "noise":
        return make_noise(samples, _SEED + clip.number)
    return shuffle_frames(samples, rng)


def shuffle_frames(samples: np.ndarray, rng: random.Random) -> np.ndarray:
    """Put the frames of 80 ms into another order; what is no whole frame stays at the end."""
    count = len(samples) // _FRAME
    frames = list(samples[: count * _FRAME].reshape(count, _FRAME))
    rng.shuffle(frames)
    return np.concatenate([*frames, samples[count * _FRAME :]])


def make_noise(samples: np.ndarray, seed: int) -> np.ndarray:
    """Make white noise as loud as the samples, every 20 ms."""
    size = 480
    count = -(-len(samples) // size)
    padded = np.pad(samples, (0, count * size - len(samples))).reshape(count, size)
    loudness = np.sqrt((padded**2).mean(1, keepdims=True))
    noise = np.random.default_rng(seed).standard_normal((count, size)) * loudness
    return noise.ravel()[: len(samples)].astype(np.float32)


def read_clips(manifest: Path) -> list[Clip]:
    """Read a manifest; none are in one that is not there."""
    if not manifest.is_file():
        return []
    return [Clip(**json.loads(line)) for line in manifest.read_text(encoding="utf-8").splitlines()]


def read_all_clips(folder: Path) -> Iterator[tuple[str, list[Clip]]]:
    """Read all manifests of a folder: system and clips."""
    for manifest in sorted(folder.glob("*.jsonl")):
        yield manifest.stem, read_clips(manifest)


def read_samples(folder: Path, clip: Clip) -> np.ndarray:
    """Read a clip: [S] float32 at 24 kHz."""
    samples, _ = soundfile.read(folder / clip.path, dtype="float32")
    return samples


def _product(model: str) -> Say:
    from voxtral import VoxtralTTS

    tts = VoxtralTTS.from_pretrained(model, device="cpu")

    def say(text: str, language: str, voice: str, seed: int) -> np.ndarray:
        audio = tts.synthesize(text, language, voice=voice, seed=seed)
        return audio.numpy()

    return say


def _teachers(folder: Path) -> Say:
    from train.speak import Studio, level, list_voices, trim

    styles = sorted(path.stem for path in (folder / "styles").glob("*.bin"))
    voices: dict[str, Any] = {voice.name: voice for voice in list_voices(styles)}
    studio = Studio(folder)

    def say(text: str, language: str, voice: str, seed: int) -> np.ndarray:
        return level(trim(studio.say(text, language, voices[voice], 1.0, seed))).samples

    return say


def _espeak() -> Say:
    from train.data import list_voices, trim
    from train.teacher import Teacher

    speakers = {voice.name: voice.speaker for voice in list_voices()}
    teacher = Teacher()

    def say(text: str, language: str, voice: str, seed: int) -> np.ndarray:
        return trim(teacher.say(text, language, speakers[voice]))[0]

    return say


def _takes(folder: Path) -> Say:
    from benchmarks.quality.takes import Takes

    takes = Takes(folder)

    def say(text: str, language: str, voice: str, seed: int) -> np.ndarray:
        return np.asarray(takes.say(text, language, voice).samples)

    return say


def _choose(options: argparse.Namespace) -> Say:
    if options.model:
        return _product(options.model)
    if options.takes:
        return _takes(options.takes)
    return _espeak() if options.espeak else _teachers(options.teachers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Speak the sentences of a split with a model or with the teachers."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", required=True, help="name to judge under")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="a checkpoint")
    source.add_argument("--teachers", type=Path, help="what train.packages made")
    source.add_argument("--takes", type=Path, help="what they said before (benchmarks.quality.takes)")
    source.add_argument("--espeak", action="store_true", help="who taught nano 3, in its presets")
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=LANGUAGES)
    parser.add_argument("--limit", type=int, help="sentences of a language")
    parser.add_argument("--controls", action="store_true", help="make the negative controls as well")
    options = parser.parse_args(arguments)
    say = _choose(options)
    clips = write_clips(
        options.folder, options.system, say, split=options.split, languages=options.languages, limit=options.limit
    )
    if options.controls:
        write_controls(options.folder, clips, say)


if __name__ == "__main__":
    main()
