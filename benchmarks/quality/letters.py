"""Whether nano has a sound for the name of a letter: python -m benchmarks.quality.letters --json OUT.

Each letter is spoken alone, in both presets of its language; so are short words of as many phonemes, for comparison.
What the recogniser hears is compared with what the teacher says, and the teacher's own audio with the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.quality.cases import Studio
from benchmarks.quality.letter_texts import list_probes
from benchmarks.quality.options import (
    add_model_option,
    add_recogniser_option,
    add_teacher_options,
    open_studio,
    require_sound,
)
from benchmarks.quality.phonemes import error_rate
from benchmarks.report import find_commit
from train.corpus import CorpusError
from train.recogniser import Recogniser
from train.teacher import TeacherError
from train.texts import LANGUAGES
from voxtral.device import describe_machine
from voxtral.engine.options import EngineOptions
from voxtral.errors import VoxtralWarning
from voxtral.tts import VoxtralTTS


class Prober:
    """Speaks short texts, and hears them from nano and from the teacher.

    Args:
        tts: nano.
        recogniser: hears.
        studio: has the teacher, who is heard, too.
    """

    def __init__(self, tts: VoxtralTTS, recogniser: Recogniser, studio: Studio) -> None:
        self._tts = tts
        self._recogniser = recogniser
        self._studio = studio
        self._names = {number: name for name, number in recogniser.phonemes.ids.items()}

    def probe(self, text: str, language: str, voice: str) -> dict[str, object]:
        """Say what is to be heard of a text, and what was, of nano and of the teacher: mnemonics and error rates."""
        samples, wanted = self._studio.say(text, language, voice)
        spoken = self._tts.synthesize(text, language=language, voice=voice, seed=0).samples
        found: dict[str, object] = {"text": text, "language": language, "voice": voice, "wanted": self._spell(wanted)}
        for who, audio in (("nano", spoken), ("teacher", samples)):
            heard = self._recogniser.transcribe(np.asarray(audio, np.float32), language)
            found[who] = self._spell(heard)
            found[f"{who}_error"] = round(error_rate(heard, wanted), 3)
        return found

    def _spell(self, numbers: Sequence[int]) -> str:
        return " ".join(self._names[number] for number in numbers)


def probe_all(prober: Prober, tts: VoxtralTTS, languages: Sequence[str]) -> list[dict[str, object]]:
    """Probe the letters and the words of languages in all presets."""
    found: list[dict[str, object]] = []
    for language in languages:
        voices = [voice.name for voice in tts.voices if voice.language == language]
        texts = list_probes(language)
        found += [{"kind": kind} | prober.probe(text, language, voice) for kind, text in texts for voice in voices]
    return found


def summarise(found: Sequence[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Average the error rates by language, of letters and of words, nano and teacher."""
    table: dict[str, dict[str, float]] = {}
    for language in dict.fromkeys(str(one["language"]) for one in found):
        some = [one for one in found if one["language"] == language]
        table[language] = {
            f"{who}, {kind}s": round(float(np.mean([one[f"{who}_error"] for one in some if one["kind"] == kind])), 3)
            for who in ("nano", "teacher")
            for kind in ("letter", "word")
        }
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Probe, and write what was asked for."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add_model_option(parser)
    add_recogniser_option(parser)
    add_teacher_options(parser)
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=list(LANGUAGES))
    parser.add_argument("--json", type=Path, help="file for the report")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    engine = EngineOptions(max_batch=1, batch_invariant=True, num_threads=1)
    recogniser = Recogniser.load(options.recogniser)
    try:
        studio = open_studio(options, recogniser.phonemes, with_word_lists=False)
        require_sound(studio, "hearing letters")
    except (CorpusError, TeacherError) as error:
        parser.exit(2, f"{error}\n")
    with VoxtralTTS.from_pretrained(options.model, device="cpu", options=engine) as tts:
        found = probe_all(Prober(tts, recogniser, studio), tts, options.languages)
    table = summarise(found)
    content = {
        "benchmark": "letters",
        "commit": find_commit(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ"),
        "machine": describe_machine(),
        "error_rates": table,
        "utterances": found,
    }
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for language, rates in table.items():
        print(language, rates)


if __name__ == "__main__":
    main()
