"""What a conversation asks: the text that is rated.

Mostly the last user message. One that only says "yes", "continue" or "继续" asks for what went
before: it is rated as the message that it follows, with the offer that the answer closed with.
Names of the tools that are offered follow on a line of their own, as labelled questions have them.
"""

from __future__ import annotations

import re

from isthmus.core.chat import ChatRequest, Message, Role, ToolChoice

MAX_CHARS = 20_000
"""What is taken of a message, in characters; of that, `question.parse` reads a part."""
FOLLOW_UP_CHARS = 60
"""A longer message says for itself what it asks."""
_WORDS = frozenset((
    "yes", "yeah", "yep", "yup", "no", "nope", "ok", "okay", "k", "sure", "right", "correct",
    "exactly", "continue", "go", "on", "more", "proceed", "keep", "going", "next", "again",
    "another", "one", "please", "thanks", "thank", "you", "and", "so", "then", "do", "it",
    "that", "this", "try", "retry", "redo", "finish", "why", "how", "what", "else", "really",
    "i", "agree", "sounds", "good", "great", "perfect", "fine", "explain", "elaborate",
    "expand", "further", "in", "detail", "shorter", "longer", "simpler", "the", "rest", "of",
    "carry", "ahead", "with",
))  # fmt: skip
_CHINESE = re.compile(
    r"(?:继续|接着|往下|说下去|然后呢?|下一[个步]|再来[一个]*|再[说写做]一[遍次个]|重新?来|重试|好[的吧]?"
    r"|是[的吧啊]?|对[的啊]?|嗯+|可以|行|不[是对行]?|没错|为什么|怎么[做说]?|还有[吗呢]?"
    r"|详细[一点些说]*|请|吧|呢|了|谢谢你?|[，。！？、\s])+"
)
_TOKEN = re.compile(r"[^\W\d_]+")


def is_follow_up(text: str) -> bool:
    """Whether `text` says nothing of its own, but asks for what went before."""
    text = text.strip().lower()
    if not text:
        return True
    if len(text) > FOLLOW_UP_CHARS:
        return False
    if not text.isascii() and _CHINESE.fullmatch(text):
        return True
    words = _TOKEN.findall(text)
    return bool(words) and _WORDS.issuperset(words) and not any(c.isdigit() for c in text)


def asked(request: ChatRequest) -> str:
    """The text to rate `request` by; empty when no user has said anything."""
    texts = [
        (at, message.text[:MAX_CHARS])
        for at, message in enumerate(request.messages)
        if message.role is Role.USER
    ]
    text = texts[-1][1] if texts else ""
    for at, said in reversed(texts):
        if not is_follow_up(said):
            text = said
            if at != texts[-1][0]:
                text += _offer(request.messages[texts[-1][0] - 1])
            break
    if request.tools and request.tool_choice is not ToolChoice.NONE:
        text += "\n[tools] " + ", ".join(tool.name for tool in request.tools)
    return text


def _offer(message: Message) -> str:
    """The question that an answer ends with, on a line of its own."""
    end = message.text[-400:].rstrip()
    if message.role is not Role.ASSISTANT or not end.endswith(("?", "？")):
        return ""
    return "\n" + re.split(r"(?<=[.!?。！？\n])\s*", end[:-1])[-1] + end[-1]
