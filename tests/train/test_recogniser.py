"""The recogniser: what it is trained on, and what it keeps."""

from __future__ import annotations

import random
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from stand_in_teacher import STAND_IN
from tone_shards import LETTERS, write_tone_corpus
from train import recogniser as stage
from train.corpus import MNEMONICS, CorpusError, Phonemes, collapse
from train.data import make_part, write_index
from train.hearing import Heard, Held, choose_held, draw_batches, find_inventories, read_training, read_utterances
from train.loop import Standing, World
from train.recogniser import (
    Recogniser,
    RecogniserNetwork,
    RecogniserTraining,
    add_noise,
    distort,
    inventory_mask,
    sequence_loss,
)
from train.shards import open_shards
from train.sounds import IPA, SOUNDS
from train.speech import open_speech
from train.texts import LANGUAGES

PHONEMES = Phonemes(
    {"a": 1, "b": 2, "c": 3}, {language: frozenset({0, 1}) for language in LANGUAGES} | {"en": frozenset({0, 2, 3})}
)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Heard]:
    folder = tmp_path_factory.mktemp("corpus")
    make_part(folder, 0, 40 / 3600, 1, source=STAND_IN, with_word_lists=False)
    write_index(folder, 1, source=STAND_IN)
    speech = open_speech(folder)
    return read_training(speech, speech.heard, Held())


def count_of(utterances: list[Heard]) -> int:
    return 1 + max(int(one.sequence.max()) for one in utterances)


def test_a_saved_network_answers_the_same(tmp_path: Path, clip: Tensor) -> None:
    torch.manual_seed(0)
    before = Recogniser(RecogniserNetwork(PHONEMES.count), PHONEMES)
    before.save(tmp_path / "r.safetensors")
    after = Recogniser.load(tmp_path / "r.safetensors")
    assert after.phonemes == PHONEMES
    for name, value in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], value.half().float())
    assert [path.name for path in tmp_path.iterdir()] == ["r.safetensors"]
    assert isinstance(after.transcribe(clip.numpy(), "en"), list)


def test_a_network_that_is_killed_while_it_saves_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recogniser = Recogniser(RecogniserNetwork(PHONEMES.count), PHONEMES)
    recogniser.save(tmp_path / "r.safetensors")
    before = (tmp_path / "r.safetensors").read_bytes()

    def die(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "save_file", die)
    with pytest.raises(KeyboardInterrupt):
        recogniser.save(tmp_path / "r.safetensors")
    assert (tmp_path / "r.safetensors").read_bytes() == before


def test_only_phonemes_of_the_language_are_heard(clip: Tensor) -> None:
    torch.manual_seed(0)
    network = RecogniserNetwork(PHONEMES.count)
    with torch.no_grad():
        network.exit.bias.copy_(torch.tensor([-9.0, 9.0, 5.0, 5.0]))
    recogniser = Recogniser(network, PHONEMES)
    assert set(recogniser.transcribe(clip.numpy(), "fr")) == {1}
    assert set(recogniser.transcribe(clip.numpy(), "en")) <= {2, 3}
    assert recogniser.transcribe(clip.numpy(), "en") != []
    mask = inventory_mask(PHONEMES)
    assert mask[LANGUAGES.index("en")].tolist() == [True, False, True, True]
    assert mask.shape == (len(LANGUAGES), 4)


def test_batches_pair_every_label_with_a_score(utterances: list[Heard]) -> None:
    network = RecogniserNetwork(count_of(utterances))
    batches = draw_batches(utterances, random.Random(0), seconds=8)
    for _ in range(4):
        batch = next(batches)
        samples, labels, languages = batch.samples, batch.labels, batch.languages
        assert samples.numel() <= 24000 * 8 or len(samples) == 1
        assert len(samples) == len(labels) == len(languages)
        with torch.inference_mode():
            bands = network.features(samples)
            assert network(bands, languages).shape[-1] == labels.shape[1]
        assert len(batch.sequences) == len(samples)
        for sequence, row in zip(batch.sequences, labels.tolist(), strict=True):
            assert sequence.tolist() == collapse([label for label in row if label >= 0], min_run=1)
        # Sound is labelled as sound: twenty milliseconds around a label.
        energy = samples.unfold(1, 480, 480).pow(2).mean(-1)[:, : labels.shape[1]]
        heard, silent = labels[:, : energy.shape[1]] > 0, labels[:, : energy.shape[1]] == 0
        assert energy[heard].mean() > 10 * energy[silent].mean()


def test_the_sequence_loss_prefers_the_right_sequence(utterances: list[Heard]) -> None:
    batch = next(draw_batches(utterances, random.Random(0), seconds=8))
    is_label = torch.nn.functional.one_hot(batch.labels.clamp(min=0), count_of(utterances)).transpose(1, 2)
    right = is_label.float() * 8
    # Every phoneme moved by one: the times are right, the names are not.
    wrong = torch.cat((right[:, :1], right[:, 1:].roll(1, dims=1)), dim=1)
    assert sequence_loss(right, batch) < 1
    assert sequence_loss(wrong, batch) > 4


