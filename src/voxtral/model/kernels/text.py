"""What chosen heads of a step see of each row's text, beside attention over a paged KV cache, which forms no weights.

One operation a frame, after all layers: by then the queries of every head that is asked are there, and the keys of the
text have been in the pages since the prompt. Pages as in `voxtral.model.kernels.paged`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from voxtral.model.kernels.dispatch import attempt, uses_triton

TextKeys = dict[int, npt.NDArray[np.float32]]
"""The keys of a text by layer, [Hkv, n, Dh] each in CPU memory: they never change while the text is spoken."""


@dataclass(frozen=True, eq=False)
class TextHeads:
    """Heads that follow the text, as kernels read them. Made before a graph is captured, and as long-lived.

    Attributes:
        pairs: layer and query head of each, in the order of layers.
        layers: [K] int64, of the same.
        kv_heads: [K] int64, the key head that each reads.
        width: tokens of a text at most.
        numbers: [max(width, page_size)] int64: 0, 1, 2, ...
    """

    pairs: tuple[tuple[int, int], ...]
    layers: Tensor
    kv_heads: Tensor
    width: int
    numbers: Tensor

    @classmethod
    def make(
        cls, pairs: Sequence[tuple[int, int]], *, group: int, width: int, page_size: int, device: torch.device
    ) -> TextHeads:
        """Put heads on a device.

        Args:
            pairs: layer and query head of each; at least one.
            group: query heads of a key head.
            width: tokens of a text at most.
            page_size: positions of a page.
            device: of the pages.
        """
        ordered = tuple(sorted(pairs))
        layers, heads = (torch.tensor(part, device=device) for part in zip(*ordered, strict=True))
        return cls(ordered, layers, heads // group, width, torch.arange(max(width, page_size), device=device))


@dataclass(frozen=True, eq=False)
class PagedTexts:
    """Where the text of each row lies.

    Attributes:
        starts: [B] int32, position of its first token in the row's sequence; 0 of a row without a text.
        lengths: [B] int32, its tokens; 0 where nothing is wanted.
        tables: [B, max_pages] int32, pages of each row in order; what lies behind the text is not read.
    """

    starts: Tensor
    lengths: Tensor
    tables: Tensor


def weigh_text(
    queries: Sequence[Tensor],
    rotation: tuple[Tensor, Tensor],
    keys: Tensor,
    heads: TextHeads,
    texts: PagedTexts,
    *,
    use_triton: bool | None = None,
) -> Tensor:
    """Compute the mean, over heads, of softmax(query . keys of the text / sqrt(Dh)).

    The queries are rotated here, interleaved pairs (2i, 2i + 1), and not rounded after that; all is float32. A row's
    result does not depend on the others. Plainly it is 16 kernels in 16 bits and 14 in float32, however many heads.

    Args:
        queries: of each head in the order of `heads`, [B, Dh], not rotated; views will do.
        rotation: cosines and sines of the rows' positions, [B, Dh / 2] float32 each.
        keys: [L, num_pages, page_size, Hkv, Dh], rotated, of all layers.
        heads: K of them.
        texts: of the rows.
        use_triton: see `uses_triton`.

    Returns:
        [B, width] float32; of a row that has a text they add up to 1, and all behind it is zero.
    """
    query = torch.stack(list(queries), dim=1)  # [B, K, Dh]
    if use_triton or (keys.is_cuda and uses_triton("weigh_text", keys, use_triton)):
        from voxtral.model.kernels import text_triton

        with attempt("weigh_text", keys, use_triton):
            return text_triton.weigh_text(query, rotation, keys, heads, texts)
    turned = torch.view_as_complex(query.float().unflatten(-1, (-1, 2))) * torch.complex(*rotation)[:, None]
    rotated = torch.view_as_real(turned).flatten(-2)
    offsets, page_size = heads.numbers[: heads.width], keys.shape[2]
    is_text = offsets < texts.lengths[:, None]  # [B, width]
    # Places behind the text are its first again: tables may hold anything there.
    places = torch.addcmul(texts.starts[:, None], offsets, is_text)
    slots = torch.add(heads.numbers[:page_size], texts.tables[:, :, None], alpha=page_size).flatten(1)
    chosen = (heads.layers[:, None], slots.gather(1, places)[:, None], heads.kv_heads[:, None])
    seen = keys.flatten(1, 2)[chosen].float()  # [B, K, width, Dh]
    scores = torch.matmul(seen, rotated[..., None])[..., 0]
    # The logarithm of what is no text is minus infinity; of a row that has none the shares are those of nothing.
    shares = torch.add(is_text.log()[:, None], scores, alpha=query.shape[-1] ** -0.5).softmax(dim=-1)
    return shares.mean(dim=1).nan_to_num()
