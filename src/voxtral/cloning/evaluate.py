"""Ways to make voices of clips, compared: an encoder, a search for codes, and controls that tell what figures mean.

Each way is a row. The codes that it makes are compared with true ones where these are known, their sound with the clip,
and what the voice says with other speech of the speaker. Agreement with true codes is no goal in itself: many codes
sound alike. Read next: `voxtral.cloning.subjects`, `voxtral.cloning.judge`, `voxtral.cloning.report`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from voxtral.cloning.judge import (
    Agreement,
    Alike,
    Clone,
    Copy,
    Lineup,
    judge_agreement,
    judge_copy,
    level_change,
)
from voxtral.cloning.kept import Kept
from voxtral.cloning.options import STEPS_FROM_ENCODER, STEPS_FROM_NOTHING, RefineOptions, RefineProgress
from voxtral.cloning.report import (
    ANOTHER,
    ENCODER,
    INVERSION,
    NEAREST,
    ONE_FRAME,
    OWN,
    RANDOM,
    REFINED,
    ROWS,
    TRUE,
    Found,
    Setting,
)
from voxtral.cloning.search import CodeSearch
from voxtral.cloning.speakers import SpeakerMeasure
from voxtral.cloning.subjects import Preset, Subject, Voices, decode, make_subjects, read_presets, spread
from voxtral.cloning.talk import Line, Talker, sentences_for
from voxtral.errors import VoiceError
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.voxtral import CodecModel
from voxtral.voices.prompt import VoicePrompt

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[Any]

# Place, among presets by likeness, of the one that is no match.
_FAR = 9
_LEAST_VOICES = 4

# Presets, sentences of each voice and steps of a search from nothing.
_WHOLE, _FAST = (8, 20, STEPS_FROM_NOTHING), (4, 4, 60)

# Seconds of clips that are searched for side by side on a GPU, where they cost little more than one; elsewhere each
# costs as much, and what is done alone is done sooner, and kept.
_TOGETHER_GPU_S = 64.0

# What a part of the work costs, of a sentence: a step of the search for a second of audio.
_STEP_COST = 0.03
# By how much the level is changed to see whether codes follow.
_QUIETER = 0.5


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is measured.

    Attributes:
        fast: four voices, four sentences and 60 steps from nothing, instead of 8, 20 and 300; of people all.
        seed: of noise, starts and random weights.
        people_language: that people in clips speak.
    """

    fast: bool = False
    seed: int = 0
    people_language: str = "en"

    @property
    def num_presets(self) -> int:
        """Presets that are copied."""
        return (_FAST if self.fast else _WHOLE)[0]

    @property
    def num_sentences(self) -> int:
        """Sentences of each voice."""
        return (_FAST if self.fast else _WHOLE)[1]

    @property
    def steps(self) -> int:
        """Of a search from nothing."""
        return (_FAST if self.fast else _WHOLE)[2]


@dataclass(frozen=True, eq=False)
class Ways:
    """The encoders that are compared.

    Attributes:
        encoder: that is judged; None where there is none.
        own: that the checkpoint holds; None where it holds none, or that is the one that is judged.
    """

    encoder: CodecEncoder | None
    own: CodecEncoder | None


OnProgress = Callable[[float, str], None]


