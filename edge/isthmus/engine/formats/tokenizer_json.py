"""A tokenizer in the form of Hugging Face's `tokenizers`, for other programs to load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from isthmus.engine.formats.vocabulary import BYTE_OF
from isthmus.engine.model import SpacePrefix, TokenizerSpec
from isthmus.engine.tokens.spaces import METASPACE, SENTENCEPIECE, SPACE, SPACED

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
"""The rules of `isthmus.engine.tokens.words` in that form."""
_PREPEND = {"type": "Prepend", "prepend": SPACE}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_METASPACE = {"type": "Metaspace", "replacement": SPACE, "split": False}
_AT_SPACES = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
_SPACES: list[tuple[str, SpacePrefix, dict[str, Any]]] = [
    (
        SENTENCEPIECE,
        "always",
        {"normalizer": {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]}},
    ),
    (SENTENCEPIECE, "never", {"normalizer": _REPLACE}),
    # Gemma's; no space is left to split at.
    (SENTENCEPIECE, "never", {"normalizer": _REPLACE, "pre_tokenizer": _AT_SPACES}),
    (METASPACE, "always", {"pre_tokenizer": _METASPACE | {"prepend_scheme": "always"}}),
    (METASPACE, "first", {"pre_tokenizer": _METASPACE | {"prepend_scheme": "first"}}),
    (METASPACE, "never", {"pre_tokenizer": _METASPACE | {"prepend_scheme": "never"}}),
]
"""The ways of `isthmus.engine.tokens.spaces` in that form."""
_SPACES_BACK: list[dict[str, Any]] = [
    {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
]
_PREFIX_BACK = {"type": "Strip", "content": " ", "start": 1, "stop": 0}


def spaces_of(described: Mapping[str, Any]) -> tuple[str, SpacePrefix] | None:
    """The same for `isthmus.engine.tokens.spaces`, with who gets a space in front."""
    wanted = _steps(described, described["model"].get("ignore_merges", False))
    for name, prefix, form in _SPACES:
        if _steps(form, False) == wanted:
            return name, prefix
    return None


def rules_of(described: Mapping[str, Any]) -> str | None:
    """The first of `tokens.words` that do what a `tokenizer.json` says, if any do."""
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
        for part in step.get(parts, [step]):
            # Where a token begins and ends in the text does not matter here, nor does what
            # another key has taken the place of.
            meaningless = {"trim_offsets"}
            if "prepend_scheme" in part:
                meaningless.add("add_prefix_space")
            found.append({k: v for k, v in part.items() if k not in meaningless})
    return found


def tokenizer_json(spec: TokenizerSpec) -> str:
    """The content of a `tokenizer.json`."""
    special = frozenset(spec.special_ids)
    added = special.union(spec.whole_ids)
    spaced = spec.pre_tokenizer in SPACED
    written = (_spaced if spaced else _in_byte_characters)(spec)
    texts = [spec.text(i).decode() if i in added else text for i, text in enumerate(written)]
    form = _spaces_form(spec) if spaced else _PRE_TOKENIZERS[spec.pre_tokenizer]
    decoder = _spaces_decoder(spec) if spaced else _BYTE_LEVEL | {"use_regex": True}
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
            "normalizer": form.get("normalizer"),
            "pre_tokenizer": form.get("pre_tokenizer"),
            "post_processor": None,
            "decoder": decoder,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": spaced,
                "byte_fallback": spaced,
                "ignore_merges": form.get("ignore_merges", False),
                "vocab": {text: i for i, text in enumerate(texts)},
                "merges": [[texts[left], texts[right]] for left, right, *_ in by_rank.tolist()],
            },
        },
        ensure_ascii=False,
    )


def _in_byte_characters(spec: TokenizerSpec) -> list[str]:
    characters = {byte: character for character, byte in BYTE_OF.items()}
    tokens = range(len(spec.ends))
    return ["".join(characters[byte] for byte in spec.text(i)) for i in tokens]


def _spaced(spec: TokenizerSpec) -> list[str]:
    texts = [spec.text(i).decode(errors="replace") for i in range(len(spec.ends))]
    written = [text.replace(" ", SPACE) for text in texts]
    for byte, i in enumerate(spec.byte_ids.tolist()):
        if i >= 0:
            written[i] = f"<0x{byte:02X}>"
    return written


def _spaces_form(spec: TokenizerSpec) -> dict[str, Any]:
    way = (spec.pre_tokenizer, spec.space_prefix)
    return next(form for name, prefix, form in _SPACES if (name, prefix) == way)


def _spaces_decoder(spec: TokenizerSpec) -> dict[str, Any]:
    prefix = [] if spec.space_prefix == "never" else [_PREFIX_BACK]
    return {"type": "Sequence", "decoders": [*_SPACES_BACK, *prefix]}
