"""What becomes of a request in which something was found: pure, the strictest label wins."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from isthmus.core.chat import PrivacyClass
from isthmus.core.errors import ConfigError, InvalidRequest
from isthmus.privacy.adapters import adapter
from isthmus.privacy.base import Detector, Label
from isthmus.privacy.patterns import PatternSettings, UserPatterns


class Action(StrEnum):
    """What is done about a label, the mildest first."""

    ALLOW = "allow"
    """The text leaves as it is."""
    REDACT = "redact"
    """The value leaves as a placeholder."""
    LOCAL_ONLY = "local_only"
    """The whole conversation stays on the device."""


_CLASSES = {
    Action.ALLOW: PrivacyClass.PUBLIC,
    Action.REDACT: PrivacyClass.REDACTED,
    Action.LOCAL_ONLY: PrivacyClass.SENSITIVE,
}
_RANK = {action: rank for rank, action in enumerate(Action)}


def strictest(actions: Iterable[Action]) -> Action:
    """The strictest of some actions; of none, `ALLOW`."""
    return max(actions, key=_RANK.__getitem__, default=Action.ALLOW)


_IDENTITY = (
    Label.ID_CN,
    Label.US_SSN,
    Label.NATIONAL_ID,
    Label.PASSPORT,
    Label.DRIVER_LICENSE,
)
_MONEY = (Label.BANK_CARD, Label.IBAN)
_CONTACT = (Label.PERSON, Label.PHONE, Label.EMAIL, Label.ADDRESS)
_TRACES = (Label.ACCOUNT, Label.PLATE, Label.IP, Label.MAC, Label.IMEI)
_PUBLIC = (Label.LOCATION, Label.ORG)


def _rules(*groups: tuple[Iterable[Label], Action]) -> Mapping[str, Action]:
    return {label.value: action for labels, action in groups for label in labels}


PRESETS: Mapping[str, Mapping[str, Action]] = {
    "open": _rules(
        ((Label.SECRET,), Action.LOCAL_ONLY),
        ((Label.PERSON, Label.IP, Label.MAC, *_PUBLIC), Action.ALLOW),
    ),
    "balanced": _rules(
        ((Label.SECRET, Label.MEDICAL, *_IDENTITY, *_MONEY), Action.LOCAL_ONLY),
        (_PUBLIC, Action.ALLOW),
    ),
    "strict": _rules((Label, Action.LOCAL_ONLY)),
}
"""The mildest first. Labels that a preset does not name are redacted, or local only in `strict`."""

PACKS: Mapping[str, Mapping[str, Action]] = {
    # PIPL art. 28: sensitive personal information.
    "cn": _rules(
        ((Label.ID_CN, Label.PASSPORT, Label.MEDICAL, *_MONEY), Action.LOCAL_ONLY),
        ((*_CONTACT, Label.ACCOUNT, Label.PLATE, Label.IMEI), Action.REDACT),
    ),
    # HIPAA and the states' breach laws: health, and the numbers that identity theft needs.
    "us": _rules(
        (
            (
                Label.US_SSN,
                Label.DRIVER_LICENSE,
                Label.PASSPORT,
                Label.MEDICAL,
                Label.BANK_CARD,
                Label.ACCOUNT,
            ),
            Action.LOCAL_ONLY,
        ),
        (_CONTACT, Action.REDACT),
    ),
    # GDPR art. 4 (identifiers, online ones among them), 9 (health), 87 (national numbers).
    "eu": _rules(
        ((Label.MEDICAL, Label.NATIONAL_ID, Label.PASSPORT, Label.IBAN), Action.LOCAL_ONLY),
        ((*_CONTACT, *_TRACES, Label.DRIVER_LICENSE), Action.REDACT),
    ),
}
"""The least that a region's law asks for: whatever else is set, no label falls below it."""

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the labels of a conversation ask for."""

    action: Action
    forbidding: frozenset[str] = frozenset()
    """The labels that keep it on the device."""
    unseen: frozenset[str] = frozenset()
    """Labels that keep it there because no detector at hand could have seen them."""

    @property
    def privacy_class(self) -> PrivacyClass:
        """The class of a request with this verdict."""
        return _CLASSES[self.action]


@dataclass(frozen=True, slots=True)
class Policy:
    """An action for every label: the preset's, a label's own over it, and never below a floor."""

    preset: str = "balanced"
    labels: Mapping[str, Action] = field(default_factory=dict)
    floors: tuple[Mapping[str, Action], ...] = ()
    wished: str = ""
    """The preset that the request itself asks for; empty: none."""

    @property
    def name(self) -> str:
        """The preset, and what tells these settings from others: for records."""
        settings = [self.preset, self.labels, self.floors, self.wished]
        text = json.dumps(settings, sort_keys=True, default=dict)
        return f"{self.wished or self.preset}#{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def action(self, label: str) -> Action:
        """What is done about `label`, one of a user's own patterns included."""
        own = self.labels.get(label)
        actions = [_of_preset(self.preset, label) if own is None else own]
        actions += (floor[label] for floor in self.floors if label in floor)
        if self.wished:
            actions.append(_of_preset(self.wished, label))
        return strictest(actions)

    def judge(self, found: Iterable[str], blind: Iterable[str] = ()) -> Verdict:
        """The verdict on a conversation in which `found` was found.

        A label that no detector at hand can see (`blind`) counts as found where a rule (local
        only, or a region's floor) speaks of it: nobody could tell that it is not there.
        """
        actions = {label: self.action(label) for label in found}
        forbidding = frozenset(
            one for one, action in actions.items() if action is Action.LOCAL_ONLY
        )
        unseen = frozenset(label for label in blind if self._forbids_unseen(label))
        if forbidding or unseen:
            return Verdict(Action.LOCAL_ONLY, forbidding, unseen)
        return Verdict(strictest(actions.values()))

    def _forbids_unseen(self, label: str) -> bool:
        if self.action(label) is Action.LOCAL_ONLY:
            return True
        floor = strictest(floor[label] for floor in self.floors if label in floor)
        return floor is not Action.ALLOW

    def stricter(self, wishes: Mapping[str, str]) -> Policy:
        """This policy with a request's wishes: `preset`, or an action for a label.

        Raises `InvalidRequest`, which names the field, for one that is looser or unknown.
        """
        preset = wishes.get("preset", "")
        if preset:
            if preset not in PRESETS:
                raise _refused("preset", f"must be one of: {', '.join(PRESETS)}")
            if list(PRESETS).index(preset) < list(PRESETS).index(self.preset):
                raise _refused("preset", f"is looser than this device's own, '{self.preset}'")
        floor = {}
        for label, wish in wishes.items():
            if label == "preset":
                continue
            if wish not in _RANK or not _NAME.fullmatch(label):
                raise _refused(label, f"must be one of: {', '.join(Action)}")
            floor[label] = Action(wish)
            if _RANK[floor[label]] < _RANK[self.action(label)]:
                raise _refused(label, f"is looser than this device's own, '{self.action(label)}'")
        return Policy(self.preset, self.labels, (*self.floors, floor), preset)


