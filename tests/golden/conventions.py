"""Every convention of the model that an implementation can get wrong, each with a way to get it wrong.

A list to be read beside docs/MODEL.md. `test_conventions.py` flips one convention at a time in
the product's own code and demands that somebody sees it: the golden vectors, or, for what a tiny
random checkpoint cannot show, a test that is named. It knows no tolerances: those belong to the set.

A flip edits the source of a function and swaps its code in place, so that every module that imported
the function runs the edited one. Text that is no longer in the source is an error, not a silent pass.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from types import CodeType, FunctionType, ModuleType
from typing import Any

from voxtral import config
from voxtral.audio import read
from voxtral.config import CodebookConfig, CodecConfig, GenerationDefaults
from voxtral.engine.frame import compute_frame
from voxtral.engine.frame_reader import FrameReader
from voxtral.engine.runner import Runner
from voxtral.loading import load, params
from voxtral.model import acoustic, attention, codebooks, codec, codec_encoder, layers
from voxtral.model.acoustic import AcousticLayer, AcousticTransformer, BidirectionalAttention
from voxtral.model.backbone import Backbone, BackboneAttention, BackboneLayer
from voxtral.model.codebooks import Quantizer
from voxtral.model.codec import CodecAttention, CodecDecoder, CodecLayer, ConvBlock
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.kernels import elementwise, flow, paged, tokens, window
from voxtral.model.layers import FeedForward, RMSNorm
from voxtral.model.voxtral import VoxtralModel
from voxtral.text import prompt, tokenizer
from voxtral.text.tokenizer import SpeechTokenizer

Flip = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Convention:
    """One thing that the official code does in one way and that could be done in another.

    Attributes:
        name: the wrong way, in words.
        section: of docs/MODEL.md, where the right way is written.
        flip: does it the wrong way while its context is open.
        sees: the entry of the golden set that must then fail, or `file::test` of the test that must.
        at_load: whether the wrong way acts while a checkpoint is opened and loaded.
    """

    name: str
    section: str
    flip: Flip
    sees: str
    at_load: bool = False


def edit(function: Any, *changes: tuple[str, str]) -> Flip:
    """Replace pieces of a function's source, each of which must occur exactly once."""
    target: Any = function.fget if isinstance(function, property) else function

    @contextmanager
    def flipped() -> Iterator[None]:
        original = target.__code__
        target.__code__ = _edited_code(target, changes)
        try:
            yield
        finally:
            target.__code__ = original

    return flipped


def _edited_code(function: FunctionType, changes: tuple[tuple[str, str], ...]) -> CodeType:
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        if source.count(old) != 1:
            raise LookupError(f"{function.__qualname__} holds {old!r} {source.count(old)} times; a flip needs it once")
        source = source.replace(old, new)
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    # super() without arguments reads __class__ from the scope around the method.
    factory = ast.parse(f"def factory(__class__):\n    return {function.__name__}").body[0]
    assert isinstance(factory, ast.FunctionDef)
    factory.body.insert(0, definition)
    module = ast.fix_missing_locations(ast.Module(body=[factory], type_ignores=[]))
    scope = dict(vars(sys.modules[function.__module__]))
    flags = __future__.annotations.compiler_flag
    exec(compile(module, f"<flip of {function.__qualname__}>", "exec", flags, dont_inherit=True), scope)
    return scope["factory"](None).__code__


def constant(module: ModuleType, name: str, value: Any) -> Flip:
    """Give a constant of a module another value."""

    @contextmanager
    def flipped() -> Iterator[None]:
        original = getattr(module, name)
        setattr(module, name, value)
        try:
            yield
        finally:
            setattr(module, name, original)

    return flipped


def default(owner: type, **values: Any) -> Flip:
    """Give fields of a dataclass other defaults; all its fields must have one."""

    @contextmanager
    def flipped() -> Iterator[None]:
        init: Any = owner.__init__
        original = init.__defaults__
        init.__defaults__ = tuple(values.get(field.name, field.default) for field in fields(owner))
        try:
            yield
        finally:
            init.__defaults__ = original

    return flipped


_UNIT = "tests/unit/model"
_LAYER0 = "lm/prompt/layer0_residual"
_STEPS = "lm/steps/hidden"
_FLOW = "fm/alpha1.2/x"
_VELOCITY = "fm/alpha1.2/v_cond"
_FRAME = "fm/alpha1.2/codes"
_T7 = "codec/decode/T7"
_ENCODE = "codec/encode"

