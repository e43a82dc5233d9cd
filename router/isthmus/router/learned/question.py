"""A prompt taken apart: what is asked, the options it offers, the tools it names."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD_BYTES, TAIL_BYTES = 1_400, 1_000
"""What is read of a long prompt: what it is about stands first, what it asks stands last. In bytes
of UTF-8, since a Chinese character says, and costs, as much as a word's half."""

TOKEN = re.compile(r"[a-z]+(?:['’-][a-z]+)*|\d+(?:[.,]\d+)*|[^\sa-z0-9]")
OPTION = re.compile(r"^[ \t]{0,4}\(?([A-Pa-p])[.):、．][ \t]{0,4}(\S.{0,400}|)$", re.MULTILINE)
INLINE_OPTION = re.compile(r"[(（]([A-Pa-p])[)）][ \t]{0,4}([^()（）\n]{1,200})")
TOOLS = re.compile(r"^\[tools\][ \t]*(.{0,400})$", re.MULTILINE)
ANSWER_FORM = re.compile(
    r"^(?:(?P<cue>answer:?|答案[:：]?)"
    r"|(?P<bare>(?:print only|answer with|give only|answer in|reply with) .{0,120})"
    r"|(?P<reasoned>after careful thought, .{0,120}|let'?s think step by step.?|请一步.{0,40})"
    r")[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
"""Lines that say how to answer: a cue, an answer without its reasons, or one with them."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt's parts; tokens are words, numbers and single marks in lower case."""

    text: str
    """What was read, without the form of the answer and the names of tools."""
    stem: str
    """The text before the options."""
    stem_tokens: tuple[str, ...]
    options: tuple[str, ...]
    option_tokens: tuple[tuple[str, ...], ...]
    tools: tuple[str, ...]
    forms: frozenset[str]
    """The groups of `ANSWER_FORM` that the prompt has."""
    chars: int
    """The length of the whole prompt, what was not read included."""


def parse(prompt: str) -> Question:
    """`prompt` taken apart; of a long one, its start and its end."""
    text = read_of(prompt)
    forms = frozenset(found.lastgroup for found in ANSWER_FORM.finditer(text) if found.lastgroup)
    text = (ANSWER_FORM.sub("", text) if forms else text).strip()
    tools: tuple[str, ...] = ()
    if found := TOOLS.search(text):
        tools = tuple(name.strip() for name in found[1].split(",") if name.strip())
        text = text[: found.start()].strip()
    stem, options = _options(text)
    return Question(
        text=text,
        stem=stem,
        stem_tokens=_tokens(stem),
        options=options,
        option_tokens=tuple(map(_tokens, options)),
        tools=tools,
        forms=forms,
        chars=len(prompt),
    )


def read_of(prompt: str) -> str:
    """`prompt`, or of a long one its start and its end."""
    head, tail = prompt[:HEAD_BYTES], prompt[-TAIL_BYTES:]
    if len(prompt) <= HEAD_BYTES + TAIL_BYTES and (
        prompt.isascii() or len(_utf8(prompt)) <= HEAD_BYTES + TAIL_BYTES
    ):
        return prompt
    start = _utf8(head)[:HEAD_BYTES].decode("utf-8", "ignore")
    end = _utf8(tail)[-TAIL_BYTES:].decode("utf-8", "ignore")
    return f"{start}\n{end}"


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _options(text: str) -> tuple[str, tuple[str, ...]]:
    """The stem and the options of `text`: the last run of lines, else of marks, that counts A, B …

    A single letter is no choice, and its line belongs to the stem.
    """
    for pattern in (OPTION, INLINE_OPTION):
        run: list[re.Match[str]] = []
        for match in pattern.finditer(text):
            at = ord(match[1].upper()) - ord("A")
            if at == 0:
                run = [match]
            elif run and at == len(run):
                run.append(match)
        if len(run) >= 2:
            return text[: run[0].start()].strip(), tuple(m[2].strip() for m in run)
    return text, ()


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(TOKEN.findall(text.lower()))
