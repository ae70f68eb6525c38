"""Calibration finds the heads that follow the text, and none where none does. The whole of it is in tests/soak."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoints import TINY
from voxtral.align import calibrate as module
from voxtral.align.alignment import Alignment, read_alignment
from voxtral.align.calibrate import AlignedSentence, Sentence, Speaking, alignment_for, calibrate, sentences_for
from voxtral.align.codes import align_codes
from voxtral.align.heads import choose_heads
from voxtral.align.times import Track
from voxtral.align.words import spoken_words, verbatim_sources
from voxtral.config import NUM_SPECIAL_CODES
from voxtral.errors import CodeRangeError, TextError
from voxtral.loading.checkpoint import shared_fingerprint
from voxtral.loading.load import open_tokenizer
from voxtral.model.voxtral import VoxtralModel
from voxtral.tts import VoxtralTTS
from voxtral.voices.library import VoiceLibrary

LIST = "Table, garden, window, picture."
# Said with a pause before each word; of so many samples at least.
LOUD, _QUIET = "Table! Garden! Window! Picture!", 1200
FEW = [
    Sentence(LIST, "en", "en_f1", 1, is_list=True),
    Sentence("Please leave it by the kitchen door.", "en", "en_m1", 2),
]


def _speaking(tts: VoxtralTTS) -> Speaking:
    checkpoint = tts.checkpoint
    voices = VoiceLibrary(checkpoint.folder, checkpoint.config)
    return Speaking(checkpoint, open_tokenizer(checkpoint), voices, tts.engine)


@pytest.fixture(scope="module")
def nano() -> Iterator[Speaking]:
    with VoxtralTTS.from_pretrained("nano", device="cpu") as tts:
        yield _speaking(tts)


def heads_of(nano: Speaking) -> tuple[tuple[int, int], ...]:
    """What the package says of its nano: the heads that training guides."""
    heads = read_alignment(nano.checkpoint.folder / "alignment.json").heads
    assert heads
    return heads


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "sentences_for", lambda *_: iter(FEW))


@pytest.mark.usefixtures("few")
def test_the_guided_heads_of_nano_are_found_and_without_them_the_next(nano: Speaking) -> None:
    def thresholds(_: Speaking, alignment: Alignment, sentences: Sequence[AlignedSentence]) -> dict[str, float]:
        return {"score": float(len(sentences)), "heads": float(len(alignment.heads))}

    found = calibrate(nano, thresholds=thresholds)
    alignment = found.alignment
    assert alignment.heads == heads_of(nano)
    assert 4 <= alignment.max_step <= 10
    assert alignment.codec_lag_s == pytest.approx(0.02, abs=0.004)
    assert set(alignment.pace) == {"en"}
    assert len(found.sentences) == 2
    assert alignment.thresholds == {"score": 2.0, "heads": 2.0}
    others = choose_heads(found.figures, alignment.heads)
    assert others
    assert not set(others) & set(alignment.heads)


@pytest.mark.usefixtures("few")
def test_what_a_checkpoint_has_is_used_and_what_it_lacks_is_made_once_and_said(
    nano: Speaking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert alignment_for(nano, pytest.fail).heads == heads_of(nano)
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path))
    bare = replace(nano, checkpoint=replace(nano.checkpoint, folder=_without_alignment(nano, tmp_path / "model")))
    told: list[str] = []
    made = alignment_for(bare, told.append)
    assert made.heads == heads_of(nano)
    assert [line.split(":")[0] for line in told] == [
        "finding out which heads of this model follow the text (once), about a minute"
    ]
    assert alignment_for(bare, pytest.fail) == made
    kept = tmp_path / "alignment" / f"{shared_fingerprint(nano.checkpoint)}.json"
    assert read_alignment(kept) == made


def _without_alignment(nano: Speaking, folder: Path) -> Path:
    folder.mkdir()
    for path in nano.checkpoint.folder.iterdir():
        if path.name != "alignment.json":
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.usefixtures("few")
def test_heads_that_do_not_look_at_the_text_are_no_aligner(monkeypatch: pytest.MonkeyPatch) -> None:
    with VoxtralTTS.from_pretrained("nano", device="cpu") as tts:

        def blind(model: VoxtralModel) -> None:
            drawn = torch.Generator().manual_seed(1)
            for layer in model.backbone.layers:
                weight = layer.attention.wqkv.weight
                weight.copy_(weight.std() * torch.randn(weight.shape, generator=drawn))

        tts.engine.call(blind)
        found = calibrate(_speaking(tts))
    assert found.alignment.heads == ()
    assert found.sentences == ()
    assert found.alignment.pace == {}


def test_a_model_that_says_nothing_has_no_aligner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path))
    with VoxtralTTS.from_pretrained(TINY, device="cpu") as tts:
        speaking = _speaking(tts)
        name = speaking.voices.describe()[0].name
        monkeypatch.setattr(module, "sentences_for", lambda *_: iter([Sentence("Hi.", "en", name, 1)] * 2))
        told: list[str] = []
        assert not alignment_for(speaking, told.append).has_aligner
        assert len(told) == 2
        assert "estimated from their letters" in told[1]


def test_sentences_are_of_all_languages_and_presets(nano: Speaking) -> None:
    presets, languages = nano.voices.describe(), nano.config.languages
    once = list(sentences_for(languages, presets, 1))
    assert {sentence.language for sentence in once[:10]} == set(languages)
    assert {sentence.voice for sentence in once} == {preset.name for preset in presets}
    assert sum(sentence.is_list for sentence in once) == 2 * len(languages)
    twice = list(sentences_for(languages, presets, 2))
    assert twice[: len(once)] == once
    assert len({(sentence.text, sentence.voice) for sentence in twice}) == 2 * len(once)
    assert list(sentences_for(["xx"], presets, 1)) == []
    assert list(sentences_for(languages, (), 1)) == []


def test_words_begin_where_sound_does_without_being_told(nano: Speaking) -> None:
    (said,) = module.say_sentences(nano, [Sentence(LOUD, "en", "en_f1", 1)])
    alignment = read_alignment(nano.checkpoint.folder / "alignment.json")
    one = module.align_sentence(nano, said, alignment.heads, alignment.max_step)
    track = Track(nano.config.frame_rate)
    track.extend(one.path, one.weights)
    pieces = nano.tokenizer.pieces(nano.tokenizer.encode(LOUD))
    words = spoken_words(LOUD, LOUD, verbatim_sources(0, len(LOUD)), pieces).words
    # Onsets by a rule of their own: loud after 50 ms of silence.
    loud = np.abs(said.samples) > 0.03
    quiet = np.concatenate(([0], np.cumsum(loud)))
    onsets = [i / 24000 for i in np.flatnonzero(loud) if i >= _QUIET and quiet[i] == quiet[i - _QUIET]]
    assert len(onsets) >= 3
    for word in words[1:]:
        crossing = track.crossing(word.first)
        assert crossing is not None
        assert min(abs(crossing[1] + alignment.shift_s - onset) for onset in onsets) < 0.12


def test_codes_are_aligned_with_their_text(nano: Speaking) -> None:
    (said,) = module.say_sentences(nano, FEW[:1])
    codes = (said.audio_tokens - NUM_SPECIAL_CODES).T
    alignment = read_alignment(nano.checkpoint.folder / "alignment.json")
    voice = nano.voices.load("en_f1")
    times, timing = align_codes(nano, alignment, LIST, voice, codes)
    assert timing == "attention"
    assert [LIST[time.text_start : time.text_end] for time in times] == LIST.split()
    assert min(time.confidence for time in times) > 0.8
    estimated, timing = align_codes(nano, replace(alignment, heads=()), LIST, voice, codes)
    assert timing == "proportional"
    for measured, guess in zip(times, estimated, strict=True):
        assert abs(measured.start_s - guess.start_s) < 0.3
    with pytest.raises(TextError):
        align_codes(nano, alignment, "...", voice, codes)
    with pytest.raises(CodeRangeError, match="0 frames"):
        align_codes(nano, alignment, LIST, voice, codes[:, :0])
    with pytest.raises(TextError, match="4096"):
        align_codes(nano, alignment, LIST * 200, voice, codes)
