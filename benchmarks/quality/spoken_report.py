"""What was lost, in figures: rates with intervals by class and language, and a list of every loss."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_Z = 1.959964  # 95 %


@dataclass(frozen=True)
class Outcome:
    """One utterance, judged.

    Attributes:
        id: of the text.
        language: of the text.
        kind: class of the text.
        seed: it was spoken with.
        voice: who spoke.
        seconds: of speech.
        expected_s: seconds that the teacher takes.
        is_refused: there was an error instead of speech.
        is_lost: a run of the text was not said, and there was no error.
        is_dropped: the same, and nothing was said in its place.
        is_extended: a run was said that is in no text.
        is_told: the result itself says that something is wrong.
        is_warned: there was a remark before the text was spoken.
        missing: mnemonics of the worst missing run.
        extra: mnemonics of the worst run that is in no text.
        matched: share of the text's phonemes that were heard.
    """

    id: str
    language: str
    kind: str
    seed: int
    voice: str
    seconds: float
    expected_s: float
    is_refused: bool
    is_lost: bool
    is_dropped: bool
    is_extended: bool
    is_told: bool
    is_warned: bool
    missing: str
    extra: str
    matched: float


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Bound a share at 95 % by Wilson's score interval; of nothing, nothing is known.

    >>> [round(bound, 3) for bound in wilson(0, 100)]
    [0.0, 0.037]
    """
    if not count:
        return 0.0, 1.0
    share, square = hits / count, _Z**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    width = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return max(0.0, middle - width), min(1.0, middle + width)


def rate(hits: int, count: int) -> dict[str, Any]:
    """Give a share with its numbers and interval."""
    low, high = wilson(hits, count)
    share = round(hits / count, 4) if count else None
    return {"hits": hits, "of": count, "rate": share, "low": round(low, 4), "high": round(high, 4)}


def summarise(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Count by class, by language and in all, and list what was lost and what was added.

    Utterances of one text with several seeds fail together more often than not, so the intervals, which take each for
    itself, are narrower than they should be; `texts_lost` counts texts that lost something with any seed.
    """
    spoken = [one for one in outcomes if not one.is_refused]
    listed = sorted(spoken, key=lambda one: (one.id, one.seed))
    kept = ("id", "seed", "voice", "seconds", "expected_s", "matched")
    return {
        "all": _count(outcomes),
        "by_class": _grouped(outcomes, lambda one: one.kind),
        "by_language": _grouped(outcomes, lambda one: one.language),
        "lost": [
            {name: asdict(one)[name] for name in (*kept, "is_dropped", "missing", "is_told", "is_warned")}
            for one in listed
            if one.is_lost
        ],
        "extra": [{name: asdict(one)[name] for name in (*kept, "extra")} for one in listed if one.is_extended],
        "refused": dict(Counter(one.id for one in outcomes if one.is_refused)),
    }


def _count(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    spoken = [one for one in outcomes if not one.is_refused]
    return {
        "lost": rate(sum(one.is_lost for one in spoken), len(spoken)),
        "dropped": rate(sum(one.is_dropped for one in spoken), len(spoken)),
        "lost_untold": rate(sum(one.is_lost and not one.is_told for one in spoken), len(spoken)),
        "extra": rate(sum(one.is_extended for one in spoken), len(spoken)),
        "texts_lost": rate(len({one.id for one in spoken if one.is_lost}), len({one.id for one in spoken})),
        "refused": len(outcomes) - len(spoken),
        "seconds": round(sum(one.seconds for one in spoken), 1),
        "expected_s": round(sum(one.expected_s for one in spoken), 1),
    }


def _grouped(outcomes: Sequence[Outcome], key: Callable[[Outcome], str]) -> dict[str, Any]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[key(one)].append(one)
    return {name: _count(group) for name, group in groups.items()}


def write_markdown(report: Mapping[str, Any]) -> str:
    """Lay out the rates of a report as tables."""
    whole = [("all", report["all"]), ("all, letters judged", report["letters_judged"]["all"])]
    grouped = (("class", "by_class"), ("language", "by_language"))
    return "\n\n".join(_table(name, [*report[key].items(), *whole]) for name, key in grouped)


def _table(name: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    header = (name, "utterances", "lost", "95 %", "dropped", "untold", "texts that lose", "extra speech", "refused")
    lines: list[Sequence[str]] = [header, ["---"] * len(header)]
    for label, counts in rows:
        lost, texts = counts["lost"], counts["texts_lost"]
        lines.append(
            (
                label,
                str(lost["of"]),
                f"{lost['hits']} ({_percent(lost['rate'])})",
                f"{_percent(lost['low'])} to {_percent(lost['high'])}",
                str(counts["dropped"]["hits"]),
                str(counts["lost_untold"]["hits"]),
                f"{texts['hits']} of {texts['of']}",
                str(counts["extra"]["hits"]),
                str(counts["refused"]),
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