def _of_preset(preset: str, label: str) -> Action:
    default = Action.LOCAL_ONLY if preset == "strict" else Action.REDACT
    return PRESETS[preset].get(label, default)


def _refused(name: str, problem: str) -> InvalidRequest:
    # A label's name is the caller's own text: shown only when it looks like one.
    shown = name if name == "preset" or _NAME.fullmatch(name) else "(a strange label)"
    where = f"isthmus.privacy.{shown}"
    return InvalidRequest(f"'{where}' {problem}", field=where)


@dataclass(frozen=True, slots=True)
class PrivacyConfig:
    """The settings of the privacy gate. Raises `ConfigError` with the field that is wrong."""

    preset: str = "balanced"
    """`strict`, `balanced` or `open`."""
    labels: Mapping[str, Action] = field(default_factory=dict)
    """An action for a label, over the preset's: `labels = {EMAIL = "local_only"}`."""
    packs: tuple[str, ...] = ()
    """Regions whose rules no label falls below: `cn`, `us`, `eu`."""
    consent: bool | None = None
    """Whether requests may go to the cloud at all. None: as `isthmus privacy consent` keeps it."""
    vault_ttl_s: float = 3600.0
    """How long the values behind placeholders are kept after a conversation's last request."""
    patterns: tuple[PatternSettings, ...] = ()
    """A user's own patterns and word lists."""
    adapters: tuple[str, ...] = ()
    """Other detectors to ask too, where they are installed: `presidio`, `argus`."""

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"must be one of: {', '.join(PRESETS)}", field="privacy.preset")
        for pack in self.packs:
            if pack not in PACKS:
                raise ConfigError(f"must be among: {', '.join(PACKS)}", field="privacy.packs")
        for label, action in self.labels.items():
            if not _NAME.fullmatch(label):
                raise ConfigError(
                    f"{label} is no label: capital letters, digits, underscores (EMAIL)",
                    field="privacy.labels",
                )
            if action not in _RANK:
                raise ConfigError(
                    f"must be one of: {', '.join(Action)}", field=f"privacy.labels.{label}"
                )
        if not 0 < self.vault_ttl_s < float("inf"):
            raise ConfigError("must be above 0 seconds", field="privacy.vault_ttl_s")

    @property
    def policy(self) -> Policy:
        """The policy for requests that wish for nothing of their own."""
        own = {p.label: Action(p.action) for p in self.patterns if p.action is not None}
        own |= {label: Action(action) for label, action in self.labels.items()}
        return Policy(self.preset, own, tuple(PACKS[pack] for pack in self.packs))

    def detectors(self) -> tuple[Detector, ...]:
        """Those of the user's patterns, and the adapters.

        Raises `ConfigError` with the name of a pattern that is wrong or an adapter that is missing.
        """
        others = tuple(map(adapter, self.adapters))
        return (UserPatterns(self.patterns), *others) if self.patterns else others
