"""What fewer bits cost: the fit of each kind of matrix, agreement with the model as it is, and whether it still speaks.

    python -m benchmarks.quantisation --json FILE                       all of it; minutes
    python -m benchmarks.quantisation --parts fit agreement --json FILE    without listening
    python -m benchmarks.quantisation --page FILE                       put the figures of a report into the document

Fits and agreement are measured on nano (real speech) and on random weights of the published shape, a layer of each
kind. Listening reads sentences that neither training nor any choice has seen, and needs the teacher of training:
espeak-ng, or what the teachers of shards said (--takes), without whom lengths and distances are left out. All on a CPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.contiguous import ContiguousCache
from benchmarks.random_checkpoint import published_params, random_tensor
from benchmarks.report import ROOT, Report
from benchmarks.subjects import random_model
from voxtral.bench import round_figure
from voxtral.config import END_AUDIO, NUM_SPECIAL_CODES, ModelConfig, QuantizationConfig
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.loading.checkpoint import Checkpoint, TensorReader, open_checkpoint
from voxtral.loading.files import TOKENIZER_FILE, WEIGHTS_FILE
from voxtral.loading.load import load_model
from voxtral.loading.locate import locate_model
from voxtral.loading.params import parse_config
from voxtral.model.kernels.flow import round_to_codes
from voxtral.model.linear import QuantizedLinear, describe_products
from voxtral.model.voxtral import VoxtralModel, prepare_for_inference, set_flow_activations
from voxtral.quantization.fit import fit_int4, fit_int8
from voxtral.quantization.recipes import choose_recipe, is_quantizable, stored_precision
from voxtral.quantization.schemes import SCHEMES
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import load_tokenizer
from voxtral.voices.presets import list_presets
from voxtral.voices.prompt import load_voice

PAGE = ROOT / "docs" / "QUANTIZATION.md"
CPU = torch.device("cpu")

# Said before the test split was listened to. Differences to the same nano in float32, on the same sentences:
# phoneme error rate at most so much above, speech longer or shorter by at most so much, and mel-cepstral distance to
# the teacher at most so many times as large.
LIMITS: dict[str, dict[str, float]] = {
    "int8": {"error_rate": 0.02, "length_ratio": 0.05, "distance": 1.05},
    "int4": {"error_rate": 0.06, "length_ratio": 0.10, "distance": 1.10},
    "int4-all": {"error_rate": 0.10, "length_ratio": 0.10, "distance": 1.20},
}
PRECISIONS = ("bfloat16", *LIMITS)

# Bits of the flow's weights that there is no form for, to see what one would cost; in groups, by plain rounding.
_FLOW_BITS, _FLOW_GROUP = (6,), 64

# What the trained model says for the comparison of codes; any text does.
_TEXTS = (
    ("en_f1", "The quick brown fox jumps over the lazy dog near the river."),
    ("fr_m1", "Le petit chat dort sur la chaise de la cuisine."),
    ("de_f1", "Der letzte Zug nach Hamburg kommt heute um acht Uhr."),
    ("es_m1", "La casa blanca tiene una puerta de madera muy vieja."),
)
_MAX_FRAMES = 120

# Acoustic levels of every model of this family.
_LEVELS = 21

_PARTS = ("fit", "agreement", "speech")

Fit = Callable[[Tensor, int], Tensor]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, or write the page."""
    options = parse_options(words)
    torch.set_num_threads(options.threads)
    if options.page is not None:
        write_page(options.page)
        return
    report = Report("quantisation", options)
    report.note(limits=LIMITS, products=describe_products(CPU))
    with torch.inference_mode():
        if "fit" in options.parts:
            for cell in measure_fits(options.model):
                report.add(**cell)
        if "agreement" in options.parts:
            report.add(**measure_published_shape(options.layers))
            for cell in measure_agreement(open_checkpoint(locate_model(options.model, allow_download=False))):
                report.add(**cell)
    if "speech" in options.parts:
        with tempfile.TemporaryDirectory() as rounded:
            for cell in measure_speech(options, Path(rounded)):
                report.add(**cell)
    report.finish()