BACKBONE = (
    Convention(
        "rotary positions turn halves instead of interleaved pairs",
        "Backbone",
        edit(
            layers.apply_rope,
            ("x.float().unflatten(-1, (-1, 2)).unbind(-1)", "x.float().chunk(2, dim=-1)"),
            ("torch.stack((even", "torch.cat((even"),
            ("rotated.flatten(-2)", "rotated"),
        ),
        "rope/y",
    ),
    Convention(
        "rotary positions turn the other way",
        "Backbone",
        edit(layers.rope_rotation, ("angles.cos(), angles.sin()", "angles.cos(), -angles.sin()")),
        "rope/y",
    ),
    Convention(
        "rotary theta is 10000",
        "Backbone",
        edit(layers.rope_inverse_frequencies, ("theta**exponents", "10000.0**exponents")),
        _LAYER0,
        at_load=True,
    ),
    Convention(
        "rotary exponents are i / head_dim instead of 2i / head_dim",
        "Backbone",
        edit(layers.rope_inverse_frequencies, ('device="cpu") / head_dim', 'device="cpu") / (2 * head_dim)')),
        "rope/y",
    ),
    Convention(
        "queries are not rotated",
        "Backbone",
        edit(
            BackboneAttention.mix,
            (
                "query, key = apply_rope(query, rotation), apply_rope(key, rotation)",
                "key = apply_rope(key, rotation)",
            ),
        ),
        _LAYER0,
    ),
    Convention(
        "keys are not rotated",
        "Backbone",
        edit(
            BackboneAttention.mix,
            (
                "query, key = apply_rope(query, rotation), apply_rope(key, rotation)",
                "query = apply_rope(query, rotation)",
            ),
        ),
        _LAYER0,
    ),
    Convention(
        "values are rotated too",
        "Backbone",
        edit(
            BackboneAttention.mix,
            (
                "query, key = apply_rope(query, rotation), apply_rope(key, rotation)",
                "query, key, value = (apply_rope(part, rotation) for part in (query, key, value))",
            ),
        ),
        _LAYER0,
    ),
    Convention(
        "positions start anew with the generated frames",
        "Backbone",
        edit(Backbone.extend, ("rope_rotation(positions,", "rope_rotation(positions - positions[0],")),
        _STEPS,
    ),
    Convention(
        "frames are one position too late",
        "The way of a text",
        edit(
            Backbone.extend,
            ("rope_rotation(positions,", "rope_rotation(positions + (positions[0] > 0),"),
        ),
        _STEPS,
    ),
    Convention(
        "key heads serve every third query head instead of neighbours",
        "Backbone",
        edit(
            attention.attend,
            ("part.repeat_interleave(group, dim=1)", "part.repeat(1, group, 1, 1)"),
        ),
        _LAYER0,
    ),
    Convention(
        "key heads serve every third query head instead of neighbours, in a decode step",
        "Backbone",
        edit(
            attention.attend,
            (
                "query.unflatten(1, (-1, group)).flatten(2, 3)",
                "query.unflatten(1, (group, -1)).transpose(1, 2).flatten(2, 3)",
            ),
        ),
        _STEPS,
    ),
    Convention(
        "attention is scaled by the number of heads",
        "Backbone",
        edit(attention.attend, ("is_causal=is_causal)", "is_causal=is_causal, scale=query.shape[1] ** -0.5)")),
        _LAYER0,
    ),
    Convention(
        "attention is not scaled",
        "Backbone",
        edit(attention.attend, ("is_causal=is_causal)", "is_causal=is_causal, scale=1.0)")),
        _LAYER0,
    ),
    Convention(
        "a prompt position sees the next one",
        "Backbone",
        edit(
            attention.attend_causally,
            ("is_causal=True", "mask=causal_mask(num_new, num_seen + 1, query.device)[:, :num_seen]"),
        ),
        _LAYER0,
    ),
    Convention(
        "a prompt position does not see itself",
        "Backbone",
        edit(
            attention.attend_causally,
            (
                "is_causal=True",
                "mask=causal_mask(num_new, num_seen, query.device).tril(-1)"
                ".index_fill(1, torch.zeros(1, dtype=torch.int64), True)",
            ),
        ),
        _LAYER0,
    ),
    Convention(
        "the mask of a continued prompt is off by one",
        "Backbone",
        edit(attention.causal_mask, (".tril(num_keys - num_queries)", ".tril(num_keys - num_queries + 1)")),
        f"{_UNIT}/test_attention.py::test_the_last_positions_see_themselves_and_all_before",
    ),
    Convention(
        "attention slides over a window",
        "Backbone",
        edit(
            attention.attend_causally, ("is_causal=True", "mask=causal_mask(num_new, num_seen, query.device).triu(-7)")
        ),
        _LAYER0,
    ),
    Convention(
        "norm epsilon of the backbone is 1e-2",
        "Backbone",
        edit(params._parse_backbone, ('top.number("norm_eps")', "1e-2")),
        _LAYER0,
        at_load=True,
    ),
    Convention(
        "norm epsilon of the backbone is 1e-6",
        "Backbone",
        edit(params._parse_backbone, ('top.number("norm_eps")', "1e-6")),
        f"{_UNIT}/test_voxtral.py::test_each_norm_has_the_epsilon_of_its_network",
    ),
    Convention(
        "norms divide by the standard deviation",
        "Backbone",
        edit(RMSNorm.forward, ("F.rms_norm(x,", "F.rms_norm(x - x.mean(dim=-1, keepdim=True),")),
        _LAYER0,
    ),
    Convention(
        "norm weights are differences from 1",
        "Backbone",
        edit(RMSNorm.forward, ("self.weight, self.eps", "1 + self.weight, self.eps")),
        _LAYER0,
    ),
    Convention(
        "the residual stream is normalised too",
        "Backbone",
        edit(BackboneLayer.forward, ("x = x + self.attention", "x = self.attention_norm(x) + self.attention")),
        _LAYER0,
    ),
    Convention(
        "gate and up projection are swapped",
        "Backbone",
        edit(FeedForward.forward, ("F.silu(self.w1(x)) * self.w3(x)", "self.w1(x) * F.silu(self.w3(x))")),
        _LAYER0,
    ),
    Convention(
        "gate and up projection are swapped once they are joined",
        "Backbone",
        edit(elementwise.silu_multiply, ("F.silu(gate.float()) * up.float()", "gate.float() * F.silu(up.float())")),
        f"{_UNIT}/test_backbone_step.py::test_a_joined_model_computes_the_same",
    ),
    Convention(
        "keys are not rotated in the fused step",
        "Backbone",
        edit(paged.rotate_and_store, ("[slot_mapping] = rotated[1]", "[slot_mapping] = key")),
        _STEPS,
    ),
    Convention(
        "queries are not rotated in the fused step",
        "Backbone",
        edit(paged.rotate_and_store, ("return rotated[0]", "return query")),
        _STEPS,
    ),
    Convention(
        "a row of the fused step does not see itself",
        "Backbone",
        edit(paged.attend_to_pages, ("< lengths[:, None]", "< lengths[:, None] - 1")),
        _STEPS,
    ),
    Convention("the gate is GELU", "Backbone", edit(FeedForward.forward, ("F.silu", "F.gelu")), _LAYER0),
    Convention(
        "hidden states are taken before the final norm",
        "Backbone",
        edit(Backbone.extend, ("self.norm(x)[0]", "x[0]")),
        _STEPS,
    ),
    Convention(
        "hidden states of the fused step are taken before the final norm",
        "Backbone",
        edit(Backbone.step, ("return self.norm(x)", "return x")),
        _STEPS,
    ),
    Convention(
        "text embeddings are scaled by the square root of the width",
        "Backbone",
        edit(VoxtralModel.embed_text, ("return rows", "return rows.shape[-1] ** 0.5 * rows")),
        "embed_prompt/A/text_embeds_only",
    ),
)

