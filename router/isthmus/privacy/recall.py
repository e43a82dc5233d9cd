"""Remembering what was found in a text: a conversation comes whole again with each of its turns."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict

from isthmus.privacy.base import Span
from isthmus.privacy.scan import TextScanner
from isthmus.privacy.scanner import check_stopped

_MOST_TEXTS = 4096

_Found = tuple[tuple[Span, ...], frozenset[str]]


class Recall:
    """A scanner that reads a text once. It keeps offsets and labels under a keyed hash, no text.

    At most `_MOST_TEXTS` texts and `span_capacity` spans: a few megabytes of a log hold 100,000.
    """

    def __init__(self, scanner: TextScanner, *, span_capacity: int = 1 << 18) -> None:
        self._scanner = scanner
        self._span_capacity = span_capacity
        self._spans = 0
        self._key = secrets.token_bytes(32)
        self._found: OrderedDict[bytes, _Found] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, text: str) -> tuple[Span, ...]:
        """What is sensitive in `text`. Raises what the scanner raises, and `ScanStopped`."""
        return self._look(text)[0]

    def blind_to(self, text: str) -> frozenset[str]:
        """The labels that nothing here would see in `text`."""
        return self._look(text)[1]

    def _look(self, text: str) -> _Found:
        raw = text.encode("utf-8", "surrogatepass")
        key = hashlib.blake2b(raw, key=self._key, digest_size=16).digest()
        with self._lock:
            known = self._found.get(key)
            if known is not None:
                self._found.move_to_end(key)
                return known
        check_stopped()
        found = tuple(self._scanner.find(text)), self._scanner.blind_to(text)
        with self._lock:
            if key not in self._found:  # another thread may have read it too
                self._found[key] = found
                self._spans += len(found[0])
            while len(self._found) > _MOST_TEXTS or self._spans > self._span_capacity:
                _, (spans, _) = self._found.popitem(last=False)
                self._spans -= len(spans)
        return found
