"""A vault with a value of each kind, always under the same placeholders."""

from __future__ import annotations

import random

from isthmus.privacy.vault import Vault

VALUES = {
    "PERSON": "Jane Doe",
    "PHONE": "555-0100",
    "BANK_CARD": "4111 1111 1111 1111",
    "EMAIL": "jane@example.org",
    "ADDRESS": '12 "Rose" Street\nSpringfield',
    "EMPLOYEE": "王伟",
}
VAULT = Vault(random.Random(7).choice)
PLACEHOLDERS = [VAULT.add(label, value) for label, value in VALUES.items()]


PERSON, PHONE, CARD, EMAIL, ADDRESS, _ = PLACEHOLDERS
