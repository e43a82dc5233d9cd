"""Scanning a text, and everything of a request that would leave the device. Fails closed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from isthmus.core.chat import ChatRequest, PrivacyClass
from isthmus.privacy.base import Detector, Span
from isthmus.privacy.detectors import STRUCTURED
from isthmus.privacy.fields import Passage, map_texts, spans_of
from isthmus.privacy.scanner import Scanner

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a scan found: classes and counts, never text."""

    privacy_class: PrivacyClass
    labels: Mapping[str, int] = field(default_factory=dict)
    """How many spans of each label."""
    failed: bool = False
    """A detector failed or a part could not be read: the class is then `UNKNOWN`."""


def scan(text: str, detectors: Sequence[Detector] = STRUCTURED) -> tuple[Span, ...]:
    """The sensitive spans of `text`: see `Scanner.scan`."""
    return Scanner(detectors).scan(text)


def scan_request(request: ChatRequest, detectors: Sequence[Detector] = STRUCTURED) -> ScanResult:
    """Scan every field of `request` that would leave the device. Never raises.

    Any failure (a detector's, a picture's pixels that nothing here can read) makes the class
    `UNKNOWN`, which the policy treats as sensitive. The request's id, which the agent makes
    itself, is the one field that is not looked at.
    """
    counts: Counter[str] = Counter()
    failed = False

    def collect(passage: Passage) -> Sequence[str]:
        spans = spans_of(passage, lambda text: scan(text, detectors))
        counts.update(span.label for span in spans)
        return passage.texts

    try:
        map_texts(request, collect)
    except Exception as error:
        # The error's own message may hold the user's text: its class is all that is said.
        log.warning("the privacy scan failed (%s): the request stays", type(error).__name__)
        failed = True
    if failed:
        privacy_class = PrivacyClass.UNKNOWN
    else:
        privacy_class = PrivacyClass.SENSITIVE if counts else PrivacyClass.PUBLIC
    return ScanResult(privacy_class, dict(counts), failed)
