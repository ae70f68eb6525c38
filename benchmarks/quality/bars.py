"""The bars of nano, and who passes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.quality.judge import REPORTED_ONLY

MAX_ERROR_RATE = 0.25
MIN_RETRIEVED = 0.95
MIN_LENGTH_RATIO, MAX_LENGTH_RATIO = 0.7, 1.4
CONTROL_ERROR_RATE, CONTROL_RETRIEVED = 0.6, 0.5


@dataclass(frozen=True)
class Verdict:
    """One figure against its bar.

    Attributes:
        what: that was measured.
        value: the figure; None if it was not measured.
        bar: the rule, as "<= 0.25".
        aim: what would be good; empty where the bar says all.
        passes: None where there is nothing to judge.
        note: such as the language that is worst.
    """

    what: str
    value: float | None
    bar: str
    aim: str = ""
    passes: bool | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return asdict(self)


def at_most(what: str, value: float | None, limit: float, aim: str = "", note: str = "") -> Verdict:
    """Judge a figure that must not be above a limit."""
    return Verdict(what, value, f"<= {limit:g}", aim, None if value is None else value <= limit, note)


def at_least(what: str, value: float | None, limit: float, aim: str = "", note: str = "") -> Verdict:
    """Judge a figure that must not be below a limit."""
    return Verdict(what, value, f">= {limit:g}", aim, None if value is None else value >= limit, note)


def judge_all(report: Mapping[str, Any]) -> list[Verdict]:
    """Hold everything that a report has against the bars; what it lacks is marked as not measured."""
    systems: Mapping[str, Any] = report.get("systems", {})
    return [
        *judge_recogniser(systems),
        *_judge_codec(systems, report.get("codebook", {})),
        *_judge_nano(systems),
        *_judge_cloning(systems),
        *_judge_long(report.get("long_text", ()), report.get("stops")),
        *_judge_controls(report.get("controls", {})),
    ]


def _figure(systems: Mapping[str, Any], system: str, *path: str) -> Any:
    value: Any = systems.get(system, {}).get("all", {})
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def judge_recogniser(systems: Mapping[str, Any]) -> list[Verdict]:
    """Hold what the recogniser makes of the teacher against its own bars."""
    return [
        at_most("recogniser: teacher, PER", _figure(systems, "teacher", "error_rate"), 0.08),
        at_least("recogniser: mismatched sentence, PER", _figure(systems, "teacher, mismatched", "error_rate"), 0.80),
        at_most(
            "recogniser: teacher at 20 dB noise, PER", _figure(systems, "teacher, 20 dB noise", "error_rate"), 0.15
        ),
        at_most("recogniser: teacher, held-out voices, PER", _figure(systems, "teacher, held out", "error_rate"), 0.12),
    ]


def _judge_codec(systems: Mapping[str, Any], codebook: Mapping[str, Any]) -> list[Verdict]:
    use = codebook.get("training_use", codebook.get("copies_use"))
    where = "over the training codes" if "training_use" in codebook else "over the copies alone"
    return [
        at_most("codec copy, PER", _figure(systems, "codec", "error_rate"), 0.12, "0.07"),
        at_most("semantic-only copy, PER", _figure(systems, "semantic", "error_rate"), 0.30, "0.20"),
        at_least("semantic codes in use", use, 0.80, note=where if use is not None else ""),
    ]


def _judge_nano(systems: Mapping[str, Any]) -> list[Verdict]:
    by_language: Mapping[str, Any] = systems.get("nano", {}).get("by_language", {})
    verdicts: list[Verdict] = []
    for language, summary in by_language.items():
        rate = summary["error_rate"]
        if language in REPORTED_ONLY:
            verdicts.append(Verdict(f"nano {language}, PER", rate, "reported"))
        else:
            verdicts.append(at_most(f"nano {language}, PER", rate, MAX_ERROR_RATE, "0.12"))
    if not verdicts:
        verdicts.append(at_most("nano, PER of each language", None, MAX_ERROR_RATE, "0.12"))
    judged = {name: summary for name, summary in by_language.items() if name not in REPORTED_ONLY}
    worst = min(judged, key=lambda name: judged[name]["retrieved"]) if judged else ""
    note = f"worst: {worst} {judged[worst]['retrieved']:.2f}" if worst else ""
    # Every utterance counts here, the Japanese ones too.
    timed = [summary for summary in by_language.values() if "length_ratio_min" in summary]
    shortest = [summary["length_ratio_min"] for summary in timed]
    longest = [summary["length_ratio_max"] for summary in timed]
    return [
        *verdicts,
        at_least("nano, retrieved of 401", _figure(systems, "nano", "retrieved"), MIN_RETRIEVED, "1", note),
        at_least("nano, shortest utterance of all", min(shortest, default=None), MIN_LENGTH_RATIO, "0.85"),
        at_most("nano, longest utterance of all", max(longest, default=None), MAX_LENGTH_RATIO, "1.15"),
        at_most("nano, mel-cepstral distance", _figure(systems, "nano", "distance"), 3.0),
        at_least("nano, right text nearer than wrong", _figure(systems, "nano", "right_is_nearer"), 0.95),
        at_least(
            "nano, right one of 4 presets (Resemblyzer)", _figure(systems, "nano", "resemblyzer", "right_of_4"), 0.95
        ),
    ]


def _judge_cloning(systems: Mapping[str, Any]) -> list[Verdict]:
    by_model = _figure(systems, "clone", "resemblyzer", "right_of_4")
    own = _figure(systems, "clone", "timbre_and_pitch", "right_of_4")
    note = "" if by_model is not None else "Resemblyzer is not installed, or clones were not measured"
    return [
        at_least("cloning, right one of 4 (Resemblyzer)", by_model, 0.60, "0.90", note),
        at_least("cloning, right one of 4 (timbre and pitch)", own, 0.60, "0.90"),
    ]


def _judge_long(long_texts: Sequence[Mapping[str, Any]], stops: Mapping[str, Any] | None) -> list[Verdict]:
    judged = [one for one in long_texts if one["language"] not in REPORTED_ONLY]
    silence = max((one["longest_silence_s"] for one in judged), default=None)
    sentences = sum(one["num_sentences"] for one in judged)
    retrieved = sum(one["num_retrieved"] for one in judged) / sentences if judged else None
    ratios = [one["length_ratio"] for one in judged if one["length_ratio"] is not None]
    spoken = sum(not one["has_failed"] for one in judged) / len(judged) if judged else None
    return [
        at_least("60 s of text, spoken to its end", spoken, 1.0),
        at_most("60 s of text, longest silence in s", silence, 1.5),
        at_least("60 s of text, sentences retrieved", retrieved, 1.0),
        at_least("60 s of text, shortest", min(ratios, default=None), MIN_LENGTH_RATIO),
        at_most("60 s of text, longest", max(ratios, default=None), MAX_LENGTH_RATIO),
        at_least(f"stops by itself, of {stops['num_texts'] if stops else 500}", stops["share"] if stops else None, 1.0),
    ]


def fails_as_it_must(summary: Mapping[str, Any]) -> bool:
    """Tell whether a control is far from both bars of intelligibility: missing them by a hair would prove nothing."""
    return summary["error_rate"] >= CONTROL_ERROR_RATE and summary["retrieved"] <= CONTROL_RETRIEVED


def _judge_controls(controls: Mapping[str, Any]) -> list[Verdict]:
    return [
        Verdict(
            what=f"control: {name}",
            value=system["all"]["error_rate"],
            bar="must fail",
            passes=fails_as_it_must(system["all"]),
            note=f"retrieved {system['all']['retrieved']:.2f}",
        )
        for name, system in controls.items()
    ]
