"""Text to tokens and back, without a way for text to become a control token.

A prompt is a sequence of segments. Control tokens come from control segments alone, which only a
chat template makes; whatever a text segment says, it stays text. `StreamDecoder` turns an answer's
tokens into text as they arrive, whole characters only.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.core.errors import InvalidRequest
from isthmus.engine.bpe import bpe
from isthmus.engine.model import TokenizerSpec
from isthmus.engine.words import Words


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt: plain text, or the text of exactly one control token."""

    text: str
    is_control: bool = False


class Tokenizer:
    """A model's tokenizer. Immutable after construction and safe to share between threads."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        self._words = Words(spec.pre_tokenizer)
        self._bpe = bpe(spec.byte_ids, spec.merges)
        self._special = frozenset(spec.special_ids)
        self._taken = self._by_text() if self._words.takes_tokens else {}
        self.longest_token_bytes = int(np.diff(spec.ends, prepend=0).max(initial=1))
        """No text has fewer tokens than its bytes divided by this."""
        self._control_ids = {spec.text(i).decode(): i for i in spec.special_ids}
        self._whole_ids = {spec.text(i).decode(): i for i in spec.whole_ids}
        # Control tokens are looked for too, so that no token is found inside of one's text.
        found = sorted(filter(None, self._control_ids | self._whole_ids), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, found))) if spec.whole_ids else None

    @property
    def vocab(self) -> int:
        """How many tokens have a text; a model's table may have more rows."""
        return len(self.spec.ends)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The texts of all control tokens."""
        return tuple(self._control_ids)

    def encode(self, prompt: str | Iterable[Segment], *, from_start: bool = True) -> list[int]:
        """The tokens of a prompt, with the beginning-of-text token if the model wants one.

        A string is one text segment. `from_start=False` is for segments that others precede.
        Raises `KeyError` for a control segment that is no token.
        """
        segments = (Segment(prompt),) if isinstance(prompt, str) else prompt
        ids: list[int] = []
        for segment in segments:
            if segment.is_control:
                ids.append(self._control_ids[segment.text])
            elif segment.text:
                ids.extend(self._encode_text(segment.text))
        bos = self.spec.bos_id
        if from_start and self.spec.add_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids

    def _encode_text(self, text: str) -> list[int]:
        ids: list[int] = []
        try:
            done = 0
            for found in self._whole.finditer(text) if self._whole else ():
                if found.group() in self._whole_ids:
                    ids += self._encode_words(text[done : found.start()])
                    ids.append(self._whole_ids[found.group()])
                    done = found.end()
            return ids + self._encode_words(text[done:])
        except UnicodeEncodeError:
            # JSON may spell half of a surrogate pair, and Python keeps it.
            raise InvalidRequest(
                "the text holds half of a surrogate pair (\\ud800 to \\udfff), which is no "
                "character; send valid Unicode",
                field="messages",
            ) from None

    def _encode_words(self, text: str) -> list[int]:
        words = self._words.split(text)
        if not self._taken:
            return self._bpe.encode(words)
        ids: list[int] = []
        for word in words:
            taken = self._taken.get(word)
            ids += self._bpe.encode([word]) if taken is None else [taken]
        return ids

    def _by_text(self) -> dict[bytes, int]:
        """The tokens that a word may be as it is, by their text."""
        others = self._special.union(self.spec.whole_ids)
        return {self.spec.text(i): i for i in range(self.vocab) if i not in others}

    def is_control(self, token_id: int) -> bool:
        """Whether this token is never shown."""
        return token_id in self._special

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id that the vocabulary does not use."""
        return self.spec.text(token_id) if 0 <= token_id < self.vocab else b""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of an answer, without control tokens; broken bytes become U+FFFD.

        Half a character at the end is left out: the answer was cut there.
        """
        return "".join(map(StreamDecoder(self).push, token_ids))


class StreamDecoder:
    """The text of an answer as its tokens arrive, in whole characters.

    Bytes that can never be a character become U+FFFD once that is certain. Those that an answer
    ends with, and that more tokens could have made whole, are never shown.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The characters that this token completes; a control token completes none."""
        if self._tokenizer.is_control(token_id):
            return ""
        return self._utf8.decode(self._tokenizer.token_bytes(token_id))
