"""Labels of metrics that callers choose: bounded in number and form, the rest is `other`."""

from __future__ import annotations

import re
from collections.abc import Iterable

OTHER = "other"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}")


class Bounded:
    """The first `most` names that come, `known` ones always; every further one is `other`."""

    def __init__(self, most: int, known: Iterable[str] = ()) -> None:
        self._known = frozenset(known)
        self._seen: set[str] = set()
        self._most = most

    def __call__(self, name: str) -> str:
        """The label for `name`."""
        if name in self._known or name in self._seen:
            return name
        if len(self._seen) >= self._most or not _SAFE.fullmatch(name):
            return OTHER
        self._seen.add(name)
        return name


def only(name: str, known: frozenset[str]) -> str:
    """`name` if it is one of `known`, else `other`."""
    return name if name in known else OTHER