def test_distortion_changes_the_voice_and_not_the_times() -> None:
    torch.manual_seed(0)
    bands = torch.randn(3, 64, 200)
    bands[:, :, 100:] += 8
    changed = distort(bands)
    assert changed.shape == bands.shape
    assert torch.isfinite(changed).all()
    assert not torch.allclose(changed, bands, atol=0.1)
    level = changed.mean(1)
    assert (level[:, 100:].mean(1) - level[:, :100].mean(1) > 6).all()
    assert np.abs(np.diff(level.mean(0).numpy())).argmax() == 99


def test_noise_follows_the_level_and_has_a_colour() -> None:
    torch.manual_seed(0)
    samples = torch.randn(200, 4000) * torch.linspace(0.01, 1, 200)[:, None]
    noise = add_noise(samples) - samples
    below = 20 * torch.log10(samples.pow(2).mean(1).sqrt() / noise.pow(2).mean(1).sqrt())
    assert 4 < below.min() < 8
    assert 42 < below.max() < 46
    # What neighbours have in common tells dark noise from bright.
    alike = (noise[:, 1:] * noise[:, :-1]).mean(1) / noise.pow(2).mean(1)
    assert alike.min() < -0.4
    assert alike.max() > 0.4


# A corpus of shards.

PARTS = ["00000-en", "00001-es", "00002-en", "50000-en"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones") / "data"
    write_tone_corpus(folder, PARTS)
    return folder


def test_the_first_natural_part_of_each_language_and_some_voices_are_kept_from_training(tones: Path) -> None:
    speech = open_speech(tones)
    held = choose_held(speech)
    assert held == Held(("00000-en", "00001-es"), ("pico_05",))
    number = [voice.name for voice in open_shards(tones).voices].index("pico_05")
    learnt = read_training(speech, speech.heard, held)
    everything = list(read_utterances(speech, speech.heard, PARTS))
    assert {one.language for one in learnt} == {"en"}
    assert number in {one.voice for one in everything}
    assert number not in {one.voice for one in learnt}
    # What nano is to sound like is drawn three times as often as the quick teachers' words.
    assert sorted({one.weight for one in learnt}) == [1.0, 3.0]
    found = find_inventories(learnt)
    assert found["es"] == {0}
    assert {SOUNDS[letter] for letter in LETTERS} | {0} == found["en"]


def test_a_recogniser_of_shards_names_its_alphabet_and_what_it_has_not_heard(tones: Path, tmp_path: Path) -> None:
    stage.main([str(tmp_path), "--data", str(tones), "--steps", "1", "--batch-seconds", "3", "--processes", "1"])
    assert [path.name for path in tmp_path.iterdir()] == ["recogniser.safetensors"]
    made = Recogniser.load(tmp_path / "recogniser.safetensors")
    assert made.phonemes.alphabet == IPA
    assert made.phonemes.ids == SOUNDS
    assert made.held.parts == ("00000-en", "00001-es")
    # Phonemes of another alphabet are not gone on from.
    Recogniser(RecogniserNetwork(PHONEMES.count), PHONEMES).save(tmp_path / "recogniser.safetensors")
    with pytest.raises(CorpusError, match="other phonemes"):
        stage.main([str(tmp_path), "--data", str(tones), "--steps", "1", "--processes", "1"])


def test_a_training_that_was_stopped_goes_on_with_its_step_and_what_it_held(tones: Path, tmp_path: Path) -> None:
    options = Namespace(data=tones, seed=0, batch_seconds=3.0, rate=2e-3, skip=None, minutes=1.0, steps=10)
    alone = World(0, 1, torch.device("cpu"))
    begun = RecogniserTraining(alone, tmp_path, options)
    for _ in range(2):
        begun.step(begun.standing.step / 10)
        begun.standing.step += 1
    begun.save()
    write_tone_corpus(tmp_path / "grown", ["00000-it", *PARTS])
    options.data = tmp_path / "grown"
    resumed = RecogniserTraining(alone, tmp_path, options)
    assert resumed.standing == Standing(step=2, seconds=begun.standing.seconds, skip=0.0)
    assert resumed.held == begun.held
    for name, value in begun.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value)
    steps = {float(one["step"]) for one in resumed.optimiser.state.values()}
    assert steps == {2.0}
    # What has come since is learned, too.
    assert resumed.phonemes.inventories["it"] > begun.phonemes.inventories["it"] == {0}


def test_what_is_no_recogniser_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CorpusError, match="no recogniser"):
        Recogniser.load(tmp_path / "other.safetensors")


def test_the_recogniser_of_before_is_read_as_what_it_is() -> None:
    known = Recogniser.load(Path(__file__).parents[2] / "benchmarks" / "quality" / "recogniser.safetensors")
    assert known.phonemes.alphabet in (MNEMONICS, IPA)
    assert known.phonemes.count == known.network.exit.out_channels
