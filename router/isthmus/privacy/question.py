"""Whether a task can still be solved when the values in it are placeholders. A simple rule.

It cannot, and the request stays on the device, when

1. the last thing that the user says asks for what only the value itself shows: how it is spelt, its
   digits, its region, whether it is valid, who someone is (`ABOUT_THE_VALUE`);
2. or it has hardly a word besides the values: fewer than three words, or four Chinese characters;
3. or it asks what is known of a person (`ABOUT_A_PERSON`) in fewer than twelve words, or sixteen
   Chinese characters, and not for something of the user's own (`ONES_OWN`);
4. or it asks to translate or convert (`CONVERTS`) what is for the most part values, or has fewer
   than five words, or eight Chinese characters, besides them.
"""

from __future__ import annotations

import re

from isthmus.core.chat import ChatRequest, Role

ABOUT_THE_VALUE = re.compile(
    r"\b(?:(?:area|country|dialling|zip|postal|bank|sort) code|check ?(?:digit|sum)|luhn"
    r"|how many (?:digits|letters|characters|syllables)|spell(?:ed|t|ing)?\b(?! ?check)"
    r"|(?:first|last) (?:two|three|four|five|six|\d) (?:digits|letters|characters)|digit sum"
    r"|initials?|anagram|palindrome|rhymes?|pronounce\w*|backwards?|in reverse|syllables"
    r"|(?:which|what) (?:country|state|province|region|city|bank|issuer|carrier|provider|network)"
    r"|(?:is|are|was) (?:this|that|it|the|my|these)\b[^.?!\n]{0,60}\b(?:valid|correct|real|genuine)"
    r"|born (?:in|on)|(?:date of birth|birth ?day|age) (?:of|from))"
    r"|归属地|区号|校验|有效|合法|正确吗|几位|怎么[读念写]|拼音|笔画|首字母|前.{0,2}位|[后末]四位"
    r"|哪个?(?:省|市|国家?|银行|地区|运营商)|谁是|是谁|哪里人|倒过来|倒序|生日"
    r"|(?:^|[.?!:]\s*|\b(?:tell me|know|say|explain) )"
    r"(?:who(?: is| was|'s| are| were)|whose)\b|谁的",
    re.IGNORECASE | re.MULTILINE,
)
CONVERTS = re.compile(
    r"\b(?:translat|transliterat|convert|encod|decod|hash|format|normali[sz])\w*"
    r"|翻译|译成|转换|转成|编码|解码|格式化",
    re.IGNORECASE,
)
ABOUT_A_PERSON = re.compile(
    r"^\W*(?:please )?(?:tell me (?:more )?about|what|when|where|which|why|how|did|does|do|has|is"
    r"|was|are|were|describe|explain|(?:give me|write) a (?:short )?(?:biography|summary))\b"
    r"|介绍|什么时候|哪一?年|何时|出生|代表作|生平|什么人|做过什么|写过",
    re.IGNORECASE,
)
ONES_OWN = re.compile(
    r"\b(?:i|i'm|i've|my|mine|we|our|us|(?<!tell )(?<!give )me)\b|我", re.IGNORECASE
)
_PERSON = re.compile(r"\[PERSON_[a-z]\d[a-z]\d\]")
_PLACEHOLDER = re.compile(r"\[[A-Z][A-Z0-9_]*_[a-z]\d[a-z]\d\]")
_WORD = re.compile(r"[^\W\d_\u3400-\u9fff]{2,}")
_HAN = re.compile(r"[\u3400-\u9fff]")


def is_about_values(request: ChatRequest, redacted: ChatRequest) -> bool:
    """Whether `redacted`, which is `request` with placeholders in it, asks for what they hide."""
    asked, shown = _last_question(request), _last_question(redacted)
    if ABOUT_THE_VALUE.search(asked):
        return True
    if asked == shown:
        return False
    rest = _PLACEHOLDER.sub(" ", shown)
    words, han = len(_WORD.findall(rest)), len(_HAN.findall(rest))
    if words < 3 and han < 4:
        return True
    about_a_person = _PERSON.search(shown) is not None and ABOUT_A_PERSON.search(rest)
    if about_a_person and words < 12 and han < 16 and not ONES_OWN.search(rest):
        return True
    size, left = len("".join(asked.split())), len("".join(rest.split()))
    mostly_values = 2 * (size - left) >= size or (words < 5 and han < 8)
    return mostly_values and CONVERTS.search(rest) is not None


def _last_question(request: ChatRequest) -> str:
    return next((m.text for m in reversed(request.messages) if m.role is Role.USER), "")
