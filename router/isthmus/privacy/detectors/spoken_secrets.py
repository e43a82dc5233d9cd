"""Secrets in prose: "the wifi password is …", 密码是…, "PIN: …", the words of a wallet."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Span
from isthmus.privacy.detectors.named_secrets import STRONG, judged, lower_of
from isthmus.privacy.detectors.secret_values import LEAST_SCORE, evidence, logistic, secret_span

SPOKEN_ZH = re.compile(
    r"(?:密码|口令|密钥|秘钥|令牌|私钥|验证码|校验码|提取码|访问码|授权码|激活码|解锁码|暗号"
    r"|PIN码|pin码)"
    # With nothing between, a value has a digit, and more than a cipher's name: 密钥AES256.
    r"(?:[ \u4e00-\u9fff]{0,6}?(?:是|为|叫|成|改为)了?|[ \"'”」)]{0,3}[:=]| "
    r"|(?=[A-Za-z@#!$%^&*?+_-]{0,20}\d)(?![A-Z]{2,5}-?\d{1,4}(?![!-~])))[ \"'“「]{0,3}"
    r"([!-+.-:<-~-]{4,512})"
)
SPOKEN = re.compile(
    r"(?:pass ?words?|pass ?phrase|pass ?code|passwd|pwd|pin(?: code| number)?"
    r"|(?:api|access|secret|private|license|product|recovery) (?:key|token|code)"
    r"|(?:verification|security|one[- ]time|access|door|gate|alarm) (?:code|password|pin)"
    r"|secret|token|credentials?|login|otp)"
    r"(?: (?:for|to|of|on|at)(?: [\w.'-]{1,20}){1,4}?)?"
    r"(?:'s|,? (?:it'?s|it is)|,? (?:is|was|are|now|will be|has been changed to|is set to|set to"
    r"|changed to"
    r"|reads?)){1,2}"
    r"(?: now| still| just)?[ :]{1,3}"
    r"(?:[\"'`“]([^\"'`”\n]{4,128})[\"'`”]|([!-+.-:<-~-]{3,512}))"
)
CODE = re.compile(
    r"(?<![a-z])(?:(?:pin|passcode)(?: code| number)?[\"']?\s?[:=#]{1,2}"
    r"|(?:otp|2fa|(?:verification|security|access|door|gate|alarm|unlock|login|one[- ]time|entry)"
    r" code"
    r"|(?:use|enter|type) (?:the )?code)[\"']?\s?[:=#]{0,2})"
    r"\s?[\"']?(\d{4,8}|\d{3}[- ]\d{3})(?![\w.,]\d|\d|\w)"
)
CARD_PIN = re.compile(
    r"(?<![a-z])(?:debit|credit|atm|sim|bank)(?![a-z])[^.;\n]{0,40}(?<![a-z])"
    r"(?:pin|passcode)(?: code| number)? (\d{4}|\d{6})(?![\w.,]\d|\d|\w)"
)
BACKUP_CODES = re.compile(
    r"(?<![a-z])(?:recovery|backup|2fa|emergency) codes?(?: (?:is|are))?[ :=]{1,3}"
    r"(?=[a-z-]{0,40}\d)([a-z0-9]{4,10}(?:-[a-z0-9]{4,10}){1,7})(?![\w-])"
)
LOGIN = re.compile(
    r"(?<![a-z])(?:log-?in|credentials?|creds|user(?:name)?/pass(?:word)?"
    r"|账号密码|用户名密码|账号/密码)"
    r"[ \t]?[:=] ?[^\s/|,]{2,64} ?[/|,] ?([^\s,;]{4,128})"
)
PAIR = re.compile(
    r"(?<![a-z])(?:log(?:ged)?[ -]?in|sign(?:ed)?[ -]?in|user(?:name)?|admin)(?: with| as| is|:)? "
    r"[\w.@+-]{2,64}(?: ?/ ?|,? (?:and )?(?:the )?(?:pass(?:word)?|pw|pwd)(?: is)?:? )"
    r"([^\s,;]{6,128})"
)
"""A user's name with a password behind it: "login with bob / …", "user bob, pw …"."""
MNEMONIC = re.compile(
    r"(?:(?:seed|recovery|mnemonic|backup|secret)(?: recovery)? (?:phrase|words)|mnemonic|助记词)"
    r"[^a-z\n]{0,4}(?:is|are|是|为)?[^a-z]{0,6}((?:[a-z]{3,8}[ ,]{1,2}){11,23}[a-z]{3,8})(?![a-z])"
)
"""BIP 39: twelve to twenty-four words of three to eight letters."""
OWN_WORD = re.compile(
    r"(?:my|our|his|her|their)(?: [a-z0-9-]{2,16}){0,2} pass ?(?:word|code|phrase) (?:is|was) "
    r"([a-z]{5,24}(?: [a-z]{3,12}){0,5})[.!]?\s*(?:\n|$)"
)
NO_PASSWORD = re.compile(
    r"(?:.*(?:ed|ing|ly)|weak|strong|long|short|safe|secure|public|secret|unknown|simple|complex"
    r"|different|incorrect|wrong|correct|invalid|empty|blank|missing|lost|stolen|hidden|visible"
    r"|always|never|known|common|unique|the same|easy|hard|good|better|still|being|gone|broken"
    r"|right|stuck|forgotten|about|based|similar|used|what|not|too|very|only|also|case|longer"
    r"|shorter|required|random)(?: .*)?"
)
QUANTITY = re.compile(
    r" ?(?:位|个|次|分钟|天|年|月|岁|种|条"
    r"|char|digit|letter|byte|bit|symbol|min|hour|day|time|word|%)"
)
NUMBER_NAMED = re.compile(r"码|密|口令|pin|code|password|otp|pass")


