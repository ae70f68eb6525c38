"""A small corpus of shards whose symbols are tones, for whoever learns or judges by one."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np

from train.phonemes import SYMBOLS
from train.shards import FORMAT, ShardItem, ShardVoice

_SYMBOL = 2400  # samples
_GAP = 2400
LETTERS = "aeioptksmn"


def tone(symbol: str) -> np.ndarray:
    """Sound a symbol for 100 ms: [2400] float32."""
    time = np.arange(_SYMBOL) / 24000
    wave = np.sin(2 * np.pi * 150 * (1 + LETTERS.index(symbol)) * time) * np.hanning(_SYMBOL)
    return (0.3 * wave).astype(np.float32)


def write_tone_corpus(folder: Path, names: list[str], *, num_items: int = 12, num_voices: int = 13) -> list[ShardVoice]:
    """Write shards of random words by presets and other voices in turn, all of them Pico's; give the voices."""
    presets = [
        ShardVoice(f"{language}_{sex}1", "preset", language, "pico", sex, variant="1.0")
        for language in dict.fromkeys(name[-2:] for name in names)
        for sex in "fm"
    ]
    voices = [*presets, *(ShardVoice(f"pico_{n:02d}", "train", None, "pico", "f") for n in range(num_voices))]
    for name in names:
        rng = random.Random(name)
        shard = folder / "shards" / name
        shard.mkdir(parents=True)
        audio, items = [], []
        for number in range(num_items):
            word = "".join(rng.choices(LETTERS, k=rng.randint(5, 9)))
            own = [index for index, voice in enumerate(voices) if voice.language in (name[-2:], None)]
            sound = np.concatenate([tone(letter) for letter in word])
            starts = [_SYMBOL * place for place in range(len(word))]
            items.append(
                ShardItem(
                    start=sum(map(len, audio)), num_samples=len(sound), text=word, spoken=word, kind="sentence",
                    language=name[-2:], voice=own[number % len(own)], teacher="pico", speed=1.0,
                    phonemes=[SYMBOLS[letter] for letter in word], phoneme_starts=starts, phoneme_end=len(sound),
                    words=[[0, len(sound), 0, len(word), 0, len(word)]], times="teacher", pitch="measured",
                )
            )  # fmt: skip
            audio += [np.rint(32767 * sound), np.zeros(_GAP)]
        samples = np.concatenate(audio).astype("<i2")
        samples.tofile(shard / "audio.i16")
        np.zeros(len(samples) // 300, "<f4").tofile(shard / "pitch.f32")
        (shard / "items.jsonl").write_text("".join(json.dumps(asdict(item)) + "\n" for item in items))
    index = {"format": FORMAT, "seed": 1, "phonemes": SYMBOLS, "voices": [asdict(voice) for voice in voices]}
    (folder / "corpus.json").write_text(json.dumps(index), encoding="utf-8")
    return voices
