"""AAC: which encoder is found, frames out of ADTS, and chapters that are encoded alone and are one stream together."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from book_output import RATE, babble, needs_aac
from voxtral.book.output import aac
from voxtral.book.output.aac import AacEncoder, AdtsReader, find_aac_encoder, with_header
from voxtral.book.output.parts import PartMaker, first_tail
from voxtral.errors import AacEncoderMissingError, AudioError

CONFIG = bytes([2 << 3 | 6 >> 1, (6 & 1) << 7 | 1 << 3])


@given(sizes=st.lists(st.integers(0, 900), min_size=1, max_size=8), cut=st.integers(1, 500))
def test_frames_come_out_however_the_bytes_are_cut(sizes: list[int], cut: int) -> None:
    frames = [bytes([index]) * size for index, size in enumerate(sizes)]
    data = b"".join(with_header(frame, CONFIG) for frame in frames)
    reader = AdtsReader()
    found = [frame for start in range(0, len(data), cut) for frame in reader.push(data[start : start + cut])]
    reader.finish()
    assert found == frames
    assert reader.config == CONFIG


def test_bytes_that_are_no_adts_are_refused() -> None:
    whole = with_header(b"abc", CONFIG)
    with pytest.raises(AudioError, match="no ADTS"):
        AdtsReader().push(b"RIFF" + bytes(20))
    reader = AdtsReader()
    reader.push(whole[:-1])
    with pytest.raises(AudioError, match="within a frame"):
        reader.finish()
    with pytest.raises(AudioError, match="change"):
        AdtsReader().push(whole + with_header(b"abc", bytes([2 << 3 | 3 >> 1, (3 & 1) << 7 | 1 << 3])))


def test_no_encoder_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aac, "_makes_frames", lambda encoder: False)
    with pytest.raises(AacEncoderMissingError, match=r"voxtral-tts\[av\].*--format mp3"):
        find_aac_encoder()


def test_a_program_that_does_not_work_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    works = aac._makes_frames
    monkeypatch.setattr(aac, "_makes_frames", lambda encoder: encoder.kind != "av" and works(encoder))
    with pytest.raises(AacEncoderMissingError):
        find_aac_encoder()
    stream = AacEncoder("ffmpeg", str(broken)).open(RATE)

    def fill() -> None:
        for _ in range(100):
            stream.write(np.zeros(65536, dtype=np.float32))
            stream.finish()

    with pytest.raises(AudioError, match="no such codec"):
        fill()
    stream.close()
    stream.close()
    with pytest.raises(AudioError, match="does not start"):
        AacEncoder("ffmpeg", str(tmp_path / "absent")).open(RATE)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_a_program_makes_as_many_frames() -> None:
    stream = AacEncoder("ffmpeg", shutil.which("ffmpeg") or "").open(RATE)
    data = b"".join(stream.write(piece) for piece in np.array_split(babble(50_000), 9)) + stream.finish()
    stream.close()
    assert len(AdtsReader().push(data)) == 50


def test_an_abandoned_program_is_ended(tmp_path: Path) -> None:
    sleeper = tmp_path / "ffmpeg"
    sleeper.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    sleeper.chmod(0o755)
    stream = AacEncoder("ffmpeg", str(sleeper)).open(RATE)
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        pass
    stream.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.fixture(scope="module")
def encoder() -> AacEncoder:
    return find_aac_encoder()


def make_all(maker: PartMaker, chapters: list[np.ndarray], digests: list[str | None]) -> tuple[list[bytes], list[bool]]:
    frames: list[bytes] = []
    tail, kept = first_tail(), []
    for number, (chapter, digest) in enumerate(zip(chapters, digests, strict=True), start=1):
        stretch = maker.make(
            np.array_split(chapter, 5),
            digest,
            tail,
            lambda some, config: frames.extend(with_header(frame, config) for frame in some),
            is_last=number == len(chapters),
        )
        assert stretch.num_samples == len(chapter)
        tail = stretch.tail
        kept.append(stretch.was_kept)
    return frames, kept


def decode(frames: list[bytes], path: Path) -> np.ndarray:
    av = pytest.importorskip("av")
    path.write_bytes(b"".join(frames))
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)])


@needs_aac
@pytest.mark.parametrize("lengths", [[5000, 7001, 3], [1024, 2048, 4096], [1, 1, 1, 9000], [100, 1023, 9999, 20_000]])
def test_seams_are_not_heard_even_in_the_middle_of_sound(
    encoder: AacEncoder, tmp_path: Path, lengths: list[int]
) -> None:
    samples = babble(sum(lengths), 7)
    together, _ = make_all(PartMaker(encoder, RATE), [samples], [None])
    chapters = np.split(samples, np.cumsum(lengths)[:-1])
    apart, _ = make_all(PartMaker(encoder, RATE), chapters, [None] * len(lengths))
    assert len(apart) == len(together) == -(-len(samples) // 1024) + 1
    sound = decode(apart, tmp_path / "a.aac")[1024 : 1024 + len(samples)]
    loss = samples - sound
    whole = samples - decode(together, tmp_path / "b.aac")[1024 : 1024 + len(samples)]
    for seam in np.cumsum(lengths)[:-1]:
        near = slice(max(0, seam - 2048), seam + 2048)
        assert np.square(loss[near]).sum() <= 2.0 * np.square(whole[near]).sum() + 1e-3


@needs_aac
def test_chapters_are_kept_and_taken_again(encoder: AacEncoder, tmp_path: Path) -> None:
    chapters = [babble(size, seed) for seed, size in enumerate((20_000, 30_001, 10_000))]
    maker = PartMaker(encoder, RATE, tmp_path / "parts")
    plain, _ = make_all(PartMaker(encoder, RATE), chapters, [None] * 3)
    made, kept = make_all(maker, chapters, ["a", "b", "c"])
    assert (made, kept) == (plain, [False] * 3)
    assert sorted(path.suffix for path in (tmp_path / "parts").iterdir()) == [".aac"] * 3 + [".json"] * 3
    # Chapters that are kept are not asked for their samples.
    silent = [np.full(len(chapter), np.nan, dtype=np.float32) for chapter in chapters]
    again, kept = make_all_from_kept(maker, silent)
    assert (again, kept) == (plain, [True] * 3)


def make_all_from_kept(maker: PartMaker, chapters: list[np.ndarray]) -> tuple[list[bytes], list[bool]]:
    frames: list[bytes] = []
    tail, kept = first_tail(), []
    for number, digest in enumerate("abc", start=1):
        stretch = maker.make(
            [chapters[number - 1]],
            digest,
            tail,
            lambda some, config: frames.extend(with_header(frame, config) for frame in some),
            is_last=number == 3,
        )
        tail = stretch.tail
        kept.append(stretch.was_kept)
    return frames, kept


@needs_aac
def test_what_follows_a_changed_chapter_is_made_again_only_where_its_frames_change(
    encoder: AacEncoder, tmp_path: Path
) -> None:
    pause = np.zeros(6000, dtype=np.float32)
    first = np.concatenate([babble(20_000, 1), pause])
    others = [np.concatenate([babble(size, size), pause]) for size in (30_001, 10_000)]
    maker = PartMaker(encoder, RATE, tmp_path)
    make_all(maker, [first, *others], ["a", "b", "c"])
    # Longer by whole blocks, and silent at its end as before.
    longer = np.concatenate([babble(20_480 + 1024, 2)[: 20_000 + 1024], pause])
    made, kept = make_all(maker, [longer, *others], ["x", "b", "c"])
    assert kept == [False, True, True]
    plain, _ = make_all(PartMaker(encoder, RATE), [longer, *others], [None] * 3)
    assert made == plain
    _, kept = make_all(maker, [longer[:-1], *others], ["y", "b", "c"])
    assert kept == [False, False, False]


@needs_aac
@pytest.mark.parametrize("damage", ["cut", "gone", "notes", "other", "garbage"])
def test_a_damaged_part_is_made_again(encoder: AacEncoder, tmp_path: Path, damage: str) -> None:
    chapters = [babble(20_000, 1), babble(20_000, 2)]
    maker = PartMaker(encoder, RATE, tmp_path)
    made, _ = make_all(maker, chapters, ["a", "b"])
    for path in tmp_path.glob("*.aac"):
        data = path.read_bytes()
        notes = path.with_suffix(".json")
        if damage == "cut":
            path.write_bytes(data[:-1])
        elif damage == "gone":
            path.unlink()
        elif damage == "notes":
            notes.write_text('{"format": 1}')
        elif damage == "other":
            notes.write_text(notes.read_text().replace('"format": 1', '"format": 0'))
        else:
            path.write_bytes(bytes(len(data)))
    again, kept = make_all(maker, chapters, ["a", "b"])
    assert (again, kept) == (made, [False, False])
    assert make_all(maker, chapters, ["a", "b"])[1] == [True, True]


@needs_aac
def test_a_chapter_that_fails_keeps_nothing(encoder: AacEncoder, tmp_path: Path) -> None:
    with pytest.raises(AudioError):
        make_all(PartMaker(encoder, RATE, tmp_path), [np.full(5000, np.nan, dtype=np.float32)], ["a"])
    assert list(tmp_path.iterdir()) == []
