"""Measure clones of nano without its encoder: python -m benchmarks.quality.cloning WORK --json OUT.

The checkpoint is nano with the encoder's tensors taken out; its own encoder is one of the systems compared. Every voice
is one that the training never heard, by a clip of 3 s; it then says sentences of the test split. What each sentence is
nearest to is judged by Resemblyzer, which no search used. Takes some twenty minutes of one core, and goes on in WORK
where it was stopped: with `--seconds 150` it begins nothing after so many. Needs the teacher (espeak-ng) and
Resemblyzer. docs/CLONING.md has the figures.

`--distilled FILE` adds an encoder that `voxtral train-encoder --model WORK/nano` made, and 25 steps from its codes.

With `--model 4b --clips DIR` it compares what the 4B can do on one's own clips, `<speaker>/*.wav`, two of each speaker
at least; it has no encoder, so nothing is compared with one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.quality.cases import Studio, read_sentences
from benchmarks.quality.speakers import Resemblyzer
from train.recogniser import Recogniser
from voxtral.audio.read import read_audio
from voxtral.cloning.options import RefineOptions
from voxtral.cloning.search import CodeSearch
from voxtral.cloning.spectra import SpectralDistance
from voxtral.device import describe_machine
from voxtral.errors import BatchError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.encoder_file import EncoderFacts, name_tensors, open_encoder, own_encoder, write_encoder
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.loading.inventory import ENCODER_PREFIXES
from voxtral.loading.locate import locate_model
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.speech.codec import VoxtralCodec, open_codec
from voxtral.tts import VoxtralTTS
from voxtral.types import SpeechRequest
from voxtral.voices.prompt import VoicePrompt

_RATE = 24000
_SENTENCES = 12
_RECOGNISER = Path(__file__).with_name("recogniser.safetensors")
_DELIVERED = Path(__file__).parents[2] / "src" / "voxtral" / "data" / "nano"
_FAR = 9  # place, among presets by likeness, of the one that is no match

# Where the codes of each come from: steps of a search, and whether from an encoder's codes.
_SEARCHES = {
    "search, 60 steps": (60, False),
    "search, 300 steps": (300, False),
    "encoder + 40 steps": (40, True),
}
_ENCODED = ("encoder",)
# Of an encoder that `voxtral train-encoder` made, by --distilled.
_DISTILLED = {"distilled": 0, "distilled + 25 steps": 25}
_CONTROLS = ("random encoder", "one frame", "nearest preset", "another preset")


@dataclass(frozen=True)
class Said:
    """One sentence of one clone, judged.

    Attributes:
        same: similarity to the voice, by another clip of it.
        other: mean similarity to the other voices.
        is_right: whether no other voice is nearer.
        seconds: of audio.
        ended: whether it ended by itself.
    """

    same: float
    other: float
    is_right: bool
    seconds: float
    ended: bool


@dataclass(frozen=True)
class Copied:
    """The codes of one clip, decoded and judged.

    Attributes:
        distance: spectral distance from the clip.
        likeness: similarity to the clip.
        prior: how unlike those of presets the codes are; 1 is alike.
        compute_s: CPU seconds that the codes took, clips side by side.
    """

    distance: float
    likeness: float
    prior: float
    compute_s: float


class Bench:
    """The voices, the model and the measures of one run.

    Args:
        work: folder of what is done.
        model: checkpoint without encoder.
        clips: by speaker, the reference and another clip to know the voice by: [S] float32 each.
        encoder: an encoder file, or None.
        distilled: another, made by `voxtral train-encoder`, or None.
    """

    def __init__(
        self,
        work: Path,
        model: Path,
        clips: dict[str, tuple[np.ndarray, np.ndarray]],
        encoder: Path | None,
        distilled: Path | None = None,
    ) -> None:
        self.work = work
        self.model = model
        self.clips = clips
        self.encoder = encoder
        self.distilled = distilled
        self.measure = Resemblyzer()
        self.known = {name: self.measure.embed(known) for name, (_, known) in clips.items()}
        self.references = {name: self.measure.embed(reference) for name, (reference, _) in clips.items()}

    def open(self, encoder: Path | None = None) -> VoxtralCodec:
        """Open the codec, with an encoder where one is named."""
        return open_codec(self.model, device="cpu", encoder=encoder)

    def codes(self, system: str, seed: int) -> dict[str, torch.Tensor]:
        """Make the codes of all clips, once."""
        path = self.work / f"codes-{_slug(system)}-{seed}.safetensors"
        if path.exists():
            return load_file(path)
        started = time.process_time()
        made = self._make_codes(system, seed)
        seconds = (time.process_time() - started) / len(made)
        (self.work / f"cost-{_slug(system)}-{seed}.json").write_text(json.dumps(seconds), encoding="utf-8")
        save_file({name: codes.contiguous() for name, codes in made.items()}, path)
        return made

    def _make_codes(self, system: str, seed: int) -> dict[str, torch.Tensor]:
        if system == "one frame":
            whole = self.codes("encoder" if self.encoder else "search, 60 steps", seed if not self.encoder else 0)
            return {name: codes[:, codes.shape[1] // 2][:, None] for name, codes in whole.items()}
        if system in ("encoder", "random encoder"):
            with self.open(self.encoder if system == "encoder" else self._random_encoder()) as codec:
                return {name: codec.encode((reference, _RATE)) for name, (reference, _) in self.clips.items()}
        if system == "distilled":
            with self.open(self.distilled) as codec:
                return {name: codec.encode((reference, _RATE)) for name, (reference, _) in self.clips.items()}
        if system in _DISTILLED:
            steps, start = _DISTILLED[system], self.codes("distilled", 0)
        else:
            steps, is_from_encoder = _SEARCHES[system]
            start = self.codes("encoder", 0) if is_from_encoder else None
        with self.open() as codec:
            found = _search(codec).find(
                [torch.as_tensor(reference) for reference, _ in self.clips.values()],
                RefineOptions(steps=steps, seed=seed),
                None if start is None else [start[name] for name in self.clips],
            )
        return {name: each.codes for name, each in zip(self.clips, found, strict=True)}

    def _random_encoder(self) -> Path:
        path = self.work / "random-encoder.safetensors"
        if not path.exists():
            checkpoint = open_checkpoint(self.model)
            torch.manual_seed(0)
            encoder = CodecEncoder(checkpoint.config.codec)
            for parameter in encoder.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
            write_encoder(path, name_tensors(encoder), checkpoint, EncoderFacts(origin="other"))
        return path

    def copies(self, system: str, seed: int) -> dict[str, Copied]:
        """Decode the codes of each clip and compare them with it."""
        codes = self.codes(system, seed)
        cost = json.loads((self.work / f"cost-{_slug(system)}-{seed}.json").read_text(encoding="utf-8"))
        copied: dict[str, Copied] = {}
        with self.open() as codec:
            speechlike = _search(codec).speechlike
            distance = SpectralDistance(_RATE)
            for name, (reference, _) in self.clips.items():
                samples = codec.decode(codes[name]).samples
                target = np.zeros(len(samples), np.float32)
                late = np.pad(reference, (speechlike.lateness, 0))[: len(samples)]
                target[: len(late)] = late
                with torch.no_grad():
                    off, _ = distance(torch.as_tensor(samples)[None], distance.spectra(torch.as_tensor(target)[None]))
                levels = codes[name][1:].T[None].float() / 10 - 1
                is_frame = torch.ones(levels.shape[:2], dtype=torch.bool)
                unlike = 0.0 if speechlike.prior is None else float(speechlike.prior.distance(levels, is_frame))
                likeness = float(self.measure.embed(samples) @ self.references[name]) if len(samples) > _RATE else 0.0
                copied[name] = Copied(float(off), likeness, unlike, cost)
        return copied

    def judge(self, kind: str, system: str, seed: int) -> Any:
        """Judge the copies or the speech of a system, as JSON."""
        if kind == "copies":
            return {name: asdict(each) for name, each in self.copies(system, seed).items()}
        return [asdict(each) for each in self.say(system, seed)]

    def voices(self, tts: VoxtralTTS, system: str, seed: int) -> dict[str, VoicePrompt]:
        """Make the voices that speak."""
        if not system.endswith("preset"):
            rows = {
                name: tts.engine.call(lambda model, codes=codes: model.embed_codes(codes).clone())
                for name, codes in self.codes(system, seed).items()
            }
            return {name: VoicePrompt(name, each.cpu()) for name, each in rows.items()}
        likes = self._presets(tts)
        chosen: dict[str, VoicePrompt] = {}
        for name, reference in self.references.items():
            order = sorted(likes, key=lambda preset, to=reference: -float(likes[preset] @ to))
            chosen[name] = tts.load_voice(order[0 if system == "nearest preset" else min(_FAR, len(order) - 1)])
        return chosen

    def _presets(self, tts: VoxtralTTS) -> dict[str, np.ndarray]:
        path = self.work / "presets.npz"
        if not path.exists():
            text = "The boy was there when the sun rose, and a rod is used to catch pink salmon."
            spoken = {each.name: tts.synthesize(text, voice=each.name, seed=3).samples for each in tts.voices}
            np.savez(path, **{name: self.measure.embed(samples) for name, samples in spoken.items()})
        return dict(np.load(path))

    def say(self, system: str, seed: int) -> list[Said]:
        """Let the clones of a system speak, and judge them."""
        sentences = read_sentences("test", "en")[:_SENTENCES]
        with VoxtralTTS.from_pretrained(self.model, device="cpu") as tts:
            asked = [
                (name, SpeechRequest(text, "en", voice=voice, seed=1000 * seed + number))
                for name, voice in self.voices(tts, system, seed).items()
                for number, text in enumerate(sentences)
            ]
            try:
                results: Sequence[Any] = tts.synthesize_batch([request for _, request in asked])
            except BatchError as error:
                results = error.results
        return [self._judge(name, result) for (name, _), result in zip(asked, results, strict=True)]

    def _judge(self, name: str, result: Any) -> Said:
        ended = not isinstance(result, BaseException)
        samples = result.samples if ended else getattr(result, "audio", None)
        if samples is None or len(samples) < _RATE // 4:
            return Said(0.0, 0.0, is_right=False, seconds=0.0, ended=ended)
        heard = self.measure.embed(samples)
        near = {other: float(heard @ known) for other, known in self.known.items()}
        others = [value for other, value in near.items() if other != name]
        return Said(near[name], fmean(others), near[name] > max(others), len(samples) / _RATE, ended)


def _search(codec: VoxtralCodec) -> CodeSearch:
    return CodeSearch(codec.run, lambda: [codec.load_voice(voice.name).rows for voice in codec.voices])


def _slug(name: str) -> str:
    return "".join(character if character.isalnum() else "-" for character in name)


def strip_encoder(source: Path, target: Path) -> Path:
    """Copy a checkpoint without its encoder."""
    if not target.exists():
        partial = target.with_name(f"{target.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial)
        kept = {
            name: value
            for name, value in load_file(source / WEIGHTS_FILE).items()
            if not name.startswith(ENCODER_PREFIXES)
        }
        save_file(kept, partial / WEIGHTS_FILE)
        # Made for weights with an encoder, and of no use here.
        (partial / "alignment.json").unlink(missing_ok=True)
        partial.rename(target)
    return target


def held_out_clips() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Let the teacher's held-out voices say what they are known by."""
    studio = Studio(Recogniser.load(_RECOGNISER).phonemes)
    names = [voice.name for voice in studio.held_out]
    return {
        name: (
            np.asarray(studio.reference("en", name), np.float32),
            np.asarray(studio.enrolment("en", name), np.float32),
        )
        for name in names
    }


