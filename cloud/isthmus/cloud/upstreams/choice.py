"""Which upstream a request goes to. Pure but for chance.

A conversation has a favourite, by weighted rendezvous hashing (Schindelhauer and Schomaker 2005):
its beginning is in that one's prefix cache, and when upstreams come or go few conversations move.
The favourite is left when it has more than its share of the load (consistent hashing with bounded
loads, arXiv 1608.01350); then, and where nothing is sticky, the less loaded of two random ones is
taken (the power of two choices, Mitzenmacher 2001).
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from isthmus.core.chat import ChatRequest, Role

_MORE_THAN_SHARE: Final = 1.25
_SLACK: Final = 2.0
"""Requests above its share that a favourite may have besides: few requests at all are no load."""
_PREFIX_CHARS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Candidate:
    """An upstream as the choice sees it."""

    key: str
    """Its name for hashing, the same in every gateway."""
    load: float
    """Requests that it has now."""
    weight: float = 1.0
    """Its share beside the others', above 0."""


def choose(candidates: Sequence[Candidate], prefix: bytes | None, rng: random.Random) -> int:
    """Where in `candidates`, of which there must be one, the choice is."""
    if len(candidates) == 1:
        return 0
    if prefix is not None:
        best = max(range(len(candidates)), key=lambda i: _score(candidates[i], prefix))
        if not _overloaded(candidates, best):
            return best
        others = [i for i in range(len(candidates)) if i != best]
    else:
        others = list(range(len(candidates)))
    pair = rng.sample(others, 2) if len(others) > 1 else others
    return min(pair, key=lambda i: (candidates[i].load + 1) / candidates[i].weight)


def prefix_of(request: ChatRequest) -> bytes:
    """What tells the conversation of `request`: its messages up to the first of the user's.

    The same for all its turns. Tenants are parted, as their caches are.
    """
    digest = hashlib.blake2b(request.cache_salt.encode(), digest_size=16)
    left = _PREFIX_CHARS
    for message in request.messages:
        text = message.text[:left]
        left -= len(text)
        digest.update(f"\0{message.role}\0{text}".encode(errors="surrogatepass"))
        if message.role is Role.USER or left <= 0:
            break
    return digest.digest()


def _score(candidate: Candidate, prefix: bytes) -> float:
    digest = hashlib.blake2b(candidate.key.encode(), key=prefix, digest_size=8).digest()
    # Above 0 and below 1, as the logarithm needs it.
    share = (int.from_bytes(digest) + 0.5) / 2**64
    return -candidate.weight / math.log(min(share, 1 - 2**-53))


def _overloaded(candidates: Sequence[Candidate], index: int) -> bool:
    one = candidates[index]
    weight = sum(candidate.weight for candidate in candidates)
    load = sum(candidate.load for candidate in candidates) + 1
    return one.load + 1 > _MORE_THAN_SHARE * load * one.weight / weight + _SLACK
