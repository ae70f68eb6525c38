"""The judge from outside: what strangers' instruments hear in clips, teacher and controls beside the model.

    python -m benchmarks.quality.outside CLIPS --whisper build/nano4/whisper --json benchmarks/results/outside-DATE.json

Runs in the environment of `recipes/tools.txt` on what `clips.py` wrote. For each system and language: word and
character errors of whisper-base with the spread of 95 % of resamples, DNSMOS, median and deviation of the pitch, and
CPU seconds a second of speech. `--earlier REPORT` shows what an earlier report says of others beside them. `--phonemes
SYSTEM REPORT` puts the phoneme error rate beside it, from a report of
`python -m benchmarks.quality`. `--page` only writes a report into docs/QUALITY.md, and runs where the product is
installed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.quality.clips import LANGUAGES, SAMPLE_RATE, Clip, read_all_clips, read_samples
from benchmarks.quality.heard import Heard, compare, summarise
from benchmarks.quality.instruments import Dnsmos, Whisper, measure_melody

# A control that is understood shows that the judge hears something else than the words.
CONTROL_BAR = 0.6
PAGE = Path(__file__).parents[2] / "docs" / "QUALITY.md"
_PART = re.compile("(?<=<!-- outside -->\n).*?(?=<!-- /outside -->)", re.DOTALL)
_CONTROL = "control "


def judge_language(folder: Path, clips: Sequence[Clip], whisper: Whisper, dnsmos: Dnsmos) -> dict[str, Any]:
    """Judge the clips of one system in one language."""
    samples = [read_samples(folder, clip) for clip in clips]
    written = [whisper.hear(each, SAMPLE_RATE, clip.language) for each, clip in zip(samples, clips, strict=True)]
    heard = [compare(clip.text, text, clip.language) for clip, text in zip(clips, written, strict=True)]
    melodies = [melody for each in samples if (melody := measure_melody(each, SAMPLE_RATE))]
    seconds = sum(clip.seconds for clip in clips)
    return {
        "sentences": len(clips),
        "seconds": round(seconds, 1),
        "cpu_per_second": round(sum(clip.cpu_seconds for clip in clips) / seconds, 3),
        "rates": rounded(asdict(summarise(heard))),
        "sound": rounded(asdict(dnsmos.rate(samples, SAMPLE_RATE))),
        "pitch_hertz": round(fmean(melody.hertz for melody in melodies), 1) if melodies else None,
        "pitch_deviation": round(fmean(melody.deviation for melody in melodies), 2) if melodies else None,
        "heard": [
            {"number": clip.number, "text": text, **asdict(each)}
            for clip, text, each in zip(clips, written, heard, strict=True)
        ],
    }


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Round to what a figure is good for."""
    return {name: round(value, 3) for name, value in values.items()}


def judge(folder: Path, whisper: Whisper, dnsmos: Dnsmos, report: Path) -> dict[str, Any]:
    """Judge all clips of a folder; what a report of an earlier run has stays as it is."""
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    systems = found.setdefault("systems", {})
    for system, clips in read_all_clips(folder):
        languages = systems.setdefault(system, {})
        for language in LANGUAGES:
            chosen = sorted((clip for clip in clips if clip.language == language), key=lambda clip: clip.number)
            if not chosen or languages.get(language, {}).get("sentences") == len(chosen):
                continue
            languages[language] = judge_language(folder, chosen, whisper, dnsmos)
            report.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            print(system, language, languages[language]["rates"], languages[language]["sound"], file=sys.stderr)
    return found


def take_earlier(report: dict[str, Any], earlier: Mapping[str, Any], judged: Collection[str]) -> None:
    """Take systems of an earlier report that are not judged anew; controls are always those of what is judged."""
    systems, phonemes = report.setdefault("systems", {}), report.setdefault("phonemes", {})
    for system, languages in earlier["systems"].items():
        if system not in judged and not system.startswith(_CONTROL) and system not in systems:
            systems[system] = languages
            if system in earlier.get("phonemes", {}):
                phonemes[system] = earlier["phonemes"][system]


def control_rates(systems: Mapping[str, Any]) -> dict[str, float]:
    """Word errors of each control over its languages: each must be at least `CONTROL_BAR`."""
    rates = {}
    for system, languages in systems.items():
        if system.startswith(_CONTROL):
            sentences = [
                Heard(each["word_edits"], each["words"], each["character_edits"], each["characters"])
                for figures in languages.values()
                for each in figures["heard"]
            ]
            rates[system.removeprefix(_CONTROL)] = round(summarise(sentences).words, 3)
    return rates


