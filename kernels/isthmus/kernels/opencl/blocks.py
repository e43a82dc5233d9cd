"""A layer's block of keys or values, in and out of the form that all backends share.

It lies as cl/attention.cl says: of each head the values, keys by dimension and values by position,
then their scales where there are any.
"""

from __future__ import annotations

import numpy as np

from isthmus.kernels.base import F16, F32, U8, KVShape, KVType

_KINDS = {KVType.FLOAT32: np.float32, KVType.FLOAT16: np.float16}


@np.errstate(all="ignore")  # positions that were never written hold anything
def unpack(raw: U8, kv: KVShape, *, head_dim: int, keys: bool) -> F16:
    """[kv_heads, block_tokens, head_dim] of bytes. raw: [kv_heads, bytes of a head]"""
    tokens, group = kv.block_tokens, kv.dtype.group
    size = tokens * head_dim * kv.dtype.value_bytes
    kind = np.int8 if group is not None else _KINDS[kv.dtype]
    lying = (head_dim, tokens) if keys else (tokens, head_dim)
    values = np.ascontiguousarray(raw[:, :size]).view(kind).reshape(-1, *lying)
    by_position: F32 = (values.swapaxes(1, 2) if keys else values).astype(np.float32)
    if group is not None:
        scales = np.ascontiguousarray(raw[:, size:]).view(np.float16)
        groups = -(-head_dim // group)
        each = scales.reshape(-1, groups, tokens).swapaxes(1, 2) if keys else scales
        spread = np.repeat(each.reshape(-1, tokens, groups), group, axis=2)[..., :head_dim]
        by_position *= spread.astype(np.float32)
    return by_position.astype(np.float16)


def pack(block: F16, kv: KVShape, *, keys: bool) -> U8:
    """The bytes of a block. block: [kv_heads, block_tokens, head_dim] -> [kv_heads, bytes]"""
    heads, tokens, head_dim = block.shape
    group = kv.dtype.group
    if group is None:
        lying = block.swapaxes(1, 2) if keys else block
        return np.ascontiguousarray(lying, _KINDS[kv.dtype]).reshape(heads, -1).view(np.uint8)
    groups = -(-head_dim // group)
    padded = np.zeros((heads, tokens, groups * group), np.float32)
    padded[..., :head_dim] = block
    split = padded.reshape(heads, tokens, groups, group)
    scales = (np.abs(split).max(axis=3) / 127).astype(np.float16)
    exact = scales.astype(np.float32)[..., None]
    steps = np.clip(np.rint(split / np.where(exact == 0, 1, exact)), -127, 127).astype(np.int8)
    codes = steps.reshape(heads, tokens, -1)[..., :head_dim]
    if keys:
        codes, scales = codes.swapaxes(1, 2), scales.swapaxes(1, 2)
    parts = [np.ascontiguousarray(part).reshape(heads, -1) for part in (codes, scales)]
    return np.concatenate([part.view(np.uint8) for part in parts], axis=1)
