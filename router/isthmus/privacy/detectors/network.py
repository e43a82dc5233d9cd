"""E-mail addresses (RFC 5321), IP addresses (RFC 791, RFC 4291), hardware addresses (IEEE 802)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.context import Context
from isthmus.privacy.detectors.numbers import CERTAIN, LIKELY


class EmailDetector:
    """E-mail addresses, found from their @ outwards, and those that are written around it."""

    name = "email"
    labels = frozenset[str]({Label.EMAIL})
    LOCAL = (
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+/=?^_`{|}~-"
        + "".join(chr(code) for code in range(0xC0, 0x250) if chr(code).isalpha())
    )
    LOCAL_CHARS = 64
    DOMAIN = re.compile(
        r"(?:[A-Za-z0-9À-ɏ](?:[A-Za-z0-9À-ɏ-]{0,61}[A-Za-z0-9À-ɏ])?(?:\.|[(\[](?:\.|dot)[)\]])){1,8}"
        r"(?:xn--[A-Za-z0-9-]{2,59}|[A-Za-z]{2,24})"
    )
    # RFC 5322, 3.2.2: comments and folded lines stand between an address's parts.
    COMMENT = re.compile(r"\([^()\n]{0,40}\)\Z")
    BREAK = re.compile(r" ?\r?\n[ \t>]{0,4}|\([^()\n]{0,40}\)")
    FILE = re.compile(r"(?:\dx|.{1,61}\d)\.(?:png|jpe?g|gif|svg|webp)$", re.IGNORECASE)
    # bob (at) example (dot) com; bob at example dot com; bob#example.com is left alone.
    SPELLED = re.compile(
        r"(?<![A-Za-z0-9._%+-])(?P<local>[A-Za-z0-9_%+-]{1,32}(?:(?:\.|{dot})[A-Za-z0-9_%+-]{1,32}){0,3})"
        r"{at}"
        r"[A-Za-z0-9-]{1,40}(?:(?:\.|{dot})[A-Za-z0-9-]{1,40}){0,3}(?:\.|{dot})[A-Za-z]{2,16}"
        r"(?![A-Za-z0-9])".replace(
            "{at}",
            r"(?: ?[(\[{<] ?(?:at|@|AT|At|艾特) ?[)\]}>] ?| at | AT | @ | ?艾特 ?)",
        ).replace(
            "{dot}", r"(?: ?[(\[{<] ?(?:dot|\.|DOT|Dot|点) ?[)\]}>] ?| dot | DOT | \. | ?点 ?)"
        )
    )
    WRAPPED = re.compile(r"[(\[{<] ?(?:at|@|dot|\.|点|艾特)|艾特| @ ", re.IGNORECASE)
    # Written in bare words, a sentence could be meant: "meet at the dot on the map".
    COMMON = re.compile(
        r"(?:dot|点) ?(?:com|net|org|edu|gov|io|co|cn|uk|de|fr|jp|au|ca|in|info|me|dev|ai|app)$",
        re.IGNORECASE,
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Addresses with a dotted domain."""
        at = text.find("@")
        while at >= 0:
            before = at
            if text[at - 1 : at] == ")" and (
                comment := self.COMMENT.search(text, max(0, at - self.LOCAL_CHARS), at)
            ):
                before = comment.start()
            local = text[max(0, before - self.LOCAL_CHARS) : before]
            length = len(local) - len(local.rstrip(self.LOCAL))
            # What only introduces an address is not part of it: "to=a@b.org", "'a@b.org'".
            local = local[len(local) - length :].lstrip("'`/=|{}*!?#&")
            local = local[local.rfind("=") + 1 :]
            gap = self.BREAK.match(text, at + 1)
            domain = self.DOMAIN.match(text, gap.end() if gap else at + 1)
            if domain and self._is_local(local) and not self._is_path(text, local, domain):
                yield Span(before - len(local), domain.end(), Label.EMAIL, CERTAIN)
            at = text.find("@", at + 1)
        if self._may_be_spelled(text):
            for found in self.SPELLED.finditer(text):
                bare = self.WRAPPED.search(found[0]) is None
                if not bare or self.COMMON.search(found[0]):
                    yield Span(*found.span(), Label.EMAIL, LIKELY)

    @staticmethod
    def _is_local(local: str) -> bool:
        """A dot-atom (RFC 5321, 4.1.2): dots stand between atoms."""
        return bool(local) and not local.startswith(".") and local[-1] != "." and ".." not in local

    def _is_path(self, text: str, local: str, domain: re.Match[str]) -> bool:
        """Whether it is a repository (git@host:path), or a picture (logo@2x.png)."""
        after = text[domain.end() : domain.end() + 2]
        repository = local == "git" and after[:1] in {":", "/"} and after[1:].isalnum()
        return repository or self.FILE.match(domain[0]) is not None

    @staticmethod
    def _may_be_spelled(text: str) -> bool:
        lowered = text.lower()
        dots = "dot" in lowered or "点" in text or "(.)" in text or "[.]" in text
        return dots or " @ " in text or "(at" in lowered or "[at" in lowered or "(@" in text