PROMPT = (
    Convention(
        "no BOS",
        "Prompt",
        edit(prompt.prompt_from_text_ids, ("head = (tokens.bos, tokens.begin_audio)", "head = (tokens.begin_audio,)")),
        "prompt/00/ids",
    ),
    Convention(
        "[NEXT_AUDIO_TEXT] and [REPEAT_AUDIO_TEXT] are swapped",
        "Prompt",
        edit(
            prompt.prompt_from_text_ids,
            (
                "(tokens.text_to_audio, *text_ids, tokens.audio_to_text,",
                "(tokens.audio_to_text, *text_ids, tokens.text_to_audio,",
            ),
        ),
        "prompt/00/ids",
    ),
    Convention(
        "no [BEGIN_AUDIO] at the end",
        "Prompt",
        edit(prompt.prompt_from_text_ids, ("tokens.audio_to_text, tokens.begin_audio)", "tokens.audio_to_text)")),
        "prompt/00/ids",
    ),
    Convention(
        "text comes before the voice",
        "Prompt",
        edit(
            prompt.prompt_from_text_ids, ("*head, *placeholders, *tail", "*head, *tail[:-2], *placeholders, *tail[-2:]")
        ),
        "prompt/00/ids",
    ),
    Convention(
        "one placeholder too many",
        "Prompt",
        edit(
            prompt.prompt_from_text_ids, ("(tokens.audio,) * num_voice_rows", "(tokens.audio,) * (num_voice_rows + 1)")
        ),
        "prompt/00/ids",
    ),
    Convention(
        "text is stripped",
        "Prompt",
        edit(SpeechTokenizer.encode, ("self._encode(text)", "self._encode(text.strip())")),
        "prompt/09/ids",
    ),
    Convention(
        "white space is collapsed",
        "Prompt",
        edit(SpeechTokenizer.encode, ("self._encode(text)", "self._encode(' '.join(text.split()))")),
        "prompt/08/ids",
    ),
    Convention(
        "text is decomposed (NFD)",
        "Prompt",
        edit(
            SpeechTokenizer.encode,
            ("self._encode(text)", "self._encode(__import__('unicodedata').normalize('NFD', text))"),
        ),
        "prompt/05/ids",
    ),
    Convention(
        "a full stop is added",
        "Prompt",
        edit(SpeechTokenizer.encode, ("self._encode(text)", "self._encode(text + '.')")),
        "prompt/11/ids",
    ),
    Convention(
        "markup of special tokens is parsed",
        "Prompt",
        edit(
            SpeechTokenizer.encode,
            (
                "self._encode(text)",
                "sum(([self.tokens.audio, *self._encode(part)] for part in text.split('[AUDIO]')), [])[1:]",
            ),
        ),
        "prompt/10/ids",
    ),
    Convention(
        "text ids are bare ranks",
        "Prompt",
        edit(SpeechTokenizer.encode, ("self._encode(text)", "[token - 1000 for token in self._encode(text)]")),
        "prompt/00/ids",
    ),
    Convention(
        "the tokenizer adds its own BOS before the text",
        "Prompt",
        edit(
            tokenizer.load_tokenizer, ("list(tokenizer.encode(text, bos=False", "list(tokenizer.encode(text, bos=True")
        ),
        "prompt/00/ids",
        at_load=True,
    ),
    Convention(
        "partial frames of a reference do not count",
        "Prompt",
        edit(
            CodecConfig.num_frames,
            ("-(-num_samples // self.samples_per_frame)", "num_samples // self.samples_per_frame"),
        ),
        "prompt/ref_audio_24k/ids",
    ),
    Convention(
        "frames of a reference are counted in floating point",
        "Prompt",
        edit(
            CodecConfig.num_frames,
            (
                "-(-num_samples // self.samples_per_frame)",
                "math.ceil(num_samples / self.sample_rate * self.frame_rate)",
            ),
        ),
        "tests/unit/test_config.py::test_exact_multiples_of_a_frame_have_no_frame_more",
    ),
    Convention(
        "a reference is read at its own sample rate",
        "Prompt",
        edit(read.resample, ("if rate != wanted", "if rate == 1")),
        "prompt/ref_audio_16k/audio_array",
    ),
    Convention(
        "voice rows are added to the placeholders",
        "Prompt",
        edit(VoxtralModel.embed_prompt, ("embeds[is_voice] =", "embeds[is_voice] +=")),
        "embed_prompt/A/embeds",
    ),
    Convention(
        "voice rows come in reverse",
        "Prompt",
        edit(VoxtralModel.embed_prompt, ("voice_rows.to(", "voice_rows.flip(0).to(")),
        "embed_prompt/A/embeds",
    ),
    Convention(
        "offsets leave out the special ids",
        "Audio tokens",
        edit(
            CodebookConfig.offsets,
            ("first_acoustic = self.semantic_vocab", "first_acoustic = self.semantic_size"),
            ("self.acoustic_vocab * k", "self.acoustic_size * k"),
        ),
        "frame_embed/embeds",
        at_load=True,
    ),
    Convention(
        "offsets count the padding of the semantic codebook (8320)",
        "Audio tokens",
        edit(
            CodebookConfig.offsets, ("first_acoustic = self.semantic_vocab", "first_acoustic = self.semantic_head_rows")
        ),
        "frame_embed/offsets",
        at_load=True,
    ),
    Convention(
        "offsets pad each acoustic codebook (128)",
        "Audio tokens",
        edit(CodebookConfig.offsets, ("self.acoustic_vocab * k", "_round_up(self.acoustic_vocab) * k")),
        "frame_embed/offsets",
        at_load=True,
    ),
    Convention(
        "codes of a reference are not shifted by the special ids",
        "Audio tokens",
        edit(VoxtralModel.embed_codes, ("codes + NUM_SPECIAL_CODES", "codes")),
        "codec/encode/lm_embeds",
    ),
    Convention(
        "a reference closes like a generation, with [1, 2 x 36]",
        "Audio tokens",
        edit(VoxtralModel.embed_codes, ("EMPTY_AUDIO)", "EMPTY_AUDIO + NUM_SPECIAL_CODES)")),
        "codec/encode/lm_embeds",
    ),
    Convention(
        "a reference closes with END_AUDIO in every codebook",
        "Audio tokens",
        edit(VoxtralModel.embed_codes, ("EMPTY_AUDIO)", "END_AUDIO)")),
        "codec/encode/lm_embeds",
    ),
    Convention(
        "a reference does not close",
        "Audio tokens",
        edit(VoxtralModel.embed_codes, ("(codes + NUM_SPECIAL_CODES, closing)", "(codes + NUM_SPECIAL_CODES,)")),
        "codec/encode/lm_embeds",
    ),
    Convention(
        "frame embeddings are means",
        "Audio tokens",
        edit(tokens.sum_embeddings, ("rows.sum(", "rows.mean(")),
        "frame_embed/embeds",
    ),
    Convention(
        "frames are fed back without the shift of the special ids",
        "The way of a text",
        # END_AUDIO has no row before it.
        edit(compute_frame, ("embed_frames(audio_tokens)", "embed_frames((audio_tokens - 2).clamp(min=0))")),
        "e2e/A/hidden",
    ),
    Convention(
        "the first frame is made of an [AUDIO] token",
        "The way of a text",
        edit(
            Runner._finish_prompt,
            ("row.prompt[-1]", "self.model.embed_text(torch.tensor([self.model.config.audio_token_id]))[0]"),
        ),
        "e2e/A/hidden",
    ),
    Convention(
        "the first frame is read one position too early",
        "The way of a text",
        edit(Runner._finish_prompt, ("row.prompt[-1]", "row.prompt[-2]")),
        "e2e/A/frames",
    ),
    Convention(
        "the embedding of [AUDIO] is added to each frame",
        "The way of a text",
        edit(
            compute_frame,
            (
                "model.embed_frames(audio_tokens)",
                "model.embed_frames(audio_tokens) + model.embed_text(torch.tensor([model.config.audio_token_id]))",
            ),
        ),
        "e2e/A/hidden",
    ),
)

