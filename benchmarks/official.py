"""The official server's own modules beside ours, with the same weights: one frame of the flow, one chunk of the codec.

    python -m benchmarks.official --fetch                        needs a network, once
    python -m benchmarks.official --model 4b-random --json FILE

The modules are those of the wheel vllm-omni 0.30.0 (Apache-2.0), unmodified, in a folder that git ignores. The server
around them is not there: everything of it that they import and do not call is replaced by empty stand-ins. What is
compared is therefore the modules, not the server. Results are compared before times are.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.options import make_parser, read_numbers, resolve
from benchmarks.report import ROOT, Report
from benchmarks.subjects import Subject, open_subject
from benchmarks.timing import captured, time_in_turn
from voxtral.bench import round_figure
from voxtral.model.codec import CodecState
from voxtral.model.folded import FoldedFlow
from voxtral.model.voxtral import prepare_for_inference

FOLDER = ROOT / "build" / "official"
_WHEELS = ("vllm-omni==0.30.0", "einops==0.8.2")
_PACKAGE = "vllm_omni.model_executor.models.voxtral_tts"

# The server decodes each chunk together with so many frames before it; then 5 or 25 new ones.
_CONTEXT_FRAMES = 25
_CHUNKS = (5, 25)


def main(words: Sequence[str] | None = None) -> None:
    """Fetch, or measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--fetch", action="store_true", help="get the wheels into build/official and end")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--streams", type=read_numbers, default=(1, 8, 32))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args(words)
    if arguments.fetch:
        fetch(arguments.folder)
        return
    if arguments.short:
        arguments.streams, arguments.rounds = (1, 2), 2
    device, precision = resolve(arguments)
    report = Report("official", arguments)
    subject = open_subject(arguments.model, device, precision, is_prepared=False)
    report.note(device=str(device), precision=precision, weights=subject.weights, wheels=_WHEELS)
    import_official(arguments.folder)
    if subject.num_threads is not None:
        torch.set_num_threads(subject.num_threads)
    flow, codec = make_flow(subject), make_codec(subject)
    prepare_for_inference(subject.model)  # from here on its weights have other names
    with torch.inference_mode():
        compare_flow(report, subject, flow, arguments.streams, arguments.rounds)
        compare_codec(report, subject, codec, arguments.streams, arguments.rounds)
    report.finish()


def fetch(folder: Path) -> None:
    """Unpack the wheels, without what they depend on."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *_WHEELS]
    subprocess.run(words, check=True)


class _Anything(type):
    """A class that stands for any name: it can be a base, an annotation, a decorator, a function or a value."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing

    def __getitem__(cls, _: Any) -> Any:
        return cls


class Nothing(metaclass=_Anything):
    """What every name of an absent package is."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *arguments: Any, **__: Any) -> Any:
        """As a decorator, give back what is decorated."""
        return arguments[0] if arguments and isinstance(arguments[0], type) else Nothing()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __bool__(self) -> bool:
        return False


class _EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for every module of the packages that are absent."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = tuple(packages)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Answer for the absent packages and what is in them."""
        if not any(fullname == package or fullname.startswith(f"{package}.") for package in self._packages):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Make a module that has every name."""
        module = ModuleType(spec.name)
        module.__getattr__ = lambda name: _absent(name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it is empty."""


