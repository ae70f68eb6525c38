"""Both kinds of corpus as the stages see them: samples, labels, words and pitch in their places."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from exported import Exported
from stand_in_teacher import STAND_IN
from train import encode
from train.corpus import CorpusError
from train.crops import Crops
from train.data import make_part, write_index
from train.encode import align, codes_path, made_by
from train.examples import load_examples
from train.loop import save_weights
from train.presets import taken_presets
from train.shards import FORMAT, ShardError, ShardItem, open_shards
from train.speech import open_speech

PHONEMES = {"a": 43, "b": 44}


def write_shard(data: Path, name: str, *, num_items: int = 2, teacher: str = "pico") -> None:
    """Write a shard of items of a second: half a second of 44, a quarter of 43, as tones of 200 and 100 Hz."""
    folder = data / "shards" / name
    folder.mkdir(parents=True)
    seconds = 1.0
    samples, pitch, items = [], [], []
    for number in range(num_items):
        start = sum(map(len, samples))
        time = np.arange(24000) / 24000
        f0 = np.where(time < 0.5, 200.0, np.where(time < 0.75, 100.0, 0.0))
        samples += [(8000 * np.sin(2 * np.pi * np.cumsum(f0) / 24000)).astype("<i2"), np.zeros(2400, "<i2")]
        pitch += [f0[::300], np.zeros(8)]
        items.append(
            ShardItem(
                start=start, num_samples=round(24000 * seconds), text="4b", spoken="bb aa", kind="sentence",
                language=name[-2:], voice=number, teacher=teacher, speed=1.0, phonemes=[44, 43],
                phoneme_starts=[0, 12000], phoneme_end=18000,
                words=[[0, 12000, 0, 2, 0, 1], [12000, 18000, 3, 2, 1, 1]], times="teacher", pitch="source",
            )
        )  # fmt: skip
    np.concatenate(samples).tofile(folder / "audio.i16")
    np.concatenate(pitch).astype("<f4").tofile(folder / "pitch.f32")
    lines = [json.dumps(asdict(item)) for item in items]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A corpus of two shards and one that is not complete."""
    data = tmp_path / "data"
    for name in ("00000-en", "00001-es"):
        write_shard(data, name)
    (data / "shards" / "00002-fr.partial.7").mkdir()
    index = {"format": FORMAT, "seed": 1, "phonemes": PHONEMES, "voices": []}
    (data / "corpus.json").write_text(json.dumps(index), encoding="utf-8")
    return data


def test_shards_have_labels_words_and_pitch_in_their_places(shards: Path) -> None:
    speech = open_speech(shards)
    assert list(speech.names) == ["00000-en", "00001-es"]
    part = speech.read_part("00001-es")
    assert [item.start for item in part.items] == [0, 26400]
    first = part.items[0]
    assert (first.text, first.language, first.voice) == ("bb aa", "es", 0)
    assert first.words == [(0.0, 0, 2), (0.5, 3, 2)]
    # Labels are 20 ms, of the part and of the item.
    expected = np.repeat([44, 43, 0], [25, 12, 13])
    assert np.abs(part.labels[:50].astype(int) - expected).astype(bool).sum() <= 1
    heard = speech.phonemes.labels(first.phonemes, first.num_samples, first.language)
    assert np.abs(heard.astype(int) - expected).astype(bool).sum() <= 1
    assert np.array_equal(part.labels[55:105], part.labels[:50])
    # The first letter of the second word sounds from half of the second on.
    assert align(first, 12, [0, 1, 2, 3, 4]).tolist()[5:8] == [2, 3, 3]
    f0, gate = speech.read_pitch("00001-es").at(np.array([6000.0, 15000.0, 21000.0, 26400 + 6000.0]))
    assert f0[[0, 1, 3]] == pytest.approx([200, 100, 200])
    assert gate.tolist() == [1, 1, 0, 1]


def test_what_a_teacher_reports_late_is_where_it_sounds(shards: Path) -> None:
    write_shard(shards, "00005-en", teacher="kokoro")
    speech = open_speech(shards)
    on_time, late = (speech.read_part(name) for name in ("00000-en", "00005-en"))
    # 60 ms are three labels; the first phoneme begins no earlier than its item.
    assert np.array_equal(late.labels[55 : 105 - 3], on_time.labels[55 + 3 : 105])
    assert [start for start, _ in late.items[1].phonemes] == pytest.approx([0, 0.44, 0.69])
    assert late.items[1].words == [(0.0, 0, 2), (pytest.approx(0.44), 3, 2)]


def test_a_corpus_may_grow(shards: Path) -> None:
    crops = Crops(open_speech(shards), 8, without=["00000-en"])
    before = crops.hours
    write_shard(shards, "00003-it", num_items=4)
    assert crops.hours == before
    crops.refresh()
    assert crops.hours == pytest.approx(3 * before)
    only = Crops(open_speech(shards), 8, only=["00000-en"])
    assert only.hours == pytest.approx(before)


