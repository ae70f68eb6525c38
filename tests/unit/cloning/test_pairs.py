"""Pairs of codes as files: what is written is read, what is damaged is refused, and who speaks oddly is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from voxtral.cloning.pairs import (
    MANIFEST_FILE,
    Manifest,
    Shard,
    keep_usual,
    read_manifest,
    read_shard,
    settle_manifest,
    shard_path,
    write_shard,
)
from voxtral.config import CodebookConfig
from voxtral.errors import TrainingError

BOOKS = CodebookConfig(semantic_size=8192, acoustic_size=21, num_acoustic=36)
MANIFEST = Manifest("a" * 64, 0, 45000)


def codes(num_frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    semantic = torch.randint(BOOKS.semantic_size, (1, num_frames), generator=generator)
    return torch.cat((semantic, torch.randint(BOOKS.acoustic_size, (36, num_frames), generator=generator)))


def shard_of(lengths: list[int], speakers: list[int] | None = None, letters: list[int] | None = None) -> Shard:
    items = [codes(length, seed) for seed, length in enumerate(lengths)]
    speakers = speakers or [0] * len(lengths)
    return Shard.empty(36, ("a", "b")).with_items(items, speakers, letters or lengths, len(lengths) + 1)


@given(st.lists(st.lists(st.integers(1, 6), max_size=4), max_size=3))
def test_what_is_added_comes_back(tmp_path_factory: pytest.TempPathFactory, parts: list[list[int]]) -> None:
    shard, number, wanted = Shard.empty(36, ("a", "b")), 0, []
    for lengths in parts:
        items = [codes(length, number + index) for index, length in enumerate(lengths)]
        number += len(items)
        shard = shard.with_items(items, [0] * len(items), [9] * len(items), number)
        wanted += items
    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder, 3, shard)
    found = read_shard(folder, 3, BOOKS)
    assert found is not None
    assert (found.next_item, found.voices, found.num_frames) == (number, ("a", "b"), sum(map(sum, parts)))
    whole = torch.cat([found.semantic[None].long(), found.acoustic.T.long()])
    assert torch.equal(whole, torch.cat([torch.zeros(37, 0, dtype=torch.int64), *wanted], dim=1))
    assert found.offsets.diff().tolist() == [each.shape[1] for each in wanted]


def test_an_hour_takes_no_more_than_it_says(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, shard_of([4500]))
    assert shard_path(tmp_path, 0).stat().st_size < 4500 * 38 + 2000


def test_a_shard_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_shard(tmp_path, 0, BOOKS) is None


DAMAGE: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "a code too high": lambda t: t | {"acoustic": t["acoustic"] + 21},
    "a negative code": lambda t: t | {"semantic": t["semantic"] * 0 - 1},
    "a semantic code too high": lambda t: t | {"semantic": t["semantic"] * 0 + 8192},
    "offsets that go back": lambda t: t | {"offsets": t["offsets"].flip(0)},
    "offsets that end early": lambda t: t | {"offsets": t["offsets"] - 1},
    "no offsets": lambda t: t | {"offsets": t["offsets"][:0]},
    "fewer items": lambda t: t | {"letters": t["letters"][:1]},
    "a voice that is not listed": lambda t: t | {"speakers": t["speakers"] + 2},
    "other codebooks": lambda t: t | {"acoustic": t["acoustic"][:, :35].clone()},
    "another dtype": lambda t: t | {"semantic": t["semantic"].long()},
    "a tensor too many": lambda t: t | {"more": t["letters"].clone()},
    "a tensor too few": lambda t: {name: value for name, value in t.items() if name != "letters"},
    "a table of codes": lambda t: t | {"semantic": t["semantic"][:, None]},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_shard_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    write_shard(tmp_path, 0, shard_of([5, 7]))
    path = shard_path(tmp_path, 0)
    header = {"format": "voxtral-pairs-shard-1", "number": "0", "next_item": "3", "voices": '["a", "b"]'}
    save_file(DAMAGE[kind](load_file(path)), path, header)
    with pytest.raises(TrainingError, match=r"pairs-00000.*is damaged.*delete it"):
        read_shard(tmp_path, 0, BOOKS)


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 100])
def test_what_is_no_shard_is_refused(tmp_path: Path, content: bytes) -> None:
    shard_path(tmp_path, 0).write_bytes(content)
    with pytest.raises(TrainingError, match="damaged"):
        read_shard(tmp_path, 0, BOOKS)


def test_half_a_shard_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, shard_of([50]))
    whole = shard_path(tmp_path, 0).read_bytes()
    shard_path(tmp_path, 0).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        read_shard(tmp_path, 0, BOOKS)


def test_a_folder_is_of_one_model_and_one_seed(tmp_path: Path) -> None:
    settle_manifest(tmp_path / "new", MANIFEST)
    settle_manifest(tmp_path / "new", MANIFEST)
    assert read_manifest(tmp_path / "new") == MANIFEST
    with pytest.raises(TrainingError, match="another checkpoint and seed"):
        settle_manifest(tmp_path / "new", Manifest("b" * 64, 1, 45000))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "voxtral-pairs-1"}', json.dumps({"format": "x", **vars(MANIFEST)})]
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(content)
    with pytest.raises(TrainingError, match="damaged"):
        settle_manifest(tmp_path, MANIFEST)


def test_items_that_were_said_much_too_fast_or_too_slowly_are_left_out() -> None:
    lengths = [30, 31, 29, 32, 28, 30, 31, 29, 30, 5, 200]
    kept = keep_usual([shard_of(lengths, letters=[40] * len(lengths))])
    assert [each.shape[1] for each in kept] == lengths[:-2]
    # Of few nothing can be said.
    few = keep_usual([shard_of([30, 5, 200], letters=[40] * 3)])
    assert len(few) == 3
