"""Attention of SAM's image encoder: exact, without its large temporary tensors.

segment_anything's own ``Attention`` makes four matrices of all queries by all keys for every head
(0.8 GB each with ViT-B at 1024 pixels), and projects the padding of its windows like tokens
(4900 for 4096). Here the decomposed relative position bias (arXiv 2112.01526, section 4.1) is
handed to ``scaled_dot_product_attention`` a block at a time in one buffer that is used again, and
padding, which is the same everywhere, is projected once. In half precision on a GPU, where all
wait for memory, the bias is a matrix product, and a large one is never written down.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import Attention, get_rel_pos, window_partition
from torch import Tensor

CPU_BIAS_BYTES = 16 * 2**20
"""Bias computed at a time per CPU thread, bytes; larger blocks exceed the caches."""

GPU_BIAS_BYTES = 2 * 2**30
"""Bias computed at a time on a GPU, which prefers few large launches: two images of ViT-H."""

MAX_BIAS_TOKENS = 1024
"""Tokens up to which materialising the bias is cheaper than extending queries and keys."""


def attend(
    attention: Attention, tokens: Tensor, window: int, padding: Tensor | None = None
) -> Tensor:
    """Compute SAM's self-attention, within windows or over the whole grid.

    Args:
        attention: its weights; ``qkv`` may be replaced by any module of the same shape.
        tokens: (B, H, W, D), normalised.
        window: side of a window in tokens; 0 for global attention.
        padding: (D,), the normalised token that fills up windows; ``None`` for 0, as in SAM.

    Returns:
        (B, H, W, D).
    """
    batch, height, width, dim = tokens.shape
    heads, side = attention.num_heads, (window or height, window or width)
    flat = tokens.flatten(1, 2)
    order = back = None
    if window:
        order, back = _window_order(height, width, window, tokens.device)
        if len(order) > len(back):  # the last row stands for all of the padding
            filler = flat.new_zeros(dim) if padding is None else padding.to(flat.dtype)
            flat = torch.cat((flat, filler.expand(batch, 1, -1)), dim=1)
    qkv = attention.qkv(flat)
    if order is not None:
        qkv = qkv.index_select(1, order)
    qkv = qkv.reshape(-1, side[0] * side[1], 3, heads, dim // heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    mixed = _mix(query, key, value, *_relative_positions(attention, query, side))
    mixed = mixed.reshape(batch, -1, dim)
    if back is not None:
        mixed = mixed.index_select(1, back)
    return attention.proj(mixed).view(batch, height, width, dim)


@torch.compiler.assume_constant_result
def _window_order(*sizes_and_device: int | torch.device) -> tuple[Tensor, Tensor]:
    """Call :func:`_make_window_order`; a compiler, which sees through caches, keeps the result."""
    return _make_window_order(*sizes_and_device)


@lru_cache(maxsize=16)
def _make_window_order(
    height: int, width: int, window: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the order of tokens in the windows, row by row in each, and its inverse.

    Returns:
        Index of the token (H · W for padding) at each of the windows' places, and index of the
        place of each of the H · W tokens.
    """
    count = height * width
    with torch.inference_mode(False):  # remembered, so training must be able to use them too
        # From 1, for window_partition pads with 0.
        index = torch.arange(1, count + 1, device="cpu").view(1, height, width, 1)
        order = window_partition(index, window)[0].flatten() - 1
        back = order.argsort()[-count:]
        return order.where(order >= 0, count).to(device), back.to(device)


def _relative_positions(
    attention: Attention, query: Tensor, side: tuple[int, int]
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Compute the bias of queries (N, heads, h · w, d) by the key's row and column."""
    if not attention.use_rel_pos:
        return None, None
    grid = query.unflatten(2, side)
    rows = get_rel_pos(side[0], side[0], attention.rel_pos_h)
    columns = get_rel_pos(side[1], side[1], attention.rel_pos_w)
    rows = torch.einsum("nghwc,hkc->nghwk", grid, rows)
    columns = torch.einsum("nghwc,wkc->nghwk", grid, columns)
    return rows.flatten(2, 3), columns.flatten(2, 3)


def _mix(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor | None, columns: Tensor | None
) -> Tensor:
    """Compute softmax(q kᵀ / √d + bias) v: (N, heads, L, d) each → (N, L, heads, d)."""
    if rows is None or columns is None:
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    if query.is_cuda and query.element_size() == 2:
        return _mix_on_tensor_cores(query, key, value, rows, columns)
    if any(x.requires_grad for x in (query, key, value, rows, columns)):
        # The backward pass needs the whole bias again: a buffer cannot be reused.
        bias = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
        return F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2)
    count, heads, length, _ = query.shape
    mixed = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
    sizes = _block_sizes(query)
    buffer = rows.new_empty(sizes[0] * sizes[1] * sizes[2] * length)
    for n, head, some in product(*map(_slices, (count, heads, length), sizes)):
        down, across = rows[n, head, some, :, None], columns[n, head, some, None, :]
        shape = torch.broadcast_shapes(down.shape, across.shape)
        bias = buffer[: shape.numel()].view(shape)
        torch.add(down, across, out=bias)
        part = F.scaled_dot_product_attention(
            query[n, head, some], key[n, head], value[n, head], bias.flatten(-2)
        )
        mixed[n, some, head] = part.transpose(1, 2)
    return mixed


def _mix_on_tensor_cores(
    query: Tensor, key: Tensor, value: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Compute :func:`_mix` with the bias as extra channels, one-hot in the key's row and column."""
    (height, width), dim = (rows.shape[-1], columns.shape[-1]), query.shape[-1]
    added = torch.cat((rows, columns), dim=-1)
    row_of_key = torch.eye(height, dtype=key.dtype, device=key.device).repeat_interleave(width, 0)
    column_of_key = torch.eye(width, dtype=key.dtype, device=key.device).repeat(height, 1)
    places = torch.cat((row_of_key, column_of_key), dim=-1)
    if height * width <= MAX_BIAS_TOKENS:
        bias = added @ places.T
        return F.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2)
    # More channels of queries and keys instead; kernels want them in eights, and as many of values.
    filler = query.new_zeros(*query.shape[:3], -(dim + height + width) % 8)
    query = torch.cat((query * dim**-0.5, added, filler), dim=-1)
    key = torch.cat((key, places.expand(*key.shape[:2], -1, -1), filler), dim=-1)
    value = F.pad(value, (0, query.shape[-1] - dim))
    mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0)
    return mixed[..., :dim].transpose(1, 2)


def _block_sizes(query: Tensor) -> tuple[int, int, int]:
    """Return (images or windows, heads, queries) whose bias is computed at a time."""
    count, heads, length, _ = query.shape
    left = _bias_bytes(query.device) // (length * query.element_size())
    queries = min(length, max(1, left))
    some_heads = min(heads, max(1, left // queries))
    return min(count, max(1, left // (queries * some_heads))), some_heads, queries


def _bias_bytes(device: torch.device) -> int:
    if device.type == "cpu":
        return CPU_BIAS_BYTES * torch.get_num_threads()
    return GPU_BIAS_BYTES


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))
