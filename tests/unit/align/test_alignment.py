"""What is known of a checkpoint is kept, found again, and not taken from a file that is damaged or of other weights."""

from __future__ import annotations

import json
import os
import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints import TINY
from voxtral.align.alignment import (
    Alignment,
    Pace,
    cache_path,
    find_alignment,
    keep_alignment,
    read_alignment,
    write_alignment,
)
from voxtral.errors import AlignmentError
from voxtral.loading.checkpoint import open_checkpoint, shared_fingerprint
from voxtral.loading.convert import write_quantized
from voxtral.loading.locate import locate_model
from voxtral.quantization.recipes import choose_recipe

MARK = "ab" * 32
FULL = Alignment(
    fingerprint=MARK,
    heads=((3, 0), (3, 1)),
    max_step=6,
    codec_lag_s=0.02,
    head_lead_s=-0.01,
    thresholds={"score": -0.5},
    pace={"en": Pace(-0.2, 0.06)},
    figures={"best_score": 0.98},
    date="2026-11-30",
)
NANO = locate_model("nano", allow_download=False)
BACKBONE = open_checkpoint(NANO).config.backbone


def _altered(path: Path, **changes: object) -> None:
    entries = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in entries.items() if value is not ...}), encoding="utf-8")


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_alignment(FULL, tmp_path / "new" / "a.json")
    assert read_alignment(tmp_path / "new" / "a.json", MARK) == FULL
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]
    bare = Alignment(MARK, (), 1, 0.0, 0.0)
    write_alignment(bare, tmp_path / "a.json")
    assert read_alignment(tmp_path / "a.json") == bare
    assert not bare.has_aligner


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("fingerprint", "x"),
        ("heads", [[3]]),
        ("heads", [[3, 0], [3, 0]]),
        ("heads", [[3, -1]]),
        ("heads", [[0, number] for number in range(9)]),
        ("max_step", 0),
        ("max_step", True),
        ("max_step", 2.0),
        ("codec_lag_s", 1.5),
        ("codec_lag_s", float("nan")),
        ("codec_lag_s", 10**400),
        ("figures", {"score": -(10**400)}),
        ("head_lead_s", "0.1"),
        ("thresholds", {"score": None}),
        ("thresholds", []),
        ("thresholds", {str(number): 1 for number in range(300)}),
        ("thresholds", {"\x1b[2J": 1}),
        ("pace", {"en": [1, 2]}),
        ("pace", {"en": {"median": 1, "spread": -1}}),
        ("figures", ...),
        ("more", 1),
        ("date", "yesterday"),
        ("date", 7),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value)[:20],
)
def test_a_file_that_breaks_a_rule_is_refused(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "a.json"
    write_alignment(FULL, path)
    _altered(path, **{field: value})
    with pytest.raises(AlignmentError, match="make it again"):
        read_alignment(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, "null", "\xff"], ids=["no", "list", "cut", "deep", "null", "text"]
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin1"))
    with pytest.raises(AlignmentError):
        read_alignment(tmp_path / "a.json")


def test_a_damaged_file_never_raises_anything_else(tmp_path: Path) -> None:
    write_alignment(FULL, tmp_path / "a.json")
    whole = (tmp_path / "a.json").read_bytes()
    rng = random.Random(3)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        (tmp_path / "a.json").write_bytes(damaged[: rng.randint(1, len(damaged))])
        with suppress(AlignmentError):
            read_alignment(tmp_path / "a.json", MARK)


def test_a_pipe_or_a_folder_is_no_alignment(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(AlignmentError, match="regular file"):
            read_alignment(path)


def test_it_is_found_beside_the_checkpoint_and_then_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path / "cache"))
    told: list[str] = []
    assert find_alignment(tmp_path, MARK, BACKBONE, told.append) is None
    kept = replace(FULL, head_lead_s=0.5)
    assert keep_alignment(kept) == cache_path(MARK) == tmp_path / "cache" / "alignment" / f"{MARK}.json"
    assert find_alignment(tmp_path, MARK, BACKBONE, told.append) == kept
    write_alignment(FULL, tmp_path / "alignment.json")
    assert find_alignment(tmp_path, MARK, BACKBONE, told.append) == FULL
    assert told == []


def test_a_foreign_or_damaged_file_is_told_of_and_the_next_one_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path / "cache"))
    keep_alignment(FULL)
    for spoil in (
        lambda path: write_alignment(replace(FULL, fingerprint="cd" * 32), path),
        lambda path: path.write_text("{}", encoding="utf-8"),
        lambda path: write_alignment(replace(FULL, heads=((99, 0),)), path),
    ):
        told: list[str] = []
        spoil(tmp_path / "alignment.json")
        assert find_alignment(tmp_path, MARK, BACKBONE, told.append) == FULL
        (line,) = told
        assert "is not used" in line
        assert "\n" not in line


def test_nothing_is_kept_where_nothing_is_to_be_or_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXTRAL_CACHE", "")
    assert keep_alignment(FULL) is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path / "file"))
    assert keep_alignment(FULL) is None
    assert find_alignment(tmp_path, MARK, BACKBONE, pytest.fail) is None


def test_nano_brings_its_own() -> None:
    checkpoint = open_checkpoint(NANO)
    alignment = read_alignment(NANO / "alignment.json", shared_fingerprint(checkpoint))
    alignment.check_fits(checkpoint.config.backbone)
    assert alignment.has_aligner
    assert set(alignment.pace) == set(checkpoint.config.languages)


def test_copies_in_fewer_bits_share_it_and_other_weights_do_not(tmp_path: Path) -> None:
    import torch

    checkpoint = open_checkpoint(TINY)
    recipe = choose_recipe("int8", checkpoint.config)
    write_quantized(checkpoint, recipe, tmp_path / "int8", device=torch.device("cpu"), on_progress=lambda *_: None)
    assert shared_fingerprint(open_checkpoint(tmp_path / "int8")) == shared_fingerprint(checkpoint)
    assert shared_fingerprint(checkpoint) != shared_fingerprint(open_checkpoint(NANO))
    for name in ("params.json", "consolidated.safetensors"):
        (tmp_path / name).write_bytes((TINY / name).read_bytes())
    entry = checkpoint.tensors["norm.weight"]
    with (tmp_path / "consolidated.safetensors").open("r+b") as file:
        file.seek(entry.start)
        file.write(b"\x00\x3c")
    assert shared_fingerprint(open_checkpoint(tmp_path)) != shared_fingerprint(checkpoint)
