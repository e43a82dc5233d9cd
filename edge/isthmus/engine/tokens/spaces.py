"""SentencePiece's BPE: a text is merged from its characters on, spaces among them, without words.

(Kudo and Richardson, arXiv 1808.06226; `bpe_model.cc` of its library and `llm_tokenizer_spm` of
llama.cpp.) A space is spelled U+2581 in the vocabulary, and a text gets one in front, so that its
first word is the token that it is anywhere. A character without a token becomes those of its bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from isthmus.engine.model import TokenizerSpec
from isthmus.engine.tokens.bpe import bpe
from isthmus.kernels.base import I32

SPACE = "\u2581"
SENTENCEPIECE = "sentencepiece"
METASPACE = "metaspace"
"""As Hugging Face's Metaspace has it: a text that begins with a space gets no other one."""
SPACED: tuple[str, ...] = (SENTENCEPIECE, METASPACE)
"""The names that stand where others have a pre-tokenizer's."""
_SPELLED_BYTE = re.compile("<0x([0-9A-F]{2})>")
_LONGEST_PIECE = 256
"""Characters of a token that others can make, which SentencePiece itself limits to 16."""


class Characters:
    """Text to tokens, from its characters on. Immutable, and safe to share between threads."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self._bpe = bpe(spec.byte_ids, spec.merges)
        self._byte_ids: list[int] = spec.byte_ids.tolist()
        self._ids = _character_ids(spec)
        self._adds_to_spaces = spec.pre_tokenizer == SENTENCEPIECE

    def prefixed(self, text: str) -> str:
        """A text that begins, with the space in front."""
        return text if text.startswith((" ", SPACE)) and not self._adds_to_spaces else " " + text

    def encode(self, text: str) -> list[int]:
        """The tokens. Raises `UnicodeEncodeError` for half of a surrogate pair."""
        ids: list[int] = []
        for character in text.replace(SPACE, " "):
            known = self._ids.get(character)
            if known is None:
                ids += [self._byte_ids[byte] for byte in character.encode()]
            else:
                ids.append(known)
        # As elsewhere, a byte without a token is left out.
        return self._bpe.merge(np.array([i for i in ids if i >= 0], np.int32))


def _character_ids(spec: TokenizerSpec) -> dict[str, int]:
    others = {*spec.byte_ids.tolist(), *spec.special_ids, *spec.whole_ids}
    lengths = np.diff(spec.ends, prepend=np.int32(0))
    short = np.flatnonzero((lengths > 0) & (lengths <= 4)).tolist()  # UTF-8 has no longer ones
    texts = {i: spec.text(i).decode(errors="replace") for i in short if i not in others}
    return {text: i for i, text in texts.items() if len(text) == 1}


def piece_bytes(token: str) -> bytes:
    """The bytes of a token that is neither a control token nor a byte."""
    return token.replace(SPACE, " ").encode()


def spelled_byte(token: str) -> int | None:
    """The byte that a token such as <0x0A> stands for."""
    found = _SPELLED_BYTE.fullmatch(token)
    return int(found[1], 16) if found else None


def merges_by_score(pieces: Mapping[str, int], scores: Sequence[float]) -> I32:
    """The merges that follow from scores: of two neighbours that make a token the best one wins.

    `pieces` are the tokens that others can make, with their ids, by which `scores` are found. The
    table is that of `TokenizerSpec`. Raises `ValueError` for a score that is no number.
    """
    if not all(map(math.isfinite, scores)):
        raise ValueError("a score is not a finite number")
    rows = [
        (pieces[token[:at]], pieces[token[at:]], merged)
        for token, merged in pieces.items()
        if len(token) <= _LONGEST_PIECE
        for at in range(1, len(token))
        if token[:at] in pieces and token[at:] in pieces
    ]
    if not rows:
        return np.empty((0, 4), np.int32)
    table = np.array(sorted(rows), np.int32)
    _, ranks = np.unique(-np.asarray(scores, np.float64)[table[:, 2]], return_inverse=True)
    return np.column_stack([table[:, :2], ranks.astype(np.int32), table[:, 2]])
