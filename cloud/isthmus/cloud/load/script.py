"""The scripted answer: every token can be told from every other, so each one can be accounted for.

The answer to the mark `m-7` is `m-7 1 2 3 …`: its first token names the request, the others count.
A token that is missing, said twice or of another request's answer shows in the text alone, whatever
its way was: gRPC or HTTP, in one stream or in several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from isthmus.core.chat import ChatRequest, Message, Role, TextPart


@dataclass(frozen=True, slots=True)
class Flaws:
    """What is wrong with a text, in tokens."""

    lost: int = 0
    doubled: int = 0
    strange: int = 0
    """Of no place in this answer, or in the wrong order."""

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.strange)


def prompt_of(mark: str) -> tuple[Message, ...]:
    """The conversation whose scripted answer begins with `mark` (no space in it)."""
    return (Message(Role.USER, (TextPart(f"count for {mark}"),)),)


def mark_of(request: ChatRequest) -> str:
    """The mark that a conversation asks for: the last word of its last turn of the user."""
    spoken = [turn.text for turn in request.messages if turn.role is Role.USER]
    return mark_in(spoken[-1] if spoken else "")


def mark_in(text: str) -> str:
    """The last word of a turn; `answer` where there is none."""
    return text.rsplit(None, 1)[-1] if text.strip() else "answer"


def token(mark: str, number: int) -> str:
    """Token `number`, from 0, of the answer to `mark`."""
    return f" {number}" if number else mark


def text(mark: str, tokens: int) -> str:
    """The first `tokens` tokens."""
    return "".join(token(mark, number) for number in range(tokens))


def rest(mark: str, said: str, tokens: int) -> Iterator[str]:
    """`tokens` further tokens behind `said`. Raises `ValueError` when `said` is another answer's.

    A text that was cut inside a token goes on with the rest of that token.
    """
    begun = said.count(" ") + 1 if said else 0
    so_far = text(mark, begun)
    if not so_far.startswith(said):
        raise ValueError("not the start of this answer")
    cut = so_far[len(said) :]
    if cut and tokens:
        yield cut
        tokens -= 1
    for number in range(begun, begun + tokens):
        yield token(mark, number)


def flaws(mark: str, tokens: int, heard: str, *, whole: bool = True) -> Flaws:
    """Compare `heard` with the first `tokens` tokens; without `whole` it may end before them."""
    expected = text(mark, tokens)
    if heard == expected or (not whole and expected.startswith(heard)):
        return Flaws()
    came = Counter(heard.split(" "))
    right = set(expected.split(" "))
    strange = sum(count for word, count in came.items() if word not in right)
    doubled = sum(count - 1 for word, count in came.items() if word in right)
    lost = sum(word not in came for word in right) if whole else 0
    # All there and each once, and yet not the same: their order is wrong.
    return Flaws(lost, doubled, strange if strange or doubled or lost else 1)
