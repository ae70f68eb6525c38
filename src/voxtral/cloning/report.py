"""What an evaluation found, as JSON and as a table for people. No torch.

The JSON holds no names of people, no paths and no texts: it is meant to be sent, and to be kept in an encoder's file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from voxtral import __version__
from voxtral.cloning.differences import Values, least_difference, not_told_from
from voxtral.cloning.judge import Agreement, Clone, Copy
from voxtral.cloning.options import STEPS_FROM_ENCODER

FORMAT = "voxtral-evaluation-1"

# Rows: what is judged, and controls that tell what figures mean.
ENCODER = "this encoder"
REFINED = f"this encoder + {STEPS_FROM_ENCODER} steps"
INVERSION = "inversion only"
TRUE = "true codes"
OWN = "the model's own encoder"
NEAREST, ANOTHER, ONE_FRAME, RANDOM = "nearest preset", "another preset", "one frame", "random weights"
ROWS = (ENCODER, REFINED, INVERSION, TRUE, OWN, NEAREST, ANOTHER, ONE_FRAME, RANDOM)
CONTROLS = frozenset({TRUE, OWN, NEAREST, ANOTHER, ONE_FRAME, RANDOM})

# Those are so far off that their differences from others say nothing of what is small.
_BROKEN = frozenset({ONE_FRAME, RANDOM})

# Copies and clones that are compared; of two ways that differ in none of them, neither is known to be better.
SAME_OTHER, RIGHT, DISTANCE, LIKENESS = "same_minus_other", "right", "distance", "likeness"

# The codes of an encoder that hears levels follow them by this much and more.
_LEAST_LEVELS = 0.5

# Columns of the table: heading, part of a row, field, decimals.
_COLUMNS = (
    ("SEM", "agreement", "semantic", 2),
    ("LEVELS", "agreement", "levels", 2),
    ("MAHAL", "agreement", "mahalanobis", 2),
    ("NORM", "agreement", "row_norm", 2),
    ("SPECTRAL", "copy", DISTANCE, 2),
    ("MCD", "copy", "cepstral", 1),
    ("ALIKE", "copy", LIKENESS, 2),
    ("SAME-OTHER", "clone", SAME_OTHER, 3),
    ("RIGHT", "clone", RIGHT, 2),
    ("LENGTH", "clone", "length", 2),
    ("ENDED", "clone", "ended", 2),
)
_GROUPS = ("codes: on presets", "copy: codes, decoded", "clone: what it says")


@dataclass(frozen=True)
class Setting:
    """How much was measured.

    Attributes:
        fast: whether it was the short form.
        seed: of noise and searches.
        of: whose voices: people or presets.
        voices: how many.
        sentences: of each.
        steps: of a search from nothing.
        lateness: samples by which the decoder is late.
        measures: of voices, the best first.
    """

    fast: bool
    seed: int
    of: str
    voices: int
    sentences: int
    steps: int
    lateness: int
    measures: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """What was measured, by row and voice.

    Attributes:
        setting: how much.
        agreement: with true codes; of ways that make codes.
        copies: decoded codes beside the clip.
        clones: sentences of each voice.
        cost: milliseconds for a second of clip, of ways that compute.
        levels: how much of a change of level the codes of the encoder follow.
        remarks: what a reader should know.
    """

    setting: Setting
    agreement: Mapping[str, Mapping[str, Agreement]]
    copies: Mapping[str, Mapping[str, Copy]]
    clones: Mapping[str, Mapping[str, Sequence[Clone]]]
    cost: Mapping[str, float]
    levels: float | None
    remarks: tuple[str, ...]


def make_report(found: Found, about: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what was found into what JSON holds.

    Args:
        found: all of it.
        about: the model, the encoder and the machine.
    """
    measure = found.setting.measures[0]
    lengths = _usual_lengths(found)
    rows = {
        row: {
            "agreement": _means([asdict(each) for each in found.agreement.get(row, {}).values()]),
            "copy": _copy(list(copies.values()), found.setting.measures),
            "clone": _clone(found.clones.get(row, {}), found.setting.measures, lengths),
            "ms_per_s": _rounded(found.cost.get(row)),
        }
        for row, copies in found.copies.items()
    }
    compared = _compared(found, measure)
    base = next(iter(found.copies))
    remarks = list(found.remarks)
    if found.levels is not None and found.levels < _LEAST_LEVELS:
        remarks.append(
            f"the codes of the encoder follow {found.levels:.0%} of a change of level; a quiet clip will make a loud "
            "voice, and the other way round"
        )
    return {
        "format": FORMAT,
        "version": __version__,
        **about,
        "setting": asdict(found.setting) | {"measures": list(found.setting.measures)},
        "n": max((sum(map(len, voices.values())) for voices in found.clones.values()), default=0),
        "chance_of_right": _rounded(1 / found.setting.voices),
        "level_followed": _rounded(found.levels),
        "rows": rows,
        "least_difference": {
            name: _rounded(least_difference({row: each for row, each in values.items() if row not in _BROKEN}))
            for name, values in compared.items()
        },
        "not_told_from": {
            "row": base,
            **{name: not_told_from(base, values) for name, values in compared.items() if base in values},
        },
        "remarks": remarks,
    }


def _copy(copies: Sequence[Copy], measures: Sequence[str]) -> dict[str, Any]:
    heard = [each for each in copies if each.likeness]
    likeness = {name: fmean(each.likeness[name] for each in heard) for name in measures} if heard else {}
    return {
        **_means([{DISTANCE: each.distance, "cepstral": each.cepstral} for each in copies]),
        LIKENESS: {name: _rounded(value) for name, value in likeness.items()},
    }


