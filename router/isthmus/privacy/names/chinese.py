"""People, places and organisations in Chinese text: LAC's words, and what surrounds a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from isthmus.privacy.base import Label, Span
from isthmus.privacy.names.beside import completed
from isthmus.privacy.names.lac import Lac, Word

BY_MODEL, BY_CONTEXT, PLACE = 0.85, 0.8, 0.6
"""Scores: the model's surest people; a form's or a phrase's; places and organisations."""

LEAST_LEAD, LEAST_LEAD_SHORT = -0.4, 1.0
"""How far a person must be ahead of what is next likely: half of those at the limit are people.
Two characters without a surname are a word more often."""

WINDOW_CHARS, BATCH = 128, 16
"""How much the model reads at once, and how many such windows side by side."""

MAX_NAME_CHARS = 24

HAN = re.compile(r"[\u3400-\u9fff]")
NAME = re.compile(r"[\u3400-\u9fff](?:[\u3400-\u9fff\u00b7・]|(?<=[·・ ])[A-Za-z]){0,24}")
LABELS = {"PER": Label.PERSON, "LOC": Label.LOCATION, "ORG": Label.ORG}

# The surnames of about 95 % of the people of China, by the Ministry of Public Security's reports
# on names (the hundred most frequent of 2020), with more of the Hundred Family Surnames.
SURNAME = (
    "(?:欧阳|上官|司马|诸葛|夏侯|皇甫|尉迟|公孙|慕容|司徒|东方|独孤|南宫|令狐|宇文|长孙|端木"
    "|[王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程"
    "苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚"
    "邵万钱严覃武戴莫孔向汤常温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳"
    "甘祝包宁尚符舒阮柯纪梅童凌毕单裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳欧管柴蒙鲍华喻祁蒲房滕屈饶解"
    "牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞])"
)
GIVEN = "[\u4e00-\u9fff]{1,2}"
ROLE = (
    "姓名|名字|名叫|叫做|我叫|他叫|她叫|联系人|收件人|收货人|寄件人|发件人|户名|开户名|持卡人|申请人"
    "|经办人|负责人|法定代表人|法人代表|委托人|代理人|投保人|被保险人|受益人|患者|病人|客户|用户|顾客|乘客"
    "|旅客|车主|业主|房东|租客|学生|家长|员工|同事|老师|医生|律师|经理|司机|原告|被告|被告人|嫌疑人"
    "|证人|本人|签名|签字|签收人|联系|找|寄给|发给|转给|通知|告诉|请|问|@"
)
SURNAMED = re.compile(f"[老小阿大]?{SURNAME}")
FULL_NAME = re.compile(SURNAME + GIVEN)
TITLED = re.compile(
    rf"{SURNAME}(?:总|老师|先生|女士|小姐|太太|阿姨|叔叔|大爷|大妈|奶奶|爷爷|师傅|医生|大夫|护士|律师|警官"
    "|教授|主任|经理|书记|主席|总理|[局处科校厂院市县村部]长)"
)
"""Somebody called by surname and title: what the model adds behind them is the next word."""
HIRAGANA = re.compile(r"[\u3041-\u309f]+")
HONORED = re.compile("さん|さま|様|君|くん|ちゃん|氏|先生|部長|課長|社長")
DOTS, NAME_TAGS = "·・", frozenset({"PER", "LOC", "ORG", "n", "nz", "nw"})
NAMED = re.compile(
    rf"(?:{ROLE})(?:是|为|叫)?[ :]{{0,3}}({SURNAME}{GIVEN})"
    r"(?=$|[^\u3400-\u9fff]|先生|女士|小姐|同学|老师)"
)
LISTED = re.compile(
    rf"(?:^|[^\u3400-\u9fff])({SURNAME}{GIVEN})"
    r"(?= ?[/,、|;:(-]? ?(?:手机|电话|\+?86)?[ :]{0,2}1[3-9]\d"
    r"| ?[/,、|;:(-] ?(?:身份证|证件|卡|账|证)?[\u4e00-\u9fff]{0,2}[ :]{0,2}\d{6})"
)
NO_NAME = re.compile(
    "时间|时候|方式|方便|金额|单价|单号|单位|全部|成本|成交|应付|应收|路线|文件|文本|安全|关于|关系|关键"
    "|高度|高级|高兴|白天|常用|常见|温度|江西|江苏|安徽|华为|石家庄|马上|周末|周[一二三四五六日天]|万元"
    "|于是|余额|张数|向上|向下|项目|简介|连接|管理|解释|游客|麦当劳|全国|全家|应该|司机|农业|车[主号牌辆]|卡号"
    "|党员|房间|房号|景区|费用|米饭|古代|路口|钱包|程序|程度|任务|任何|贺卡|包装|包括|包裹|左右|申请"
)

COUNTED = re.compile("[买订要拿抽换发开办退抢改领送][张章][明今后昨当][早晚天年日]")
"""A measure word before a time, which the model takes for a name: 买张明早的票."""


