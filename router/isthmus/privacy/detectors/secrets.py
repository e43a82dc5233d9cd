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
from isthmus.privacy.detectors.named_secrets import named_secrets
from isthmus.privacy.detectors.secret_families import FAMILIES, UNIQUE
from isthmus.privacy.detectors.secret_values import (
    BARE,
    DIGEST,
    LEAST_SCORE,
    UUID,
    evidence,
    logistic,
    random_looking,
    secret_span,
    stand_in,
)
from isthmus.privacy.detectors.spoken_secrets import spoken_secrets


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
        yield from named_secrets(text)
        yield from spoken_secrets(text)
        yield from _bare(text)


LONG_RUN = re.compile(r"[A-Za-z0-9_.+/=~:|$?-]{11,}")
"""Every key of a family is one, or more side by side; prose has few."""
LONG_KEY = 29
"""The shortest key of a family that no word begins, but a form alone tells."""


def _families(text: str) -> Iterator[Span]:
    runs = [run for run in LONG_RUN.findall(text) if not (run.isalpha() and run[1:].islower())]
    if not runs:
        return
    long = max(map(len, runs)) >= LONG_KEY
    together = " ".join(runs)
    for literal, form, score in FAMILIES:
        if literal in together and (long or len(literal) > 1):
            for found in form.finditer(text):
                # A documentation's example has the form too: likely enough to be kept back.
                example = stand_in(found[0]) or len(set(found[0][len(literal) :])) < 3
                yield secret_span(*found.span(), score * 0.6 if example else score)


PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----)){1,16384}-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
KEY_BODY = re.compile(
    r"(?:\s|\\n){0,4}(?:(?:Proc-Type|DEK-Info|Version|Comment): ?[^\n\\]{1,80}(?:\s|\\n){1,4}){0,4}"
    r"[A-Za-z0-9+/=\s\\:,.]{48,16384}"
)
_BREAK = r"(?:(?:\r|\n|\\r|\\n){1,4}|\Z)"
_PUTTY_LINE = (
    r"(?:(?!Private-[MH])[A-Za-z0-9-]{3,24}: ?[^\n\\]{0,120}|[A-Za-z0-9+/=]{1,120})" + _BREAK
)
PUTTY_KEY = re.compile(
    rf"(?:PuTTY-User-Key-File-\d|Private-Lines): ?[^\n\\]{{1,80}}{_BREAK}"
    rf"(?:{_PUTTY_LINE}){{1,400}}(?:Private-(?:MAC|Hash): ?[0-9a-f]{{40,64}})?"
)
PUTTY_REST = re.compile(r"[A-Za-z0-9+/=\s\\]{1,16384}Private-(?:MAC|Hash): ?[0-9a-f]{40,64}")
"""PuTTY's form (its source, sshpubk.c), whole or from its private part on; and how it ends."""
KEY_REST = re.compile(
    r"[A-Za-z0-9+/=\s\\]{1,16384}-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
)
"""What a part of a long text begins with where a key was cut; to be matched at its beginning."""


def _private_keys(text: str) -> Iterator[Span]:
    if "Private-" in text or "PuTTY" in text:
        if rest := PUTTY_REST.match(text):
            yield secret_span(*rest.span(), UNIQUE)
        for found in PUTTY_KEY.finditer(text):
            yield secret_span(*found.span(), UNIQUE)
    if "PRIVATE KEY" not in text:
        return
    if rest := KEY_REST.match(text):
        yield secret_span(*rest.span(), UNIQUE)
    for found in PRIVATE_KEY.finditer(text):
        if "END " in found[0]:
            yield secret_span(*found.span(), UNIQUE)
        elif body := KEY_BODY.match(text, found.end()):  # cut off, but a key's worth of base64
            yield secret_span(found.start(), body.end(), 0.8)


WEB_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(eyJ[A-Za-z0-9_-]{10,2000})\.([A-Za-z0-9_-]{10,8000})(?:\.[A-Za-z0-9_-]{0,2000})?"
)


def _web_tokens(text: str) -> Iterator[Span]:
    """JSON web tokens (RFC 7519): a header and claims that are JSON in base64url."""
    if "eyJ" in text:
        for found in WEB_TOKEN.finditer(text):
            whole = _is_json(found[1]) and _is_json(found[2])
            yield secret_span(*found.span(), UNIQUE if whole else 0.5)


