"""Text to tokens and back, without a way for text to become a control token.

A prompt is a sequence of segments. Control tokens come from control segments alone, which only a
chat template makes; whatever a text segment says, it stays text. `StreamDecoder` turns an answer's
tokens into text as they arrive, whole characters only.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import tokenizers

from isthmus.core.errors import InvalidRequest
from isthmus.engine.errors import ModelDamaged
from isthmus.engine.model import TokenizerSpec


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a prompt: plain text, or the text of exactly one control token."""

    text: str
    is_control: bool = False


def _bytes_of_characters() -> dict[str, int]:
    """GPT-2's printable character of each byte, as `encoder.py` of that release defines it."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {chr(byte if byte in printable else next(others)): byte for byte in range(256)}


_BYTE_OF = _bytes_of_characters()


class Tokenizer:
    """A model's tokenizer. Immutable after construction and safe to share between threads."""

    def __init__(self, spec: TokenizerSpec) -> None:
        """Raises `ModelDamaged` when `spec.tokenizer_json` is not a tokenizer."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(spec.tokenizer_json)
        except Exception as error:  # the library raises bare exceptions from Rust
            raise ModelDamaged(f"the model's tokenizer cannot be loaded: {error}") from error
        # Special tokens in text are then spelled out like any other characters.
        self._tokenizer.encode_special_tokens = True
        self.spec = spec
        self._special = frozenset(spec.special_ids)
        self._bytes = _token_bytes(spec.tokenizer_json)
        self.longest_token_bytes = max(map(len, self._bytes), default=1)
        """No text has fewer tokens than its bytes divided by this."""
        self._control_ids = {self._bytes[i].decode(): i for i in spec.special_ids}

    @property
    def vocab(self) -> int:
        """How many tokens have a text; a model's table may have more rows."""
        return len(self._bytes)

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
        try:
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except TypeError:
            # JSON may spell half of a surrogate pair, and Python keeps it; Rust's strings cannot.
            raise InvalidRequest(
                "the text holds half of a surrogate pair (\\ud800 to \\udfff), which is no "
                "character; send valid Unicode",
                field="messages",
            ) from None

    def is_control(self, token_id: int) -> bool:
        """Whether this token is never shown."""
        return token_id in self._special

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for; none for an id that the vocabulary does not use."""
        return self._bytes[token_id] if 0 <= token_id < len(self._bytes) else b""

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


def _token_bytes(tokenizer_json: str) -> tuple[bytes, ...]:
    """The bytes of each token, by id."""
    tokenizer = json.loads(tokenizer_json)
    added = {token["id"] for token in tokenizer["added_tokens"]}
    texts: dict[str, int] = tokenizer["model"]["vocab"]
    table = [b""] * (max(texts.values(), default=-1) + 1)
    for text, i in texts.items():
        # An added token stands for its own text; every other one is written in byte characters.
        if i in added or not all(character in _BYTE_OF for character in text):
            table[i] = text.encode()
        else:
            table[i] = bytes(_BYTE_OF[character] for character in text)
    return tuple(table)