SEMANTIC = (
    Convention(
        "EMPTY_AUDIO is not masked",
        "Semantic head and end",
        edit(tokens.mask_semantic, ("[:, EMPTY_AUDIO] =", "[:, :EMPTY_AUDIO] =")),
        "semantic/code",
    ),
    Convention(
        "padding rows are not masked",
        "Semantic head and end",
        edit(tokens.mask_semantic, ("semantic_vocab:]", "masked.shape[1] :]")),
        "semantic/code",
    ),
    Convention(
        "the last two codes are masked with the padding",
        "Semantic head and end",
        edit(tokens.mask_semantic, ("semantic_vocab:]", "semantic_vocab - 2 :]")),
        "semantic/logits_masked",
    ),
    Convention(
        "END_AUDIO is masked",
        "Semantic head and end",
        edit(tokens.mask_semantic, ("[:, EMPTY_AUDIO] =", "[:, : END_AUDIO + 1] =")),
        "semantic/logits_masked",
    ),
    Convention(
        "END_AUDIO is masked at the first frame",
        "Semantic head and end",
        edit(Runner._next_input, ("frame >= max(request.min_frames", "frame > max(request.min_frames")),
        f"{_UNIT}/test_voxtral.py::test_end_audio_may_be_the_very_first_frame",
    ),
    Convention(
        "the semantic code is drawn instead of chosen",
        "Semantic head and end",
        edit(
            tokens.choose_semantic,
            (
                ".argmax(dim=-1)",
                ".softmax(dim=-1).multinomial(1, generator=torch.Generator().manual_seed(0))[:, 0]",
            ),
        ),
        _FRAME,
    ),
    Convention(
        "semantic logits are read from the projected hidden state",
        "Semantic head and end",
        edit(AcousticTransformer.semantic_logits, ("_output(hidden)", "_output(self.llm_projection(hidden))")),
        "semantic/logits_raw",
    ),
    Convention(
        "the END_AUDIO frame is decoded too",
        "Semantic head and end",
        edit(
            FrameReader._look_at,
            (
                'if decision in ("end", "over", "lost"):',
                'if decision in ("end", "over", "lost"):\n'
                "        row.pending.append(FrameTokens(outputs.audio_tokens.clamp(min=2), index))",
            ),
        ),
        "e2e/A/waveform",
    ),
    Convention(
        "a generated END_AUDIO frame carries [1, 0 x 36], as that of a reference",
        "Audio tokens",
        edit(
            flow.finish_frame,
            ("END_AUDIO, EMPTY_AUDIO, codes)", "END_AUDIO, EMPTY_AUDIO - NUM_SPECIAL_CODES, codes)"),
        ),
        "fm/end_audio/codes",
    ),
    Convention(
        "an END_AUDIO frame keeps its acoustic codes",
        "Semantic head and end",
        edit(flow.finish_frame, ("torch.where(semantic[:, None] == END_AUDIO, EMPTY_AUDIO, codes)", "codes")),
        "fm/end_audio/codes",
    ),
)

