"""The detectors of structured values, for English and Chinese text alike.

A value's neighbours are looked at for digits and letters, never by a word boundary, which knows
none between Chinese and ASCII. Words near a value (its context) carry what its form alone does
not prove. The time is linear in the text.
"""

from __future__ import annotations

from isthmus.privacy.base import Detector, Label
from isthmus.privacy.detectors.accounts import AccountNameDetector
from isthmus.privacy.detectors.cards import BankCardRule, IbanDetector, ImeiRule
from isthmus.privacy.detectors.codes import CodeDetector
from isthmus.privacy.detectors.health import HealthDetector
from isthmus.privacy.detectors.identity import ChineseIdRule, NationalNumberRule, UsSsnRule
from isthmus.privacy.detectors.network import EmailDetector, IpDetector, MacDetector
from isthmus.privacy.detectors.number_detector import NamedRule, NumberDetector
from isthmus.privacy.detectors.phones import PhoneRule
from isthmus.privacy.detectors.places_en import AddressDetector
from isthmus.privacy.detectors.places_zh import ChineseAddressDetector
from isthmus.privacy.detectors.secrets import SecretDetector

STRUCTURED: tuple[Detector, ...] = (
    EmailDetector(),
    NumberDetector(
        (
            ChineseIdRule(),
            BankCardRule(),
            UsSsnRule(),
            NationalNumberRule(),
            ImeiRule(),
            PhoneRule(),
            NamedRule(Label.PASSPORT, range(7, 10)),
            NamedRule(Label.DRIVER_LICENSE, range(5, 17)),
            NamedRule(Label.ACCOUNT, range(5, 21)),
        )
    ),
    IbanDetector(),
    CodeDetector(),
    IpDetector(),
    MacDetector(),
    AccountNameDetector(),
    AddressDetector(),
    ChineseAddressDetector(),
    SecretDetector(),
    HealthDetector(),
)