def parse_options(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="of real speech")
    parser.add_argument(
        "--parts", nargs="+", choices=("fit", "agreement", "speech"), default=["fit", "agreement", "speech"]
    )
    parser.add_argument("--layers", type=int, default=2, help="of the backbone in the published shape")
    parser.add_argument("--recogniser", type=Path, default=ROOT / "benchmarks" / "quality" / "recogniser.safetensors")
    parser.add_argument("--teachers", type=Path, help="what train.packages made: the corpus' teachers, to speak here")
    parser.add_argument("--takes", type=Path, help="what they said already (benchmarks.quality.takes)")
    parser.add_argument("--split", choices=("test", "dev"), default="test")
    parser.add_argument("--limit", type=int, default=4, help="sentences of each language")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="the report")
    parser.add_argument("--page", type=Path, metavar="REPORT", help="write docs/QUANTIZATION.md from a report")
    return parser.parse_args(words)


# How closely matrices are fitted.


def round_to_nearest(weight: Tensor, group_size: int, bits: int = 4) -> Tensor:
    """Cut the range of each group into 2 ** bits - 1 equal steps: the plain way."""
    groups = weight.float().unflatten(1, (-1, group_size))
    scale, zero = _plain_grid(groups, bits)
    return ((_quantise(groups, scale, zero, bits) - zero) * scale).flatten(1)


def fit_half_quadratic(weight: Tensor, group_size: int, *, num_rounds: int = 20, power: float = 0.7) -> Tensor:
    """Move the zeros so that a few large errors count less than many small ones (half-quadratic splitting).

    Source: Badri and Shaji, Half-Quadratic Quantization of Large Machine Learning Models, 2023: p = 0.7, beta from 10
    growing by 1.01, 20 rounds, scales as in rounding. Written anew from the description.
    """
    groups = weight.float().unflatten(1, (-1, group_size))
    scale, zero = _plain_grid(groups)
    beta, best_zero = 10.0, zero
    best = torch.full_like(zero, torch.inf)
    for _ in range(num_rounds):
        quantised = _quantise(groups, scale, zero)
        error = groups - (quantised - zero) * scale
        loss = error.abs().mean(-1, keepdim=True)
        best_zero = torch.where(loss < best, zero, best_zero)
        best = torch.minimum(best, loss)
        # What is left of an error after shrinking is taken for an outlier, and the zero is fitted to the rest.
        outlier = error.sign() * (error.abs() - (error.abs() + 1e-9).pow(power - 1) / beta).clamp(min=0)
        zero = (quantised - (groups - outlier) / scale).mean(-1, keepdim=True).half().float()
        beta *= 1.01
    return ((_quantise(groups, scale, best_zero) - best_zero) * scale).flatten(1)


def _plain_grid(groups: Tensor, bits: int = 4) -> tuple[Tensor, Tensor]:
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-20).bfloat16().float()
    return scale, ((2**bits - 1) / 2 - (low + high) / 2 / scale).half().float()


def _quantise(groups: Tensor, scale: Tensor, zero: Tensor, bits: int = 4) -> Tensor:
    return torch.addcdiv(zero, groups, scale).round().clamp(0, 2**bits - 1)


_INT4_FITS: dict[str, Fit] = {
    "rounding": round_to_nearest,
    "half-quadratic": fit_half_quadratic,
    "least squares": lambda weight, group_size: fit_int4(weight, group_size).dense(),
}


def measure_fits(model: str) -> Iterator[dict[str, Any]]:
    """Compare the fits on all matrices of nano, by kind, and on random ones of the published shape."""
    checkpoint = open_checkpoint(locate_model(model, allow_download=False))
    reader = TensorReader(checkpoint)
    everything = choose_recipe("int4-all", checkpoint.config)
    by_kind: dict[str, list[Tensor]] = {}
    for name in checkpoint.tensors:
        if stored_precision(name, everything) is not None:
            kind = ("acoustic " if name.startswith("acoustic") else "backbone ") + name.split(".")[-2]
            by_kind.setdefault(kind, []).append(reader.read(name))
    for kind, matrices in by_kind.items():
        yield {"part": "fit", "weights": "nano", "kind": kind, **_fit_errors(matrices)}
    generator = torch.Generator().manual_seed(0)
    for kind, shape in (("backbone wk", (1024, 3072)), ("backbone w2", (3072, 9216))):
        matrix = random_tensor(f"{kind}.weight", shape, generator)
        yield {"part": "fit", "weights": "random, published shape", "kind": kind, **_fit_errors([matrix])}


