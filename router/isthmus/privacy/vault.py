"""The values behind placeholders: in memory alone, one vault a conversation, gone after a while."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from isthmus.privacy.known import Key, key_of
from isthmus.privacy.placeholder import Choose, Forms, new_code, written

_LABEL_CHARS = 24
MAX_VALUES = 4096
"""More values than this in one conversation cannot be redacted: there are 23,104 codes."""


_TRIES = 64
"""A text may hold all the codes that there are: it is not looked for a free one without end."""


class VaultFull(Exception):
    """A conversation holds more values, or more of all codes, than there are placeholders for."""


@dataclass(frozen=True, slots=True)
class _Entry:
    label: str
    placeholder: str
    value: str

    def __repr__(self) -> str:
        return f"_Entry({self.placeholder})"


class Vault:
    """One conversation's values. Two forms of a value that differ in case, spaces or dashes alone
    are one, and come back as the first of them.

    Its `repr` shows no value. Thread-safe: a request may be redacted in a thread while the answer
    to another one of its conversation is restored.
    """

    def __init__(self, choose: Choose = secrets.choice) -> None:
        self._choose = choose
        self._by_code: dict[str, _Entry] = {}
        self._codes: dict[Key, str] = {}
        self._lock = threading.Lock()
        self._forms: dict[bool, Forms] = {}

    def __repr__(self) -> str:
        return f"Vault({len(self)} values)"

    def __len__(self) -> int:
        return len(self._by_code)

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the values."""
        with self._lock:
            return frozenset(entry.label for entry in self._by_code.values())

    @property
    def keys(self) -> Mapping[Key, str]:
        """The code of each value, by the value's key."""
        with self._lock:
            return dict(self._codes)

    @property
    def values(self) -> Mapping[str, str]:
        """Each value by its code."""
        with self._lock:
            return {code: entry.value for code, entry in self._by_code.items()}

    def add(self, label: str, value: str, *, unlike: Collection[str] = ()) -> str:
        """The placeholder of `value`, a new one unless it has one already.

        `unlike` are codes that a new one must not be, since the text holds them. Raises
        `VaultFull`.
        """
        key = key_of(value)
        with self._lock:
            known = self._codes.get(key)
            if known is not None:
                return self._by_code[known].placeholder
            if len(self._by_code) >= MAX_VALUES:
                raise VaultFull
            tried = (new_code(self._choose) for _ in range(_TRIES))
            code = next((c for c in tried if c not in self._by_code and c not in unlike), None)
            if code is None:
                raise VaultFull
            entry = _Entry(label, written(_name(label), code), value)
            self._by_code[code] = entry
            self._codes[key] = code
            self._forms.clear()
        return entry.placeholder

    def entry(self, code: str) -> tuple[str, str]:
        """Label and placeholder of a code."""
        entry = self._by_code[code]
        return entry.label, entry.placeholder

    def forms(
        self,
        *,
        in_json: bool = False,
        only: Collection[str] | None = None,
        unless_in: str = "",
    ) -> Forms | None:
        """What stands for the placeholders given so far; `None` when there are none.

        `only`: the codes of those that count. A label alone then stands for its one value, unless
        the text `unless_in` has it so: what the user wrote was never hidden.
        """
        with self._lock:
            if not self._by_code:
                return None
            if only is not None:
                names = {_name(entry.label) for entry in self._by_code.values()}
                return Forms(names, only, in_json=in_json, alone=self._alone(only, unless_in))
            if in_json not in self._forms:
                names = {_name(entry.label) for entry in self._by_code.values()}
                self._forms[in_json] = Forms(names, tuple(self._by_code), in_json=in_json)
            return self._forms[in_json]

    def _alone(self, codes: Collection[str], unless_in: str) -> dict[str, str]:
        """The code of each label that one of `codes` alone has."""
        by_label: dict[str, list[str]] = {}
        for code in codes:
            if code in self._by_code:
                by_label.setdefault(_name(self._by_code[code].label), []).append(code)
        folded = unless_in.upper().replace(" ", "_")
        return {
            label: codes[0]
            for label, codes in by_label.items()
            if len(codes) == 1 and f"[{label}]" not in folded
        }

    def wipe(self) -> None:
        """Forget everything. An answer that is being restored is restored to its end."""
        with self._lock:
            self._by_code.clear()
            self._codes.clear()
            self._forms.clear()


def _name(label: str) -> str:
    """A user's own label in the characters that a placeholder may hold."""
    name = re.sub(r"[^A-Z0-9]+", "_", label.upper())[:_LABEL_CHARS].strip("_")
    return name or "VALUE"


class Vaults:
    """The vaults of the conversations of late. For one event loop: not thread-safe.

    One that was not asked for in `ttl_s` seconds is wiped, as is the oldest beyond `capacity`.
    """

    def __init__(
        self,
        *,
        ttl_s: float = 3600.0,
        capacity: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ttl_s = ttl_s
        self._capacity = capacity
        self._clock = clock
        self._vaults: OrderedDict[str, tuple[float, Vault]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._vaults)

    def of(self, conversation: str) -> Vault:
        """The vault of a conversation, a new one when it has none (any more)."""
        self.expire()
        _, vault = self._vaults.pop(conversation, (0.0, None))
        if vault is None:
            vault = Vault()
        self._vaults[conversation] = (self._clock(), vault)
        while len(self._vaults) > self._capacity:
            self.wipe(next(iter(self._vaults)))
        return vault

    def expire(self) -> None:
        """Wipe what was not used for too long."""
        oldest_s = self._clock() - self._ttl_s
        while self._vaults:
            conversation, (used_s, _) = next(iter(self._vaults.items()))
            if used_s > oldest_s:
                return
            self.wipe(conversation)

    def wipe(self, conversation: str | None = None) -> None:
        """Wipe the vault of a conversation, or all of them."""
        names: Collection[str] = list(self._vaults) if conversation is None else [conversation]
        for name in names:
            _, vault = self._vaults.pop(name, (0.0, None))
            if vault is not None:
                vault.wipe()
