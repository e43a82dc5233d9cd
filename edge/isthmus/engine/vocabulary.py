"""A GGUF vocabulary as a `TokenizerSpec`: byte-level BPE in the form of Hugging Face's tokenizers.

The pre-tokenizers are those that llama.cpp names in `tokenizer.ggml.pre` (llama-vocab.cpp) and
that the models' own tokenizer.json files spell out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from isthmus.engine.errors import ModelDamaged, ModelNotSupported
from isthmus.engine.model import TokenizerSpec


class _TokenType(IntEnum):
    """`tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": {"pre_tokenizer": _BYTE_LEVEL | {"use_regex": True}},
    "smollm": {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                _BYTE_LEVEL | {"use_regex": True},
            ],
        }
    },
    "qwen2": {
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": _QWEN2},
                    "behavior": "Isolated",
                    "invert": False,
                },
                _BYTE_LEVEL | {"use_regex": False},
            ],
        },
    },
}
"""By llama.cpp's name: the parts of a tokenizer.json that split text before BPE."""

_ENDS_A_TURN = ("<|im_end|>", "<|endoftext|>")


def tokenizer_spec(header: Mapping[str, Any], *, vocab: int) -> TokenizerSpec:
    """The tokenizer of a GGUF header's key/values; `vocab` is the embedding's number of rows.

    Raises `ModelNotSupported` for a kind of tokenizer that is not known, `ModelDamaged` for one
    that does not fit together.
    """
    model, pre = header.get("tokenizer.ggml.model"), header.get("tokenizer.ggml.pre")
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise ModelNotSupported(
            f"tokenizer {model!r} with pre-tokenizer {pre!r} is not supported; supported is "
            f"byte-level BPE ('gpt2') with {', '.join(PRE_TOKENIZERS)}"
        )
    tokens = _strings(header, "tokenizer.ggml.tokens")
    merges = _strings(header, "tokenizer.ggml.merges")
    types = header.get("tokenizer.ggml.token_type", [_TokenType.NORMAL] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens) or len(tokens) > vocab:
        raise ModelDamaged(
            f"the tokenizer has {len(tokens)} tokens for an embedding of {vocab} rows"
        )
    if len(set(tokens)) != len(tokens):
        raise ModelDamaged("the tokenizer has the same token twice")
    special = tuple(
        i for i, kind in enumerate(types) if kind in {_TokenType.CONTROL, _TokenType.UNKNOWN}
    )
    added = sorted({*special, *(i for i, t in enumerate(types) if t == _TokenType.USER_DEFINED)})
    return TokenizerSpec(
        tokenizer_json=_tokenizer_json(tokens, merges, pre, added, frozenset(special)),
        bos_id=_token_id(header, "bos_token_id", len(tokens)),
        add_bos=header.get("tokenizer.ggml.add_bos_token") is True,
        eos_ids=_eos_ids(header, tokens, special),
        special_ids=special,
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


def _tokenizer_json(
    tokens: list[str], merges: list[str], pre: str, added: list[int], special: frozenset[int]
) -> str:
    # A pair is split at its one space; byte-level pieces hold no space of their own.
    pairs = [merge.split(" ") for merge in merges]
    known = set(tokens)
    if any(len(pair) != 2 or not known.issuperset((*pair, "".join(pair))) for pair in pairs):
        raise ModelDamaged("a merge of the tokenizer joins tokens that it does not have")
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": i,
                    "content": tokens[i],
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": i in special,
                }
                for i in added
            ],
            "normalizer": PRE_TOKENIZERS[pre].get("normalizer"),
            "pre_tokenizer": PRE_TOKENIZERS[pre]["pre_tokenizer"],
            "post_processor": None,
            "decoder": _BYTE_LEVEL | {"use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {token: i for i, token in enumerate(tokens)},
                "merges": pairs,
            },
        },
        ensure_ascii=False,
    )
