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
from isthmus.engine.model import TokenizerSpec
from isthmus.engine.tokens.byte_level import ByteLevel
from isthmus.engine.tokens.spaces import SPACED, Characters


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt: plain text, or the text of exactly one control token."""

    text: str
    is_control: bool = False


class Tokenizer:
    """A model's tokenizer. Immutable after construction and safe to share between threads."""

    def __init__(self, spec: TokenizerSpec) -> None:
        self.spec = spec
        spaced = Characters(spec) if spec.pre_tokenizer in SPACED else None
        self._pieces = spaced or ByteLevel(spec)
        self._prefixed = spaced.prefixed if spaced and spec.space_prefix != "never" else None
        self._special = frozenset(spec.special_ids)
        self._apart = self._special.union(spec.whole_ids)
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
        begins = from_start
        for segment in segments:
            if segment.is_control:
                ids.append(self._control_ids[segment.text])
                begins = self.spec.space_prefix == "always"
            elif segment.text:
                ids.extend(self._encode_text(segment.text, begins=begins))
                begins = False
        bos = self.spec.bos_id
        if from_start and self.spec.add_bos and bos is not None and ids[:1] != [bos]:
            ids.insert(0, bos)
        return ids

    def _encode_text(self, text: str, *, begins: bool) -> list[int]:
        ids: list[int] = []
        try:
            done = 0
            for found in self._whole.finditer(text) if self._whole else ():
                if found.group() in self._whole_ids:
                    ids += self._encode_piece(text[done : found.start()], begins=begins)
                    ids.append(self._whole_ids[found.group()])
                    begins = self.spec.space_prefix == "always"
                    done = found.end()
            return ids + self._encode_piece(text[done:], begins=begins)
        except UnicodeEncodeError:
            # JSON may spell half of a surrogate pair, and Python keeps it.
            raise InvalidRequest(
                "the text holds half of a surrogate pair (\\ud800 to \\udfff), which is no "
                "character; send valid Unicode",
                field="messages",
            ) from None

    def _encode_piece(self, text: str, *, begins: bool) -> list[int]:
        if text and begins and self._prefixed is not None:
            text = self._prefixed(text)
        return self._pieces.encode(text)

    def is_control(self, token_id: int) -> bool:
        """Whether this token is never shown."""
        return token_id in self._special

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id that the vocabulary does not use."""
        return self.spec.text(token_id) if 0 <= token_id < self.vocab else b""

    def begins_after(self, token_ids: Sequence[int]) -> bool:
        """Whether a text that follows these tokens begins with a space that is none of its own."""
        match self.spec.space_prefix:
            case "always":
                return not token_ids or token_ids[-1] in self._apart
            case "first":
                return not token_ids
        return False

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

    def __init__(self, tokenizer: Tokenizer, *, after: Sequence[int] = ()) -> None:
        """`after` are the tokens of the prompt: an answer may go on in the middle of a text."""
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._begins = tokenizer.begins_after(after)

    def push(self, token_id: int) -> str:
        """The characters that this token completes; a control token completes none."""
        begins, next_begins = self._begins, self._tokenizer.begins_after((token_id,))
        if self._tokenizer.is_control(token_id):
            self._begins = begins or next_begins
            return ""
        self._begins = next_begins
        raw = self._tokenizer.token_bytes(token_id)
        return self._utf8.decode(raw.removeprefix(b" ") if begins else raw)