def _is_json(part: str) -> bool:
    try:
        return isinstance(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))), dict)
    except (ValueError, binascii.Error, RecursionError):
        return False


IN_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,20}://([^\s/:@\"'<>]{0,120}):([^\s/@\"'<>;]{1,120})@(?=[\w\[$-])"
)
ORACLE = re.compile(r"jdbc:oracle:[a-z]{3,5}:[^\s/@]{1,60}/([^\s@]{1,120})@")
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
            yield secret_span(*found.span(2), 0.6 if stand_in(found[2]) else 0.995)
    for found in ORACLE.finditer(text) if "jdbc:oracle" in text else ():
        yield secret_span(*found.span(1), 0.6 if stand_in(found[1]) else 0.995)
    if "=" not in text:
        return
    for found in QUERY.finditer(text):
        score = logistic(0.6 + evidence(found[1], quoted=True))
        if score >= 0.5:
            yield secret_span(*found.span(1), score)
    for found in REGISTRY.finditer(text):
        if not stand_in(found[1]) or found[1].startswith("npm_"):
            yield secret_span(*found.span(1), UNIQUE)


HEADER = re.compile(
    r"[Aa]uthorization[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:[A-Za-z]{3,12} )?([A-Za-z0-9_.~+/=-]{8,512})"
    r"|(?<![A-Za-z])(?:[Bb]earer|[Bb]asic) ([A-Za-z0-9_.~+/=-]{12,512})"
)
USER_OPTION = re.compile(
    r"(?:^|\s)(?:-u|--user|--proxy-user)[ =][\"']?[^\s:\"']{1,80}:([^\s\"']{3,120})"
)


LOGIN_AT = re.compile(
    r"(?<![\w/:.-])[A-Za-z_][\w.-]{0,31}:"
    r"(?=[^\s/:@]{0,63}[!#$%^&*]|[^\s/:@]{1,40}@[^\s/:@]{1,40}@)"
    r"([^\s/:\"'<>]{6,64})"
    r"@(?:\d{1,3}(?:\.\d{1,3}){3}|[A-Za-z][\w-]{0,62}(?:\.[\w-]{1,63}){1,6})(?![\w@])"
)
"""An account on a host, with its password: "root:Gl@cier46@10.0.0.3"."""
PROGRAMS = ("sshpass", "redis-cli", "mysql", "htpasswd", "docker login", "net use")
PROGRAM_OPTION = re.compile(
    r"(?:sshpass -p ?|docker login (?:\S{1,60} ){0,6}(?:-p|--password)[ =]"
    r"|net use (?:\S{1,80} ){0,3}/user:\S{1,60} "
    r"|redis-cli (?:\S{1,60} ){0,6}-a |mysql(?:dump|admin)? (?:\S{1,60} ){0,8}-p"
    r"|htpasswd -[a-zA-Z]{0,4}b[a-zA-Z]{0,4} (?:\S{1,60} ){1,2})"
    r"[\"']?([^\s\"']{4,64})"
)


def _headers(text: str) -> Iterator[Span]:
    """What HTTP's headers and the options of curl, ssh and databases carry."""
    if any(program in text for program in PROGRAMS):
        for found in PROGRAM_OPTION.finditer(text):
            if not stand_in(found[1]):
                yield secret_span(*found.span(1), 0.9)
    for found in (
        HEADER.finditer(text) if "uth" in text or "earer " in text or "asic " in text else ()
    ):
        start, end = found.span(1) if found[1] else found.span(2)
        score = logistic(0.4 + evidence(text[start:end], quoted=False))
        if score >= LEAST_SCORE:
            yield secret_span(start, end, score)
    for found in LOGIN_AT.finditer(text) if "@" in text and ":" in text else ():
        score = logistic(evidence(found[1], quoted=False))
        if score >= 0.8:
            yield secret_span(*found.span(1), score)
    if "curl" in text or "--user" in text:
        for found in USER_OPTION.finditer(text):
            if not stand_in(found[1]):
                yield secret_span(*found.span(1), 0.9)


NO_SECRET_BEFORE = re.compile(
    r"(?:sha\d*|(?<![a-z])h1|md5|hash|digest|checksum|integrity|etag|commit|revision|uuid|guid|blob|base64"
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
            yield secret_span(*found.span(), 0.55 if mixed else 0.4)
