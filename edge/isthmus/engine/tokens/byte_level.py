"""Byte-level BPE: a text is split into words, and each is merged from its bytes on.

(As GPT-2 does it; `isthmus.engine.tokens.spaces` is the other kind.)
"""

from __future__ import annotations

from isthmus.engine.model import TokenizerSpec
from isthmus.engine.tokens.bpe import bpe
from isthmus.engine.tokens.words import Words


class ByteLevel:
    """Text to tokens by words. Immutable, and safe to share between threads."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self._words = Words(spec.pre_tokenizer)
        self._bpe = bpe(spec.byte_ids, spec.merges)
        self._taken = _by_text(spec) if self._words.takes_tokens else {}

    def encode(self, text: str) -> list[int]:
        """The tokens. Raises `UnicodeEncodeError` for half of a surrogate pair."""
        words = self._words.split(text)
        if not self._taken:
            return self._bpe.encode(words)
        ids: list[int] = []
        for word in words:
            taken = self._taken.get(word)
            ids += self._bpe.encode([word]) if taken is None else [taken]
        return ids


def _by_text(spec: TokenizerSpec) -> dict[bytes, int]:
    """The tokens that a word may be as it is, by their text."""
    others = {*spec.special_ids, *spec.whole_ids}
    return {spec.text(i): i for i in range(len(spec.ends)) if i not in others}
