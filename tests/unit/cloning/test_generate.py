"""What a model says to itself: chosen by seed and number, of all kinds, and gone on with where it stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from voxtral.cloning.generate import ItemSource, ShardMaker, SpeakingModel
from voxtral.cloning.pairs import Shard, keep_usual, read_shard
from voxtral.config import NUM_SPECIAL_CODES, CodebookConfig
from voxtral.engine.options import EngineOptions
from voxtral.errors import NumericsError, TrainingError
from voxtral.loading.load import open_tokenizer
from voxtral.tts import VoxtralTTS
from voxtral.voices.library import VoiceLibrary

VOICES = {"anna": "de", "bob": "en", "carl": "en", "dora": "fr"}


def test_items_are_chosen_by_seed_shard_and_number_alone() -> None:
    first, again = (ItemSource(dict(order), 3, 12.5) for order in (VOICES.items(), reversed(VOICES.items())))
    items = [first.item(shard, number) for shard in range(2) for number in range(50)]
    assert [again.item(shard, number) for shard in range(2) for number in range(50)] == items
    assert len({item.seed for item in items}) == 100
    assert ItemSource(VOICES, 4, 12.5).item(0, 0) != items[0]


def test_items_are_of_all_voices_and_all_kinds() -> None:
    items = [ItemSource(VOICES, 0, 12.5).item(0, number) for number in range(200)]
    assert set(Counter(item.voice for item in items).values()) == {50}
    assert 0.11 < sum(item.second is not None for item in items) / 200 < 0.30
    assert 0.07 < sum(item.piece_frames is not None for item in items) / 200 < 0.24
    assert all(item.second != item.voice for item in items)
    assert all(12 <= item.piece_frames <= 38 for item in items if item.piece_frames is not None)
    assert {item.noise_factor for item in items} == {1.0, 0.7, 1.3}
    assert {item.guidance_step for item in items} == {-0.2, 0.0, 0.2}
    # English voices say some texts of other languages.
    assert any(set("äöüßéèàç") & set(item.text) for item in items if item.voice == "bob")


def test_voices_that_no_text_is_for_are_refused() -> None:
    for voices in ({}, {"x": "tlh"}):
        with pytest.raises(TrainingError, match="presets"):
            ItemSource(voices, 0, 12.5)


@pytest.fixture(scope="module")
def speaking() -> Iterator[SpeakingModel]:
    with VoxtralTTS.from_pretrained("nano", device="cpu", options=EngineOptions(max_batch=2)) as loaded:
        checkpoint = loaded.checkpoint
        library = VoiceLibrary(checkpoint.folder, checkpoint.config)
        yield SpeakingModel(checkpoint.config, open_tokenizer(checkpoint), library, loaded.engine)


def source_of(model: SpeakingModel) -> ItemSource:
    return ItemSource({each.name: each.language for each in model.voices.describe()}, 0, 12.5)


def test_a_model_says_codes_of_speech(speaking: SpeakingModel, tmp_path: Path) -> None:
    told: list[int] = []
    assert ShardMaker(speaking, source_of(speaking), tmp_path, lambda each: told.append(each.frames)).make(2, 8)
    shard = read_shard(tmp_path, 2, speaking.config.codebooks)
    assert shard is not None
    assert shard.num_frames == told[-1] >= 8
    assert len(keep_usual([shard])[0].unique()) > 20
    # What is there is enough.
    assert ShardMaker(speaking, source_of(speaking), tmp_path, should_stop=lambda: True).make(2, 8)


class FakeEngine:
    """Says what it is told to."""

    max_batch = 4

    def __init__(self, outcomes: list[Any]) -> None:
        self.outcomes = outcomes
        self.asked = 0

    def submit(self, request: Any, trace: Any) -> Any:
        outcome = self.outcomes[min(self.asked, len(self.outcomes) - 1)]
        self.asked += 1
        end = torch.tensor([1, *[2] * 36])
        if isinstance(outcome, list):
            trace.audio_tokens += [torch.full((37,), code + NUM_SPECIAL_CODES) for code in outcome] + [end]

        def chunks() -> Iterator[None]:
            if isinstance(outcome, Exception):
                raise outcome
            yield from ()

        stop = "length" if outcome == "length" else "end"
        return SimpleNamespace(chunks=chunks, stop=stop, cancel=lambda: None)


def with_engine(model: SpeakingModel, outcomes: list[Any]) -> SpeakingModel:
    return SpeakingModel(model.config, model.tokenizer, model.voices, cast("Any", FakeEngine(outcomes)))


def test_a_shard_is_gone_on_with_where_it_stopped(speaking: SpeakingModel, tmp_path: Path) -> None:
    books = speaking.config.codebooks
    # Each says what its number is, and every third comes to no end.
    outcomes: list[Any] = ["length" if number % 3 == 0 else [number % 20] * 5 for number in range(60)]
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    source = source_of(speaking)
    assert ShardMaker(with_engine(speaking, outcomes), source, tmp_path / "whole").make(2, 60)
    for wanted in range(1, 4):
        seen: list[int] = []
        first = 0 if wanted == 1 else _shard(tmp_path / "parts", books).next_item
        stopped = ShardMaker(
            with_engine(speaking, outcomes[first:]),
            source,
            tmp_path / "parts",
            lambda progress, seen=seen: seen.append(progress.frames),
            lambda seen=seen: len(seen) >= 2,
        )
        assert not stopped.make(2, 60)
        assert _shard(tmp_path / "parts", books).num_frames == 10 * wanted
    rest = outcomes[_shard(tmp_path / "parts", books).next_item :]
    assert ShardMaker(with_engine(speaking, rest), source, tmp_path / "parts").make(2, 60)
    whole, parts = (vars(_shard(tmp_path / folder, books)) for folder in ("whole", "parts"))
    assert {name: str(value) for name, value in parts.items()} == {name: str(value) for name, value in whole.items()}


def _shard(folder: Path, books: CodebookConfig) -> Shard:
    shard = read_shard(folder, 2, books)
    assert shard is not None
    return shard


def test_only_what_ended_by_itself_and_did_not_hang_is_kept(speaking: SpeakingModel, tmp_path: Path) -> None:
    good = [1, 2, 3, 4, 5]
    outcomes = ["length", NumericsError("no number"), [1, 2], [7] * 14, [8] * 12 + [9], good]
    made = ShardMaker(with_engine(speaking, outcomes), source_of(speaking), tmp_path).make(0, 18)
    shard = read_shard(tmp_path, 0, speaking.config.codebooks)
    assert made
    assert shard is not None
    assert shard.semantic.tolist() == [8] * 12 + [9, *good]
    assert shard.next_item == 6


def test_a_model_that_says_nothing_of_use_is_given_up(speaking: SpeakingModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none of 64 texts was said to the end"):
        ShardMaker(with_engine(speaking, ["length"]), source_of(speaking), tmp_path).make(0, 10)


def test_a_fault_of_the_engine_is_no_item_of_no_use(speaking: SpeakingModel, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such thing"):
        ShardMaker(with_engine(speaking, [RuntimeError("no such thing")]), source_of(speaking), tmp_path).make(0, 10)