def _fit_errors(matrices: Sequence[Tensor]) -> dict[str, Any]:
    """Give the distance to the matrices relative to their norm, for each fit."""
    errors: dict[str, Any] = {"int8": _distance(matrices, lambda weight, _: fit_int8(weight).dense(), 0)}
    for group_size in (32, 64, 128):
        if any(matrix.shape[1] % group_size for matrix in matrices):
            continue
        for name, fit in _INT4_FITS.items():
            errors[f"{name}, groups of {group_size}"] = _distance(matrices, fit, group_size)
    return errors


def _distance(matrices: Sequence[Tensor], fit: Fit, group_size: int) -> float:
    off = sum(float((fit(matrix, group_size) - matrix.float()).square().sum()) for matrix in matrices)
    norm = sum(float(matrix.float().square().sum()) for matrix in matrices)
    return round_figure((off / norm) ** 0.5)


# How closely a model follows the one that is not quantised.


def measure_agreement(checkpoint: Checkpoint) -> Iterator[dict[str, Any]]:
    """Feed all precisions what the model in float32 said, and compare what each makes of it."""
    whole = _load(checkpoint, torch.float32, None)
    prompts = [_embed(checkpoint, whole, voice, text) for voice, text in _TEXTS]
    said = [_speak(whole, prompt, seed) for seed, prompt in enumerate(prompts)]
    inputs = [
        torch.cat((prompt, whole.embed_frames(frames)))[None] for prompt, frames in zip(prompts, said, strict=True)
    ]
    lengths = [len(frames) for frames in said]
    expected = _follow(whole, whole, inputs, lengths)
    for bits in _FLOW_BITS:
        model = _load(checkpoint, torch.float32, None, prepared=False)
        _round_flow(model, bits)
        prepare_for_inference(model)
        cell = {"part": "agreement", "weights": "nano", "precision": flow_of(bits), "frames": sum(lengths)}
        yield cell | _compare(_follow(model, whole, inputs, lengths), expected)
    for precision in PRECISIONS:
        is_quantised = precision in LIMITS
        recipe = choose_recipe(precision, checkpoint.config) if is_quantised else None
        model = _load(checkpoint, torch.float32 if is_quantised else torch.bfloat16, recipe)
        cell = {"part": "agreement", "weights": "nano", "precision": precision, "frames": sum(lengths)}
        yield cell | _compare(_follow(model, whole, inputs, lengths), expected)
        if is_quantised:
            set_flow_activations(model, 1)
            found = _compare(_follow(model, whole, inputs, lengths), expected)
            yield cell | {"precision": f"{precision}, activations int8"} | found


