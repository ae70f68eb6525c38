"""Files that would cost much: refused by kind, size and range, before anything is set aside for them."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import resource
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from checkpoints import TINY, tiny_params
from voxtral.audio.read import read_audio
from voxtral.cli import codec
from voxtral.engine.prefix_store import PrefixStore
from voxtral.errors import AudioError, CheckpointError, ConfigError, ReferenceAudioError, RequestError, TextError
from voxtral.jobs import digests
from voxtral.jobs.inputs import read_entries
from voxtral.jobs.manifest import Manifest
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.params import load_config, parse_config
from voxtral.text.tokenizer import load_tokenizer

KINDS: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["params.json", "consolidated.safetensors", "tekken.json"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str, name: str) -> None:
    for each in ("params.json", "consolidated.safetensors", "tekken.json"):
        shutil.copyfile(TINY / each, tmp_path / each)
    (tmp_path / name).unlink()
    KINDS[kind](tmp_path / name)
    with pytest.raises(CheckpointError, match="regular file"):
        load_tokenizer(tmp_path / name) if name == "tekken.json" else open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="regular file"):
        digests.fingerprint(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_codes_and_journals_are_regular_files(tmp_path: Path, kind: str) -> None:
    for name in ("a.txt", "a.jsonl", "c.safetensors", "batch.jsonl"):
        KINDS[kind](tmp_path / name)
    if kind != "folder":  # a folder of texts is an input
        for name in ("a.txt", "a.jsonl"):
            with pytest.raises(TextError, match="regular file"):
                read_entries(tmp_path / name, None)
    with pytest.raises(RequestError, match="regular file"):
        codec.read_codes(tmp_path / "c.safetensors")
    with pytest.raises(AudioError), Manifest(tmp_path):
        pass


# params.json.

PLACES = [
    ("max_seq_len",),
    ("multimodal", "audio_tokenizer_args", "sampling_rate"),
    ("multimodal", "audio_tokenizer_args", "attn_sliding_window_size"),
    ("multimodal", "audio_model_args", "acoustic_transformer_args", "n_decoding_steps"),
    ("norm_eps",),
    ("rope_theta",),
    ("generation", "noise_scale"),
    ("generation", "guidance_scale"),
    ("generation", "num_euler_steps"),
    ("generation", "max_segment_chars"),
]


@pytest.mark.parametrize("place", PLACES, ids=".".join)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "true", '"64"', "-1", "1e31", "2147483648"])
def test_numbers_that_are_none_or_out_of_range_are_refused(tmp_path: Path, place: tuple[str, ...], value: str) -> None:
    params = tiny_params()
    params.setdefault("generation", {})
    inner = params
    for key in place[:-1]:
        inner = inner.setdefault(key, {})
    inner[place[-1]] = "HERE"
    (tmp_path / "params.json").write_text(json.dumps(params).replace('"HERE"', value), encoding="utf-8")
    if value == "2147483648" and place[-1] in ("rope_theta", "norm_eps"):
        return
    with pytest.raises(ConfigError):
        load_config(tmp_path / "params.json")


@pytest.mark.parametrize("value", ["64.0", "64.5", "true", "NaN", "-0", "1e2"])
def test_a_whole_number_is_written_as_one(tmp_path: Path, value: str) -> None:
    params = tiny_params() | {"dim": "HERE"}
    (tmp_path / "params.json").write_text(json.dumps(params).replace('"HERE"', value), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(tmp_path / "params.json")


def test_a_negative_zero_is_zero() -> None:
    config = parse_config(tiny_params() | {"generation": {"noise_scale": -0.0}})
    assert str(config.generation.noise_scale) == "0.0"


@pytest.mark.parametrize("content", [b" " * (2**20 + 1), b"[" * 100_000, b'{"dim":' * 10_000, b"9" * 100_000, b"\xff"])
def test_params_that_are_large_deep_or_odd_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.json").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "params.json")
    assert len(str(caught.value)) < 1000


def test_a_long_value_does_not_fill_the_message() -> None:
    for change in ({"dim": "x" * 10**5}, {"model_type": "x" * 10**5}, {"languages": "x" * 10**5}):
        with pytest.raises(ConfigError) as caught:
            parse_config(tiny_params() | change)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_what_cannot_be_read_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    for name in ("params.json", "consolidated.safetensors", "tekken.json"):
        shutil.copyfile(TINY / name, tmp_path / name)
    real = os.open
    for name in ("params.json", "consolidated.safetensors", "tekken.json"):

        def refuse(path: Any, *arguments: Any, name: str = name, **options: Any) -> int:
            if str(path).endswith(name):
                raise OSError(number, os.strerror(number))
            return real(path, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(CheckpointError, match=os.strerror(number)) as caught:
                load_tokenizer(tmp_path / name) if name == "tekken.json" else open_checkpoint(tmp_path)
        assert "missing" not in str(caught.value)
        assert "download" not in str(caught.value)


# tekken.json.


def _set(part: str, key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content[part].__setitem__(key, value)


TOKENIZERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "many special tokens": _set("config", "default_num_special_tokens", 10**7),
    "many of both": lambda content: content["config"].update(
        default_num_special_tokens=2 * 10**6, default_vocab_size=2 * 10**6 + 3500
    ),
    "a large vocabulary": _set("config", "default_vocab_size", 10**12),
    "a negative one": _set("config", "default_vocab_size", -5),
    "half a token": _set("config", "default_vocab_size", 4096.5),
    "no number": _set("config", "default_vocab_size", "many"),
    "a truth": _set("config", "default_vocab_size", True),
    "no tokens": lambda content: content.update(vocab=[]),
    "no bytes": lambda content: content.update(vocab=content["vocab"][256:]),
    "a token twice": lambda content: content["vocab"][300].update(token_bytes=content["vocab"][301]["token_bytes"]),
    "a pattern that leaves text out": _set("config", "pattern", "[a-z]+"),
    "a pattern that fits nothing": _set("config", "pattern", "(a+)+$"),
    "a pattern that goes back": _set("config", "pattern", "(?:(?=a)a+a+)+y|[\\s\\S]"),
    "a pattern that refers back": _set("config", "pattern", "(?:(a)\\1*)+y|[\\s\\S]"),
    "a broken pattern": _set("config", "pattern", "["),
    "a long pattern": _set("config", "pattern", "a" * 10**6),
    "no pattern": _set("config", "pattern", None),
    "a frame rate that is none": _set("audio", "frame_rate", float("nan")),
    "no config": lambda content: content.pop("config"),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_that_costs_much_or_loses_text_is_refused(tmp_path: Path, case: str) -> None:
    content = json.loads((TINY / "tekken.json").read_text(encoding="utf-8"))
    TOKENIZERS[case](content)
    (tmp_path / "tekken.json").write_text(json.dumps(content), encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(CheckpointError, match=r"tekken\.json") as caught:
        load_tokenizer(tmp_path / "tekken.json")
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 200_000  # kB
    assert after.ru_utime - before.ru_utime < 2
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"config":' * 50_000, b"\xff\xfe", b"", b"3", b"{}"])
def test_a_tokenizer_that_is_no_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tekken.json").write_bytes(content)
    with pytest.raises(CheckpointError):
        load_tokenizer(tmp_path / "tekken.json")


def test_a_tokenizer_too_large_to_be_one_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "tekken.json").open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(CheckpointError, match="at most"):
        load_tokenizer(tmp_path / "tekken.json")


# The store of prefixes, and batches.


def test_prefixes_that_cannot_be_kept_or_read_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, value = PrefixStore(tmp_path / "prefixes", "f"), torch.zeros(1, 2, 1, 4)

    def full(*arguments: Any, **options: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        store.save("k", value, value.clone())
    assert "No space left" in caplog.text
    assert list((tmp_path / "prefixes").iterdir()) == []
    store.save("k", value, value.clone())
    assert store.load("k", (1, 2, 1, 4), torch.float32) is not None
    (path,) = (tmp_path / "prefixes").iterdir()
    path.unlink()
    os.mkfifo(path)
    assert store.load("k", (1, 2, 1, 4), torch.float32) is None


def test_threads_that_keep_one_prefix_let_each_other_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, value = PrefixStore(tmp_path, "f"), torch.zeros(1, 50, 1, 4)
    threads = [
        threading.Thread(target=lambda: [store.save("k", value, value.clone()) for _ in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not caplog.text
    assert len(list(tmp_path.iterdir())) == 1
    assert store.load("k", (1, 50, 1, 4), torch.float32) is not None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_batch_does_not_take_an_error_for_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "clip.wav").write_bytes(b"clip")
    (tmp_path / "a.txt").write_text("Hello")

    known = digests.Digests(TINY, (), "wav")

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RequestError, match=os.strerror(number)):
        known._of_file(tmp_path / "clip.wav")
    with pytest.raises(TextError, match=os.strerror(number)):
        read_entries(tmp_path / "a.txt", None)


def test_a_journal_that_cannot_be_looked_at_is_an_audio_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    with Manifest(tmp_path) as manifest:
        monkeypatch.setattr(Path, "stat", refuse)
        with pytest.raises(AudioError, match="Permission denied"):
            manifest.state("a.wav")
        monkeypatch.undo()


# A decoder's remarks.


def broken_mp3s() -> list[bytes]:
    noise = np.random.default_rng(0).normal(size=24000).astype("f4") * 0.1
    file = io.BytesIO()
    soundfile.write(file, noise, 24000, format="MP3")
    draw, clips = random.Random(0), list[bytes]()
    for _ in range(12):
        clip = bytearray(file.getvalue())
        for _ in range(20):
            clip[draw.randrange(len(clip))] = draw.randrange(256)
        clips.append(bytes(clip))
    return clips


def test_a_broken_mp3_writes_nothing_and_others_write_on(capfd: pytest.CaptureFixture[str]) -> None:
    clips, is_over = broken_mp3s(), threading.Event()
    written = 0

    def decode() -> None:
        for clip in clips:
            with suppress(ReferenceAudioError):
                read_audio(clip, sample_rate=24000)

    def write() -> None:
        nonlocal written
        while not is_over.is_set():
            os.write(2, b"other\n")
            written += 1
            time.sleep(0.0005)

    writer, decoders = threading.Thread(target=write), [threading.Thread(target=decode) for _ in range(2)]
    for thread in (writer, *decoders):
        thread.start()
    for thread in decoders:
        thread.join()
    is_over.set()
    writer.join()
    assert capfd.readouterr().err == "other\n" * written
    with soundfile.SoundFile(io.BytesIO(clips[0])) as file:
        file.read()
    assert "mpg123" in capfd.readouterr().err  # as it is outside, so that this test can fail
