"""The scanner: detectors over a text of any length, and what they leave unseen."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from isthmus.privacy.base import Detector, Label, Span
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.normalise import normalise

CHUNK_CHARS = 32_768
"""What is read at once. A detector holds the interpreter for as long as one of its searches takes:
milliseconds for so much text, seconds for a few megabytes."""

BEFORE_CHARS, AFTER_CHARS = 1_024, 7_168
"""How far a chunk reaches beyond its own part: context before a value, and the longest value (the
private key of 8,192-bit RSA) that begins at the part's end."""


class ScanStopped(Exception):
    """Nobody waits for the scan any more; nothing is known of the text."""


def _never() -> bool:
    return False


_stopped: ContextVar[Callable[[], bool]] = ContextVar("stopped", default=_never)


@contextmanager
def scans_stop_when(stopped: Callable[[], bool]) -> Iterator[None]:
    """Scans that begin within, in threads started from here too, end soon after `stopped()`.

    A thread cannot be stopped from outside. How long a scan may take is its caller's to say.
    """
    token = _stopped.set(stopped)
    try:
        yield
    finally:
        _stopped.reset(token)


def check_stopped() -> None:
    """Raise `ScanStopped` when the scan that this is a part of is to end."""
    if _stopped.get()():
        raise ScanStopped


WRITING = {
    "zh": re.compile(r"[\u3400-\u9fff]"),
    "en": re.compile(r"[A-Za-z\u00aa-\u024f](?<![×÷])"),
    # Two characters of any other script, three of Greek: formulas and emoticons have single ones.
    "other": re.compile(
        r"[\u0370-\u03ff\u1f00-\u1fff]{3}"
        r"|(?:(?!\d)[\u0400-\u1dff\u2c00-\u2dff\u3040-\u30ff\u3105-\u31bf\ua000-\ud7ff\ufb1d-\ufdff"
        r"\ufe70-\ufefc\uff66-\uff9d\uffa1-\uffdc\U00010000-\U0001bfff\U0001e000-\U0001efff]){2}"
    ),
}
"""What tells that a text has words in a language, or, `other`, in a script that is in neither."""


@dataclass(frozen=True, slots=True)
class Blind:
    """Labels that no detector at hand sees in one language, and what would cure it or why."""

    labels: frozenset[str]
    language: str
    cure: str

    def concerns(self, text: str) -> bool:
        """Whether `text` has words in what that language is written in: `WRITING`."""
        return WRITING[self.language].search(text) is not None


class Scanner:
    """Finds the sensitive spans of texts. Threads may share one."""

    def __init__(
        self,
        detectors: Sequence[Detector] = STRUCTURED,
        blind: Sequence[Blind] = (),
    ) -> None:
        self._detectors = tuple(detectors)
        self.blind = tuple(blind)

    @property
    def labels(self) -> frozenset[str]:
        """Every label that a detector of this scanner may give."""
        return frozenset().union(*(detector.labels for detector in self._detectors))

    def blind_to(self, text: str) -> frozenset[str]:
        """The labels that may be in `text` and that nothing here would see."""
        return frozenset().union(*(b.labels for b in self.blind if b.concerns(text)))

    def scan(self, text: str) -> tuple[Span, ...]:
        """The sensitive spans of `text`, in order and without overlaps, in its own offsets.

        Raises what a detector raises, and `ScanStopped`.
        """
        return resolve(self.find(text), len(text))

    def find(self, text: str) -> tuple[Span, ...]:
        """What any detector finds in `text`, overlaps too: a milder label hides no stricter one.

        Raises what a detector raises, and `ScanStopped`.
        """
        found: list[Span] = []
        for chunk in _chunks(len(text)):
            normalised = normalise(text[chunk.start : chunk.end])
            for detector in self._detectors:
                spans = map(normalised.original, detector.detect(normalised.text))
                found += chunk.own(spans)
                check_stopped()
            if chunk.end < len(text):
                time.sleep(0)  # let other threads run, the event loop's among them
        return tuple(sorted(set(found)))


class _Chunk(NamedTuple):
    """`text[start:end]` is read for the spans that begin in `text[own_start:own_end]`."""

    start: int
    end: int
    own_start: int
    own_end: int

    def own(self, spans: Iterable[Span]) -> Iterator[Span]:
        """Those of `spans`, in the chunk's offsets, that are this chunk's to tell of."""
        # The chunk before read up to here: of a longer value, the rest is this one's.
        unread = self.own_start + AFTER_CHARS if self.start else 0
        for span in spans:
            start, end = self.start + span.start, self.start + span.end
            if start < self.own_start and end > unread:
                start = unread
            if self.own_start <= start < max(self.own_end, unread + 1):
                yield Span(start, end, span.label, span.score)


def _chunks(length: int) -> Iterator[_Chunk]:
    if length <= CHUNK_CHARS:
        yield _Chunk(0, length, 0, length)
        return
    step = CHUNK_CHARS - BEFORE_CHARS - AFTER_CHARS
    for own_start in range(0, length, step):
        own_end = min(own_start + step, length)
        start, end = max(0, own_start - BEFORE_CHARS), min(length, own_end + AFTER_CHARS)
        yield _Chunk(start, end, own_start, own_end)


_PUBLIC = frozenset[str]({Label.LOCATION, Label.ORG})
"""Most policies let these pass: a password must not pass as an organisation's name."""


def resolve(spans: Iterable[Span], length: int) -> tuple[Span, ...]:
    """`spans` of a text of `length` characters without overlaps, in order.

    Where two overlap, what is public by itself gives way, then the higher score wins, then the
    longer. Of the one that loses, a remainder of at least half is kept: what it covers should not
    go uncovered.
    """
    taken = bytearray(length)
    kept = []
    for span in sorted(
        spans, key=lambda s: (s.label in _PUBLIC, -s.score, s.start - s.end, s.start, s.label)
    ):
        start, end = _longest_free(taken, span.start, span.end)
        if (end - start) * 2 >= span.end - span.start and end > start:
            taken[start:end] = b"\1" * (end - start)
            kept.append(Span(start, end, span.label, span.score))
    return tuple(sorted(kept))


def _longest_free(taken: bytearray, start: int, end: int) -> tuple[int, int]:
    """The longest run of `taken[start:end]` that is zero."""
    best = (start, start)
    while start < end:
        stop = taken.find(1, start, end)
        stop = end if stop < 0 else stop
        if stop - start > best[1] - best[0]:
            best = (start, stop)
        start = taken.find(0, stop, end) if stop < end else end
        if start < 0:
            break
    return best
