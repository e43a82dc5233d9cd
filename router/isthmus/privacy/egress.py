"""The last look: whether a value of the vault is in the very bytes that are about to leave.

It knows nothing of fields or messages, so that nothing the redaction may have missed is missed here
too: the bytes as text, with URL and JSON escapes undone, and base64 of the values.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from urllib.parse import quote_from_bytes

from isthmus.core.errors import PolicyRefused
from isthmus.privacy.known import Haystack, Key
from isthmus.privacy.readings import readings
from isthmus.privacy.redact import LOOKALIKE
from isthmus.privacy.vault import Vault

REASON = "privacy_blocked"


class EgressBlocked(PolicyRefused):
    """A value was about to leave. `labels` counts what was found; the value is never shown."""

    kind = "privacy_blocked"

    def __init__(self, labels: Mapping[str, int]) -> None:
        found = ", ".join(f"{label} {count}" for label, count in sorted(labels.items()))
        super().__init__(
            f"the request was stopped on its way out: values in it were not redacted ({found})",
            reason=REASON,
        )
        self.labels = labels


def check(data: bytes, vault: Vault) -> None:
    """Raise `EgressBlocked` when a value of `vault` is in `data` in any form."""
    found = Counter(leaks(data, vault))
    if found:
        raise EgressBlocked(dict(found))


def leaks(data: bytes, vault: Vault) -> Iterator[str]:
    """The label of each value that is in `data`."""
    keys = vault.keys
    if not keys:
        return
    # Framing bytes are no text: each becomes a character that joins nothing.
    text = data.decode("utf-8", "replace")
    seen: set[Key] = set()
    for view in (text, *readings(text)):
        seen.update(key for _, _, key in Haystack(view).find(keys.keys() - seen))
    values = vault.values
    for key, code in keys.items():
        label, _ = vault.entry(code)
        if label == LOOKALIKE:
            continue
        if key in seen or any(form in data for form in _base64(values[code])):
            yield label


_LEAST_BASE64_BYTES = 6


def _base64(value: str) -> Iterator[bytes]:
    """What a value looks like inside of base64, at each of the three places in a group."""
    raw = value.encode("utf-8", "surrogatepass")
    if len(raw) < _LEAST_BASE64_BYTES:
        return
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        # The characters at the ends depend on the neighbours too.
        first, last = (0, 2, 3)[shift], len(encoded) - (0, 4, 4)[(shift + len(raw)) % 3]
        inner = encoded[first:last]
        yield inner
        yield inner.translate(bytes.maketrans(b"+/", b"-_"))
        yield quote_from_bytes(inner).encode()