def measure_published_shape(num_layers: int) -> dict[str, Any]:
    """Compare the precisions on random weights: some layers of the backbone, one of the acoustic transformer."""
    config = parse_config(published_params())
    config = replace(
        config,
        backbone=replace(config.backbone, num_layers=num_layers),
        acoustic=replace(config.acoustic, num_layers=1),
    )
    embeds = torch.randn(1, 32, config.backbone.dim, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(32, config.codebooks.num_acoustic, generator=torch.Generator().manual_seed(3))
    cell: dict[str, Any] = {"part": "agreement", "weights": f"random, published shape, {num_layers} + 1 layers"}
    expected: Mapping[str, Tensor] | None = None
    for precision in ("float32", "int8", "int4"):
        recipe = None if precision == "float32" else choose_recipe(precision, config)
        model = random_model(config, CPU, torch.float32, None, is_prepared=False)
        _quantise_model(model, recipe)
        prepare_for_inference(model)
        hidden = ContiguousCache(model, embeds.shape[1]).extend(embeds)[0]
        source = hidden if expected is None else expected["hidden"]
        found = {
            "hidden": hidden,
            "logits": model.acoustic_transformer.semantic_logits(hidden),
            "state": _flow(model, source, noise, config),
        }
        if expected is None:
            expected = found
        else:
            cell[precision] = _compare(found, expected)
        del model
    return cell


def _quantise_model(model: VoxtralModel, recipe: QuantizationConfig | None) -> None:
    for path, module in list(model.named_modules()):
        precision = stored_precision(f"{path}.weight".removeprefix("backbone."), recipe)
        if recipe is not None and precision is not None and isinstance(module, torch.nn.Linear):
            parent, _, attribute = path.rpartition(".")
            weight = SCHEMES[precision].fit(module.weight, recipe.group_size)
            setattr(model.get_submodule(parent), attribute, QuantizedLinear(weight))


def flow_of(bits: int) -> str:
    """Name the whole model with a flow of so many bits, in the place of a precision."""
    return f"flow of {bits} bits"


def _round_flow(model: VoxtralModel, bits: int) -> None:
    """Round the flow's matrices in groups; they stay numbers of 32 bits: no file and no product has such a form."""
    for path, module in model.named_modules():
        if _is_of_flow(f"{path}.weight") and isinstance(module, torch.nn.Linear):
            module.weight.copy_(round_to_nearest(module.weight, _FLOW_GROUP, bits))


def _is_of_flow(name: str) -> bool:
    return is_quantizable(name) and name.startswith("acoustic_transformer.layers.")


def write_with_rounded_flow(folder: Path, target: Path, bits: int, group: int = _FLOW_GROUP) -> None:
    """Write a checkpoint of which the flow's matrices have so many bits, so that whoever loads it speaks with them."""
    shutil.copytree(folder, target)
    weights = load_file(folder / WEIGHTS_FILE)
    for name, tensor in weights.items():
        if _is_of_flow(name):
            weights[name] = round_to_nearest(tensor, group, bits).to(tensor.dtype)
    save_file(weights, target / WEIGHTS_FILE)


def _load(
    checkpoint: Checkpoint, dtype: torch.dtype, recipe: QuantizationConfig | None, *, prepared: bool = True
) -> VoxtralModel:
    return load_model(
        checkpoint, device=CPU, dtype=dtype, codec_dtype=torch.float32, quantization=recipe, prepared=prepared
    )


def _embed(checkpoint: Checkpoint, model: VoxtralModel, voice: str, text: str) -> Tensor:
    rows = load_voice(list_presets(checkpoint.folder)[voice], checkpoint.config).rows
    prompt = build_prompt(load_tokenizer(checkpoint.folder / TOKENIZER_FILE), text, rows.shape[0])
    return model.embed_prompt(torch.as_tensor(prompt.token_ids), rows)


def _speak(model: VoxtralModel, prompt: Tensor, seed: int) -> Tensor:
    """Generate frames: [T, K] audio tokens."""
    generation = model.config.generation
    cache = ContiguousCache(model, len(prompt) + _MAX_FRAMES)
    noise = SeededNoise(seed, 0, model.config.codebooks.num_acoustic)
    schedule = model.acoustic_transformer.make_schedule(generation.num_euler_steps)
    guidance = torch.tensor([generation.guidance_scale])
    hidden, frames = cache.extend(prompt[None])[:, -1], []
    for number in range(_MAX_FRAMES):
        drawn = torch.as_tensor(noise(number))[None] * generation.noise_scale
        tokens = model.generate_frame(hidden, drawn, guidance, schedule, may_end=number > 0).audio_tokens
        if tokens[0, 0] == END_AUDIO:
            break
        frames.append(tokens)
        hidden = cache.extend(model.embed_frames(tokens)[:, None])[:, 0]
    return torch.cat(frames)


def _follow(
    model: VoxtralModel, whole: VoxtralModel, inputs: Sequence[Tensor], lengths: Sequence[int]
) -> dict[str, Tensor]:
    """Run a model over given positions; its flow starts from the hidden states of the whole model and fixed noise."""
    hidden, source = (
        torch.cat(
            [
                ContiguousCache(part, embeds.shape[1]).extend(embeds.to(part.dtype))[0, -length - 1 : -1]
                for embeds, length in zip(inputs, lengths, strict=True)
            ]
        )
        for part in (model, whole)
    )
    config = whole.config
    noise = torch.randn(len(hidden), config.codebooks.num_acoustic, generator=torch.Generator().manual_seed(4))
    logits = model.acoustic_transformer.semantic_logits(hidden)
    state = _flow(model, source, noise * config.generation.noise_scale, config)
    # Past END_AUDIO and EMPTY_AUDIO, without the padding of the head.
    semantic = logits[:, NUM_SPECIAL_CODES : config.codebooks.semantic_vocab].argmax(-1, keepdim=True)
    codes = torch.cat((semantic, round_to_codes(state, config.codebooks.acoustic_size)), dim=1)
    samples = torch.cat([whole.decode_codes(part.T) for part in codes.split(list(lengths))])
    return {"hidden": hidden.float(), "logits": logits, "state": state, "samples": samples}


def _flow(model: VoxtralModel, hidden: Tensor, noise: Tensor, config: ModelConfig) -> Tensor:
    schedule = model.acoustic_transformer.make_schedule(config.generation.num_euler_steps)
    guidance = torch.full((len(hidden),), config.generation.guidance_scale)
    return model.generate_frame(hidden.to(model.dtype), noise, guidance, schedule).flow_state.float()


def _compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    hidden, logits, state = expected["hidden"], expected["logits"], expected["state"]
    divergence = F.kl_div(
        found["logits"].log_softmax(-1), logits.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    are_equal = round_to_codes(found["state"], _LEVELS) == round_to_codes(state, _LEVELS)
    compared = {
        "hidden_off": (found["hidden"] - hidden).norm() / hidden.norm(),
        "semantic_equal": (found["logits"].argmax(-1) == logits.argmax(-1)).float().mean(),
        "divergence": divergence,
        "acoustic_equal": are_equal.float().mean(),
        "flow_off": (found["state"] - state).square().mean().sqrt(),
    }
    if "samples" in found:
        compared["spectrum_off_db"] = _spectral_distance(found["samples"], expected["samples"])
    return {name: round_figure(float(value)) for name, value in compared.items()}


def _spectral_distance(found: Tensor, expected: Tensor) -> Tensor:
    """Give the mean difference of magnitudes in dB, where either is above -60 dB of the loudest."""
    window = torch.hann_window(1024)
    levels = [
        20 * torch.stft(samples, 1024, 256, window=window, return_complex=True).abs().clamp(min=1e-7).log10()
        for samples in (found, expected)
    ]
    floor = max(float(level.max()) for level in levels) - 60
    is_heard = (levels[0] > floor) | (levels[1] > floor)
    return (levels[0].clamp(min=floor) - levels[1].clamp(min=floor)).abs()[is_heard].mean()


# Whether it still speaks.


def measure_speech(options: argparse.Namespace, rounded: Path) -> Iterator[dict[str, Any]]:
    """Let every precision say the same sentences, and judge them against their limits.

    Args:
        options: of the command.
        rounded: an empty folder, for checkpoints with a rounded flow.
    """
    # Here, because only listening needs the tools of training.
    from benchmarks.quality.cases import read_sentences
    from benchmarks.quality.judge import REPORTED_ONLY, Judge, summarise
    from benchmarks.quality.options import open_studio
    from benchmarks.quality.systems import Narrator
    from train.recogniser import Recogniser
    from train.texts import LANGUAGES
    from voxtral.tts import VoxtralTTS

    recogniser = Recogniser.load(options.recogniser)
    studio = open_studio(options, recogniser.phonemes)
    languages = [language for language in LANGUAGES if language not in REPORTED_ONLY]
    distractors = {
        language: studio.distractors(language, 100, avoid=read_sentences(options.split, language))
        for language in languages
    }
    judge = Judge(recogniser, distractors)
    cases = [case for language in languages for case in studio.preset_cases(options.split, language, options.limit)]
    baseline: Mapping[str, Any] = {}
    for bits in _FLOW_BITS:
        write_with_rounded_flow(locate_model(options.model, allow_download=False), rounded / str(bits), bits)
    ways: dict[str, tuple[str | Path, str, EngineOptions]] = {"float32": (options.model, "none", EngineOptions())}
    for recipe in LIMITS:
        ways[recipe] = options.model, recipe, EngineOptions()
        ways[f"{recipe}, activations int8"] = options.model, recipe, EngineOptions(activations="int8")
    ways |= {flow_of(bits): (rounded / str(bits), "none", EngineOptions()) for bits in _FLOW_BITS}
    for precision, (model, recipe, engine) in ways.items():
        started = time.perf_counter()
        with VoxtralTTS.from_pretrained(model, device="cpu", quantize=recipe, options=engine) as tts:
            narrator = Narrator(tts)
            summary = summarise([judge.judge(precision, case, narrator.speak(case)) for case in cases])
        cell = {
            "part": "speech",
            "precision": precision,
            "split": options.split,
            **summary,
            "seconds": round(time.perf_counter() - started, 1),
        }
        if baseline:
            cell["verdicts"] = judge_speech(summary, baseline, LIMITS[_place_of(precision)])
        baseline = baseline or summary
        yield cell


def _place_of(way: str) -> str:
    """Say which recipe's place a way of speaking takes, whose limits it must keep; "float32" is itself."""
    return "int8" if way in map(flow_of, _FLOW_BITS) else way.partition(",")[0]


def judge_speech(
    summary: Mapping[str, Any], baseline: Mapping[str, Any], limits: Mapping[str, float]
) -> dict[str, bool]:
    """Compare with the limits; each is a difference to, or a multiple of, what the whole model does.

    Lengths and distances are compared where they were taken: both need the teacher's speech.
    """
    verdicts = {"error_rate": summary["error_rate"] <= baseline["error_rate"] + limits["error_rate"]}
    if "length_ratio" in baseline:
        ratio = summary["length_ratio"] / baseline["length_ratio"]
        verdicts["length_ratio"] = abs(ratio - 1) <= limits["length_ratio"]
    if "distance" in baseline:
        verdicts["distance"] = summary["distance"] <= baseline["distance"] * limits["distance"]
    return verdicts | {"finished": summary["num_failed"] <= baseline["num_failed"]}


# The page.


def write_page(report: Path) -> None:
    """Put the figures of a report between the markers of docs/QUANTIZATION.md."""
    from benchmarks.quality.page import fill

    content = json.loads(report.read_text(encoding="utf-8"))
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), make_parts(content, report.name)), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}\n")


