"""How much of a device's draft the cloud's model lets stand. Pure.

The draft comes as text. The backend tokenizes it for its model, behind the conversation and the
answer so far, and tells the log-probability of each of its tokens, all from one prefill. It stands
up to the first token that is bad, and there up to the last end of a word: a part of a word would
make the model go on from tokens that it never saw in training, and the device's tokenizer parts
words elsewhere. One that is good to its end stands whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from isthmus.core.events import DraftVerdict

LEAST_LOGPROB: Final = math.log(0.09)
"""A token that the model gives less is bad, unless it is the one that it would have written: the
threshold of Medusa's typical acceptance (arXiv 2401.10774, section 2.3.1), without the entropy,
which no upstream tells of a prompt's tokens."""


@dataclass(frozen=True, slots=True)
class JudgedToken:
    """A token of a draft, as the cloud's model sees it."""

    end: int
    """Where it ends, in characters of the draft. A token that ends inside a character has the end
    of the whole characters before it."""
    logprob: float
    """Natural logarithm of its probability where it stands."""
    best: bool = False
    """The model finds none likelier."""

    @property
    def good(self) -> bool:
        """Whether it may stand."""
        return self.best or self.logprob >= LEAST_LOGPROB  # NaN is not


def judged(
    draft: str, tokens: Sequence[JudgedToken], *, most_tokens: int | None = None
) -> DraftVerdict:
    """What stands of `draft`, whose tokens are `tokens`, at most `most_tokens` of them."""
    good = 0
    for token in tokens[:most_tokens]:
        if not token.good:
            break
        good += 1
    whole = good == len(tokens) and bool(tokens) and tokens[-1].end == len(draft)
    while good and not whole and not _may_part(draft, tokens, good):
        good -= 1
    end = tokens[good - 1].end if good else 0
    return DraftVerdict(True, len(draft[:end].encode()), good, len(tokens))


def ends_of(raw: Sequence[bytes], draft: str) -> list[int] | None:
    """Where each of the last tokens ends in `draft`, which ends with the last of them.

    `raw` are the bytes of the tokens that the whole text ends with, more than the draft's or just
    those. The first one that counts may begin before the draft. None when they do not end with it.
    """
    wanted = draft.encode()
    count, length = 0, 0
    while length < len(wanted) and count < len(raw):
        count += 1
        length += len(raw[-count])
    if not count or not b"".join(raw[-count:]).endswith(wanted):
        return None
    ends = accumulate((len(token) for token in raw[-count:]), initial=len(wanted) - length)
    return [len(wanted[: max(0, end)].decode(errors="ignore")) for end in list(ends)[1:]]


def _may_part(draft: str, tokens: Sequence[JudgedToken], count: int) -> bool:
    """Whether `draft` may be parted behind the first `count` of its tokens."""
    end = tokens[count - 1].end
    if end == (tokens[count - 2].end if count > 1 else 0):
        return False  # inside of a character
    if end == len(draft):
        return True
    before, after = draft[end - 1], draft[end]
    return not before.isspace() and not (_in_word(before) and _in_word(after))


def _in_word(char: str) -> bool:
    # Chinese, Japanese and Korean words have no spaces between them: every character ends one.
    return (char.isalnum() or char in "_'’-") and char < "\u2e80"
