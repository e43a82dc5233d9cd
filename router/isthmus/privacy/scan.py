"""Scanning a text, and everything of a request that would leave the device. Fails closed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from isthmus.core.chat import ChatRequest, PrivacyClass
from isthmus.privacy.base import Detector, Span
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.fields import Passage, map_texts, spans_of
from isthmus.privacy.policy import Policy
from isthmus.privacy.scanner import Scanner, resolve
from isthmus.privacy.seams import between_messages

log = logging.getLogger(__name__)


class TextScanner(Protocol):
    """What reads texts: `isthmus.privacy.scanner.Scanner`."""

    def find(self, text: str) -> Sequence[Span]:
        """What is sensitive in `text`, overlaps too. May raise: the request stays then."""
        ...

    def blind_to(self, text: str) -> frozenset[str]:
        """The labels that may be in `text` and that nothing here would see."""
        ...


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found: classes and counts, never text."""

    privacy_class: PrivacyClass
    labels: Mapping[str, int] = field(default_factory=dict)
    """How many spans of each label."""
    failed: bool = False
    """A detector failed or a part could not be read: the class is then `UNKNOWN`."""
    redactable: bool = True
    """False: the class is `SENSITIVE` because no placeholder may stand for a value."""
    messages: tuple[frozenset[str], ...] = ()
    """The labels in each message."""
    blind: frozenset[str] = frozenset()
    """Labels that may be in the request and that no detector at hand sees."""


def scan(text: str, detectors: Sequence[Detector] = STRUCTURED) -> tuple[Span, ...]:
    """The sensitive spans of `text`: see `Scanner.scan`."""
    return Scanner(detectors).scan(text)


def scan_request(
    request: ChatRequest, scanner: TextScanner | None = None, policy: Policy | None = None
) -> ScanResult:
    """Scan every field of `request` that would leave the device, and judge it. Never raises.

    Any failure (a detector's, a picture's pixels that nothing here can read) makes the class
    `UNKNOWN`, which the policy treats as sensitive. The request's id, which the agent makes
    itself, is the one field that is not looked at.
    """
    walk = _Walk(scanner or Scanner())
    try:
        messages = [walk.labels(ChatRequest("", (message,))) for message in request.messages]
        for index, label in between_messages(request):
            messages[index] |= {label}
            walk.counts[label] += 1
        walk.labels(replace(request, messages=()))
    except Exception as error:
        # The error's own message may hold the user's text: its class is all that is said.
        log.warning("the privacy scan failed (%s): the request stays", type(error).__name__)
        return ScanResult(PrivacyClass.UNKNOWN, dict(walk.counts), failed=True)
    verdict = (policy or Policy()).judge(walk.counts, walk.blind)
    return ScanResult(
        verdict.privacy_class,
        dict(walk.counts),
        messages=tuple(messages),
        blind=frozenset(walk.blind),
    )


class _Walk:
    """Collects the labels of requests."""

    def __init__(self, scanner: TextScanner) -> None:
        self._scanner = scanner
        self.counts: Counter[str] = Counter()
        self.blind: set[str] = set()

    def labels(self, request: ChatRequest) -> frozenset[str]:
        """The labels in `request`, which are counted too."""
        found: Counter[str] = Counter()

        def collect(passage: Passage) -> Sequence[str]:
            spans = spans_of(passage, self._scanner.find)
            labels = [span.label for span in resolve(spans, len(passage.joined))]
            # A label that lost its place to a surer one may be the one that the policy forbids.
            labels += {span.label for span in spans} - set(labels)
            # What another reading of a text finds once more is the same value.
            found.update(set(labels) - found.keys() if passage.read else labels)
            self.blind |= self._scanner.blind_to(passage.joined)
            return passage.texts

        map_texts(request, collect)
        self.counts += found
        return frozenset(found)
