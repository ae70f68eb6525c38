"""What the self-check measures on: a model, two rows with 200 positions behind them, and every path of a frame.

The keys, values and embeddings are drawn from a seed; each path begins from the same ones. The plain computation
(`Backbone.extend`, the plain flow, plain forms of the operations) is the measure of all. On a GPU `extend` takes the
fused operations too, so it is the measure only with every kernel off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from voxtral.engine.audio_maker import AudioMaker, Part
from voxtral.engine.frame import FrameOutputs, compute_frame
from voxtral.engine.frame_maker import Padding, StaticStep, make_text_heads
from voxtral.engine.frame_reader import Step
from voxtral.engine.graphs import CAPTURES, CaptureError, CudaRecorder, FrameGraphs, Recorder
from voxtral.engine.inputs import FrameInputs, RowInput, gather_inputs
from voxtral.engine.kernel_trials import TRIALS, Draw, difference
from voxtral.engine.kv_cache import KVPages, Span, SpanMemory, kv_slot, make_pages
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.row import FrameTokens
from voxtral.engine.runner import Runner
from voxtral.engine.self_check import CHECKS, Untried
from voxtral.engine.sequence import GenerationRequest
from voxtral.model.acoustic import Flow
from voxtral.model.codec_protocol import StaticCodec
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels.dispatch import KERNELS, USES_DOT
from voxtral.model.kernels.text import TextHeads
from voxtral.model.linear import QuantizedLinear, product
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import Prompt

_ROWS = 2
_POSITIONS = 200
_BLOCK_SIZE = 64
_LATE_FRAMES = 8

# Every chunk of a stream and its beginning, as `EngineOptions.chunk_frames` has them; and rows of a product, from one
# stream to 64 of them in the flow.
_CHUNKS = (1, 1, 2, 2, 3, 4, 6, 8, 3)
_PRODUCT_ROWS = (1, 6, 24, 192)


class ModelRig:
    """Measures paths on a model. See `voxtral.engine.self_check.Rig`.

    Args:
        model: on its device; must not be used by others meanwhile.
        max_rows: of the step that is captured.
        recorder: captures; by default CUDA graphs where there is a GPU.
    """

    def __init__(self, model: VoxtralModel, *, max_rows: int = _ROWS, recorder: Recorder | None = None) -> None:
        self._model = model
        self._max_rows = max(_ROWS, max_rows)
        is_cuda = model.device.type == "cuda"
        self._recorder = recorder or (CudaRecorder(model.device) if is_cuda else None)
        self._schedule = model.acoustic_transformer.make_schedule(model.config.generation.num_euler_steps)
        self._blocks = -(-(_POSITIONS + 1) // _BLOCK_SIZE)

    @property
    def device(self) -> torch.device:
        """See Rig."""
        return self._model.device

    @property
    def is_narrow(self) -> bool:
        """See Rig."""
        return self._model.dtype is not torch.float32

    @property
    def kernels(self) -> Sequence[str]:
        """See Rig."""
        return list(USES_DOT) if self.device.type == "cuda" else []

    @property
    def products(self) -> Sequence[str]:
        """See Rig."""
        return [f"{kind} {rows} rows" for kind in self._quantized for rows in _PRODUCT_ROWS]

    @cached_property
    def _quantized(self) -> dict[str, QuantizedLinear]:
        modules = self._model.modules()
        return {m.quantized_weight.name: m for m in modules if isinstance(m, QuantizedLinear)}

    # State, the same for all.

    @cached_property
    def _state(self) -> tuple[KVPages, Tensor]:
        config, dtype = self._model.config.backbone, self._model.dtype
        pages = make_pages(config, 1 + _ROWS * self._blocks, _BLOCK_SIZE, device=self.device, dtype=dtype)
        generator = torch.Generator(self.device).manual_seed(0)
        for part in (pages.keys, pages.values):
            part.normal_(generator=generator)
        carried = torch.randn(_ROWS + 1, config.dim, generator=generator, device=self.device).mul_(0.05).to(dtype)
        return pages, carried

    @cached_property
    def _inputs(self) -> FrameInputs:
        num_acoustic = self._model.config.codebooks.num_acoustic
        rows: list[RowInput] = []
        for number in range(_ROWS):
            blocks = list(range(1 + number * self._blocks, 1 + (number + 1) * self._blocks))
            place = kv_slot(blocks, _POSITIONS, _BLOCK_SIZE)
            noise = SeededNoise(number, 0, num_acoustic)(0)
            rows.append(RowInput(number, _POSITIONS, place, blocks, noise, 1.2, True, (1, _POSITIONS)))
        filled = self._padding.fill_up(rows, self._max_rows)
        return gather_inputs(filled, num_blocks=self._blocks, has_texts=True, pin=self.device.type == "cuda")

    @cached_property
    def _text_heads(self) -> TextHeads | None:
        """The first head of the first layer and the last of the last."""
        config = self._model.config.backbone
        last = (len(self._model.backbone.layers) - 1, config.num_heads - 1)
        return make_text_heads(self._model, self._state[0], ((0, 0), last))

    @property
    def _padding(self) -> Padding:
        return Padding(_ROWS, _BLOCK_SIZE, self._model.config.codebooks.num_acoustic)

    # Paths of a frame.

    @cached_property
    def _plain(self) -> FrameOutputs:
        pages, carried = self._state
        there = self._inputs.to(self.device)
        seen, text = _POSITIONS + 1, (1, _POSITIONS)
        spans = [Span(row, row + 1, there.block_tables[row].long(), seen, text) for row in range(_ROWS)]
        with KERNELS.without(USES_DOT, self.device):
            memory = SpanMemory(pages, there.slot_mapping, spans, self._text_heads)
            return compute_frame(self._model, carried.clone(), memory, there, self._schedule).clone()

    def _static(self, flow: Flow | None, kernels_off: Iterable[str] = ()) -> FrameOutputs:
        pages, carried = self._state
        step = StaticStep(self._model, pages, carried.clone(), self._schedule, flow, self._text_heads)
        with KERNELS.without(kernels_off, self.device):
            return step(self._inputs.to(self.device)).clone()

    def static_step(self, kernels_off: Iterable[str]) -> float:
        """See Rig."""
        made, plain = self._static(None, kernels_off), self._plain
        return max(
            difference(made.hidden[:_ROWS], plain.hidden[:_ROWS]),
            difference(made.flow_state[:_ROWS], plain.flow_state[:_ROWS]),
            difference(self._seen_of_text(made), self._seen_of_text(plain)),
        )

    def _seen_of_text(self, outputs: FrameOutputs) -> Tensor:
        if outputs.text_weights is None:
            raise RuntimeError("the text was not weighed")
        return outputs.text_weights[:_ROWS, : _POSITIONS - 1]

    def folded_flow(self) -> float:
        """See Rig."""
        made, plain = self._static(FoldedFlow.build(self._model.acoustic_transformer)), self._static(None)
        return difference(made.flow_state[:_ROWS], plain.flow_state[:_ROWS])

    def graph_replay(self) -> float:
        """See Rig."""
        if self._recorder is None:
            raise Untried("graphs are CUDA's")
        if CAPTURES.refusal is not None:
            raise Untried(CAPTURES.refusal)
        pages, home = self._state
        carried = home.clone()
        step = StaticStep(self._model, pages, carried, self._schedule, None, self._text_heads)
        blank = partial(self._padding.blank, has_texts=True)
        graphs = FrameGraphs(step, blank, self.device, self._recorder, _refuse)
        made: list[FrameOutputs] = []
        for _ in range(2):
            carried.copy_(home)
            made.append(graphs.run(self._inputs))
        eager = self._static(None)
        # Within rounding of the step that it holds, and the same to the bit each time.
        limit = CHECKS["static step"].narrow if self.is_narrow else CHECKS["static step"].exact
        is_near = difference(made[0].hidden[:_ROWS], eager.hidden[:_ROWS]) <= limit
        # Rows that only fill up read what others of them wrote, in no order.
        pairs = ((one[:_ROWS], other[:_ROWS]) for one, other in zip(*(m.tensors.values() for m in made), strict=True))
        return 0.0 if is_near and all(torch.equal(one, other) for one, other in pairs) else 1.0

    # Kernels and products.

    def kernel(self, name: str) -> float:
        """See Rig."""
        problem = KERNELS.problem(name, self.device, self._model.dtype) if self.device.type == "cuda" else None
        if problem is not None:
            raise Untried(problem)
        draw = Draw(self._model.config, self.device, self._model.dtype, self._model.codec.dtype)
        trial = TRIALS[name](draw)
        return max(difference(made, plain) for made, plain in zip(trial(True), trial(False), strict=True))

    def product(self, name: str) -> float:
        """See Rig."""
        kind, _, rows = name.removesuffix(" rows").rpartition(" ")
        linear = self._quantized[kind]
        weight = linear.quantized_weight
        generator = torch.Generator(self.device).manual_seed(0)
        x = torch.randn(int(rows), weight.shape[1], generator=generator, device=self.device).to(self._model.dtype)
        exact = x.float() @ weight.dense().float().T
        # With what stands around it, as in a frame, and by itself.
        alone = difference(weight.matmul(x), exact)
        return max(alone, difference(product(linear, x), exact if linear.bias is None else exact + linear.bias))

    # Audio, and frames in a row.

    def codec_step(self, kernels_off: Iterable[str]) -> float:
        """See Rig."""
        if self.device.type == "cuda":
            self._model.codec.fuse()
        step = self._model.make_codec_step()
        if step is None:
            raise Untried("the first frames of this codec wait for others")
        tokens = self._audio_tokens(2)
        whole = self._model.decode_rows(tokens, self._model.init_codec_state(), is_last=True)
        with KERNELS.without(kernels_off, self.device):
            # A capture that fails has another way, and says so when it is met.
            recorders = (None,) if self._recorder is None or CAPTURES.refusal is not None else (None, self._recorder)
            return max(difference(self._in_chunks(step, tokens, recorder), whole) for recorder in recorders)

    def _in_chunks(self, step: StaticCodec, tokens: Tensor, recorder: Recorder | None) -> Tensor:
        """Decode streams side by side as an engine does, [rows, T, K] to [rows, S]."""
        num_rows, _, num_codebooks = tokens.shape
        options = EngineOptions(chunk_frames=tuple(sorted(set(_CHUNKS))))
        maker = AudioMaker(step, options, self.device, num_rows, num_codebooks, recorder=recorder)
        slots = [maker.take_slot() for _ in range(num_rows)]
        chunks: list[Tensor] = []
        start = 0
        for size in _CHUNKS:
            parts = [
                Part(slot, start, [FrameTokens(tokens[row], start + index) for index in range(size)])
                for row, slot in enumerate(slots)
            ]
            chunks.append(maker.make(parts)[0].clone())
            start += size
        return torch.cat(chunks, dim=1)

    def _audio_tokens(self, num_rows: int) -> Tensor:
        """Draw frames of every chunk, [rows, T, K]."""
        books = self._model.config.codebooks
        draw = Draw(self._model.config, self.device, self._model.dtype, self._model.codec.dtype)
        return draw.integers(2, books.acoustic_vocab, num_rows, sum(_CHUNKS), books.num_codebooks)

    def codec(self, *, has_stream: bool) -> float:
        """See Rig."""
        is_aside = has_stream and self.device.type == "cuda"
        if has_stream and not is_aside:
            raise Untried("streams are CUDA's")
        model, num_frames, tokens = self._model, sum(_CHUNKS), self._audio_tokens(1)
        whole = model.decode_rows(tokens, model.init_codec_state(), is_last=True)
        state, start = model.init_codec_state(), 0
        parts: list[Tensor] = []
        stream = torch.cuda.Stream(self.device, priority=-1) if is_aside else None
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for size in _CHUNKS:
                stop = start + size
                parts.append(model.decode_rows(tokens[:, start:stop], state, is_last=stop == num_frames))
                start = stop
        if stream is not None:
            stream.synchronize()
        return difference(torch.cat(parts, dim=1), whole)

    def late_look(self) -> float:
        """See Rig."""
        if self.device.type != "cuda":
            raise Untried("a CPU has made a frame when it is asked for")
        late, step_by_step = self._frames(is_late=True), self._frames(is_late=False)
        return float(sum(not torch.equal(one, other) for one, other in zip(late, step_by_step, strict=True)))

    def _frames(self, *, is_late: bool) -> list[Tensor]:
        """Make a few frames of one stream, each looked at before or after the next is asked for."""
        options = EngineOptions(max_batch=1, cuda_graphs=False, kv_cache_bytes=self._bytes_of(256), flow="plain")
        runner = Runner(self._model, options, Paths())
        row = runner.admit(self._request(), None)
        if row is None:
            raise Untried("there is no room for a stream")
        while not row.is_prefilled:
            runner.prefill([row])
        made: list[Tensor] = []
        waiting: Step | None = None
        for _ in range(_LATE_FRAMES):
            launched = runner.launch([row])
            step, waiting = (waiting, launched) if is_late else (launched, None)
            made += self._collect(runner, step)
        made += self._collect(runner, waiting)
        if len(made) != _LATE_FRAMES:
            raise RuntimeError(f"{len(made)} frames where {_LATE_FRAMES} were asked for")
        return made

    def _collect(self, runner: Runner, step: Step | None) -> list[Tensor]:
        if step is None:
            return []
        runner.wait(step)
        tokens = [group.outputs.audio_tokens[0].cpu() for group in step.groups]
        for _, outcome in runner.collect(step):
            if isinstance(outcome, Exception):
                raise outcome
        return tokens

    def _bytes_of(self, num_positions: int) -> int:
        sizes = self._model.config.backbone
        each = 2 * sizes.num_layers * sizes.num_kv_heads * sizes.head_dim * self._model.dtype.itemsize
        return num_positions * each

    def _request(self) -> GenerationRequest:
        config = self._model.config
        head, tail = (config.bos_token_id, config.begin_audio_token_id), (1, 1, config.begin_audio_token_id)
        num_rows = 6
        ids = (*head, *(config.audio_token_id,) * num_rows, *tail)
        rows = np.random.default_rng(0).standard_normal((num_rows, config.backbone.dim)).astype(np.float32) * 0.05
        return GenerationRequest(
            prompt=Prompt(ids, 2, 2 + num_rows),
            voice_rows=torch.as_tensor(rows),
            noise=SeededNoise(0, 0, config.codebooks.num_acoustic),
            noise_key=(0, 0),
            guidance_scale=config.generation.guidance_scale,
            noise_scale=config.generation.noise_scale,
            num_euler_steps=config.generation.num_euler_steps,
            max_frames=_LATE_FRAMES + 1,
            min_frames=_LATE_FRAMES + 1,
        )


def _refuse(reason: str) -> None:
    raise CaptureError(reason)
