"""Trainer: an encoder's training from beginning to end, which may be stopped anywhere and goes on to the bit.

Two columns judge it on the way, by the running mean of the weights, which is what is kept in the end: pairs that were
held out, and the presets, whose codes are true ones and are never trained on. The state is written every five minutes
and at the end; chance depends on the number of a step alone, so a state holds none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.cloning.distil import SPEECH_SHARE, Distiller, Pairs, StepInput, StepResult, draw_step
from voxtral.cloning.plan import RunSize
from voxtral.cloning.speech_files import SpeechFiles
from voxtral.cloning.start import make_optimisers, start_encoder
from voxtral.cloning.state import (
    STATE_FILE,
    Standing,
    load_state,
    name_optimiser_tensors,
    restore_optimisers,
    save_state,
)
from voxtral.errors import TrainingError
from voxtral.model.codec_encoder import CodecEncoder

_SECONDS_BETWEEN_SAVES = 300.0
# Of the steps: the rise of the rate, the part without a comparison of sounds, and what may pass without a gain.
_WARM_UP, _WITHOUT_SOUND, _PATIENCE = 0.01, 0.6, 0.2
_LEAST_WARM_UP = 60
_LAST_RATE = 0.03
_SHARPNESS_RATE = 0.02
_MAX_GRADIENT = 1.0
_MEAN_DECAY = 0.999
# Times that a loss may be no number; the rate is halved each time.
_MAX_RETRIES = 3
# The columns are looked at so often in a training.
_NUM_LOOKS = 20
_LEAST_GAIN, _LEAST_LEVEL_GAIN = 0.002, 0.005
_START_ROWS = 32

Ending = Literal["done", "stopped", "no better"]


@dataclass(frozen=True)
class Score:
    """How well codes are found again.

    Attributes:
        semantic: share of semantic codes that are right.
        levels: mean distance of acoustic codes, in levels.
    """

    semantic: float
    levels: float


@dataclass(frozen=True, eq=False)
class Column:
    """Sound whose codes are known, to judge by; P pieces.

    Attributes:
        samples: [P, S] float32.
        codes: [P, K, T] int64.
        is_frame: [P, T] bool, what counts.
    """

    samples: Tensor
    codes: Tensor
    is_frame: Tensor

    @classmethod
    def make(cls, distiller: Distiller, sequences: Sequence[Tensor], num_frames: int) -> Column | None:
        """Decode the beginnings of sequences of codes [K, T]; None where none is long enough."""
        extra = distiller.num_extra
        long = [each[:, : num_frames + extra] for each in sequences if each.shape[1] > extra]
        if not long:
            return None
        codes = torch.stack([F.pad(each, (0, num_frames + extra - each.shape[1])) for each in long])
        lengths = torch.tensor([each.shape[1] - extra for each in long])
        heard, _ = distiller.sound(codes)
        is_frame = torch.arange(num_frames) < lengths[:, None]
        return cls(heard, codes[:, :, :num_frames].to(heard.device), is_frame.to(heard.device))

    @torch.no_grad()
    def judge(self, distiller: Distiller, encoder: CodecEncoder) -> Score:
        """Let an encoder find the codes."""
        quantizer = distiller.decoder.quantizer
        found = torch.cat([quantizer.latent_to_codes(encoder(part)) for part in self.samples.split(16)])
        count = self.is_frame.sum()
        is_right = (found[:, 0] == self.codes[:, 0]) & self.is_frame
        away = (found[:, 1:] - self.codes[:, 1:]).abs().float().mean(1) * self.is_frame
        return Score(float(is_right.sum() / count), float(away.sum() / count))


@dataclass(frozen=True)
class TrainingProgress:
    """A moment of a training.

    Attributes:
        step: how many are made.
        steps: of all.
        seconds: that were spent, in all runs together.
        seen_hours: of sound that was heard.
        last: what the last step measured.
        held_out: of pairs that are not trained on, when they were last looked at.
        presets: of the presets' codes; None where they did not come out.
    """

    step: int
    steps: int
    seconds: float
    seen_hours: float
    last: StepResult
    held_out: Score | None
    presets: Score | None

    @property
    def fraction(self) -> float:
        """Part of the steps that is made."""
        return self.step / self.steps


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a training, or of what there was time for.

    Attributes:
        ending: how it ended.
        encoder: with the mean of the weights.
        standing: where it stands.
        held_out: see TrainingProgress.
        presets: see TrainingProgress.
    """

    ending: Ending
    encoder: CodecEncoder
    standing: Standing
    held_out: Score | None
    presets: Score | None