def spoken_secrets(text: str) -> Iterator[Span]:
    """Secrets in prose: "the wifi password is …", 密码是…. A word of the language is none."""
    lower = lower_of(text)
    if _any(lower, "pass", "pwd", "pin", "key", "token", "code", "secret", "cred", "login", "otp"):
        for found in SPOKEN.finditer(lower):
            left = lower[found.start() - 1] if found.start() else ""
            if left.isascii() and left.isalpha():
                continue
            if found[1]:
                start, end = found.span(1)
                yield from judged(start, text[start:end], STRONG, quoted=True)
            else:
                yield from _said(text, *found.span(2), found[0], chinese=False)
    if _any(lower, "code", "pin", "otp", "2fa"):
        for found in CODE.finditer(lower):
            yield secret_span(*found.span(1), 0.8)
        for form in (CARD_PIN, BACKUP_CODES):
            for found in form.finditer(lower):
                yield secret_span(*found.span(1), 0.8)
    if _any(lower, "login", "log-in", "cred", "user", "账号", "用户名"):
        for found in LOGIN.finditer(lower):
            yield from judged(found.start(1), text[slice(*found.span(1))], STRONG, quoted=True)
    if _any(lower, "user", "admin", "log", "sign"):
        for found in PAIR.finditer(lower):
            value = text[slice(*found.span(1))].rstrip(".,:;!?\"'`)]}")
            if any(map(str.isdigit, value)):
                yield from judged(found.start(1), value, STRONG, quoted=False)
    if _any(lower, "phrase", "words", "mnemonic", "助记词"):
        for found in MNEMONIC.finditer(lower):
            yield secret_span(*found.span(1), 0.95)
    if "pass" in lower:
        for found in OWN_WORD.finditer(lower):
            if not NO_PASSWORD.fullmatch(found[1]):
                yield secret_span(*found.span(1), 0.5)
    if not text.isascii():
        for found in SPOKEN_ZH.finditer(text):
            yield from _said(text, *found.span(1), found[0], chinese=True)


def _any(text: str, *words: str) -> bool:
    """Whether one of the words is in `text`: sooner found out than that no pattern matches."""
    return any(word in text for word in words)


def _said(text: str, start: int, end: int, phrase: str, *, chinese: bool) -> Iterator[Span]:
    value = text[start:end].rstrip(".,:;!?\"'`)]}")
    if chinese and "(" in value and ")" not in value:  # 授权码: abcdef(QQ邮箱)
        value = value[: value.index("(")]
    end = start + len(value)
    if QUANTITY.match(text, end) or value.startswith(("http://", "https://", "//")):
        return
    if value.isdigit():
        named = NUMBER_NAMED.search(phrase.lower())
        score = 0.85 if named and len(value) >= 4 else 0.0
    elif value.isalpha() and (value[1:].islower() or value.isupper()):
        score = 0.5 if chinese and len(value) >= 6 else 0.0
    else:
        score = logistic(1.4 + evidence(value, quoted=False))
    if score >= LEAST_SCORE:
        yield secret_span(start, end, score)
