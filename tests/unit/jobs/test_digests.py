"""Digests stay what they were: journals of users hold them, and another digest has a file made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from voxtral.jobs.digests import Digests, fingerprint
from voxtral.types import SamplingOptions, SpeechRequest, VoiceBlend
from voxtral.voices.prompt import VoicePrompt

# As version 0.1.0 wrote them into journals.
MODEL = "362274e4cdda2d227011641fdac787c6298052dbbde003c276449d1bbae74bc2"
KNOWN = {
    "plain": "ada2463fffb7a7235d47230abfc103f80f618be235bd21c3c6adc64a74e7eaae",
    "options": "4613bae90b1b562d65e5eec5f0e16dcc4ca187e37f7a60af72563cca6b830985",
    "voice": "6858ad72e0d9625e3bbe829d7afb32534cd1e0fdeaeb01e689ff64c308b0c253",
    "clip": "2b189e8e88c0938f1391e476021b1728b57069b02aaf4e1651017fa19b25a343",
    "missing": "e70d3b241740d36395d4eabd851bf8717569e07ca0e578368f8b795c7f3f029a",
}
PLAIN_AS_MP3 = "4f8df1b4adc3ee2ef88be5f3662014e12a96086692e22290e84e80baff05b3d8"


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A checkpoint whose weights are large enough to be read in samples."""
    folder = tmp_path / "model"
    (folder / "voice_embedding").mkdir(parents=True)
    size = 5 * 2**20
    (folder / "params.json").write_text('{"dim": 4}')
    (folder / "consolidated.safetensors").write_bytes(bytes(range(251)) * (size // 251) + bytes(size % 251))
    (folder / "voice_embedding" / "a.pt").write_bytes(b"voice")
    (folder / "README.md").write_text("does not count")
    (tmp_path / "v.safetensors").write_bytes(b"a saved voice")
    (tmp_path / "c.wav").write_bytes(b"a clip")
    return folder


@pytest.fixture
def digests(model_folder: Path) -> Digests:
    return Digests(model_folder, ["a"], "wav")


def test_what_older_journals_hold_is_known_again(model_folder: Path, digests: Digests, tmp_path: Path) -> None:
    sampling = SamplingOptions(guidance_scale=1.5, noise_scale=0, num_euler_steps=4, max_frames=100)
    requests = {
        "plain": SpeechRequest("Hello.", seed=1),
        "options": SpeechRequest(
            "Grüße, 你好.",
            language="German",
            voice="a",
            normalize="auto",
            seed=2**63 - 1,
            speed=2,
            pause_s=0.5,
            sampling=sampling,
        ),
        "voice": SpeechRequest("Hello.", voice=str(tmp_path / "v.safetensors"), seed=1),
        "clip": SpeechRequest("Hello.", reference_audio=str(tmp_path / "c.wav"), seed=1),
        "missing": SpeechRequest("Hello.", voice="missing.safetensors", seed=1),
    }
    assert fingerprint(model_folder) == MODEL
    assert {name: digests.of(request) for name, request in requests.items()} == KNOWN
    assert Digests(model_folder, ["a"], "mp3").of(requests["plain"]) == PLAIN_AS_MP3


def test_the_same_thing_said_in_another_way_is_the_same(digests: Digests, tmp_path: Path) -> None:
    for clip in (tmp_path / "c.wav", b"a clip", bytearray(b"a clip")):
        assert digests.of(SpeechRequest("Hello.", reference_audio=clip, seed=1)) == KNOWN["clip"]
    assert digests.of(SpeechRequest("Hello.", voice=tmp_path / "v.safetensors", seed=1)) == KNOWN["voice"]
    assert digests.of(SpeechRequest("Hello.", seed=np.int64(1))) == KNOWN["plain"]  # type: ignore[arg-type]
    assert digests.of(SpeechRequest("Hello.", seed=1, deadline_s=5.0)) == KNOWN["plain"]


def test_what_changes_no_sample_does_not_count_and_what_does_counts(digests: Digests) -> None:
    for changes in ({"timestamps": True}, {"verify": "report"}, {"max_attempts": 7}, {"keep_to_text": True}):
        assert digests.of(SpeechRequest("Hello.", seed=1, **changes)) == KNOWN["plain"], changes
    heard: list[dict[str, Any]] = [
        {"verify": "retry"},
        {"verify": "retry", "max_attempts": 7},
        {"keep_to_text": False},
        {"keep_to_text": False, "verify": "retry"},
    ]
    assert len({KNOWN["plain"], *(digests.of(SpeechRequest("Hello.", seed=1, **each)) for each in heard)}) == 5


def test_voices_and_clips_in_memory_count_by_what_is_in_them(digests: Digests) -> None:
    def of(voice: Any = None, clip: Any = None) -> str:
        return digests.of(SpeechRequest("Hello.", voice=voice, reference_audio=clip, seed=1))

    def voice(name: str, value: float, language: str) -> VoicePrompt:
        return VoicePrompt(name, torch.full((2, 3), value), metadata={"language": language})

    assert of(voice("a", 1.0, "en")) == of(voice("b", 1.0, "en"))
    assert len({of(), of(voice("a", 1.0, "en")), of(voice("a", 2.0, "en")), of(voice("a", 1.0, "fr"))}) == 4
    samples = np.arange(8, dtype=np.float32)
    assert of(clip=(samples, 8000)) == of(clip=(samples.copy(), 8000))
    assert len({of(clip=(samples, 8000)), of(clip=(samples + 1, 8000)), of(clip=(samples, 9000))}) == 3


def test_blends_count_by_their_voices_and_weights(digests: Digests, tmp_path: Path) -> None:
    def of(voice: Any) -> str:
        return digests.of(SpeechRequest("Hello.", voice=voice, seed=1))

    saved = tmp_path / "b.safetensors"
    saved.write_bytes(b"one")
    assert of(f"a:.5+{saved}:2") == of(f" a:0.5 + {saved}:2") == of(VoiceBlend((("a", 0.5), (saved, 2.0))))
    others = [of(voice) for voice in ("a", f"a:0.5+{saved}", f"{saved}:2+a:0.5", "a+", "b+c")]
    assert len({*others, of(f"a:.5+{saved}:2")}) == 6
    saved.write_bytes(b"another")
    assert _anew(digests).of(SpeechRequest("Hello.", voice=f"a:0.5+{saved}", seed=1)) != others[1]


def _anew(digests: Digests) -> Digests:
    """Forget what files were read."""
    digests._files.clear()
    return digests


def test_what_is_of_a_wrong_kind_is_digested_all_the_same(digests: Digests, tmp_path: Path) -> None:
    for odd in ({"text": 5}, {"text": "a", "voice": 3.5}, {"text": "a", "voice": str(tmp_path)}):
        assert len(digests.of(SpeechRequest(**odd))) == 64
    for clip in ((), ([[1], [2, 3]], 8000), object(), "no\0path"):
        assert len(digests.of(SpeechRequest("a", reference_audio=clip))) == 64


def test_a_text_counts_as_it_is_spoken(digests: Digests) -> None:
    def of(text: str, **options: Any) -> str:
        return digests.of(SpeechRequest(text, seed=1, **options))

    assert of("Hello.", normalize="off") == of("Hello.", normalize="clean") == KNOWN["plain"]
    assert of("\u00a0Hello.\r\n") == of("Ｈｅｌｌｏ．") == KNOWN["plain"]
    assert of("\u00a0Hello.", normalize="off") != KNOWN["plain"]
    # A language that only the cleaned text tells chooses the voice.
    german = "Das ist ein Satz, und hier kommt noch einer."
    assert of("\u00ad".join(german)) == of(german)
    assert of("Hello.", normalize="auto") == digests.before_cleaning(SpeechRequest("Hello.", seed=1, normalize="auto"))
    assert of("Hello\u00a0ｉｔ.", normalize="auto") != digests.before_cleaning(
        SpeechRequest("Hello\u00a0ｉｔ.", seed=1, normalize="auto")
    )
