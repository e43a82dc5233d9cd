"""What a detector is, and what it finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Label(StrEnum):
    """What a span is. The names are those of the labelled data that detectors are measured on."""

    PHONE = "PHONE"
    EMAIL = "EMAIL"
    ID_CN = "ID_CN"
    BANK_CARD = "BANK_CARD"
    IBAN = "IBAN"
    US_SSN = "US_SSN"
    PASSPORT = "PASSPORT"
    PLATE = "PLATE"
    DRIVER_LICENSE = "DRIVER_LICENSE"
    NATIONAL_ID = "NATIONAL_ID"
    IP = "IP"
    MAC = "MAC"
    IMEI = "IMEI"
    ACCOUNT = "ACCOUNT"
    ADDRESS = "ADDRESS"
    SECRET = "SECRET"
    PERSON = "PERSON"
    LOCATION = "LOCATION"
    ORG = "ORG"
    MEDICAL = "MEDICAL"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A sensitive piece of a text: `text[start:end]`, in characters. `score` is 0 to 1.

    `label` is a `Label`, or the name of a user's own pattern.
    """

    start: int
    end: int
    label: str
    score: float


class Detector(Protocol):
    """Finds spans of one or more labels. Must take time linear in the text, whatever it holds."""

    @property
    def name(self) -> str:
        """What it is called in logs."""
        ...

    @property
    def labels(self) -> frozenset[str]:
        """Every label that it may give: what a scan without it is blind to."""
        ...

    def detect(self, text: str) -> Iterator[Span]:
        """The spans of a normalised text, in its own offsets. May raise: the scan then fails."""
        ...
