"""Japanese follows the checkpoint: kana where it is listed, today's behaviour where it is not."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Iterator

import pytest

from checkpoints import TINY
from voxtral import VoxtralTTS
from voxtral.errors import JapaneseReaderMissingError, VoxtralWarning
from voxtral.text import kana


@pytest.fixture(scope="module")
def japanese(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VoxtralTTS]:
    """The tiny model, listing Japanese among its languages."""
    folder = tmp_path_factory.mktemp("japanese") / "tiny"
    shutil.copytree(TINY, folder)
    params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    params["languages"] = ["en", "ja"]
    (folder / "params.json").write_text(json.dumps(params), encoding="utf-8")
    model = VoxtralTTS.from_pretrained(folder, device="cpu")
    yield model
    model.close()


@pytest.fixture
def no_dictionary(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "sudachipy", None)
    kana._open_dictionary.cache_clear()
    yield
    kana._open_dictionary.cache_clear()


def _speak(model: VoxtralTTS, text: str, **options: object) -> list[tuple[int, int]]:
    audio = model.synthesize(text, language="ja", voice="neutral_female", seed=1, max_frames=2, **options)
    return [(segment.text_start, segment.text_end) for segment in audio.segments]


@pytest.mark.usefixtures("no_dictionary")
@pytest.mark.parametrize("normalize", ["off", "auto"])
def test_kana_and_numbers_are_spoken_without_the_extra(japanese: VoxtralTTS, normalize: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _speak(japanese, "りんごを 3つ ください。", normalize=normalize) == [(0, 13)]


@pytest.mark.usefixtures("no_dictionary")
@pytest.mark.parametrize("normalize", ["off", "auto"])
def test_kanji_without_the_extra_is_refused_before_any_work(japanese: VoxtralTTS, normalize: str) -> None:
    with pytest.raises(JapaneseReaderMissingError, match="offset 2"):
        _speak(japanese, "あ、日本です。", normalize=normalize)
    assert japanese.engine.num_active == 0


@pytest.mark.usefixtures("no_dictionary")
def test_other_languages_of_the_same_model_may_hold_kanji(japanese: VoxtralTTS) -> None:
    assert len(japanese.synthesize("This is 漢字.", language="en", seed=1, max_frames=2)) > 0


@pytest.mark.usefixtures("no_dictionary")
def test_a_model_without_japanese_warns_and_takes_kanji_as_it_stands(tts: VoxtralTTS) -> None:
    with pytest.warns(VoxtralWarning, match="not trained on Japanese"):
        assert _speak(tts, "日本は3つ。", normalize="auto") == [(0, 6)]


@pytest.mark.usefixtures("no_dictionary")
def test_long_kana_is_cut_at_half_the_length_of_other_texts(japanese: VoxtralTTS) -> None:
    sentence = "きょうは とても いい てんきです。"
    spans = _speak(japanese, sentence * 15)
    assert len(spans) > 1
    assert spans[0][0] == 0
    assert spans[-1][1] == len(sentence) * 15
    assert all(end - start <= 200 and end % len(sentence) == 0 for start, end in spans)


def test_kanji_is_spoken_with_the_extra(japanese: VoxtralTTS) -> None:
    pytest.importorskip("sudachipy", reason='kanji needs the extra: pip install "voxtral-tts[ja]"')
    pytest.importorskip("sudachidict_core", reason='kanji needs the extra: pip install "voxtral-tts[ja]"')
    text = "今日は良い天気ですから、公園へ行ってお弁当を3つ食べましょう。"
    spans = _speak(japanese, text * 6)
    assert spans[0][0] == 0
    assert spans[-1][1] == len(text) * 6
    assert all(end % len(text) == 0 for _, end in spans)
