"""Secrets by what names them in code: assignments, fields, arguments and options.

The value decides with the name: see `secret_values`. A name is found by its stem in the text's
small letters; what stands before and behind in the same word tells a password from a
`password_field`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Span
from isthmus.privacy.detectors.secret_values import (
    BARE,
    DIGEST,
    LEAST_SCORE,
    UUID,
    evidence,
    logistic,
    random_looking,
    secret_span,
)
from isthmus.privacy.detectors.vocabulary import words

STRONG, WEAK, NO_SECRET = 1.8, 0.4, -3.0
"""How much a name speaks for a secret, in logits: `password`, `token`, `password_field`."""

NAME = re.compile(
    r"passw(?:or)?ds?|passphrases?|passcodes?|pass|pwd|pw|secrete?s?|keys?|tokens?|credentials?"
    r"|creds?"
    r"|auth|pin|cookie|(?<=_)[as]k(?=[\"']?\s?[:=])"
)
OF_ITSELF = re.compile(r"passw|passp|passc|pwd|secret|credential")
"""Names that are a secret's whatever stands before them."""

WITH = re.compile(
    r"(?:api|access|private|secret|auth|account|encryption|signing|shared|master|license|client"
    r"|hmac|fernet|cipher|aes|webhook|storage|deploy|admin|service|refresh|bearer|session|bot|app|security|personal|oauth"
    r"|(?<![a-z])id)[ _-]?$"
)
"""What makes a key or a token a secret's."""

HEAD = re.compile(r"[A-Za-z0-9_.$-]{0,40}$")
TAIL = re.compile(r"[A-Za-z0-9_-]{0,30}")
OF_NO_SECRET = words(
    "public primary foreign sort cache partition hot short csrf pub natural index row group map"
    " dict unique composite next prev max min num total n input output special pad eos bos unk stop"
    " end start current last first lookup search hash range column object registry"
)
LAST_WORD = re.compile(r"(?:[A-Z]?[a-z]+|[A-Z]+|\d+)(?=[_-]?$)")
OF_A_DETAIL = re.compile(
    r"[_-]?(?:name|names|id|ids|len|length|size|count|type|types|field|file|path|dir|url|uri"
    r"|endpoint"
    r"|expir\w*|ttl|policy|reset|hint|prompt|label|regex|pattern|manager|strength|column|param"
    r"|header"
    r"|placeholder|error|message|msg|index|version|algorithm|algo|vault|board|code|down|up|press"
    r"|event"
    r"|map|func|function|class|required|enabled|length|rotation|format|encoder|hash(?:ed)?|digest"
    r"|ring|store|pair|word|frame|usage|limit|budget|per|ize\w*|s)$",
    re.IGNORECASE,
)
OPERATOR = re.compile(
    r"(?:\[\d{0,5}\])?(?P<close>[\])\"'`]{0,3})"
    r"(?:[ \t]{0,4}(?P<op>=>|:=|[!=]==?|=|:(?:[ \t]{0,2}[A-Za-z][\w.\[\], |]{0,30}=)?)[ \t]{0,4}|"
    r"(?P<call>(?:\.\w{1,12})?\([ \t]{0,2}(?=[\"'`]))"
    r"|(?P<attribute>[\"']?\s{1,4}value\s{0,2}=\s{0,2})"
    r"|(?P<comma>[\"'][ \t]{0,2},[ \t]{0,2}(?=[\"']))|(?P<tag>>(?=[^\s<>]{3,200}</))"
    r"|(?P<space>[ \t]{1,4}))"
    r"(?:[ \t]{0,4}(?:\[\d{0,5}\][ \t]{0,2}=[ \t]{0,2}|[@rbfuL](?=[\"'`])))?"
)
QUOTED = re.compile(r"([\"'`])((?:(?!\1)[^\r\n\\]|\\.){1,512}?)\1(?![\w])")
UNQUOTED = re.compile(r"(?!\$[({]|https?:|//)[^\s\"'`,;<>]{3,512}")
PASSWORD = re.compile(
    r"(?!\S{1,60}@[\w-]{1,60}\.\w)(?=\S{0,60}\d)(?=\S{0,60}[A-Za-z])(?=\S{1,60}[!#%^&?~@*$+])"
    r"[A-Za-z0-9!#^?~][^\s\"'`,;<>(){}=]{5,64}"
)
"""What hardly anything but a password looks like: "pw Winter%49" needs no more than its name."""
PRODUCT = re.compile(r"[\w.*+$-]+")
"""What a formula may be too: "pass a1*b2 to it"."""
SETTING = re.compile(r"[ \t]{0,4}(?:[\r\n]|$)")
COMPARED = re.compile(r"([\"'])([^\r\n\"']{4,200})\1[ \t]{0,3}[!=]={1,2}[ \t]{0,3}$")


