"""The native backend's blocks of keys and values, in and out of the form that all backends share.

A block lies as [layers, kv_heads, keys then values, tiles, tile bytes], a tile being 32 positions
by 32 dimensions of a head, the last one padded (kernels/native/attention*.hpp).
"""

from __future__ import annotations

import numpy as np

from isthmus.kernels.base import F16, F32, U8, KVType

_SIDE = 32
_CODES = _SIDE * _SIDE
_FLOATS = {KVType.FLOAT32: np.float32, KVType.FLOAT16: np.float16}


@np.errstate(all="ignore")  # positions that were never written hold anything
def unpack_block(raw: U8, dtype: KVType, *, kv_heads: int, head_dim: int) -> F16:
    """[layers, 2, kv_heads, block_tokens, head_dim] of a block's bytes. raw: [bytes]"""
    tiles = -(-head_dim // _SIDE)
    lying = raw.reshape(-1, kv_heads, 2, tiles, _tile_bytes(dtype))
    keys, values = lying[:, :, 0], lying[:, :, 1]  # [layers, kv_heads, tiles, bytes]
    lead = keys.shape[:3]
    if dtype in _FLOATS:
        kind = _FLOATS[dtype]
        k = np.ascontiguousarray(keys).view(kind).reshape(*lead, _SIDE, _SIDE).swapaxes(3, 4)
        v = np.ascontiguousarray(values).view(kind).reshape(*lead, _SIDE, _SIDE)
    else:
        codes = np.ascontiguousarray(keys[..., :_CODES]).view(np.int8)
        # 4 dimensions of a position lie together; of values, 4 positions of a dimension.
        k = codes.reshape(*lead, 8, _SIDE, 4).swapaxes(3, 4).reshape(*lead, _SIDE, _SIDE)
        k = k * _scales(keys)
        codes = np.ascontiguousarray(values[..., :_CODES]).view(np.int8)
        v = codes.reshape(*lead, 8, _SIDE, 4).swapaxes(4, 5).reshape(*lead, _SIDE, _SIDE)
        v = v * _scales(values)
    both = np.stack([k, v], axis=1)  # [layers, 2, kv_heads, tiles, positions, dimensions]
    whole = both.swapaxes(3, 4).reshape(both.shape[0], 2, kv_heads, _SIDE, tiles * _SIDE)
    return np.ascontiguousarray(whole[..., :head_dim], np.float16)


def pack_block(block: F16, dtype: KVType) -> U8:
    """The bytes of a block. block: [layers, 2, kv_heads, block_tokens, head_dim] -> [bytes]"""
    layers, _, kv_heads, _, head_dim = block.shape
    tiles = -(-head_dim // _SIDE)
    padded: F32 = np.zeros((layers, 2, kv_heads, _SIDE, tiles * _SIDE), np.float32)
    padded[..., :head_dim] = block
    # [layers, kv_heads, 2, tiles, positions, dimensions]
    split = padded.reshape(layers, 2, kv_heads, _SIDE, tiles, _SIDE).transpose(0, 2, 1, 4, 3, 5)
    keys, values = split[:, :, 0], split[:, :, 1]
    lead = keys.shape[:3]
    out = np.empty((layers, kv_heads, 2, tiles, _tile_bytes(dtype)), np.uint8)
    if dtype in _FLOATS:
        kind = _FLOATS[dtype]
        for at, part in enumerate((keys.swapaxes(3, 4), values)):
            out[:, :, at] = np.ascontiguousarray(part, kind).view(np.uint8).reshape(*lead, -1)
        return out.reshape(-1)
    for at, part in enumerate((keys, values)):
        scales = (np.abs(part).max(axis=4) / 127).astype(np.float16)
        exact = scales.astype(np.float32)[..., None]
        rounded = np.rint(part / np.where(exact == 0, 1, exact))
        steps = np.clip(rounded, -127, 127).astype(np.int8)
        if at == 0:
            steps = steps.reshape(*lead, _SIDE, 8, 4).swapaxes(3, 4)
        else:
            steps = steps.reshape(*lead, 8, 4, _SIDE).swapaxes(4, 5)
        out[:, :, at, :, :_CODES] = steps.reshape(*lead, -1).view(np.uint8)
        out[:, :, at, :, _CODES:] = np.ascontiguousarray(scales).view(np.uint8)
    return out.reshape(-1)


def _tile_bytes(dtype: KVType) -> int:
    if dtype in _FLOATS:
        return _CODES * np.dtype(_FLOATS[dtype]).itemsize
    return _CODES + 2 * _SIDE


def _scales(tiles: U8) -> F32:
    """Of each position of a tile. tiles: [layers, kv_heads, tiles, bytes] -> […, 32, 1]"""
    halves = np.ascontiguousarray(tiles[..., _CODES:]).view(np.float16)
    return halves.astype(np.float32)[..., None]
