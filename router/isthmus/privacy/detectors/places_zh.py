"""Chinese addresses: from a street or an estate with its number, outwards in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from isthmus.privacy.base import Label, Span
from isthmus.privacy.detectors import gazetteer as g
from isthmus.privacy.detectors.numbers import IN_CONTEXT, LIKELY

_PLACE = re.compile("|".join((*g.PROVINCES_ZH, *g.CITIES_ZH)))

_STREET = re.compile("[东西南北中]?(?:路|街|道|大道)")  # "南京东路" is in Shanghai

_HAN = r"[\u4e00-\u9fff]"
_ANY_HAN = re.compile(_HAN)
_COUNT = (
    r"(?:[甲乙丙丁]?\d{1,5}(?:[-—之/]\d{1,5}){0,3}[甲乙丙丁A-Za-z]?|[A-Z]\d{1,2}(?=[栋座幢])"
    r"|[一二三四五六七八九十百千零〇]{1,7})"
)
_UNIT = (
    r"(?:号楼|号院|号门|号|號|弄|栋|棟|幢|座|楼|樓|单元|單元|层|層|室|户|戶|门|房|铺|组|队|巷|院|#)"
)
_STRONG = (
    r"(?:路|街|大道|道|巷|弄|胡同|大街|村|屯|庄|花园|花園|小区|社区|新村|家园|公寓|大厦|大廈|"
    r"广场|廣場|中心|别墅|公馆|工业园|科技园|产业园|开发区|苑|名城|新城|国际|豪庭|嘉园|雅居|里|"
    r"园|城|府|湾|庭|坊|居|轩|郡|都|寨|镇|乡|塘|头|桥|区|场|店|门|口)"
)
_ANCHOR = re.compile(
    rf"{_STRONG}(?:[东西南北中]|[东西南北中一二三四五六七八九十]+[段区期路街巷]|\d{{1,2}}期|[A-Z]区|附近)?"
    rf"[ ]?(?:{_COUNT}[ ]?{_UNIT}(?!线|机|选手|球|公路|令|文|台风|病|染色体)"
    r"|\d{1,3}(?:-\d{1,3}){1,3}-\d{3,4}(?![\d-]))"
)
_NAMED = re.compile("路|街|大道|巷|弄|胡同|小区|花园|新村|公寓|大厦|广场|家园|村")
_TOWER = re.compile(r"[A-Z]座 ?\d{3,5}(?!\d)")  # 三里屯SOHO A座2305
_BUILDING = re.compile(
    r"(?:号楼|[栋棟幢]|单元|-\d{3,4}|座 ?\d{3,5})$"
)  # nothing else is counted so
_NOT_STREET = re.compile(
    "(?:铁路|公路|道路|线路|电路|网路|走路|思路|马路|半路|出路|套路|赛道|跑道|味道|知道|频道|"
    "渠道|管道|轨道|通道|隧道|行道|车道|报道|[这那哪心家院夜屋房店校班手嘴肚水海河湖井眼怀间]里|"
    "下场|上场|市场|农村|城镇|门口|路口|的店|医院|学院|法院|住院|全场|考场|房间)$"
)
_STOP = frozenset("在到是住的了址往把给寄送我你他她您们这那就也还请叫让找去说来，。：")
_BUT = {
    "于": "洪都田",
    "从": "化江",
    "至": "善诚",
    "来": "广安凤",
    "去": "",
    "到": "",
    "送": "",
    "住": "",
}
_BOUNDARY = re.compile(r"[^\u4e00-\u9fffA-Za-z0-9·()（）# -]|\d{6,}|\n")
_LEVEL_END = frozenset("省市区县州盟旗镇乡道路街村")
_TAIL_NAME = r"[^\s，。,.;；、:：！!？?的了在是有和与到电手联我你他她身邮这那收]{0,10}?"
_TAIL = re.compile(
    rf"(?:[ ,，]?{_TAIL_NAME}(?:(?:{_COUNT}|[A-Za-z]\d{{0,4}})[ ]?{_UNIT}"
    rf"|大厦|广场|中心|大楼|公寓|花园|小区|家园|[^\W\d_]{{2}}城|附\d{{1,4}}号)"
    rf"|(?<=[座楼栋幢元院号]) ?\d{{3,5}}(?!\d)){{1,6}}"
)
_ADMIN = re.compile(
    rf"(?:{'|'.join(g.PROVINCES_ZH)}|{_HAN}{{2,4}})(?:省|市|(?:{_HAN}{{0,4}}自治区))"
    rf"(?:{_HAN}{{2,5}}(?:市|自治州|地区|盟))?{_HAN}{{1,6}}?(?:区|县|旗|市)(?!人民|法院|政府|公安|检察|委)"
    rf"(?:{_HAN}{{1,6}}?(?:街道|镇|乡|苏木))?(?:{_HAN}{{1,8}}?(?:路|街|村|社区|小区|组|屯|大道|巷|园区|花园|苑))?"
)
_SAID = re.compile(
    r""
    r"(?:地址|住址|住所|居住地|户籍地|户籍所在地|户口所在地|籍贯|住处|现住|家住|住在|居住在|居住于|寄到|寄往|送到|送货到|定位|坐落于|位于)(?:[:：是为在]|于)?["
    r" ]?(?P<value>[\u4e00-\u9fffA-Za-z0-9·()（）#/-]{5,60})"
)
_PARTS = re.compile(
    r"省|市|区|县|镇|乡|村|路|街|巷|弄|号|栋|幢|楼|室|单元|小区|花园|苑|大厦|广场|公寓|家园|胡同|大道"
)


class ChineseAddressDetector:
    """Addresses from a province down to a door, in full or in part."""

    name = "address_zh"
    labels = frozenset[str]({Label.ADDRESS})
    BACK_CHARS = 48

    def detect(self, text: str) -> Iterator[Span]:
        """Streets and estates with a number, chains of districts, and what is called an address."""
        if text.isascii() or not _ANY_HAN.search(text):
            return
        for found in chain(_ANCHOR.finditer(text), _TOWER.finditer(text)):
            building = _BUILDING.search(found[0]) is not None
            tower = found.re is _TOWER  # the name ends before it, perhaps before a space
            anchor = found.start() - (tower + (tower and text[found.start() - 1] == " "))
            start = self._start(text, max(0, anchor), building)
            if start is None:
                continue
            tail = _TAIL.match(text, found.end())
            yield Span(start, tail.end() if tail else found.end(), Label.ADDRESS, LIKELY)
        if "区" in text or "县" in text or "市" in text:
            for found in _ADMIN.finditer(text):
                if sum(found[0].count(level) for level in "省市区县镇乡村路街") >= 3:
                    yield Span(*found.span(), Label.ADDRESS, IN_CONTEXT)
        for found in _SAID.finditer(text):
            value = found["value"]
            parts = _PARTS.findall(value)
            if len(parts) >= 2 and (any(char.isdigit() for char in value) or len(parts) >= 3):
                last = [part.end() for part in _PARTS.finditer(value)][-1]
                start = found.start("value")
                yield Span(start, start + last, Label.ADDRESS, IN_CONTEXT)

    def _start(self, text: str, anchor: int, building: bool) -> int | None:
        """Where the address begins that goes on with the street's word at `anchor`."""
        low = max(0, anchor - self.BACK_CHARS)
        window = text[low:anchor]
        cut = 0
        for boundary in _BOUNDARY.finditer(window):
            cut = boundary.end()
        for at in range(len(window) - 1, cut - 1, -1):
            char = window[at]
            following = text[low + at + 1]
            stops = char in _STOP or (char in _BUT and following not in _BUT[char])
            if stops or (char == " " and window[at - 1 : at] not in _LEVEL_END):
                cut = at + 1
                break
        name = window[cut:]
        place = next(
            (p for p in _PLACE.finditer(name) if not _STREET.match(name + text[anchor], p.end())),
            None,
        )
        if place is not None:
            return low + cut + place.start()
        strong = building or _NAMED.match(text, anchor)
        # "知道3号" and "医院里2楼" are no streets; a district before makes one of any.
        if _NOT_STREET.search(text[max(0, anchor - 2) : anchor + 1]) or len(name) < (
            2 if strong else 3
        ):
            return None
        if not strong and not any(level in name for level in "省市区县镇乡路街"):
            return None
        return low + cut
