"""A GGUF vocabulary, byte-level BPE, as the flat tables of a `TokenizerSpec`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np

from isthmus.engine.errors import ModelDamaged, ModelNotSupported
from isthmus.engine.model import TokenizerSpec
from isthmus.engine.words import PRE_TOKENIZERS
from isthmus.kernels.base import I32


class TokenType(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_ENDS_A_TURN = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_text|>")
"""Control tokens that end a turn whatever else a file says."""
_ALIASES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe"}
_BEGINS_WITH_BOS = ("llama-bpe",)
"""Where llama.cpp puts the beginning-of-text token in front unless the file says otherwise."""


def tokenizer_spec(header: Mapping[str, Any], *, vocab: int) -> TokenizerSpec:
    """The tokenizer of a GGUF header's key/values; `vocab` is the embedding's number of rows.

    Raises `ModelNotSupported` for a kind of tokenizer that is not known, `ModelDamaged` for one
    that does not fit together.
    """
    model, pre = header.get("tokenizer.ggml.model"), header.get("tokenizer.ggml.pre")
    pre = _ALIASES.get(str(pre), pre)
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ModelNotSupported(
            f"tokenizer {model!r} with pre-tokenizer {pre!r} is not supported; supported is "
            f"byte-level BPE ('gpt2') with {', '.join(PRE_TOKENIZERS)}"
        )
    tokens = _strings(header, "tokenizer.ggml.tokens")
    merges = _strings(header, "tokenizer.ggml.merges")
    types = header.get("tokenizer.ggml.token_type", [TokenType.NORMAL] * len(tokens))
    if not isinstance(types, list) or not 0 < len(tokens) == len(types) <= vocab:
        raise ModelDamaged(
            f"the tokenizer has {len(tokens)} tokens for an embedding of {vocab} rows"
        )
    if len(set(tokens)) != len(tokens):
        raise ModelDamaged("the tokenizer has the same token twice")
    special = tuple(
        i for i, kind in enumerate(types) if kind in {TokenType.CONTROL, TokenType.UNKNOWN}
    )
    whole = tuple(i for i, kind in enumerate(types) if kind == TokenType.USER_DEFINED)
    texts = _texts(tokens, frozenset((*special, *whole)))
    return TokenizerSpec(
        pre_tokenizer=pre,
        texts=np.frombuffer(b"".join(texts), np.uint8),
        ends=np.cumsum([len(text) for text in texts], dtype=np.int32),
        byte_ids=_byte_ids(tokens),
        merges=_merges(tokens, merges),
        bos_id=_token_id(header, "bos_token_id", len(tokens)),
        add_bos=header.get("tokenizer.ggml.add_bos_token", pre in _BEGINS_WITH_BOS) is True,
        eos_ids=_eos_ids(header, tokens, special),
        special_ids=special,
        whole_ids=whole,
        chat_template=str(header.get("tokenizer.chat_template", "")),
    )


def _strings(header: Mapping[str, Any], key: str) -> list[str]:
    value = header.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ModelDamaged(f"{key} is missing or not a list of strings")
    return value


def _token_id(header: Mapping[str, Any], key: str, tokens: int) -> int | None:
    value = header.get(f"tokenizer.ggml.{key}")
    if value is None:
        return None
    if not isinstance(value, int) or not 0 <= value < tokens:
        raise ModelDamaged(f"tokenizer.ggml.{key} is not one of the {tokens} tokens")
    return value


def _eos_ids(
    header: Mapping[str, Any], tokens: list[str], special: tuple[int, ...]
) -> tuple[int, ...]:
    stated = (_token_id(header, key, len(tokens)) for key in ("eos_token_id", "eot_token_id"))
    usual = (i for i in special if tokens[i] in _ENDS_A_TURN)
    return tuple(dict.fromkeys(i for i in (*stated, *usual) if i is not None))


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's printable character of each byte, as `encoder.py` of that release defines it."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {chr(byte if byte in printable else next(others)): byte for byte in range(256)}


BYTE_OF = _bytes_of_characters()


def _texts(tokens: list[str], added: frozenset[int]) -> list[bytes]:
    """The bytes of each token."""
    return [
        # An added token stands for its own text; every other one is written in byte characters.
        token.encode()
        if i in added or not all(character in BYTE_OF for character in token)
        else bytes(BYTE_OF[character] for character in token)
        for i, token in enumerate(tokens)
    ]


def _byte_ids(tokens: list[str]) -> I32:
    """The token of each byte, or -1. [256]"""
    ids = np.full(256, -1, np.int32)
    for i, token in enumerate(tokens):
        if token in BYTE_OF:
            ids[BYTE_OF[token]] = i
    return ids


def _merges(tokens: list[str], merges: list[str]) -> I32:
    """Left, right, rank and result of each merge, in order of left and right. [merges, 4]"""
    ids = {token: i for i, token in enumerate(tokens)}
    rows: dict[tuple[int, int], tuple[int, int]] = {}
    for rank, merge in enumerate(merges):
        # A pair is split at its one space; byte-level pieces hold no space of their own.
        pair = merge.split(" ")
        if len(pair) != 2 or not ids.keys() >= {*pair, "".join(pair)}:
            raise ModelDamaged("a merge of the tokenizer joins tokens that it does not have")
        rows[ids[pair[0]], ids[pair[1]]] = rank, ids["".join(pair)]
    flat = [(*pair, *result) for pair, result in sorted(rows.items())]
    return np.array(flat, np.int32).reshape(-1, 4)
