"""The tokenizer of a model folder in Hugging Face's layout, as a `TokenizerSpec`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.engine.errors import ModelDamaged, ModelNotSupported, ModelUnavailable
from isthmus.engine.formats import vocabulary
from isthmus.engine.formats.tokenizer_json import rules_of, spaces_of
from isthmus.engine.formats.vocabulary import TokenType
from isthmus.engine.model import SpacePrefix, TokenizerSpec
from isthmus.engine.tokens.words import PRE_TOKENIZERS


def tokenizer_spec(folder: Path, *, vocab: int) -> TokenizerSpec:
    """The tokenizer of `folder`; `vocab` is the embedding's number of rows.

    Raises `ModelUnavailable` (no tokenizer.json), `ModelDamaged` or `ModelNotSupported`.
    """
    described = _json(folder / "tokenizer.json", needed=True)
    config = _json(folder / "tokenizer_config.json")
    try:
        header, ids = _header(described, config, folder.name)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ModelDamaged(f"{folder / 'tokenizer.json'} is not a tokenizer") from error
    spec = vocabulary.tokenizer_spec(header, vocab=vocab)
    stated = _eos_ids(folder, config, ids, vocab)
    spaces = _spaces(described)
    if spaces is not None:
        spec = replace(spec, pre_tokenizer=spaces[0], space_prefix=spaces[1])
    return replace(
        spec,
        eos_ids=tuple(dict.fromkeys((*stated, *spec.eos_ids))),
        chat_template=_chat_template(folder, config),
    )


def _header(
    described: Mapping[str, Any], config: Mapping[str, Any], name: str
) -> tuple[dict[str, Any], dict[str, int]]:
    """The same tokenizer in GGUF's key/values, and the ids of its added tokens by their texts."""
    model = described["model"]
    spaced = _spaces(described) is not None
    rules = None if model.get("byte_fallback") else rules_of(described)
    if model["type"] != "BPE" or (rules is None and not spaced):
        raise ModelNotSupported(
            f"{name}: this {model['type']} tokenizer is not supported; supported are "
            "SentencePiece's BPE, which falls back to bytes and has spaces as U+2581, and "
            f"byte-level BPE that splits text as {', '.join(PRE_TOKENIZERS)} do"
        )
    added = {token["id"]: token for token in described["added_tokens"]}
    texts = {i: text for text, i in model["vocab"].items()}
    texts |= {i: token["content"] for i, token in added.items()}
    # Ids that stand for nothing get a text that no other token has.
    count = max(texts, default=-1) + 1
    if count > len(texts) + _MAX_UNUSED:
        raise ValueError(count)
    types = [TokenType.NORMAL] * count
    for i, token in added.items():
        types[i] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    ids = {token["content"]: i for i, token in added.items()}
    bos = ids.get(_text(config.get("bos_token")))
    merges = model["merges"]
    return {
        "tokenizer.ggml.model": "llama" if spaced else "gpt2",
        "tokenizer.ggml.pre": rules,
        "tokenizer.ggml.tokens": [texts.get(i, f"<unused token {i}>") for i in range(count)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in merges],
        "tokenizer.ggml.bos_token_id": bos,
        "tokenizer.ggml.add_bos_token": _adds_bos(described, config, bos),
    }, ids


_MAX_UNUSED = 1 << 16


def _spaces(described: Mapping[str, Any]) -> tuple[str, SpacePrefix] | None:
    """SentencePiece's kind, and who gets a space in front; None for another tokenizer."""
    return spaces_of(described) if described["model"].get("byte_fallback") else None


def _json(path: Path, *, needed: bool = False) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        if not needed:
            return {}
        raise ModelUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelDamaged(f"{path} is not JSON") from error
    if not isinstance(value, dict):
        raise ModelDamaged(f"{path} is not a JSON object")
    return value


def _text(token: Any) -> str:
    """A special token of tokenizer_config.json: its text, or an object with it."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _adds_bos(described: Mapping[str, Any], config: Mapping[str, Any], bos: int | None) -> bool:
    """As the configuration states, else whether the post-processor puts the token in front."""
    stated = config.get("add_bos_token")
    if isinstance(stated, bool):
        return stated
    processor = described.get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        if step.get("type") == "TemplateProcessing" and step["single"]:
            first = step["single"][0].get("SpecialToken", {}).get("id")
            return bos is not None and bos in step["special_tokens"].get(first, {}).get("ids", ())
    return False


def _eos_ids(
    folder: Path, config: Mapping[str, Any], ids: Mapping[str, int], vocab: int
) -> tuple[int, ...]:
    found: list[Any] = [ids.get(_text(config.get("eos_token")))]
    for name in ("generation_config.json", "config.json"):
        stated = _json(folder / name).get("eos_token_id")
        found += stated if isinstance(stated, list) else [stated]
    return tuple(i for i in found if isinstance(i, int) and 0 <= i < vocab)


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str:
    """A file of its own, a string, or the default of several."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text("utf-8")
    stated = config.get("chat_template")
    if isinstance(stated, list):
        named = {t.get("name"): t.get("template") for t in stated if isinstance(t, dict)}
        stated = named.get("default")
    return stated if isinstance(stated, str) else ""
