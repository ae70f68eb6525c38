"""Shards of a corpus: speech of several teachers with phonemes, words and pitch, in folders that are whole or absent.

    DATA/corpus.json                 what the numbers mean; written once, before the first shard
    DATA/shards/00017-es/audio.i16   mono, 24 kHz, little-endian int16, items end to end
    DATA/shards/00017-es/pitch.f32   one little-endian float32 for every 300 samples of audio.i16 (80 a second)
    DATA/shards/00017-es/items.jsonl one utterance a line

A shard holds a few minutes of one language (its name's end). It is written beside its place and renamed, so that a
folder of that name is complete and never changes; any set of shards is a corpus, balanced by language as far as
the number of a shard goes. The same seed and number give the same texts, voices and speeds; samples are the same to
the bit where the teacher's library is the same.

corpus.json
    format          2
    seed            of everything drawn
    phonemes        {"symbol": id}: Kokoro's 114 symbols and their numbers (1..177), for every teacher; 0 is silence
                    (before the first and after the last phoneme, and where a teacher reports a pause)
    voices          list; an item's "voice" is an index into it. Each:
        name        "en_f1" (preset), "blend_017" (cloning), "held_003" (never in a shard of training), "hibari"
        split       preset, train or held; shards hold presets and train only
        language    of a preset or of a voice that has one, else null: a blend speaks every language of its teacher
        teacher     kokoro, hibari, pico or espeak-ng
        sex         f or m
        timbre      {style: weight}, weights sum to 1: Kokoro's style files; {} for other teachers. In French and
                    Dutch .35 of a voice without a language is the timbre of the preset of its sex
        prosody     {style: weight} likewise; {} where it is .6 of the language's own speaker of that sex, .4 of timbre
        variant     of espeak-ng; of pico the factor that its sound is played at, which moves pitch and formants
        pitch       factor (pico), 0..99 (espeak-ng), else 0
        rate        words a minute (espeak-ng), else factor of speed

items.jsonl, each line
    start           first sample in audio.i16, a multiple of 2400; what lies between items is zeros
    num_samples     of the utterance: .05 s before the first sound and .1 s after the last
    text            as written: punctuation, capitals, digits and all
    spoken          what our own front-end made of it (equal to text for most); the teacher was given this, with what is
                    in capitals to be loud in small letters
    kind            sentence, question, list, dialogue, long, short, odd, capitals, letters, numbers or words (a list)
    language        two letters
    voice           index into voices
    teacher         as its voice's
    speed           factor that the teacher was asked for
    phonemes        [id, ...] symbols in order, stress marks and punctuation included, without the silence at the edges
    phoneme_starts  [sample, ...] where each begins, counted from the item's first; a symbol lasts until the next one's
                    begin; the last until phoneme_end
    phoneme_end     sample
    words           [[start, end, spoken_first, spoken_length, text_first, text_length], ...]: samples from the item's
                    first, and the characters in spoken and in text; words that the teacher ran together share times
    times           "teacher" (Kokoro and hibari: their own durations; espeak-ng: its events) or "warped" (Pico: those
                    of espeak-ng, carried over by dynamic time warping)
    pitch           "source" or "measured", see below

Pitch: value i of pitch.f32 is the fundamental in Hz at sample 300 i of audio.i16; 0 where there is none. "source"
(Kokoro): what drives its own source of harmonics, 0 where that is off (below 50 Hz); it stays on through many
voiceless sounds, so it is no label of voicing. "measured" (others): WORLD's dio and stonemask, 0 is unvoiced.

Times of Kokoro are multiples of 600 samples (25 ms), shifted by the trim, which is cut to multiples of 300. Kokoro and
hibari report phonemes and words later than they sound; files have them as reported, and whoever reads them takes
`lateness` off, as `train.speech` does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voxtral.errors import VoxtralError

FORMAT = 2
# Numbers of shards from here on are those of the quick teachers (`train.speak`).
FIRST_COVERAGE = 50_000
SAMPLE_RATE = 24000
SAMPLES_PER_PITCH = 300
# Vowels after voiceless stops begin to sound so much earlier than they are reported: 50 to 69 ms (the median in each of
# Kokoro's languages) and 58 ms (hibari), at 1,143 places; espeak-ng's 2 ms earlier to 0 later, Pico's 3 to 14 ms later.
_LATENESS = {"kokoro": 1440, "hibari": 1440}
ITEM_ALIGNMENT = 2400  # samples; a multiple of the steps of pitch, labels and codec


class ShardError(VoxtralError):
    """A corpus of shards is missing or of another format."""

    code = "corpus_failed"


@dataclass(frozen=True)
class ShardVoice:
    """A voice of the corpus; see the head of this file."""

    name: str
    split: str
    language: str | None
    teacher: str
    sex: str
    timbre: dict[str, float] = field(default_factory=dict)
    prosody: dict[str, float] = field(default_factory=dict)
    variant: str = ""
    pitch: float = 0.0
    rate: float = 1.0


@dataclass(frozen=True, eq=False)
class ShardItem:
    """One utterance; see the head of this file."""

    start: int
    num_samples: int
    text: str
    spoken: str
    kind: str
    language: str
    voice: int
    teacher: str
    speed: float
    phonemes: list[int]
    phoneme_starts: list[int]
    phoneme_end: int
    words: list[list[int]]
    times: str
    pitch: str


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard, its samples mapped and not read."""

    name: str
    samples: np.ndarray  # [S] int16
    pitch: np.ndarray  # [S / 300] float32
    items: list[ShardItem]


@dataclass(frozen=True, eq=False)
class ShardCorpus:
    """What describes a corpus, and the shards that were complete when it was opened."""

    folder: Path
    seed: int
    phonemes: dict[str, int]
    voices: list[ShardVoice]
    names: tuple[str, ...]

    def read(self, name: str) -> Shard:
        """Map the samples of a shard and read its items."""
        return read_shard(self.folder / "shards" / name)


def open_shards(folder: Path) -> ShardCorpus:
    """Read what describes a corpus, and list its complete shards in order.

    Raises:
        ShardError: there is none, or it is of another format.
    """
    path = folder / "corpus.json"
    if not path.is_file():
        raise ShardError(f"{path} is missing; a corpus of shards needs it; make one with python -m train.speak")
    index = json.loads(path.read_text(encoding="utf-8"))
    if index.get("format") != FORMAT:
        raise ShardError(f"{path} has format {index.get('format')}; it must be {FORMAT}; make the corpus anew")
    voices = [ShardVoice(**entry) for entry in index["voices"]]
    return ShardCorpus(folder, index["seed"], index["phonemes"], voices, list_shards(folder))


def lateness(teacher: str) -> int:
    """Tell by how many samples the phonemes and words of a teacher are reported later than they sound."""
    return _LATENESS.get(teacher, 0)


def is_coverage(name: str) -> bool:
    """Tell whether a shard is of the quick teachers, who cover words."""
    return name[:5].isdigit() and int(name[:5]) >= FIRST_COVERAGE


def list_shards(folder: Path) -> tuple[str, ...]:
    """Name the complete shards of a corpus, in order."""
    shards = folder / "shards"
    if not shards.is_dir():
        return ()
    return tuple(sorted(path.name for path in shards.iterdir() if "." not in path.name))


def read_shard(folder: Path) -> Shard:
    """Map the samples of a shard and read its items."""
    samples = np.memmap(folder / "audio.i16", dtype="<i2", mode="r")
    pitch = np.fromfile(folder / "pitch.f32", dtype="<f4")
    lines = (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()
    return Shard(folder.name, samples, pitch, [ShardItem(**json.loads(line)) for line in lines])
