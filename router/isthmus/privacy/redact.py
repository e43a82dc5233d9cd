"""Swapping values for placeholders in every text of a request. Pure but for the vault it fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.core.chat import ChatRequest
from isthmus.privacy.base import Span
from isthmus.privacy.fields import FixedField, Passage, Place, ScanText, map_texts, spans_of
from isthmus.privacy.known import Haystack
from isthmus.privacy.placeholder import code_of, codes_in
from isthmus.privacy.question import is_about_values
from isthmus.privacy.seams import between_messages
from isthmus.privacy.vault import Vault

LOOKALIKE = "TEXT"
"""The label of text that looks like a placeholder: it is swapped for one itself."""


class AsksForValues(Exception):
    """The value is the question: with a placeholder in its place there is nothing to answer."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """A request as it may leave. `labels` counts the placeholders in it, `codes` are theirs."""

    request: ChatRequest
    labels: Mapping[str, int] = field(default_factory=dict)
    codes: frozenset[str] = frozenset()


def redact(
    request: ChatRequest, vault: Vault, scan: ScanText, redacts: Callable[[str], bool]
) -> Redacted:
    """`request` with every value of the labels that `redacts` accepts, and every value that the
    vault knows already, as a placeholder.

    Raises `FixedField` when a value stands where no placeholder may, `AsksForValues`,
    `UnscannedField`, `VaultFull`, and what `scan` raises. The request has to stay then.
    """
    if any(redacts(label) for _, label in between_messages(request)):
        raise FixedField(Place.CONTENT)  # no message holds the value, so none its placeholder
    marking = _Marking(vault, scan, redacts)
    map_texts(request, marking.collect)
    marking.fill()
    swapping = _Swapping(vault, marking)
    changed = map_texts(request, swapping.change)
    _check_stops(request, changed, vault)
    if changed != request and is_about_values(request, changed):
        raise AsksForValues
    return Redacted(changed, dict(swapping.labels), frozenset(swapping.codes))


class _Marking:
    """The first walk: every value of the request goes into the vault, whichever field it is in."""

    def __init__(self, vault: Vault, scan: ScanText, redacts: Callable[[str], bool]) -> None:
        self._vault = vault
        self._scan = scan
        self._redacts = redacts
        self._forms = vault.forms()
        self._values: list[tuple[str, str]] = []
        self.unlike: set[str] = set()
        self.spans: list[list[Span]] = []
        """Of each passage, in the order of the walk."""

    def collect(self, passage: Passage) -> Sequence[str]:
        text = passage.joined
        # United after the choice: what may leave hides nothing that may not.
        found = spans_of(passage, self._scan)
        spans = _united(span for span in found if self._redacts(span.label))
        if not passage.read:
            spans += self._lookalikes(text)
        self.unlike |= codes_in(text)
        ranges = passage.ranges
        for span in spans:
            # Over a seam that nothing marks a value is one; otherwise each text has its own.
            parts = [(span.start, span.end)] if passage.seamless else _within(span, ranges)
            self._values += ((span.label, text[start:end]) for start, end in parts)
        if not passage.read:
            self.spans.append(spans)
        return passage.texts

    def fill(self) -> None:
        """Give each value its placeholder; none that the request holds already."""
        for label, value in self._values:
            self._vault.add(label, value, unlike=self.unlike)

    def _lookalikes(self, text: str) -> Iterable[Span]:
        """What would be taken for a placeholder of this conversation when it comes back."""
        found = self._forms.find(text) if self._forms else None
        while found is not None and self._forms is not None:
            start, end, _ = found
            yield Span(start, end, LOOKALIKE, 1.0)
            found = self._forms.find(text, end)


class _Swapping:
    """The second walk: what was marked, and every value that is known, gives way."""

    def __init__(self, vault: Vault, marking: _Marking) -> None:
        self._vault = vault
        self._keys = vault.keys
        self._unlike = marking.unlike
        self._spans = iter(marking.spans)
        self.labels: Counter[str] = Counter()
        self.codes: set[str] = set()

    def change(self, passage: Passage) -> Sequence[str]:
        text = passage.joined
        # A reading is one of the text as it is by now: what is known tells whether it is clean.
        spans = [] if passage.read else next(self._spans)
        if self._keys:
            spans += self._known(passage.place, text)
            if passage.place is Place.ANSWER_SO_FAR and len(passage.texts) > 1:
                # The draft may be dropped, and then this is where the answer goes on.
                self._known(passage.place, passage.texts[0])
        if not spans:
            return passage.texts
        ranges = passage.ranges
        cuts: list[list[tuple[int, int, str]]] = [[] for _ in passage.texts]
        for span in _united(spans):
            first = True
            for index, (start, end) in enumerate(ranges):
                low, high = max(start, span.start), min(end, span.end)
                if low >= high:
                    continue
                if passage.place is Place.ANSWER_SO_FAR and span.start < start:
                    # The part that stands would hold more than was said, and the rest less.
                    raise FixedField(passage.place)
                # A value over a seam stands whole in its first text, and is cut from the next.
                whole = text[span.start : span.end] if passage.seamless else text[low:high]
                shown = self._placeholder(span.label, whole) if first else ""
                first = not passage.seamless
                cuts[index].append((low - start, high - start, shown))
        return [_cut(old, places) for old, places in zip(passage.texts, cuts, strict=True)]

    def _known(self, place: Place, text: str) -> list[Span]:
        haystack = Haystack(text)
        spans = []
        for start, end, key in haystack.find(self._keys):
            label, _ = self._vault.entry(self._keys[key])
            spans.append(Span(start, end, label, 1.0))
        breaks_off = haystack.unfinished(self._keys)
        if breaks_off is not None:
            if place is Place.ANSWER_SO_FAR:
                raise FixedField(place)  # whoever goes on would have to know how it ends
            if place is Place.CONTENT:
                spans.append(Span(breaks_off, len(text), LOOKALIKE, 1.0))
        return spans

    def _placeholder(self, label: str, value: str) -> str:
        self.labels[label] += label != LOOKALIKE
        placeholder = self._vault.add(label, value, unlike=self._unlike)
        self.codes.add(code_of(placeholder))
        return placeholder


def _within(span: Span, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of a span that are in some ranges."""
    parts = ((max(start, span.start), min(end, span.end)) for start, end in ranges)
    return [(start, end) for start, end in parts if start < end]


def _united(spans: Iterable[Span]) -> list[Span]:
    """Spans that overlap as one, under the label of the longest."""
    united: list[Span] = []
    longest = 0
    for span in sorted(spans):
        length = span.end - span.start
        if not united or span.start >= united[-1].end:
            united.append(span)
            longest = length
            continue
        last = united[-1]
        label = span.label if length > longest else last.label
        longest = max(longest, length)
        united[-1] = Span(last.start, max(last.end, span.end), label, last.score)
    return united


def _cut(text: str, places: Iterable[tuple[int, int, str]]) -> str:
    pieces: list[str] = []
    at = 0
    for start, end, shown in places:
        pieces += (text[at:start], shown)
        at = end
    return "".join((*pieces, text[at:]))


def _check_stops(request: ChatRequest, changed: ChatRequest, vault: Vault) -> None:
    """A text that ends the answer must not end it inside of a placeholder, or of a value."""
    stops, values = request.sampling.stop, vault.values
    shown = [vault.entry(code)[1].casefold() for code in values]
    for stop in stops:
        touches = any(stop in value for value in values.values())
        touches = touches or any(stop.casefold() in placeholder for placeholder in shown)
        if touches or changed.sampling.stop != stops:
            raise FixedField(Place.STOP)