def make_parts(report: Mapping[str, Any], name: str) -> dict[str, str]:
    """Write the parts of the page."""
    cells: list[dict[str, Any]] = report["cells"]
    fits = [cell for cell in cells if cell["part"] == "fit"]
    agreements = [cell for cell in cells if cell["part"] == "agreement"]
    machine = report["machine"]
    conditions = (
        f"Measured {report['date'][:10]} on {machine['cpu']}, torch {machine['torch']}; all figures are in "
        f"`benchmarks/results/{name}`."
    )
    return {
        "conditions": conditions,
        "fit": _fit_table(fits),
        "agreement": _agreement_table(agreements),
        "speech": _speech_table([cell for cell in cells if cell["part"] == "speech"], report["limits"]),
    }


def _fit_table(cells: Sequence[Mapping[str, Any]]) -> str:
    sizes = (32, 64, 128)
    header = ["weights", "matrix", "int8", *(f"{fit}, {size}" for size in sizes for fit in _INT4_FITS)]
    rows = [
        [cell["weights"], cell["kind"], _percent(cell["int8"])]
        + [_percent(cell.get(f"{fit}, groups of {size}")) for size in sizes for fit in _INT4_FITS]
        for cell in cells
    ]
    return _table(header, rows)


def _agreement_table(cells: Sequence[Mapping[str, Any]]) -> str:
    header = ["weights", "precision", "hidden state off", "same semantic code", "divergence", "same acoustic code"]
    header += ["flow off", "spectrum off"]
    rows: list[list[str]] = []
    for cell in cells:
        found = {cell["precision"]: cell} if "precision" in cell else {name: cell[name] for name in ("int8", "int4")}
        for precision, figures in found.items():
            spectrum = figures.get("spectrum_off_db")
            rows.append(
                [
                    cell["weights"],
                    precision,
                    _percent(figures["hidden_off"]),
                    _percent(figures["semantic_equal"]),
                    f"{figures['divergence']:.4f}",
                    _percent(figures["acoustic_equal"]),
                    f"{figures['flow_off']:.4f}",
                    "" if spectrum is None else f"{spectrum:.1f} dB",
                ]
            )
    return _table(header, rows)