FLOW = (
    Convention(
        "sines come before cosines",
        "Acoustic transformer",
        edit(acoustic.embed_time, ("(angles.cos(), angles.sin())", "(angles.sin(), angles.cos())")),
        "fm/time_embedding",
    ),
    Convention(
        "time is scaled by 1000",
        "Acoustic transformer",
        edit(acoustic.embed_time, ("[:, None] *", "[:, None] * 1000 *")),
        "fm/time_embedding",
    ),
    Convention(
        "time frequencies end at 1 / theta",
        "Acoustic transformer",
        edit(acoustic.time_inverse_frequencies, ('device="cpu") / half', 'device="cpu") / (half - 1)')),
        "fm/inv_freq",
    ),
    Convention("time theta is 1e6", "Acoustic transformer", constant(acoustic, "_TIME_THETA", 1e6), "fm/inv_freq"),
    Convention(
        "6 Euler steps",
        "Acoustic transformer",
        default(GenerationDefaults, num_euler_steps=6),
        "fm/alpha1.2/x_final",
        at_load=True,
    ),
    Convention(
        "8 Euler steps",
        "Acoustic transformer",
        default(GenerationDefaults, num_euler_steps=8),
        "fm/alpha1.2/x_final",
        at_load=True,
    ),
    Convention(
        "time is taken at the right end of a step",
        "Acoustic transformer",
        edit(AcousticTransformer.make_schedule, ("embed_time(times[:-1],", "embed_time(times[1:],")),
        _FLOW,
    ),
    Convention(
        "time is taken at the middle of a step",
        "Acoustic transformer",
        edit(AcousticTransformer.make_schedule, ("embed_time(times[:-1],", "embed_time((times[:-1] + times[1:]) / 2,")),
        _FLOW,
    ),
    Convention(
        "the flow runs from 1 to 0",
        "Acoustic transformer",
        edit(AcousticTransformer.make_schedule, ("torch.linspace(0, 1,", "torch.linspace(1, 0,")),
        _FLOW,
    ),
    Convention(
        "guidance is (1 + a) c - a u",
        "Acoustic transformer",
        edit(
            AcousticTransformer.flow_states,
            ("scale * velocities[:num_rows] + (1 - scale) *", "(1 + scale) * velocities[:num_rows] - scale *"),
        ),
        _FLOW,
    ),
    Convention(
        "there is no guidance",
        "Acoustic transformer",
        edit(AcousticTransformer.flow_states, ("guidance_scale[:, None]", "torch.ones_like(guidance_scale)[:, None]")),
        _FLOW,
    ),
    Convention(
        "the guidance of the first row serves all",
        "Acoustic transformer",
        edit(AcousticTransformer.flow_states, ("guidance_scale[:, None]", "guidance_scale[:1, None]")),
        "fm/alpha_mixed/x_final",
    ),
    Convention(
        "guidance is 1 by default",
        "Acoustic transformer",
        default(GenerationDefaults, guidance_scale=1.0),
        "tests/unit/test_config.py::test_generation_defaults_are_the_official_ones",
    ),
    Convention(
        "noise is scaled by 0.8 by default",
        "Acoustic transformer",
        default(GenerationDefaults, noise_scale=0.8),
        "tests/unit/test_config.py::test_generation_defaults_are_the_official_ones",
    ),
    Convention(
        "the unconditional branch has a hidden state of ones",
        "Acoustic transformer",
        edit(
            AcousticTransformer.flow_states,
            ("torch.zeros_like(llm_token)", "self.llm_projection(torch.ones_like(hidden))"),
        ),
        _FLOW,
    ),
    Convention(
        "the unconditional branch keeps the hidden state",
        "Acoustic transformer",
        edit(AcousticTransformer.flow_states, ("torch.zeros_like(llm_token)", "llm_token")),
        _FLOW,
    ),
    Convention(
        "the state is clamped after each step",
        "Acoustic transformer",
        edit(
            AcousticTransformer.flow_states,
            ("state = state + velocity * step", "state = (state + velocity * step).clamp(-1, 1)"),
        ),
        _FLOW,
    ),
    Convention(
        "the end of the flow is not clamped",
        "Acoustic transformer",
        edit(flow.round_to_codes, ("flow_state.clamp(-1, 1)", "flow_state")),
        _FRAME,
    ),
    Convention(
        "ties are rounded up",
        "Acoustic transformer",
        edit(flow.round_to_codes, ("scaled.round()", "(scaled + 0.5).floor()")),
        f"{_UNIT}/test_acoustic.py::test_ties_go_to_the_even_level",
    ),
    Convention(
        "levels are cut off instead of rounded",
        "Acoustic transformer",
        edit(flow.round_to_codes, ("scaled.round()", "scaled.floor()")),
        _FRAME,
    ),
    Convention(
        "levels are 22 in [-1, 1]",
        "Acoustic transformer",
        edit(flow.round_to_codes, ("(num_levels - 1)", "num_levels")),
        _FRAME,
    ),
    Convention(
        "acoustic codes are not shifted by the special ids",
        "Acoustic transformer",
        edit(flow.finish_frame, ("codes + NUM_SPECIAL_CODES", "codes")),
        _FRAME,
    ),
    Convention(
        "the velocity is read from the token of the hidden state",
        "Acoustic transformer",
        edit(AcousticTransformer.velocity, ("x[:, 0]", "x[:, 2]")),
        _VELOCITY,
    ),
    Convention(
        "there is no final norm of the acoustic transformer",
        "Acoustic transformer",
        edit(AcousticTransformer.velocity, ("self.norm(x[:, 0])", "x[:, 0]")),
        _VELOCITY,
    ),
    Convention(
        "acoustic attention is causal",
        "Acoustic transformer",
        edit(BidirectionalAttention.mix, ("attend(query, key, value)", "attend(query, key, value, is_causal=True)")),
        _VELOCITY,
    ),
    Convention(
        "acoustic attention has rotary positions",
        "Acoustic transformer",
        edit(
            BidirectionalAttention.mix,
            (
                "return self.wo",
                "from voxtral.model.layers import apply_rope, rope_inverse_frequencies, rope_rotation\n"
                "    frequencies = rope_inverse_frequencies(self.head_dim, 10000.0)\n"
                "    rotation = rope_rotation(torch.arange(3), frequencies)\n"
                "    query, key = (apply_rope(part, rotation) for part in (query, key))\n"
                "    return self.wo",
            ),
        ),
        _VELOCITY,
    ),
    Convention(
        "norm epsilon of the acoustic transformer is 1e-2",
        "Acoustic transformer",
        edit(params._parse_acoustic, ('args.number("norm_eps", 1e-5)', "1e-2")),
        _VELOCITY,
        at_load=True,
    ),
    Convention(
        "norm epsilon of the acoustic transformer is 1e-6",
        "Acoustic transformer",
        edit(params._parse_acoustic, ('args.number("norm_eps", 1e-5)', "1e-6")),
        f"{_UNIT}/test_voxtral.py::test_each_norm_has_the_epsilon_of_its_network",
    ),
    Convention(
        "acoustic codes come before the semantic one",
        "Acoustic transformer",
        edit(
            flow.finish_frame,
            ("(semantic[:, None], codes + NUM_SPECIAL_CODES)", "(codes + NUM_SPECIAL_CODES, semantic[:, None])"),
        ),
        _FRAME,
    ),
    Convention(
        "the hidden state is not projected",
        "Acoustic transformer",
        edit(AcousticTransformer.flow_states, ("self.llm_projection(hidden)", "hidden")),
        _FLOW,
    ),
    Convention(
        "the acoustic transformer has no residual around its feed-forward",
        "Acoustic transformer",
        edit(AcousticLayer.forward, ("return x + self.feed_forward", "return self.feed_forward")),
        _VELOCITY,
    ),
)