def named_secrets(text: str) -> Iterator[Span]:
    """Values that an assignment, a field, an argument or an option names as secret."""
    lower = lower_of(text)
    last_end = -1
    for found in NAME.finditer(lower):
        start, end = found.span()
        if start < last_end:  # within a name that has been looked at
            continue
        prior = _prior(text, lower, found)
        if prior is None:
            continue
        head = HEAD.search(text, max(0, start - 40), start)
        before = head[0] if head else ""
        tail = TAIL.match(text, end)
        after = tail[0] if tail else ""
        last_end = end + len(after)
        last = LAST_WORD.search(before or text[max(0, start - 12) : start].rstrip(" "))
        if (last is not None and last[0].lower() in OF_NO_SECRET) or OF_A_DETAIL.fullmatch(after):
            prior = NO_SECRET
        begin = start - len(before)
        if compared := COMPARED.search(text, max(0, begin - 210), begin):
            yield from judged(compared.start(2), compared[2], prior, quoted=True)
        else:
            yield from _assigned(text, last_end, prior, option=before.startswith("--"))


def _prior(text: str, lower: str, found: re.Match[str]) -> float | None:
    """How much the name speaks for a secret; `None`: it is but a part of another word."""
    start, end = found.span()
    left = text[start - 1] if start else ""
    hump = text[start].isupper() and left.islower()  # secretKey
    begins = hump or not (left.isascii() and left.isalpha())
    ends = end == len(text) or not text[end].islower()
    if OF_ITSELF.match(found[0]):
        return STRONG if begins or found[0][:4] != "pwd" else None
    if WITH.search(lower, max(0, start - 12), start) and found[0][:3] in {"key", "tok"} and ends:
        return STRONG
    return WEAK if begins and ends else None


def lower_of(text: str) -> str:
    """`text` in small letters, character for character."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text  # a few capitals become two letters


def _assigned(text: str, at: int, prior: float, *, option: bool) -> Iterator[Span]:
    operator = OPERATOR.match(text, at)
    if operator is None or (operator["comma"] and prior < STRONG):
        return
    if value := QUOTED.match(text, operator.end()):
        if operator["comma"] and not any(map(str.isdigit, value[2])):
            return  # a list of names
        # A space alone between a name and a quotation is prose as often as configuration.
        prior -= 0.8 if operator["space"] and not operator["close"] else 0.0
        # A weak word compared with a text is a case of some code.
        prior -= 1.0 if prior == WEAK and "==" in (operator["op"] or "") else 0.0
        yield from judged(value.start(2), value[2], prior, quoted=True)
    elif operator["op"] not in {None, "==", "!=", "===", "!=="} or operator["tag"] or option:
        value = UNQUOTED.match(text, operator.end())
        if value is not None:
            bare = value[0].rstrip(".,:;)]" if "{{" in value[0] else ".,:;)]}")
            alone = SETTING.match(text, value.end()) and operator["op"] in {"=", ":"}
            lean = 0.4 if alone and prior == STRONG else -0.3  # "password=letmein" fills its line
            yield from judged(value.start(), bare, prior + lean, quoted=False)
    elif (
        operator["space"]  # "the API token 8d969e…"
        and (prior == STRONG or text[max(0, at - 5) : at].lower() == "token")
        and (value := BARE.match(text, operator.end()))
        and (random_looking(value[0]) or DIGEST.fullmatch(value[0]))
    ):
        yield secret_span(*value.span(), 0.8)
    elif (
        operator["space"]
        and (value := PASSWORD.match(text, operator.end()))
        and (prior == STRONG or not PRODUCT.fullmatch(value[0]))
    ):
        yield from judged(value.start(), value[0].rstrip(".,:;)]}"), STRONG, quoted=False)


def judged(start: int, value: str, prior: float, *, quoted: bool) -> Iterator[Span]:
    """The secret that `value` is, if it and its name speak for one; both in logits."""
    logit = prior + evidence(value, quoted=quoted) - 0.6
    if prior <= WEAK and (UUID.fullmatch(value) or DIGEST.fullmatch(value)):
        logit -= 1.0  # a weak word names ids and checksums too
    score = logistic(logit)
    if score >= LEAST_SCORE:
        yield secret_span(start, start + len(value), score)
