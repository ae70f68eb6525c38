"""The model inside the package: size, languages, voices, cloning. Nothing depends on its exact samples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving import serving
from spoken_clips import spoken
from voxtral import VoxtralTTS
from voxtral.config import PUBLISHED_LANGUAGES
from voxtral.loading.locate import locate_model
from voxtral.text.language import resolve_language
from voxtral.types import SpokenLanguage


@pytest.fixture(scope="module")
def nano() -> Iterator[VoxtralTTS]:
    # Warnings are errors here: nothing has to be said of it.
    with VoxtralTTS.from_pretrained("nano", device="cpu") as model:
        yield model


def test_it_is_found_by_its_name_and_small() -> None:
    folder = locate_model("nano", allow_download=False)
    sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    assert sum(sizes) <= 24e6


def test_it_is_loaded_quickly(nano: VoxtralTTS) -> None:
    started = time.process_time()
    VoxtralTTS.from_pretrained("nano", device="cpu").close()
    # After the first time, which pays for imports, it takes a twentieth of that.
    assert time.process_time() - started < 1


def test_it_speaks_ten_languages_with_two_voices_each(nano: VoxtralTTS) -> None:
    languages = set(nano.config.languages)
    assert languages == {*PUBLISHED_LANGUAGES, "ja"}
    assert len(nano.config.languages) == len(languages)
    for language in languages:
        names = [voice.name for voice in nano.voices if voice.language == language]
        assert {f"{language}_f1", f"{language}_m1"} <= set(names)
        assert sum(voice.is_default for voice in nano.voices if voice.language == language) == 1


@pytest.mark.parametrize(
    ("text", "language"),
    [("Hello.", "en"), ("Bonjour.", "French"), ("こんにちは。", "ja"), ("नमस्ते।", "hi"), ("مرحبا.", "ar")],
)
def test_each_language_has_its_own_default_voice_and_no_warning(nano: VoxtralTTS, text: str, language: str) -> None:
    audio = nano.synthesize(text, language, seed=1, max_frames=4)
    assert len(audio) % 1920 == 0
    assert len(audio) > 0
    assert np.isfinite(audio.numpy()).all()
    code = resolve_language(language)
    (default,) = (voice.name for voice in nano.voices if voice.language == code and voice.is_default)
    named = nano.synthesize(text, voice=default, seed=1, max_frames=4)
    assert np.array_equal(audio.numpy(), named.numpy())


GERMAN = "Das ist ein kurzer Satz, und er ist nicht auf Englisch."


def test_a_text_without_a_language_gets_the_voice_of_its_own(nano: VoxtralTTS) -> None:
    audio = nano.synthesize(GERMAN, seed=1, max_frames=2)
    assert audio.language == SpokenLanguage("de", "text")
    assert np.array_equal(audio.numpy(), nano.synthesize(GERMAN, "de", seed=1, max_frames=2).numpy())
    (first, second) = nano.synthesize_batch([GERMAN, {"text": GERMAN, "voice": "en_m1"}], max_frames=2)
    assert [part.language and part.language.code for part in (first, second)] == ["de", "en"]
    assert nano.synthesize("Hamburg", seed=1, max_frames=2).language == SpokenLanguage("en", "default")


def test_the_dialects_of_http_choose_and_tell_the_language(nano: VoxtralTTS) -> None:
    common = {"seed": 1, "max_frames": 2}
    with serving(nano) as server, server.client() as client:

        def heads(path: str, **fields: object) -> list[str]:
            answer = client.post(path, json={**common, **fields})
            assert answer.status_code == 200, answer.text
            names = ("language", "language-source", "voice")
            return [answer.headers[f"x-voxtral-{name}"] for name in names]

        for path, key in (("/synthesize", "text"), ("/v1/audio/speech", "input")):
            assert heads(path, **{key: GERMAN}) == ["de", "text", "de_f1"]
            assert heads(path, **{key: GERMAN}, language="fr")[:2] == ["fr", "given"]
            assert heads(path, **{key: GERMAN}, voice="en_m1") == ["en", "voice", "en_m1"]
            assert heads(path, **{key: "Hamburg"})[:2] == ["en", "default"]
            # OpenAI's names stand for a voice of any language.
            assert heads(path, **{key: GERMAN}, voice="alloy")[2].startswith("de_f")
            warned = client.post(path, json={**common, key: "Все люди рождаются свободными."})
            assert "Cyrillic" in warned.headers["x-voxtral-warning"]


TWIN = "Hello there. My friend."


@pytest.mark.parametrize("kind", ["\u00a0", "\t", "  ", "\u3000", "full width"], ids=ascii)
def test_a_text_that_looks_the_same_sounds_the_same(nano: VoxtralTTS, kind: str) -> None:
    is_wide = kind == "full width"
    odd = TWIN.translate({code: code + 0xFEE0 for code in range(33, 127)}) if is_wide else TWIN.replace(" ", kind)
    twin = nano.synthesize(TWIN, seed=3, max_frames=6, normalize="off").numpy()
    assert np.array_equal(nano.synthesize(f" {odd}\r\n", seed=3, max_frames=6).numpy(), twin)
    assert not np.array_equal(nano.synthesize(odd, seed=3, max_frames=6, normalize="off").numpy(), twin)


def test_http_cleans_unless_it_is_told_not_to(nano: VoxtralTTS) -> None:
    common = {"seed": 1, "max_frames": 2, "response_format": "pcm"}
    for options, is_twin in (({}, True), ({"normalize": "off"}, False)):
        with serving(nano, **options) as server, server.client() as client:
            twin = client.post("/synthesize", json={**common, "text": "Hello there."}).raise_for_status().content
            answers = [
                client.post(path, json={**common, key: "Hello\u00a0there.", **more}).raise_for_status().content
                for path, key, more in (
                    ("/synthesize", "text", {}),
                    ("/v1/audio/speech", "input", {}),
                    ("/v1/audio/speech", "input", {"normalize": "clean"}),
                    ("/v1/audio/speech", "input", {"normalize": "off"}),
                )
            ]
            assert [answer == twin for answer in answers] == [is_twin, is_twin, True, False]


def test_it_clones(nano: VoxtralTTS) -> None:
    voice = nano.create_voice((spoken(3.0), 24000))
    assert voice.rows.shape == (39, nano.config.backbone.dim)
    assert len(nano.synthesize("In that voice.", voice=voice, seed=1, max_frames=4)) > 0