DECODER = (
    Convention(
        "codes keep the shift of the special ids on their way to the codec",
        "Codec decoder",
        edit(VoxtralModel.decode_rows, ("audio_tokens - NUM_SPECIAL_CODES", "audio_tokens")),
        "e2e/A/waveform",
    ),
    Convention(
        "codebook usage is floored at 1e-8",
        "Quantizer",
        constant(codebooks, "_USAGE_FLOOR", 1e-8),
        "codec/semantic_table_rows",
        at_load=True,
    ),
    Convention(
        "the codebook is not divided by its usage",
        "Quantizer",
        edit(codebooks.semantic_table, ("cluster_usage.float().clamp(min=_USAGE_FLOOR)[:, None]", "1.0")),
        "codec/semantic_table_rows",
        at_load=True,
    ),
    Convention(
        "acoustic levels are rescaled by c * 0.1 - 1",
        "Codec decoder",
        edit(
            Quantizer.codes_to_latent,
            ("codes[:, 1:] * 2 / (self.codebooks.acoustic_size - 1) - 1", "codes[:, 1:] * 0.1 - 1"),
        ),
        f"{_UNIT}/test_codebooks.py::test_levels_are_rescaled_in_the_official_order",
    ),
    Convention(
        "acoustic levels are 22 in [-1, 1]",
        "Codec decoder",
        edit(Quantizer.codes_to_latent, ("(self.codebooks.acoustic_size - 1)", "self.codebooks.acoustic_size")),
        f"{_T7}/latents",
    ),
    Convention(
        "acoustic channels come before semantic ones",
        "Codec decoder",
        edit(
            Quantizer.codes_to_latent,
            ("(semantic.to(dtype), acoustic.to(dtype))", "(acoustic.to(dtype), semantic.to(dtype))"),
        ),
        f"{_T7}/latents",
    ),
    Convention(
        "the first convolution pads with zeros",
        "Codec decoder",
        edit(CodecDecoder._convolve, (', mode="replicate"', "")),
        f"{_T7}/block0",
    ),
    Convention(
        "the first convolution pads by reflection",
        "Codec decoder",
        edit(CodecDecoder._convolve, ('F.pad(x, (reach, 0), mode="replicate")', "pad_reflect_left(x, reach)")),
        f"{_T7}/block0",
    ),
    Convention(
        "the first convolution is centred",
        "Codec decoder",
        edit(
            CodecDecoder._convolve,
            ('F.pad(x, (reach, 0), mode="replicate")', 'F.pad(x, (reach // 2, reach - reach // 2), mode="replicate")'),
        ),
        f"{_T7}/block0",
    ),
    Convention(
        "the output projection pads by replication",
        "Codec decoder",
        edit(CodecDecoder.advance, ("pad_reflect_left(x, reach)", 'F.pad(x, (reach, 0), mode="replicate")')),
        f"{_T7}/waveform",
    ),
    Convention(
        "the output projection pads with zeros",
        "Codec decoder",
        edit(CodecDecoder.advance, ("pad_reflect_left(x, reach)", "F.pad(x, (reach, 0))")),
        f"{_T7}/waveform",
    ),
    Convention(
        "kernels run backwards",
        "Codec decoder",
        edit(ConvBlock.forward, ("self.conv.weight", "self.conv.weight.flip(-1)")),
        f"{_T7}/block0",
    ),
    Convention(
        "kernels of transposed convolutions run backwards",
        "Codec decoder",
        edit(ConvBlock.transpose, ("self.conv.weight", "self.conv.weight.flip(-1)")),
        f"{_T7}/block2",
    ),
    Convention(
        "input and output channels of transposed convolutions are swapped",
        "Codec decoder",
        edit(ConvBlock.transpose, ("self.conv.weight", "self.conv.weight.transpose(0, 1)")),
        f"{_T7}/block2",
    ),
    Convention(
        "transposed convolutions are trimmed on the left",
        "Codec decoder",
        edit(ConvBlock.transpose, ("full[..., :num_final]", "full[..., overlap:]")),
        f"{_T7}/block2",
    ),
    Convention(
        "transposed convolutions are trimmed on both sides",
        "Codec decoder",
        edit(ConvBlock.transpose, ("full[..., :num_final]", "full[..., overlap // 2 : overlap // 2 + num_final]")),
        f"{_T7}/block2",
    ),
    Convention(
        "weight norm of transposed convolutions is over the input channels",
        "Codec decoder",
        edit(
            load._fold_weight_norm,
            ("weight.flatten(1).norm(dim=1)[:, None, None]", "weight.norm(dim=(0, 2), keepdim=True)"),
        ),
        "codec/decoder_block2_weight",
        at_load=True,
    ),
    Convention(
        "weight norm is over the whole weight",
        "Codec decoder",
        edit(load._fold_weight_norm, ("weight.flatten(1).norm(dim=1)[:, None, None]", "weight.norm()")),
        "codec/decoder_block0_weight",
        at_load=True,
    ),
    Convention(
        "gains of weight norm are taken as positive",
        "Codec decoder",
        edit(load._fold_weight_norm, ("gain.float()", "gain.float().abs()")),
        "codec/decoder_block0_weight",
        at_load=True,
    ),
    Convention(
        "norm epsilon of the codec is 1e-5",
        "Codec decoder",
        edit(params._parse_codec, ('args.number("norm_eps", 1e-2)', "1e-5")),
        f"{_T7}/block1",
        at_load=True,
    ),
    Convention(
        "epsilon of the norms of q and k is 1e-2",
        "Codec decoder",
        edit(params._parse_codec, ('args.number("qk_norm_eps", 1e-6)', "1e-2")),
        f"{_T7}/block1",
        at_load=True,
    ),
    Convention(
        "q and k are normalised head by head",
        "Codec decoder",
        edit(
            CodecAttention.forward,
            (
                "query, key = self.q_norm(query), self.k_norm(key)",
                "dim = self.config.head_dim\n"
                "        query, key = (\n"
                "            F.rms_norm(x.unflatten(-1, (-1, dim)), (dim,), eps=norm.eps).flatten(-2) * norm.weight\n"
                "            for x, norm in ((query, self.q_norm), (key, self.k_norm)))",
            ),
        ),
        f"{_T7}/block1",
    ),
    Convention(
        "q and k are not normalised",
        "Codec decoder",
        edit(CodecAttention.forward, ("query, key = self.q_norm(query), self.k_norm(key)", "pass")),
        f"{_T7}/block1",
    ),
    Convention(
        "layer scale of attention is dropped",
        "Codec decoder",
        edit(CodecLayer.forward, ("self.attention_scale * mixed if self.has_scales else mixed", "mixed")),
        f"{_T7}/block1",
    ),
    Convention(
        "layer scale of the feed-forward is dropped",
        "Codec decoder",
        edit(CodecLayer.forward, ("self.ffn_scale * mapped if self.has_scales else mapped", "mapped")),
        f"{_T7}/block1",
    ),
    Convention(
        "ALiBi slopes start at 1/2",
        "Codec decoder",
        edit(config._alibi_slopes, ("ratio**head", "ratio ** (head + 1)")),
        f"{_T7}/block1",
        at_load=True,
    ),
    Convention(
        "ALiBi favours distant keys",
        "Codec decoder",
        edit(window.window_bias, ("bias = slopes", "bias = -slopes")),
        "codec/attn_bias/block1_window2",
    ),
    Convention(
        "there is no ALiBi",
        "Codec decoder",
        edit(window.window_bias, ("bias = slopes", "bias = 0 * slopes")),
        f"{_T7}/block1",
    ),
    Convention(
        "a window of W is W keys",
        "Codec decoder",
        edit(window.window_bias, ("distance < -window", "distance <= -window")),
        f"{_T7}/block1",
    ),
    Convention(
        "codec attention sees the future",
        "Codec decoder",
        edit(window.window_bias, ("(distance > 0)", "(distance > window)")),
        f"{_T7}/block1",
    ),
    Convention(
        "the cache of a codec layer is one key short",
        "Codec decoder",
        edit(
            CodecAttention.forward,
            ("key[:, :, -self.window :]", "key[:, :, -self.window + 1 :]"),
            ("value[:, :, -self.window :]", "value[:, :, -self.window + 1 :]"),
        ),
        "codec/decode/T40/waveform",
    ),
    Convention(
        "a long signal is decoded in pieces that know nothing of each other",
        "Codec decoder",
        edit(CodecDecoder.decode_latent, ("self.advance(part, state,", "self.advance(part, CodecState.fresh(self),")),
        "codec/decode/T40/waveform",
    ),
    Convention(
        "codec attention has rotary positions",
        "Codec decoder",
        edit(
            CodecAttention.forward,
            (
                "if cache.keys is not None",
                "from voxtral.model.layers import apply_rope, rope_inverse_frequencies, rope_rotation\n"
                "    frequencies = rope_inverse_frequencies(self.config.head_dim, 10000.0)\n"
                "    positions = torch.arange(query.shape[2])\n"
                "    query, key = (apply_rope(part, rope_rotation(positions, frequencies)) for part in (query, key))\n"
                "    if cache.keys is not None",
            ),
        ),
        f"{_T7}/block1",
    ),
    Convention(
        "windows of the decoder shrink with the rate",
        "Codec decoder",
        edit(
            params._decoder_blocks,
            ("blocks: list[CodecBlock] =", "window *= 8\n    blocks: list[CodecBlock] ="),
            ("up=True", "up=False"),
        ),
        f"{_T7}/block1",
        at_load=True,
    ),
    Convention(
        "all windows are 16",
        "Codec decoder",
        edit(params._scaled_window, ("if not halve or stride == 1", "if True")),
        f"{_T7}/block1",
        at_load=True,
    ),
    Convention(
        "patches are emitted channel by channel",
        "Codec decoder",
        edit(CodecDecoder.advance, ("patches.transpose(1, 2).flatten(1)", "patches.flatten(1)")),
        f"{_T7}/waveform",
    ),
    Convention(
        "samples go through tanh",
        "Codec decoder",
        edit(CodecDecoder.advance, (".flatten(1).float()", ".flatten(1).float().tanh()")),
        f"{_T7}/waveform",
    ),
    Convention(
        "samples are clamped to [-1, 1]",
        "Codec decoder",
        edit(CodecDecoder.advance, (".flatten(1).float()", ".flatten(1).float().clamp(-1, 1)")),
        f"{_UNIT}/test_codec.py::test_samples_are_not_clipped",
    ),
)