def _speech_table(cells: Sequence[Mapping[str, Any]], limits: Mapping[str, Mapping[str, float]]) -> str:
    header = [
        "precision",
        "sentences",
        "phoneme error rate",
        "length ratio",
        "mel-cepstral distance",
        "failed",
        "verdict",
    ]
    rows: list[list[str]] = []
    baseline = cells[0] if cells else {}
    for cell in cells:
        limit = limits.get(_place_of(cell["precision"]))
        errors = f"{cell['error_rate']:.3f}"
        length, distance = (
            f"{cell[name]:.2f}" if name in cell else "not measured" for name in ("length_ratio", "distance")
        )
        if limit is not None:
            errors += f" (at most {baseline['error_rate'] + limit['error_rate']:.3f})"
            if "length_ratio" in cell:
                spread = limit["length_ratio"] * baseline["length_ratio"]
                length += f" ({baseline['length_ratio'] - spread:.2f} to {baseline['length_ratio'] + spread:.2f})"
            if "distance" in cell:
                distance += f" (at most {baseline['distance'] * limit['distance']:.2f})"
        verdicts = cell.get("verdicts")
        rows.append(
            [
                cell["precision"],
                str(cell["num_utterances"]),
                errors,
                length,
                distance,
                str(cell["num_failed"]),
                "" if verdicts is None else "within" if all(verdicts.values()) else "**not within**",
            ]
        )
    return _table(header, rows)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
