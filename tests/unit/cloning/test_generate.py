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
from voxtral.cloning.pairs import keep_usual, read_shard
from voxtral.config import NUM_SPECIAL_CODES
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
    items = [ItemSource(VOICES, 0, 12.5).item(0, number) for number in range(800)]
    assert set(Counter(item.voice for item in items).values()) == {200}
    assert 0.15 < sum(item.second is not None for item in items) / 800 < 0.25
    assert 0.11 < sum(item.piece_frames is not None for item in items) / 800 < 0.19
    assert all(item.second != item.voice for item in items)
    assert all(12 <= item.piece_frames <= 38 for item in items if item.piece_frames is not None)
    assert {item.noise_factor for item in items} == {1.0, 0.7, 1.3}
    assert {item.guidance_step for item in items} == {-0.2, 0.0, 0.2}
    # English voices say some texts of other languages.
    assert any("ß" in item.text or "ü" in item.text for item in items if item.voice == "bob")


def test_voices_that_no_text_is_for_are_refused() -> None:
    for voices in ({}, {"x": "tlh"}):
        with pytest.raises(TrainingError, match="presets"):
            ItemSource(voices, 0, 12.5)


@pytest.fixture(scope="module")
def speaking() -> Iterator[SpeakingModel]:
    with VoxtralTTS.from_pretrained("nano", device="cpu", options=EngineOptions(max_batch=8)) as loaded:
        checkpoint = loaded.checkpoint
        library = VoiceLibrary(checkpoint.folder, checkpoint.config)
        yield SpeakingModel(checkpoint.config, open_tokenizer(checkpoint), library, loaded.engine)


def source_of(model: SpeakingModel) -> ItemSource:
    return ItemSource({each.name: each.language for each in model.voices.describe()}, 0, 12.5)


def test_a_shard_is_gone_on_with_where_it_stopped(speaking: SpeakingModel, tmp_path: Path) -> None:
    books = speaking.config.codebooks
    source = source_of(speaking)
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    assert ShardMaker(speaking, source, tmp_path / "whole").make(2, 60)
    seen: list[int] = []
    stopped = ShardMaker(
        speaking, source, tmp_path / "parts", lambda progress: seen.append(progress.frames), lambda: bool(seen)
    )
    assert not stopped.make(2, 60)
    part = read_shard(tmp_path / "parts", 2, books)
    assert part is not None
    assert 0 < part.num_frames < 60
    assert ShardMaker(speaking, source, tmp_path / "parts").make(2, 60)
    whole, both = (read_shard(tmp_path / folder, 2, books) for folder in ("whole", "parts"))
    assert whole is not None
    assert both is not None
    assert both.num_frames >= 60
    # Which items, to the item; what was said differs by rounding with who speaks beside.
    assert both.letters.tolist() == whole.letters.tolist()
    assert both.speakers.tolist() == whole.speakers.tolist()
    # It sounds as speech does, so the codes are those of speech.
    assert len(keep_usual([both])[0].unique()) > 20


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
