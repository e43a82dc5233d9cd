"""A text in words, as the models' pre-tokenizers split it before byte pair encoding.

The rules are those that llama.cpp names in `tokenizer.ggml.pre` (llama-vocab.cpp) and that the
models' own tokenizer.json files spell out. They speak of letters, numbers and white space as
Unicode has them, for which Python's `re` has no words: every character beyond ASCII is swapped for
an ASCII one of its kind, and the rules look at that.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_SHORT = "'s|'t|'re|'ve|'m|'ll|'d"


@dataclass(frozen=True, slots=True)
class _Rules:
    pattern: str
    """Finds the words, which make up all of the text."""
    nfc: bool = False
    """Texts are brought to Unicode's normal form C before."""
    takes_tokens: bool = False
    """A word that is a token is taken as it is, even where no merges lead to it."""


_GPT2 = _Rules(_SHORT + r"| ?[a-zA-Z]+| ?[0-9]+| ?[^\sa-zA-Z0-9]+|\s+(?!\S)|\s+")
# As gpt-2 between the digits, each of which stands alone.
_DIGITS_APART = _Rules(_SHORT + r"| ?[a-zA-Z]+|[0-9]| ?[^\sa-zA-Z0-9]+|\s+(?![^\s0-9])|\s+")
_QWEN2 = (
    rf"(?i:{_SHORT})|[^\r\na-zA-Z0-9]?[a-zA-Z]+|[0-9]"
    r"| ?[^\sa-zA-Z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace("|[0-9]|", "|[0-9]{1,3}|")

_RULES = {
    "gpt-2": _GPT2,
    "granite-docling": _GPT2,
    "smollm": _DIGITS_APART,
    "starcoder": _DIGITS_APART,
    "refact": _DIGITS_APART,
    "qwen2": _Rules(_QWEN2, nfc=True),
    "deepseek-r1-qwen": _Rules(_QWEN2),
    "llama-bpe": _Rules(_LLAMA3, takes_tokens=True),
    "dbrx": _Rules(_LLAMA3),
    "smaug-bpe": _Rules(_LLAMA3),
}
PRE_TOKENIZERS: tuple[str, ...] = tuple(_RULES)
"""The names that are known."""


class Words:
    """Splits texts by one family's rules. Immutable, and safe to share between threads."""

    def __init__(self, pre_tokenizer: str) -> None:
        rules = _RULES[pre_tokenizer]
        self._pattern = re.compile(rules.pattern, re.ASCII)
        self._nfc = rules.nfc
        self.takes_tokens = rules.takes_tokens
        """Whether a word that is a token is taken as it is."""

    def split(self, text: str) -> list[bytes]:
        """The words in UTF-8. Raises `UnicodeEncodeError` for half of a surrogate pair."""
        if text.isascii():
            return [found.group().encode() for found in self._pattern.finditer(text)]
        if self._nfc:
            text = unicodedata.normalize("NFC", text)
        found = self._pattern.finditer(text.translate(_Kinds()))
        return [text[word.start() : word.end()].encode() for word in found]


class _Kinds:
    """The table of `str.translate`."""

    def __getitem__(self, code: int) -> str:
        return _kind(code)


@lru_cache(4096)
def _kind(code: int) -> str:
    """An ASCII character of the same kind, which is in no word of the rules."""
    character = chr(code)
    if code < 128:
        return character
    if character == "ſ":
        return "S"  # the one that `(?i:…)` takes for an s
    if character.isalpha():
        return "A"
    if character.isnumeric():
        return "0"
    return "\t" if character.isspace() else "!"