class Trainer:
    """Trains the encoder of a Distiller.

    Args:
        distiller: whose encoder it is.
        pairs: to learn from.
        size: of the training.
        standing: of a training that has not begun, by which one that has is known again.
        folder: of the state.
        held_out: a column of pairs that are not among `pairs`; None where there are too few.
        presets: a column of the presets; None where their codes are not known.
        speech: unlabelled speech besides.
        rows_at_once: rows that are computed side by side.
    """

    def __init__(  # noqa: PLR0913 - each is a part of its own
        self,
        distiller: Distiller,
        pairs: Pairs,
        size: RunSize,
        standing: Standing,
        folder: Path,
        *,
        held_out: Column | None = None,
        presets: Column | None = None,
        speech: SpeechFiles | None = None,
        rows_at_once: int | None = None,
    ) -> None:
        self.standing = standing
        self._distiller = distiller
        self._pairs = pairs
        self._size = size
        self._folder = folder
        self._columns = {"held_out": held_out, "presets": presets}
        self._scores: dict[str, Score | None] = {"held_out": None, "presets": None}
        self._speech = speech
        self._rows_at_once = rows_at_once or size.rows
        self._mean = CodecEncoder(distiller.config.codec).requires_grad_(False).to(distiller.device)
        self._optimisers: list[torch.optim.Optimizer] = []

    def run(
        self,
        on_progress: Callable[[TrainingProgress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
        warn: Callable[[str], None] = lambda message: None,
    ) -> Trained:
        """Train on from where the folder stands, until the end, or until told to stop.

        Args:
            on_progress: told of each step.
            should_stop: asked before each step; then the state is written.
            warn: told of what goes otherwise than it should.

        Raises:
            TrainingError: the state in the folder is damaged or of another training; the disk refuses; or the loss was
                no number once too often.
        """
        begun = self._restore(self.standing)
        if begun.step and begun.steps != self._size.steps:
            warn(f"the training was begun for {begun.steps} steps and now has {self._size.steps}")
        if begun.step and begun.num_frames != self._pairs.num_frames:
            warn(f"the training was begun with {begun.num_frames} frames of pairs and now has {self._pairs.num_frames}")
        self.standing = replace(begun, steps=self._size.steps, num_frames=self._pairs.num_frames)
        if self.standing.step < self._size.steps and begun.steps != self._size.steps:
            self.standing = replace(self.standing, is_over=False)
        clock = saved = time.monotonic()
        while self.standing.step < self._size.steps and not self.standing.is_over:
            if should_stop():
                self._save()
                return self._result("stopped")
            result = self._step()
            now = time.monotonic()
            self.standing = replace(self.standing, seconds=self.standing.seconds + now - clock)
            clock = now
            if result is None:
                self._fall_back(warn)
                continue
            self.standing = replace(self.standing, step=self.standing.step + 1)
            self._look()
            on_progress(self._progress(result))
            if now - saved >= _SECONDS_BETWEEN_SAVES:
                self._save()
                saved = time.monotonic()
        ending: Ending = "done" if self.standing.step >= self._size.steps else "no better"
        self.standing = replace(self.standing, is_over=True)
        self._save()
        return self._result(ending)

    # One step.

    def _step(self) -> StepResult | None:
        """Make a step; None where its loss or its gradient is no number, and nothing was changed."""
        for optimiser in self._optimisers:
            optimiser.zero_grad()
        result = self._distiller.add_gradients(self._draw(), self._rows_at_once)
        norm = torch.nn.utils.clip_grad_norm_(self._distiller.trained, _MAX_GRADIENT)
        if not (math.isfinite(result.loss) and math.isfinite(float(norm))):
            return None
        factor = self._rate_factor()
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["first_rate"] * factor
            optimiser.step()
        decay = min(_MEAN_DECAY, (1 + self.standing.step) / (10 + self.standing.step))
        with torch.no_grad():
            trained = self._distiller.encoder.parameters()
            for mean, value in zip(self._mean.parameters(), trained, strict=True):
                mean.lerp_(value, 1 - decay)
        return result

    def _draw(self) -> StepInput:
        size, step = self._size, self.standing.step
        draw = np.random.default_rng([self.standing.seed, step])
        num_speech = 0
        sounds = step >= _WITHOUT_SOUND * size.steps
        if sounds and self._speech is not None:
            num_speech = max(1, round(SPEECH_SHARE * size.rows))
        drawn = draw_step(
            self._pairs,
            self._distiller.config,
            draw,
            rows=max(1, size.rows - num_speech),
            frames=size.frames,
            extra=self._distiller.num_extra,
            sounds=sounds,
            num_speech=num_speech,
        )
        if not num_speech or self._speech is None:
            return drawn
        num_samples = size.frames * self._distiller.config.samples_per_frame
        crops = self._speech.crops(self.standing.seed, step, num_speech, num_samples)
        return replace(drawn, speech=torch.from_numpy(crops))

    def _rate_factor(self) -> float:
        steps, step = self._size.steps, self.standing.step
        warm_up = max(_WARM_UP * steps, min(_LEAST_WARM_UP, 0.1 * steps))
        fall = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))
        return self.standing.scale * min(1.0, (step + 1) / warm_up) * fall

    # Judging.

    def _look(self) -> None:
        """Look at the columns where it is time, and see whether the training still gets better."""
        step, steps = self.standing.step, self._size.steps
        if step % max(1, steps // _NUM_LOOKS) and step != steps:
            return
        for name, column in self._columns.items():
            if column is not None:
                self._scores[name] = column.judge(self._distiller, self._mean)
        score = self._scores["presets"] or self._scores["held_out"]
        if score is None:
            return
        old = self.standing
        is_better = score.semantic > old.semantic + _LEAST_GAIN or score.levels < old.levels - _LEAST_LEVEL_GAIN
        self.standing = replace(
            old,
            semantic=max(old.semantic, score.semantic),
            levels=min(old.levels, score.levels),
            best_step=step if is_better else old.best_step,
            is_over=not is_better and step - old.best_step >= _PATIENCE * steps,
        )

    def _progress(self, result: StepResult) -> TrainingProgress:
        standing = self.standing
        return TrainingProgress(
            standing.step,
            standing.steps,
            standing.seconds,
            self._size.hours_of(standing.step, self._distiller.config.frame_rate),
            result,
            self._scores["held_out"],
            self._scores["presets"],
        )

    def _result(self, ending: Ending) -> Trained:
        return Trained(ending, self._mean, self.standing, self._scores["held_out"], self._scores["presets"])

    # The state.

    def _restore(self, fresh: Standing) -> Standing:
        """Bring weights and optimisers to where the folder stands, or to the beginning."""
        distiller, size = self._distiller, self._size
        found = load_state(self._folder)
        self._optimisers = make_optimisers(distiller.encoder, size.rate)
        self._optimisers.append(torch.optim.Adam([distiller.log_sharpness], lr=_SHARPNESS_RATE))
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["first_rate"] = group["lr"]
        if found is None:
            self._begin(fresh.seed)
            return fresh
        standing, tensors = found
        for name in ("decoder", "seed", "rows", "frames"):
            if getattr(standing, name) != getattr(fresh, name):
                raise TrainingError(
                    f"{self._folder} holds a training with another {name} ({getattr(standing, name)}, not "
                    f"{getattr(fresh, name)}); name another --work, or go on with the options that it was begun with"
                )
        self._load(distiller.encoder, tensors, "encoder.")
        self._load(self._mean, tensors, "mean.")
        sharpness = tensors.get("log_sharpness")
        if sharpness is None or sharpness.shape != distiller.log_sharpness.shape:
            raise self._is_of_another()
        with torch.no_grad():
            distiller.log_sharpness.copy_(sharpness)
        restore_optimisers(self._optimisers, tensors)
        return standing

    def _begin(self, seed: int) -> None:
        distiller = self._distiller
        draw = np.random.default_rng([seed, 2**32])
        heard, _ = distiller.sound(self._pairs.draw(_START_ROWS, self._size.frames + distiller.num_extra, draw))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = CodecEncoder(distiller.config.codec)
            start_encoder(encoder, heard.float().cpu(), distiller.config.sample_rate)
        for target in (distiller.encoder, self._mean):
            target.load_state_dict(encoder.state_dict())
        with torch.no_grad():
            distiller.log_sharpness.zero_()

    def _load(self, encoder: CodecEncoder, tensors: Mapping[str, Tensor], prefix: str) -> None:
        mine = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        try:
            encoder.load_state_dict(mine)
        except RuntimeError as error:
            raise self._is_of_another() from error

    def _is_of_another(self) -> TrainingError:
        return TrainingError(
            f"{self._folder / STATE_FILE} is damaged, or of another encoder; delete it, or name another --work"
        )

    def _save(self) -> None:
        distiller = self._distiller
        tensors = {f"encoder.{name}": value for name, value in distiller.encoder.state_dict().items()}
        tensors |= {f"mean.{name}": value for name, value in self._mean.state_dict().items()}
        tensors["log_sharpness"] = distiller.log_sharpness
        tensors |= name_optimiser_tensors(self._optimisers)
        save_state(self._folder, self.standing, tensors)

    def _fall_back(self, warn: Callable[[str], None]) -> None:
        """Go back to the last state at half the rate."""
        failed = self.standing
        if failed.retries >= _MAX_RETRIES:
            raise TrainingError(
                f"the loss was no finite number {failed.retries + 1} times, at last in step {failed.step}, also at "
                f"{failed.scale:g} of the rate; it must fall; begin anew with another --seed, or look at the pairs"
            )
        before = self._restore(replace(failed, step=0, best_step=0, semantic=-1.0, levels=1e9, seconds=0.0))
        self.standing = replace(
            before,
            steps=failed.steps,
            num_frames=failed.num_frames,
            seconds=failed.seconds,
            scale=failed.scale / 2,
            retries=failed.retries + 1,
            is_over=False,
        )
        warn(
            f"the loss of step {failed.step} is no finite number; going on from step {before.step} at "
            f"{self.standing.scale:g} of the rate"
        )
        self._save()