def read_phoneme_rates(path: Path) -> dict[str, float]:
    """Read the phoneme error rate of nano in each language from a report of `python -m benchmarks.quality`."""
    nano = json.loads(path.read_text(encoding="utf-8"))["systems"]["nano"]["by_language"]
    return {language: figures["error_rate"] for language, figures in nano.items()}


def tables(report: Mapping[str, Any]) -> str:
    """Write a report as Markdown."""
    systems, phonemes = report["systems"], report.get("phonemes", {})
    lines = ["| system | | " + " | ".join(LANGUAGES) + " |", "| --- | --- |" + " --- |" * len(LANGUAGES)]
    for system in (name for name in systems if not name.startswith(_CONTROL)):
        rows = {label: [show(systems[system], code) for code in LANGUAGES] for label, show in _ROWS.items()}
        if system in phonemes:
            known = phonemes[system]
            rows["phoneme error"] = [f"{known[code]:.2f}" if code in known else "-" for code in LANGUAGES]
        lines += [f"| {system} | {label} | " + " | ".join(cells) + " |" for label, cells in rows.items()]
    lines += ["", "| control | word error | fails as it must? |", "| --- | --- | --- |"]
    for name, rate in control_rates(systems).items():
        lines.append(f"| {name} | {rate:.2f} | {'yes' if rate >= CONTROL_BAR else 'NO'} |")
    return "\n".join(lines) + "\n"


def _show_words(languages: Mapping[str, Any], code: str) -> str:
    # Japanese has no spaces to tell words by.
    return "-" if code == "ja" or code not in languages else _with_spread(languages[code]["rates"], "words")


def _show_characters(languages: Mapping[str, Any], code: str) -> str:
    return _with_spread(languages[code]["rates"], "characters") if code in languages else "-"


def _show_sound(languages: Mapping[str, Any], code: str) -> str:
    return "{ovrl:.2f} / {sig:.2f}".format(**languages[code]["sound"]) if code in languages else "-"


def _show_pitch(languages: Mapping[str, Any], code: str) -> str:
    deviation = languages.get(code, {}).get("pitch_deviation")
    return "-" if deviation is None else f"{deviation:.1f}"


def _with_spread(rates: Mapping[str, float], name: str) -> str:
    return f"{rates[name]:.2f} ± {rates[name + '_spread']:.2f}"


_ROWS = {
    "word error": _show_words,
    "character error": _show_characters,
    "DNSMOS ovrl / sig": _show_sound,
    "pitch deviation, semitones": _show_pitch,
}


def fill_page(page: str, report: Mapping[str, Any]) -> str:
    """Write a report between its marks, and leave all else."""
    return _PART.sub(lambda _: tables(report), page, count=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge clips, or write a report into the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="?", help="folder that benchmarks.quality.clips wrote")
    parser.add_argument("--whisper", type=Path, help="folder of the recogniser, which train.packages makes")
    parser.add_argument("--json", type=Path, required=True, help="the report; what it has already is kept")
    parser.add_argument("--earlier", type=Path, help="a report of which other systems are shown, too")
    parser.add_argument("--phonemes", nargs=2, metavar=("SYSTEM", "REPORT"), help="phoneme error rates beside a system")
    parser.add_argument("--page", action="store_true", help="only write the report into docs/QUALITY.md")
    options = parser.parse_args(arguments)
    if not options.page:
        if options.clips is None or options.whisper is None:
            parser.error("CLIPS and --whisper are needed to judge; give both, or --page")
        judge(options.clips, Whisper(options.whisper), Dnsmos(), options.json)
    report = json.loads(options.json.read_text(encoding="utf-8"))
    if options.earlier and options.clips is not None:
        judged = [system for system, _ in read_all_clips(options.clips)]
        take_earlier(report, json.loads(options.earlier.read_text(encoding="utf-8")), judged)
        options.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if options.phonemes:
        report.setdefault("phonemes", {})[options.phonemes[0]] = read_phoneme_rates(Path(options.phonemes[1]))
        options.json.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    if options.page:
        PAGE.write_text(fill_page(PAGE.read_text(encoding="utf-8"), report), encoding="utf-8")
    print(tables(report), end="")


if __name__ == "__main__":
    main()