def test_pieces_of_what_covers_words_are_rare(shards: Path) -> None:
    write_shard(shards, "50000-es", num_items=2)
    audio = shards / "shards" / "50000-es" / "audio.i16"
    audio.write_bytes(np.full(audio.stat().st_size // 2, 3000, "<i2").tobytes())
    samples = Crops(open_speech(shards), 4).draw(400, [1]).samples
    share = float((samples > 0.05).all(dim=1).float().mean())
    assert share == pytest.approx(0.05 / 2.05, abs=0.025)


def test_what_is_no_corpus_is_refused(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(CorpusError):
        open_speech(tmp_path / "nowhere")
    index = json.loads((shards / "corpus.json").read_text(encoding="utf-8"))
    assert index["format"] == FORMAT
    with pytest.raises(SystemExit, match="long enough"):
        Crops(open_speech(shards), 800)
    (shards / "corpus.json").write_text(json.dumps({"format": FORMAT, "seed": 1}), encoding="utf-8")
    with pytest.raises((ShardError, KeyError)):
        open_speech(shards)


def test_pitch_of_a_corpus_of_one_teacher_is_measured_once(tmp_path: Path) -> None:
    make_part(tmp_path, 0, 5 / 3600, 1, source=STAND_IN, with_word_lists=False)
    write_index(tmp_path, 1, source=STAND_IN)
    speech = open_speech(tmp_path)
    curve = speech.read_pitch("0")
    assert (curve.f0 > 0).mean() > 0.2
    stored = tmp_path / "pitch-0.f32"
    stored.write_bytes(np.full(9, 123.0, "<f4").tobytes())
    assert speech.read_pitch("0").f0.tolist() == [123.0] * 9


def test_parts_are_encoded_once_for_each_codec(
    shards: Path, exported: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shards.parent
    save_weights(run / "codec.safetensors", exported.codec.state_dict())
    encode.main([str(run), "--processes", "1"])
    assert capsys.readouterr().out.count("2 items") == 2
    codes = load_file(codes_path(run, "00000-en"))
    assert codes["semantic"].shape == (26,)
    assert codes["acoustic"].shape == (26, 36)
    assert codes["offsets"].tolist() == [0, 13, 26]
    assert codes["labels"].shape == (26, 4)
    # The same as the runtime, item by item.
    part = open_speech(shards).read_part("00000-en")
    clip = torch.from_numpy(np.array(part.samples[:24000], np.float32) / 32768)
    wanted = exported.runtime.encode_audio(clip)
    assert (wanted[1:] == codes["acoustic"][:13].T).float().mean() > 0.9
    write_shard(shards, "00003-it")
    encode.main([str(run), "--processes", "1"])
    assert capsys.readouterr().out.count("2 items") == 1
    examples = load_examples(run, open_speech(shards))
    assert len(examples) == 6
    assert {example.language for example in examples} == {"en", "es", "it"}
    changed = exported.codec.state_dict()
    changed["codebook.cluster_usage"] = changed["codebook.cluster_usage"] * 2
    save_weights(run / "codec.safetensors", changed)
    before = made_by(codes_path(run, "00000-en"))
    encode.main([str(run), "--processes", "1"])
    assert made_by(codes_path(run, "00000-en")) != before
    assert made_by(run / "codes" / "nothing.safetensors") is None


# Presets.


def as_preset(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "split": "preset", "language": name[:2], "teacher": "kokoro", "sex": name[3]} | changes


def long_item(start: int, seconds: float, **changes: Any) -> ShardItem:
    num_samples = round(24000 * seconds)
    words = [[at, at + 10000, 0, 1, 0, 1] for at in range(0, num_samples - 12000, 12000)]
    item = ShardItem(
        start=start, num_samples=num_samples, text="x", spoken="x", kind="sentence", language="en", voice=0,
        teacher="pico", speed=1.0, phonemes=[44], phoneme_starts=[0], phoneme_end=num_samples, words=words,
        times="teacher", pitch="source",
    )  # fmt: skip
    return replace(item, **changes)


def test_a_preset_is_taken_from_the_shards_whole_or_up_to_the_end_of_a_word(shards: Path) -> None:
    voices = [as_preset("en_f1"), as_preset("en_m1"), as_preset("held", split="held", language=None, sex="f")]
    index = {"format": FORMAT, "seed": 1, "phonemes": PHONEMES, "voices": voices}
    (shards / "corpus.json").write_text(json.dumps(index), encoding="utf-8")
    folder = shards / "shards" / "00004-en"
    folder.mkdir()
    starts = np.cumsum([0, 24000 * 9, 24000 * 9, 24000 * 9])
    items = [
        long_item(0, 3.5, kind="letters"),
        long_item(int(starts[1]), 8.0),
        long_item(int(starts[2]), 3.6, voice=1),
        long_item(int(starts[3]), 3.6, voice=1),
    ]
    samples = np.random.default_rng(0).integers(-9000, 9000, 24000 * 40).astype("<i2")
    samples.tofile(folder / "audio.i16")
    np.zeros(len(samples) // 300, "<f4").tofile(folder / "pitch.f32")
    lines = [json.dumps(asdict(item)) for item in items]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    female, male = taken_presets(open_shards(shards))
    assert (female.name, female.language, female.is_female) == ("en_f1", "en", True)
    assert (male.name, male.is_female) == ("en_m1", False)
    # After the word that ends at 94000 samples; the next one ends beyond 4.1 s.
    assert len(female.clip) == 94000 + 1200
    assert np.array_equal(female.clip, samples[starts[1] :][: len(female.clip)].astype(np.float32) / 32768)
    assert len(male.clip) == round(24000 * 3.6)
    index["voices"] = [*voices, as_preset("es_m1")]
    (shards / "corpus.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(SystemExit, match="es_m1"):
        list(taken_presets(open_shards(shards)))
