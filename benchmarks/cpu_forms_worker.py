"""One side of `benchmarks.cpu_forms`: the parts of a frame of a model of random weights, in whatever checkout it runs.

It is given to `python -c` with the checkout on the path, and takes from it what has kept its name. Few of the
backbone's layers are made, and what they take is scaled to all of them: the others do the same. Requests are one line
of JSON each: a part and a number of streams; answers are milliseconds.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

import torch

from benchmarks import subjects
from voxtral.engine.kv_cache import Span, SpanMemory, make_pages
from voxtral.model.codec import CodecState
from voxtral.model.folded import FoldedFlow

_BLOCK = 64
_SEEN = 300  # positions behind a row: a voice, a text, and some speech
_PROMPT = 115


class Parts:
    """A model with few layers, and the parts of its frames.

    Args:
        arguments: model, precision, layers, threads, activations.
    """

    def __init__(self, arguments: dict[str, Any]) -> None:
        torch.set_num_threads(arguments["threads"])
        # One thread has a clock of its own, which others on the machine do not move.
        self._clock = time.thread_time if arguments["threads"] == 1 else time.perf_counter
        whole = subjects.config_of

        def with_few_layers(name: str) -> Any:
            config = whole(name)
            num_layers = min(arguments["layers"], config.backbone.num_layers)
            self._scale = config.backbone.num_layers / num_layers
            return dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, num_layers=num_layers))

        subjects.config_of = with_few_layers
        device = torch.device("cpu")
        model = subjects.open_subject(arguments["model"], device, arguments["precision"]).model
        if arguments["activations"] != "exact":
            from voxtral.model.voxtral import set_flow_activations

            set_flow_activations(model, 1)
        self._model, config = model, model.config
        self._flow = FoldedFlow.build(model.acoustic_transformer)
        self._schedule = model.acoustic_transformer.make_schedule(config.generation.num_euler_steps)
        self._pages = make_pages(config.backbone, 32, _BLOCK, device=device, dtype=model.dtype)
        generator = torch.Generator().manual_seed(5)
        self._rows = torch.randn(_PROMPT, config.backbone.dim, generator=generator).to(model.dtype)
        self._noise = torch.randn(8, config.codebooks.num_acoustic, generator=generator)
        self._guidance = torch.full((8,), config.generation.guidance_scale)
        self._codes = torch.randint(2, 20, (8, 1, config.codebooks.num_codebooks), generator=generator)

    @torch.inference_mode()
    def run(self, part: str, streams: int) -> float:
        """Time a part once, in milliseconds: step, flow, prompt, codec."""
        model = self._model
        scale = self._scale if part in ("step", "prompt") else 1.0
        if part in ("step", "prompt"):
            count = 1 if part == "step" else _PROMPT
            seen = _SEEN if part == "step" else _PROMPT
            blocks = [list(range(1 + row * 8, 9 + row * 8)) for row in range(streams)]
            positions = torch.cat([torch.arange(seen - count, seen)] * streams)
            slots = torch.cat([_slots(table, seen - count, seen) for table in blocks])
            spans = [
                Span(row * count, (row + 1) * count, torch.tensor(table[: -(-seen // _BLOCK)]), seen)
                for row, table in enumerate(blocks)
            ]
            inputs = self._rows[:1].repeat(streams, 1) if part == "step" else self._rows.repeat(streams, 1)
            started = self._clock()
            model.backbone.extend(inputs, positions, SpanMemory(self._pages, slots, spans))
        elif part == "flow":
            hidden, noise, guidance = self._rows[:streams], self._noise[:streams], self._guidance[:streams]
            started = self._clock()
            model.generate_frame(hidden, noise, guidance, self._schedule, may_end=False, flow=self._flow)
        else:
            state = CodecState.fresh(model.codec)
            started = self._clock()
            model.decode_rows(self._codes[:1], state)
        return 1e3 * scale * (self._clock() - started)


def _slots(table: list[int], start: int, stop: int) -> torch.Tensor:
    return torch.tensor([table[position // _BLOCK] * _BLOCK + position % _BLOCK for position in range(start, stop)])


def serve() -> None:
    """Answer requests until standard input ends."""
    parts = Parts(json.loads(sys.argv[1]))
    _say("ready")
    for line in sys.stdin:
        part, streams = json.loads(line)
        _say(parts.run(part, streams))


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


serve()
