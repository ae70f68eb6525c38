"""Which matrices of a model get how many bits.

Only the two transformers and the semantic head are quantised: they are what a frame reads. Norms, embeddings, the
small projections and the codec stay as they are. What the bits hold is in `voxtral.quantization.schemes`.
"""

from __future__ import annotations

import re

from voxtral.config import ModelConfig, Precision, QuantizationConfig
from voxtral.errors import OptionError
from voxtral.quantization.schemes import SCHEMES

# What can be asked for by name: the precision of the backbone and of the acoustic transformer.
RECIPES: dict[str, tuple[Precision, Precision]] = {
    "int8": ("int8", "int8"),
    "int4": ("int4", "int8"),
    "int4-all": ("int4", "int4"),
}

# In the order of preference; 64 and 32 are what small models are multiples of.
GROUP_SIZES = (64, 32)

_MATRIX = r"layers\.\d+\.(attention\.w[qkvo]|feed_forward\.w[123])\.weight"
_BACKBONE_MATRIX = re.compile(_MATRIX)
_ACOUSTIC_MATRIX = re.compile(rf"acoustic_transformer\.{_MATRIX}")
_SEMANTIC_HEAD = "acoustic_transformer.semantic_codebook_output.weight"


def choose_recipe(name: str, config: ModelConfig, group_size: int | None = None) -> QuantizationConfig:
    """Turn the name of a recipe into what it means for a model.

    Args:
        name: one of `RECIPES`.
        config: sizes; the widths decide which groups fit.
        group_size: inputs that share a scale in int4; by default the first of `GROUP_SIZES` that fits.

    Raises:
        OptionError: there is no such recipe, or no group fits the widths.
    """
    if name not in RECIPES:
        raise OptionError(f"quantize is {name!r}; it must be one of {', '.join(RECIPES)}, auto or none")
    precisions = RECIPES[name]
    widths = {
        width
        for part, precision in zip((config.backbone, config.acoustic), precisions, strict=True)
        if SCHEMES[precision].is_grouped
        for width in (part.dim, part.hidden_dim, part.num_heads * part.head_dim)
    }
    candidates = GROUP_SIZES if group_size is None else (group_size,)
    fitting = next((size for size in candidates if all(width % size == 0 for width in widths)), None)
    if fitting is None:
        raise OptionError(
            f"{name} needs groups of {' or '.join(map(str, candidates))} inputs, and the widths of this model are "
            f"{', '.join(map(str, sorted(widths)))}; they must be multiples of it; use int8"
        )
    return QuantizationConfig(*precisions, semantic_head="int8", group_size=fitting)


def stored_precision(name: str, quantization: QuantizationConfig | None) -> Precision | None:
    """Tell how a tensor of a checkpoint is quantised, by its plain name; None if it is not."""
    if quantization is None:
        return None
    if _BACKBONE_MATRIX.fullmatch(name):
        return quantization.backbone
    if _ACOUSTIC_MATRIX.fullmatch(name):
        return quantization.acoustic
    return quantization.semantic_head if name == _SEMANTIC_HEAD else None


def is_quantizable(name: str) -> bool:
    """Tell whether any recipe gives a tensor of a checkpoint, by its plain name, fewer bits."""
    return any(pattern.fullmatch(name) for pattern in (_BACKBONE_MATRIX, _ACOUSTIC_MATRIX)) or name == _SEMANTIC_HEAD
