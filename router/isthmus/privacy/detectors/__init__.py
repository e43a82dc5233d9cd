r"""The detectors of structured values, for English and Chinese text alike.

A value's neighbours are looked at for digits, never with `\b`: that knows no boundary between
Chinese and ASCII. Every repetition is bounded, so the time is linear in the text. Words near a
value (its context) carry what its form alone does not prove.
"""

from __future__ import annotations

from isthmus.privacy.base import Detector
from isthmus.privacy.detectors.cards import BankCardDetector
from isthmus.privacy.detectors.health import HealthDetector
from isthmus.privacy.detectors.identity import ChineseIdDetector, UsSsnDetector
from isthmus.privacy.detectors.network import EmailDetector
from isthmus.privacy.detectors.phones import PhoneDetector
from isthmus.privacy.detectors.secrets import SecretDetector

STRUCTURED: tuple[Detector, ...] = (
    EmailDetector(),
    PhoneDetector(),
    BankCardDetector(),
    ChineseIdDetector(),
    UsSsnDetector(),
    SecretDetector(),
    HealthDetector(),
)
