"""Whether a string looks like a secret: what a person or a generator would make, or a stand-in.

The evidence is added up in logits and made a score by the logistic function. The weights are set
by hand: each is how much more often, roughly, secrets have the trait than other values that stand
in the same place (a weight of 1 is a factor of 2.7).
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

from isthmus.privacy.base import Label, Span

PLACEHOLDER = re.compile(
    r"x{3,}|\*{3,}|\.{3}"
    r"|(?:your|my|the|some|insert|enter|put|add|replace|paste)[_ -]?(?:own[_ -]?)?"
    r"(?:api|secret|token|key|pass|pw|real|actual|value|auth|access|client)"
    r"|change[_ -]?(?:me|it|this)|place[_ -]?holder|example|sample|dummy|fake|redacted|masked"
    r"|hidden|removed|not[_ -]?(?:a|the|long)|todo|fixme|foo ?bar|lorem|ipsum|here$|goes[_ -]here"
    r"|undefined|示例|占位|你的",
    re.IGNORECASE,
)
"""What stands where a secret would stand in documentation and tests."""

SELF_NAMED = re.compile(
    r"(?<![a-z])(?:key|secret|token|passw(?:or)?d|credentials?|apikey|pwd)(?![a-z])", re.IGNORECASE
)
"""A value that says what it is ("real_key", "API_TOKEN") is a name of a secret, not one."""

CAMEL_NAME = re.compile(r"[A-Za-z]{0,24}[a-z](?:Password|Passwd|Secret|Token|Key)")
"""The same as a name of code: "DbPassword"."""

REFERENCE = re.compile(
    r"[$#@%]?\{{1,2}[^{}]{0,80}\}{1,2}|\$\w{1,60}|\$\([^)]{1,80}\)|%\(?\w{0,40}\)?[sdrf]?%?|<[^<>]{1,80}>"
    r"|\[[^\[\]]{1,60}\]|@\w{1,40}@|__\w{1,40}__|\\?[*•x#._-]{2,80}"
)
"""Templates' variables, format strings and masks, as the whole of a value."""

CODE = re.compile(
    r"[A-Za-z_][\w.]{0,80}(?:[(\[]|->|::)|[(\[{]|(?:os|process|env|config|settings|self|this|args"
    r"|request|req|ctx|options?|params?|props|state|data|secrets|vars)\b[.\[]|(?:await|new|not|lambda"
    r"|function|await|return|if|for|in|is|and|or|the|a)\b"
)
"""How an expression begins, rather than a value."""

# fmt: off
WORDS = frozenset((
    "none", "null", "nil", "true", "false", "undefined", "empty", "string", "str", "int",
    "integer", "bool", "boolean", "float", "bytes", "any", "object", "optional", "required",
    "default", "password", "passwd", "secret", "token", "key", "value", "username", "user", "text",
    "hidden", "invalid", "incorrect", "wrong", "missing", "expired", "correct", "valid", "not",
    "nan", "void", "auto", "yes", "no", "on", "off", "stdin", "prompt", "utf8", "utf-8",
    "ascii", "latin1", "base64", "hex", "input", "test",
))
"""What is written where a secret would be, and is a word of code or a form."""
# fmt: on
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
DIGEST = re.compile(
    r"(?:(?:md5|sha\d{1,3})[:-])?(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})"
)
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_.-]*")
TYPE = re.compile(r"(?:[a-z_]{1,40}\.)*[A-Z]*[a-z]+(?:[A-Z]+[a-z]*)+")
"""A class's name, behind a field's name and a colon: `auth: AuthTypes`."""
TEMPLATE = re.compile(r"\{[\w.!:]{0,60}\}|%[sdr(]|\$\{|\\[wdsWDSb]|\[\^|A-Z|a-z|0-9|\(\?")
"""A piece of a format string or of a regular expression."""
PATH = re.compile(r"[a-z][a-z_.-]*\d{0,3}(?:[/:=][a-z][a-z_.-]*\d{0,3}|=\d{1,6}){2,}")
"""Plain words joined as a path or a cache's key: "projects/demo/secrets/db"."""
SENTENCE = re.compile(r"[A-Z]?[a-z']+(?: [\w'-]+){3,}[.!:]?")

