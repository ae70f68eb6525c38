"""Alignment: what is known of a checkpoint's attention, measured once and kept in a small file. No torch.

The file lies beside the weights where the folder is ours, else in the cache. Anybody could have written it, so reading
is strict; one that is damaged, or of other weights, is not used. Read next: `voxtral.align.calibrate`, which makes it.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from voxtral.config import BackboneConfig
from voxtral.disk import ABSENT, UnfitFileError, look, read_regular, temporary_beside, why
from voxtral.errors import AlignmentError
from voxtral.loading.files import ALIGNMENT_FILE, cache_folder

_log = logging.getLogger(__name__)

FORMAT = 1

_FOLDER = "alignment"
_MAX_BYTES = 2**18
_MAX_HEADS, _MAX_STEP, _MAX_LAG_S, _MAX_ENTRIES = 8, 512, 1.0, 256
# Of the semantic codes, what capitals may change beyond what another seed does (`voxtral.align.capitals`).
_MOST_BY_CAPITALS = 0.2
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_.,:() +-]{1,64}")

Head = tuple[int, int]
"""Layer and query head."""


@dataclass(frozen=True)
class Pace:
    """How long the letters of a language take.

    Attributes:
        median: of the natural logarithm of frames a letter.
        spread: half of what lies between its 16th and 84th percentile.
    """

    median: float
    spread: float


@dataclass(frozen=True)
class Alignment:
    """What a calibration found out about a checkpoint.

    Attributes:
        fingerprint: of the weights, `voxtral.loading.checkpoint.shared_fingerprint`.
        heads: those whose attention follows the text; empty: the checkpoint has no aligner.
        max_step: tokens that one frame may go on by.
        codec_lag_s: seconds that the codec sounds later than the frame.
        head_lead_s: seconds that the heads read ahead, as far as the lag of others does not explain it.
        thresholds: of the checks, by name, and how far apart capitals are from small letters.
        pace: of each language.
        figures: what was measured, by name, for people.
        date: of the calibration, YYYY-MM-DD.
    """

    fingerprint: str
    heads: tuple[Head, ...]
    max_step: int
    codec_lag_s: float
    head_lead_s: float
    thresholds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    pace: Mapping[str, Pace] = field(default_factory=lambda: MappingProxyType({}))
    figures: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    date: str = ""

    @property
    def has_aligner(self) -> bool:
        """Whether the checkpoint has heads that follow the text."""
        return bool(self.heads)

    @property
    def reads_capitals(self) -> bool:
        """Whether words in capitals are read as the same words; taken for granted where it was not measured."""
        return self.thresholds.get("capitals", 0.0) < _MOST_BY_CAPITALS

    @property
    def shift_s(self) -> float:
        """Seconds that a word is heard later than its frames."""
        return self.codec_lag_s + self.head_lead_s

    def check_fits(self, backbone: BackboneConfig) -> None:
        """Refuse heads that a model does not have.

        Raises:
            AlignmentError: naming the head.
        """
        for layer, head in self.heads:
            if layer >= backbone.num_layers or head >= backbone.num_heads:
                raise AlignmentError(
                    f"the alignment names head {head} of layer {layer}; the model has {backbone.num_layers} layers of "
                    f"{backbone.num_heads} heads; make it again: voxtral align calibrate"
                )


def find_alignment(
    folder: Path, fingerprint: str, backbone: BackboneConfig, warn: Callable[[str], None]
) -> Alignment | None:
    """Look for what is known of a checkpoint: beside it, then in the cache.

    Args:
        folder: of the checkpoint.
        fingerprint: of its weights.
        backbone: its sizes.
        warn: is told, in one line each, of files that are there and cannot be used.

    Returns:
        None where nothing is known that can be used.
    """
    for path in (folder / ALIGNMENT_FILE, cache_path(fingerprint)):
        if path is None:
            continue
        try:
            if look(path) is None:
                continue
            alignment = read_alignment(path, fingerprint)
            alignment.check_fits(backbone)
        except AlignmentError as error:
            warn(f"{path} is not used: {error}")
        except OSError as error:
            warn(f"{path} is not used: it cannot be read ({why(error)})")
        else:
            return alignment
    return None


def cache_path(fingerprint: str) -> Path | None:
    """Say where an alignment is kept between processes; None where nothing is to be kept."""
    base = cache_folder()
    return None if base is None else base / _FOLDER / f"{fingerprint}.json"


def keep_alignment(alignment: Alignment) -> Path | None:
    """Write an alignment into the cache; None where that is not wanted or not possible."""
    path = cache_path(alignment.fingerprint)
    if path is None:
        return None
    try:
        write_alignment(alignment, path)
    except AlignmentError as error:
        _log.debug("the alignment is not kept: %s", error)
        return None
    return path


def write_alignment(alignment: Alignment, path: Path) -> None:
    """Write an alignment; a reader never sees half of it.

    Raises:
        AlignmentError: the file cannot be written.
    """
    # Read-only mappings are none that JSON or a deep copy takes.
    entries = {name: getattr(alignment, name) for name in Alignment.__dataclass_fields__}
    entries |= {name: dict(entries[name]) for name in ("thresholds", "figures")}
    entries["pace"] = {language: asdict(pace) for language, pace in alignment.pace.items()}
    text = json.dumps({"format": FORMAT, **entries}, indent=1)
    partial = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text + "\n", encoding="utf-8")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise AlignmentError(
            f"{path} cannot be written ({why(error)}); its folder must be writable and the disk have room; choose "
            "another place"
        ) from error


def read_alignment(path: Path, fingerprint: str | None = None) -> Alignment:
    """Read what `write_alignment` wrote.

    Args:
        path: of the file.
        fingerprint: of the weights that it must be of; None for any.

    Raises:
        AlignmentError: it is missing, damaged, of another format, or of other weights.
    """
    try:
        data = read_regular(path, max_bytes=_MAX_BYTES)
        alignment = alignment_from_json(json.loads(data))
    except ABSENT as error:
        raise AlignmentError(f"{path} is missing; make it: voxtral align calibrate") from error
    except OSError as error:
        raise AlignmentError(f"{path} cannot be read ({why(error)}); check its permissions and the disk") from error
    except UnfitFileError as error:
        raise AlignmentError(f"{path} {error}; make it again: voxtral align calibrate") from error
    except (ValueError, RecursionError) as error:
        raise AlignmentError(
            f"{path} is no alignment ({str(error)[:200]}); it must be as it was written; make it again: voxtral align "
            "calibrate"
        ) from error
    if fingerprint is not None and alignment.fingerprint != fingerprint:
        raise AlignmentError(
            f"{path} was made for other weights ({alignment.fingerprint[:8]}, these are {fingerprint[:8]}); heads "
            "differ from one training to the next; make it again: voxtral align calibrate"
        )
    return alignment


def alignment_from_json(data: Any) -> Alignment:
    """Take over what a file says, nothing else and nothing more.

    Raises:
        ValueError: it breaks a rule.
    """
    known = {"format", *Alignment.__dataclass_fields__}
    given = _mapping("an alignment", data)
    if given.get("format") != FORMAT:
        raise ValueError(f"format {given.get('format')!r}, and {FORMAT} is known")
    if set(given) != known:
        raise ValueError(f"the fields {', '.join(sorted(set(given) ^ known))} are missing or too many")
    fingerprint, date = given["fingerprint"], given["date"]
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError("fingerprint is no digest")
    if not isinstance(date, str):
        raise ValueError("date is no text")
    if date:
        datetime.date.fromisoformat(date)
    return Alignment(
        fingerprint=fingerprint,
        heads=_heads(given["heads"]),
        max_step=_whole("max_step", given["max_step"], 1, _MAX_STEP),
        codec_lag_s=_number("codec_lag_s", given["codec_lag_s"], _MAX_LAG_S),
        head_lead_s=_number("head_lead_s", given["head_lead_s"], _MAX_LAG_S),
        thresholds=_numbers("thresholds", given["thresholds"]),
        pace=MappingProxyType({name: _pace(value) for name, value in _mapping("pace", given["pace"]).items()}),
        figures=_numbers("figures", given["figures"]),
        date=date,
    )


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no JSON object")
    entries = cast("dict[str, Any]", value)
    if len(entries) > _MAX_ENTRIES or not all(map(_NAME.fullmatch, entries)):
        raise ValueError(f"{name} has too many entries, or one whose name is none")
    return entries


def _heads(value: Any) -> tuple[Head, ...]:
    if not isinstance(value, list) or len(cast("list[Any]", value)) > _MAX_HEADS:
        raise ValueError(f"heads is no list of at most {_MAX_HEADS}")
    heads: list[Head] = []
    for entry in cast("list[Any]", value):
        if not isinstance(entry, list) or len(cast("list[Any]", entry)) != 2:
            raise ValueError("a head is [layer, head]")
        layer, head = (_whole("a head", part, 0, 2**12) for part in cast("list[Any]", entry))
        heads.append((layer, head))
    if len(set(heads)) != len(heads):
        raise ValueError("a head is named twice")
    return tuple(heads)


def _pace(value: Any) -> Pace:
    entries = _mapping("a pace", value)
    if set(entries) != {"median", "spread"}:
        raise ValueError("a pace has median and spread")
    pace = Pace(_number("median", entries["median"], 1e3), _number("spread", entries["spread"], 1e3))
    if pace.spread < 0:
        raise ValueError("a spread below 0")
    return pace


def _numbers(name: str, value: Any) -> Mapping[str, float]:
    return MappingProxyType({key: _number(key, number, 1e9) for key, number in _mapping(name, value).items()})


def _number(name: str, value: Any, limit: float) -> float:
    # Whole numbers in JSON may be larger than any float; a comparison takes them, and refuses what is none as well.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= limit:
        raise ValueError(f"{name} is {value!r}; it must be a number of at most {limit:g}"[:120])
    return float(value)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}; it must be a whole number from {least} to {most}"[:120])
    return value
