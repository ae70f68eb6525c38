"""`voxtral doctor --cloning`: what the first owner of a checkpoint should know before making voices of clips with it.

Nothing is downloaded or sent. Figures are those of `voxtral.cloning.survey`; here is what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from voxtral.audio.reference import LEVEL_DB, LEVEL_TOLERANCE_DB
from voxtral.cloning.search import CodeSearch
from voxtral.cloning.speakers import open_measures
from voxtral.cloning.subjects import Preset, read_presets
from voxtral.cloning.survey import (
    Rows,
    Tolerance,
    count_entries,
    look_at_rows,
    measure_level,
    num_tried,
    try_tolerance,
    weigh_semantics,
)
from voxtral.cloning.talk import Talker
from voxtral.doctor.checks import Check
from voxtral.loading.checkpoint import Checkpoint
from voxtral.voices.library import VoiceLibrary

# Of the frames of presets, those that must come apart for a search and a training to know codes of speech.
_LEAST_SHARE = 0.9
# The closing row of a preset is END_AUDIO where the cosine is this and more.
_LEAST_END = 0.99
# Of the spectral change by acoustic codes: below it the decoder hardly minds semantic ones.
_LEAST_SEMANTICS = 0.05
# A change of codes is borne where nearly all sentences end, are as long, and are as like the voice.
_LEAST_ENDED, _LENGTHS, _LEAST_KEPT = 0.9, (0.7, 1.4), 0.6
_LEAST_VOICES = 2


@dataclass
class CloningSurvey:
    """What was found, for JSON; filled as the checks go on.

    Attributes:
        figures: by name of the check.
    """

    figures: dict[str, Any] = field(default_factory=dict)

    def note(self, name: str, value: Any) -> None:
        """Keep figures of a check."""
        self.figures[name] = value


def check_cloning(
    checkpoint: Checkpoint, talker: Talker, survey: CloningSurvey, tell: Callable[[str], None]
) -> Iterator[Check]:
    """Look at all that cloning depends on; yields findings as they come.

    Args:
        checkpoint: of the model.
        talker: the model, which speaks.
        survey: gets the figures.
        tell: gets how far it is.

    Raises:
        EngineError: the engine failed.
    """
    library = VoiceLibrary(checkpoint.folder, checkpoint.config)
    if len(library.names) < _LEAST_VOICES:
        yield Check(
            "presets", "skipped", f"there are {len(library.names)}, and what cloning depends on is learned of them"
        )
        return
    call = talker.engine.call
    rows = [call(lambda model, name=name: look_at_rows(model, library.load(name))) for name in library.names]
    survey.note("rows", [asdict(each) for each in rows])
    yield judge_rows(rows)
    search = CodeSearch(call, lambda: [library.load(name).rows for name in library.names])
    speechlike = search.speechlike
    survey.note("lateness", {"samples": speechlike.lateness, "told": round(speechlike.told, 3)})
    yield judge_lateness(speechlike.lateness, speechlike.told, checkpoint.config.samples_per_frame)
    presets = read_presets(talker, library)
    if len(presets) < _LEAST_VOICES:
        yield Check("presets", "failed", f"codes of speech could be had of {len(presets)} of {len(rows)} presets")
        return
    semantics = call(lambda model: weigh_semantics(model, presets))
    survey.note("semantics", round(semantics, 4))
    yield judge_semantics(semantics)
    level = measure_level(presets, checkpoint.config.sample_rate)
    survey.note("level", {key: round(value, 2) for key, value in asdict(level).items()})
    yield judge_level(level.mean, level.lowest, level.highest, level.peak)
    yield from _check_speech(checkpoint, talker, presets, survey, tell)


def _check_speech(
    checkpoint: Checkpoint,
    talker: Talker,
    presets: list[Preset],
    survey: CloningSurvey,
    tell: Callable[[str], None],
) -> Iterator[Check]:
    """Let the model speak with codes that were changed, and count the entries that it used."""
    measure = open_measures(checkpoint.config.sample_rate)[0]
    total, done = num_tried(len(presets)), 0

    def on_said() -> None:
        nonlocal done
        done += 1
        if done % 16 == 0:
            tell(f"said {done} of {total} sentences with codes that were changed")

    found: list[Tolerance] = []
    sequences = [preset.codes for preset in presets]
    for tolerance, codes in try_tolerance(talker, presets, measure, on_said):
        found.append(tolerance)
        if len(found) == 1:  # what is said with codes unchanged is speech as it should be
            sequences += codes
    entries = count_entries(checkpoint, sequences)
    survey.note("entries", asdict(entries))
    yield Check(
        "entries",
        "ok",
        f"{entries.unused} of {entries.total} semantic entries were not used when the codec was trained; "
        f"{entries.heard} occur in {entries.frames} frames of speech of the model",
    )
    survey.note("tolerance", [{**asdict(each), "measure": measure.name} for each in found])
    yield judge_tolerance(found, measure.name)


def judge_rows(rows: list[Rows]) -> Check:
    """Say whether presets come apart into codes, and end as they should."""
    frames = sum(each.frames for each in rows)
    share = sum(each.share * each.frames for each in rows) / max(frames, 1)
    closed = sum(each.end >= _LEAST_END for each in rows)
    detail = (
        f"{share:.1%} of {frames} rows of {len(rows)} presets are sums of code embeddings (at most "
        f"{max(each.residual for each in rows):.2%} off), {closed} close with END_AUDIO"
    )
    if share < _LEAST_SHARE:
        return Check("rows", "warning", f"{detail}; a search then knows nothing of what codes of speech are like")
    if closed < len(rows):
        return Check("rows", "warning", f"{detail}; voices made of clips will close with it all the same")
    return Check("rows", "ok", detail)


def judge_lateness(samples: int, told: float, samples_per_frame: int) -> Check:
    """Say by how much the decoder is late, and whether that is to be believed."""
    detail = f"the decoder is {samples} samples late (a linear map tells {told:.0%} of the codes there)"
    if not told:
        return Check("lateness", "warning", "it cannot be told how late the decoder is; 0 is taken")
    if samples > samples_per_frame // 2:
        return Check(
            "lateness", "warning", f"{detail}, more than half a frame; if clones are late or smeared, this is wrong"
        )
    return Check("lateness", "ok", detail)


def judge_semantics(share: float) -> Check:
    """Say whether semantic codes are heard."""
    detail = f"mixing up semantic codes changes the sound by {share:.0%} of what mixing up acoustic ones does"
    if share < _LEAST_SEMANTICS:
        return Check(
            "semantics", "warning", f"{detail}; a search cannot find them by their sound, an encoder is needed"
        )
    return Check("semantics", "ok", detail)


def judge_level(mean: float, lowest: float, highest: float, peak: float) -> Check:
    """Say how loud presets are, beside the level that clips are brought to."""
    detail = (
        f"presets speak at {mean:.1f} dB of full scale ({lowest:.1f} to {highest:.1f}), peak {peak:.1f} dB; clips are "
        f"left alone within {LEVEL_TOLERANCE_DB:.0f} dB of {LEVEL_DB:.0f} dB, and brought there else"
    )
    if abs(mean - LEVEL_DB) > LEVEL_TOLERANCE_DB:
        return Check("level", "warning", f"{detail}; that is another level than the model knows")
    return Check("level", "ok", detail)


def judge_tolerance(found: list[Tolerance], measure: str) -> Check:
    """Say how far off codes may be."""
    usual = found[0]
    borne = [each.change for each in found[1:] if _is_borne(each, usual)]
    detail = f"{usual.sentences} sentences for each change of the codes (voices compared by {measure}); borne: "
    detail += ", ".join(borne) or "none"
    if usual.ended < _LEAST_ENDED:
        return Check("tolerance", "warning", f"{detail}; with their own codes presets do not end by themselves either")
    if not borne:
        return Check("tolerance", "warning", f"{detail}; codes must be exact: a search should go on for longer")
    return Check("tolerance", "ok", detail)


def tolerance_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Lay out what became of sentences when the codes of a voice were changed."""
    headings = ("CODES OFF BY", "LENGTH", "ENDED", "SAME-OTHER")
    rows = [
        (each["change"], f"{each['length']:.2f}", f"{each['ended']:.2f}", f"{each['same_minus_other']:.3f}")
        for each in found
    ]
    widths = [max(len(line[column]) for line in (headings, *rows)) for column in range(len(headings))]
    return "\n".join(
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))])
        for name, *cells in (headings, *rows)
    )


def _is_borne(tolerance: Tolerance, usual: Tolerance) -> bool:
    low, high = _LENGTHS
    return (
        tolerance.ended >= _LEAST_ENDED * usual.ended
        and low <= tolerance.length <= high
        and tolerance.same_minus_other >= _LEAST_KEPT * usual.same_minus_other
    )
