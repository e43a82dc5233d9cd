"""Secrets: keys, tokens and passwords, by their issuers' forms, by what names them, by chance.

What stands where decides: a form that one issuer alone uses is certain; a value behind a word such
as "password" or 密码 is judged by the value (`secret_values`); a bare random string is only likely.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.secret_families import FAMILIES, UNIQUE
from isthmus.privacy.detectors.secret_values import (
    DIGEST,
    MAX_SECRET_CHARS,
    UUID,
    evidence,
    logistic,
    random_looking,
    stand_in,
)

LEAST_SCORE = 0.35
"""What is less likely than this is not given at all."""


class SecretDetector:
    """Finds secrets of every kind below; each `_method` is one kind."""

    name = "secret"
    labels: frozenset[str] = frozenset({Label.SECRET})

    def detect(self, text: str) -> Iterator[Span]:
        """Secrets, with a score that grades how sure their form and surroundings make it."""
        yield from _families(text)
        yield from _private_keys(text)
        yield from _web_tokens(text)
        yield from _addresses(text)
        yield from _headers(text)
        yield from _named(text)
        yield from _spoken(text)
        yield from _bare(text)


def _span(start: int, end: int, score: float) -> Span:
    return Span(start, end, Label.SECRET, round(min(score, 0.995), 3))


def _families(text: str) -> Iterator[Span]:
    for literal, form, score in FAMILIES:
        if literal in text:
            for found in form.finditer(text):
                # A documentation's example has the form too: likely enough to be kept back.
                example = stand_in(found[0]) or len(set(found[0][len(literal) :])) < 3
                yield _span(*found.span(), score * 0.6 if example else score)


PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]{1,16384}-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
    r"|PuTTY-User-Key-File-\d: [^-]{40,16384}"
)
KEY_BODY = re.compile(r"(?:\s|\\n){0,4}[A-Za-z0-9+/=\s\\:,.]{48,16384}")


def _private_keys(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" not in text and "PuTTY" not in text:
        return
    for found in PRIVATE_KEY.finditer(text):
        if "END " in found[0] or found[0].startswith("PuTTY"):
            yield _span(*found.span(), UNIQUE)
        elif body := KEY_BODY.match(text, found.end()):  # cut off, but a key's worth of base64
            yield _span(found.start(), body.end(), 0.8)


WEB_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(eyJ[A-Za-z0-9_-]{10,2000})\.([A-Za-z0-9_-]{10,8000})(?:\.[A-Za-z0-9_-]{0,2000})?"
)


def _web_tokens(text: str) -> Iterator[Span]:
    """JSON web tokens (RFC 7519): a header and claims that are JSON in base64url."""
    if "eyJ" in text:
        for found in WEB_TOKEN.finditer(text):
            whole = _is_json(found[1]) and _is_json(found[2])
            yield _span(*found.span(), UNIQUE if whole else 0.5)


def _is_json(part: str) -> bool:
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))), dict)
    except (ValueError, binascii.Error, RecursionError):
        return False


IN_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,20}://([^\s/:@\"'<>]{0,120}):([^\s/@\"'<>;]{1,120})@(?=[\w\[$-])"
)
QUERY = re.compile(
    r"[?&#;](?:[a-z_-]{0,20}(?:token|secret|passw(?:or)?d|signature)|(?:api|access|auth|app|private|client)"
    r"[_-]?key|key|sig|pwd|code|auth)=([^&#\s\"'<>]{6,512})",
    re.IGNORECASE,
)
REGISTRY = re.compile(
    r"//[\w.-]{3,80}/(?:[\w./-]{0,80})?:_(?:authToken|password|auth)=\s?(\S{8,200})"
)


def _addresses(text: str) -> Iterator[Span]:
    """Passwords in addresses and connection strings, tokens in queries."""
    if "://" in text:
        for found in IN_ADDRESS.finditer(text):
            # "user:password@host" of a manual has the place of a secret at least.
            yield _span(*found.span(2), 0.6 if stand_in(found[2]) else 0.995)
    if "=" not in text:
        return
    for found in QUERY.finditer(text):
        score = logistic(0.6 + evidence(found[1], quoted=True))
        if score >= 0.5:
            yield _span(*found.span(1), score)
    for found in REGISTRY.finditer(text):
        if not stand_in(found[1]) or found[1].startswith("npm_"):
            yield _span(*found.span(1), UNIQUE)


HEADER = re.compile(
    r"[Aa]uthorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:[A-Za-z]{3,12} )?([A-Za-z0-9_.~+/=-]{8,512})"
    r"|(?<![A-Za-z])(?:[Bb]earer|[Bb]asic) ([A-Za-z0-9_.~+/=-]{12,512})"
)
USER_OPTION = re.compile(
    r"(?:^|\s)(?:-u|--user|--proxy-user)[ =][\"']?[^\s:\"']{1,80}:([^\s\"']{3,120})"
)


def _headers(text: str) -> Iterator[Span]:
    """What HTTP's headers and curl's options carry."""
    for found in (
        HEADER.finditer(text) if "uth" in text or "earer " in text or "asic " in text else ()
    ):
        start, end = found.span(1) if found[1] else found.span(2)
        score = logistic(0.4 + evidence(text[start:end], quoted=False))
        if score >= LEAST_SCORE:
            yield _span(start, end, score)
    if "curl" in text or "--user" in text:
        for found in USER_OPTION.finditer(text):
            if not stand_in(found[1]):
                yield _span(*found.span(1), 0.9)


STRONG, WEAK = 1.8, 0.4
NAMES = re.compile(
    r"(?P<strong>passw(?:or)?ds?|passphrase|passcode|(?<![a-z])pwd|secrets?|secrete|api[ _-]?keys?"
    r"|(?:access|private|secret|auth|account|encryption|signing|shared|master|license|client|storage"
    r"|deploy|admin|service)[ _-]?keys?"
    r"|(?:access|auth|refresh|bearer|api|secret|id|session|bot|app|admin|security|deploy|personal"
    r"|private|oauth)[ _-]?tokens?|client[_-]?secrets?|credentials?)"
    r"|(?P<weak>(?<![a-z])pass(?![a-z])|(?<![a-z])pw(?![a-z])|token(?![a-z])|(?<![a-z])key(?![a-z])"
    r"|(?-i:(?<=[a-z])(?:Key|Pass|Pwd|Token)(?![a-z]))|(?<![a-z])auth(?![a-z])|(?<![a-z])creds?(?![a-z])"
    r"|(?<![a-z])pin(?![a-z])|cookie)",
    re.IGNORECASE,
)
HEAD = re.compile(r"[A-Za-z0-9_.$-]{0,40}$")
TAIL = re.compile(r"[A-Za-z0-9_-]{0,30}")
OF_NO_SECRET = re.compile(
    r"(?:public|primary|foreign|sort|cache|partition|hot|short|csrf|pub|natural|index|row|group|map|dict"
    r"|unique|composite|next|prev|max|min|num|total|n|input|output|special|pad|eos|bos|unk|stop|end"
    r"|start|current|last|first|lookup|search|foreign|hash|range|column|object|registry)[_-]?$",
    re.IGNORECASE,
)
OF_A_DETAIL = re.compile(
    r"[_-]?(?:name|names|id|ids|len|length|size|count|type|types|field|file|path|dir|url|uri|endpoint"
    r"|expir\w*|ttl|policy|reset|hint|prompt|label|regex|pattern|manager|strength|column|param|header"
    r"|placeholder|error|message|msg|index|version|algorithm|algo|vault|board|code|down|up|press|event"
    r"|map|func|function|class|required|enabled|length|rotation|format|encoder|hash(?:ed)?|digest"
    r"|ring|store|pair|word|frame|usage|limit|budget|per|ize\w*|s)$",
    re.IGNORECASE,
)
OPERATOR = re.compile(
    r"(?:\[\d{0,5}\])?(?P<close>[\])\"'`]{0,3})"
    r"(?:[ \t]{0,4}(?P<op>=>|:=|[!=]==?|=|:(?:[ \t]{0,2}[A-Za-z][\w.\[\], |]{0,30}=)?)[ \t]{0,4}|"
    r"(?P<call>(?:\.\w{1,12})?\([ \t]{0,2}(?=[\"'`]))"
    r"|(?P<attribute>[\"']\s{1,4}value\s{0,2}=\s{0,2})"
    r"|(?P<comma>[\"'][ \t]{0,2},[ \t]{0,2}(?=[\"']))|(?P<tag>>(?=[^\s<>]{3,200}</))"
    r"|(?P<space>[ \t]{1,4}))"
    r"(?:[ \t]{0,4}(?:\[\d{0,5}\][ \t]{0,2}=[ \t]{0,2}|[@rbfuL](?=[\"'`])))?"
)
QUOTED = re.compile(r"([\"'`])((?:(?!\1)[^\r\n\\]|\\.){1,512}?)\1(?![\w])")
UNQUOTED = re.compile(r"(?!\$[({]|https?:|//)[^\s\"'`,;<>]{3,512}")
SETTING = re.compile(r"[ \t]{0,4}(?:[\r\n]|$)")
COMPARED = re.compile(r"([\"'])([^\r\n\"']{4,200})\1[ \t]{0,3}[!=]={1,2}[ \t]{0,3}$")


NAME_STEMS = (
    "pass",
    "pwd",
    "secret",
    "key",
    "token",
    "credential",
    "auth",
    "cred",
    "pin",
    "cookie",
)
"""What every name has one of: most texts have none, and need no search."""


def _named(text: str) -> Iterator[Span]:
    """Values that an assignment, a field, an argument or an option names as secret."""
    lower = text.lower()
    if not any(stem in lower for stem in NAME_STEMS):
        return
    last_end = -1
    for found in NAMES.finditer(text):
        if found.start() < last_end:  # within a name that has been looked at
            continue
        head = HEAD.search(text[max(0, found.start() - 40) : found.start()])
        before = head[0] if head else ""
        tail = TAIL.match(text, found.end())
        after = tail[0] if tail else ""
        last_end = found.end() + len(after)
        prior = STRONG if found["strong"] else WEAK
        if OF_NO_SECRET.search(before) or OF_A_DETAIL.fullmatch(after):
            prior = -3.0
        start = found.start() - len(before)
        if compared := COMPARED.search(text[max(0, start - 210) : start]):
            at = max(0, start - 210) + compared.start(2)
            yield from _judged(at, compared[2], prior, quoted=True)
            continue
        yield from _assigned(text, last_end, prior, option=before.startswith("--"))


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
        yield from _judged(value.start(2), value[2], prior, quoted=True)
    elif operator["op"] not in {None, "==", "!=", "===", "!=="} or operator["tag"] or option:
        value = UNQUOTED.match(text, operator.end())
        if value is not None:
            bare = value[0].rstrip(".,:;)]" if "{{" in value[0] else ".,:;)]}")
            alone = SETTING.match(text, value.end()) and operator["op"] in {"=", ":"}
            lean = 0.4 if alone and prior == STRONG else -0.3  # "password=letmein" fills its line
            yield from _judged(value.start(), bare, prior + lean, quoted=False)
    elif (
        operator["space"]  # "the API token 8d969e…"
        and prior == STRONG
        and (value := BARE.match(text, operator.end()))
        and (random_looking(value[0]) or DIGEST.fullmatch(value[0]))
    ):
        yield _span(*value.span(), 0.8)


def _judged(start: int, value: str, prior: float, *, quoted: bool) -> Iterator[Span]:
    logit = prior + evidence(value, quoted=quoted) - 0.6
    if prior <= WEAK and (UUID.fullmatch(value) or DIGEST.fullmatch(value)):
        logit -= 1.0  # a weak word names ids and checksums too
    score = logistic(logit)
    if score >= LEAST_SCORE:
        yield _span(start, start + len(value), score)


SPOKEN = re.compile(
    r"(?:密码|口令|密钥|秘钥|令牌|私钥|验证码|校验码|提取码|访问码|授权码|激活码|解锁码|暗号|PIN码|口令码)"
    r"(?:[ \u4e00-\u9fff]{0,6}?(?:是|为|叫|成|改为)|[ \"'”」)]{0,3}[:=]| )[ \"'“「]{0,3}"
    r"([!-+.-:<-~-]{4,128})"
    r"|(?<![A-Za-z])(?:pass ?words?|pass ?phrase|pass ?code|pin(?: code| number)?"
    r"|(?:api|access|secret|private|license|product|recovery) (?:key|token|code)"
    r"|(?:verification|security|one[- ]time|access|door|gate|alarm) (?:code|password|pin)"
    r"|secret|token|credentials?|login|otp)"
    r"(?: (?:for|to|of|on|at)(?: [\w.'-]{1,20}){1,4}?)?"
    r"(?: (?:is|was|are|now|will be|has been changed to|is set to|set to|changed to|reads?)){1,2}"
    r"(?: now| still| just)?[ :]{1,3}"
    r"(?:[\"'`“]([^\"'`”\n]{4,128})[\"'`”]|([!-+.-:<-~-]{3,128}))",
    re.IGNORECASE,
)
NUMBER_NAMED = re.compile(r"码|密|口令|pin|code|password|otp|pass", re.IGNORECASE)
QUANTITY = re.compile(
    r" ?(?:位|个|次|分钟|天|char|digit|letter|byte|bit|symbol|min|hour|day|time|word|%)"
)


SPOKEN_STEMS = ("pass", "pin", "code", "key", "token", "secret", "credential", "login", "otp")


def _spoken(text: str) -> Iterator[Span]:
    """Secrets in prose: "the wifi password is …", 密码是…. A word of the language is none."""
    lower = text.lower()
    if text.isascii() and not any(stem in lower for stem in SPOKEN_STEMS):
        return
    for found in SPOKEN.finditer(text):
        group = found.lastindex or 1
        if group == 2:
            yield from _judged(found.start(2), found[2], STRONG, quoted=True)
            continue
        value = found[group].rstrip(".,:;!?\"'`)]}")
        end = found.start(group) + len(value)
        if QUANTITY.match(text, end) or value.startswith(("http://", "https://", "//")):
            continue
        if value.isdigit():
            known = len(value) >= 4 and NUMBER_NAMED.search(
                found[0][: found.start(group) - found.start()]
            )
            score = 0.85 if known else 0.0
        elif value.isalpha() and not (value[1:].lower() != value[1:] and not value.isupper()):
            score = 0.5 if group == 1 and len(value) >= 6 else 0.0
        else:
            score = logistic(1.4 + evidence(value, quoted=False))
        if score >= LEAST_SCORE:
            yield _span(found.start(group), end, score)


BARE = re.compile(
    rf"(?<![A-Za-z0-9+/=_.%-])[A-Za-z0-9+/_-]{{20,{MAX_SECRET_CHARS}}}={{0,2}}(?![A-Za-z0-9+/_%-])"
)
NO_SECRET_BEFORE = re.compile(
    r"(?:sha\d*|md5|hash|digest|checksum|integrity|etag|commit|revision|uuid|guid|blob|base64"
    r"|fingerprint|sri|crc|trace|span|request|correlation|image|cid|tx|block|address)"
    r"[\w ]{0,12}[\"']?[ :=,-]{0,3}[\"']?$",
    re.IGNORECASE,
)


def _bare(text: str) -> Iterator[Span]:
    """Random strings that nothing names: neither digests nor identifiers, so perhaps keys."""
    for found in BARE.finditer(text):
        value = found[0]
        if (
            DIGEST.fullmatch(value)
            or UUID.fullmatch(value)
            or value.count("/") > 3 + len(value) // 16
        ):
            continue
        if random_looking(value) and not NO_SECRET_BEFORE.search(
            text[max(0, found.start() - 32) : found.start()]
        ):
            mixed = any(map(str.isupper, value)) and any(map(str.islower, value))
            yield _span(*found.span(), 0.55 if mixed else 0.4)