def _absent(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    # A class of its own for each name, since a class cannot have the same base twice.
    return _Anything(name, (Nothing,), {})


def import_official(folder: Path) -> None:
    """Make the official modules importable.

    Raises:
        FileNotFoundError: they have not been fetched.
    """
    if not (folder / "vllm_omni").is_dir():
        raise FileNotFoundError(
            f"{folder} holds no vllm_omni; the modules are fetched once: python -m benchmarks.official --fetch"
        )
    sys.path.append(str(folder))
    # The packages around the modules import the whole server when they are run; here they are folders alone.
    parts = _PACKAGE.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        package = ModuleType(name)
        package.__path__ = [str(folder.joinpath(*parts[:depth]))]
        sys.modules[name] = package
    # Some of these may be installed; the modules would work with them as well, and need none of them here.
    names = ("vllm", "mistral_common", "transformers", "regex", "vllm_omni.platforms", "vllm_omni.quantization")
    sys.meta_path.insert(0, _EmptyModules(names))


@torch.inference_mode(False)
def make_flow(subject: Subject) -> Any:
    """Build the official acoustic transformer with the subject's weights."""
    module = importlib.import_module(f"{_PACKAGE}.voxtral_tts_audio_generation")
    arguments = dict(subject.config.raw["multimodal"]["audio_model_args"])
    steps = {"n_decoding_steps": subject.config.generation.num_euler_steps}
    arguments["acoustic_transformer_args"] = arguments["acoustic_transformer_args"] | steps
    flow = module.FlowMatchingAudioTransformer(arguments)
    ours = subject.model.acoustic_transformer
    flow.load_state_dict(dict(ours.named_parameters()), strict=False)
    missing = set(dict(flow.named_parameters())) ^ set(dict(ours.named_parameters()))
    if missing:
        raise RuntimeError(f"the two flows have different weights: {sorted(missing)}")
    return flow.to(device=subject.model.device, dtype=subject.model.dtype).eval().requires_grad_(False)


@torch.inference_mode(False)
def make_codec(subject: Subject) -> Any:
    """Build the official codec with the subject's decoder."""
    module = importlib.import_module(f"{_PACKAGE}.voxtral_tts_audio_tokenizer")
    multimodal = subject.config.raw["multimodal"]
    audio_config = {
        "codec_args": multimodal["audio_tokenizer_args"],
        "audio_model_args": multimodal["audio_model_args"],
    }
    hf_config = SimpleNamespace(
        audio_config=audio_config, text_config=SimpleNamespace(hidden_size=subject.config.backbone.dim)
    )
    theirs = module.VoxtralTTSAudioTokenizer(
        vllm_config=SimpleNamespace(model_config=SimpleNamespace(hf_config=hf_config))
    )
    codec = subject.model.codec
    targets = dict(theirs.named_parameters())
    for name, weight in codec.named_parameters():
        if name in targets:
            targets[name].data = weight.detach()
            continue
        stem = name.removesuffix("weight") + "parametrizations.weight."
        targets[f"{stem}original1"].data = weight.detach()
        targets[f"{stem}original0"].data = weight.detach().float().flatten(1).norm(dim=1)[:, None, None].to(weight)
    theirs.to(device=subject.model.device, dtype=codec.dtype)
    semantic = theirs.quantizer.semantic_codebook
    semantic.embedding_sum = codec.quantizer.semantic_table.clone()
    semantic.cluster_usage = torch.ones_like(semantic.embedding_sum[:, 0])
    return theirs.eval().requires_grad_(False)


def compare_flow(report: Report, subject: Subject, theirs: Any, streams: Sequence[int], num_rounds: int) -> None:
    """Time one frame of the flow: semantic code, guided steps, rounding."""
    ours = subject.model.acoustic_transformer
    model, config = subject.model, subject.config
    generator = torch.Generator().manual_seed(0)
    schedule = ours.make_schedule(config.generation.num_euler_steps)
    folded = FoldedFlow.build(ours)
    wrapper = _make_graphs(theirs, subject, streams) if model.device.type == "cuda" else None
    for num_rows in streams:
        hidden = torch.randn(num_rows, config.acoustic.dim, generator=generator).to(model.device, model.dtype)
        noise = torch.randn(num_rows, config.codebooks.num_acoustic, generator=generator).to(model.device)
        guidance = torch.full((num_rows,), config.generation.guidance_scale, device=model.device)
        ways: dict[str, Callable[[], Any]] = {
            "ours, folded": lambda h=hidden, n=noise, g=guidance: ours(h, n, g, schedule, flow=folded),
            "ours, plain": lambda h=hidden, n=noise, g=guidance: ours(h, n, g, schedule),
            "official": lambda h=hidden, g=guidance: theirs(h, g),
        }
        if wrapper is not None:
            ways["ours, folded, CUDA graph"] = captured(ways["ours, folded"], model.device)
            ways["official, CUDA graph"] = lambda h=hidden, g=guidance: wrapper(h, g)
        same = _share_of_equal_codes(
            ours(hidden, noise, guidance, schedule).audio_tokens, theirs, hidden, noise, guidance
        )
        _add_times(report, "flow", ways, subject, num_rounds, streams=num_rows, equal_codes=same)


def _share_of_equal_codes(frame: Tensor, theirs: Any, hidden: Tensor, noise: Tensor, guidance: Tensor) -> float:
    """Give both the same noise, and say which part of the codes is the same."""
    draw = torch.randn
    try:
        torch.randn = lambda *_, **options: noise.to(options["dtype"])  # type: ignore[assignment]
        official = theirs(hidden, guidance)
    finally:
        torch.randn = draw
    return round_figure(float((official == frame).float().mean()))


def _make_graphs(theirs: Any, subject: Subject, streams: Sequence[int]) -> Any:
    module = importlib.import_module(f"{_PACKAGE}.cuda_graph_acoustic_transformer_wrapper")
    module.current_platform = SimpleNamespace(get_global_graph_pool=torch.cuda.graph_pool_handle)
    wrapper = module.CUDAGraphAcousticTransformerWrapper(
        SimpleNamespace(acoustic_transformer=theirs), capture_sizes=list(streams)
    )
    wrapper._warmup_and_capture(subject.model.device, subject.model.dtype, subject.config.acoustic.dim)
    return wrapper


def compare_codec(report: Report, subject: Subject, theirs: Any, streams: Sequence[int], num_rounds: int) -> None:
    """Time one chunk of the codec: ours goes on from a state, theirs decodes the frames before it again."""
    ours = subject.model.codec
    books, device = subject.config.codebooks, subject.model.device
    generator = torch.Generator().manual_seed(0)
    for num_rows in streams:
        for num_new in _CHUNKS:
            num_frames = _CONTEXT_FRAMES + num_new
            semantic = torch.randint(0, books.semantic_size, (num_rows, 1, num_frames), generator=generator)
            shape = (num_rows, books.num_acoustic, num_frames)
            acoustic = torch.randint(0, books.acoustic_size, shape, generator=generator)
            codes = torch.cat((semantic, acoustic), dim=1).to(device)
            state = CodecState.fresh(ours)
            first = ours(codes[..., :_CONTEXT_FRAMES], state)
            whole = torch.cat((first, ours(codes[..., _CONTEXT_FRAMES:], state, is_last=True)), dim=-1)
            official = theirs.decode(codes, dtype=ours.dtype)[:, 0].float()
            ways = {
                "ours, from a state": lambda c=codes, s=state: ours(c[..., _CONTEXT_FRAMES:], s),
                "official, with the frames before": lambda c=codes: theirs.decode(c, dtype=ours.dtype),
            }
            difference = float((whole - official).abs().max() / official.abs().max())
            _add_times(
                report,
                "codec",
                ways,
                subject,
                num_rounds,
                streams=num_rows,
                new_frames=num_new,
                difference=round_figure(difference),
            )


def _add_times(
    report: Report, what: str, ways: dict[str, Callable[[], Any]], subject: Subject, num_rounds: int, **facts: Any
) -> None:
    times = time_in_turn(ways, subject.model.device, num_rounds)
    own = next(iter(times.values()))
    for name, spread in times.items():
        ratio = round_figure(spread.median / own.median)
        report.add(what=what, way=name, ms=spread.to_dict(1e3), times_the_first=ratio, **facts)


if __name__ == "__main__":
    main()