ENCODER = (
    Convention(
        "input patches are cut channel by channel",
        "Codec encoder",
        edit(
            CodecEncoder.block_outputs, (".unflatten(-1, (-1, patch)).transpose(1, 2)", ".unflatten(-1, (patch, -1))")
        ),
        f"{_ENCODE}/input_proj",
    ),
    Convention(
        "a clip is completed on the left",
        "Codec encoder",
        edit(CodecEncoder.block_outputs, ("(0, -samples.shape[-1] % patch)", "(-samples.shape[-1] % patch, 0)")),
        f"{_ENCODE}/input_proj",
    ),
    Convention(
        "a clip is completed to whole frames with zeros",
        "Codec encoder",
        edit(
            CodecEncoder.block_outputs,
            ("-samples.shape[-1] % patch", "-samples.shape[-1] % self.config.samples_per_frame"),
        ),
        f"{_ENCODE}/latents",
    ),
    Convention(
        "the last, partial frame of a clip is dropped",
        "Codec encoder",
        edit(
            CodecEncoder.block_outputs,
            (
                "patch = self.config.patch_size",
                "patch = self.config.patch_size\n"
                "    samples = samples[:, : samples.shape[-1] - samples.shape[-1] % self.config.samples_per_frame]",
            ),
        ),
        f"{_ENCODE}/codes",
    ),
    Convention(
        "the input projection pads with zeros",
        "Codec encoder",
        edit(
            CodecEncoder.block_outputs,
            (
                "pad_reflect_left(x.to(self.dtype), self.config.patch_kernel - 1)",
                "F.pad(x.to(self.dtype), (self.config.patch_kernel - 1, 0))",
            ),
        ),
        f"{_ENCODE}/input_proj",
    ),
    Convention(
        "the input projection pads by replication",
        "Codec encoder",
        edit(
            CodecEncoder.block_outputs,
            (
                "pad_reflect_left(x.to(self.dtype), self.config.patch_kernel - 1)",
                'F.pad(x.to(self.dtype), (self.config.patch_kernel - 1, 0), mode="replicate")',
            ),
        ),
        f"{_ENCODE}/input_proj",
    ),
    Convention(
        "an input too short to reflect is lengthened with its edge",
        "Codec decoder",
        edit(codec.pad_reflect_left, ("F.pad(x, (0, missing))", 'F.pad(x, (0, missing), mode="replicate")')),
        "codec/encode_short/input_proj",
    ),
    Convention(
        "strided convolutions pad kernel - 1 on the left",
        "Codec decoder",
        edit(codec_encoder._pad_replicate, ("config.kernel - config.stride,", "config.kernel - 1,")),
        f"{_ENCODE}/block1",
    ),
    Convention(
        "strided convolutions pad by reflection",
        "Codec decoder",
        edit(
            codec_encoder._pad_replicate,
            (
                "F.pad(x, (config.kernel - config.stride,",
                "F.pad(pad_reflect_left(x, config.kernel - config.stride), (0,",
            ),
        ),
        f"{_ENCODE}/block1",
    ),
    Convention(
        "strided convolutions pad with zeros",
        "Codec decoder",
        edit(codec_encoder._pad_replicate, (', mode="replicate"', "")),
        f"{_ENCODE}/block1",
    ),
    Convention(
        "the last step of a strided convolution is completed with zeros",
        "Codec decoder",
        edit(
            codec_encoder._pad_replicate,
            ("config.stride, -x.shape[-1] % config.stride)", "config.stride, 0)"),
            ("F.pad(x,", "F.pad(F.pad(x, (0, -x.shape[-1] % config.stride)),"),
        ),
        f"{_ENCODE}/block1",
    ),
    Convention(
        "windows of the encoder grow as the rate falls",
        "Codec encoder",
        edit(
            params._encoder_blocks,
            ("blocks: list[CodecBlock] =", "window //= 8\n    blocks: list[CodecBlock] ="),
            ("up=False", "up=True"),
            ("return tuple(blocks), window", "return tuple(blocks), window // 8"),
        ),
        f"{_ENCODE}/block0",
        at_load=True,
    ),
    Convention(
        "acoustic latents skip tanh",
        "Codec encoder",
        edit(
            Quantizer.latent_to_codes, ("torch.tanh(latent[:, self.semantic_dim :])", "latent[:, self.semantic_dim :]")
        ),
        f"{_ENCODE}/codes",
    ),
    Convention(
        "the semantic code is the entry of the largest product",
        "Codec encoder",
        edit(
            Quantizer.latent_to_codes, ("distances.argmin(dim=-1)", "(semantic @ self.semantic_table.T).argmax(dim=-1)")
        ),
        f"{_ENCODE}/codes",
    ),
    Convention(
        "the semantic code is the entry of the smallest angle",
        "Codec encoder",
        edit(
            Quantizer.latent_to_codes,
            ("distances.argmin(dim=-1)", "(semantic @ F.normalize(self.semantic_table).T).argmax(dim=-1)"),
        ),
        f"{_ENCODE}/codes",
    ),
    Convention(
        "semantic and acoustic channels of the latent are swapped",
        "Codec encoder",
        edit(
            Quantizer.latent_to_codes,
            ("latent = latent.float()", "latent = latent.float().roll(self.semantic_dim, dims=1)"),
        ),
        f"{_ENCODE}/codes",
    ),
)

CONVENTIONS = (*BACKBONE, *PROMPT, *SEMANTIC, *FLOW, *DECODER, *ENCODER)