def _clone(
    voices: Mapping[str, Sequence[Clone]], measures: Sequence[str], lengths: Mapping[tuple[str, int], float]
) -> dict[str, Any] | None:
    clones = [each for said in voices.values() for each in said]
    if not clones:
        return None
    ratios = [
        each.seconds / lengths[voice, number]
        for voice, said in voices.items()
        for number, each in enumerate(said)
        if lengths.get((voice, number))
    ]
    return {
        "n": len(clones),
        "same": {name: _rounded(fmean(each.same[name] for each in clones)) for name in measures},
        SAME_OTHER: {name: _rounded(fmean(each.same[name] - each.other[name] for each in clones)) for name in measures},
        RIGHT: {name: _rounded(fmean(each.right[name] for each in clones)) for name in measures},
        "length": _rounded(fmean(ratios) if ratios else None),
        "ended": _rounded(fmean(each.ended for each in clones)),
    }


def _usual_lengths(found: Found) -> dict[tuple[str, int], float]:
    """Give how long each sentence of a voice usually takes: in the rows of the presets' own codes, which are good."""
    good = [row for row in (TRUE, NEAREST, ANOTHER) if row in found.clones]
    lengths: dict[tuple[str, int], list[float]] = {}
    for row in good:
        for voice, said in found.clones[row].items():
            for number, each in enumerate(said):
                if each.ended:
                    lengths.setdefault((voice, number), []).append(each.seconds)
    return {place: fmean(seconds) for place, seconds in lengths.items()}


def _compared(found: Found, measure: str) -> dict[str, dict[str, Values]]:
    """Take what rows are compared by, voice by voice, with one measure."""
    copies, clones = found.copies, found.clones
    return {
        SAME_OTHER: {
            row: {voice: [each.same[measure] - each.other[measure] for each in said] for voice, said in voices.items()}
            for row, voices in clones.items()
        },
        RIGHT: {
            row: {voice: [each.right[measure] for each in said] for voice, said in voices.items()}
            for row, voices in clones.items()
        },
        DISTANCE: {row: {voice: [each.distance] for voice, each in voices.items()} for row, voices in copies.items()},
        LIKENESS: {
            row: {voice: [each.likeness[measure]] for voice, each in voices.items() if each.likeness}
            for row, voices in copies.items()
        },
    }


def _means(facts: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Average the fields of many; what is no number in one of them has no average."""
    return {name: _rounded(fmean(each[name] for each in facts)) for name in (facts[0] if facts else ())}


def _rounded(value: float | None) -> float | None:
    """Round to four places; None for what is no number, which JSON has not."""
    return None if value is None or not math.isfinite(value) else round(value, 4)


def write_table(report: Mapping[str, Any]) -> str:
    """Lay a report out for people: the table, what differences mean, and what to know."""
    setting, measure = report["setting"], report["setting"]["measures"][0]
    rows = report["rows"]
    headings = ["", *(heading for heading, *_ in _COLUMNS), "MS/S"]
    lines = [headings]
    for name, row in rows.items():
        cells = [_cell(row.get(part), field, decimals, measure) for _, part, field, decimals in _COLUMNS]
        cost = row["ms_per_s"]
        lines.append([name, *cells, "-" if cost is None else f"{cost:.0f}"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    shown = [_group_line(widths), *(_join(line, widths) for line in lines), ""]
    whose = f"{setting['voices']} {'people' if setting['of'] == 'people' else 'presets'}"
    shown.append(
        f"{whose}, {setting['sentences']} sentences each (n = {report['n']}), seed {setting['seed']}; voices compared "
        f"by {measure}; a right one is found by chance in {report['chance_of_right']:.2f}; search from nothing: "
        f"{setting['steps']} steps"
    )
    shown += _meaning(report)
    shown += [f"note: {remark}" for remark in report["remarks"]]
    return "\n".join(shown)


def _group_line(widths: Sequence[int]) -> str:
    """Say above the headings what columns are of."""
    line = " " * widths[0]
    first = 1
    for group, count in zip(_GROUPS, (4, 3, 4), strict=True):
        width = sum(widths[first : first + count]) + 2 * (count - 1)
        line += "  " + group[:width].ljust(width)
        first += count
    return f"{line}  cost".rstrip()


def _join(line: Sequence[str], widths: Sequence[int]) -> str:
    name, *cells = line
    right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
    return "  ".join([name.ljust(widths[0]), *right])


def _cell(part: Mapping[str, Any] | None, field: str, decimals: int, measure: str) -> str:
    value = (part or {}).get(field)
    if isinstance(value, Mapping):
        value = value.get(measure)
    return "-" if value is None else f"{value:.{decimals}f}"


def _meaning(report: Mapping[str, Any]) -> list[str]:
    """Say what of the differences means nothing."""
    names = {SAME_OTHER: "same - other", RIGHT: "right", DISTANCE: "spectral", LIKENESS: "alike"}
    least = {name: value for name, value in report["least_difference"].items() if value is not None}
    told = ", ".join(f"{names[name]} {value:.3f}" for name, value in least.items())
    lines = [f"differences below these mean nothing (95 %, over the voices): {told}"] if told else []
    untold = report["not_told_from"]
    base = untold["row"]
    for name in (SAME_OTHER, DISTANCE):
        if untold.get(name):
            lines.append(f"by {names[name]} not to be told from {base}: {', '.join(untold[name])}")
    return lines