MAX_SECRET_CHARS = 512
BARE = re.compile(
    rf"(?<![A-Za-z0-9+/=_.%-])[A-Za-z0-9+/_-]{{20,{MAX_SECRET_CHARS}}}={{0,2}}(?![A-Za-z0-9+/_%-])"
)

_TOLD_CHARS = 128
"""How much of a value is looked at: each of a text's is, and they may overlap."""

LEAST_SCORE = 0.35
"""What is less likely than this is not given at all."""


def secret_span(start: int, end: int, score: float) -> Span:
    """A secret's span. Not even a checked number beside it is surer than the surest."""
    return Span(start, end, Label.SECRET, round(min(score, 0.995), 3))


def changes(value: str) -> float:
    """How often neighbours are of another kind: digit, small, capital. Random text: 0.4 to 0.6.

    Words and identifiers have 0 to 0.2: a capital that begins a word counts as small.
    """
    kinds = [
        "d" if c.isdigit() else "u" if c.isupper() else "l" if c.isalpha() else "" for c in value
    ]
    for at in range(len(kinds) - 1):
        if kinds[at] == "u" and kinds[at + 1] == "l" and (at == 0 or kinds[at - 1] != "d"):
            kinds[at] = "l"
    pairs = [(a, b) for a, b in pairwise(kinds) if a and b]
    return sum(a != b for a, b in pairs) / len(pairs) if pairs else 0.0


def entropy(value: str) -> float:
    """Shannon's entropy of its characters, in bits a character."""
    counts = [value.count(char) for char in set(value)]
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


def stand_in(value: str) -> bool:
    """Whether it only marks the place of a secret: a template's variable, a mask, "your-key"."""
    if REFERENCE.fullmatch(value) or CAMEL_NAME.fullmatch(value) or value.lower() in WORDS:
        return True
    if len(set(value)) <= 2:
        return True
    shown = value[:_TOLD_CHARS]
    return SELF_NAMED.search(shown) is not None or PLACEHOLDER.search(shown) is not None


def evidence(value: str, *, quoted: bool) -> float:
    """How much `value` itself speaks for a secret, in logits; below -3 it cannot be one."""
    if not 4 <= len(value) <= MAX_SECRET_CHARS or not any(map(str.isalnum, value)):
        return -9.0
    if value.startswith(("ssh-", "ecdsa-")):  # the public half of a key
        return -9.0
    if stand_in(value):
        # Documentation's keys have a real one's length and look: "wJal…EXAMPLEKEY".
        return -1.6 if random_looking(value) else -4.0
    if PATH.fullmatch(value) or (not quoted and CODE.match(value)):
        return -4.0
    seen = value[:_TOLD_CHARS]
    digits = any(map(str.isdigit, seen))
    letters = any(map(str.isalpha, seen))
    small, capital = any(map(str.islower, seen)), any(map(str.isupper, seen[1:]))
    symbols = sum(not c.isalnum() and c not in "_-. " for c in seen)
    total = 0.0
    if letters and not digits and not symbols:
        # A word, a sentence or an identifier: a passphrase where it is quoted, else mostly code.
        total -= 0.6 if quoted else 1.6
        total -= 1.0 if SENTENCE.fullmatch(value) and value[-1] == "." else 0.0
        if not quoted and TYPE.fullmatch(value):
            total -= 1.5
        if IDENTIFIER.fullmatch(value) and ("_" in value or "." in value):
            total -= 1.0
        if small and capital and not value.istitle() and changes(value) > 0.2:
            total += 1.0
    elif not letters:
        total -= 1.0
    else:
        total += 1.2
    if TEMPLATE.search(seen):
        total -= 2.5  # the secret comes from elsewhere
    total += 0.6 * (small and capital) + 0.8 * min(symbols, 2)
    total += 0.5 * (len(value) >= 12) + 0.5 * (len(value) >= 20) - 1.0 * (len(value) < 6)
    if len(value) >= 12 and changes(seen) > 0.25:
        total += 1.0
    return total


def random_looking(value: str) -> bool:
    """Whether only a generator makes such a string: its kinds change often, it hardly repeats."""
    return (
        len(value) >= 20
        and any(map(str.isdigit, value))
        and sum(map(str.isalpha, value)) >= 5
        and changes(value) >= 0.28
        and entropy(value) >= 3.4
    )


def logistic(logit: float) -> float:
    """The probability that has these log-odds."""
    return 1 / (1 + math.exp(-logit))
