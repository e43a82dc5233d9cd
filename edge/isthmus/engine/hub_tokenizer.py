"""A tokenizer in the form of Hugging Face's `tokenizers`, for other programs to load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isthmus.engine.model import TokenizerSpec
from isthmus.engine.vocabulary import BYTE_OF

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")


def _split_by(pattern: str) -> dict[str, Any]:
    isolated = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    steps = [isolated | {"invert": False}, _BYTE_LEVEL | {"use_regex": False}]
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}


_GPT2 = {"pre_tokenizer": _BYTE_LEVEL | {"use_regex": True}}
_DIGITS_APART = {
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            _BYTE_LEVEL | {"use_regex": True},
        ],
    }
}
_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": _GPT2,
    "granite-docling": _GPT2,
    "smollm": _DIGITS_APART,
    "starcoder": _DIGITS_APART,
    "refact": _DIGITS_APART,
    "qwen2": _split_by(_QWEN2) | {"normalizer": {"type": "NFC"}},
    "deepseek-r1-qwen": _split_by(_QWEN2),
    "llama-bpe": _split_by(_LLAMA3) | {"ignore_merges": True},
    "dbrx": _split_by(_LLAMA3),
    "smaug-bpe": _split_by(_LLAMA3),
}
"""The rules of `isthmus.engine.words` in that form."""


def rules_of(described: Mapping[str, Any]) -> str | None:
    """The first rules of `isthmus.engine.words` that do what a `tokenizer.json` says, if any do."""
    wanted = _steps(described, described["model"].get("ignore_merges", False))
    for name, form in _PRE_TOKENIZERS.items():
        if _steps(form, form.get("ignore_merges", False)) == wanted:
            return name
    return None


def _steps(form: Mapping[str, Any], ignore_merges: bool) -> list[Any]:
    """What is done to a text before byte pair encoding, in a form that can be compared."""
    found: list[Any] = [ignore_merges]
    for key, parts in (("normalizer", "normalizers"), ("pre_tokenizer", "pretokenizers")):
        step = form.get(key) or {parts: []}
        # Where a token begins and ends in the text does not matter here.
        found += [
            {k: v for k, v in part.items() if k != "trim_offsets"}
            for part in step.get(parts, [step])
        ]
    return found


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
                "ignore_merges": _PRE_TOKENIZERS[spec.pre_tokenizer].get("ignore_merges", False),
                "vocab": {text: i for i, text in enumerate(texts)},
                "merges": [[texts[left], texts[right]] for left, right, *_ in by_rank.tolist()],
            },
        },
        ensure_ascii=False,
    )
