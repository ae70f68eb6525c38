"""What a self-check found: data that is printed, kept and read back. No torch.

A verdict may come from another process or from a file that anybody could have written, so reading one is strict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from voxtral.engine.paths import PATHS, PathName


@dataclass(frozen=True)
class Finding:
    """What was found of one path.

    Attributes:
        path: what was tried, such as "kernel add_rms_norm" or "folded flow".
        is_ok: None where it was not tried.
        worst: largest difference from the plain computation, relative to its largest value.
        detail: the reason, where it is not ok.
    """

    path: str
    is_ok: bool | None
    worst: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        """Write one line.

        >>> print(Finding("folded flow", True, 0.004))
        folded flow: ok 0.4 %
        """
        if self.is_ok is None:
            return f"{self.path}: not tried: {self.detail}"
        seen = "" if self.worst is None else f" {100 * self.worst:.2g} %"
        return f"{self.path}: ok{seen}" if self.is_ok else f"{self.path}: off{seen}: {self.detail}"


@dataclass(frozen=True)
class Verdict:
    """What may be used on a machine, in the order in which it was tried.

    Attributes:
        findings: one for each path.
        kernels_off: names of kernels that compute wrongly or not at all, each with the reason.
        paths_off: the same of `voxtral.engine.paths`.
        seconds: that the check took.
    """

    findings: tuple[Finding, ...] = ()
    kernels_off: Mapping[str, str] = field(default_factory=dict[str, str])
    paths_off: Mapping[PathName, str] = field(default_factory=dict[PathName, str])
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether everything that was tried may be used."""
        return not self.kernels_off and not self.paths_off

    def to_dict(self) -> dict[str, Any]:
        """Turn into what JSON holds."""
        return {
            "findings": [vars(finding) for finding in self.findings],
            "kernels_off": dict(self.kernels_off),
            "paths_off": dict(self.paths_off),
            "seconds": round(self.seconds, 2),
        }

    @classmethod
    def from_dict(cls, data: Any) -> Verdict:
        """Read what `to_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(data, dict):
            raise ValueError("a verdict is a JSON object")
        given = cast("dict[str, Any]", data)
        if set(given) != {"findings", "kernels_off", "paths_off", "seconds"}:
            raise ValueError(f"a verdict with the fields {', '.join(sorted(map(str, given)))}")
        findings = given["findings"]
        if not isinstance(findings, list):
            raise ValueError("findings that are no list")
        kernels_off, paths_off = (_read_reasons(given[name]) for name in ("kernels_off", "paths_off"))
        if not paths_off.keys() <= PATHS.keys():
            raise ValueError(f"paths that there are not: {', '.join(paths_off)}")
        return cls(
            findings=tuple(read_finding(entry) for entry in cast("list[Any]", findings)),
            kernels_off=kernels_off,
            paths_off=cast("dict[PathName, str]", paths_off),
            seconds=_read_number(given["seconds"]),
        )


def read_finding(data: Any) -> Finding:
    """Read a finding as `to_dict` gives it.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(data, dict):
        raise ValueError("a finding is a JSON object")
    given = cast("dict[str, Any]", data)
    if set(given) != {"path", "is_ok", "worst", "detail"}:
        raise ValueError("a finding with other fields")
    path, is_ok, worst, detail = (given[name] for name in ("path", "is_ok", "worst", "detail"))
    if not isinstance(path, str) or not isinstance(detail, str) or is_ok not in (True, False, None):
        raise ValueError("a finding with other values")
    return Finding(path, is_ok, None if worst is None else _read_number(worst), detail)


def _read_reasons(data: Any) -> dict[str, str]:
    if not isinstance(data, dict):
        raise ValueError("reasons that are no JSON object")
    reasons = cast("dict[Any, Any]", data)
    if not all(isinstance(part, str) for pair in reasons.items() for part in pair):
        raise ValueError("reasons that are no text")
    return cast("dict[str, str]", reasons)


def _read_number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} where a number must be")
    return float(value)