class IpDetector:
    """Internet addresses. Those of the machine itself only where the context names them."""

    name = "ip"
    labels = frozenset[str]({Label.IP})
    # Its first digit stands before what may not stand before it: only digits are then tried.
    V4 = re.compile(
        r"\d(?<![A-Za-z0-9_.-].)(?<!\d,.)\d{0,2}(?:\.\d{1,3}){3}(?![A-Za-z0-9_])(?!\.\d)(?!-\d)"
    )
    # Defanged, as those who report attacks write: 10[.]1[.]2[.]3, 10.1.2[.]3.
    V4_DEFANGED = re.compile(
        r"(?<![A-Za-z0-9_.-])(?=[\d.]{1,12} ?[(\[{])"
        r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.| ?[(\[{] ?(?:\.|dot|DOT) ?[)\]}] ?)){3}"
        r"(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![A-Za-z0-9_])(?!\.\d)"
    )
    V4_LETTERED = re.compile(r"(?:ip|addr|host|from|to|v4)[:=]?$", re.IGNORECASE)
    V6 = re.compile(r"(?<![A-Za-z0-9_:.])[0-9A-Fa-f:]{0,4}:[0-9A-Fa-f:]{1,40}(?:\.\d{1,3}){0,3}")
    NETWORK = re.compile(
        r"(?<![a-z])(?:ping|from|addr|login|client|blocked|ssh|http|connect|remote|route|lan|wan|network|curl|to)"
        r"|访问|登录|来自|网络|局域网|内网|公网|攻击",
        re.IGNORECASE,
    )
    VERSION = re.compile(
        r"(?:(?<![a-z])(?:v|ver|version|release|section|build|python|chapter|firmware|kernel|sec)s?"
        r"[ .:=]{0,3}|版本(?:号)?[ :：]{0,3}|第|§ ?|[<>=~^]=? ?)[\"']?$",
        re.IGNORECASE,
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Addresses of versions 4 and 6."""
        if "[" in text or "(" in text:
            for found in self.V4_DEFANGED.finditer(text):
                yield Span(*found.span(), Label.IP, LIKELY)
        if text.count(".") >= 3:
            for found in self.V4.finditer(text):
                if any(int(part) > 255 for part in found[0].split(".")):
                    continue
                before = text[max(0, found.start() - 24) : found.start()]
                named = Context(text).names(Label.IP, *found.span(), 16)
                local = ipaddress.ip_address(_plain(found[0]))
                nobody = local.is_loopback or found[0].startswith(("0.", "255."))
                version = self.VERSION.search(before) or self._is_small(found[0], before)
                if named or not (nobody or version):
                    yield Span(*found.span(), Label.IP, CERTAIN if named else LIKELY)
        if text.count(":") >= 2:
            for found in self.V6.finditer(text):
                yield from self._v6(text, found)

    def _is_small(self, value: str, before: str) -> bool:
        """Whether it looks like a version (1.7.12.4), and nothing before speaks of a network."""
        parts = [int(part) for part in value.split(".")]
        known = parts[0] == 10 or len(set(parts)) == 1
        return not known and max(parts) < 50 and self.NETWORK.search(before) is None

    def _v6(self, text: str, found: re.Match[str]) -> Iterator[Span]:
        value = found[0]
        # A sentence's colon is none of the address's.
        if value.endswith(":") and not value.endswith("::"):
            value = value[:-1]
        if value.count(":") < 2:
            return
        end = found.start() + len(value)
        after = text[end : end + 1]
        if after.isascii() and (after.isalnum() or after == "_"):
            return
        try:
            address = ipaddress.IPv6Address(value)
        except ValueError:
            return
        named = Context(text).names(Label.IP, found.start(), end, 16)
        groups = [group for group in value.split(":") if group]
        # "a[1::2]" is a slice and "::" a scope.
        long = len(groups) >= 4 or any(len(group) >= 3 for group in groups)
        # "1:8:28:70:56:28:8:1" is a proportion.
        long &= "::" in value or any(len(group) == 4 or not group.isdigit() for group in groups)
        if (named and groups) or (long and len(groups) > 1 and not address.is_loopback):
            yield Span(found.start(), end, Label.IP, CERTAIN if named else LIKELY)


def _plain(value: str) -> str:
    """An address without leading zeros, which `ipaddress` takes for octal."""
    return ".".join(str(int(part)) for part in value.split("."))


class MacDetector:
    """Hardware addresses: six pairs, or Cisco's three groups of four."""

    name = "mac"
    labels = frozenset[str]({Label.MAC})
    PAIRS = re.compile(
        r"(?<![A-Za-z0-9])(?<![A-Za-z0-9][:-])[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}"
        r"(?:\1[0-9A-Fa-f]{2}){4}(?![A-Za-z0-9])(?![:-][A-Za-z0-9])"
    )
    FOURS = re.compile(
        r"(?<![A-Za-z0-9.])[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![A-Za-z0-9])(?!\.\w)"
    )

    def detect(self, text: str) -> Iterator[Span]:
        """Addresses of 48 bits."""
        if text.count(":") >= 5 or text.count("-") >= 5:
            for found in self.PAIRS.finditer(text):
                yield Span(*found.span(), Label.MAC, CERTAIN)
        if text.count(".") >= 2:
            for found in self.FOURS.finditer(text):
                # Digits alone could be a decimal's groups.
                if not found[0].replace(".", "").isdigit():
                    yield Span(*found.span(), Label.MAC, LIKELY)
