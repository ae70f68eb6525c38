"""Speech of quantised models is the same to the bit whatever else runs, and whichever instructions multiply."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoints import BRIEF
from cpu_forms import use_form
from voxtral.engine.options import EngineOptions, parse_activations
from voxtral.model.kernels.cpu.library import FORM_NAMES
from voxtral.tts import VoxtralTTS
from voxtral.types import SamplingOptions, SpeechRequest

TEXTS = ("One.", "Another one, which is longer.", "A third.")


def speak(options: EngineOptions) -> tuple[list[bytes], list[bytes]]:
    """Speak each text alone, and then all side by side."""
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", quantize="int4", options=options) as model:
        alone = [model.synthesize(text, seed=number, max_frames=6) for number, text in enumerate(TEXTS)]
        handles = [model.submit(_request(text, number)) for number, text in enumerate(TEXTS)]
        together = [np.concatenate([chunk.samples for chunk in handle.chunks()]) for handle in handles]
    return [one.samples.tobytes() for one in alone], [samples.tobytes() for samples in together]


def _request(text: str, number: int) -> SpeechRequest:
    return SpeechRequest(text, seed=number, sampling=SamplingOptions(max_frames=6))


@pytest.mark.parametrize("activations", ["exact", "int8"])
def test_samples_do_not_depend_on_neighbours_or_form(activations: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[bytes]] = []
    for name in FORM_NAMES:
        try:
            use_form(name, monkeypatch)
        except pytest.skip.Exception:
            continue
        options = EngineOptions(batch_invariant=True, max_batch=3, activations=parse_activations(activations))
        alone, together = speak(options)
        assert together == alone
        heard.append(alone)
    if not heard:
        pytest.skip("no form runs here")
    assert all(one == heard[0] for one in heard)