class Evaluation:
    """Compares all ways on one model.

    Args:
        talker: the model that speaks.
        voices: its presets.
        ways: encoders.
        measures: of voices, the best first.
        options: how much is measured.
        people: voices of clips; None takes the presets.
        kept: what is done already.
        on_progress: gets how much is done, 0 to 1, and of what.

    Raises:
        VoiceError: there are too few presets to be compared.
    """

    def __init__(
        self,
        talker: Talker,
        voices: Voices,
        ways: Ways,
        measures: Sequence[SpeakerMeasure],
        options: EvaluationOptions,
        people: Sequence[Subject] | None,
        kept: Kept,
        on_progress: OnProgress = lambda fraction, what: None,
    ) -> None:
        self._talker = talker
        self._call = talker.engine.call
        self._config = talker.config
        self._ways = ways
        self._measures = measures
        self._options = options
        self._kept = kept
        self._on_progress = on_progress
        self._codes: dict[str, dict[str, Tensor]] = {}
        self._seconds: dict[str, float] = {}
        self._remarks: list[str] = []
        self._done = self._total = 0.0
        self._what = "presets"
        self._on_progress(0.0, self._what)
        self._presets = read_presets(talker, voices, options.seed)
        self._choose(people)

    def _choose(self, people: Sequence[Subject] | None) -> None:
        """Decide whose voices are copied, and by which presets the decoder is studied: never by those."""
        presets, count = self._presets, self._options.num_presets
        if people is None and len(presets) < _LEAST_VOICES:
            raise VoiceError(
                f"the model has {len(presets)} presets that can be copied; it must have {_LEAST_VOICES}; name clips "
                "of people: --clips DIR"
            )
        chosen = [presets[place] for place in spread(count, len(presets))]
        others = [preset for preset in presets if preset not in chosen]
        studied = others if len(others) >= _LEAST_VOICES else presets
        if not all(preset.is_true for preset in presets):
            self._remarks.append(
                "the rows of some presets do not come apart into codes; those of a sentence that they say take their "
                "place"
            )
        rows = [preset.voice.rows for preset in studied]
        self._search = CodeSearch(self._call, lambda: rows)
        self._lateness = self._search.speechlike.lateness
        # What is known of codes must not be of those that are judged, and without presets there is nothing.
        self._preset_subjects = make_subjects(chosen, self._talker, self._lateness) if presets else []
        self._subjects = self._preset_subjects if people is None else list(people)
        self._is_of_people = people is not None
        if people is None:
            self._remarks.append(
                "the voices are the model's presets, decoded: it knows them, and the clips are of its own decoder, so "
                "that people are harder; name clips of people: --clips DIR"
            )
            if studied is presets:
                self._remarks.append(
                    "there are too few presets to leave out those that are copied: the search knows their codes"
                )
        rate = self._config.sample_rate
        self._lineup = Lineup(self._subjects, self._measures, rate)
        alike = Alike({preset.name: preset.sound for preset in presets}, self._measures[0], rate)
        self._order = {each.name: alike.nearest_first(each.reference, without=each.name) for each in self._subjects}

    def rows(self) -> list[str]:
        """Name the rows that there are."""
        has = {
            ENCODER: self._ways.encoder is not None,
            REFINED: self._ways.encoder is not None,
            TRUE: not self._is_of_people,
            OWN: self._ways.own is not None,
            NEAREST: len(self._presets) > 1,
            ANOTHER: len(self._presets) > 1,
        }
        return [row for row in ROWS if has.get(row, True)]

    def run(self) -> Found:
        """Do what is not done yet.

        Raises:
            EngineError: the engine failed.
            OptionError: the folder of what is done cannot be used.
        """
        rows = self.rows()
        of_codes = [*self._subjects, *(self._preset_subjects if self._is_of_people else ())]
        of_search = self._options.steps + (STEPS_FROM_ENCODER if REFINED in rows else 0)
        seconds = sum(len(each.reference) for each in of_codes) / self._config.sample_rate
        said = [row for row in rows if row != RANDOM]
        self._total = len(said) * len(self._subjects) * self._options.num_sentences + _STEP_COST * seconds * of_search
        agreement: dict[str, dict[str, Agreement]] = {}
        copies: dict[str, dict[str, Copy]] = {}
        clones: dict[str, dict[str, list[Clone]]] = {}
        cost: dict[str, float] = {}
        for row in rows:
            self._tell(f"{row}: codes", 0.0)
            found, took = self._kept.codes(f"codes, {row}", lambda row=row: self._make(row, of_codes))
            self._codes[row], self._seconds[row] = found, took
            if row in (ENCODER, REFINED, INVERSION, OWN):
                cost[row] = 1000.0 * took / seconds
            if row not in (NEAREST, ANOTHER, ONE_FRAME):
                agreement[row] = self._agreement(row, found)
            copies[row] = self._copies(row, found)
            if row != RANDOM:
                clones[row] = {subject.name: self._clones(row, subject, found) for subject in self._subjects}
        levels = self._levels()
        self._on_progress(1.0, "done")
        return Found(self._setting(), agreement, copies, clones, cost, levels, tuple(self._remarks))

    def _tell(self, what: str, done: float) -> None:
        self._what = what
        self._done += done
        self._on_progress(min(1.0, self._done / self._total) if self._total else 0.0, what)

    def _setting(self) -> Setting:
        return Setting(
            fast=self._options.fast,
            seed=self._options.seed,
            of="people" if self._is_of_people else "presets",
            voices=len(self._subjects),
            sentences=self._options.num_sentences,
            steps=self._options.steps,
            lateness=self._lateness,
            measures=tuple(measure.name for measure in self._measures),
        )

    # Codes.

    def _make(self, row: str, subjects: Sequence[Subject]) -> tuple[dict[str, Tensor], float]:
        """Make the codes of a row; also give the seconds that it took."""
        if row == INVERSION:
            return self._search_for(row, subjects, None)
        if row == REFINED:
            found, took = self._search_for(row, subjects, self._codes[ENCODER])
            return found, took + self._seconds[ENCODER]
        if (encoder := self._encoder_of(row)) is not None:
            return self._encode(encoder, subjects)
        if row == TRUE:
            return {each.name: each.codes for each in subjects if each.codes is not None}, 0.0
        if row == ONE_FRAME:
            source = self._codes[INVERSION if self._ways.encoder is None else ENCODER]
            return {
                name: codes[:, codes.shape[1] // 2][:, None].repeat(1, codes.shape[1]) for name, codes in source.items()
            }, 0.0
        return {each.name: self._fit(self._preset_for(row, each), each) for each in self._subjects}, 0.0

    def _encoder_of(self, row: str) -> CodecEncoder | None:
        if row == RANDOM:
            return self._call(lambda model: random_encoder(model, self._options.seed))
        return {ENCODER: self._ways.encoder, OWN: self._ways.own}.get(row)

    def _encode(self, encoder: CodecEncoder, subjects: Sequence[Subject]) -> tuple[dict[str, Tensor], float]:
        # Once unheeded, for the first call makes what the others find ready.
        self._call(lambda model: _encode(model, encoder, subjects[0].reference))
        started = time.perf_counter()
        found = {
            each.name: self._call(lambda model, clip=each.reference: _encode(model, encoder, clip)).clone()
            for each in subjects
        }
        return found, time.perf_counter() - started

    def _search_for(
        self, row: str, subjects: Sequence[Subject], start: Mapping[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], float]:
        """Search for the codes of clips, a few side by side; a clip gets the same whatever lies beside it."""
        rate = self._config.sample_rate
        is_on_gpu = self._call(lambda model: model.device.type) != "cpu"
        options = RefineOptions(
            steps=self._options.steps if start is None else STEPS_FROM_ENCODER, seed=self._options.seed
        )
        found: dict[str, Tensor] = {}
        total = 0.0
        for group in _groups(subjects, rate * _TOGETHER_GPU_S if is_on_gpu else 0.0):
            seconds = sum(len(each.reference) for each in group) / rate
            before = 0

            def tell(progress: RefineProgress, seconds: float = seconds) -> None:
                nonlocal before
                what = f"{row}: step {progress.step} of {progress.steps}"
                self._tell(what, _STEP_COST * seconds * (progress.step - before))
                before = progress.step

            def search(group: Sequence[Subject] = group) -> tuple[dict[str, Tensor], float]:
                began = time.perf_counter()
                clips = [torch.as_tensor(each.reference) for each in group]
                codes = None if start is None else [start[each.name] for each in group]
                results = self._search.find(clips, options, codes, tell)
                took = time.perf_counter() - began
                return {each.name: one.codes for each, one in zip(group, results, strict=True)}, took

            # A part by itself, because on a large model a group takes minutes.
            names = ", ".join(each.name for each in group)
            part, took = self._kept.codes(f"codes, {row}, {names}", search)
            found |= part
            total += took
            self._tell(f"{row}: codes", _STEP_COST * seconds * (options.steps or 0) - _STEP_COST * seconds * before)
        return found, total

    def _preset_for(self, row: str, subject: Subject) -> Preset:
        """Choose the preset that stands for a voice: never itself."""
        order = self._order[subject.name]
        name = order[0 if row == NEAREST else min(_FAR, len(order) - 1)]
        return next(preset for preset in self._presets if preset.name == name)

    def _fit(self, preset: Preset, subject: Subject) -> Tensor:
        """Repeat the codes of a preset, or cut them, to the length of a clip."""
        count = -(-len(subject.reference) // self._config.samples_per_frame)
        return preset.codes[:, torch.arange(count) % preset.codes.shape[1]]

    # Judging.

    def _agreement(self, row: str, found: Mapping[str, Tensor]) -> dict[str, Agreement]:
        def judge() -> dict[str, Any]:
            prior = self._search.speechlike.prior
            return {
                each.name: asdict(
                    self._call(
                        lambda model, each=each, true=each.codes: judge_agreement(model, found[each.name], true, prior)
                    )
                )
                for each in self._preset_subjects
                if each.codes is not None
            }

        return {name: Agreement(**each) for name, each in self._kept.facts(f"agreement, {row}", judge).items()}

    def _copies(self, row: str, found: Mapping[str, Tensor]) -> dict[str, Copy]:
        def judge() -> dict[str, Any]:
            copies: dict[str, Any] = {}
            for each in self._subjects:
                sound = decode(found[each.name], self._call)
                copy = judge_copy(each, sound, self._lateness, self._config.sample_rate, self._measures)
                copies[each.name] = asdict(copy)
            return copies

        return {name: Copy(**each) for name, each in self._kept.facts(f"copies, {row}", judge).items()}

    def _clones(self, row: str, subject: Subject, found: Mapping[str, Tensor]) -> list[Clone]:
        before, count = self._done, self._options.num_sentences

        def judge() -> list[dict[str, Any]]:
            texts = sentences_for(subject.language).said[:count]
            voice = self._voice(row, subject, found)
            lines = [Line(text, voice, number) for number, text in enumerate(texts)]
            said = self._talker.say(lines, lambda: self._tell(f"{row}: {subject.name}", 1.0))
            return [asdict(self._lineup.judge(subject.name, each)) for each in said]

        judged = self._kept.facts(f"clones, {row}, {subject.name}", judge)
        self._done = before + count
        return [Clone(**each) for each in judged]

    def _voice(self, row: str, subject: Subject, found: Mapping[str, Tensor]) -> VoicePrompt:
        if row == TRUE and subject.voice is not None:
            return subject.voice
        if row in (NEAREST, ANOTHER):
            return self._preset_for(row, subject).voice
        codes = found[subject.name][:, : 1 if row == ONE_FRAME else None]
        rows = self._call(lambda model: model.embed_codes(codes.to(model.device)).cpu()).clone()
        return VoicePrompt(subject.name, rows)

    def _levels(self) -> float | None:
        """Give how much of a change of level the codes of the encoder follow: 1 is all of it."""
        encoder, rate = self._ways.encoder, self._config.sample_rate
        if encoder is None:
            return None

        def judge() -> list[float]:
            followed: list[float] = []
            for each in self._subjects:
                sounds: list[Samples] = []
                for gain in (1.0, _QUIETER):
                    clip = gain * each.reference
                    codes = self._call(lambda model, clip=clip: _encode(model, encoder, clip)).clone()
                    sounds.append(decode(codes, self._call))
                followed.append(level_change(sounds[0], sounds[1], rate))
            return followed

        changes = [change for change in self._kept.facts("levels", judge) if change == change]  # without NaN
        wanted = level_change(self._subjects[0].reference, _QUIETER * self._subjects[0].reference, rate)
        return sum(changes) / len(changes) / wanted if changes else None


def _encode(model: CodecModel, encoder: CodecEncoder, clip: Samples) -> Tensor:
    """Encode a clip [S] to codes [K, T] in CPU memory."""
    latent = encoder(torch.as_tensor(clip, device=model.device)[None])
    return model.codec.quantizer.latent_to_codes(latent)[0].cpu()


@torch.inference_mode(False)
def random_encoder(model: CodecModel, seed: int) -> CodecEncoder:
    """Make an encoder that has learned nothing."""
    encoder = CodecEncoder(model.config.codec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
    return encoder.to(device=model.device, dtype=model.codec.dtype).eval().requires_grad_(False)


def _groups(subjects: Sequence[Subject], most: float) -> list[list[Subject]]:
    """Put clips together as long as they are no longer than so many samples, or one alone."""
    groups: list[list[Subject]] = []
    taken = 0
    for subject in subjects:
        if not groups or taken + len(subject.reference) > most:
            groups.append([])
            taken = 0
        groups[-1].append(subject)
        taken += len(subject.reference)
    return groups


def identity(options: EvaluationOptions, facts: Mapping[str, Any], people: Sequence[Subject] | None) -> dict[str, Any]:
    """Tell one evaluation from another.

    Args:
        options: of the evaluation.
        facts: what else it depends on, such as digests of decoder and encoder.
        people: whose clips they are.
    """
    clips = hashlib.sha256()
    for each in people or ():
        for samples in (each.reference, *each.known):
            clips.update(samples.tobytes())
    return {**asdict(options), **facts, "clips": None if people is None else clips.hexdigest()}