class ChineseNames:
    """Names by the model, and where a form or a phrase says that a name stands."""

    name = "chinese_names"
    labels: frozenset[str] = frozenset(LABELS.values())

    def detect(self, text: str) -> Iterator[Span]:
        """People, places and organisations; nothing in text without Chinese characters."""
        if text.isascii() or not HAN.search(text):
            return
        people = list(named_in_context(text))
        windows = [w for w in _windows(text) if HAN.search(text, w.own_start, w.own_end)]
        for first in range(0, len(windows), BATCH):
            batch = windows[first : first + BATCH]
            words = _model().words([text[window.start : window.end] for window in batch])
            for window, found in zip(batch, words, strict=True):
                for span in _spans(text, window, _dotted(text, window.start, found)):
                    if span.label == Label.PERSON:
                        people.append(span)
                    else:
                        yield span
        yield from completed(text, people, FULL_NAME, BY_CONTEXT)


class _Window(NamedTuple):
    """`text[start:end]` is read for the names that begin in `text[own_start:own_end]`."""

    start: int
    end: int
    own_start: int
    own_end: int


@lru_cache(maxsize=1)
def _model() -> Lac:
    return Lac()


def named_in_context(text: str) -> Iterator[Span]:
    """Names behind a word that announces one, or beside a phone or card number in a list."""
    for pattern in (NAMED, LISTED):
        for found in pattern.finditer(text):
            if not NO_NAME.match(found[1]):
                yield Span(*found.span(1), Label.PERSON, BY_CONTEXT)


def _windows(text: str) -> Iterator[_Window]:
    """Windows of one length: each one's part ends where a sentence does, what follows fills up."""
    length = min(len(text), WINDOW_CHARS)
    own_start = 0
    while own_start < len(text):
        start = min(own_start, len(text) - length)
        end = start + length
        own_end = end
        if end < len(text):
            sentence = max(text.rfind(mark, own_start, end) for mark in "。\n!?;") + 1
            comma = text.rfind(",", own_start, end) + 1
            # Where nothing ends in the second half, the longest names must still fit in behind.
            cuts = (sentence, comma, end - MAX_NAME_CHARS)
            own_end = next(cut for cut in cuts if cut > own_start + length // 2)
        yield _Window(start, end, own_start, own_end)
        own_start = own_end


def _dotted(text: str, offset: int, words: list[Word]) -> list[Word]:
    """`words` with those of one foreign name as one: 约翰·史密斯."""
    joined: list[Word] = []
    for word in words:
        if len(joined) > 1 and text[offset + joined[-1].start] in DOTS:
            first = joined[-2]
            if "PER" in (first.tag, word.tag) and {first.tag, word.tag} <= NAME_TAGS:
                lead = max(first.lead, word.lead)
                joined[-2:] = [Word(first.start, word.end, "PER", lead)]
                continue
        joined.append(word)
    return joined


def _least_lead(name: str) -> float:
    return LEAST_LEAD if len(name) > 2 or SURNAMED.match(name) else LEAST_LEAD_SHORT


def _may_be_japanese(text: str, start: int, end: int) -> bool:
    """Whether `text[start:end]` may be a name in Japanese, most words of which are none."""
    return HONORED.match(text, end) is not None or len(HAN.findall(text, start, end)) >= 3


def _score(lead: float) -> float:
    """Of those with a score below 0.7 two thirds are people, above 0.8 nearly all."""
    return round(min(0.6 + 0.1 * lead, BY_MODEL), 3)


def _spans(text: str, window: _Window, words: list[Word]) -> Iterator[Span]:
    offset = window.start
    place: Span | None = None
    japanese = len(HIRAGANA.findall(text, window.own_start, window.own_end)) > 2
    for word in words:
        if not window.own_start <= offset + word.start < window.own_end:
            continue
        label = LABELS.get(word.tag)
        if japanese and not _may_be_japanese(text, offset + word.start, offset + word.end):
            label = None
        if place is not None and (label is not Label.LOCATION or word.start + offset != place.end):
            yield place
            place = None
        if label is Label.PERSON:
            # The model also tags signs and digits that it does not know: a name has neither.
            inner = NAME.search(text, offset + word.start, offset + word.end)
            if inner and COUNTED.match(text, max(0, inner.start() - 1)):
                continue
            if inner and len(inner[0]) >= 2 and word.lead >= _least_lead(inner[0]):
                titled = TITLED.match(inner[0])
                end = inner.start() + titled.end() if titled else inner.end()
                yield Span(inner.start(), end, label, _score(word.lead))
        elif label is Label.LOCATION:  # 江苏省 and 南京市 are one place
            start = place.start if place else offset + word.start
            place = Span(start, offset + word.end, label, PLACE)
        elif label is Label.ORG and word.end - word.start >= 2:
            yield Span(offset + word.start, offset + word.end, label, PLACE)
    if place is not None:
        yield place
