"""Fill the figures of docs/QUALITY.md: python -m benchmarks.quality.page REPORT.json.

Figures stand between two comments on lines of their own, `<!-- figures:NAME -->` and `<!-- /figures -->`. What is
between them is written anew from the report; the rest of the page stays. What the report lacks is "not measured".
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.bars import Verdict, fails_as_it_must, judge_all
from train.texts import LANGUAGES

PAGE = Path(__file__).parents[2] / "docs" / "QUALITY.md"
NOT_MEASURED = "not measured"

# Names in the report, and what the page calls them.
_SYSTEMS = {
    "teacher": "teacher",
    "teacher, 20 dB noise": "teacher, 20 dB noise",
    "teacher, held out": "teacher, held-out voices",
    "teacher, mismatched": "teacher, mismatched sentence",
    "codec": "codec copy",
    "semantic": "semantic-only copy",
    "nano": "nano",
    "clone": "nano, cloned held-out voices",
}
_CONTROLS = {
    "shuffled text": "words shuffled between sentences",
    "swapped codes": "frames of the codec copy in another order",
    "constant text": "always the same sentence",
    "random weights": "random weights in the same shapes",
    "reference echoed": "the reference clip echoed back",
}
_N_GRAMS = ("1-grams", "2-grams", "3-grams", "4-grams")
_MACHINE = ("system", "cpu")
_SETTINGS = ("torch", "seed", "guidance_scale", "noise_scale", "num_euler_steps", "split")
_MEASURES = {"resemblyzer": "Resemblyzer", "timbre_and_pitch": "timbre and pitch"}
_MARKS = {True: "met", False: "missed", None: "not judged"}
_RECOGNISER, _CONTROL = "recogniser: ", "control: "

_OPENING, _CLOSING = "<!-- figures:", "<!-- /figures -->"
_PART = re.compile(rf"^({_OPENING}([\w-]+) -->\n).*?^({_CLOSING})$", re.DOTALL | re.MULTILINE)


class PageError(ValueError):
    """The page or the report is not what is needed to fill the page."""


def fill(page: str, parts: Mapping[str, str]) -> str:
    """Put every part between its markers, which the page has exactly once; the markers and all else stay.

    Raises:
        PageError: a marker is unpaired or not alone on its line, or page and parts do not have the same names.
    """
    names = [match[2] for match in _PART.finditer(page)]
    if not len(names) == page.count(_OPENING) == page.count(_CLOSING):
        found = f"{page.count(_OPENING)} opening and {page.count(_CLOSING)} closing markers, {len(names)} in pairs"
        raise PageError(f"the page has {found}; every part needs one of each, alone on its line; mend the page")
    if sorted(names) != sorted(parts):
        rule = f"it must have {sorted(parts)}, each once"
        raise PageError(f"the page has the parts {sorted(names)}; {rule}; add, remove or rename markers")
    return _PART.sub(lambda match: f"{match[1]}{parts[match[2]]}\n{match[3]}", page)


def make_parts(report: Mapping[str, Any], report_name: str) -> dict[str, str]:
    """Write all parts of the page; a date in the name of the report's file is the date of the figures.

    Raises:
        PageError: it is the report of something else.
    """
    if (kind := report.get("benchmark")) != "quality":
        raise PageError(
            f"the report is of {kind!r}, not 'quality'; make one by python -m benchmarks.quality --json FILE"
        )
    systems: Mapping[str, Any] = report.get("systems", {})
    verdicts = judge_all(report)
    distance = _number(_all(systems, "teacher").get("wrong_distance"))
    return {
        "conditions": write_conditions(report, report_name),
        "results": write_results(verdicts, systems.get("nano", {}).get("by_language", {})),
        "languages": write_languages(systems),
        "overlap": write_overlap(report.get("overlap", {})),
        "validity": write_validity(verdicts),
        "distance": f"Mel-cepstral distance of the teacher in the same voice with another text: {distance}.",
        "speakers": write_speakers(systems),
        "controls": write_controls(report.get("controls", {})),
    }


def write_conditions(report: Mapping[str, Any], report_name: str) -> str:
    """Say where the figures are from, how they were made, and what was left out."""
    date = re.search(r"\d{4}-\d{2}-\d{2}", report_name)
    facts = report.get("machine", {}) | report.get("sampling", {}) | report
    machine = ", ".join(str(facts.get(name, NOT_MEASURED)) for name in _MACHINE)
    settings = "; ".join(f"{name.replace('_', ' ')}: {facts.get(name, NOT_MEASURED)}" for name in _SETTINGS)
    made = f"Report `{report_name}`; date: {date[0] if date else 'not recorded'}; machine: {machine}"
    # Reports of before knew one teacher and left nothing out.
    heard = f"; phonemes in {report['alphabet']}" if "alphabet" in report else ""
    left_out = "".join(f"\nLeft out: {one}." for one in report.get("left_out", ()))
    count = report.get("limit", NOT_MEASURED) or "all"
    return f"{made}; {settings}; sentences of each language: {count}{heard}.{left_out}"


def write_results(verdicts: Sequence[Verdict], nano_languages: Iterable[str]) -> str:
    """Lay out what is held against a bar; the recogniser has a table of its own."""
    rows = [
        (one.what, _number(one.value), one.bar, one.aim, _MARKS[one.passes], one.note)
        for one in verdicts
        if not one.what.startswith((_RECOGNISER, _CONTROL))
    ]
    missing = [language for language in LANGUAGES if language not in nano_languages]
    if 0 < len(missing) < len(LANGUAGES):
        rows.append((f"nano, PER of {', '.join(missing)}", NOT_MEASURED, "", "", _MARKS[None], ""))
    controls = [verdict.passes is True for verdict in verdicts if verdict.what.startswith(_CONTROL)]
    passes = sum(controls) == len(_CONTROLS) if controls else None
    count = f"{sum(controls)} of {len(controls)}" if controls else NOT_MEASURED
    rows.append(("negative controls that fail", count, f"all {len(_CONTROLS)}", "", _MARKS[passes], ""))
    return _table(("what", "figure", "bar", "aim", "met?", "note"), rows)


def write_languages(systems: Mapping[str, Any]) -> str:
    """Lay out phoneme error rates by system and language."""
    rows = []
    for name, label in _SYSTEMS.items():
        by_language = systems.get(name, {}).get("by_language", {})
        rates = [by_language.get(language, {}).get("error_rate") for language in LANGUAGES]
        rows.append((label, *map(_number, [_all(systems, name).get("error_rate"), *rates])))
    return _table(("system", "all", *LANGUAGES), rows)


def write_overlap(overlap: Mapping[str, Any]) -> str:
    """Lay out what of the sentences occurs in the training texts."""
    found = [overlap.get(language) for language in LANGUAGES]
    rows = [
        (size, *(NOT_MEASURED if one is None else _number(one[size], "none") for one in found)) for size in _N_GRAMS
    ]  # a language can have no n-gram of a size: its share is there, and is null
    seen = (NOT_MEASURED if one is None else f"{one['sentences']} of {one['of']}" for one in found)
    table = _table(("", *LANGUAGES), [*rows, ("sentences", *seen)])
    return f"{table}\n\nCompared with: {overlap.get('source', NOT_MEASURED)}."


def write_validity(verdicts: Sequence[Verdict]) -> str:
    """Lay out what the recogniser itself is held to."""
    rows = [
        (verdict.what.removeprefix(_RECOGNISER), _number(verdict.value), verdict.bar, _MARKS[verdict.passes])
        for verdict in verdicts
        if verdict.what.startswith(_RECOGNISER)
    ]
    return _table(("recogniser", "figure", "bar", "met?"), rows)


def write_speakers(systems: Mapping[str, Any]) -> str:
    """Lay out how often each measure finds the right one of four voices."""
    rows = [
        (_SYSTEMS[name], *(_number(_all(systems, name).get(key, {}).get("right_of_4")) for key in _MEASURES))
        for name in ("teacher", "teacher, held out", "nano", "clone")
    ]
    return _table(("right one of 4", *_MEASURES.values()), rows)


def write_controls(controls: Mapping[str, Any]) -> str:
    """Lay out what must fail."""
    rows = []
    for name, label in _CONTROLS.items():
        found = _all(controls, name)
        fails = _MARKS[None] if not found else "yes" if fails_as_it_must(found) else "no"
        rows.append((label, _number(found.get("error_rate")), _number(found.get("retrieved")), fails))
    return _table(("control", "phoneme error rate", "retrieved", "fails as it must?"), rows)


def _all(systems: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return systems.get(name, {}).get("all", {})


def _number(value: float | None, missing: str = NOT_MEASURED) -> str:
    return missing if value is None else f"{value:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the page in place."""
    parser = argparse.ArgumentParser(prog="benchmarks.quality.page", description=__doc__)
    parser.add_argument("report", type=Path, help="JSON of python -m benchmarks.quality")
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(arguments)
    report = json.loads(options.report.read_text(encoding="utf-8"))
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(fill(page, make_parts(report, options.report.name)), encoding="utf-8")


if __name__ == "__main__":
    main()