def own_clips(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the first two clips of each speaker's folder.

    Raises:
        SystemExit: there are fewer than four speakers with two clips.
    """
    clips: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = sorted(speaker.glob("*.wav"))[:2]
        if len(paths) == 2:
            first, second = (np.asarray(read_audio(path, sample_rate=_RATE), np.float32) for path in paths)
            clips[speaker.name] = (first, second)
    if len(clips) < 4:
        raise SystemExit(f"{folder} has {len(clips)} folders with two .wav files; it needs four, one for each speaker")
    return clips


def summarise(said: Sequence[Said], copied: Sequence[Copied]) -> dict[str, Any]:
    """Average what was judged; a preset has no copies."""
    table: dict[str, Any] = {
        "n": len(said),
        "same": fmean(each.same for each in said),
        "same_minus_other": fmean(each.same - each.other for each in said),
        "right": fmean(each.is_right for each in said),
        "seconds": fmean(each.seconds for each in said),
        "ended": fmean(each.ended for each in said),
    }
    if copied:
        for field in ("distance", "likeness", "prior", "compute_s"):
            table[f"copy_{field}"] = fmean(getattr(each, field) for each in copied)
    return {key: round(value, 4) for key, value in table.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is left; 0 when all is done, 3 when time was over before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder of what is done")
    parser.add_argument("--model", default="nano", help="a checkpoint; the encoder of nano is taken out")
    parser.add_argument("--clips", type=Path, help="folders of speakers; default: the teacher's held-out voices")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing after so many")
    parser.add_argument("--json", type=Path, help="where the result goes")
    parser.add_argument("--distilled", type=Path, help="an encoder file of voxtral train-encoder, to be compared, too")
    parser.add_argument("--systems", nargs="+", help="only these")
    options = parser.parse_args(arguments)
    stop = time.monotonic() + options.seconds
    options.work.mkdir(parents=True, exist_ok=True)
    model, encoder = Path(options.model), None
    if options.model == "nano":
        model = strip_encoder(_DELIVERED, options.work / "nano")
        encoder = options.work / "encoder.safetensors"
        if not encoder.exists():
            write_encoder(
                encoder,
                own_encoder(open_checkpoint(_DELIVERED)),
                open_checkpoint(model),
                EncoderFacts(origin="official"),
            )
    else:
        model = locate_model(options.model, allow_download=False)
    clips = own_clips(options.clips) if options.clips else held_out_clips()
    bench = Bench(options.work, model, clips, encoder, options.distilled)
    systems = [*(_ENCODED if encoder else ()), *_SEARCHES, *(_DISTILLED if options.distilled else ()), *_CONTROLS]
    if encoder is None:
        systems.remove("encoder + 40 steps")
    systems = [system for system in systems if not options.systems or system in options.systems]
    results: dict[str, Any] = {}
    for seed in options.seeds:
        for system in systems:
            for kind in ("copies", "said")[system.endswith("preset") :]:
                path = options.work / f"{kind}-{_slug(system)}-{seed}.json"
                if not path.exists():
                    if time.monotonic() > stop:
                        return 3
                    path.write_text(json.dumps(bench.judge(kind, system, seed)), encoding="utf-8")
                    sys.stderr.write(f"{kind}: {system}, seed {seed}\n")
                results[f"{kind}/{system}/{seed}"] = json.loads(path.read_text(encoding="utf-8"))
    rows = {
        f"{system}, seed {seed}": summarise(
            [Said(**each) for each in results[f"said/{system}/{seed}"]],
            [Copied(**each) for each in results.get(f"copies/{system}/{seed}", {}).values()],
        )
        for system in systems
        for seed in options.seeds
    }
    report = {"machine": describe_machine(), "model": options.model, "clips": sorted(clips), "systems": rows}
    if options.distilled:
        report["distilled"] = asdict(open_encoder(options.distilled, open_checkpoint(model)).facts)
    for name, row in rows.items():
        print(f"{name:32s}", *(f"{key} {value:.3f}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
