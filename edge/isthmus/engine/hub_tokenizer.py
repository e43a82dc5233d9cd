"""A tokenizer in the form of Hugging Face's `tokenizers`, for other programs to load."""

from __future__ import annotations

import json
from typing import Any

from isthmus.engine.model import TokenizerSpec
from isthmus.engine.vocabulary import BYTE_OF

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
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
"""The rules of `isthmus.engine.words` in that form."""


def tokenizer_json(spec: TokenizerSpec) -> str:
    """The content of a `tokenizer.json`."""
    characters = {byte: character for character, byte in BYTE_OF.items()}
    special = frozenset(spec.special_ids)
    added = special.union(spec.whole_ids)
    texts = [
        spec.text(i).decode() if i in added else "".join(characters[byte] for byte in spec.text(i))
        for i in range(len(spec.ends))
    ]
    by_rank = spec.merges[spec.merges[:, 2].argsort(kind="stable")]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": i,
                    "content": texts[i],
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": i in special,
                }
                for i in sorted(added)
            ],
            "normalizer": _PRE_TOKENIZERS[spec.pre_tokenizer].get("normalizer"),
            "pre_tokenizer": _PRE_TOKENIZERS[spec.pre_tokenizer]["pre_tokenizer"],
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
                "vocab": {text: i for i, text in enumerate(texts)},
                "merges": [[texts[left], texts[right]] for left, right, *_ in by_rank.tolist()],
            },
        },
        ensure_ascii=False,
    )
