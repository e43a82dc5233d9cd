"""A GGUF vocabulary as the flat tables of a `TokenizerSpec`.

It is byte-level BPE ("gpt2") with merges, or SentencePiece's BPE ("llama") with a score for each
token, from which the merges follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from isthmus.engine.errors import ModelDamaged, ModelNotSupported
from isthmus.engine.model import TokenizerSpec
from isthmus.engine.tokens import spaces
from isthmus.engine.tokens.spaces import SENTENCEPIECE
from isthmus.engine.tokens.words import PRE_TOKENIZERS
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
    pre = SENTENCEPIECE if model == "llama" else _ALIASES.get(str(pre), pre)
    if model not in {"llama", "gpt2"} or pre not in {SENTENCEPIECE, *PRE_TOKENIZERS}:
        raise ModelNotSupported(
            f"tokenizer {model!r} with pre-tokenizer {pre!r} is not supported; supported are "
            f"SentencePiece's BPE ('llama') and byte-level BPE ('gpt2') with "
            f"{', '.join(PRE_TOKENIZERS)}"
        )
    spaced = pre == SENTENCEPIECE
    tokens = _strings(header, "tokenizer.ggml.tokens")
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
    whole = tuple(
        i
        for i, kind in enumerate(types)
        # Runs of spaces are merged like all others, as llama.cpp and Hugging Face's library do.
        if kind == TokenType.USER_DEFINED and not (spaced and spaces.SPACE in tokens[i])
    )
    added = frozenset((*special, *whole))
    tables = (_sentencepiece if spaced else _byte_level)(header, tokens, added)
    adds_bos = header.get("tokenizer.ggml.add_bos_token", spaced or pre in _BEGINS_WITH_BOS)
    prefixed = spaced and header.get("tokenizer.ggml.add_space_prefix", True) is True
    return TokenizerSpec(
        pre_tokenizer=pre,
        texts=np.frombuffer(b"".join(tables.texts), np.uint8),
        ends=np.cumsum([len(text) for text in tables.texts], dtype=np.int32),
        byte_ids=tables.byte_ids,
        merges=tables.merges,
        bos_id=_token_id(header, "bos_token_id", len(tokens)),
        add_bos=adds_bos is True,
        eos_ids=_eos_ids(header, tokens, special),
        special_ids=special,
        whole_ids=whole,
        chat_template=str(header.get("tokenizer.chat_template", "")),
        space_prefix="always" if prefixed else "never",
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


class _Tables(NamedTuple):
    texts: list[bytes]
    byte_ids: I32
    merges: I32


def _byte_level(header: Mapping[str, Any], tokens: list[str], added: frozenset[int]) -> _Tables:
    texts = [
        # An added token stands for its own text; every other one is written in byte characters.
        token.encode()
        if i in added or not all(character in BYTE_OF for character in token)
        else bytes(BYTE_OF[character] for character in token)
        for i, token in enumerate(tokens)
    ]
    bytes_of = {i: BYTE_OF[token] for i, token in enumerate(tokens) if token in BYTE_OF}
    return _Tables(texts, _byte_ids(bytes_of), _merges(header, tokens))


def _sentencepiece(header: Mapping[str, Any], tokens: list[str], added: frozenset[int]) -> _Tables:
    """The merges follow from the scores; tokenizer.json has none, and merges of its own."""
    plain = {i: token for i, token in enumerate(tokens) if i not in added}
    spelled = {i: spaces.spelled_byte(token) for i, token in plain.items()}
    bytes_of = {i: byte for i, byte in spelled.items() if byte is not None}
    texts = [token.encode() for token in tokens]
    for i, token in plain.items():
        texts[i] = bytes((bytes_of[i],)) if i in bytes_of else spaces.piece_bytes(token)
    if "tokenizer.ggml.scores" not in header:
        return _Tables(texts, _byte_ids(bytes_of), _merges(header, tokens))
    scores = header["tokenizer.ggml.scores"]
    pieces = {token: i for i, token in plain.items() if i not in bytes_of}
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ModelDamaged("tokenizer.ggml.scores is missing or has not a number for each token")
    try:
        merges = spaces.merges_by_score(pieces, scores)
    except (TypeError, ValueError) as error:
        raise ModelDamaged(
            "tokenizer.ggml.scores has something else than finite numbers"
        ) from error
    return _Tables(texts, _byte_ids(bytes_of), merges)


def _byte_ids(bytes_of: Mapping[int, int]) -> I32:
    """The token of each byte, or -1. `bytes_of` has the bytes by their tokens. [256]"""
    ids = np.full(256, -1, np.int32)
    ids[[*bytes_of.values()]] = [*bytes_of]
    return ids


def _merges(header: Mapping[str, Any], tokens: list[str]) -> I32:
    """Left, right, rank and result of each merge, in order of left and right. [merges, 4]"""
    merges = _strings(header, "tokenizer.ggml.merges")
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
