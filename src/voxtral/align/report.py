"""Checks in words, for people and programs: a table of what was found, or plain values for JSON.

Read next: `voxtral.types`, whose SegmentCheck it shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from voxtral.types import Finding, FindingKind, SegmentCheck, WordTime

_WORST: tuple[str, ...] = ("unchecked", "ok", "suspect", "bad")
_MEANING: Mapping[FindingKind, str] = {
    "skipped": "left out",
    "repeated": "said more than once",
    "invented": "something else is said here",
    "changed": "said otherwise than it is written",
    "cut_off": "from here on nothing is said",
    "stuck": "the speech stands still here",
    "silence": "nothing is heard here",
    "rate": "much faster or slower than usual",
}
_MAX_SHOWN = 60


def worst_verdict(checks: Sequence[SegmentCheck]) -> str:
    """Give the worst verdict of several segments; "unchecked" where there are none."""
    return max((check.verdict for check in checks), key=_WORST.index, default="unchecked")


def check_report(text: str, times: Sequence[WordTime], checks: Sequence[SegmentCheck]) -> dict[str, Any]:
    """Give plain values: the verdict, and of each segment its check, and the words."""
    return {
        "verdict": worst_verdict(checks),
        "segments": [
            asdict(check) | {"findings": [_entry(text, finding) for finding in check.findings]} for check in checks
        ],
        "words": [{"word": text[time.text_start : time.text_end], **asdict(time)} for time in times],
    }


def check_table(text: str, times: Sequence[WordTime], checks: Sequence[SegmentCheck]) -> str:
    """Write words with their times, marks at those with findings, then findings and the verdict."""
    findings = [finding for check in checks for finding in check.findings]
    lines = ["START   END     SURE  WORD"]
    for time in times:
        kinds = dict.fromkeys(
            finding.kind
            for finding in findings
            if finding.text_start < time.text_end and time.text_start < finding.text_end
        )
        mark = f"  <- {', '.join(kinds)}" if kinds else ""
        word = _shown(text[time.text_start : time.text_end])
        lines.append(f"{time.start_s:6.2f}  {time.end_s:6.2f}  {time.confidence:4.2f}  {word}{mark}")
    for finding in findings:
        place = f"{finding.start_s:.2f}-{finding.end_s:.2f} s"
        phrase = _shown(text[finding.text_start : finding.text_end])
        lines.append(f'{finding.kind} ({finding.strength:.1f}) {place}: "{phrase}": {_MEANING[finding.kind]}')
    scores = ", ".join(f"{check.score:.2f}" for check in checks)
    lines.append(f"verdict: {worst_verdict(checks)} (score {scores})" if checks else "verdict: unchecked")
    return "\n".join(lines)


def _entry(text: str, finding: Finding) -> dict[str, Any]:
    return {"phrase": text[finding.text_start : finding.text_end], **asdict(finding)}


def _shown(text: str) -> str:
    line = "".join(char if char.isprintable() else " " for char in text)
    return line if len(line) <= _MAX_SHOWN else f"{line[: _MAX_SHOWN // 2]} ... {line[-_MAX_SHOWN // 2 :]}"
