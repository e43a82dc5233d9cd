"""Names of accounts: what a messenger's or a site's word introduces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors.numbers import IN_CONTEXT
from isthmus.privacy.detectors.vocabulary import words


class AccountNameDetector:
    """Handles and user names: never without the word that says so. Numbers are codes' business."""

    name = "account_names"
    labels = frozenset[str]({Label.ACCOUNT})
    SITES = (
        "wechat|weixin|we chat|telegram|twitter|instagram|insta|tiktok|douyin|github|gitlab"
        "|linkedin|facebook|snapchat|discord|skype|reddit|weibo|whatsapp|kakaotalk|youtube|twitch|mastodon"
        "|bluesky|venmo|cash ?app|paypal|ig|vx|wx"
    )
    WORDS_ZH = (
        "微信|威信|薇信|微信号|抖音|快手|小红书|微博|推特|脸书|钉钉|飞书|企鹅|支付宝|淘宝|陌陌|"
        "知乎|豆瓣|闲鱼|B站|b站|用户名|用户ID|昵称|网名|帐号|账号|登录名|账户名"
    )
    # A WeChat name is a letter and five to nineteen of its characters; others are alike.
    HANDLE = r"(?P<handle>@?(?:live:)?[A-Za-z][A-Za-z0-9_.-]{1,38}[A-Za-z0-9_])(?![A-Za-z0-9_(@])"
    LATIN = re.compile(
        r"(?<![a-z])(?:"
        rf"(?P<site>{SITES})(?:'s)?(?: (?:id|handle|user ?name|account|name|me|nickname))?"
        r"|user[ _-]?(?:name|id)|login(?: ?(?:name|id))?|screen[ _-]?name|(?:my )?handle|nickname"
        r"|gamer ?tag|account (?:name|id))"
        r"(?P<link>[ ]?(?:is|was|at|:|=|=>|is:|@)[ ]?| - | )(?P<quote>[\"'`]?)" + HANDLE,
        re.IGNORECASE,
    )
    CHINESE = re.compile(
        rf"(?:{WORDS_ZH}|[Vv]信|加[Vv])"
        r"(?:账号|帐号|用户名|昵称|号码|号|ID|id|名)?"
        r"(?P<link> ?(?:是|为|叫|：|:|=|搜|加|就是|号是)? ?)(?P<quote>[\"'“「]?)" + HANDLE
    )
    # One of these is in every match: looking for them first costs a tenth of the patterns.
    LATIN_HINTS = (
        *SITES.replace(" ?", " ").split("|"),
        "cashapp",
        "user",
        "login",
        "screen",
        "handle",
        "nickname",
        "gamer",
        "account",
    )
    CHINESE_HINTS = (*WORDS_ZH.lower().split("|"), "v信", "加v")
    HINT = re.compile("[0-9_@.-]")
    WORDS = words(
        "is was and or the a an not for to in on with of that your my you me at by from name user"
        " username password string none null true false admin root str int id email phone number"
        " message messages app pay group chat account accounts please input self data info api bot"
        " page post profile official business support client server web url link"
    )
    LEAST_CHARS = 4

    def detect(self, text: str) -> Iterator[Span]:
        """The names that follow such a word."""
        lowered = text.lower()
        if len(lowered) != len(text):  # a letter of two in lower case moves the rest
            lowered = text
        for pattern, hints in ((self.LATIN, self.LATIN_HINTS), (self.CHINESE, self.CHINESE_HINTS)):
            if pattern is self.CHINESE and text.isascii():
                continue
            for found in _at_words(pattern, text, lowered, hints):
                site = pattern is self.CHINESE or found["site"] is not None
                if self._is_name(found["handle"], found["link"].strip(), found["quote"], site=site):
                    yield Span(*found.span("handle"), Label.ACCOUNT, IN_CONTEXT)

    def _is_name(self, handle: str, link: str, quote: str, *, site: bool) -> bool:
        bare = handle.lstrip("@")
        if len(bare) < self.LEAST_CHARS or bare.lower() in self.WORDS:
            return False
        # A plain word after a plain space is the sentence going on: "twitter users".
        marked = self.HINT.search(handle) is not None
        if not link and not (site and re.search("[0-9_@]", handle)):
            return False
        if link == "=" and not (quote or marked):  # code: user_name = username
            return False
        joined = link in {":", "=", "：", "@", "is:", "是", "为", "号是", "搜"}
        return (
            handle.startswith("@")
            or (marked and bool(link or not handle.isalpha()))
            or (joined and len(bare) >= 6)
        )


def _at_words(
    pattern: re.Pattern[str], text: str, lowered: str, words: tuple[str, ...]
) -> Iterator[re.Match[str]]:
    """The pattern's matches, tried only where one of the words stands that they begin with."""
    for word in words:
        at = lowered.find(word)
        while at >= 0:
            found = pattern.match(text, at)
            if found is not None:
                yield found
            at = lowered.find(word, at + 1)
